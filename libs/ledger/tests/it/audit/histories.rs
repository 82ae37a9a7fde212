//! Random histories of orders: what they come to is what the tables hold, and the check finds nothing wrong.

use anyhow::Result;
use fuse_domain::{OrderStatus, Outcome, Reason};
use fuse_ledger::{Decision, Resolution, Resolve, Resolved, Settle};

use super::{LATER, verify};
use crate::support::{Fixture, answer, at, fill, fixture, request};

/// Random histories of up to sixty orders each.
const HISTORIES: u32 = 24;

/// How an order of a history ends.
#[derive(Debug, Clone, Copy)]
pub enum End {
    Rejected,
    Submitted,
    Filled,
    Failed,
    Unknown,
    /// Given up by the sweep, and then the vendor's answer came.
    SweptThenFilled,
    SweptThenFailed,
    /// Unknown, and then a person said what became of it.
    ResolvedFilled,
    ResolvedFailed,
}

impl End {
    const ALL: [Self; 9] = [
        Self::Rejected,
        Self::Submitted,
        Self::Filled,
        Self::Failed,
        Self::Unknown,
        Self::SweptThenFilled,
        Self::SweptThenFailed,
        Self::ResolvedFilled,
        Self::ResolvedFailed,
    ];

    fn status(self) -> OrderStatus {
        match self {
            Self::Rejected => OrderStatus::Rejected,
            Self::Submitted => OrderStatus::Submitted,
            Self::Filled | Self::SweptThenFilled | Self::ResolvedFilled => OrderStatus::Filled,
            Self::Failed | Self::SweptThenFailed | Self::ResolvedFailed => OrderStatus::Failed,
            Self::Unknown => OrderStatus::Unknown,
        }
    }
}

/// One order: whose, of what, how many billionths of a share, and how it ends.
pub type Step = (usize, usize, u32, End);

/// The fold of any history is what the tables hold: random orders with random ends, by hand counted.
#[tokio::test(flavor = "multi_thread")]
async fn the_fold_of_any_legal_history_equals_the_tables() -> Result<()> {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    let mut runner = TestRunner::new(Config {
        cases: HISTORIES,
        ..Config::default()
    });
    let step = (
        0_usize..4,
        0_usize..3,
        1_u32..1_000_000,
        prop::sample::select(&End::ALL[..]),
    );
    let histories = prop::collection::vec(step, 1..60);
    let fixture = fixture().await?;
    let handle = tokio::runtime::Handle::current();
    let outcome = tokio::task::block_in_place(|| {
        runner.run(&histories, |history| {
            handle
                .block_on(play(&fixture, &history))
                .map_err(|error| TestCaseError::fail(error.to_string()))
        })
    });
    outcome.map_err(|error| anyhow::anyhow!("{error}"))
}

/// Plays one history all at once, for users of its own, and checks everything.
async fn play(fixture: &Fixture, history: &[Step]) -> Result<()> {
    let mut users = Vec::new();
    for _ in 0..4 {
        let user = uuid::Uuid::now_v7();
        fixture
            .ledger
            .create_user(user, "Bo", at("2026-03-02T10:00:00Z"))
            .await?;
        users.push(user);
    }
    let run = history
        .iter()
        .enumerate()
        .map(|(number, step)| play_step(fixture, users[step.0], number, *step));
    futures::future::try_join_all(run).await?;
    fixture.ledger.extend_chain(at(LATER)).await?;
    let found = verify(fixture).await?;
    anyhow::ensure!(found.is_valid(), "{:?}", found.first_bad);
    let ids = users
        .iter()
        .map(|user| format!("'{user}'"))
        .collect::<Vec<_>>()
        .join(", ");
    // The same with integers: a billionth of a share, in billionths of a billionth of money.
    let filled = history
        .iter()
        .filter(|step| step.3.status() == OrderStatus::Filled);
    let nanos: u128 = filled.map(|step| u128::from(step.2)).sum();
    let sums = format!(
        "select coalesce(sum(trunc(quantity * 1e9)), 0) || ' ' || coalesce(sum(trunc(cost * 1e18)), 0) from holdings where user_id in ({ids})"
    );
    let (held, expected) = (
        fixture.text(&sums).await?,
        format!("{nanos} {}", nanos * 3_000_000_001),
    );
    anyhow::ensure!(held == expected, "held {held}, filled {expected}");
    let mut expected = std::collections::BTreeMap::new();
    for step in history {
        *expected.entry(step.3.status().as_str()).or_insert(0) += 1;
    }
    let counts = format!(
        "select json_object_agg(status, orders)::text from (select status, count(*) as orders from orders where user_id in ({ids}) group by 1) c"
    );
    let counts: serde_json::Value = serde_json::from_str(&fixture.text(&counts).await?)?;
    anyhow::ensure!(
        counts == serde_json::json!(expected),
        "{counts}, expected {expected:?}"
    );
    Ok(())
}

pub async fn play_step(fixture: &Fixture, user_id: uuid::Uuid, number: usize, step: Step) -> Result<()> {
    const SYMBOLS: [&str; 3] = ["AAPL", "MSFT", "NVDA"];
    let (_, symbol, nanos, end) = step;
    let quantity = format!("0.{nanos:09}");
    let mut order = fixture.submit(
        &format!("k{number}"),
        request(SYMBOLS[symbol], &quantity, "3.000000007"),
        "2026-03-02T10:00:00Z",
    );
    order.user_id = user_id;
    if matches!(end, End::Rejected) {
        order.decision = Decision::Rejected {
            reason: Reason::PriceOutOfBand,
            answer: answer(422, "{}"),
        };
    }
    let id = order.id;
    fixture.ledger.place(order).await?;
    let filled = fill("3.000000001", &quantity);
    let failed = Outcome::Failed(Reason::VendorRejected);
    let unknown = Outcome::Unknown(Reason::VendorReset);
    let swept = Outcome::Unknown(Reason::Interrupted);
    let (outcomes, resolution) = match end {
        End::Rejected | End::Submitted => (vec![], None),
        End::Filled => (vec![filled], None),
        End::Failed => (vec![failed], None),
        End::Unknown => (vec![unknown], None),
        End::SweptThenFilled => (vec![swept, filled], None),
        End::SweptThenFailed => (vec![swept, failed], None),
        End::ResolvedFilled => (vec![unknown], Some(filled.fill().copied())),
        End::ResolvedFailed => (vec![unknown], Some(None)),
    };
    for outcome in outcomes {
        let settle = Settle {
            user_id,
            ..fixture.settlement(id, outcome, "2026-03-02T10:00:01Z")
        };
        fixture.ledger.settle(settle).await?;
    }
    if let Some(fill) = resolution {
        let told = Resolution {
            actor: "key:test".into(),
            note: "asked".into(),
        };
        let resolve = Resolve {
            order_id: id,
            fill,
            told,
            at: at("2026-03-02T12:00:00Z"),
        };
        let resolved = fixture.ledger.resolve(resolve).await?;
        anyhow::ensure!(matches!(resolved, Resolved::Now(_)), "{resolved:?}");
    }
    Ok(())
}
