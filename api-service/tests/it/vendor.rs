//! What the vendor does to us, and what the user sees of it.

use anyhow::{Result, anyhow};
use fuse_harness::wait;
use serde_json::json;
use vendor_simulator::{Action, Body, BuyFault, Latency, Operation, Rule};

use crate::support::{Answer, PATIENCE, World};

/// A world whose vendor meets buys with this fault.
async fn world_with(action: Action) -> Result<World> {
    let world = World::start().await?;
    world
        .simulator
        .add_rule(Rule::on(Operation::Buy, action))
        .map_err(|error| anyhow!("{error}"))?;
    Ok(world)
}

/// The same where the first stock costs 100.
async fn world_at_100(action: Action) -> Result<World> {
    let world = world_with(action).await?;
    world.simulator.set_prices(&world.symbol(), vec!["100".parse()?]);
    let snapshot = world.publish().await?;
    world.wait_for_snapshot(snapshot.meta.id).await?;
    Ok(world)
}

fn status(status: u16, body: Body) -> Action {
    Action::Status {
        status,
        body,
        executed: false,
        retry_after: None,
        location: None,
    }
}

/// Places an order, repeats it, and wants the same answer and never a second call of the vendor.
async fn place(world: &World, expected_status: u16) -> Result<Answer> {
    let body = world.good_order();
    let call = || {
        world
            .post("/v1/orders", &body)
            .key(&world.key)
            .header("idempotency-key", "k")
    };
    let answer = call().gives(expected_status).await?;
    let called = world.vendor_buys();
    let again = call().gives(expected_status).await?;
    assert_eq!(
        (again.text.as_str(), again.header("idempotency-replayed")),
        (answer.text.as_str(), Some("true"))
    );
    assert_eq!(world.vendor_buys(), called, "a repeat never reaches the vendor");
    Ok(answer)
}

/// The one order as it is recorded.
async fn recorded(world: &World) -> Result<serde_json::Value> {
    let list = world.get("/v1/orders").key(&world.key).gives(200).await?.json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
    Ok(list["items"][0].clone())
}

async fn check_unknown(action: Action, reason: &str, buys: (u64, u64)) -> Result<()> {
    let world = world_with(action).await?;
    let answer = place(&world, 202).await?;
    let order = answer.json();
    assert_eq!(
        (&order["status"], &order["reason"], &order["fill"]),
        (&json!("unknown"), &json!(reason), &json!(null)),
        "{order}"
    );
    assert_eq!(recorded(&world).await?, order);
    assert_eq!(world.vendor_buys(), buys);
    let portfolio = world
        .get(&format!("/v1/portfolios/{}", world.user))
        .key(&world.key)
        .gives(200)
        .await?
        .json();
    assert_eq!(
        portfolio["holdings"],
        json!([]),
        "nothing is booked that may not have been bought"
    );
    Ok(())
}

async fn check_failed(action: Action, answer_status: u16, code: &str, buys: (u64, u64)) -> Result<Answer> {
    let world = world_with(action).await?;
    let answer = place(&world, answer_status).await?;
    // Our own check passed the price, so the vendor's refusal is told as what it is.
    let errors: &[&str] = if code == "vendor_rejected" {
        &["/limitPrice refused"]
    } else {
        &[]
    };
    answer.is_problem(answer_status, code, errors);
    let order = recorded(&world).await?;
    assert_eq!(
        (&order["status"], &order["reason"]),
        (&json!("failed"), &json!(code)),
        "{order}"
    );
    assert_eq!(answer.json()["orderId"], order["id"]);
    assert_eq!(world.vendor_buys(), buys);
    assert_eq!(world.sql("select count(*) from holdings")?, "0");
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_after_the_buy_is_unknown_and_bought_once() -> Result<()> {
    check_unknown(Action::Reset { executed: true }, "vendor_reset", (1, 1)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_never_answers_makes_it_unknown() -> Result<()> {
    check_unknown(Action::NeverAnswer { executed: true }, "vendor_timeout", (1, 1)).await
}

/// Later than our deadline of three seconds, and executed in time.
#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_answers_too_late_makes_it_unknown_and_is_not_asked_again() -> Result<()> {
    let late = Action::Latency(Latency::Fixed { ms: 4_000 });
    check_unknown(late, "vendor_timeout", (1, 1)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_500_makes_it_unknown() -> Result<()> {
    check_unknown(status(500, Body::Envelope), "vendor_server_error", (1, 0)).await?;
    check_unknown(status(503, Body::Html), "vendor_server_error", (1, 0)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_cut_in_the_middle_makes_it_unknown() -> Result<()> {
    check_unknown(
        Action::CloseMidBody { executed: true },
        "vendor_unreadable",
        (1, 1),
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_and_final() -> Result<()> {
    check_failed(status(400, Body::Envelope), 422, "vendor_rejected", (1, 0)).await?;
    // The price moved between our quote and the order: the vendor has the last word.
    let world = World::start().await?;
    let body = world.good_order();
    world.simulator.set_prices(&world.symbol(), vec!["0.01".parse()?]);
    let answer = world
        .order(&body)
        .refused(422, "vendor_rejected", &["/limitPrice refused"])
        .await?;
    assert!(
        answer.json()["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("nothing was bought"))
    );
    Ok(())
}

/// Nobody knows whether exactly 2 % is accepted: our rule lets it through, and the vendor has the last word.
#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_refuses_the_exact_edge_has_the_last_word() -> Result<()> {
    let world = world_at_100(Action::StrictEdge).await?;
    for (sent, edge) in [(1, "98"), (2, "102")] {
        let mut body = world.good_order();
        body["limitPrice"] = json!(edge);
        let refused = world
            .order(&body)
            .refused(422, "vendor_rejected", &["/limitPrice refused"])
            .await?;
        assert_eq!(world.vendor_buys(), (sent, 0), "{edge}");
        let id = refused.json()["orderId"].as_str().expect("an id").to_owned();
        let read = world.get(&format!("/v1/orders/{id}")).key(&world.key);
        let order = read.gives(200).await?.json();
        assert_eq!(
            (&order["status"], &order["reason"], &order["limitPrice"]),
            (&json!("failed"), &json!("vendor_rejected"), &json!(edge)),
            "{order}"
        );
    }
    assert_eq!(world.sql("select count(*) from holdings")?, "0");
    let mut inside = world.good_order();
    inside["limitPrice"] = json!("101.999999999");
    world.order(&inside).gives(201).await?;
    assert_eq!(world.vendor_buys(), (3, 1));
    Ok(())
}

/// The contract does not say whether the price of an answer is the offer: what the vendor says that it cost is booked.
#[tokio::test(flavor = "multi_thread")]
async fn another_price_of_the_vendor_is_the_price_of_the_fill() -> Result<()> {
    let fault = BuyFault::OtherPrice;
    let world = world_at_100(Action::BuyAnswer { fault }).await?;
    let order = place(&world, 201).await?.json();
    assert_eq!(order["limitPrice"], "100");
    assert_eq!(
        order["fill"],
        json!({"price": "101", "quantity": "1", "total": "101"})
    );
    assert_eq!(recorded(&world).await?, order);
    assert_eq!(world.vendor_buys(), (1, 1));
    assert_eq!(
        world.sql("select quantity || ' ' || cost from holdings")?,
        "1 101"
    );
    Ok(())
}

/// Its total comes of its own arithmetic: evidence, while ours is price times quantity.
#[tokio::test(flavor = "multi_thread")]
async fn another_total_of_the_vendor_is_kept_as_evidence_and_counted() -> Result<()> {
    let fault = BuyFault::OtherTotal;
    let world = world_at_100(Action::BuyAnswer { fault }).await?;
    let order = place(&world, 201).await?.json();
    assert_eq!(
        order["fill"],
        json!({"price": "100", "quantity": "1", "total": "100"})
    );
    assert_eq!(order["attempts"][0]["vendorTotal"], "200", "{order}");
    assert_eq!(recorded(&world).await?, order);
    assert_eq!(
        world.sql("select quantity || ' ' || cost from holdings")?,
        "1 100"
    );
    let mismatches = "fuse_vendor_buy_total_mismatches_total";
    assert_eq!(world.api.metric(mismatches).await?, 1.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vendor_refusing_ourselves_is_a_502() -> Result<()> {
    check_failed(status(403, Body::Message), 502, "vendor_forbidden", (1, 0)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vendors_rate_limit_is_passed_on() -> Result<()> {
    let throttled = Action::Status {
        status: 429,
        body: Body::Envelope,
        executed: false,
        retry_after: Some("17".to_owned()),
        location: None,
    };
    let answer = check_failed(throttled, 503, "vendor_throttled", (1, 0)).await?;
    assert_eq!(answer.header("retry-after"), Some("17"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_is_away_fails_orders_and_nothing_else() -> Result<()> {
    let world = World::start().await?;
    world.simulator.away();
    let answer = place(&world, 503).await?;
    answer.is_problem(503, "vendor_unreachable", &[]);
    let order = recorded(&world).await?;
    assert_eq!(order["status"], "failed");
    let attempts = order["attempts"].as_array().expect("attempts");
    assert!(
        !attempts.is_empty() && attempts.iter().all(|attempt| attempt["reached"] == "not_sent"),
        "{order}"
    );
    world.get("/v1/stocks").key(&world.key).gives(200).await?;
    assert!(world.api.is_ready().await, "the vendor's health is not ours");

    world.simulator.back();
    let retry = || world.order(&world.good_order()).send();
    let bought = wait::until_async("the breaker to let an order through", PATIENCE, || async {
        retry().await.ok().filter(|answer| answer.status == 201)
    });
    bought.await?;
    assert_eq!(world.simulator.counters().buys.executed, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_breaker_answers_at_once() -> Result<()> {
    let world = World::start().await?;
    world.simulator.away();
    for _ in 0..8 {
        world
            .order(&world.good_order())
            .refused(503, "vendor_unreachable", &[])
            .await?;
    }
    let clock = world.get("/v1/clock").key(&world.key).gives(200).await?.json();
    assert_ne!(clock["vendor"]["buy"]["breaker"], "closed", "{clock}");
    assert_eq!(world.simulator.counters().buys.received, 0);
    assert_eq!(
        world.sql("select count(*) from orders where status <> 'failed'")?,
        "0"
    );
    Ok(())
}
