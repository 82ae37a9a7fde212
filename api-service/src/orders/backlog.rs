//! Outcomes that the database could not take yet: kept in this process and tried until it does.
//!
//! What is here is known for sure and must not be lost: a graceful stop waits for it, and what is left at the hard stop
//! goes to the log, complete. Settling is repeatable, so trying again after a lost answer is harmless.
//! Each outcome has a task of its own; there are never more than orders were in flight when the database went away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fuse_ledger::{Ledger, Order, Settle, Settled};
use fuse_platform::Shutdown;
use prometheus::IntGauge;
use rand::RngExt as _;

use crate::metrics::Metrics;

/// Most outcomes that wait before new orders are refused.
const WAITING_MAX: i64 = 10_000;

/// Pauses between tries; the tries of many outcomes are spread by jitter.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Keeps outcomes. Cheap to clone.
#[derive(Clone)]
pub struct Backlog {
    ledger: Ledger,
    shutdown: Shutdown,
    metrics: Arc<Metrics>,
}

impl Backlog {
    /// An empty backlog.
    #[must_use]
    pub fn new(ledger: Ledger, shutdown: Shutdown, metrics: Arc<Metrics>) -> Self {
        Self {
            ledger,
            shutdown,
            metrics,
        }
    }

    /// How many outcomes wait.
    #[must_use]
    pub fn waiting(&self) -> i64 {
        self.metrics.settlements_waiting.get()
    }

    /// Whether no more should be risked.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting() >= WAITING_MAX
    }

    /// What storing an outcome comes to; `None` when the hard stop cuts it off, and the outcome is in the log.
    pub async fn unless_cut_off<T>(&self, settle: &Settle, storing: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            stored = storing => Some(stored),
            () = self.shutdown.hard.cancelled() => {
                log_lost(settle);
                None
            }
        }
    }

    /// Stores an outcome as soon as the database allows. An order that is not there may still be on its way (its first write lost its answer
    /// and goes on in the server) for `appears_within`; after that it never was.
    pub fn keep(&self, settle: Settle, appears_within: Duration) {
        let gives_up_at = Instant::now() + appears_within;
        let waiting = Waiting::new(&self.metrics.settlements_waiting);
        let (ledger, shutdown) = (self.ledger.clone(), self.shutdown.clone());
        let metrics = Arc::clone(&self.metrics);
        self.shutdown.spawn(async move {
            let mut pause = PAUSE_MIN;
            loop {
                let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
                tokio::select! {
                    () = tokio::time::sleep(jittered) => {}
                    () = shutdown.hard.cancelled() => break log_lost(&settle),
                }
                let tried = tokio::select! {
                    tried = try_settle(&ledger, &settle, &metrics) => tried,
                    () = shutdown.hard.cancelled() => break log_lost(&settle),
                };
                match tried {
                    Try::Done => break,
                    Try::NotThere if Instant::now() >= gives_up_at => {
                        if appears_within.is_zero() {
                            // It was there once: a database that lost it must not take the outcome along unseen.
                            log_unstorable(&settle, "the order is not in the ledger");
                        } else {
                            tracing::info!(order.id = %settle.order_id, "a first write without an answer never happened");
                        }
                        break;
                    }
                    Try::NotThere | Try::Away => {}
                }
                pause = (pause * 2).min(PAUSE_MAX);
            }
            drop(waiting);
        });
    }
}

/// Counts one outcome as waiting until dropped.
struct Waiting(IntGauge);

impl Waiting {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What one try came to.
enum Try {
    /// No further try is needed.
    Done,
    /// There is no such order (yet).
    NotThere,
    /// The database is away.
    Away,
}

async fn try_settle(ledger: &Ledger, settle: &Settle, metrics: &Metrics) -> Try {
    match ledger.settle(settle.clone()).await {
        Ok(Settled::NotFound) => Try::NotThere,
        Ok(Settled::Before(found, _)) if contradicts(settle, &found) => {
            metrics.order_contradictions.inc();
            Try::Done
        }
        Ok(Settled::Now | Settled::Late(_) | Settled::Before(..)) => {
            tracing::info!(order.id = %settle.order_id, "a kept outcome is stored");
            Try::Done
        }
        Err(error) if error.retryable() => Try::Away,
        Err(error) => {
            log_unstorable(settle, &error.to_string());
            Try::Done
        }
    }
}

/// Whether the ledger holds another outcome than the one that is known; a resolution by hand may have been wrong. Said in the
/// log, for somebody must act.
pub fn contradicts(settle: &Settle, found: &Order) -> bool {
    let outcome = &settle.outcome;
    // Rejected and failed are one: certainly not bought. An order that is voided, as the answer to its first write was lost, may
    // turn out to have been rejected by it.
    let is_other = outcome.status().is_terminal() && outcome.fill().copied() != found.fill;
    if is_other {
        tracing::error!(
            order.id = %found.id,
            outcome = ?outcome,
            ledger.outcome = found.status.as_str(),
            "what is known of an order contradicts its recorded outcome"
        );
    }
    is_other
}

/// Somebody must act: the ledger refuses what the vendor did.
pub fn log_unstorable(settle: &Settle, error: &str) {
    tracing::error!(
        order.id = %settle.order_id,
        user.id = %settle.user_id,
        outcome = ?settle.outcome,
        error,
        "the outcome of an order cannot be stored"
    );
}

fn log_lost(settle: &Settle) {
    tracing::error!(
        order.id = %settle.order_id,
        user.id = %settle.user_id,
        outcome = ?settle.outcome,
        "stopped before the outcome of an order could be stored; unless it was, the order is submitted in the ledger or unknown"
    );
}

#[cfg(test)]
mod tests {
    use fuse_domain::{Fill, OrderRequest, OrderStatus, Outcome, Price, Quantity, Reason, Side, Symbol};
    use fuse_ledger::StoredAnswer;
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;

    fn fill(price: &str) -> Fill {
        let price = Price::parse(price).expect("a price");
        Fill::new(price, Quantity::parse("2").expect("a quantity")).expect("exact")
    }

    fn known(outcome: Outcome) -> Settle {
        Settle {
            order_id: Uuid::nil(),
            user_id: Uuid::nil(),
            outcome,
            attempts: serde_json::Value::Array(Vec::new()),
            answer: StoredAnswer {
                status: 201,
                body: String::new(),
            },
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn held(status: OrderStatus, fill: Option<Fill>) -> Order {
        Order {
            id: Uuid::nil(),
            user_id: Uuid::nil(),
            portfolio_id: Uuid::nil(),
            client_order_id: None,
            request: OrderRequest {
                symbol: Symbol::parse("AAPL").expect("a symbol"),
                side: Side::Buy,
                quantity: Quantity::parse("2").expect("a quantity"),
                limit_price: Price::parse("10").expect("a price"),
            },
            notional: None,
            status,
            reason: None,
            quote: None,
            fill,
            attempts: serde_json::Value::Array(Vec::new()),
            resolution: None,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn only_what_was_bought_otherwise_contradicts() {
        let failed = known(Outcome::Failed(Reason::VendorUnreachable));
        let filled = known(Outcome::Filled(fill("10")));
        let unknown = known(Outcome::Unknown(Reason::VendorTimeout));
        for (settle, found, expected) in [
            (&filled, held(OrderStatus::Filled, Some(fill("10"))), false),
            (&filled, held(OrderStatus::Filled, Some(fill("10.01"))), true),
            (&filled, held(OrderStatus::Failed, None), true),
            (&failed, held(OrderStatus::Filled, Some(fill("10"))), true),
            (&failed, held(OrderStatus::Failed, None), false),
            // The answer to its first write was lost, so it was voided; it had been rejected.
            (&failed, held(OrderStatus::Rejected, None), false),
            (&unknown, held(OrderStatus::Filled, Some(fill("10"))), false),
        ] {
            assert_eq!(contradicts(settle, &found), expected, "{settle:?} {found:?}");
        }
    }
}
