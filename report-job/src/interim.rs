//! A run by hand in the middle of the day. Nothing is due then, so it mails what has happened since the last report and
//! leaves the day open: nothing is sealed or kept, and the day's own report holds the same orders again. Such a mail is
//! no delivery of a report; a run that is repeated sends it again.

use std::time::Instant;

use fuse_domain::DailyReport;
use fuse_ledger::StoredReport;
use jiff::civil::Date;
use lettre::message::Mailbox;

use crate::job::{Job, Progress};
use crate::mail::{Letter, SendError, Transport, mime};
use crate::patience::patiently;
use crate::render::{Rendered, subject};
use crate::{Args, JobError, collect, due, output};

const NOTICE: &str =
    "INTERIM: the day is still open. Its own report, at the usual time, holds these orders too.";

/// A report that is mailed and not kept.
pub(crate) struct Interim {
    pub(crate) report: DailyReport,
    pub(crate) rendered: Rendered,
    subject: String,
    stored: StoredReport,
}

impl Job {
    /// Whether this run was started by hand while there is nothing to seal, to compute or to send.
    pub(crate) async fn is_interim(
        &self,
        asked: Option<Date>,
        target: Date,
        until: Instant,
    ) -> Result<bool, JobError> {
        let now = (self.clock)();
        if asked.is_some() || !self.config.interim || !due::is_off_schedule(&self.config.report, target, now)?
        {
            return Ok(false);
        }
        let last = patiently("read which days are sealed", until, || self.ledger.last_sealed()).await?;
        match last {
            Some(last) if last < target => Ok(false),
            Some(_) => {
                let uncomputed = patiently("read what is to be computed", until, || {
                    self.ledger.uncomputed_reports(target)
                });
                let unsent = patiently("read the deliveries", until, || {
                    self.ledger.open_deliveries(target)
                });
                Ok(uncomputed.await?.is_empty() && unsent.await?.is_empty())
            }
            // A service that is younger than the last cut has no report of that day.
            None => {
                let cut = due::cut(&self.config.report, target, now)?;
                let zone = &self.config.report.time_zone_name;
                let period = patiently("read the period", until, || {
                    self.ledger.preview_period(target, zone, cut)
                });
                let Some(period) = period.await? else {
                    return Ok(true);
                };
                let lines = patiently("read the orders of the period", until, || {
                    self.ledger.period_lines(&period)
                });
                Ok(lines.await?.is_empty())
            }
        }
    }

    /// What has happened since the last report, as a report that nobody keeps; `None` when another run reported it meanwhile.
    pub(crate) async fn make_interim(&self, until: Instant) -> Result<Option<Interim>, JobError> {
        self.wait_for_open_transactions(until).await?;
        let now = (self.clock)();
        let today = now.to_zoned(self.config.report.time_zone.clone()).date();
        let last = patiently("read which days are sealed", until, || self.ledger.last_sealed()).await?;
        // A day that is cut in the morning is sealed by noon; what follows belongs to the next one.
        let date = match last {
            Some(last) if last >= today => last.tomorrow().unwrap_or(last),
            _ => today,
        };
        let zone = &self.config.report.time_zone_name;
        let period = patiently("read the period", until, || {
            self.ledger.preview_period(date, zone, now)
        });
        let Some(period) = period.await? else {
            return Ok(None);
        };
        let (report, rendered) = self
            .make(&period, Some(NOTICE), until, &mut Progress::default())
            .await?;
        let subject = format!("Interim: {}", subject(&report));
        let stored = StoredReport {
            period,
            sealed_at: now,
            content: None,
        };
        Ok(Some(Interim {
            report,
            rendered,
            subject,
            stored,
        }))
    }

    /// Mails what has happened since the last report, once to each recipient, and writes the files of `--out`.
    pub(crate) async fn send_interim(
        &self,
        args: &Args,
        transport: Option<&Transport>,
        until: Instant,
    ) -> Result<(), JobError> {
        let Some(interim) = self.make_interim(until).await? else {
            tracing::info!("nothing is due, and another run has just reported the rest");
            return Ok(());
        };
        self.write_interim(args, &interim)?;
        let Some(transport) = transport else {
            tracing::warn!("nothing is due, and nobody is configured to get an interim report by mail");
            return Ok(());
        };
        let (mut sent, mut failed) = (0_u32, 0_u32);
        for recipient in &self.config.recipients {
            if self.stop.is_cancelled() || Instant::now() > until {
                break;
            }
            match self.send_one_interim(transport, &interim, recipient).await? {
                true => sent += 1,
                false => failed += 1,
            }
        }
        tracing::info!(
            report.date = %interim.report.date,
            report.orders = interim.report.totals.orders,
            mails.sent = sent,
            mails.failed = failed,
            "nothing was due: interim report mailed, the day stays open"
        );
        // A Job that is tried again would mail the others once more.
        if sent == 0 && failed > 0 {
            return Err(JobError::InterimUndelivered { failed });
        }
        Ok(())
    }

    /// The files of `--out`, if it was asked for.
    pub(crate) fn write_interim(&self, args: &Args, interim: &Interim) -> Result<(), JobError> {
        let Some(folder) = &args.out else { return Ok(()) };
        let content = collect::content(&interim.report, interim.rendered.clone())?;
        let to = self.config.recipients.first().unwrap_or(&self.config.from);
        output::write(folder, &content, &self.interim_mail(interim, to)?)
    }

    fn interim_mail(&self, interim: &Interim, to: &Mailbox) -> Result<Vec<u8>, JobError> {
        let letter = Letter {
            from: self.config.from.clone(),
            to: to.clone(),
            subject: interim.subject.clone(),
            message_id: self.message_id(&interim.stored, to.email.as_ref()),
            date: interim.stored.sealed_at,
            plain: interim.rendered.plain.clone(),
            html: interim.rendered.html.clone(),
        };
        mime(letter).map_err(|detail| JobError::Render {
            date: interim.report.date,
            detail,
        })
    }

    /// Whether the transport took it.
    async fn send_one_interim(
        &self,
        transport: &Transport,
        interim: &Interim,
        recipient: &Mailbox,
    ) -> Result<bool, JobError> {
        let address = recipient.email.to_string();
        let mail = self.interim_mail(interim, recipient)?;
        let answer = transport.send(&self.config.from.email, &address, &mail);
        let answer = tokio::time::timeout(self.config.send_timeout, answer)
            .await
            .unwrap_or_else(|_| Err(SendError::temporary("no answer in time")));
        if let Err(error) = &answer {
            // Addresses stay out of the log.
            let detail = error.detail.replace(&address, "<recipient>");
            tracing::warn!(
                mail.transport = transport.name(),
                error = detail,
                "interim mail not taken"
            );
        }
        Ok(answer.is_ok())
    }
}
