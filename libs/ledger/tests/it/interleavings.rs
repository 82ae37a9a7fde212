//! Any interleaving of retries, repeats, other orders under the same key, settlements, sweeps and resolutions: an order is executed at
//! most once, and has one outcome for good.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Result, ensure};
use fuse_domain::{Fill, OrderStatus, Outcome, Price, Quantity, Reason};
use fuse_harness::postgres::as_service;
use fuse_ledger::{
    Decision, Ledger, LedgerError, Order, Placed, Resolution, Resolve, Resolved, Settle, Settled,
    StoredAnswer, SubmitOrder, VerifyOptions,
};
use fuse_platform::Metrics;
use futures::future::try_join_all;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use uuid::Uuid;

use crate::support::{Fixture, answer, at, config, fixture, request};

const CASES: u32 = 64;
const OWNERS: usize = 2;
const KEYS: usize = 2;
const WHEN: &str = "2026-03-02T10:00:00Z";
const LATER: &str = "2026-03-03T10:00:00Z";
/// Of all orders, and what every share costs.
const PRICE: &str = "3.000000007";
const PRICE_NANOS: u128 = 3_000_000_007;
/// Whole batches meet in this time, so a call that is refused for their sake gets through.
const TRIES_MAX: u32 = 100;

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

    /// As the service does it: the vendor is called by whoever placed a new order that was submitted, and by nobody else.
    async fn request(
        &self,
        name: Name,
        replica: usize,
        body: u8,
        is_allowed: bool,
        then: Then,
    ) -> Result<()> {
        let placed = self.place(name, replica, body, is_allowed).await?;
        let Placed::New(order) = placed else {
            return Ok(());
        };
        if order.status != OrderStatus::Submitted {
            return Ok(());
        }
        self.note(name, |seen| seen.calls += 1);
        let outcomes = match then {
            Then::Filled => vec![filled(&order)],
            Then::Failed => vec![Outcome::Failed(Reason::VendorRejected)],
            Then::Unknown => vec![Outcome::Unknown(Reason::VendorTimeout)],
            Then::Nothing => vec![],
            Then::FilledThenFailed => vec![filled(&order), Outcome::Failed(Reason::VendorRejected)],
        };
        for outcome in outcomes {
            if self.settle(replica, &order, outcome).await? && outcome.status().is_terminal() {
                self.note(name, |seen| {
                    seen.ends.push((outcome.status(), outcome.fill().copied()));
                });
            }
        }
        Ok(())
    }

    async fn place(&self, name: Name, replica: usize, body: u8, is_allowed: bool) -> Result<Placed> {
        let (owner, key) = name;
        let quantity = format!("0.00{owner}{key}{body}0001");
        let order = SubmitOrder {
            user_id: self.owners[owner],
            request_sha256: [body; 32],
            decision: if is_allowed {
                Decision::Accepted
            } else {
                Decision::Rejected {
                    reason: Reason::PriceOutOfBand,
                    answer: own_answer(422),
                }
            },
            ..self
                .fixture
                .submit(&format!("key-{key}"), request("AAPL", &quantity, PRICE), WHEN)
        };
        let placed = insist(|| self.replicas[replica].place(order.clone())).await?;
        self.note(name, |seen| match &placed {
            Placed::New(order) => {
                seen.new.push(Order::clone(order));
                seen.body = body;
                if order.status == OrderStatus::Rejected {
                    seen.ends.push((order.status, None));
                }
            }
            Placed::InFlight { order_id } => seen.in_flight.push(*order_id),
            Placed::Replay(answer) => seen.replays.push(answer.clone()),
            _ => {}
        });
        let is_possible = !matches!(placed, Placed::ClientOrderIdTaken | Placed::PortfolioNotFound);
        ensure!(is_possible, "{placed:?}");
        Ok(placed)
    }

    /// Whether it changed the order.
    async fn settle(&self, replica: usize, order: &Order, outcome: Outcome) -> Result<bool> {
        let settle = Settle {
            order_id: order.id,
            user_id: order.user_id,
            outcome,
            attempts: serde_json::json!([{"reached": "answered"}]),
            answer: own_answer(201),
            at: at("2026-03-02T10:00:01Z"),
        };
        let settled = insist(|| self.replicas[replica].settle(settle.clone())).await?;
        ensure!(settled != Settled::NotFound, "{order:?}");
        Ok(matches!(settled, Settled::Now | Settled::Late(_)))
    }

    async fn sweep(&self, replica: usize) -> Result<()> {
        let submitted = self.replicas[replica].submitted_before(at(LATER), 500).await?;
        let given_up = Outcome::Unknown(Reason::Interrupted);
        let sweeps = submitted
            .iter()
            .map(|order| self.settle(replica, order, given_up));
        try_join_all(sweeps).await.map(drop)
    }

    async fn resolve(&self, name: Name, replica: usize, was_filled: bool) -> Result<()> {
        let Some(order) = self.seen().get(&name).and_then(|seen| seen.new.first().cloned()) else {
            return Ok(());
        };
        let resolve = Resolve {
            order_id: order.id,
            fill: was_filled.then(|| bought(&order)),
            told: Resolution {
                actor: "key:test".to_owned(),
                note: "asked".to_owned(),
            },
            at: at("2026-03-02T12:00:00Z"),
        };
        let resolved = insist(|| self.replicas[replica].resolve(resolve.clone())).await?;
        ensure!(resolved != Resolved::NotFound, "{order:?}");
        if let Resolved::Now(order) = resolved {
            self.note(name, |seen| seen.ends.push((order.status, order.fill)));
        }
        Ok(())
    }

    /// One order, one call of the vendor, one end and one answer under each key, for good.
    async fn check_outcomes(&self) -> Result<()> {
        let names: Vec<(Name, u8)> = self
            .seen()
            .iter()
            .map(|(name, seen)| (*name, seen.body))
            .collect();
        for (name, body) in names {
            for replica in 0..2 {
                let again = self.place(name, replica, body, true).await?;
                ensure!(matches!(again, Placed::Replay(_)), "{name:?}: {again:?}");
                let other = self.place(name, replica, 1 - body, true).await?;
                ensure!(other == Placed::KeyReused, "{name:?}: {other:?}");
            }
        }
        let seen = std::mem::take(&mut *self.seen());
        for (name, seen) in &seen {
            ensure!(
                seen.new.len() == 1 && seen.calls <= 1,
                "{name:?}: executed more than once: {seen:?}"
            );
            let id = seen.new[0].id;
            ensure!(
                seen.in_flight.iter().all(|other| *other == id),
                "{name:?}: {seen:?}"
            );
            ensure!(
                seen.replays.windows(2).all(|two| two[0] == two[1]),
                "{name:?}: {seen:?}"
            );
            let order = self.fixture.ledger.order(None, id).await?;
            let now = order.map(|order| (order.status, order.fill));
            let end = match seen.ends[..] {
                [] => (OrderStatus::Unknown, None),
                [end] => end,
                _ => anyhow::bail!("{name:?}: ended more than once: {seen:?}"),
            };
            ensure!(now == Some(end), "{name:?} is {now:?}: {seen:?}");
        }
        *self.seen() = seen;
        Ok(())
    }

    /// Against integers: billionths of a share, and billionths of a billionth of money.
    async fn check_holdings(&self) -> Result<()> {
        for (index, owner) in self.owners.iter().enumerate() {
            let fills: Vec<Fill> = self
                .seen()
                .iter()
                .filter(|((of, _), _)| *of == index)
                .flat_map(|(_, seen)| seen.ends.iter().filter_map(|(_, fill)| *fill))
                .collect();
            let nanos: u128 = fills.iter().map(|fill| nanos(fill.quantity)).sum();
            let held = self
                .fixture
                .text(&format!(
                    "select coalesce(sum(trunc(quantity * 1e9)), 0) || ' ' || coalesce(sum(trunc(cost * 1e18)), 0)
                         || ' ' || coalesce(sum(version), 0) from holdings where user_id = '{owner}'"
                ))
                .await?;
            let expected = format!("{nanos} {} {}", nanos * PRICE_NANOS, fills.len());
            ensure!(held == expected, "held {held}, filled {expected}");
        }
        Ok(())
    }
}

/// Repeats what met another statement, as the service does.
async fn insist<T, F>(mut call: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T, LedgerError>>,
{
    let mut tries = 1;
    loop {
        match call().await {
            Err(LedgerError::Conflict(_)) if tries < TRIES_MAX => tries += 1,
            outcome => return Ok(outcome?),
        }
    }
}

fn bought(order: &Order) -> Fill {
    let price = Price::parse(PRICE).expect("a price");
    Fill::new(price, order.request.quantity).expect("an exact product")
}

fn filled(order: &Order) -> Outcome {
    Outcome::Filled(bought(order))
}

/// Unlike every other answer, so that two are never taken for one.
fn own_answer(status: u16) -> StoredAnswer {
    answer(status, &format!(r#"{{"made":"{}"}}"#, Uuid::new_v4()))
}

/// Billionths of a share; quantities here are below one.
fn nanos(quantity: Quantity) -> u128 {
    let text = quantity.to_string();
    let decimals = text.strip_prefix("0.").expect("less than one share");
    format!("{decimals:0<9}").parse().expect("digits")
}
