//! What a seed makes of a run: faults of the vendor, the blow, and when it comes.

use std::time::Duration;

use vendor_simulator::{Action, Body, BodyFault, BuyFault, Latency, Operation, Rule};

use super::blow::Blow;
use crate::random::Random;

/// The whole plan of a run beside its orders.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub replicas: usize,
    /// Faults of the vendor's buys.
    pub rules: Vec<Rule>,
    pub blow: Blow,
    /// The blow comes after so many answers, and this much later.
    pub strike_after: u64,
    pub strike_delay: Duration,
    /// So many answers follow it before the load ends.
    pub calm_after: u64,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut random = Random::of(&[seed, u64::MAX]);
        let replicas = 1 + usize::from(random.percent(50));
        Self {
            seed,
            replicas,
            rules: rules(&mut random),
            blow: Blow::draw(&mut random, replicas),
            strike_after: random.below(120),
            strike_delay: Duration::from_micros(random.below(30_000)),
            calm_after: 40 + random.below(40),
        }
    }
}

/// About one buy in four goes wrong. A buy that is told at another price than it was executed at is not among them: there the vendor's
/// word is all that anybody has.
fn rules(random: &mut Random) -> Vec<Rule> {
    let status = |status, body, executed| Action::Status {
        status,
        body,
        executed,
        retry_after: None,
        location: None,
    };
    let faults = [
        Action::Reset { executed: true },
        Action::Reset { executed: false },
        Action::NeverAnswer { executed: true },
        Action::NeverAnswer { executed: false },
        status(500, Body::Envelope, true),
        status(500, Body::Envelope, false),
        status(503, Body::Html, false),
        status(400, Body::Envelope, false),
        status(429, Body::Envelope, false),
        Action::CloseMidBody { executed: true },
        Action::Body {
            fault: BodyFault::Truncated,
            executed: true,
        },
        Action::Envelope {
            status: 500,
            executed: true,
        },
        Action::BuyAnswer {
            fault: BuyFault::OtherQuantity,
        },
        Action::BuyAnswer {
            fault: BuyFault::OtherSymbol,
        },
    ];
    let mut rules = vec![latency(random)];
    for fault in faults {
        // Of a hundred buys; the ones that hold a connection until its deadline are rarer, or nothing else would happen.
        let most = if matches!(fault, Action::NeverAnswer { .. }) {
            3
        } else {
            5
        };
        let percent = u32::try_from(random.below(most)).expect("a small number");
        if percent > 0 {
            let rule = Rule::on(Operation::Buy, fault);
            rules.push(rule.probability(f64::from(percent) / 100.0));
        }
    }
    rules
}

fn latency(random: &mut Random) -> Rule {
    let latency = match random.below(3) {
        0 => Latency::Fixed { ms: 0 },
        1 => Latency::Uniform {
            min_ms: 0,
            max_ms: 80,
        },
        _ => Latency::HeavyTail {
            median_ms: 10,
            max_ms: 700,
        },
    };
    Rule::on(Operation::Buy, Action::Latency(latency))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_one_plan() {
        for seed in 0..50 {
            let (one, two) = (Plan::of(seed), Plan::of(seed));
            assert_eq!(one.rules, two.rules);
            assert_eq!((one.blow, one.strike_after), (two.blow, two.strike_after));
        }
        assert_ne!(Plan::of(1).rules, Plan::of(2).rules);
    }
}
