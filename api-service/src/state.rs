//! What every handler shares.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use fuse_ledger::Ledger;
use fuse_market::{Market, VendorClient};
use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use tokio::sync::Semaphore;

use crate::audit::Auditor;
use crate::auth::KeyRing;
use crate::http::Limits;
use crate::market_data::Freshness;
use crate::metrics::Metrics;
use crate::orders::{OrderDesk, OrderSettings};
use crate::page_token::PageTokens;
use crate::shelf::Shelves;

/// The parts of the service. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Parts>);

/// See the fields.
pub struct Parts {
    /// PostgreSQL.
    pub ledger: Ledger,
    /// The current snapshot and those before it; what was.
    pub market: Market,
    /// The snapshots as reads see them.
    pub shelves: Shelves,
    /// Read for its breakers only; buying goes through the desk.
    pub vendor: VendorClient,
    /// Takes orders.
    pub desk: OrderDesk,
    /// Checks the ledger.
    pub auditor: Auditor,
    /// How orders are taken.
    pub orders: OrderSettings,
    /// Bounds who reads price histories at once.
    pub history_readers: Semaphore,
    /// Finds callers.
    pub keys: KeyRing,
    /// Makes and opens page tokens.
    pub tokens: PageTokens,
    /// Limits of a request.
    pub limits: Limits,
    /// How old is too old.
    pub freshness: Freshness,
    /// When reports are due.
    pub report_schedule: ReportSchedule,
    /// How many successful reads are logged in a second, at most.
    pub read_sample_per_sec: u64,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// The description of the interface, ready to send.
    pub openapi: Bytes,
}

impl AppState {
    /// Shares the parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for AppState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// When the day is cut.
#[derive(Clone, Debug)]
pub struct ReportSchedule {
    /// Whose days are reported.
    pub time_zone: TimeZone,
    /// Local time of the cut.
    pub time: civil::Time,
}

impl ReportSchedule {
    /// The first cut after `now`; `None` at the end of the calendar.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let today = now.to_zoned(self.time_zone.clone()).date();
        // A gap of daylight saving time may push a cut past midnight, so yesterday's may be still to come.
        let days = [today.yesterday().ok(), Some(today), today.tomorrow().ok()];
        days.into_iter()
            .flatten()
            .filter_map(|day| {
                fuse_domain::cut_at(day, &self.time_zone, self.time.hour(), self.time.minute()).ok()
            })
            .find(|cut| *cut > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_report_is_the_first_cut_ahead() {
        let schedule = |zone: &str| ReportSchedule {
            time_zone: TimeZone::get(zone).expect("a time zone"),
            time: civil::time(23, 59, 0, 0),
        };
        let check = |zone: &str, now: &str, next: &str| {
            let now = now.parse().expect("a time");
            let next: Timestamp = next.parse().expect("a time");
            assert_eq!(schedule(zone).next(now), Some(next), "{zone} {now}");
        };
        check("Etc/UTC", "2026-01-01T00:00:00Z", "2026-01-01T23:59:00Z");
        check("Etc/UTC", "2026-01-01T23:59:00Z", "2026-01-02T23:59:00Z");
        check("Europe/Berlin", "2026-07-01T21:58:00Z", "2026-07-01T21:59:00Z");
        check("Europe/Berlin", "2026-07-01T22:30:00Z", "2026-07-02T21:59:00Z");
    }
}
