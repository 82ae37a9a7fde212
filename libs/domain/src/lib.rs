//! Rules of the stock trading service: money, orders, breaker, report arithmetic; no I/O.
//!
//! What must stay true of everything here: it is a function of its arguments (time and randomness are
//! arguments too), and money is exact: an operation either gives the mathematically exact result or an error,
//! never a rounded figure. The only figures that divide say how they round: [`average_price`] and
//! [`profit_loss_percent`], which are for display, and [`shares_for`], whose remainder is told.

mod amount;
mod band;
mod breaker;
mod chain_head;
mod exact;
mod judge;
mod money;
mod notional;
mod order;
mod quote;
mod reason;
mod report;
mod report_time;
mod symbol;
mod tally;
mod valuation;

pub use amount::{Amount, SignedAmount, Total, average_price, profit_loss_percent};
pub use band::{Tolerance, ToleranceError};
pub use breaker::{Breaker, BreakerPolicy, BreakerState, Decision, Permit};
pub use chain_head::{ChainHead, ChainHeadError};
pub use judge::{OrderPolicy, OrderRequest, QuoteLookup, QuoteUsed, Rejection, judge};
pub use money::{AmountError, Price, Quantity, decimal_text, number_text};
pub use notional::{remainder, shares_for};
pub use order::{Fill, OrderStatus, Outcome, Side, UnknownCode};
pub use quote::{Quote, Snapshot, SnapshotMeta};
pub use reason::Reason;
pub use report::{DailyReport, LineList, Period, ReasonLine, ReportLine, ReportTotals, SymbolLine, compute};
pub use report_time::{cut_at, latest_due_date};
pub use symbol::{Symbol, SymbolError};
pub use tally::{ReportError, Section, SectionSum, Tally};
pub use valuation::{PortfolioValue, Valuation, value_holding, value_portfolio};

/// What `as_decimal` gives and takes.
pub use rust_decimal::Decimal;
