//! What the templates see: texts only, every figure as the report has it.

use fuse_domain::{DailyReport, LineList, ReportLine};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

/// Lines of a section in the mail; the API has more. Mail programs cut long mails.
const LINES_MAX: usize = 100;
const SYMBOLS_MAX: usize = 100;

#[derive(Serialize)]
pub(super) struct View {
    notice: Option<String>,
    date: String,
    time_zone: String,
    from: Option<String>,
    to: String,
    orders: u64,
    filled_count: u64,
    rejected_count: u64,
    failed_count: u64,
    unknown_count: u64,
    resolved_count: u64,
    filled_total: String,
    resolved_total: String,
    users: u64,
    unknown: Section,
    filled: Section,
    failed: Section,
    rejected: Section,
    resolved: Section,
    symbols: Vec<Symbol>,
    symbols_more: usize,
    reasons: Vec<Reason>,
    /// `LINK:HASH`, what `api-service verify --anchor` takes.
    anchor: Option<String>,
    anchored_events: i64,
}

#[derive(Serialize)]
struct Section {
    lines: Vec<Line>,
    more: u64,
}

#[derive(Serialize)]
struct Line {
    id: String,
    time: String,
    symbol: String,
    quantity: String,
    limit_price: String,
    price: String,
    total: String,
    outcome: String,
    reason: String,
}

#[derive(Serialize)]
struct Symbol {
    symbol: String,
    orders: u64,
    quantity: String,
    total: String,
}

#[derive(Serialize)]
struct Reason {
    outcome: String,
    reason: String,
    orders: u64,
}

impl View {
    pub(super) fn of(report: &DailyReport, notice: Option<&str>) -> Self {
        // A zone that this build does not know (a newer database) is shown in UTC, which each time says.
        let zone = TimeZone::get(&report.time_zone).unwrap_or(TimeZone::UTC);
        let totals = &report.totals;
        let section = |list: &LineList, count: u64| Section::of(list, count, &zone);
        Self {
            notice: notice.map(str::to_owned),
            date: report.date.to_string(),
            time_zone: report.time_zone.clone(),
            from: report.period.from.map(|from| moment(from, &zone)),
            to: moment(report.period.to, &zone),
            orders: totals.orders,
            filled_count: totals.filled,
            rejected_count: totals.rejected,
            failed_count: totals.failed,
            unknown_count: totals.unknown,
            resolved_count: totals.resolved,
            filled_total: totals.filled_total.to_string(),
            resolved_total: totals.resolved_total.to_string(),
            users: totals.users,
            unknown: section(&report.unknown, totals.unknown),
            filled: section(&report.filled, totals.filled),
            failed: section(&report.failed, totals.failed),
            rejected: section(&report.rejected, totals.rejected),
            resolved: section(&report.resolved, totals.resolved),
            symbols: report
                .by_symbol
                .iter()
                .take(SYMBOLS_MAX)
                .map(Symbol::of)
                .collect(),
            symbols_more: report.by_symbol.len().saturating_sub(SYMBOLS_MAX),
            reasons: report.by_reason.iter().map(Reason::of).collect(),
            anchor: report.chain.map(|head| head.to_string()),
            anchored_events: report.chain.map_or(0, |head| head.events),
        }
    }
}

impl Section {
    fn of(list: &LineList, count: u64, zone: &TimeZone) -> Self {
        let lines: Vec<Line> = list
            .items
            .iter()
            .take(LINES_MAX)
            .map(|line| Line::of(line, zone))
            .collect();
        let shown = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        Self {
            more: count.saturating_sub(shown),
            lines,
        }
    }
}

impl Line {
    fn of(line: &ReportLine, zone: &TimeZone) -> Self {
        let fill = line.fill.as_ref();
        Self {
            id: line.order_id.to_string(),
            time: moment(line.at, zone),
            symbol: line.symbol.to_string(),
            quantity: fill.map_or(line.quantity, |fill| fill.quantity).to_string(),
            limit_price: line.limit_price.to_string(),
            price: fill.map(|fill| fill.price.to_string()).unwrap_or_default(),
            total: fill.map(|fill| fill.total.to_string()).unwrap_or_default(),
            outcome: line.outcome.to_string(),
            reason: line.reason.map(|reason| reason.to_string()).unwrap_or_default(),
        }
    }
}

impl Symbol {
    fn of(line: &fuse_domain::SymbolLine) -> Self {
        Self {
            symbol: line.symbol.to_string(),
            orders: line.orders,
            quantity: line.quantity.to_string(),
            total: line.total.to_string(),
        }
    }
}

impl Reason {
    fn of(line: &fuse_domain::ReasonLine) -> Self {
        Self {
            outcome: line.outcome.to_string(),
            reason: line.reason.to_string(),
            orders: line.orders,
        }
    }
}

fn moment(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone())
        .strftime("%Y-%m-%d %H:%M:%S %Z")
        .to_string()
}
