//! Page tokens: opaque base64 that always holds `+`, `/` and `=`, so that a client that does not percent-encode fails at once.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::seed::draw;

/// The pages of a list of `items`.
#[derive(Debug)]
pub(crate) struct Pages {
    page_size: usize,
    items: usize,
    /// `tokens[k]` leads to page k + 2.
    tokens: Vec<String>,
    by_token: HashMap<String, usize>,
}

/// One page: its number from 1, its items, and the token of the next.
pub(crate) struct Page<'a> {
    pub(crate) number: usize,
    pub(crate) items: std::ops::Range<usize>,
    pub(crate) next_token: Option<&'a str>,
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
            .map(|(index, token)| (token.clone(), index + 1))
            .collect();
        Self {
            page_size,
            items,
            tokens,
            by_token,
        }
    }

    /// `None` for a token that was never given out.
    pub(crate) fn page(&self, token: Option<&str>) -> Option<Page<'_>> {
        let index = match token {
            None => 0,
            Some(token) => *self.by_token.get(token)?,
        };
        let from = index * self.page_size;
        let to = (from + self.page_size).min(self.items);
        Some(Page {
            number: index + 1,
            items: from..to,
            next_token: self.tokens.get(index).map(String::as_str),
        })
    }
}

fn token(seed: u64, page: usize, symbol: &str) -> String {
    let mut attempt = 0_u64;
    loop {
        let salt = draw(seed, &[b"token", &page.to_le_bytes(), &attempt.to_le_bytes()]);
        // ÿ, þ, > and ? give + and / in base64; where they do depends on the length before them.
        let text = format!("{{\"symbol\":\"{symbol}\",\"ÿþ>>?ÿ\":\"{salt:x}\",\"k\":\"ÿþ~?>ÿ\"}}");
        let token = STANDARD.encode(text);
        if ['+', '/', '='].iter().all(|&c| token.contains(c)) {
            return token;
        }
        attempt += 1;
    }
}
