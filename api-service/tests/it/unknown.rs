//! Unknown orders to their end, and the proof that nothing was changed: what clients, administrators and operators see.

use std::process::Command;

use anyhow::{Context as _, Result, anyhow};
use fuse_harness::wait;
use serde_json::{Value, json};
use vendor_simulator::{Action, Operation, Rule};

use crate::support::{Answer, BOOTSTRAP, PATIENCE, Setup, World};

/// A world with one order that the vendor executed and never confirmed.
async fn world_with_an_unknown_order() -> Result<(World, Value)> {
    let world = World::start().await?;
    world
        .simulator
        .add_rule(Rule::on(Operation::Buy, Action::Reset { executed: true }))
        .map_err(|error| anyhow!("{error}"))?;
    let order = world.order(&world.good_order()).gives(202).await?.json();
    Ok((world, order))
}

fn path(order: &Value) -> String {
    format!("/v1/orders/{}/resolve", order["id"].as_str().unwrap_or_default())
}

async fn resolve(world: &World, order: &Value, body: &Value, status: u16) -> Result<Answer> {
    world.post(&path(order), body).key(BOOTSTRAP).gives(status).await
}

async fn quantities(world: &World) -> Result<Vec<Value>> {
    let portfolio = world
        .get(&format!("/v1/portfolios/{}", world.user))
        .key(&world.key)
        .gives(200)
        .await?
        .json();
    let holdings = portfolio["holdings"].as_array().cloned().unwrap_or_default();
    Ok(holdings
        .iter()
        .map(|holding| holding["quantity"].clone())
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_settles_an_unknown_order_once() -> Result<()> {
    let (world, order) = world_with_an_unknown_order().await?;
    let filled =
        json!({"outcome": "filled", "price": order["limitPrice"], "quantity": "1", "note": "ticket 4711"});
    let settled = resolve(&world, &order, &filled, 200).await?.json();
    assert_eq!(settled["status"], "filled");
    assert_eq!(settled["fill"]["quantity"], "1");
    assert_eq!(
        settled["resolution"],
        json!({"by": "key:bootstrap", "note": "ticket 4711"})
    );
    assert_eq!(quantities(&world).await?, ["1"]);
    // Repeating it is harmless, another outcome is refused, and nothing is booked again.
    assert_eq!(resolve(&world, &order, &filled, 200).await?.json(), settled);
    let failed = json!({"outcome": "failed", "note": "no"});
    let refused = resolve(&world, &order, &failed, 409).await?;
    refused.is_problem(409, "resolution_conflict", &[]);
    assert_eq!(quantities(&world).await?, ["1"]);
    let read = world.get(&format!("/v1/orders/{}", order["id"].as_str().context("an id")?));
    assert_eq!(read.key(&world.key).gives(200).await?.json(), settled);
    world
        .api
        .wait_for_metric("fuse_orders_total{reason=\"none\",state=\"filled\"}", 1.0)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolution_says_what_is_wrong_with_it() -> Result<()> {
    let (world, order) = world_with_an_unknown_order().await?;
    let wrong = [
        (json!({}), &["/outcome required", "/note required"][..]),
        (json!({"outcome": "lost", "note": "x"}), &["/outcome not_one_of"]),
        (
            json!({"outcome": "filled", "note": "x"}),
            &["/price required", "/quantity required"],
        ),
        (
            json!({"outcome": "filled", "price": "0", "quantity": "1.5", "note": "x"}),
            &["/price not_positive", "/quantity too_large"],
        ),
        (
            json!({"outcome": "failed", "price": "1", "note": ""}),
            &["/note empty", "/price not_supported"],
        ),
        (
            json!({"outcome": "failed", "note": "x", "why": "y"}),
            &["/why unknown_field"],
        ),
    ];
    for (body, errors) in wrong {
        resolve(&world, &order, &body, 422)
            .await?
            .is_problem(422, "invalid_fields", errors);
    }
    let good = json!({"outcome": "failed", "note": "x"});
    world
        .post(&path(&order), &good)
        .key(&world.key)
        .gives(403)
        .await?
        .is_problem(403, "scope_missing", &[]);
    let nowhere = json!({"id": "01990000-0000-7000-8000-000000000000"});
    resolve(&world, &nowhere, &good, 404)
        .await?
        .is_problem(404, "order_not_found", &[]);
    let rejected = world
        .order(&json!({"symbol": "NOPE", "side": "buy", "quantity": "1", "limitPrice": "1"}))
        .gives(422)
        .await?;
    let rejected = json!({"id": rejected.json()["orderId"]});
    resolve(&world, &rejected, &good, 409)
        .await?
        .is_problem(409, "order_not_unknown", &[]);
    let list = world
        .get("/v1/orders?status=unknown")
        .key(&world.key)
        .gives(200)
        .await?
        .json();
    assert_eq!(list["items"], json!([order]), "nothing of all this changed it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_process_died_is_given_up_and_says_so() -> Result<()> {
    let setup = Setup {
        env: vec![
            ("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "20000".to_owned()),
            ("FUSE_LIMITS__REQUEST_TIMEOUT_SECS", "40".to_owned()),
        ],
        ..Setup::default()
    };
    let mut world = World::with(setup).await?;
    world
        .simulator
        .add_rule(Rule::on(Operation::Buy, Action::NeverAnswer { executed: true }))
        .map_err(|error| anyhow!("{error}"))?;
    let call = || {
        world
            .post("/v1/orders", &world.good_order())
            .key(&world.key)
            .header("idempotency-key", "k")
    };
    let waiting = tokio::spawn(call().send());
    wait::until_async("the order to be at the vendor", PATIENCE, || async {
        (world.vendor_buys().0 == 1).then_some(())
    })
    .await?;
    call()
        .gives(409)
        .await?
        .is_problem(409, "idempotency_in_progress", &[]);
    world.api.proc.kill()?;
    let _ = waiting.await?;
    let quick = [
        ("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "1000".to_owned()),
        ("FUSE_ORDERS__SWEEP_MARGIN_SECS", "1".to_owned()),
    ];
    let api = world.second_api_with(&quick)?;
    world.api = api;
    let again = wait::until_async("the order to be given up", PATIENCE, || async {
        let answer = world
            .post("/v1/orders", &world.good_order())
            .key(&world.key)
            .header("idempotency-key", "k")
            .send()
            .await;
        answer.ok().filter(|answer| answer.status == 202)
    })
    .await?;
    let order = again.json();
    assert_eq!(
        (&order["status"], &order["reason"]),
        (&json!("unknown"), &json!("interrupted"))
    );
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(world.vendor_buys(), (1, 1), "it is never sent again");
    world
        .api
        .wait_for_metric("fuse_orders_open{state=\"unknown\"}", 1.0)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_ledger_is_checked_and_a_changed_holding_is_named() -> Result<()> {
    let world = World::start().await?;
    world.order(&world.good_order()).gives(201).await?;
    let verify = || world.get("/v1/audit/verify");
    verify()
        .key(&world.key)
        .gives(403)
        .await?
        .is_problem(403, "scope_missing", &[]);
    let found = verify().key(BOOTSTRAP).gives(200).await?.json();
    assert_eq!(
        (&found["valid"], &found["checked"]["orders"], &found["firstBad"]),
        (&json!(true), &json!(1), &json!(null))
    );
    assert_eq!(command(&world, &[])?.0, Some(0));
    world.sql("set session_replication_role = replica; update holdings set cost = cost + 1")?;
    let (code, out, told) = command(&world, &[])?;
    assert_eq!(code, Some(3), "{told}");
    let out: Value = serde_json::from_str(&out)?;
    assert_eq!(
        (&out["valid"], &out["firstBad"]["invariant"]),
        (&json!(false), &json!("holdings"))
    );
    assert!(told.contains("NOT what it should be: holdings"), "{told}");
    let anchor = format!("1:{}", "0".repeat(64));
    let (code, out, _) = command(&world, &["--anchor", &anchor])?;
    let out: Value = serde_json::from_str(&out)?;
    assert_eq!((code, &out["firstBad"]["invariant"]), (Some(3), &json!("chain")));
    assert_eq!(command(&world, &["--anchor", "nonsense"])?.0, Some(2));
    Ok(())
}

/// Runs `api-service verify`: exit code, standard output, standard error.
fn command(world: &World, args: &[&str]) -> Result<(Option<i32>, String, String)> {
    let output = Command::new(env!("CARGO_BIN_EXE_api-service"))
        .arg("verify")
        .args(args)
        .env_clear()
        .env("FUSE_DATABASE__URL", &world.database_url)
        .output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((output.status.code(), text(output.stdout), text(output.stderr)))
}
