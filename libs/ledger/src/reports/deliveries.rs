//! Deliveries: one mail to one recipient, claimed before it is sent and marked after. A claim ends by itself, so
//! that a killed job's mail is sent by the next one, with the same Message-ID.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff_sqlx::ToSqlx as _;
use sqlx::postgres::PgRow;

use crate::error::corrupt;
use crate::{Ledger, LedgerError, row};

/// Characters of a transport's answer that are kept.
const DETAIL_CHARS_MAX: usize = 1000;

/// A mail that is going to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedDelivery {
    /// An address.
    pub recipient: String,
    /// The same for every try.
    pub message_id: String,
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// Not tried yet.
    Pending,
    /// Claimed by a job that is at it, or was killed.
    Sending,
    /// Accepted by the transport; final.
    Sent,
    /// Refused or not reachable; the next run tries again.
    Failed,
    /// Given up: its recipient gets no reports any more.
    Cancelled,
}

impl DeliveryState {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        [
            Self::Pending,
            Self::Sending,
            Self::Sent,
            Self::Failed,
            Self::Cancelled,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| format!("{text:?} is not a delivery state"))
    }
}

/// One delivery as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Of which report.
    pub date: Date,
    /// To whom.
    pub recipient: String,
    /// The same for every try.
    pub message_id: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Claims so far.
    pub attempts: i32,
    /// What the transport said last.
    pub detail: Option<String>,
    /// When it was accepted.
    pub sent_at: Option<Timestamp>,
}

/// The right to send one mail until the claim ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedDelivery {
    /// Of which report.
    pub date: Date,
    /// To whom.
    pub recipient: String,
    /// What to put into the mail.
    pub message_id: String,
    /// Which claim this is; a later one makes this one void.
    pub attempt: i32,
}

/// What became of [`Ledger::begin_delivery`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Send it now.
    Send(ClaimedDelivery),
    /// It was sent before.
    AlreadySent,
    /// Another job is at it, or was killed at it: ask again later.
    Busy,
    /// It was never planned.
    NotPlanned,
}

/// How a try ended.
#[derive(Debug, Clone)]
pub enum DeliveryResult {
    /// The transport took the mail; with what it said.
    Sent(String),
    /// It did not; with why.
    Failed(String),
}

const COLUMNS: &str = "report_date, recipient, message_id, state, attempts, detail, sent_at";

impl Ledger {
    /// Notes to whom a report is to be sent. Repeating it adds only recipients that are new.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict`, or `Refused` when the report is not sealed.
    pub async fn plan_deliveries(
        &self,
        date: Date,
        planned: &[PlannedDelivery],
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let recipients: Vec<String> = planned
            .iter()
            .map(|delivery| delivery.recipient.clone())
            .collect();
        let message_ids: Vec<String> = planned
            .iter()
            .map(|delivery| delivery.message_id.clone())
            .collect();
        let query = sqlx::query(
            "insert into report_deliveries (report_date, recipient, message_id, state, created_at, updated_at)
             select $1, recipient, message_id, 'pending', $4, $4
             from unnest($2::text[], $3::text[]) as planned (recipient, message_id)
             on conflict (report_date, recipient) do nothing",
        )
        .bind(date.to_sqlx())
        .bind(recipients)
        .bind(message_ids)
        .bind(row::at(now));
        self.write("plan_deliveries", query).await.map(drop)
    }

    /// Gives up what is open for anybody who is not among `recipients`; returns how many. What a job is at
    /// right now is left to it.
    ///
    /// # Errors
    /// `Unavailable` (repeat it) or `Conflict`.
    pub async fn cancel_deliveries_except(
        &self,
        recipients: &[String],
        now: Timestamp,
    ) -> Result<usize, LedgerError> {
        let query = sqlx::query(
            "update report_deliveries set state = 'cancelled', updated_at = $2, claimed_until = null
             where recipient <> all ($1::text[])
               and (state in ('pending', 'failed') or (state = 'sending' and claimed_until < now()))
             returning recipient",
        )
        .bind(recipients.to_vec())
        .bind(row::at(now));
        Ok(self.write("cancel_deliveries", query).await?.len())
    }

    /// What is not sent yet, of reports up to and including `until`, oldest report first.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`.
    pub async fn open_deliveries(&self, until: Date) -> Result<Vec<Delivery>, LedgerError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from report_deliveries
             where state not in ('sent', 'cancelled') and report_date <= $1
             order by report_date, recipient"
        ));
        let query = sqlx::query(sql).bind(until.to_sqlx());
        self.read("open_deliveries", query)
            .await?
            .iter()
            .map(delivery_from)
            .collect()
    }

    /// The deliveries of one report, by recipient.
    ///
    /// # Errors
    /// `Unavailable`, `Conflict` or `Corrupt`.
    pub async fn deliveries(&self, date: Date) -> Result<Vec<Delivery>, LedgerError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "select {COLUMNS} from report_deliveries where report_date = $1 order by recipient"
        ));
        let query = sqlx::query(sql).bind(date.to_sqlx());
        self.read("deliveries", query)
            .await?
            .iter()
            .map(delivery_from)
            .collect()
    }

    /// Claims a delivery for `lease`, which must be longer than one try may take. The database's clock counts.
    ///
    /// # Errors
    /// `Unavailable` (it may be claimed: it will end by itself) or `Conflict`.
    pub async fn begin_delivery(
        &self,
        date: Date,
        recipient: &str,
        lease: Duration,
    ) -> Result<Claim, LedgerError> {
        let query = sqlx::query(
            "update report_deliveries
             set state = 'sending', attempts = attempts + 1, updated_at = now(),
                 claimed_until = now() + make_interval(secs => $3)
             where report_date = $1 and recipient = $2
               and (state in ('pending', 'failed', 'cancelled') or (state = 'sending' and claimed_until < now()))
             returning message_id, attempts",
        )
        .bind(date.to_sqlx())
        .bind(recipient.to_owned())
        .bind(lease.as_secs_f64());
        if let Some(claimed) = self.write("begin_delivery", query).await?.first() {
            return Ok(Claim::Send(ClaimedDelivery {
                date,
                recipient: recipient.to_owned(),
                message_id: row::get(claimed, "message_id")?,
                attempt: row::get(claimed, "attempts")?,
            }));
        }
        let all = self.deliveries(date).await?;
        Ok(
            match all
                .iter()
                .find(|delivery| delivery.recipient == recipient)
                .map(|delivery| delivery.state)
            {
                Some(DeliveryState::Sent) => Claim::AlreadySent,
                Some(_) => Claim::Busy,
                None => Claim::NotPlanned,
            },
        )
    }

    /// Marks how a claimed try ended. `false` when the claim had been taken over by another job.
    ///
    /// # Errors
    /// `Unavailable` (repeat it) or `Conflict` (repeat it).
    pub async fn finish_delivery(
        &self,
        claimed: &ClaimedDelivery,
        transport: &'static str,
        result: DeliveryResult,
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        let (state, detail, sent_at) = match result {
            DeliveryResult::Sent(detail) => (DeliveryState::Sent, detail, Some(row::at(now))),
            DeliveryResult::Failed(detail) => (DeliveryState::Failed, detail, None),
        };
        let detail: String = detail
            .chars()
            .filter(|c| *c != '\0')
            .take(DETAIL_CHARS_MAX)
            .collect();
        let query = sqlx::query(
            "update report_deliveries
             set state = $4, detail = $5, transport = $6, sent_at = $7, updated_at = $8, claimed_until = null
             where report_date = $1 and recipient = $2 and attempts = $3 and state = 'sending'
             returning state",
        )
        .bind(claimed.date.to_sqlx())
        .bind(claimed.recipient.clone())
        .bind(claimed.attempt)
        .bind(state.as_str())
        .bind(detail)
        .bind(transport)
        .bind(sent_at)
        .bind(row::at(now));
        if !self.write("finish_delivery", query).await?.is_empty() {
            return Ok(true);
        }
        // A repeat after a lost answer finds its own mark.
        let all = self.deliveries(claimed.date).await?;
        Ok(all.iter().any(|delivery| {
            delivery.recipient == claimed.recipient
                && delivery.attempts == claimed.attempt
                && delivery.state == state
        }))
    }
}

fn delivery_from(found: &PgRow) -> Result<Delivery, LedgerError> {
    let attempts: i32 = row::get(found, "attempts")?;
    if attempts < 0 {
        return Err(corrupt("attempts", attempts));
    }
    Ok(Delivery {
        date: row::get::<jiff_sqlx::Date>(found, "report_date")?.to_jiff(),
        recipient: row::get(found, "recipient")?,
        message_id: row::get(found, "message_id")?,
        state: row::parsed(found, "state", DeliveryState::parse)?,
        attempts,
        detail: row::get(found, "detail")?,
        sent_at: row::optional_time(found, "sent_at")?,
    })
}
