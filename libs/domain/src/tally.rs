//! The sums of a report. Adding is exact, and neither its order nor its grouping matters: the tallies of the
//! hours, merged, equal the tally of the day.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::amount::Total;
use crate::order::OrderStatus;
use crate::reason::Reason;
use crate::report::ReportLine;
use crate::symbol::Symbol;

/// Why a report can not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The ledger gave a line that contradicts itself; reporting it would be inventing an outcome.
    #[error("order {order_id} can not be reported: {why}")]
    Inconsistent { order_id: Uuid, why: &'static str },
    #[error("no such time: {0}")]
    Time(#[source] jiff::Error),
}

/// Where a line stands in the report; each line is in exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    Filled,
    Rejected,
    Failed,
    Unknown,
    /// An order that was unknown in this or an earlier report and has been settled since; not counted as an
    /// order again.
    Resolved,
}

impl Section {
    pub const ALL: [Section; 5] = [
        Section::Filled,
        Section::Rejected,
        Section::Failed,
        Section::Unknown,
        Section::Resolved,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Section::Filled => "filled",
            Section::Rejected => "rejected",
            Section::Failed => "failed",
            Section::Unknown => "unknown",
            Section::Resolved => "resolved",
        }
    }
}

/// Counts and exact sums of one section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SectionSum {
    pub orders: u64,
    /// Shares bought.
    pub quantity: Total,
    /// Money paid.
    pub total: Total,
}

impl SectionSum {
    fn add(&mut self, line: &ReportLine) {
        self.orders += 1;
        if let Some(fill) = &line.fill {
            self.quantity.add_quantity(fill.quantity);
            self.total.add_amount(fill.total);
        }
    }

    fn merge(&mut self, other: &SectionSum) {
        self.orders += other.orders;
        self.quantity.add_total(&other.quantity);
        self.total.add_total(&other.total);
    }
}

/// All sums of a report, or of a part of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub(crate) sections: BTreeMap<Section, SectionSum>,
    /// Fills only.
    pub(crate) by_symbol: BTreeMap<Symbol, SectionSum>,
    pub(crate) by_reason: BTreeMap<(OrderStatus, Reason), u64>,
    pub(crate) users: BTreeSet<Uuid>,
}

impl Tally {
    /// Adds one line; says where it belongs. Nothing is added on an error.
    pub fn add(&mut self, line: &ReportLine) -> Result<Section, ReportError> {
        let section = line.section()?;
        self.sections.entry(section).or_default().add(line);
        self.users.insert(line.user_id);
        if section == Section::Filled {
            self.by_symbol.entry(line.symbol.clone()).or_default().add(line);
        }
        if section != Section::Resolved
            && let Some(reason) = line.reason
        {
            *self.by_reason.entry((line.outcome, reason)).or_default() += 1;
        }
        Ok(section)
    }

    pub fn merge(&mut self, other: &Tally) {
        for (section, sum) in &other.sections {
            self.sections.entry(*section).or_default().merge(sum);
        }
        for (symbol, sum) in &other.by_symbol {
            self.by_symbol.entry(symbol.clone()).or_default().merge(sum);
        }
        for (key, count) in &other.by_reason {
            *self.by_reason.entry(*key).or_default() += count;
        }
        self.users.extend(&other.users);
    }

    /// The sums of a section; zeros when it is empty.
    pub fn section(&self, section: Section) -> SectionSum {
        self.sections.get(&section).cloned().unwrap_or_default()
    }
}
