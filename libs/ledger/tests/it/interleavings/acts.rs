//! What clients, sweeps and people do, and what they are told.

use std::future::Future;

use anyhow::{Result, ensure};
use fuse_domain::{Fill, OrderStatus, Outcome, Price, Reason};
use fuse_ledger::{
    Decision, LedgerError, Order, Placed, Resolution, Resolve, Resolved, Settle, Settled, StoredAnswer,
    SubmitOrder,
};
use futures::future::try_join_all;
use uuid::Uuid;

use super::{Case, LATER, Name, PRICE, Then, WHEN};
use crate::support::{answer, at, request};

/// Whole batches meet in this time, so a call that is refused for their sake gets through.
const TRIES_MAX: u32 = 100;

impl Case<'_> {
    /// As the service does it: the vendor is called by whoever placed a new order that was submitted, and by nobody else.
    pub async fn request(
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

    pub async fn place(&self, name: Name, replica: usize, body: u8, is_allowed: bool) -> Result<Placed> {
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

    pub async fn sweep(&self, replica: usize) -> Result<()> {
        let submitted = self.replicas[replica].submitted_before(at(LATER), 500).await?;
        let given_up = Outcome::Unknown(Reason::Interrupted);
        let sweeps = submitted
            .iter()
            .map(|order| self.settle(replica, order, given_up));
        try_join_all(sweeps).await.map(drop)
    }

    pub async fn resolve(&self, name: Name, replica: usize, was_filled: bool) -> Result<()> {
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
