//! The gate in front of one kind of vendor call: its circuit breaker and its retry budget, with
//! their metrics. Lists and buys have a gate each, so that one going bad does not close the other.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuse_domain::{Breaker, BreakerPolicy, BreakerState, Decision, Permit};
use jiff::Timestamp;

use super::metrics::{Op, VendorMetrics};

/// What one needed call adds to the budget, and what one retry takes: retries stay under 10 %.
const BUDGET_PER_CALL: u32 = 1;
const BUDGET_PER_RETRY: u32 = 10;
/// Ten retries may follow each other at once, as after a start.
const BUDGET_MAX: u32 = 100;

pub(super) struct Gate {
    op: Op,
    policy: BreakerPolicy,
    metrics: VendorMetrics,
    state: Mutex<State>,
}

struct State {
    breaker: Breaker,
    budget: u32,
}

impl Gate {
    pub(super) fn new(op: Op, policy: BreakerPolicy, metrics: VendorMetrics) -> Self {
        let state = State {
            breaker: Breaker::new(),
            budget: BUDGET_MAX,
        };
        metrics.breaker_is(op, state.breaker.state());
        metrics.budget_is(op, state.budget, BUDGET_MAX);
        Self {
            op,
            policy,
            metrics,
            state: Mutex::new(state),
        }
    }

    pub(super) fn breaker(&self) -> BreakerState {
        self.lock().breaker.state()
    }

    /// Asks for one call. `Err` says after which time it makes sense to ask again.
    pub(super) fn enter(&self) -> Result<Call<'_>, Duration> {
        let decision = self.step(|gate, breaker| {
            let (next, decision) = breaker.on_permit(&gate.policy, Timestamp::now());
            (next, decision)
        });
        match decision {
            Decision::Allow(permit) => Ok(Call {
                gate: self,
                permit: Some(permit),
            }),
            Decision::Refuse { retry_after } => Err(retry_after),
        }
    }

    /// A call that was needed, not a retry: pays into the budget.
    pub(super) fn pay_in(&self) {
        let mut state = self.lock();
        state.budget = (state.budget + BUDGET_PER_CALL).min(BUDGET_MAX);
        self.metrics.budget_is(self.op, state.budget, BUDGET_MAX);
    }

    /// Whether the budget allows a retry; if so it is taken and counted.
    pub(super) fn take_retry(&self) -> bool {
        let mut state = self.lock();
        let Some(left) = state.budget.checked_sub(BUDGET_PER_RETRY) else {
            return false;
        };
        state.budget = left;
        self.metrics.budget_is(self.op, left, BUDGET_MAX);
        self.metrics.retried(self.op);
        true
    }

    fn step<T>(&self, change: impl FnOnce(&Self, Breaker) -> (Breaker, T)) -> T {
        let mut state = self.lock();
        let before = state.breaker.state();
        let (next, answer) = change(self, state.breaker);
        state.breaker = next;
        let after = next.state();
        if before.as_str() != after.as_str() {
            self.metrics.breaker_moved(self.op, after);
            tracing::warn!(
                vendor.op = self.op.as_str(),
                breaker.from = before.as_str(),
                breaker.to = after.as_str(),
                "vendor breaker changed"
            );
        }
        answer
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held; if it ever does, the numbers are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One permitted call. Dropped without a result (cancelled), it frees its place as a probe.
pub(super) struct Call<'a> {
    gate: &'a Gate,
    permit: Option<Permit>,
}

impl Call<'_> {
    /// Reports whether the vendor did its work; a clear refusal is work done.
    pub(super) fn ended(mut self, vendor_is_well: bool) {
        self.gate.metrics.vendor_is(vendor_is_well);
        let Some(permit) = self.permit.take() else { return };
        self.gate.step(|gate, breaker| {
            let now = Timestamp::now();
            let next = if vendor_is_well {
                breaker.on_success(&gate.policy, permit, now)
            } else {
                breaker.on_failure(&gate.policy, permit, now, rand::random_range(0..=1_000))
            };
            (next, ())
        });
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.gate.step(|_, breaker| (breaker.on_abandoned(permit), ()));
        }
    }
}
