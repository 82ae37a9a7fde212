//! `GET /stocks`: a page as it is, and what rules make of it.

use std::ops::Range;

use crate::book::{Fired, Shape};
use crate::fault::PagingFault;
use crate::items::{Item, spoil};
use crate::paging::Page;
use crate::rules::Operation;
use crate::vendor::{Delivery, Request, Vendor, apply, forbidden};
use crate::wire::{self, Answer, NextToken};

impl Vendor {
    pub(crate) fn list(&mut self, token: Option<&str>, request: &Request<'_>, fired: Fired) -> Delivery {
        self.counters.lists.received += 1;
        let answer = self.list_page(token, request, &fired.shapes);
        let Some(fault) = fired.fault else {
            return Delivery::Full(answer);
        };
        self.counters.lists.faulted += 1;
        apply(fault, answer, Operation::List)
    }

    fn list_page(&mut self, token: Option<&str>, request: &Request<'_>, shapes: &[Shape]) -> Answer {
        if !self.key_is_good(request) {
            return forbidden();
        }
        let Some(page) = self.pages.page(token) else {
            self.counters.lists.bad_tokens += 1;
            return Answer::error(400, "Invalid nextToken");
        };
        self.counters.lists.pages += 1;
        // How many pages' worth comes first: it decides which items there are to be spoilt.
        let times = shapes.iter().find_map(|shape| match shape {
            Shape::Paging(PagingFault::BiggerPage { times }) => Some(*times),
            _ => None,
        });
        let times = times.unwrap_or(1);
        let mut draft = Draft {
            items: self.items(self.pages.items(page.number, times)),
            next_token: self.token_after(page.number, times),
        };
        for shape in shapes {
            match shape {
                Shape::Items(rule) => {
                    let spoilt = spoil(
                        &mut draft.items,
                        rule,
                        self.config.seed,
                        &self.stocks,
                        &self.clock,
                    );
                    self.counters.lists.items_spoilt += spoilt;
                }
                Shape::Paging(fault) => self.reshape(&mut draft, fault, page, token),
            }
        }
        self.counters.lists.shaped += u64::from(!shapes.is_empty());
        wire::page(&draft.items, &draft.next_token)
    }

    fn items(&self, range: Range<usize>) -> Vec<Item> {
        self.stocks.all()[range]
            .iter()
            .map(|stock| Item::of(&self.stocks, stock, &self.clock, 0))
            .collect()
    }

    fn token_after(&self, number: usize, times: usize) -> NextToken {
        self.token_to(number.saturating_add(times))
            .unwrap_or(NextToken::Absent)
    }

    fn token_to(&self, number: usize) -> Option<NextToken> {
        let token = self.pages.token_to(number)?;
        Some(NextToken::Text(token.to_owned()))
    }

    fn reshape(&self, draft: &mut Draft, fault: &PagingFault, page: Page, token: Option<&str>) {
        match fault {
            PagingFault::TokenAbsent => draft.next_token = NextToken::Absent,
            PagingFault::TokenNull => draft.next_token = NextToken::Null,
            PagingFault::TokenEmpty => draft.next_token = NextToken::Text(String::new()),
            PagingFault::RepeatedToken => {
                if let Some(token) = token {
                    draft.next_token = NextToken::Text(token.to_owned());
                }
            }
            PagingFault::LoopTo(number) => {
                if let Some(token) = self.token_to(*number) {
                    draft.next_token = token;
                }
            }
            PagingFault::EndlessTokens => draft.next_token = NextToken::Text(self.pages.more(page.more)),
            PagingFault::EmptyPage if page.again => {}
            PagingFault::EmptyPage => {
                draft.items.clear();
                draft.next_token = NextToken::Text(self.pages.again(page.number));
            }
            // Done when the page was drafted.
            PagingFault::BiggerPage { .. } => {}
            PagingFault::AlsoLists { symbols, ticks_ago } => {
                let stocks = symbols.iter().filter_map(|symbol| self.stocks.get(symbol));
                let again =
                    stocks.map(|stock| Item::of(&self.stocks, stock, &self.clock, i64::from(*ticks_ago)));
                draft.items.extend(again);
            }
        }
    }
}

/// A page before it is written.
struct Draft {
    items: Vec<Item>,
    next_token: NextToken,
}
