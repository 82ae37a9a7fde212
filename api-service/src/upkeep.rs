//! What one replica does in the background for all: giving up orders that nobody settles any more, extending the hash
//! chain, and checking the whole ledger now and then. Each step can be repeated, and is right also when two replicas do it at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fuse_domain::{OrderStatus, Outcome, Reason};
use fuse_ledger::{Lead, Ledger, LedgerError, Order, Settle, Settled};
use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::audit::Auditor;
use crate::metrics::Metrics;
use crate::orders::unknown_answer;

/// Pause between two rounds.
const EVERY: Duration = Duration::from_secs(2);
/// A replica that does not do it looks in so many rounds once whether nobody does.
const ROUNDS_BETWEEN_TRIES: u32 = 3;
/// Everything is checked for the first time so long after the start.
const FIRST_VERIFY_AFTER: Duration = Duration::from_secs(60);
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
        let mut tries = 0;
        let mut verifying = None;
        // When everything was last begun to be checked; before that, the start: the first check comes a minute later, not in
        // the middle of a rollout.
        let mut checked_at = Instant::now();
        let mut is_told = false;
        loop {
            tokio::select! {
                () = until.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            // What a round writes is carried out whether or not it is waited for.
            let round = tokio::select! {
                () = until.cancelled() => return,
                round = self.round(&mut lead, &mut tries) => round,
            };
            if lead.is_some() && self.is_due(checked_at, &verifying) {
                let auditor = self.auditor.clone();
                checked_at = Instant::now();
                // The auditor tells what it finds, and what hinders it.
                verifying = Some(tokio::spawn(async move { drop(auditor.verify().await) }));
            }
            match round {
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

    /// Whether everything should be checked (again).
    fn is_due(&self, last: Instant, verifying: &Option<JoinHandle<()>>) -> bool {
        let pause = match verifying {
            None => self.verify_every.min(FIRST_VERIFY_AFTER),
            Some(running) if !running.is_finished() => return false,
            Some(_) => self.verify_every,
        };
        !self.verify_every.is_zero() && last.elapsed() >= pause
    }

    async fn round(&self, lead: &mut Option<Lead>, tries: &mut u32) -> Result<(), LedgerError> {
        let is_ours = match lead {
            Some(lead) => lead.holds().await,
            None => false,
        };
        if !is_ours {
            // Let go first: the lock goes with its connection.
            *lead = None;
            *tries += 1;
            if *tries % ROUNDS_BETWEEN_TRIES != 1 {
                return Ok(());
            }
            *lead = self.ledger.try_lead().await?;
        }
        if lead.is_none() {
            return Ok(());
        }
        self.sweep().await?;
        self.ledger.extend_chain(Timestamp::now()).await?;
        self.ledger.observe_chain().await
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
        // Each by itself: one that the database refuses must not keep the others.
        for outcome in futures::future::join_all(given_up).await {
            if let Err(error) = outcome {
                tracing::warn!(error = %error, "an order could not be given up; it is tried again");
            }
        }
        Ok(())
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
