//! Circuit breaker as a pure function: (state, event, now) gives (state, decision). Whoever owns one keeps it
//! behind a lock.
//!
//! What must stay true: while half open at most one probe is out; the result of a call that was begun before
//! the last transition changes nothing; no jump of the clock keeps it open for longer than `open_for_max`.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// When to open and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Failures in a row that open it.
    pub failures_to_open: u32,
    /// Successful probes in a row that close it again.
    pub probes_to_close: u32,
    /// Open time after the first opening; doubles with each opening that follows soon.
    pub open_for_min: Duration,
    pub open_for_max: Duration,
    /// After this time a probe without a result counts as lost, and the next one may go.
    pub probe_for_max: Duration,
    /// Closed for so long, the next opening starts at `open_for_min` again; sooner, a flapping vendor meets
    /// ever longer open times.
    pub forget_after: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> BreakerPolicy {
        BreakerPolicy {
            failures_to_open: 5,
            probes_to_close: 1,
            open_for_min: Duration::from_secs(1),
            open_for_max: Duration::from_secs(60),
            probe_for_max: Duration::from_secs(30),
            forget_after: Duration::from_secs(120),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    Closed,
    Open { until: Timestamp },
    HalfOpen,
}

impl BreakerState {
    pub const NAMES: [&'static str; 3] = ["closed", "open", "half_open"];

    pub fn as_str(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open { .. } => "open",
            BreakerState::HalfOpen => "half_open",
        }
    }
}

/// Goes with one call and comes back with its result, so that a late result is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    epoch: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Call, and report the result with this permit.
    Allow(Permit),
    /// Do not call; asking again makes sense after this time.
    Refuse { retry_after: Duration },
}

/// The breaker's whole memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    state: BreakerState,
    /// Counts transitions and probes; a permit of another epoch is stale.
    epoch: u64,
    /// Failures in a row while closed.
    failures: u32,
    /// Successes in a row while half open.
    successes: u32,
    /// Openings in a row, each soon after the one before; the exponent of the open time.
    openings: u32,
    closed_at: Option<Timestamp>,
    probe_since: Option<Timestamp>,
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker::new()
    }
}

impl Breaker {
    pub const fn new() -> Breaker {
        Breaker {
            state: BreakerState::Closed,
            epoch: 0,
            failures: 0,
            successes: 0,
            openings: 0,
            closed_at: None,
            probe_since: None,
        }
    }

    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// May a call be made now?
    pub fn on_permit(self, policy: &BreakerPolicy, now: Timestamp) -> (Breaker, Decision) {
        match self.state {
            BreakerState::Closed => (self, Decision::Allow(Permit { epoch: self.epoch })),
            BreakerState::Open { until } => {
                let left = left_until(until, now, policy.open_for_max);
                if left.is_zero() {
                    Breaker {
                        state: BreakerState::HalfOpen,
                        successes: 0,
                        ..self
                    }
                    .probe(now)
                } else {
                    (self, Decision::Refuse { retry_after: left })
                }
            }
            BreakerState::HalfOpen => match self.probe_since {
                None => self.probe(now),
                Some(since) => {
                    let left = left_until(plus(since, policy.probe_for_max), now, policy.probe_for_max);
                    if left.is_zero() {
                        self.probe(now)
                    } else {
                        (self, Decision::Refuse { retry_after: left })
                    }
                }
            },
        }
    }

    pub fn on_success(self, policy: &BreakerPolicy, permit: Permit, now: Timestamp) -> Breaker {
        if permit.epoch != self.epoch {
            return self;
        }
        match self.state {
            BreakerState::Closed => Breaker { failures: 0, ..self },
            // The epoch moves on, so that a result told twice counts once.
            BreakerState::HalfOpen if self.successes + 1 < policy.probes_to_close => Breaker {
                epoch: self.epoch + 1,
                successes: self.successes + 1,
                probe_since: None,
                ..self
            },
            BreakerState::HalfOpen => Breaker {
                state: BreakerState::Closed,
                epoch: self.epoch + 1,
                failures: 0,
                successes: 0,
                probe_since: None,
                closed_at: Some(now),
                ..self
            },
            BreakerState::Open { .. } => self,
        }
    }

    /// `jitter_permille` is a random number from 0 to 1000: the open time is half fixed, half scaled by it,
    /// so that replicas do not probe together.
    pub fn on_failure(
        self,
        policy: &BreakerPolicy,
        permit: Permit,
        now: Timestamp,
        jitter_permille: u16,
    ) -> Breaker {
        if permit.epoch != self.epoch {
            return self;
        }
        match self.state {
            BreakerState::Closed => {
                let failures = self.failures.saturating_add(1);
                if failures < policy.failures_to_open {
                    return Breaker { failures, ..self };
                }
                let quiet = self
                    .closed_at
                    .is_none_or(|at| now.duration_since(at).abs() >= signed(policy.forget_after));
                let openings = if quiet { 0 } else { self.openings };
                Breaker { openings, ..self }.open(policy, now, jitter_permille)
            }
            BreakerState::HalfOpen => self.open(policy, now, jitter_permille),
            BreakerState::Open { .. } => self,
        }
    }

    /// The call was given up without a result, for example cancelled before it was sent: frees the place of a
    /// probe.
    pub fn on_abandoned(self, permit: Permit) -> Breaker {
        if permit.epoch != self.epoch || self.state != BreakerState::HalfOpen {
            return self;
        }
        Breaker {
            epoch: self.epoch + 1,
            probe_since: None,
            ..self
        }
    }

    fn probe(self, now: Timestamp) -> (Breaker, Decision) {
        let epoch = self.epoch + 1;
        (
            Breaker {
                epoch,
                probe_since: Some(now),
                ..self
            },
            Decision::Allow(Permit { epoch }),
        )
    }

    fn open(self, policy: &BreakerPolicy, now: Timestamp, jitter_permille: u16) -> Breaker {
        Breaker {
            state: BreakerState::Open {
                until: plus(now, open_for(policy, self.openings, jitter_permille)),
            },
            epoch: self.epoch + 1,
            failures: 0,
            successes: 0,
            openings: self.openings.saturating_add(1),
            probe_since: None,
            ..self
        }
    }
}

/// `min(open_for_min * 2^openings, open_for_max)`, of which one half is fixed and the other scaled by the
/// jitter.
fn open_for(policy: &BreakerPolicy, openings: u32, jitter_permille: u16) -> Duration {
    let factor = 2u32.saturating_pow(openings.min(31));
    let full = policy
        .open_for_min
        .saturating_mul(factor)
        .min(policy.open_for_max);
    let half = full / 2;
    half + half * u32::from(jitter_permille.min(1000)) / 1000
}

/// Zero when due, and also when `until` is further away than it can have been set: then the clock went back.
fn left_until(until: Timestamp, now: Timestamp, longest: Duration) -> Duration {
    let left = Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO);
    if left > longest { Duration::ZERO } else { left }
}

fn plus(now: Timestamp, duration: Duration) -> Timestamp {
    now.checked_add(signed(duration)).unwrap_or(Timestamp::MAX)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
