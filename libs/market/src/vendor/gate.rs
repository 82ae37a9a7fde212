//! The gate in front of one kind of vendor call: its circuit breaker and its retry budget, with
//! their metrics. Lists and buys have a gate each, so that one going bad does not close the other.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuse_domain::{Breaker, BreakerPolicy, BreakerState, Decision, Permit};
use jiff::Timestamp;

use super::metrics::{Op, VendorMetrics};

/// What one needed call adds to the budget, and what one retry takes: one retry for eleven calls, so that over a long
/// run the first ten below fit into a tenth as well.
const BUDGET_PER_CALL: u32 = 1;
const BUDGET_PER_RETRY: u32 = 11;
/// Ten retries may follow each other at once, as after a start.
const BUDGET_MAX: u32 = 10 * BUDGET_PER_RETRY;
/// A vendor that flaps for long is asked by probes at least a minute apart, so that the breaker moves at most twice a minute.
const OPEN_FOR_MAX: Duration = Duration::from_secs(120);

/// The breakers' policy, for lists and for buys.
pub(super) fn policy() -> BreakerPolicy {
    BreakerPolicy {
        open_for_max: OPEN_FOR_MAX,
        ..BreakerPolicy::default()
    }
}

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
        self.enter_at(Timestamp::now())
    }

    fn enter_at(&self, now: Timestamp) -> Result<Call<'_>, Duration> {
        let decision = self.step(|gate, breaker| breaker.on_permit(&gate.policy, now));
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
    pub(super) fn ended(self, vendor_is_well: bool) {
        self.ended_at(vendor_is_well, Timestamp::now());
    }

    fn ended_at(mut self, vendor_is_well: bool, now: Timestamp) {
        self.gate.metrics.vendor_is(vendor_is_well);
        let Some(permit) = self.permit.take() else { return };
        self.gate.step(|gate, breaker| {
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

#[cfg(test)]
mod tests {
    //! Hours with a flapping vendor (reliability test T02) and with a silent one (T01), by a clock that the test holds.

    use fuse_platform::Metrics;
    use jiff::SignedDuration;

    use super::*;

    const START: &str = "2026-01-02T12:00:00Z";
    const HOURS: i64 = 24;
    const PAGES: u32 = 10;
    const PAGE_ATTEMPTS_MAX: u32 = 4;
    const HOUR_MS: i64 = 3_600_000;
    /// A vendor that works, or fails at once.
    const QUICK_MS: i64 = 20;
    /// A vendor that never answers is given up on after this, as configured by default.
    const DEADLINE_MS: i64 = 10_000;
    /// Five failures open the breaker. Then there is one probe after each open time, of which a half at least is waited:
    /// 0.5, 1, 2, 4, 8, 16 and 32 seconds, 63.5 in all, and 60 seconds from then on. So an hour has room for 7 probes
    /// and for 58 more ((3,600 - 63.5) / 60). That a call takes its time makes them fewer.
    const SILENT_HOUR_CALLS_MAX: u64 = 5 + 7 + 58;
    /// Nor is the vendor given up: it is asked once in 135 seconds at least, which are the longest open time, the probe's
    /// deadline, and the caller's own rest of five seconds.
    const SILENT_HOUR_CALLS_MIN: u64 = 3_600 / 135;

    /// Whether a call fails that is made so many milliseconds after the start.
    type Mood = fn(i64) -> bool;

    fn every_other_call(_: i64) -> bool {
        rand::random_range(0..2) == 0
    }

    fn ten_seconds_on_and_off(at_ms: i64) -> bool {
        at_ms / 10_000 % 2 == 0
    }

    fn never_answers(_: i64) -> bool {
        true
    }

    #[derive(Default)]
    struct Run {
        at_ms: i64,
        /// What a call takes.
        call_ms: i64,
        needed: u64,
        calls: u64,
        /// Changes of the breaker's state.
        moves: usize,
    }

    impl Run {
        fn of_calls_that_take(call_ms: i64) -> Self {
            Self {
                call_ms,
                ..Self::default()
            }
        }

        fn now(&self) -> Timestamp {
            let start: Timestamp = START.parse().expect("a time");
            start + SignedDuration::from_millis(self.at_ms)
        }

        /// One call; `Err` when it is not allowed, with the wait.
        fn call(&mut self, gate: &Gate, mood: Mood) -> Result<bool, Duration> {
            let before = gate.breaker();
            let call = gate.enter_at(self.now())?;
            self.moved(before, gate.breaker());
            self.calls += 1;
            let before = gate.breaker();
            let well = !mood(self.at_ms);
            self.at_ms += self.call_ms;
            call.ended_at(well, self.now());
            self.moved(before, gate.breaker());
            Ok(well)
        }

        fn moved(&mut self, from: BreakerState, to: BreakerState) {
            if from.as_str() != to.as_str() {
                self.moves += 1;
            }
        }

        /// A pass of the refresher: its pages, each tried again while the budget allows.
        fn pass(&mut self, gate: &Gate, mood: Mood) -> Result<(), Duration> {
            for _ in 0..PAGES {
                self.needed += 1;
                gate.pay_in();
                for attempt in 1.. {
                    let well = self.call(gate, mood)?;
                    if well {
                        break;
                    }
                    if attempt == PAGE_ATTEMPTS_MAX || !gate.take_retry() {
                        return Err(Duration::ZERO);
                    }
                    self.at_ms += i64::from(rand::random_range(0..200 << attempt));
                }
            }
            Ok(())
        }

        /// Passes until then, as the refresher makes them: sooner after a failure, and not before the breaker lets it.
        fn passes_until(&mut self, end_ms: i64, gate: &Gate, mood: Mood) {
            while self.at_ms < end_ms {
                self.at_ms += match self.pass(gate, mood) {
                    Ok(()) => 60_000 + rand::random_range(0..2_000),
                    Err(wait) => millis(wait).max(rand::random_range(2_500..5_000)),
                };
            }
        }

        /// A buy each half second until then.
        fn buys_until(&mut self, end_ms: i64, gate: &Gate, mood: Mood) {
            while self.at_ms < end_ms {
                let _ = self.call(gate, mood);
                self.at_ms += 500;
            }
        }

        /// Two in each minute.
        fn assert_few_moves(&self) {
            let most = usize::try_from(2 * 60 * HOURS).expect("small");
            assert!(self.moves <= most, "{} moves", self.moves);
        }
    }

    fn gate(op: Op) -> Gate {
        Gate::new(op, policy(), VendorMetrics::new(&Metrics::new()))
    }

    fn millis(duration: Duration) -> i64 {
        i64::try_from(duration.as_millis()).expect("short")
    }

    #[test]
    fn a_day_of_flapping_costs_a_tenth_more_list_calls_and_two_moves_a_minute_at_most() {
        for mood in [every_other_call, ten_seconds_on_and_off] {
            let (gate, mut run) = (gate(Op::List), Run::of_calls_that_take(QUICK_MS));
            run.passes_until(HOURS * HOUR_MS, &gate, mood);
            assert!(run.needed > 3_000, "{} calls needed", run.needed);
            assert!(
                10 * run.calls <= 11 * run.needed,
                "{} of {}",
                run.calls,
                run.needed
            );
            run.assert_few_moves();
        }
    }

    #[test]
    fn a_day_of_flapping_moves_the_breaker_of_buys_twice_a_minute_at_most() {
        for mood in [every_other_call, ten_seconds_on_and_off] {
            let (gate, mut run) = (gate(Op::Buy), Run::of_calls_that_take(QUICK_MS));
            run.buys_until(HOURS * HOUR_MS, &gate, mood);
            assert!(run.moves > 0, "it was meant to open");
            run.assert_few_moves();
        }
    }

    #[test]
    fn a_silent_hour_costs_seventy_calls_of_a_kind_at_most() {
        // One that refuses at once leaves the most time for further calls, so it is bounded as well.
        for call_ms in [DEADLINE_MS, QUICK_MS] {
            let (lists, buys) = (gate(Op::List), gate(Op::Buy));
            let mut passes = Run::of_calls_that_take(call_ms);
            passes.passes_until(HOUR_MS, &lists, never_answers);
            let mut orders = Run::of_calls_that_take(call_ms);
            orders.buys_until(HOUR_MS, &buys, never_answers);
            for (what, calls) in [("list", passes.calls), ("buy", orders.calls)] {
                let bounds = SILENT_HOUR_CALLS_MIN..=SILENT_HOUR_CALLS_MAX;
                assert!(
                    bounds.contains(&calls),
                    "{calls} {what} calls that took {call_ms} ms each"
                );
            }
        }
    }
}
