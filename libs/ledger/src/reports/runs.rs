//! The record of what each run of report-job did, and the metrics that a long-lived process makes of it.

use fuse_platform::Metrics;
use fuse_platform::metrics::JOB_SECONDS;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff_sqlx::ToSqlx as _;
use prometheus::{Gauge, HistogramVec, IntCounterVec, IntGaugeVec};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::{Ledger, LedgerError, row};

/// Runs that one look at the records takes in at most; older ones follow with the next look.
const RUNS_PER_LOOK_MAX: i64 = 1000;
const DETAIL_CHARS_MAX: usize = 1000;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportRunResult {
    /// Every mail that was due is sent.
    Delivered,
    /// Everything was sent before, or nobody is to be sent anything.
    NothingToDo,
    /// The report is made and readable, but a mail was not taken.
    DeliveryFailed,
    /// The report was not made.
    Failed,
}

impl ReportRunResult {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Delivered,
        Self::NothingToDo,
        Self::DeliveryFailed,
        Self::Failed,
    ];

    /// The stable name, also the label of `report_runs_total`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::NothingToDo => "nothing_to_do",
            Self::DeliveryFailed => "delivery_failed",
            Self::Failed => "failed",
        }
    }
}

/// One run of report-job.
#[derive(Debug, Clone)]
pub struct ReportRun {
    /// UUIDv7.
    pub id: Uuid,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// How it ended.
    pub result: ReportRunResult,
    /// The day that was asked for.
    pub date: Option<Date>,
    /// Time spent reading and computing.
    pub collect_millis: u64,
    /// Time spent rendering.
    pub render_millis: u64,
    /// Time spent sending, waits between tries included.
    pub send_millis: u64,
    /// Mails taken by the transport.
    pub mails_sent: u32,
    /// Mails not taken.
    pub mails_failed: u32,
    /// `smtp` or `ses`.
    pub transport: Option<&'static str>,
    /// Why it failed.
    pub detail: Option<String>,
}

/// Shows the run records as metrics. One per process; [`ReportStatus::observe`] is called every few seconds.
pub struct ReportStatus {
    runs: IntCounterVec,
    duration: HistogramVec,
    last_success: Gauge,
    orders: IntGaugeVec,
    outbox_oldest: Gauge,
    mails: IntCounterVec,
    seen: std::sync::Mutex<(Option<Timestamp>, Option<Uuid>)>,
}

impl ReportStatus {
    /// Registers the metrics.
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            runs: metrics.counter_vec(
                "report_runs_total",
                "Runs of the daily report, from its run records; all replicas show the same figure",
                &[("result", &ReportRunResult::ALL.map(ReportRunResult::as_str))],
            ),
            duration: metrics.histogram_vec(
                "report_duration_seconds",
                "Time of a report run by phase, from its run records",
                &[("phase", &["collect", "render", "send"])],
                JOB_SECONDS,
            ),
            last_success: metrics.float_gauge(
                "report_last_success_timestamp_seconds",
                "When a run last ended with every due mail sent; 0 is never; alert when it is over a day ago",
            ),
            orders: metrics.gauge_vec(
                "report_orders",
                "Orders of the last computed report by section",
                &[(
                    "section",
                    &["filled", "rejected", "failed", "unknown", "resolved"],
                )],
            ),
            outbox_oldest: metrics.float_gauge(
                "mail_outbox_oldest_seconds",
                "Age of the oldest report mail that is not sent; 0 when all are",
            ),
            mails: metrics.counter_vec(
                "mail_sends_total",
                "Report mails by what the transport said, from the run records",
                &[("transport", &["smtp", "ses"]), ("result", &["sent", "failed"])],
            ),
            seen: std::sync::Mutex::new((None, None)),
        }
    }

    /// Takes in the runs since the last look and reads the gauges.
    ///
    /// # Errors
    /// `Unavailable` or `Conflict`; the metrics then keep their last figures.
    pub async fn observe(&self, ledger: &Ledger, now: Timestamp) -> Result<(), LedgerError> {
        self.take_in_runs(ledger).await?;
        let query = sqlx::query(
            "select (select max(finished_at) from report_runs where result in ('delivered', 'nothing_to_do')) as success,
                    (select min(created_at) from report_deliveries
                     where state not in ('sent', 'cancelled')) as outbox,
                    (select (content -> 'totals')::text from reports where computed_at is not null
                     order by report_date desc limit 1) as totals",
        );
        let rows = ledger.read("report_status", query).await?;
        let found = row::only(&rows, "report_status")?;
        if let Some(success) = row::optional_time(found, "success")? {
            self.last_success.set(success.as_duration().as_secs_f64());
        }
        let outbox = row::optional_time(found, "outbox")?;
        self.outbox_oldest
            .set(outbox.map_or(0.0, |at| now.duration_since(at).as_secs_f64().max(0.0)));
        let totals: Option<serde_json::Value> =
            row::optional(found, "totals", |text: &str| serde_json::from_str(text))?;
        for section in ["filled", "rejected", "failed", "unknown", "resolved"] {
            let orders = totals
                .as_ref()
                .and_then(|totals| totals.get(section)?.as_i64())
                .unwrap_or(0);
            self.orders.with_label_values(&[section]).set(orders);
        }
        Ok(())
    }

    async fn take_in_runs(&self, ledger: &Ledger) -> Result<(), LedgerError> {
        let (seen_at, seen_id) = *self
            .seen
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let query = sqlx::query(
            "select run_id, finished_at, result, collect_millis, render_millis, send_millis, mails_sent,
                    mails_failed, transport
             from report_runs where $1::timestamptz is null or (finished_at, run_id) > ($1, $2)
             order by finished_at, run_id limit $3",
        )
        .bind(seen_at.map(row::at))
        .bind(seen_id)
        .bind(RUNS_PER_LOOK_MAX);
        for found in &ledger.read("report_runs", query).await? {
            self.count(found)?;
            let last = (
                Some(row::time(found, "finished_at")?),
                Some(row::get(found, "run_id")?),
            );
            *self
                .seen
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = last;
        }
        Ok(())
    }

    fn count(&self, found: &PgRow) -> Result<(), LedgerError> {
        self.runs
            .with_label_values(&[row::get::<&str>(found, "result")?])
            .inc();
        for (phase, column) in [
            ("collect", "collect_millis"),
            ("render", "render_millis"),
            ("send", "send_millis"),
        ] {
            let millis: i64 = row::get(found, column)?;
            let time = std::time::Duration::from_millis(millis.unsigned_abs());
            self.duration
                .with_label_values(&[phase])
                .observe(time.as_secs_f64());
        }
        let transport: Option<&str> = row::get(found, "transport")?;
        if let Some(transport @ ("smtp" | "ses")) = transport {
            for (result, column) in [("sent", "mails_sent"), ("failed", "mails_failed")] {
                let mails: i32 = row::get(found, column)?;
                self.mails
                    .with_label_values(&[transport, result])
                    .inc_by(u64::from(mails.unsigned_abs()));
            }
        }
        Ok(())
    }
}

impl Ledger {
    /// Keeps the record of a run. Repeating it changes nothing.
    ///
    /// # Errors
    /// `Unavailable` (repeat it) or `Conflict`.
    pub async fn record_report_run(&self, run: &ReportRun) -> Result<(), LedgerError> {
        let millis = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let count = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
        let detail = run.detail.as_ref().map(|text| {
            text.chars()
                .filter(|c| *c != '\0')
                .take(DETAIL_CHARS_MAX)
                .collect::<String>()
        });
        let query = sqlx::query(
            "insert into report_runs (run_id, started_at, finished_at, result, report_date, collect_millis,
                 render_millis, send_millis, mails_sent, mails_failed, transport, detail)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) on conflict (run_id) do nothing",
        )
        .bind(run.id)
        .bind(row::at(run.started_at))
        .bind(row::at(run.finished_at))
        .bind(run.result.as_str())
        .bind(run.date.map(|date| date.to_sqlx()))
        .bind(millis(run.collect_millis))
        .bind(millis(run.render_millis))
        .bind(millis(run.send_millis))
        .bind(count(run.mails_sent))
        .bind(count(run.mails_failed))
        .bind(run.transport)
        .bind(detail);
        self.write("record_report_run", query).await.map(drop)
    }
}
