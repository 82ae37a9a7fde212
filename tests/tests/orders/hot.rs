//! Many clients, one portfolio, one stock: every fill is a step of the version, nothing is lost between them, nobody is turned away.
//! (reliability: T09)

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::support::{Case, new_key};

const CLIENTS: usize = 64;
const ORDERS: usize = 400;
/// These have the name of an order that is there already: the ledger refuses each of them, and nothing beside it.
const ONE_IS_REFUSED_OF: usize = 10;

#[test]
fn a_hot_portfolio_books_every_fill_and_refuses_only_what_is_wrong() -> Result<()> {
    let mut case = Case::start(2)?;
    let mut named = case.order("1");
    named["clientOrderId"] = json!("taken");
    ensure!(case.place(0, &new_key(), &named)?.status == 201);

    let answers = case.place_all((0..ORDERS).map(|number| nth(&case, number)).collect(), CLIENTS)?;
    let count = |status: u16| answers.iter().filter(|got| got.status == status).count();
    let filled = ORDERS - ORDERS / ONE_IS_REFUSED_OF;
    ensure!(
        (count(201), count(422)) == (filled, ORDERS - filled),
        "otherwise answered: {:?}",
        answers.iter().find(|got| ![201, 422].contains(&got.status))
    );
    let path = format!("/v1/portfolios/{}", case.users[0].id);
    let portfolio = case.world.client(1, &case.users[0].key).get(&path)?.expect(200)?;
    let version = portfolio["version"].as_u64().context("a version")?;
    ensure!(
        version == 1 + 1 + filled as u64,
        "version {version} after {} fills",
        filled + 1
    );
    ensure!(
        portfolio["holdings"].as_array().map_or(0, Vec::len) == 1,
        "{portfolio}"
    );
    // Quantity and cost, against the orders and against the vendor.
    case.count()
}

fn nth(case: &Case, number: usize) -> (String, Value) {
    let mut order = case.unique_order();
    if number.is_multiple_of(ONE_IS_REFUSED_OF) {
        order["clientOrderId"] = json!("taken");
    }
    (new_key(), order)
}
