//! Sealing and computing.

use std::time::{Duration, Instant};

use fuse_domain::{DailyReport, compute};
use fuse_ledger::{ReportContent, ReportPeriod, Sealed};
use jiff::civil::Date;

use crate::job::{Job, Progress, millis};
use crate::patience::patiently;
use crate::render::{Rendered, render};
use crate::{JobError, due};

/// Our own transactions end within this, because the server ends idle ones; only a stranger's can take longer.
const OPEN_TRANSACTIONS_WAIT_MAX: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Job {
    /// Waits until the transactions that run now have ended, so that what they (and everything committed before)
    /// wrote is in the period and not in the next one.
    pub(crate) async fn wait_for_open_transactions(&self, until: Instant) -> Result<(), JobError> {
        let until = until.min(Instant::now() + OPEN_TRANSACTIONS_WAIT_MAX);
        let look = || patiently("read the open transactions", until, || self.ledger.horizon());
        let next = look().await?.next;
        while look().await?.oldest_open < next {
            if Instant::now() >= until || self.stop.is_cancelled() {
                tracing::warn!("a transaction stays open; what came after it goes into the next report");
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Seals every day that is due, oldest first. A day that is sealed stays as it is.
    pub(crate) async fn seal_due_days(&self, target: Date, until: Instant) -> Result<(), JobError> {
        let last = patiently("read which days are sealed", until, || self.ledger.last_sealed()).await?;
        let days = due::days_to_seal(last, target);
        if days.is_empty() {
            let sealed = patiently("read the period", until, || self.ledger.sealed_period(target)).await?;
            return match (sealed, last) {
                (Some(_), _) | (None, None) => Ok(()),
                (None, Some(by)) => Err(JobError::Superseded { date: target, by }),
            };
        }
        self.wait_for_open_transactions(until).await?;
        for day in days {
            if self.stop.is_cancelled() {
                return Err(JobError::Stopped);
            }
            let now = (self.clock)();
            let cut = due::cut(&self.config.report, day, now)?;
            let zone = &self.config.report.time_zone_name;
            match patiently("seal the period", until, || self.ledger.seal(day, zone, cut, now)).await? {
                Sealed::Now(period) => {
                    tracing::info!(report.date = %day, report.cut = %period.upper.cut_at, "period sealed");
                }
                // Another run was quicker.
                Sealed::Before(_) => {}
                Sealed::Superseded { by } => return Err(JobError::Superseded { date: day, by }),
            }
        }
        Ok(())
    }

    /// Computes, renders and keeps every sealed report that has no content yet, oldest first.
    pub(crate) async fn compute_all(
        &self,
        target: Date,
        until: Instant,
        progress: &mut Progress,
    ) -> Result<(), JobError> {
        let open = patiently("read what is to be computed", until, || {
            self.ledger.uncomputed_reports(target)
        })
        .await?;
        for period in open {
            if self.stop.is_cancelled() {
                return Err(JobError::Stopped);
            }
            let (report, rendered) = self.make(&period, None, until, progress).await?;
            let content = content(&report, rendered)?;
            let (date, now) = (period.date, (self.clock)());
            patiently("keep the report", until, || {
                self.ledger.save_computed(date, content.clone(), now)
            })
            .await?;
            tracing::info!(
                report.date = %date,
                report.orders = report.totals.orders,
                report.filled = report.totals.filled,
                report.unknown = report.totals.unknown,
                "report computed"
            );
        }
        Ok(())
    }

    /// Reads the lines of a period and makes the report of them, with a notice at its head if there is one; keeps nothing.
    pub(crate) async fn make(
        &self,
        period: &ReportPeriod,
        notice: Option<&str>,
        until: Instant,
        progress: &mut Progress,
    ) -> Result<(DailyReport, Rendered), JobError> {
        let date = period.date;
        let began = Instant::now();
        let lines = patiently("read the orders of the period", until, || {
            self.ledger.period_lines(period)
        })
        .await?;
        let head = patiently("read the head of the chain", until, || self.ledger.chain_head()).await?;
        let mut report = compute(date, &period.time_zone, period.period(), lines)
            .map_err(|source| JobError::Compute { date, source })?;
        report.chain = head;
        progress.collect += began.elapsed();
        let began = Instant::now();
        let rendered = render(&report, notice).map_err(|detail| JobError::Render { date, detail })?;
        progress.render += began.elapsed();
        tracing::debug!(report.date = %date, render_ms = millis(began.elapsed()), "report rendered");
        Ok((report, rendered))
    }
}

pub(crate) fn content(report: &DailyReport, rendered: Rendered) -> Result<ReportContent, JobError> {
    let json = serde_json::to_string(report).map_err(|error| JobError::Render {
        date: report.date,
        detail: error.to_string(),
    })?;
    Ok(ReportContent {
        json,
        html: rendered.html,
        plain: rendered.plain,
    })
}
