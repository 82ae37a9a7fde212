//! What a run would do, without doing any of it.

use std::time::Instant;

use fuse_domain::DailyReport;
use fuse_ledger::{Bounds, DeliveryState, ReportPeriod, StoredReport};
use fuse_platform::BoxError;
use jiff::Timestamp;
use jiff::civil::Date;

use crate::config::Args;
use crate::job::{Job, Progress};
use crate::patience::patiently;
use crate::render::Rendered;
use crate::{JobError, collect, due, output};

impl Job {
    /// Computes the reports that a run would make now, prints them and what would be sent, and writes the files
    /// of `--out`. The ledger and the mail server are left as they are.
    ///
    /// # Errors
    /// As for [`Job::run`].
    pub async fn dry_run(&self, args: &Args) -> Result<(), BoxError> {
        let now = (self.clock)();
        let until = Instant::now() + self.config.run_deadline;
        let target = due::target(&self.config.report, args.date, now)?;
        if self.is_interim(args.date, target, until).await? {
            let Some(interim) = self.make_interim(until).await? else {
                println!("Nothing is due, and everything is reported.");
                return Ok(());
            };
            println!(
                "Nothing is due: an interim report would be mailed to {} recipients; the day stays open.\n\n{}",
                self.config.recipients.len(),
                interim.rendered.plain
            );
            self.write_interim(args, &interim)?;
            return Ok(());
        }
        let last = patiently("read which days are sealed", until, || self.ledger.last_sealed()).await?;
        let mut periods = self
            .periods_ahead(due::days_to_seal(last, target), now, until)
            .await?;
        if periods.is_empty() {
            periods.push(self.sealed(target, last, until).await?);
        }
        let mut made = None;
        for (period, is_sealed) in periods {
            let (report, rendered) = self.make(&period, None, until, &mut Progress::default()).await?;
            println!("{}", plan_line(&report, is_sealed));
            made = Some((period, report, rendered));
        }
        println!("{}", self.mail_line(target, until).await?);
        if let Some((period, report, rendered)) = made {
            println!("\n{}", rendered.plain);
            self.write_dry(args, period, &report, rendered, now)?;
        }
        Ok(())
    }

    /// The periods that sealing these days would make, one continuing the other.
    async fn periods_ahead(
        &self,
        days: Vec<Date>,
        now: Timestamp,
        until: Instant,
    ) -> Result<Vec<(ReportPeriod, bool)>, JobError> {
        let mut periods: Vec<(ReportPeriod, bool)> = Vec::new();
        let zone = &self.config.report.time_zone_name;
        if !days.is_empty() {
            self.wait_for_open_transactions(until).await?;
        }
        for day in days {
            let cut = due::cut(&self.config.report, day, now)?;
            let period = match periods.last() {
                None => {
                    let preview = patiently("read the period", until, || {
                        self.ledger.preview_period(day, zone, cut)
                    });
                    let Some(period) = preview.await? else { break };
                    period
                }
                Some((before, _)) => ReportPeriod {
                    date: day,
                    time_zone: zone.clone(),
                    upper: Bounds {
                        cut_at: cut.max(before.upper.cut_at),
                        ..before.upper
                    },
                    previous: Some(before.upper),
                },
            };
            periods.push((period, false));
        }
        Ok(periods)
    }

    async fn sealed(
        &self,
        target: Date,
        last: Option<Date>,
        until: Instant,
    ) -> Result<(ReportPeriod, bool), JobError> {
        match patiently("read the period", until, || self.ledger.sealed_period(target)).await? {
            Some(period) => Ok((period, true)),
            None => Err(JobError::Superseded {
                date: target,
                by: last.unwrap_or(target),
            }),
        }
    }

    async fn mail_line(&self, target: Date, until: Instant) -> Result<String, JobError> {
        let known = patiently("read the deliveries", until, || self.ledger.deliveries(target)).await?;
        let sent = known
            .iter()
            .filter(|delivery| delivery.state == DeliveryState::Sent)
            .count();
        let is_sent = |recipient: &str| {
            known
                .iter()
                .any(|delivery| delivery.recipient == recipient && delivery.state == DeliveryState::Sent)
        };
        let recipients = self.config.recipients.iter();
        let due = recipients
            .filter(|recipient| !is_sent(recipient.email.as_ref()))
            .count();
        Ok(format!(
            "{target}: {sent} mails are sent already, {due} would be sent."
        ))
    }

    fn write_dry(
        &self,
        args: &Args,
        period: ReportPeriod,
        report: &DailyReport,
        rendered: Rendered,
        now: Timestamp,
    ) -> Result<(), JobError> {
        let Some(folder) = &args.out else { return Ok(()) };
        let content = collect::content(report, rendered)?;
        let stored = StoredReport {
            period,
            sealed_at: now,
            content: None,
        };
        let mail = self.letter(&stored, &content, None)?;
        output::write(folder, &content, &mail)
    }
}

fn plan_line(report: &DailyReport, is_sealed: bool) -> String {
    let verb = if is_sealed { "is sealed" } else { "would be sealed" };
    let totals = &report.totals;
    format!(
        "{}: {verb} up to {} with {} orders ({} filled, {} rejected, {} failed, {} unknown).",
        report.date,
        report.period.to,
        totals.orders,
        totals.filled,
        totals.rejected,
        totals.failed,
        totals.unknown
    )
}
