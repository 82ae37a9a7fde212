//! What clients do: the n-th step of a client is a function of the seed.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::figures;
use crate::random::Random;

/// A stock and what it costs, in the integers of [`figures`].
#[derive(Debug, Clone)]
pub struct Quote {
    pub symbol: String,
    pub price: i128,
}

/// Somebody who orders.
#[derive(Debug, Clone)]
pub struct User {
    pub id: Uuid,
    pub key: String,
    /// The default one first.
    pub portfolios: Vec<Uuid>,
}

/// How a client behaves in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Sends an order, and again under its key while it gets nothing that is final.
    Plain,
    /// The same, and once more after the answer.
    Again,
    /// Sends an order twice at once.
    Twice,
    /// Sends the order of an earlier step again.
    Earlier { steps: u64 },
    /// After its answer, sends another order under its key.
    OtherBody,
}

/// One step of one client.
#[derive(Debug, Clone)]
pub struct Step {
    pub manner: Manner,
    /// Its idempotency key.
    pub key: String,
    pub order: Value,
    /// Another order, for [`Manner::OtherBody`].
    pub other: Value,
    /// Chooses the replica.
    pub turn: u64,
}

/// Distinguishes the quantities of orders; an order is found at the vendor by it.
const QUANTITIES: u64 = 1_000_000;

/// The `number`-th step of a client. Every second client shares the first user and its default portfolio: that one is hot.
#[must_use]
pub fn step(seed: u64, client: u64, number: u64, users: &[User], quotes: &[Quote]) -> Step {
    let mut random = Random::of(&[seed, client, number]);
    let user = &users[user_of(client, users.len())];
    let manner = match random.below(100) {
        0..12 => Manner::Again,
        12..20 => Manner::Twice,
        20..28 => Manner::Earlier {
            steps: 1 + random.below(10),
        },
        28..34 => Manner::OtherBody,
        _ => Manner::Plain,
    };
    let mut order = good_order(client, 2 * number, &mut random, quotes);
    let other = good_order(client, 2 * number + 1, &mut random, quotes);
    if client % 2 == 1 {
        order["portfolioId"] = json!(random.pick(&user.portfolios));
    }
    if random.percent(12) {
        spoil(&mut order, &mut random);
    }
    Step {
        manner,
        key: key(seed, client, number),
        order,
        other,
        turn: random.next(),
    }
}

/// The idempotency key of a client's step.
#[must_use]
pub fn key(seed: u64, client: u64, number: u64) -> String {
    format!("run-{seed}-client-{client}-step-{number}")
}

/// Index of the user that a client works for.
#[must_use]
pub fn user_of(client: u64, users: usize) -> usize {
    if client.is_multiple_of(2) {
        return 0;
    }
    usize::try_from(client / 2).unwrap_or(0) % users
}

/// Within 1.5 % of the quote, in a quantity that no other order of the run has.
fn good_order(client: u64, serial: u64, random: &mut Random, quotes: &[Quote]) -> Value {
    let quote = random.pick(quotes);
    let off = i128::from(random.below(3001)) - 1500;
    let price = quote.price + quote.price * off / 100_000;
    let quantity = figures::ONE * i128::from(1 + client)
        + figures::ONE / i128::from(QUANTITIES) * i128::from(serial % QUANTITIES);
    json!({
        "symbol": quote.symbol,
        "side": "buy",
        "quantity": figures::text(quantity),
        "limitPrice": figures::text(price),
    })
}

/// Makes an order one that is refused: by the band, by the list of stocks, or as no order at all.
fn spoil(order: &mut Value, random: &mut Random) {
    match random.below(4) {
        0 => order["symbol"] = json!("NOSUCHSTOCK"),
        1 => order["quantity"] = json!("0"),
        _ => {
            let price = order["limitPrice"].as_str().and_then(figures::parse);
            order["limitPrice"] = json!(figures::text(price.unwrap_or(figures::ONE) * 11 / 10));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_orders_share_a_quantity_and_a_seed_gives_the_same_ones() {
        let user = User {
            id: Uuid::nil(),
            key: String::new(),
            portfolios: vec![Uuid::nil()],
        };
        let (users, quotes) = (
            [user],
            [Quote {
                symbol: "A".to_owned(),
                price: 100 * figures::ONE,
            }],
        );
        let mut seen = BTreeSet::new();
        for client in 0..16 {
            for number in 0..100 {
                let once = step(7, client, number, &users, &quotes);
                let again = step(7, client, number, &users, &quotes);
                assert_eq!((&once.key, &once.order), (&again.key, &again.order));
                for order in [&once.order, &once.other] {
                    let quantity = order["quantity"].as_str().expect("text").to_owned();
                    assert!(quantity == "0" || seen.insert(quantity), "{order}");
                }
            }
        }
    }
}
