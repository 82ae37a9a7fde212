//! Reading what was: a symbol's price history, and which symbols moved in a snapshot.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use fuse_domain::{Price, Quote, Symbol};
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};

use super::SnapshotStore;
use super::block::{self, HISTORY_KEPT_DAYS};
use super::error::{StoreError, sort};
use super::items::{self, MOVERS, MOVERS_INDEX};

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

/// The changes found so far by their times, each time once.
type Points = BTreeMap<Timestamp, HistoryPoint>;

/// What one call looks at: everything between two instants, both of whole milliseconds as the lines are.
struct Span {
    first_millis: i64,
    last_millis: i64,
}

impl SnapshotStore {
    /// At most `limit` price changes of `symbol` within `range`, oldest first, beginning behind `after`. Those past
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
        let mut points = Points::new();
        let Some(span) = Span::of(range, after, now) else {
            return Ok(page(points, limit, None));
        };
        let last_day = block::day_of(span.last());
        let mut day = block::day_of(span.first());
        for _ in 0..DAYS_MAX {
            // One more than asked for says whether there is more.
            self.history_of_day(symbol, day, &span, limit.saturating_add(1), now, &mut points)
                .await?;
            let following = day.tomorrow().ok().filter(|day| *day <= last_day);
            let Some(following) = following.filter(|_| points.len() <= limit) else {
                return Ok(page(points, limit, None));
            };
            day = following;
        }
        // Everything before this day was looked at.
        let looked_until = midnight(day).and_then(|at| at.checked_sub(1.millisecond()).ok());
        Ok(page(points, limit, looked_until))
    }

    /// Adds the day's changes, hour by hour, until there are `enough`. An hour is looked at whole: only then it is known
    /// that nothing of it comes any more, and what is the last word on each of its times.
    async fn history_of_day(
        &self,
        symbol: &Symbol,
        day: Date,
        span: &Span,
        enough: usize,
        now: Timestamp,
        points: &mut Points,
    ) -> Result<(), StoreError> {
        let (first, last) = span.hours_of(day);
        let (first, last) = block::block_sks(first, last);
        let mut blocks = self
            .client
            .query()
            .table_name(&*self.table)
            .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
            // Blocks without the symbol are read, but need not travel.
            .filter_expression("contains(points, :line)")
            .projection_expression("sk, points, expires_at")
            .expression_attribute_values(":pk", items::string(block::block_pk(symbol, day)))
            .expression_attribute_values(":first", items::string(first))
            .expression_attribute_values(":last", items::string(last))
            .expression_attribute_values(":line", items::string(block::line_start(symbol)))
            .into_paginator()
            .items()
            .send();
        let mut hour_before = None;
        while let Some(block) = blocks.next().await {
            let block = block.map_err(|error| sort("Query", &self.table, &error))?;
            let hour = block::hour(&block)?;
            if hour_before.replace(hour) != Some(hour) && points.len() >= enough {
                break;
            }
            if !items::expired(&block, now)?
                && let Some(point) = block::point(&block, day, symbol)?
                && span.holds(point.at)
                && block::expires_at(point.at) > now.as_second()
            {
                points.insert(point.at, point);
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
            let entry = item.map_err(|error| sort("Query", &self.table, &error))?;
            movers.extend(block::movers(&entry)?);
        }
        movers.sort_by(|one, other| one.symbol.cmp(&other.symbol));
        Ok(movers)
    }
}

/// At most `limit` of them. `looked_until` is where a call ended that found no more than that.
fn page(points: Points, limit: usize, looked_until: Option<Timestamp>) -> HistoryPage {
    let is_cut = points.len() > limit;
    let points: Vec<_> = points.into_values().take(limit).collect();
    let next = match points.last() {
        Some(last) if is_cut => Some(last.at),
        _ => looked_until,
    };
    HistoryPage { points, next }
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

    /// The first and the last hour of this day that it touches.
    fn hours_of(&self, day: Date) -> (i64, i64) {
        let of = |at: Timestamp| (block::day_of(at) == day).then(|| block::hour_of(at));
        (of(self.first()).unwrap_or(0), of(self.last()).unwrap_or(23))
    }

    fn holds(&self, at: Timestamp) -> bool {
        (self.first_millis..=self.last_millis).contains(&at.as_millisecond())
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
