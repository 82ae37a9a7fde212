//! The write path of an order.
//!
//! Invariants: the order is committed as `submitted` before the vendor is called; the vendor is called at most once for it, and never for a
//! repeat, a rejection or an order that could not be committed; an outcome of the vendor is stored, or kept until it can be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fuse_domain::{OrderPolicy, OrderStatus, Outcome, QuoteUsed, Reason};
use fuse_ledger::{IdempotencyKey, Ledger, LedgerError, Order, Placed, Settle, Settled, SubmitOrder};
use fuse_market::{Buy, Market, VendorClient};
use fuse_platform::Shutdown;
use jiff::Timestamp;
use uuid::Uuid;

use super::answer::{Answer, kept_answer, outcome_answer};
use super::backlog::{Backlog, contradicts, log_unstorable};
use super::limits::KeyRules;
use super::new_order::NewOrder;
use super::refusals::Refusals;
use super::repeated::repeated;
use crate::http::RequestContext;
use crate::market_data::age_secs;
use crate::metrics::Metrics;
use crate::problem::{ApiError, Code, Problem};

/// Tries of write 2 while the client waits; it loses against a deadlock or a busy row at most this often.
const SETTLE_TRIES_MAX: u32 = 3;
/// Between two of them, when the connection broke.
const SETTLE_PAUSE: Duration = Duration::from_millis(100);
/// A database that is silent for longer is away: the client should not wait for more of that.
const SETTLE_AGAIN_WITHIN: Duration = Duration::from_secs(1);

/// An order as a client placed it, parsed.
#[derive(Clone, Debug)]
pub struct PlaceOrder {
    /// Its owner.
    pub user_id: Uuid,
    /// What is to be bought.
    pub order: NewOrder,
    /// Which key places it, and what it may.
    pub rules: KeyRules,
    /// The portfolio must be at this version.
    pub expected_version: Option<i64>,
    /// Makes a repeat a repeat.
    pub key: IdempotencyKey,
    /// Hash of what was asked for, which tells a repeat from another request under the same key.
    pub request_sha256: [u8; 32],
    /// For the documents that answer it.
    pub context: RequestContext,
}

/// Takes orders. Cheap to clone.
#[derive(Clone)]
pub struct OrderDesk {
    /// Where orders are recorded.
    pub ledger: Ledger,
    /// Where stocks are bought.
    pub vendor: VendorClient,
    /// What stocks cost.
    pub market: Market,
    /// What is allowed.
    pub policy: Arc<OrderPolicy>,
    /// Outcomes that wait for the database.
    pub backlog: Backlog,
    /// A call of the vendor that begins within this ends before the order is given up as unknown.
    pub send_within: Duration,
    /// After this a write that lost its answer is either done or was never begun.
    pub write_ends_within: Duration,
    /// A stop waits for the orders that are being placed.
    pub shutdown: Shutdown,
    /// Figures.
    pub metrics: Arc<Metrics>,
}

impl OrderDesk {
    /// Places an order, to its end, whether or not the client waits for it.
    pub async fn place(&self, order: PlaceOrder) -> Result<Answer, ApiError> {
        let desk = self.clone();
        let task = self.shutdown.spawn(async move { desk.run(order).await });
        task.await.unwrap_or_else(|error| Err(ApiError::internal(error)))
    }

    async fn run(&self, order: PlaceOrder) -> Result<Answer, ApiError> {
        let began = Instant::now();
        if self.backlog.is_full() {
            let detail = "Too many outcomes wait for the database, so this request bought nothing. Send it again later with the same Idempotency-Key.";
            return Err(ApiError::new(Code::DatabaseUnavailable, detail));
        }
        let id = Uuid::now_v7();
        let at = now();
        let checked = self.check(&order.order.request, &order.rules, at);
        self.metrics.order_phase("quote", began.elapsed());
        let refusals = Refusals::render(&order, checked.verdict.as_ref().err(), id, at);
        let committing = Instant::now();
        let placed = self
            .ledger
            .place(submit(id, at, &order, checked.quote, &refusals))
            .await;
        let placed = match placed {
            Ok(placed) => placed,
            Err(error) => return Err(self.not_placed(id, &order, &error)),
        };
        let first_write = committing.elapsed();
        match placed {
            Placed::New(new) if new.status == OrderStatus::Submitted => {
                self.metrics.order(OrderStatus::Submitted, None);
                Ok(self.buy(*new, &order.context, began, first_write).await)
            }
            Placed::New(new) => {
                self.metrics.order_phase("commit", first_write);
                self.metrics.order_phase("own", began.elapsed());
                self.rejected(&new, refusals)
            }
            other => repeated(other),
        }
    }

    /// The answer to an order that was written as rejected, by the rules or by the ledger: the one that was stored with it.
    fn rejected(&self, order: &Order, refusals: Refusals) -> Result<Answer, ApiError> {
        self.metrics.order(OrderStatus::Rejected, order.reason);
        if order.reason == Some(Reason::PortfolioChanged) {
            self.metrics.order_conflicts.inc();
        }
        let answer = order.reason.and_then(|reason| refusals.answer(reason));
        answer.ok_or_else(|| ApiError::internal("an order was rejected for a reason without an answer"))
    }

    /// Write 1 failed, so the vendor is not called.
    fn not_placed(&self, id: Uuid, order: &PlaceOrder, error: &LedgerError) -> ApiError {
        if !error.retryable() {
            return ApiError::internal(error);
        }
        let problem = Problem::new(
            Code::DatabaseUnavailable,
            "The database does not answer at the moment, so this request bought nothing. What became of an earlier request with this \
             Idempotency-Key cannot be seen now. Send it again with the same key; only if that answer says that it is a replay of this one, \
             use a new key.",
        );
        if error.may_be_written() {
            self.void(id, order, problem.clone());
        }
        ApiError::from(problem).because(error)
    }

    /// The answer of write 1 was lost, but the write may have happened: then the order must not stay submitted, for nobody will send it.
    fn void(&self, id: Uuid, order: &PlaceOrder, problem: Problem) {
        let answer = Answer::problem(problem, id, &order.context);
        let never_sent = Settle {
            order_id: id,
            user_id: order.user_id,
            outcome: Outcome::Failed(Reason::VendorUnreachable),
            attempts: serde_json::Value::Array(Vec::new()),
            answer: answer.stored,
            at: now(),
        };
        self.backlog.keep(never_sent, self.write_ends_within);
    }

    /// Calls the vendor once and stores what became of it.
    async fn buy(
        &self,
        order: Order,
        context: &RequestContext,
        began: Instant,
        first_write: Duration,
    ) -> Answer {
        let calling = Instant::now();
        let request = &order.request;
        let bought = if self.may_still_be_sent(&order, began) {
            self.vendor
                .buy(&request.symbol, request.limit_price, request.quantity)
                .await
        } else {
            // This process stood still: the order may have been given up, and somebody may have been told that it was
            // never executed.
            tracing::warn!(order.id = %order.id, "an order is too old to be sent");
            Buy::too_late(Timestamp::now())
        };
        // Our own checks passed it, so the likeliest cause is a price that moved since our quote.
        let is_fetching = bought.is_bad_request() && self.market.quote_refused();
        let vendor_time = calling.elapsed();
        self.metrics.order_phase("vendor", vendor_time);
        let storing = Instant::now();
        let answer = self.settle(order, bought, is_fetching, context).await;
        self.metrics
            .order_phase("commit", first_write + storing.elapsed());
        self.metrics
            .order_phase("own", began.elapsed().saturating_sub(vendor_time));
        answer
    }

    /// By both clocks: one stands still while a machine is suspended, the other may be set. Its quote must be fresh still.
    fn may_still_be_sent(&self, order: &Order, began: Instant) -> bool {
        let now = Timestamp::now();
        let is_young = age_secs(order.created_at, now) < self.send_within.as_secs().max(1);
        let is_fresh = order
            .quote
            .as_ref()
            .is_some_and(|quote| age_secs(quote.as_of, now) <= self.policy.max_quote_age_secs);
        began.elapsed() < self.send_within && is_young && is_fresh
    }

    async fn settle(&self, order: Order, bought: Buy, is_fetching: bool, context: &RequestContext) -> Answer {
        let at = now();
        let attempts = serde_json::to_value(&bought.attempts).unwrap_or_default();
        let settled = Order {
            status: bought.outcome.status(),
            reason: bought.outcome.reason(),
            fill: bought.outcome.fill().copied(),
            attempts: attempts.clone(),
            updated_at: at,
            ..order.clone()
        };
        let answer = outcome_answer(&bought, &settled, is_fetching, context);
        let mut settle = Settle {
            order_id: order.id,
            user_id: order.user_id,
            outcome: bought.outcome,
            attempts,
            answer: answer.stored.clone(),
            at,
        };
        let reason = settled.reason;
        let storing = self.store(&settle);
        let Some(stored) = self.backlog.unless_cut_off(&settle, storing).await else {
            return kept_answer(&order);
        };
        match stored {
            Ok(Settled::Now) => {
                self.metrics.order(settled.status, reason);
                answer
            }
            // Its first answer was given when it was given up, and stays; whoever reads the order sees the outcome.
            Ok(Settled::Late(first)) => {
                tracing::warn!(order.id = %order.id, outcome = settled.status.as_str(), "the vendor's answer came after the order had been given up");
                self.metrics.order(settled.status, reason);
                Answer::first(first)
            }
            Ok(Settled::Before(found, first)) => {
                if contradicts(&settle, &found) {
                    self.metrics.order_contradictions.inc();
                }
                Answer::first(first)
            }
            Ok(Settled::NotFound) => {
                log_unstorable(&settle, "the order is not in the ledger");
                kept_answer(&order)
            }
            Err(error) => {
                // The client gets what is known now. If the outcome was stored and only its answer lost, a repeat gets the outcome.
                let kept = kept_answer(&order);
                if error.retryable() {
                    settle.answer = kept.stored.clone();
                    tracing::warn!(order.id = %order.id, error = %error, "the outcome of an order is kept until the database takes it");
                    self.metrics.order(settled.status, reason);
                    self.backlog.keep(settle, Duration::ZERO);
                } else {
                    log_unstorable(&settle, &error.to_string());
                }
                kept
            }
        }
    }

    async fn store(&self, settle: &Settle) -> Result<Settled, LedgerError> {
        let began = Instant::now();
        let mut tries = 1;
        loop {
            match self.ledger.settle(settle.clone()).await {
                Err(LedgerError::Conflict(_)) if tries < SETTLE_TRIES_MAX => tries += 1,
                // It may have been stored with its answer lost: then asking again brings the answer that was stored.
                Err(error)
                    if error.may_be_written()
                        && tries < SETTLE_TRIES_MAX
                        && began.elapsed() < SETTLE_AGAIN_WITHIN =>
                {
                    tries += 1;
                    tokio::time::sleep(SETTLE_PAUSE).await;
                }
                settled => return settled,
            }
        }
    }
}

/// Now, as exact as the ledger keeps it, so that an answer and a later read agree.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

fn submit(
    id: Uuid,
    at: Timestamp,
    order: &PlaceOrder,
    quote: Option<QuoteUsed>,
    refusals: &Refusals,
) -> SubmitOrder {
    SubmitOrder {
        id,
        user_id: order.user_id,
        portfolio_id: order.order.portfolio_id,
        key: order.key.clone(),
        request_sha256: order.request_sha256,
        request: order.order.request.clone(),
        client_order_id: order.order.client_order_id.clone(),
        notional: order.order.notional,
        key_id: order.rules.key_id,
        expected: refusals.expected(),
        daily: refusals.daily(),
        quote,
        decision: refusals.decision(),
        at,
    }
}
