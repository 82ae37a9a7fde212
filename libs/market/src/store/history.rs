//! Reading what was: a symbol's price history, and which symbols moved in a snapshot.

use std::sync::atomic::Ordering;

use fuse_domain::{Price, Quote, Symbol};
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};

use super::SnapshotStore;
use super::error::{StoreError, sort};
use super::items::{self, HISTORY_KEPT_DAYS, Item, MOVERS, MOVERS_INDEX};

/// Days, each one query at least, that one call looks at.
const DAYS_MAX: usize = 31;

/// Which part of a symbol's history is asked for. History is kept for 90 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryRange {
    /// The first instant, included.
    pub from: Timestamp,
    /// The end, not included.
    pub to: Timestamp,
}

/// One price change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPoint {
    /// The vendor's own time of the price, in milliseconds.
    pub at: Timestamp,
    pub price: Price,
    /// The vendor's figure as normalised text, as in a quote.
    pub change: String,
}

/// A part of a symbol's history, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    /// May be fewer than asked for, none even, while `next` is there: one call looks at a bounded number of days.
    pub points: Vec<HistoryPoint>,
    /// To be given as `after` for the next part; `None` at the end of the range.
    pub next: Option<Timestamp>,
}

/// What one call looks at: whole days between two instants, both of whole milliseconds as the keys are.
struct Span {
    first_millis: i64,
    last_millis: i64,
}

impl SnapshotStore {
    /// At most `limit` price changes of `symbol` within `range`, oldest first, beginning behind `after`. Lines past
    /// their expiry are left out, collected or not. An unknown symbol has no history, which is no error.
    pub async fn history(
        &self,
        symbol: &Symbol,
        range: HistoryRange,
        after: Option<Timestamp>,
        limit: usize,
    ) -> Result<HistoryPage, StoreError> {
        let read = self
            .history_at(symbol, range, after, limit.max(1), Timestamp::now())
            .await;
        self.seen(read)
    }

    async fn history_at(
        &self,
        symbol: &Symbol,
        range: HistoryRange,
        after: Option<Timestamp>,
        limit: usize,
        now: Timestamp,
    ) -> Result<HistoryPage, StoreError> {
        let mut points = Vec::new();
        let Some(span) = Span::of(range, after, now) else {
            return Ok(HistoryPage { points, next: None });
        };
        let last = span.last();
        let mut day = items::day_of(span.first());
        for _ in 0..DAYS_MAX {
            // One more than asked for says whether there is more.
            self.history_of_day(symbol, day, &span, limit.saturating_add(1), now, &mut points)
                .await?;
            if points.len() > limit {
                points.truncate(limit);
                let next = points.last().map(|point| point.at);
                return Ok(HistoryPage { points, next });
            }
            let following = day.tomorrow().ok().filter(|day| *day <= items::day_of(last));
            let Some(following) = following else {
                return Ok(HistoryPage { points, next: None });
            };
            day = following;
        }
        // Everything before this day was looked at.
        let next = midnight(day).and_then(|at| at.checked_sub(1.millisecond()).ok());
        Ok(HistoryPage { points, next })
    }

    /// Adds the day's lines until there are `limit`.
    async fn history_of_day(
        &self,
        symbol: &Symbol,
        day: Date,
        span: &Span,
        limit: usize,
        now: Timestamp,
        points: &mut Vec<HistoryPoint>,
    ) -> Result<(), StoreError> {
        let mut lines = self
            .client
            .query()
            .table_name(&*self.table)
            .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
            .expression_attribute_values(":pk", items::string(items::history_pk(symbol, day)))
            .expression_attribute_values(":first", items::string(items::history_sk(span.first())))
            .expression_attribute_values(":last", items::string(items::history_sk(span.last())))
            .limit(i32::try_from(limit - points.len()).unwrap_or(i32::MAX))
            .into_paginator()
            .items()
            .send();
        while points.len() < limit
            && let Some(line) = lines.next().await
        {
            let line = line.map_err(|error| sort("Query", &self.table, &error))?;
            if !items::expired(&line, now)? {
                points.push(items::history_point(&line)?);
            }
        }
        Ok(())
    }

    /// The movers of the snapshot taken at `taken_at`, by symbol, from the sparse index: for a replica that holds no
    /// snapshot. Empty when the table has no such index (said once in the log). The index follows the table by a
    /// moment.
    pub async fn movers(&self, taken_at: Timestamp) -> Result<Vec<Quote>, StoreError> {
        let movers = self.movers_of(taken_at).await;
        match self.seen(movers) {
            // The table has no such index, or none yet.
            Err(StoreError::Refused { code, .. }) => {
                if !self.no_index_said.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        dynamodb.table = self.table(),
                        dynamodb.index = MOVERS_INDEX,
                        code,
                        "the index of movers cannot be read; movers are known from snapshots only"
                    );
                }
                Ok(Vec::new())
            }
            movers => movers,
        }
    }

    async fn movers_of(&self, taken_at: Timestamp) -> Result<Vec<Quote>, StoreError> {
        let mut found = self
            .client
            .query()
            .table_name(&*self.table)
            .index_name(MOVERS_INDEX)
            .key_condition_expression("mover_pk = :movers AND begins_with(mover_sk, :snapshot)")
            .expression_attribute_values(":movers", items::string(MOVERS))
            .expression_attribute_values(":snapshot", items::string(items::movers_of(taken_at)))
            .into_paginator()
            .items()
            .send();
        let mut movers = Vec::new();
        while let Some(item) = found.next().await {
            let item: Item = item.map_err(|error| sort("Query", &self.table, &error))?;
            movers.push(items::mover(&item)?);
        }
        Ok(movers)
    }
}

impl Span {
    /// `None` when there is nothing to look at. Bounded by what is kept and by tomorrow, so that no range of centuries
    /// makes a call of centuries.
    fn of(range: HistoryRange, after: Option<Timestamp>, now: Timestamp) -> Option<Self> {
        let day_millis = 24 * 3_600 * 1_000;
        let kept_from = now.as_millisecond() - (HISTORY_KEPT_DAYS + 1) * day_millis;
        let after = after.map_or(i64::MIN, |after| after.as_millisecond().saturating_add(1));
        let first_millis = ceiling_millis(range.from).max(after).max(kept_from);
        let last_millis = (ceiling_millis(range.to) - 1).min(now.as_millisecond() + day_millis);
        (first_millis <= last_millis).then_some(Self {
            first_millis,
            last_millis,
        })
    }

    fn first(&self) -> Timestamp {
        instant(self.first_millis)
    }

    fn last(&self) -> Timestamp {
        instant(self.last_millis)
    }
}

/// The first whole millisecond that is not before `at`.
fn ceiling_millis(at: Timestamp) -> i64 {
    let floor = at.as_millisecond();
    if instant(floor) < at { floor + 1 } else { floor }
}

fn instant(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(if millis < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

fn midnight(day: Date) -> Option<Timestamp> {
    day.to_zoned(jiff::tz::TimeZone::UTC)
        .ok()
        .map(|zoned| zoned.timestamp())
}
