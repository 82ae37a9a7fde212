//! Daily reports: sealing a period, reading its lines, keeping what was computed and what was sent.
//!
//! What must stay true: every event is in exactly one period, a sealed period never changes, and a mail that is
//! marked sent is never sent again.

mod content;
mod deliveries;
mod runs;
mod seal;

pub use self::content::{ReportContent, StoredReport};
pub use self::deliveries::{
    Claim, ClaimedDelivery, Delivery, DeliveryResult, DeliveryState, PlannedDelivery,
};
pub use self::runs::{ReportRun, ReportRunResult, ReportStatus};
pub use self::seal::{Bounds, Horizon, ReportPeriod, Sealed};
