#![doc = include_str!("../README.md")]

mod audit;
mod distribute;
mod error;
mod grants;
pub mod keys;
mod lead;
mod metrics;
mod migrate;
mod orders;
mod pool;
mod portfolios;
mod reports;
mod row;

pub use self::audit::{BadRow, Invariant, Progress, Verification, VerifyOptions};
pub use self::distribute::Distributed;
pub use self::error::LedgerError;
pub use self::grants::ServiceRole;
pub use self::keys::{
    ApiKey, Ensured, KeyLimits, KeyRefused, KeyText, KeyTextError, NewKey, Owner, PresentedKey, Scope,
};
pub use self::lead::Lead;
pub use self::migrate::{Migrated, SCHEMA_VERSION};
pub use self::orders::{
    DailyLimit, Decision, ExpectedVersion, IdempotencyKey, IdempotencyKeyError, Order, OrderFilter,
    OrderOutlook, OrderPage, OutlookOf, Placed, Resolution, Resolve, Resolved, Settle, Settled, StoredAnswer,
    SubmitOrder, first_order_id,
};
pub use self::pool::Ledger;
pub use self::portfolios::{
    DEFAULT_PORTFOLIO_NAME, Holding, NewPortfolio, PENDING_MAX, Pending, PendingOrder, Portfolio,
    PortfolioDeleted, PortfolioFill, PortfolioHistory, PortfolioHoldings,
};
pub use self::reports::{
    Bounds, Claim, ClaimedDelivery, Delivery, DeliveryResult, DeliveryState, Horizon, PlannedDelivery,
    ReportContent, ReportPeriod, ReportRun, ReportRunResult, ReportStatus, Sealed, StoredReport,
};
