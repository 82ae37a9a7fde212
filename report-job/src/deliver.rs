//! Delivering: per recipient, claimed before and marked after, tried again with growing pauses until the run's
//! deadline. A mail that was marked sent is never sent again; one whose mark was lost (a kill between the
//! transport's "accepted" and the mark) is sent again with the same Message-ID.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use fuse_domain::DailyReport;
use fuse_ledger::{
    Claim, ClaimedDelivery, Delivery, DeliveryResult, PlannedDelivery, ReportContent, StoredReport,
};
use jiff::civil::Date;
use lettre::message::Mailbox;
use sha2::{Digest as _, Sha256};

use crate::JobError;
use crate::job::{Job, Progress};
use crate::mail::{Letter, SendError, Transport, mime};
use crate::patience::patiently;
use crate::render::subject;

/// A claim outlives the try by this, so that a slow mark is not taken for an abandoned claim.
const CLAIM_MARGIN: Duration = Duration::from_secs(30);
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What a try of one delivery came to.
enum Tried {
    Sent,
    /// Sent by another run, or to nobody any more.
    NotDue,
    /// Not taken now, or another run is at it.
    Again,
    /// Refused for good; only the next run asks again.
    Refused,
}

impl Job {
    /// Notes who is to get which report: before it is computed, so that a kill in between forgets nobody.
    pub(crate) async fn plan(&self, target: Date, until: Instant) -> Result<(), JobError> {
        let addresses: Vec<String> = self.config.recipients.iter().map(address).collect();
        let now = (self.clock)();
        let given_up = patiently("give up deliveries", until, || {
            self.ledger.cancel_deliveries_except(&addresses, now)
        })
        .await?;
        if given_up > 0 {
            tracing::warn!(
                mails = given_up,
                "mails to recipients that are no longer configured were given up"
            );
        }
        let open = patiently("read what is to be computed", until, || {
            self.ledger.uncomputed_reports(target)
        })
        .await?;
        let mut days: Vec<Date> = open.iter().map(|period| period.date).collect();
        if !days.contains(&target) {
            days.push(target);
        }
        for day in days {
            let Some(report) = patiently("read the report", until, || self.ledger.report(day)).await? else {
                continue;
            };
            let planned: Vec<PlannedDelivery> = addresses
                .iter()
                .map(|recipient| PlannedDelivery {
                    message_id: self.message_id(&report, recipient),
                    recipient: recipient.clone(),
                })
                .collect();
            patiently("plan the deliveries", until, || {
                self.ledger.plan_deliveries(day, &planned, now)
            })
            .await?;
        }
        Ok(())
    }

    /// Sends everything that is open, oldest report first, in rounds until all is sent or time is up.
    pub(crate) async fn deliver_all(
        &self,
        transport: &Transport,
        target: Date,
        until: Instant,
        progress: &mut Progress,
    ) -> Result<(), JobError> {
        let began = Instant::now();
        let mut open = patiently("read the deliveries", until, || {
            self.ledger.open_deliveries(target)
        })
        .await?;
        let due = u32::try_from(open.len()).unwrap_or(u32::MAX);
        let mut pauses = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(PAUSE_MIN)
            .with_max_delay(PAUSE_MAX)
            .without_max_times()
            .build();
        let mut refused = 0;
        loop {
            open = self.round(transport, open, until, progress, &mut refused).await?;
            let pause = pauses.next().unwrap_or(PAUSE_MAX);
            let is_over = Instant::now() + pause + self.config.send_timeout > until;
            if open.is_empty() || is_over || self.stop.is_cancelled() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => {}
            }
        }
        progress.send += began.elapsed();
        progress.mails_failed = refused + u32::try_from(open.len()).unwrap_or(u32::MAX);
        match progress.mails_failed {
            0 => Ok(()),
            failed => Err(JobError::Undelivered { failed, due }),
        }
    }

    /// Tries each open delivery once; returns those to be tried again.
    async fn round(
        &self,
        transport: &Transport,
        open: Vec<Delivery>,
        until: Instant,
        progress: &mut Progress,
        refused: &mut u32,
    ) -> Result<Vec<Delivery>, JobError> {
        // Open deliveries come sorted by day, so each report is read once.
        let mut read: Option<StoredReport> = None;
        let mut again = Vec::new();
        for delivery in open {
            if self.stop.is_cancelled() {
                again.push(delivery);
                continue;
            }
            let day = delivery.date;
            if read.as_ref().is_none_or(|report| report.period.date != day) {
                read = patiently("read the report", until, || self.ledger.report(day)).await?;
            }
            let Some(report) = &read else { continue };
            match self.try_one(transport, report, &delivery, until).await? {
                Tried::Sent => progress.mails_sent += 1,
                Tried::NotDue => {}
                Tried::Again => again.push(delivery),
                Tried::Refused => *refused += 1,
            }
        }
        Ok(again)
    }

    async fn try_one(
        &self,
        transport: &Transport,
        report: &StoredReport,
        delivery: &Delivery,
        until: Instant,
    ) -> Result<Tried, JobError> {
        let Some(content) = &report.content else {
            return Ok(Tried::Again);
        };
        let mail = self.letter(report, content, Some(delivery))?;
        let lease = self.config.send_timeout + CLAIM_MARGIN;
        let claim = patiently("claim a delivery", until, || {
            self.ledger
                .begin_delivery(delivery.date, &delivery.recipient, lease)
        });
        let claimed = match claim.await? {
            Claim::Send(claimed) => claimed,
            Claim::Busy => return Ok(Tried::Again),
            Claim::AlreadySent | Claim::NotPlanned => return Ok(Tried::NotDue),
        };
        let from = &self.config.from.email;
        let answer = tokio::time::timeout(
            self.config.send_timeout,
            transport.send(from, &claimed.recipient, &mail),
        );
        let answer = answer
            .await
            .unwrap_or_else(|_| Err(SendError::temporary("no answer in time")));
        self.mark(transport, &claimed, answer, until).await
    }

    async fn mark(
        &self,
        transport: &Transport,
        claimed: &ClaimedDelivery,
        answer: Result<String, SendError>,
        until: Instant,
    ) -> Result<Tried, JobError> {
        // Addresses stay out of the log.
        let masked = |text: &str| text.replace(&claimed.recipient, "<recipient>");
        let (tried, result) = match answer {
            Ok(said) => (Tried::Sent, DeliveryResult::Sent(masked(&said))),
            Err(error) => {
                let detail = masked(&error.detail);
                tracing::warn!(
                    report.date = %claimed.date, mail.transport = transport.name(), mail.attempt = claimed.attempt,
                    mail.permanent = error.permanent, error = detail, "mail not taken"
                );
                (
                    if error.permanent {
                        Tried::Refused
                    } else {
                        Tried::Again
                    },
                    DeliveryResult::Failed(detail),
                )
            }
        };
        // The mark matters more than the deadline: without it the mail would be sent again.
        let until = until.max(Instant::now() + CLAIM_MARGIN);
        let now = (self.clock)();
        let marked = patiently("mark a delivery", until, || {
            self.ledger
                .finish_delivery(claimed, transport.name(), result.clone(), now)
        });
        if !marked.await? {
            tracing::error!(report.date = %claimed.date, mail.attempt = claimed.attempt, "another run took over the delivery meanwhile");
        }
        if matches!(tried, Tried::Sent) {
            tracing::info!(
                report.date = %claimed.date, mail.transport = transport.name(), mail.attempt = claimed.attempt, "mail sent"
            );
        }
        Ok(tried)
    }

    /// The bytes of a mail: to the delivery's recipient, else (for a file) to the first configured one.
    pub(crate) fn letter(
        &self,
        report: &StoredReport,
        content: &ReportContent,
        delivery: Option<&Delivery>,
    ) -> Result<Vec<u8>, JobError> {
        let date = report.period.date;
        let failed = |detail: String| JobError::Render { date, detail };
        let computed: DailyReport =
            serde_json::from_str(&content.json).map_err(|error| failed(error.to_string()))?;
        let recipient = delivery.map(|delivery| delivery.recipient.as_str());
        let to = self.mailbox(recipient).map_err(failed)?;
        let message_id = match delivery {
            Some(delivery) => delivery.message_id.clone(),
            None => self.message_id(report, &address(&to)),
        };
        let letter = Letter {
            from: self.config.from.clone(),
            to,
            subject: subject(&computed),
            message_id,
            date: report.period.upper.cut_at,
            plain: content.plain.clone(),
            html: content.html.clone(),
        };
        mime(letter).map_err(failed)
    }

    fn mailbox(&self, recipient: Option<&str>) -> Result<Mailbox, String> {
        let configured = self.config.recipients.iter();
        match recipient {
            None => Ok(self
                .config
                .recipients
                .first()
                .unwrap_or(&self.config.from)
                .clone()),
            Some(text) => match configured.clone().find(|mailbox| address(mailbox) == text) {
                Some(mailbox) => Ok(mailbox.clone()),
                None => text
                    .parse()
                    .map_err(|error| format!("a recipient's address: {error}")),
            },
        }
    }

    /// The same for every try of one report to one recipient, and another for everything else.
    pub(crate) fn message_id(&self, report: &StoredReport, recipient: &str) -> String {
        let mut hash = Sha256::new();
        let date = report.period.date;
        for part in [
            date.to_string(),
            report.sealed_at.as_microsecond().to_string(),
            recipient.to_owned(),
        ] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let digest: String = hash
            .finalize()
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!(
            "<fuse-report-{date}-{digest}@{}>",
            self.config.from.email.domain()
        )
    }
}

fn address(mailbox: &Mailbox) -> String {
    mailbox.email.to_string()
}
