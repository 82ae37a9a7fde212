//! Write 2: what the vendor's answer made of an order.

use fuse_domain::{Fill, OrderStatus, Outcome, Reason};
use jiff::Timestamp;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::writer::{Batched, Outcomes, all};
use super::{Order, Resolution, StoredAnswer};
use crate::pool::PgQuery;
use crate::{Ledger, LedgerError, row};

/// The end of an attempt.
#[derive(Debug, Clone)]
pub struct Settle {
    /// Which order.
    pub order_id: Uuid,
    /// Its owner.
    pub user_id: Uuid,
    /// What became of it.
    pub outcome: Outcome,
    /// One record per call of the vendor, as a JSON array.
    pub attempts: serde_json::Value,
    /// What the client is told, for every repeat.
    pub answer: StoredAnswer,
    /// Now.
    pub at: Timestamp,
}

/// What became of [`Ledger::settle`].
#[derive(Debug, Clone, PartialEq)]
pub enum Settled {
    /// Settled, and by this call.
    Now,
    /// The order had been given up as unknown, with this answer; the outcome is now recorded as its resolution.
    Late(StoredAnswer),
    /// It was settled before: nothing was changed, and this answer was given.
    Before(Box<Order>, StoredAnswer),
    /// The user has no such order.
    NotFound,
}

/// What `settle_orders` is told of one order.
pub(crate) struct Change {
    pub user_id: Uuid,
    pub order_id: Uuid,
    pub status: OrderStatus,
    pub reason: Option<Reason>,
    pub fill: Option<Fill>,
    pub attempts: serde_json::Value,
    /// Of an outcome; an unknown order was answered before.
    pub answer: Option<StoredAnswer>,
    pub at: Timestamp,
    /// Changes an unknown order and no other.
    pub is_resolution: bool,
    /// Recorded when the order was unknown.
    pub told: Resolution,
}

/// How a [`Change`] found its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changed {
    /// It was submitted.
    Settled,
    /// It was unknown.
    Resolved,
    /// Nothing was changed: it is not there, or not in a state that may change so.
    Not,
}

impl Ledger {
    /// Makes a submitted order filled, failed or unknown: the order, its holding, its portfolio's version and
    /// its event, all or nothing. An order that was given up as unknown meanwhile is resolved by what the vendor said.
    /// Repeating it, also with another outcome, changes nothing.
    ///
    /// # Errors
    /// `Busy` (it was not written), `Unavailable` (it may have been written: repeat it), `Conflict` (repeat it), or
    /// `Refused`.
    pub async fn settle(&self, settle: Settle) -> Result<Settled, LedgerError> {
        let (user_id, order_id) = (settle.user_id, settle.order_id);
        let is_known = settle.outcome.status().is_terminal();
        let changed = self.settles.write(settle.into()).await?;
        if changed == Changed::Settled {
            return Ok(Settled::Now);
        }
        let Some((order, answer)) = self.order_and_answer(user_id, order_id).await? else {
            return Ok(Settled::NotFound);
        };
        // Still submitted: its first write was committed between our two statements.
        let answer = answer.ok_or(LedgerError::Conflict(sqlx::Error::RowNotFound))?;
        if changed == Changed::Not && order.status == OrderStatus::Unknown && is_known {
            // It was given up by the very statement that should have settled it: a next one resolves it.
            return Err(LedgerError::Conflict(sqlx::Error::RowNotFound));
        }
        Ok(match changed {
            Changed::Resolved => Settled::Late(answer),
            _ => Settled::Before(Box::new(order), answer),
        })
    }
}

impl From<Settle> for Change {
    fn from(settle: Settle) -> Self {
        Self {
            user_id: settle.user_id,
            order_id: settle.order_id,
            status: settle.outcome.status(),
            reason: settle.outcome.reason(),
            fill: settle.outcome.fill().copied(),
            attempts: settle.attempts,
            answer: Some(settle.answer),
            at: settle.at,
            is_resolution: false,
            told: Resolution {
                actor: "service".to_owned(),
                note: "The outcome became known after the order had been given up as unknown.".to_owned(),
            },
        }
    }
}

impl Batched for Change {
    type Outcome = Changed;
    const NAME: &'static str = "settle";

    fn query(batch: &[&Self]) -> PgQuery<'static> {
        sqlx::query("select * from settle_orders($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)")
            .bind(all(batch, |change| change.user_id))
            .bind(all(batch, |change| change.order_id))
            .bind(all(batch, |change| change.status.as_str()))
            .bind(all(batch, |change| change.reason.map(Reason::as_str)))
            .bind(all(batch, |change| {
                change.fill.map(|fill| fill.price.to_string())
            }))
            .bind(all(batch, |change| {
                change.fill.map(|fill| fill.quantity.to_string())
            }))
            .bind(all(batch, |change| change.attempts.to_string()))
            .bind(all(batch, |change| {
                change.answer.as_ref().map(StoredAnswer::status_column)
            }))
            .bind(all(batch, |change| {
                change.answer.as_ref().map(|answer| answer.body.clone())
            }))
            .bind(all(batch, |change| row::at(change.at)))
            .bind(all(batch, |change| change.is_resolution))
            .bind(all(batch, |change| change.told.actor.clone()))
            .bind(all(batch, |change| change.told.note.clone()))
    }

    fn outcomes(batch: &[&Self], rows: &[PgRow]) -> Outcomes<Self> {
        let mut outcomes: Outcomes<Self> = batch.iter().map(|_| Ok(Changed::Not)).collect();
        for found in rows {
            let place = row::get::<i32>(found, "place").ok();
            let index = place.and_then(|place| usize::try_from(place - 1).ok());
            if let Some(outcome) = index.and_then(|index| outcomes.get_mut(index)) {
                *outcome = row::get(found, "was_unknown").map(|was_unknown| match was_unknown {
                    true => Changed::Resolved,
                    false => Changed::Settled,
                });
            }
        }
        outcomes
    }
}
