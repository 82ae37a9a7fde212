//! A run: seal, compute, render, deliver, record. Each stage can be repeated by itself, and each run begins with
//! whatever an earlier one left undone.

use std::time::{Duration, Instant};

use fuse_ledger::{Ledger, ReportRun, ReportRunResult};
use fuse_platform::{BoxError, Context};
use jiff::Timestamp;
use jiff::civil::Date;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::{Args, JobConfig};
use crate::mail::Transport;
use crate::patience::patiently;
use crate::{JobError, due, output};

/// One statement reads a whole day.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(120);

/// Everything that a run needs.
pub struct Job {
    pub(crate) ledger: Ledger,
    pub(crate) config: JobConfig,
    pub(crate) stop: CancellationToken,
    /// The clock, so that tests can choose the day.
    pub(crate) clock: fn() -> Timestamp,
}

/// What a run did so far; becomes its record.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) collect: Duration,
    pub(crate) render: Duration,
    pub(crate) send: Duration,
    pub(crate) mails_sent: u32,
    pub(crate) mails_failed: u32,
}

impl Job {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// When the address of the database is none.
    pub fn new(context: &Context, config: JobConfig) -> Result<Self, BoxError> {
        let timeout = STATEMENT_TIMEOUT.min(config.run_deadline);
        let ledger = Ledger::with_statement_timeout(&config.database, &context.metrics, timeout)?;
        Ok(Self {
            ledger,
            config,
            stop: context.shutdown.soft.clone(),
            clock: Timestamp::now,
        })
    }

    /// The same with another clock.
    #[must_use]
    pub fn with_clock(self, clock: fn() -> Timestamp) -> Self {
        Self { clock, ..self }
    }

    /// Seals what is due, makes the reports, sends what is not sent, and keeps a record of the run.
    ///
    /// # Errors
    /// [`JobError`]: the first thing that could not be done, in a sentence. What was done before it stays done.
    pub async fn run(&self, args: &Args) -> Result<(), BoxError> {
        let (started_at, began) = ((self.clock)(), Instant::now());
        let until = began + self.config.run_deadline;
        let target = due::target(&self.config.report, args.date, started_at)?;
        self.wait_for_cut(args.date, target).await?;
        let mut progress = Progress::default();
        let outcome = self.stages(args, target, until, &mut progress).await;
        let result = match &outcome {
            Ok(()) if progress.mails_sent > 0 => ReportRunResult::Delivered,
            Ok(()) => ReportRunResult::NothingToDo,
            Err(JobError::Undelivered { .. }) => ReportRunResult::DeliveryFailed,
            Err(_) => ReportRunResult::Failed,
        };
        self.record(
            target,
            started_at,
            until,
            result,
            &progress,
            outcome.as_ref().err(),
        )
        .await;
        self.ledger.close().await;
        tracing::info!(
            report.date = %target,
            result = result.as_str(),
            mails.sent = progress.mails_sent,
            mails.failed = progress.mails_failed,
            duration_ms = millis(began.elapsed()),
            "run ended"
        );
        Ok(outcome?)
    }

    async fn stages(
        &self,
        args: &Args,
        target: Date,
        until: Instant,
        progress: &mut Progress,
    ) -> Result<(), JobError> {
        let transport = Transport::new(&self.config).await.map_err(JobError::Transport)?;
        if self.is_interim(args.date, target, until).await? {
            return self.send_interim(args, transport.as_ref(), until).await;
        }
        self.seal_due_days(target, until).await?;
        self.plan(target, until).await?;
        self.compute_all(target, until, progress).await?;
        if let Some(folder) = &args.out {
            self.write_files(folder, target, until).await?;
        }
        match transport {
            Some(transport) => self.deliver_all(&transport, target, until, progress).await,
            None => {
                tracing::warn!(
                    "nobody is configured to get the report by mail; it can be read through the API"
                );
                Ok(())
            }
        }
    }

    async fn wait_for_cut(&self, asked: Option<Date>, target: Date) -> Result<(), JobError> {
        let wait = due::wait(&self.config.report, asked, target, (self.clock)())?;
        if wait.is_zero() {
            return Ok(());
        }
        tracing::info!(report.date = %target, wait_ms = millis(wait), "started early; waiting for the cut");
        tokio::select! {
            () = tokio::time::sleep(wait) => Ok(()),
            () = self.stop.cancelled() => Err(JobError::Stopped),
        }
    }

    async fn write_files(
        &self,
        folder: &std::path::Path,
        target: Date,
        until: Instant,
    ) -> Result<(), JobError> {
        let stored = patiently("read the report", until, || self.ledger.report(target)).await?;
        let Some((report, content)) =
            stored.and_then(|report| report.content.clone().map(|content| (report, content)))
        else {
            return Ok(());
        };
        let mail = self.letter(&report, &content, None)?;
        output::write(folder, &content, &mail)
    }

    /// A run record that cannot be kept is no reason to fail: the reports and deliveries themselves are the truth.
    async fn record(
        &self,
        target: Date,
        started_at: Timestamp,
        until: Instant,
        result: ReportRunResult,
        progress: &Progress,
        error: Option<&JobError>,
    ) {
        let transport = match &self.config.mail {
            mail if mail.ses_region.is_some() => Some("ses"),
            mail if mail.smtp_url.is_some() => Some("smtp"),
            _ => None,
        };
        let run = ReportRun {
            id: Uuid::now_v7(),
            started_at,
            finished_at: (self.clock)(),
            result,
            date: Some(target),
            collect_millis: millis(progress.collect),
            render_millis: millis(progress.render),
            send_millis: millis(progress.send),
            mails_sent: progress.mails_sent,
            mails_failed: progress.mails_failed,
            transport,
            detail: error.map(ToString::to_string),
        };
        // When the ledger is what failed, it was waited for already.
        let until = if matches!(error, Some(JobError::Ledger { .. })) {
            Instant::now()
        } else {
            until
        };
        if let Err(error) = patiently("record the run", until, || self.ledger.record_report_run(&run)).await {
            tracing::warn!(error = %error, "the run is not recorded");
        }
    }
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
