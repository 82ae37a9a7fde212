//! The daily report: what `/v1/reports/daily/{date}` serves and the mail shows.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::amount::Total;
use crate::chain_head::ChainHead;
use crate::money::{Price, Quantity};
use crate::order::{Fill, OrderStatus};
use crate::reason::Reason;
use crate::symbol::Symbol;
use crate::tally::{ReportError, Section, Tally};

/// Lines listed of each section; the totals always count all of them.
const LINES_PER_SECTION_MAX: usize = 1000;

/// One order event that a period reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportLine {
    pub order_id: Uuid,
    pub user_id: Uuid,
    pub symbol: Symbol,
    pub quantity: Quantity,
    pub limit_price: Price,
    pub outcome: OrderStatus,
    /// Absent exactly when filled, or when resolved.
    pub reason: Option<Reason>,
    /// Present exactly when filled.
    pub fill: Option<Fill>,
    /// When it came to this outcome.
    pub at: Timestamp,
    /// This is the settlement of an order that was unknown before.
    #[serde(default)]
    pub resolution: bool,
}

impl ReportLine {
    /// The one section where the line belongs. A line that contradicts itself is an error, because a guess
    /// would be an invented outcome.
    pub fn section(&self) -> Result<Section, ReportError> {
        let broken = |why| {
            Err(ReportError::Inconsistent {
                order_id: self.order_id,
                why,
            })
        };
        if (self.outcome == OrderStatus::Filled) != self.fill.is_some() {
            return broken("a fill belongs to a filled order and to no other");
        }
        if self
            .fill
            .is_some_and(|fill| fill.price.times(fill.quantity) != Ok(fill.total))
        {
            return broken("the total is not price times quantity");
        }
        if self
            .reason
            .is_some_and(|reason| reason.status() != self.outcome && !self.resolution)
        {
            return broken("the reason belongs to another outcome");
        }
        if self.resolution {
            return match self.outcome {
                OrderStatus::Filled | OrderStatus::Failed => Ok(Section::Resolved),
                OrderStatus::Rejected | OrderStatus::Submitted | OrderStatus::Unknown => {
                    broken("a resolution is filled or failed")
                }
            };
        }
        match self.outcome {
            OrderStatus::Filled => Ok(Section::Filled),
            OrderStatus::Rejected => Ok(Section::Rejected),
            OrderStatus::Failed => Ok(Section::Failed),
            OrderStatus::Unknown => Ok(Section::Unknown),
            OrderStatus::Submitted => broken("submitted is not an outcome"),
        }
    }
}

/// What a report covers: events after `from` (all earlier ones when absent) up to and including `to`, and
/// older ones that were committed too late for the report before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    pub from: Option<Timestamp>,
    pub to: Timestamp,
}

/// Counts of orders by outcome and what was bought. `orders` is the sum of the first four; `resolved` are no
/// new orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportTotals {
    pub orders: u64,
    pub filled: u64,
    pub rejected: u64,
    pub failed: u64,
    pub unknown: u64,
    pub resolved: u64,
    pub filled_total: Total,
    /// Paid by orders that were unknown before and turned out to be filled; not in `filled_total`.
    pub resolved_total: Total,
    /// Distinct users with at least one line.
    pub users: u64,
}

/// Fills of one symbol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SymbolLine {
    pub symbol: Symbol,
    pub orders: u64,
    pub quantity: Total,
    pub total: Total,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonLine {
    pub outcome: OrderStatus,
    pub reason: Reason,
    pub orders: u64,
}

/// The first lines of a section by time, and how many more there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineList {
    pub items: Vec<ReportLine>,
    pub omitted: u64,
}

/// A computed report. Serialises to the JSON that is stored, served and rendered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DailyReport {
    pub date: Date,
    pub time_zone: String,
    pub period: Period,
    pub totals: ReportTotals,
    /// Sorted by symbol.
    pub by_symbol: Vec<SymbolLine>,
    pub by_reason: Vec<ReasonLine>,
    pub filled: LineList,
    pub rejected: LineList,
    pub failed: LineList,
    pub unknown: LineList,
    pub resolved: LineList,
    /// The end of the ledger's hash chain when this was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainHead>,
}

/// Computes a report. The result does not depend on the order of the lines; each line counts in exactly one
/// section.
pub fn compute(
    date: Date,
    time_zone: &str,
    period: Period,
    lines: impl IntoIterator<Item = ReportLine>,
) -> Result<DailyReport, ReportError> {
    let mut tally = Tally::default();
    let mut listed: BTreeMap<Section, BTreeMap<(Timestamp, Uuid), ReportLine>> = BTreeMap::new();
    let mut seen = HashSet::new();
    for line in lines {
        // An order comes to an outcome once and is resolved once; twice would be counted twice.
        if !seen.insert((line.order_id, line.resolution)) {
            return Err(ReportError::Inconsistent {
                order_id: line.order_id,
                why: "it is there twice",
            });
        }
        let section = tally.add(&line)?;
        let kept = listed.entry(section).or_default();
        kept.insert((line.at, line.order_id), line);
        if kept.len() > LINES_PER_SECTION_MAX {
            kept.pop_last();
        }
    }
    let mut list = |section| {
        let items: Vec<ReportLine> = listed
            .remove(&section)
            .unwrap_or_default()
            .into_values()
            .collect();
        let omitted = tally.section(section).orders - items.len() as u64;
        LineList { items, omitted }
    };
    Ok(DailyReport {
        date,
        time_zone: time_zone.to_owned(),
        period,
        filled: list(Section::Filled),
        rejected: list(Section::Rejected),
        failed: list(Section::Failed),
        unknown: list(Section::Unknown),
        resolved: list(Section::Resolved),
        totals: totals(&tally),
        by_symbol: by_symbol(&tally),
        by_reason: by_reason(&tally),
        chain: None,
    })
}

fn totals(tally: &Tally) -> ReportTotals {
    let orders = |section| tally.section(section).orders;
    let (filled, rejected) = (orders(Section::Filled), orders(Section::Rejected));
    let (failed, unknown) = (orders(Section::Failed), orders(Section::Unknown));
    ReportTotals {
        orders: filled + rejected + failed + unknown,
        filled,
        rejected,
        failed,
        unknown,
        resolved: orders(Section::Resolved),
        filled_total: tally.section(Section::Filled).total,
        resolved_total: tally.section(Section::Resolved).total,
        users: tally.users.len() as u64,
    }
}

fn by_symbol(tally: &Tally) -> Vec<SymbolLine> {
    let line = |(symbol, sum): (&Symbol, &crate::tally::SectionSum)| SymbolLine {
        symbol: symbol.clone(),
        orders: sum.orders,
        quantity: sum.quantity.clone(),
        total: sum.total.clone(),
    };
    tally.by_symbol.iter().map(line).collect()
}

fn by_reason(tally: &Tally) -> Vec<ReasonLine> {
    let line = |(&(outcome, reason), &orders): (&(OrderStatus, Reason), &u64)| ReasonLine {
        outcome,
        reason,
        orders,
    };
    tally.by_reason.iter().map(line).collect()
}
