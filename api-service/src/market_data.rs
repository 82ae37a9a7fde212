//! Reading the current snapshot: everything a client sees of it carries its age.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use fuse_domain::{Quote, Snapshot, SnapshotMeta};
use http::{HeaderValue, header};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::problem::{ApiError, Code, Problem};
use crate::state::AppState;

/// Seconds that a client waits before it asks again for the first snapshot.
const FIRST_SNAPSHOT_RETRY_SECS: u64 = 5;

/// How old is too old, and how often the vendor's prices change.
#[derive(Clone, Copy, Debug)]
pub struct Freshness {
    /// Data older than this are marked stale.
    pub stale_after_secs: u64,
    /// Seconds between two price changes at the vendor.
    pub tick_secs: u64,
}

/// Which snapshot an answer was made from.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Snapshot)]
pub struct SnapshotInfo {
    /// Id of the snapshot; a walk over pages stays on it.
    pub id: Uuid,
    /// When the crawl that made it ended.
    #[schema(value_type = String, format = DateTime)]
    pub taken_at: Timestamp,
    /// When prices are expected to change next.
    #[schema(value_type = String, format = DateTime)]
    pub next_tick_at: Timestamp,
    /// Whole seconds since `takenAt`.
    pub age_seconds: u64,
    /// Older than the configured bound (300 s by default): prices may have changed since.
    pub stale: bool,
}

/// How much the clocks of two machines may differ.
const CLOCKS_DIFFER_MAX: SignedDuration = SignedDuration::from_secs(60);

impl Freshness {
    /// What clients are told about a snapshot.
    #[must_use]
    pub fn describe(&self, meta: &SnapshotMeta, now: Timestamp) -> SnapshotInfo {
        let age_seconds = age_secs(meta.taken_at, now);
        SnapshotInfo {
            id: meta.id,
            taken_at: meta.taken_at,
            next_tick_at: self.next_tick(meta.tick_at, now),
            age_seconds,
            // A snapshot from the future has no age that could be trusted.
            stale: age_seconds > self.stale_after_secs || is_ahead(meta.taken_at, now),
        }
    }

    /// The first tick after `now` on the grid of `last_tick`.
    #[must_use]
    pub fn next_tick(&self, last_tick: Timestamp, now: Timestamp) -> Timestamp {
        let step = i64::try_from(self.tick_secs.max(1)).unwrap_or(i64::MAX);
        let passed = now.duration_since(last_tick).as_secs().max(0) / step;
        let ahead = SignedDuration::from_secs(step.saturating_mul(passed.saturating_add(1)));
        last_tick.saturating_add(ahead).unwrap_or(Timestamp::MAX)
    }
}

/// Whether `then` lies further ahead than two clocks that are kept in step may differ.
fn is_ahead(then: Timestamp, now: Timestamp) -> bool {
    then.duration_since(now) > CLOCKS_DIFFER_MAX
}

/// Whole seconds from `then` to `now`; 0 for the future.
#[must_use]
pub fn age_secs(then: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.duration_since(then).as_secs()).unwrap_or(0)
}

/// The current snapshot; 503 with `Retry-After` when there is none yet.
pub fn current(state: &AppState, now: Timestamp) -> Result<Arc<Snapshot>, ApiError> {
    let snapshot = state.market.current();
    record_read(state, snapshot.as_deref(), now);
    snapshot.ok_or_else(|| no_market_data().into())
}

/// As [`current`], but the very first one is waited for while somebody crawls.
pub async fn current_or_wait(state: &AppState, now: Timestamp) -> Result<Arc<Snapshot>, ApiError> {
    let snapshot = state.market.current_or_wait().await;
    record_read(state, snapshot.as_deref(), now);
    snapshot.ok_or_else(|| no_market_data().into())
}

/// The current snapshot where an answer is possible without it.
pub fn current_if_any(state: &AppState, now: Timestamp) -> Option<Arc<Snapshot>> {
    let snapshot = state.market.current();
    record_read(state, snapshot.as_deref(), now);
    snapshot
}

fn record_read(state: &AppState, snapshot: Option<&Snapshot>, now: Timestamp) {
    let age = snapshot.map(|snapshot| age_secs(snapshot.meta.taken_at, now));
    let is_stale = age.is_some_and(|age| age > state.freshness.stale_after_secs);
    state.metrics.snapshot_read(age, is_stale);
}

/// The 503 before the first complete crawl.
#[must_use]
pub fn no_market_data() -> Problem {
    Problem::new(
        Code::NoMarketData,
        "No complete list of prices has been received from the vendor yet.",
    )
    .retry_after(FIRST_SNAPSHOT_RETRY_SECS)
}

/// An answer with its age, in seconds, in the header `Age`.
pub struct Aged<T>(pub u64, pub T);

impl<T: IntoResponse> IntoResponse for Aged<T> {
    fn into_response(self) -> Response {
        let mut response = self.1.into_response();
        response
            .headers_mut()
            .insert(header::AGE, HeaderValue::from(self.0));
        response
    }
}

/// One stock.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Stock)]
pub struct StockBody {
    #[schema(example = "AAPL")]
    pub symbol: String,
    pub name: String,
    pub sector: String,
    /// Exact decimal, as the vendor said it.
    #[schema(example = "150.25")]
    pub price: String,
    /// The vendor's own figure; whether absolute or percent is not known.
    #[schema(example = "-0.42")]
    pub change: String,
    /// The vendor's time of the price.
    #[schema(value_type = String, format = DateTime)]
    pub last_updated: Timestamp,
    /// When the price was fetched. Older than the snapshot when the vendor sent nonsense for this stock since.
    #[schema(value_type = String, format = DateTime)]
    pub as_of: Timestamp,
}

impl From<&Quote> for StockBody {
    fn from(quote: &Quote) -> Self {
        Self {
            symbol: quote.symbol.as_str().to_owned(),
            name: quote.name.clone(),
            sector: quote.sector.clone(),
            price: quote.price.to_string(),
            change: quote.change.clone(),
            last_updated: quote.last_updated,
            as_of: quote.as_of,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_tick_is_always_ahead_and_on_the_grid() {
        let freshness = Freshness {
            stale_after_secs: 300,
            tick_secs: 300,
        };
        let check = |last: &str, now: &str, next: &str| {
            let parse = |text: &str| text.parse::<Timestamp>().expect("a time");
            assert_eq!(
                freshness.next_tick(parse(last), parse(now)),
                parse(next),
                "{last} {now}"
            );
        };
        check(
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:05:00Z",
        );
        check(
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:04:59Z",
            "2026-01-01T00:05:00Z",
        );
        check(
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:05:00Z",
            "2026-01-01T00:10:00Z",
        );
        check(
            "2026-01-01T00:00:00Z",
            "2026-01-01T09:59:00Z",
            "2026-01-01T10:00:00Z",
        );
        check(
            "2026-01-01T00:10:00Z",
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:15:00Z",
        );
    }
}
