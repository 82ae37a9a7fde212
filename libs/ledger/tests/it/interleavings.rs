//! Any interleaving of retries, repeats, other orders under the same key, settlements, sweeps and resolutions: an order is executed at
//! most once, and has one outcome for good.

mod acts;
mod outcomes;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Result, ensure};
use fuse_domain::{Fill, OrderStatus};
use fuse_harness::postgres::as_service;
use fuse_ledger::{Ledger, Order, StoredAnswer, VerifyOptions};
use fuse_platform::Metrics;
use futures::future::try_join_all;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use uuid::Uuid;

use crate::support::{Fixture, at, config, fixture};

const CASES: u32 = 64;
const OWNERS: usize = 2;
const KEYS: usize = 2;
const WHEN: &str = "2026-03-02T10:00:00Z";
const LATER: &str = "2026-03-03T10:00:00Z";
/// Of all orders, and what every share costs.
const PRICE: &str = "3.000000007";
const PRICE_NANOS: u128 = 3_000_000_007;

/// Whose order under which of their keys; both owners use the same texts as keys.
type Name = (usize, usize);

/// What a client's request does once it has placed an order that goes to the vendor.
#[derive(Debug, Clone, Copy)]
enum Then {
    Filled,
    Failed,
    Unknown,
    /// Its process dies.
    Nothing,
    /// Its process repeats the settlement, with another outcome even.
    FilledThenFailed,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    /// A request under a key: the first one, a retry, a repeat, or another order, whichever it happens to be.
    Request { body: u8, is_allowed: bool, then: Then },
    /// A person says what became of the order.
    Resolve { was_filled: bool },
    /// Whatever is submitted is given up.
    Sweep,
}

/// One act at one of two replicas, after so many turns of everybody else.
type Deed = (Name, Act, usize, usize);

fn deeds() -> impl Strategy<Value = Vec<Vec<Deed>>> {
    let then = prop_oneof![
        4 => Just(Then::Filled),
        2 => Just(Then::Failed),
        3 => Just(Then::Unknown),
        3 => Just(Then::Nothing),
        1 => Just(Then::FilledThenFailed),
    ];
    let request = (0_u8..2, prop::bool::weighted(0.9), then);
    let act = prop_oneof![
        6 => request.prop_map(|(body, is_allowed, then)| Act::Request { body, is_allowed, then }),
        2 => any::<bool>().prop_map(|was_filled| Act::Resolve { was_filled }),
        1 => Just(Act::Sweep),
    ];
    let deed = ((0..OWNERS, 0..KEYS), act, 0_usize..2, 0_usize..20);
    // What is in one wave happens at once.
    prop::collection::vec(prop::collection::vec(deed, 1..12), 1..6)
}

/// Everything that was seen under one key.
#[derive(Debug, Default)]
struct Seen {
    /// Orders that were new.
    new: Vec<Order>,
    body: u8,
    /// How often the vendor was called.
    calls: usize,
    in_flight: Vec<Uuid>,
    replays: Vec<StoredAnswer>,
    /// Whatever was told to be the final outcome, by the call that made it so.
    ends: Vec<(OrderStatus, Option<Fill>)>,
}

/// One case: owners of its own, in the database of all cases.
struct Case<'a> {
    fixture: &'a Fixture,
    replicas: [&'a Ledger; 2],
    owners: Vec<Uuid>,
    seen: Mutex<BTreeMap<Name, Seen>>,
}

#[tokio::test(flavor = "multi_thread")]
async fn any_interleaving_executes_an_order_at_most_once() -> Result<()> {
    let fixture = fixture().await?;
    let second = Ledger::new(&config(&as_service(&fixture.url)), &Metrics::new())?;
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        // A case that failed by its timing may pass when it is tried again.
        max_shrink_iters: 50,
        ..Config::default()
    });
    let handle = tokio::runtime::Handle::current();
    let outcome = tokio::task::block_in_place(|| {
        runner.run(&deeds(), |waves| {
            handle
                .block_on(play(&fixture, &second, &waves))
                .map_err(|error| TestCaseError::fail(format!("{error:#}")))
        })
    });
    outcome.map_err(|error| anyhow::anyhow!("{error}"))
}

async fn play(fixture: &Fixture, second: &Ledger, waves: &[Vec<Deed>]) -> Result<()> {
    let mut owners = Vec::new();
    for _ in 0..OWNERS {
        let owner = Uuid::now_v7();
        fixture.ledger.create_user(owner, "Bo", at(WHEN)).await?;
        owners.push(owner);
    }
    let case = Case {
        fixture,
        replicas: [&fixture.ledger, second],
        owners,
        seen: Mutex::default(),
    };
    for wave in waves {
        try_join_all(wave.iter().map(|deed| case.perform(*deed))).await?;
    }
    // Then nothing is under way any more.
    case.sweep(0).await?;
    case.check_outcomes().await?;
    case.check_holdings().await?;
    fixture.ledger.extend_chain(at(LATER)).await?;
    let found = fixture.ledger.verify(&VerifyOptions::default(), |_| ()).await?;
    ensure!(found.is_valid(), "{:?}", found.first_bad);
    Ok(())
}

impl Case<'_> {
    fn seen(&self) -> MutexGuard<'_, BTreeMap<Name, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, name: Name, note: impl FnOnce(&mut Seen)) {
        note(self.seen().entry(name).or_default());
    }

    async fn perform(&self, (name, act, replica, turns): Deed) -> Result<()> {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        match act {
            Act::Request {
                body,
                is_allowed,
                then,
            } => self.request(name, replica, body, is_allowed, then).await,
            Act::Resolve { was_filled } => self.resolve(name, replica, was_filled).await,
            Act::Sweep => self.sweep(replica).await,
        }
    }
}
