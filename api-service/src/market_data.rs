//! Reading the current snapshot: everything a client sees of it carries its age.

use std::sync::Arc;

use fuse_domain::{Quote, Snapshot, SnapshotMeta};
use http::HeaderValue;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::problem::{ApiError, Code, Problem};
use crate::shelf::Shelf;
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
    /// When the crawl that made it began, so that no price looks younger than it is.
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
        let (age_seconds, stale) = self.age(meta, now);
        SnapshotInfo {
            id: meta.id,
            taken_at: meta.taken_at,
            next_tick_at: self.next_tick(meta.tick_at, now),
            age_seconds,
            stale,
        }
    }

    /// Whole seconds since the crawl, and whether that is too many.
    #[must_use]
    pub fn age(&self, meta: &SnapshotMeta, now: Timestamp) -> (u64, bool) {
        let age_seconds = age_secs(meta.taken_at, now);
        // A snapshot from the future has no age that could be trusted.
        let stale = age_seconds > self.stale_after_secs || is_ahead(meta.taken_at, now);
        (age_seconds, stale)
    }

    /// How long a cache may use an answer from this snapshot: until the prices change next, and not once it is stale. Caches count from `takenAt`, because answers
    /// carry `Age`. Whether an answer is for everybody is said by `Vary`: it names the key.
    #[must_use]
    pub fn cache_control(&self, meta: &SnapshotMeta, is_stale: bool) -> HeaderValue {
        if is_stale {
            return HeaderValue::from_static("no-cache");
        }
        // The tick that ends this snapshot, not the one after now: when the next snapshot is late, caches ask again.
        let tick = self.next_tick(meta.tick_at, meta.taken_at);
        let secs = age_secs(meta.taken_at, tick)
            .min(self.tick_secs)
            .min(self.stale_after_secs);
        HeaderValue::from_str(&format!("public, max-age={secs}")).expect("words and digits are visible ASCII")
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

/// The current snapshot as reads see it, after a wait for the first one where one is being made; 503 with `Retry-After` when there is
/// none.
pub async fn current(state: &AppState) -> Result<Arc<Shelf>, ApiError> {
    let shelf = state.shelves.current_or_wait().await;
    shelf.ok_or_else(|| {
        state.metrics.snapshot_read(None, false);
        no_market_data().into()
    })
}

/// The current snapshot where an answer is possible without it.
pub fn current_if_any(state: &AppState, now: Timestamp) -> Option<Arc<Snapshot>> {
    let snapshot = state.shelves.current().map(|shelf| Arc::clone(shelf.snapshot()));
    let age = snapshot
        .as_ref()
        .map(|snapshot| state.freshness.age(&snapshot.meta, now));
    let is_stale = age.is_some_and(|(_, is_stale)| is_stale);
    state
        .metrics
        .snapshot_read(age.map(|(seconds, _)| seconds), is_stale);
    snapshot
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

/// The 503 of what only the store of prices could answer, while it is away.
#[must_use]
pub fn price_store_unavailable() -> Problem {
    Problem::new(
        Code::PriceStoreUnavailable,
        "The store of prices does not answer at the moment. Send the request again.",
    )
}

/// One stock.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Stock)]
pub struct StockBody<'q> {
    #[schema(example = "AAPL")]
    pub symbol: &'q str,
    pub name: &'q str,
    pub sector: &'q str,
    /// Exact decimal, as the vendor said it.
    #[schema(example = "150.25")]
    pub price: String,
    /// The vendor's own figure; whether absolute or percent is not known.
    #[schema(example = "-0.42")]
    pub change: &'q str,
    /// The vendor's time of the price.
    #[schema(value_type = String, format = DateTime)]
    pub last_updated: Timestamp,
    /// When the price was fetched. Older than the snapshot when the vendor sent nonsense for this stock since.
    #[schema(value_type = String, format = DateTime)]
    pub as_of: Timestamp,
    /// The price moved by at least the configured percentage (2 by default) since the snapshot before.
    pub mover: bool,
    /// Whether the vendor still lists it. If not, it is shown for a day with its last price, and cannot be bought.
    pub listed: bool,
}

impl<'q> From<&'q Quote> for StockBody<'q> {
    fn from(quote: &'q Quote) -> Self {
        Self {
            symbol: quote.symbol.as_str(),
            name: &quote.name,
            sector: &quote.sector,
            price: quote.price.to_string(),
            change: &quote.change,
            last_updated: quote.last_updated,
            as_of: quote.as_of,
            mover: quote.mover,
            listed: quote.listed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cache_keeps_an_answer_until_it_is_stale() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let meta = SnapshotMeta {
            id: Uuid::now_v7(),
            taken_at: at("2026-01-01T00:00:04Z"),
            tick_at: at("2026-01-01T00:00:00Z"),
            count: 0,
        };
        let check = |stale_after_secs, expected: &str| {
            let freshness = Freshness {
                stale_after_secs,
                tick_secs: 300,
            };
            assert_eq!(
                freshness.cache_control(&meta, false),
                expected,
                "{stale_after_secs}"
            );
        };
        check(600, "public, max-age=296");
        check(300, "public, max-age=296");
        check(120, "public, max-age=120");
        check(0, "public, max-age=0");
    }

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
