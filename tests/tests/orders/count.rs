//! The count itself: whatever is wrong on one of the two sides is named. A count that cannot find anything proves nothing.

use anyhow::{Context as _, Result, ensure};
use fuse_harness::background;
use serde_json::json;
use vendor_simulator::{Action, Operation, Rule};

use crate::support::{Case, new_key};

/// What is done to the ledger by force, how it is undone, and what the count must say.
const TAMPERINGS: [(&str, &str, &str); 8] = [
    (
        "update holdings set quantity = quantity + 0.000000001",
        "update holdings set quantity = quantity - 0.000000001",
        "holding and fills differ",
    ),
    (
        "update holdings set cost = cost - 0.000000000000000001",
        "update holdings set cost = cost + 0.000000000000000001",
        "holding and fills differ",
    ),
    (
        "update portfolios set version = version + 1 where version > 1",
        "update portfolios set version = version - 1 where version > 1",
        "after 1 fills",
    ),
    (
        "create table kept as select * from order_events where status = 'filled'; delete from order_events where status = 'filled'",
        "insert into order_events select * from kept; drop table kept",
        "is filled with the events >submitted",
    ),
    (
        "update order_events set status = 'unknown', reason = 'interrupted' where status = 'failed'",
        "update order_events set status = 'failed', reason = 'vendor_rejected' where status = 'unknown' and reason = 'interrupted'",
        "is failed with the events",
    ),
    (
        "update orders set limit_price = limit_price * 1.0200001 where status = 'failed'",
        "update orders set limit_price = quote_price where status = 'failed'",
        "with the quote",
    ),
    (
        "update orders set answer_body = answer_body || ' ' where status = 'filled'",
        "update orders set answer_body = rtrim(answer_body) where status = 'filled'",
        "the repeat says",
    ),
    (
        "update orders set quantity = quantity + 7 where status = 'unknown'",
        "update orders set quantity = quantity - 7 where status = 'unknown'",
        "executed without an order",
    ),
];

#[test]
fn whatever_is_wrong_is_named() -> Result<()> {
    let mut case = Case::start(1)?;
    let place = |case: &Case, action: Option<Action>, status: u16| {
        if let Some(action) = action {
            case.world.rule(Rule::on(Operation::Buy, action).times(1))?;
        }
        let got = case.place(0, &new_key(), &case.unique_order())?;
        ensure!(got.status == status, "{got:?}");
        Ok(())
    };
    let refused = Action::Status {
        status: 400,
        body: vendor_simulator::Body::Envelope,
        executed: false,
        retry_after: None,
        location: None,
    };
    place(&case, None, 201)?;
    place(&case, Some(refused), 422)?;
    place(&case, Some(Action::Reset { executed: true }), 202)?;
    let mut too_dear = case.unique_order();
    too_dear["limitPrice"] = json!("1");
    ensure!(case.place(0, &new_key(), &too_dear)?.status == 422);
    case.count()?;
    for (tamper, undo, must_say) in TAMPERINGS {
        by_force(&case, tamper)?;
        names(&mut case, must_say).with_context(|| tamper)?;
        by_force(&case, undo)?;
    }
    case.count()?;
    // These cannot be undone.
    bought_behind_our_back(&case)?;
    names(&mut case, "executed more than once")?;
    by_force(&case, "delete from orders where status = 'rejected'")?;
    names(&mut case, "LOST")
}

fn names(case: &mut Case, wrong: &str) -> Result<()> {
    let found = case
        .count()
        .map_or_else(|wrong| wrong.to_string(), |()| "nothing".to_owned());
    ensure!(found.contains(wrong), "{wrong} is not in: {found}");
    Ok(())
}

/// The rules of the schema do not hold for this.
fn by_force(case: &Case, sql: &str) -> Result<()> {
    case.world
        .sql(&format!("set session_replication_role = replica; {sql}"))
        .map(drop)
}

/// The vendor executes the first order once more.
fn bought_behind_our_back(case: &Case) -> Result<()> {
    let executed = case.world.vendor.executed().swap_remove(0);
    let request = background::http_client()
        .post(format!(
            "{}/stocks/{}/buy",
            case.world.vendor.vendor_url(),
            executed.symbol
        ))
        .header("x-api-key", "simulator-key")
        .header("content-type", "application/json")
        .body(format!(
            "{{\"price\":{},\"quantity\":{}}}",
            executed.price, executed.quantity
        ));
    let answer = background::block_on(request.send())?;
    ensure!(answer.status() == 200, "{answer:?}");
    Ok(())
}
