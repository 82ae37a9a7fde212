//! Why a run failed. Whatever the reason, nothing is lost: the next run goes on where this one stopped.

use fuse_domain::ReportError;
use fuse_ledger::LedgerError;
use jiff::civil::Date;

/// The end of a run that did not do everything.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The ledger did not answer, or refused.
    #[error("cannot {step}: {source}")]
    Ledger {
        /// What was to be done.
        step: &'static str,
        /// Why it was not.
        source: LedgerError,
    },
    /// The lines of a period do not make a report.
    #[error("the report of {date} cannot be computed: {source}")]
    Compute {
        /// Of which day.
        date: Date,
        /// Why.
        source: ReportError,
    },
    /// The day or the time of the cut does not exist.
    #[error("no such day: {0}")]
    Calendar(#[source] ReportError),
    /// The computed report cannot be written as text.
    #[error("the report of {date} cannot be rendered: {detail}")]
    Render {
        /// Of which day.
        date: Date,
        /// Why.
        detail: String,
    },
    /// The configured mail server is not one.
    #[error("the mail transport cannot be set up: {0}")]
    Transport(String),
    /// The day asked for lies ahead.
    #[error("{date} has not begun in {time_zone}; there is nothing to report yet")]
    NotBegun {
        /// The day.
        date: Date,
        /// Where.
        time_zone: String,
    },
    /// The day has no report of its own.
    #[error(
        "{date} has no report of its own: the reports up to {by} were sealed without it and hold its orders"
    )]
    Superseded {
        /// The day.
        date: Date,
        /// The latest sealed one.
        by: Date,
    },
    /// The report is made, kept and readable, but not everybody got it.
    #[error("{failed} of {due} mails were not taken; the report is kept and the next run tries again")]
    Undelivered {
        /// How many.
        failed: u32,
        /// Of how many.
        due: u32,
    },
    /// Nobody got the interim report of a run by hand.
    #[error(
        "{failed} interim mails were not taken, none was; nothing is lost, the day's own report holds the same orders"
    )]
    InterimUndelivered {
        /// How many.
        failed: u32,
    },
    /// The process was asked to stop.
    #[error("stopped before everything was done; the next run goes on")]
    Stopped,
    /// A file of `--out`.
    #[error("cannot write {path}: {source}")]
    Output {
        /// Which one.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}
