//! What one replica does in the background for all: giving up orders that nobody settles any more, extending the hash
//! chain, and checking the whole ledger now and then. Each step can be repeated, and is right also when two replicas do it at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fuse_domain::{OrderStatus, Outcome, Reason};
use fuse_ledger::{Lead, Ledger, LedgerError, Order, Settle, Settled};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::audit::Auditor;
use crate::metrics::Metrics;
use crate::orders::unknown_answer;

/// Pause between two rounds, and between two tries to become the one.
const EVERY: Duration = Duration::from_secs(2);
/// Orders of one round.
const SWEPT_MAX: u16 = 500;

/// See the module.
pub struct Upkeep {
    /// Where orders are recorded.
    pub ledger: Ledger,
    /// Checks the ledger.
    pub auditor: Auditor,
    /// An order that is submitted for longer than this is nobody's any more.
    pub submitted_max: Duration,
    /// Pause between two checks of the whole ledger; zero: none are made.
    pub verify_every: Duration,
    /// Figures.
    pub metrics: Arc<Metrics>,
}

impl Upkeep {
    /// Does the upkeep, whenever no other replica does, until the stop.
    pub async fn run(self, until: CancellationToken) {
        let mut lead = None;
        let mut verified: Option<Instant> = None;
        let mut is_told = false;
        loop {
            tokio::select! {
                () = until.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            match self.round(&mut lead, &mut verified).await {
                Ok(()) => is_told = false,
                // Said once: the probes say that the database is away.
                Err(error) if !is_told => {
                    tracing::warn!(error = %error, "the upkeep of the ledger is interrupted; it is tried again");
                    is_told = true;
                }
                Err(_) => {}
            }
        }
    }

    async fn round(
        &self,
        lead: &mut Option<Lead>,
        verified: &mut Option<Instant>,
    ) -> Result<(), LedgerError> {
        let is_ours = match lead {
            Some(lead) => lead.holds().await,
            None => false,
        };
        if !is_ours {
            // Let go first: the lock goes with its connection.
            *lead = None;
            *lead = self.ledger.try_lead().await?;
        }
        if lead.is_none() {
            return Ok(());
        }
        self.sweep().await?;
        self.ledger.extend_chain(Timestamp::now()).await?;
        let is_due = verified.is_none_or(|at| at.elapsed() >= self.verify_every);
        if !self.verify_every.is_zero() && is_due {
            self.auditor.verify().await?;
            *verified = Some(Instant::now());
        }
        Ok(())
    }

    /// Whoever placed these orders died or lost its database for good: nobody knows what the vendor did.
    async fn sweep(&self) -> Result<(), LedgerError> {
        let now = Timestamp::now();
        let submitted_max = SignedDuration::try_from(self.submitted_max).unwrap_or(SignedDuration::MAX);
        let Ok(before) = now.checked_sub(submitted_max) else {
            return Ok(());
        };
        let stale = self.ledger.submitted_before(before, SWEPT_MAX).await?;
        let given_up = stale.into_iter().map(|order| self.give_up(order, now));
        futures::future::try_join_all(given_up).await.map(drop)
    }

    async fn give_up(&self, order: Order, now: Timestamp) -> Result<(), LedgerError> {
        let reason = Reason::Interrupted;
        let unknown = Order {
            status: OrderStatus::Unknown,
            reason: Some(reason),
            updated_at: now,
            ..order
        };
        let settle = Settle {
            order_id: unknown.id,
            user_id: unknown.user_id,
            outcome: Outcome::Unknown(reason),
            attempts: unknown.attempts.clone(),
            answer: unknown_answer(&unknown),
            at: now,
        };
        if let Settled::Now = self.ledger.settle(settle).await? {
            self.metrics.order(OrderStatus::Unknown, Some(reason));
            tracing::warn!(order.id = %unknown.id, user.id = %unknown.user_id, "an order was given up: nobody knows whether it was executed");
        }
        Ok(())
    }
}
