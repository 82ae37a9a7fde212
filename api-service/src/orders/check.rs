//! What the rules say about an order: the same for orders and for previews.

use std::sync::Arc;

use fuse_domain::{OrderRequest, QuoteLookup, QuoteUsed, Rejection, Snapshot, judge};
use jiff::Timestamp;

use super::desk::OrderDesk;
use super::limits::KeyRules;
use crate::market_data::age_secs;

/// A verdict, and the prices that it comes from.
pub(super) struct Checked {
    pub(super) snapshot: Option<Arc<Snapshot>>,
    pub(super) quote: Option<QuoteUsed>,
    pub(super) verdict: Result<(), Rejection>,
}

impl OrderDesk {
    /// The quote that counts, and what the rules say.
    pub(super) fn check(&self, request: &OrderRequest, rules: &KeyRules, at: Timestamp) -> Checked {
        let snapshot = self.market.current();
        let age = snapshot
            .as_ref()
            .map(|snapshot| age_secs(snapshot.meta.taken_at, at));
        let is_stale = age.is_some_and(|age| age > self.policy.max_quote_age_secs);
        self.metrics.snapshot_read(age, is_stale);
        let quote = snapshot
            .as_ref()
            .and_then(|snapshot| snapshot.quote_used(&request.symbol));
        let lookup = match (&snapshot, &quote) {
            (None, _) => QuoteLookup::NoMarketData,
            (Some(_), None) => QuoteLookup::UnknownSymbol,
            (Some(_), Some(quote)) => QuoteLookup::Found(quote),
        };
        let verdict = judge(request, lookup, at, &rules.narrow(&self.policy));
        Checked {
            snapshot,
            quote,
            verdict,
        }
    }
}
