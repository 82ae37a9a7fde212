//! Page tokens: opaque base64 that always holds `+`, `/` and `=`, so that a client that does not percent-encode fails at once.
//!
//! Besides the token that leads to a page there are two kinds that only faults give out, without anything being kept: `again` leads
//! to a page once more, and `more` is one of an endless row.

use std::collections::HashMap;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::seed::draw;

/// The pages of a list of `items`.
#[derive(Debug)]
pub(crate) struct Pages {
    seed: u64,
    page_size: usize,
    items: usize,
    /// `tokens[k]` leads to page k + 2.
    tokens: Vec<String>,
    by_token: HashMap<String, usize>,
}

/// One page: its number from 1, and how it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) number: usize,
    /// By an `again` token.
    pub(crate) again: bool,
    /// Which of the endless row leads on from here.
    pub(crate) more: u64,
}

impl Pages {
    /// `last_symbol(i)` names the last item before a page, as the vendor's tokens seem to do.
    pub(crate) fn new(
        seed: u64,
        items: usize,
        page_size: usize,
        last_symbol: impl Fn(usize) -> String,
    ) -> Self {
        let page_size = page_size.max(1);
        let pages = items.div_ceil(page_size).max(1);
        let tokens: Vec<String> = (1..pages)
            .map(|page| token(seed, page, &last_symbol(page * page_size - 1)))
            .collect();
        let by_token = tokens
            .iter()
            .enumerate()
            .map(|(index, token)| (token.clone(), index + 2))
            .collect();
        Self {
            seed,
            page_size,
            items,
            tokens,
            by_token,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.tokens.len() + 1
    }

    /// `None` for a token that was never given out.
    pub(crate) fn page(&self, token: Option<&str>) -> Option<Page> {
        let Some(token) = token else { return Some(known(1)) };
        self.by_token
            .get(token)
            .map(|&number| known(number))
            .or_else(|| self.special(token))
    }

    /// The items of a page, or of so many pages from it on.
    pub(crate) fn items(&self, number: usize, times: usize) -> Range<usize> {
        let from = ((number - 1) * self.page_size).min(self.items);
        let to = self
            .page_size
            .saturating_mul(times)
            .saturating_add(from)
            .min(self.items);
        from..to
    }

    /// The token that leads to a page; `None` for page 1 and for those behind the last.
    pub(crate) fn token_to(&self, number: usize) -> Option<&str> {
        self.tokens.get(number.checked_sub(2)?).map(String::as_str)
    }

    /// Another token to the same page.
    pub(crate) fn again(&self, number: usize) -> String {
        token(self.seed, number, &format!("again:{number}"))
    }

    /// The n-th of an endless row of tokens, each to the page after the one before, round and round.
    pub(crate) fn more(&self, n: u64) -> String {
        token(self.seed, 0, &format!("more:{n}"))
    }

    fn special(&self, token: &str) -> Option<Page> {
        let text = STANDARD.decode(token).ok()?;
        let text = std::str::from_utf8(&text).ok()?;
        let label = text.strip_prefix("{\"symbol\":\"")?.split('"').next()?;
        let (kind, number) = label.split_once(':')?;
        let number: u64 = number.parse().ok()?;
        let pages = self.count();
        let (page, genuine) = match kind {
            "again" => {
                let page = usize::try_from(number).ok().filter(|n| (1..=pages).contains(n))?;
                let again = Page {
                    again: true,
                    ..known(page)
                };
                (again, self.again(page))
            }
            "more" => {
                let index = usize::try_from(number % u64::try_from(pages).ok()?).ok()?;
                let page = Page {
                    more: number.checked_add(1)?,
                    ..known(index + 1)
                };
                (page, self.more(number))
            }
            _ => return None,
        };
        (genuine == token).then_some(page)
    }
}

fn known(number: usize) -> Page {
    Page {
        number,
        again: false,
        more: u64::try_from(number).unwrap_or(u64::MAX),
    }
}

fn token(seed: u64, page: usize, symbol: &str) -> String {
    let mut attempt = 0_u64;
    loop {
        let salt = draw(
            seed,
            &[
                b"token",
                &page.to_le_bytes(),
                symbol.as_bytes(),
                &attempt.to_le_bytes(),
            ],
        );
        // ÿ, þ, > and ? give + and / in base64; where they do depends on the length before them.
        let text = format!("{{\"symbol\":\"{symbol}\",\"ÿþ>>?ÿ\":\"{salt:x}\",\"k\":\"ÿþ~?>ÿ\"}}");
        let token = STANDARD.encode(text);
        if ['+', '/', '='].iter().all(|&c| token.contains(c)) {
            return token;
        }
        attempt += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> Pages {
        Pages::new(1, 40, 8, |index| format!("S{index}"))
    }

    #[test]
    fn tokens_lead_to_their_pages_and_forged_ones_nowhere() {
        let pages = pages();
        assert_eq!(pages.count(), 5);
        for number in 2..=5 {
            assert_eq!(pages.page(pages.token_to(number)), Some(known(number)));
        }
        assert_eq!((pages.token_to(1), pages.token_to(6)), (None, None));
        let forged = STANDARD.encode("{\"symbol\":\"more:3\",\"x\":1}");
        for token in ["", "x", &forged, &Pages::new(2, 40, 8, |_| String::new()).more(3)] {
            assert_eq!(pages.page(Some(token)), None, "{token}");
        }
    }

    #[test]
    fn the_endless_row_goes_round_and_never_repeats_a_token() {
        let pages = pages();
        let (mut token, mut seen, mut numbers) = (None::<String>, Vec::new(), Vec::new());
        for _ in 0..12 {
            let page = pages.page(token.as_deref()).expect("a good token");
            numbers.push(page.number);
            let next = pages.more(page.more);
            assert!(!seen.contains(&next) && ['+', '/', '='].iter().all(|&c| next.contains(c)));
            seen.push(next.clone());
            token = Some(next);
        }
        assert_eq!(numbers, [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2]);
    }

    #[test]
    fn a_page_can_be_asked_for_again_by_another_token() {
        let pages = pages();
        let page = pages.page(Some(&pages.again(3))).expect("a good token");
        assert_eq!((page.number, page.again), (3, true));
    }

    #[test]
    fn a_bigger_page_ends_with_the_list() {
        let pages = pages();
        assert_eq!((pages.items(1, 1), pages.items(5, 1)), (0..8, 32..40));
        assert_eq!((pages.items(2, 3), pages.items(4, 10)), (8..32, 24..40));
    }
}
