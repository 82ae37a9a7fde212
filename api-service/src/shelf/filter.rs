//! What a walk selects, in one canonical form: two spellings of the same question are the same walk.

use fuse_domain::{Price, Quote, Symbol};

use super::Shelf;
use super::order::Sort;
use crate::page_token::{FilterHash, List};

/// Everything of a question but the page size and the position.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Part of symbol or name; lower case.
    pub search: Option<String>,
    /// The whole sector; lower case.
    pub sector: Option<String>,
    /// Sorted, each once.
    pub symbols: Option<Vec<Symbol>>,
    /// At least this.
    pub min_price: Option<Price>,
    /// At most this.
    pub max_price: Option<Price>,
    /// Only movers, or only others.
    pub movers: Option<bool>,
}

impl Filter {
    /// Whether every stock is selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.search.is_none()
            && self.sector.is_none()
            && self.symbols.is_none()
            && self.min_price.is_none()
            && self.max_price.is_none()
            && self.movers.is_none()
    }

    /// Binds tokens and cached pages to the question.
    #[must_use]
    pub fn hash(&self, sort: Sort) -> FilterHash {
        let symbols = self.symbols.as_ref().map(|symbols| {
            // No symbol has a comma.
            let texts: Vec<&str> = symbols.iter().map(Symbol::as_str).collect();
            texts.join(",")
        });
        let min_price = self.min_price.map(|price| price.to_string());
        let max_price = self.max_price.map(|price| price.to_string());
        let movers = self.movers.map(|movers| if movers { "true" } else { "false" });
        FilterHash::of(
            List::Stocks,
            [
                self.search.as_deref(),
                self.sector.as_deref(),
                symbols.as_deref(),
                min_price.as_deref(),
                max_price.as_deref(),
                movers,
                Some(sort.as_str()),
            ],
        )
    }

    /// The places of what it selects, in the given order. Linear in the number of stocks unless symbols are named.
    pub(super) fn select(&self, shelf: &Shelf, sort: Sort) -> Vec<u32> {
        let Some(symbols) = &self.symbols else {
            let order = shelf.order(sort).iter().copied();
            return order.filter(|at| self.selects(shelf, *at)).collect();
        };
        let mut found: Vec<u32> = symbols
            .iter()
            .filter_map(|symbol| shelf.place_of(symbol))
            .filter(|at| self.selects(shelf, *at))
            .collect();
        found.sort_unstable_by(|a, b| shelf.compare(sort, *a, *b));
        found
    }

    /// Everything but the symbols.
    fn selects(&self, shelf: &Shelf, at: u32) -> bool {
        let quote: &Quote = shelf.quote(at);
        self.movers.is_none_or(|movers| quote.mover == movers)
            && self.min_price.is_none_or(|least| quote.price >= least)
            && self.max_price.is_none_or(|most| quote.price <= most)
            && self
                .sector
                .as_ref()
                .is_none_or(|sector| shelf.texts.sector(at) == sector)
            && self
                .search
                .as_ref()
                .is_none_or(|search| shelf.texts.contain(at, search))
    }
}
