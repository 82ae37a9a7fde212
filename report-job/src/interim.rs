//! A run by hand in the middle of the day. Nothing is due then, so it mails what has happened since the last report and
//! leaves the day open: nothing is sealed or kept, and the day's own report holds the same orders again. Such a mail is
//! no delivery of a report; a run that is repeated sends it again.

use std::time::Instant;

use fuse_ledger::StoredReport;
use jiff::civil::Date;
use lettre::message::Mailbox;

use crate::job::{Job, Progress};
use crate::mail::{Letter, SendError, Transport, mime};
use crate::patience::patiently;
use crate::render::{Rendered, subject};
use crate::{JobError, due};

const NOTICE: &str =
    "INTERIM: the day is still open. Its own report, at the usual time, holds these orders too.";

impl Job {
    /// Whether this run was started by hand while there is nothing to seal, to compute or to send.
    pub(crate) async fn is_interim(
        &self,
        asked: Option<Date>,
        target: Date,
        until: Instant,
    ) -> Result<bool, JobError> {
        let now = (self.clock)();
        if asked.is_some() || !due::is_off_schedule(&self.config.report, target, now)? {
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

    /// Mails what has happened since the last report, once to each recipient.
    pub(crate) async fn send_interim(
        &self,
        transport: Option<&Transport>,
        until: Instant,
    ) -> Result<(), JobError> {
        let Some(transport) = transport else {
            tracing::warn!("nothing is due, and nobody is configured to get an interim report by mail");
            return Ok(());
        };
        self.wait_for_open_transactions(until).await?;
        let now = (self.clock)();
        let date = now.to_zoned(self.config.report.time_zone.clone()).date();
        let zone = &self.config.report.time_zone_name;
        let period = patiently("read the period", until, || {
            self.ledger.preview_period(date, zone, now)
        });
        let Some(period) = period.await? else {
            tracing::info!(report.date = %date, "the day is reported already");
            return Ok(());
        };
        let (report, rendered) = self
            .make(&period, Some(NOTICE), until, &mut Progress::default())
            .await?;
        let subject = format!("Interim: {}", subject(&report));
        let interim = StoredReport {
            period,
            sealed_at: now,
            content: None,
        };
        let mut failed = 0;
        for recipient in &self.config.recipients {
            if !self
                .send_one_interim(transport, &interim, &subject, &rendered, recipient)
                .await?
            {
                failed += 1;
            }
        }
        let due = u32::try_from(self.config.recipients.len()).unwrap_or(u32::MAX);
        tracing::info!(
            report.date = %date,
            report.orders = report.totals.orders,
            mails.sent = due - failed,
            mails.failed = failed,
            "nothing was due: interim report mailed, the day stays open"
        );
        if failed > 0 {
            Err(JobError::InterimUndelivered { failed, due })
        } else {
            Ok(())
        }
    }

    /// Whether the transport took it.
    async fn send_one_interim(
        &self,
        transport: &Transport,
        interim: &StoredReport,
        subject: &str,
        rendered: &Rendered,
        recipient: &Mailbox,
    ) -> Result<bool, JobError> {
        let address = recipient.email.to_string();
        let letter = Letter {
            from: self.config.from.clone(),
            to: recipient.clone(),
            subject: subject.to_owned(),
            message_id: self.message_id(interim, &address),
            date: interim.sealed_at,
            plain: rendered.plain.clone(),
            html: rendered.html.clone(),
        };
        let mail = mime(letter).map_err(|detail| JobError::Render {
            date: interim.period.date,
            detail,
        })?;
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
