use std::time::Duration;

use fuse_domain::{Breaker, BreakerPolicy, BreakerState, Decision, Permit};
use proptest::prelude::*;

use crate::at_millis;

const POLICY: BreakerPolicy = BreakerPolicy {
    failures_to_open: 3,
    probes_to_close: 1,
    open_for_min: Duration::from_secs(2),
    open_for_max: Duration::from_secs(16),
    probe_for_max: Duration::from_secs(10),
    forget_after: Duration::from_secs(60),
};

/// A breaker with a clock of its own; jitter 1000 makes the full open time.
struct Rig {
    breaker: Breaker,
    policy: BreakerPolicy,
    now_millis: i64,
}

impl Rig {
    fn new() -> Rig {
        Rig {
            breaker: Breaker::new(),
            policy: POLICY,
            now_millis: 0,
        }
    }

    fn wait(&mut self, millis: i64) {
        self.now_millis += millis;
    }

    fn ask(&mut self) -> Result<Permit, Duration> {
        let (breaker, decision) = self.breaker.on_permit(&self.policy, at_millis(self.now_millis));
        self.breaker = breaker;
        match decision {
            Decision::Allow(permit) => Ok(permit),
            Decision::Refuse { retry_after } => Err(retry_after),
        }
    }

    fn permit(&mut self) -> Permit {
        self.ask().expect("may call")
    }

    fn refused_for(&mut self) -> Duration {
        self.ask().expect_err("may not call")
    }

    fn succeed(&mut self, permit: Permit) {
        self.breaker = self
            .breaker
            .on_success(&self.policy, permit, at_millis(self.now_millis));
    }

    fn fail(&mut self, permit: Permit) {
        self.fail_with(permit, 1000);
    }

    fn fail_with(&mut self, permit: Permit, jitter_permille: u16) {
        let now = at_millis(self.now_millis);
        self.breaker = self
            .breaker
            .on_failure(&self.policy, permit, now, jitter_permille);
    }

    fn open(&mut self) {
        for _ in 0..self.policy.failures_to_open {
            let permit = self.permit();
            self.fail(permit);
        }
    }

    fn name(&self) -> &'static str {
        self.breaker.state().as_str()
    }
}

#[test]
fn opens_after_failures_in_a_row_only() {
    let mut rig = Rig::new();
    for _ in 0..10 {
        for _ in 0..2 {
            let permit = rig.permit();
            rig.fail(permit);
        }
        let permit = rig.permit();
        rig.succeed(permit);
    }
    assert_eq!(rig.name(), "closed");
    rig.open();
    assert_eq!(
        rig.breaker.state(),
        BreakerState::Open {
            until: at_millis(2_000)
        }
    );
    assert_eq!(rig.refused_for(), Duration::from_secs(2));
    rig.wait(1_999);
    assert_eq!(rig.refused_for(), Duration::from_millis(1));
}

#[test]
fn one_probe_at_a_time_closes_it_again() {
    let mut rig = Rig::new();
    rig.open();
    rig.wait(2_000);
    let probe = rig.permit();
    assert_eq!(rig.name(), "half_open");
    assert_eq!(rig.refused_for(), Duration::from_secs(10));
    rig.wait(1_000);
    assert_eq!(rig.refused_for(), Duration::from_secs(9));
    rig.succeed(probe);
    assert_eq!(rig.name(), "closed");
    let (first, second) = (rig.permit(), rig.permit());
    rig.succeed(first);
    rig.succeed(second);
}

#[test]
fn several_probes_in_a_row_when_so_configured() {
    let mut rig = Rig::new();
    rig.policy.probes_to_close = 2;
    rig.open();
    rig.wait(2_000);
    let first = rig.permit();
    rig.succeed(first);
    rig.succeed(first); // told twice, counts once
    assert_eq!(rig.name(), "half_open");
    let second = rig.permit();
    rig.succeed(second);
    assert_eq!(rig.name(), "closed");
}

#[test]
fn open_times_double_up_to_the_limit() {
    let mut rig = Rig::new();
    rig.open();
    let mut open_secs = Vec::new();
    for _ in 0..6 {
        let open_for = rig.refused_for();
        open_secs.push(open_for.as_secs());
        rig.wait(open_for.as_millis() as i64);
        let probe = rig.permit();
        rig.fail(probe);
        assert_eq!(rig.name(), "open");
    }
    assert_eq!(open_secs, [2, 4, 8, 16, 16, 16]);
}

#[test]
fn jitter_shortens_an_open_time_by_at_most_half() {
    for (jitter, expected_millis) in [(0, 1_000), (500, 1_500), (1000, 2_000), (u16::MAX, 2_000)] {
        let mut rig = Rig::new();
        for _ in 0..3 {
            let permit = rig.permit();
            rig.fail_with(permit, jitter);
        }
        assert_eq!(
            rig.refused_for(),
            Duration::from_millis(expected_millis),
            "{jitter}"
        );
    }
}

#[test]
fn a_flapping_vendor_meets_longer_open_times_until_it_was_well_for_a_while() {
    let mut rig = Rig::new();
    let mut flap = |healthy_millis: i64| {
        rig.open();
        let open_for = rig.refused_for();
        rig.wait(open_for.as_millis() as i64);
        let probe = rig.permit();
        rig.succeed(probe);
        rig.wait(healthy_millis);
        open_for.as_secs()
    };
    assert_eq!([flap(1_000), flap(1_000), flap(60_000), flap(0)], [2, 4, 8, 2]);
}

#[test]
fn results_from_before_a_transition_change_nothing() {
    let mut rig = Rig::new();
    let (late_good, late_bad) = (rig.permit(), rig.permit());
    rig.open();
    let opened = rig.breaker;
    rig.succeed(late_good);
    rig.fail(late_bad);
    assert_eq!(rig.breaker, opened);
    rig.wait(2_000);
    let probe = rig.permit();
    rig.succeed(late_good);
    rig.fail(late_bad);
    assert_eq!(rig.name(), "half_open");
    rig.succeed(probe);
    for _ in 0..5 {
        rig.fail(late_bad);
    }
    assert_eq!(rig.name(), "closed");
}

#[test]
fn a_lost_probe_makes_room_for_the_next() {
    let mut rig = Rig::new();
    rig.open();
    rig.wait(2_000);
    let lost = rig.permit();
    rig.wait(10_000);
    let next = rig.permit();
    rig.fail(lost);
    assert_eq!(rig.name(), "half_open");
    rig.breaker = rig.breaker.on_abandoned(next);
    let third = rig.permit();
    rig.succeed(next);
    assert_eq!(rig.name(), "half_open");
    rig.succeed(third);
    assert_eq!(rig.name(), "closed");
}

#[test]
fn giving_up_a_call_while_closed_leaves_the_others_alone() {
    let mut rig = Rig::new();
    let (given_up, other) = (rig.permit(), rig.permit());
    rig.breaker = rig.breaker.on_abandoned(given_up);
    for _ in 0..3 {
        rig.fail(other);
    }
    assert_eq!(rig.name(), "open");
}

#[test]
fn a_clock_set_back_does_not_keep_it_open() {
    let mut rig = Rig::new();
    rig.open();
    rig.wait(-3_600_000);
    let probe = rig.permit();
    rig.wait(-3_600_000);
    assert!(rig.ask().is_ok());
    rig.succeed(probe);
    assert_eq!(rig.name(), "half_open");
}

#[test]
fn the_states_have_names() {
    let states = [
        BreakerState::Closed,
        BreakerState::Open { until: at_millis(0) },
        BreakerState::HalfOpen,
    ];
    assert_eq!(states.map(BreakerState::as_str), BreakerState::NAMES);
}

#[derive(Debug, Clone)]
enum Step {
    Ask,
    Wait(i64),
    Succeed(usize),
    Fail(usize, u16),
    Abandon(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Ask),
        2 => (0i64..4_000).prop_map(Step::Wait),
        1 => any::<usize>().prop_map(Step::Succeed),
        3 => (any::<usize>(), 0u16..=1000).prop_map(|(call, jitter)| Step::Fail(call, jitter)),
        1 => any::<usize>().prop_map(Step::Abandon),
    ]
}

proptest! {
    /// Whatever happens: one live probe at a time, no call while open, never refused for longer than the
    /// policy says.
    #[test]
    fn holds_its_promises_in_any_sequence(steps in prop::collection::vec(step(), 1..200)) {
        let mut rig = Rig::new();
        let mut calls: Vec<Permit> = Vec::new();
        let mut probe: Option<(Permit, i64)> = None;
        for step in steps {
            let pick = |calls: &mut Vec<Permit>, index: usize| {
                (!calls.is_empty()).then(|| calls.swap_remove(index % calls.len()))
            };
            let mut ended = None;
            match step {
                Step::Wait(millis) => rig.wait(millis),
                Step::Ask => match rig.ask() {
                    Ok(permit) => {
                        prop_assert_ne!(rig.name(), "open");
                        if rig.breaker.state() == BreakerState::HalfOpen {
                            let live = probe.filter(|(_, since)| rig.now_millis - since < 10_000);
                            prop_assert_eq!(live, None);
                            probe = Some((permit, rig.now_millis));
                        }
                        calls.push(permit);
                    }
                    Err(retry_after) => {
                        prop_assert_ne!(rig.breaker.state(), BreakerState::Closed);
                        prop_assert!(!retry_after.is_zero() && retry_after <= POLICY.open_for_max);
                    }
                },
                Step::Succeed(index) => if let Some(permit) = pick(&mut calls, index) {
                    rig.succeed(permit);
                    ended = Some(permit);
                },
                Step::Fail(index, jitter) => if let Some(permit) = pick(&mut calls, index) {
                    rig.fail_with(permit, jitter);
                    ended = Some(permit);
                },
                Step::Abandon(index) => if let Some(permit) = pick(&mut calls, index) {
                    rig.breaker = rig.breaker.on_abandoned(permit);
                    ended = Some(permit);
                },
            }
            if probe.is_some_and(|(permit, _)| Some(permit) == ended) {
                probe = None;
            }
        }
        // However it ended, it recovers: after the longest open time a probe may go and closes it.
        rig.wait(16_000);
        let last = rig.permit();
        rig.succeed(last);
        prop_assert_eq!(rig.name(), "closed");
    }
}
