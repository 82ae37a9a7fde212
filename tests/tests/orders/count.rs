//! The count itself: whatever is wrong on one of the two sides is named. A count that cannot find anything proves nothing.

use anyhow::{Context as _, Result, ensure};
use fuse_harness::background;
use fuse_harness::chaos::{close, proof_violations, report_so_far, resolve_all};
use serde_json::json;
use vendor_simulator::{Action, Operation, Rule};

use crate::support::{Case, new_key};

/// What is done to the ledger by force, how it is undone, and what the count must say.
const TAMPERINGS: [(&str, &str, &str); 9] = [
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
        "update orders set quote_as_of = quote_as_of - interval '600 seconds' where status = 'failed'",
        "update orders set quote_as_of = quote_as_of + interval '600 seconds' where status = 'failed'",
        "has a quote of another time",
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

/// The same, of what the ledger proves of itself when it is closed.
const FORGERIES: [(&str, &str, &str); 7] = [
    (
        "update order_events set at = at + interval '1 microsecond' where status = 'failed' and from_status = 'submitted'",
        "update order_events set at = at - interval '1 microsecond' where status = 'failed' and from_status = 'submitted'",
        "was changed",
    ),
    (
        "create table kept as select * from order_event_chain; update order_event_chain set hash = sha256('x') where link = 1",
        "update order_event_chain c set hash = k.hash from kept k where k.link = c.link; drop table kept",
        "does not continue the one before",
    ),
    (
        "create table kept as select * from reports;
         update reports set content = jsonb_set(content::jsonb, '{failed,items}', '[]')",
        RESTORE_REPORTS,
        "was failed, and the reports list it 0 times",
    ),
    (
        "create table kept as select * from reports;
         update reports set content = jsonb_set(content::jsonb, '{filled,items}',
             (content::jsonb #> '{filled,items}') || (content::jsonb #> '{filled,items}'))",
        RESTORE_REPORTS,
        "was filled, and the reports list it 2 times",
    ),
    (
        "create table kept as select * from reports;
         update reports set content = jsonb_set(content::jsonb, '{failed,items}', content::jsonb #> '{filled,items}')",
        RESTORE_REPORTS,
        "was not failed, and the reports list it 1 times",
    ),
    (
        "create table kept as select * from reports;
         update reports set content = jsonb_set(content::jsonb, '{totals,resolvedTotal}', '\"0.000000001\"')",
        RESTORE_REPORTS,
        "the reports tell totals of",
    ),
    (
        "create table kept as select * from reports;
         update reports set content = jsonb_set(content::jsonb, '{bySymbol}', '[]')",
        RESTORE_REPORTS,
        "the reports sum up nothing",
    ),
];

const RESTORE_REPORTS: &str = "update reports r set content = k.content from kept k where k.report_date = r.report_date; drop table kept";

/// Who can rewrite the whole database can rewrite the chain and every report in it. The upkeep may even help.
const REWRITE: &str = "
    update order_events set at = at + interval '1 microsecond' where status = 'failed' and from_status = 'submitted';
    update reports set content = content::jsonb - 'chain';
    delete from order_event_chain";

#[test]
fn whatever_is_wrong_is_named() -> Result<()> {
    let mut case = with_orders_of_all_kinds()?;
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

#[test]
fn whatever_is_wrong_with_the_chain_or_a_report_is_named() -> Result<()> {
    let mut case = with_orders_of_all_kinds()?;
    report_so_far(&case.world)?;
    case.count()?;
    ensure!(resolve_all(&case.world)? == 1);
    let closed = close(&case.world)?;
    let found = || proof_violations(&case.world, &closed);
    ensure!(found()?.is_empty(), "{:?}", found()?);
    let names = |wrong: &str| {
        let found = found()?.join("\n");
        ensure!(found.contains(wrong), "{wrong} is not in: {found}");
        Ok(())
    };
    for (tamper, undo, must_say) in FORGERIES {
        by_force(&case, tamper)?;
        names(must_say).with_context(|| tamper)?;
        by_force(&case, undo)?;
    }
    ensure!(found()?.is_empty(), "{:?}", found()?);
    by_force(&case, REWRITE)?;
    names("told to the outside")
}

/// One order that is filled, one that failed, one unknown and one rejected.
fn with_orders_of_all_kinds() -> Result<Case> {
    let case = Case::start(1)?;
    let place = |action: Option<Action>, status: u16| {
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
    place(None, 201)?;
    place(Some(refused), 422)?;
    place(Some(Action::Reset { executed: true }), 202)?;
    let mut too_dear = case.unique_order();
    too_dear["limitPrice"] = json!("1");
    ensure!(case.place(0, &new_key(), &too_dear)?.status == 422);
    Ok(case)
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
