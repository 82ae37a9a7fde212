//! Orders that work: bought, booked, repeated, listed.

use anyhow::Result;
use fuse_harness::wait;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;
use vendor_simulator::{Action, Latency, Operation, Rule};

use crate::support::{PATIENCE, Setup, World};

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_bought_and_booked_exactly() -> Result<()> {
    let world = World::start().await?;
    let symbol = world.symbol();
    world.simulator.set_prices(&symbol, vec!["19.71107".parse()?]);
    let snapshot = world.publish().await?;
    world.wait_for_snapshot(snapshot.meta.id).await?;
    let body = json!({"symbol": symbol, "side": "buy", "quantity": "4.50", "limitPrice": "19.71107", "clientOrderId": "mine-1"});
    let answer = world.order(&body).gives(201).await?;
    let order = answer.json();
    let id = order["id"].as_str().expect("an id");
    assert_eq!(
        answer.header("location"),
        Some(format!("/v1/orders/{id}").as_str())
    );
    assert_eq!(
        order["fill"],
        json!({"price": "19.71107", "quantity": "4.5", "total": "88.699815"})
    );
    assert_eq!(
        (&order["status"], &order["reason"]),
        (&json!("filled"), &json!(null))
    );
    assert_eq!(order["quote"]["snapshotId"], json!(snapshot.meta.id));
    assert_eq!(
        (&order["userId"], &order["portfolioId"]),
        (&json!(world.user), &json!(world.user))
    );
    assert_eq!(order["clientOrderId"], "mine-1");
    assert_eq!(order["attempts"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        world
            .get(&format!("/v1/orders/{id}"))
            .key(&world.key)
            .gives(200)
            .await?
            .json(),
        order
    );
    let executed = world.simulator.executed();
    assert_eq!(
        (executed[0].price.as_str(), executed[0].quantity.as_str()),
        ("19.71107", "4.5")
    );

    let answer = world
        .get(&format!("/v1/portfolios/{}", world.user))
        .key(&world.key)
        .gives(200)
        .await?;
    let portfolio = answer.json();
    assert_eq!(
        (answer.header("etag"), &portfolio["version"]),
        (Some("\"2\""), &json!(2))
    );
    let holding = &portfolio["holdings"][0];
    for (member, value) in [
        ("symbol", symbol.as_str()),
        ("quantity", "4.5"),
        ("averagePrice", "19.71107"),
        ("cost", "88.699815"),
        ("currentPrice", "19.71107"),
        ("marketValue", "88.699815"),
        ("profitLoss", "0"),
        ("profitLossPercent", "0"),
    ] {
        assert_eq!(holding[member], value, "{member}: {portfolio}");
    }
    assert_eq!(
        portfolio["totals"],
        json!({"cost": "88.699815", "marketValue": "88.699815", "profitLoss": "0"})
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portfolio_follows_the_prices_and_invents_none() -> Result<()> {
    let world = World::start().await?;
    let symbols = world.simulator.symbols();
    for symbol in &symbols[..2] {
        world.simulator.set_prices(symbol, vec!["100".parse()?]);
    }
    let snapshot = world.publish().await?;
    world.wait_for_snapshot(snapshot.meta.id).await?;
    for (symbol, price) in [(&symbols[0], "100"), (&symbols[0], "99"), (&symbols[1], "100")] {
        let body = json!({"symbol": symbol, "side": "buy", "quantity": "1", "limitPrice": price});
        world.order(&body).gives(201).await?;
    }
    world.simulator.set_prices(&symbols[0], vec!["110".parse()?]);
    let snapshot = world.publish().await?;
    world.wait_for_snapshot(snapshot.meta.id).await?;
    let path = format!("/v1/portfolios/{}", world.user);
    let portfolio = world.get(&path).key(&world.key).gives(200).await?.json();
    let holdings = portfolio["holdings"].as_array().expect("holdings");
    let first = holdings
        .iter()
        .find(|holding| holding["symbol"] == symbols[0].as_str())
        .expect("a holding");
    assert_eq!(
        (&first["averagePrice"], &first["profitLoss"]),
        (&json!("99.5"), &json!("21"))
    );
    assert_eq!(first["profitLossPercent"], "10.5528");
    assert_eq!(portfolio["totals"]["profitLoss"], "21");

    // A stock that the vendor no longer lists has no price; then the sum has none either.
    world.sql(&format!(
        "insert into holdings (user_id, portfolio_id, symbol, quantity, cost, updated_at) values ('{0}', '{0}', 'GONE', 2, 7.5, now())",
        world.user
    ))?;
    let portfolio = world.get(&path).key(&world.key).gives(200).await?.json();
    let gone = portfolio["holdings"]
        .as_array()
        .expect("holdings")
        .iter()
        .find(|holding| holding["symbol"] == "GONE");
    let gone = gone.expect("it is still held");
    assert_eq!(
        (
            &gone["cost"],
            &gone["currentPrice"],
            &gone["marketValue"],
            &gone["priceAsOf"]
        ),
        (&json!("7.5"), &Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(
        portfolio["totals"],
        json!({"cost": "306.5", "marketValue": null, "profitLoss": null})
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_gets_the_first_answer_byte_for_byte() -> Result<()> {
    let world = World::start().await?;
    let body = world.good_order();
    let place = |body: &Value| {
        world
            .post("/v1/orders", body)
            .key(&world.key)
            .header("idempotency-key", "once")
    };
    let first = place(&body).gives(201).await?;
    assert_eq!(first.header("idempotency-replayed"), None);
    for _ in 0..3 {
        let again = place(&body).gives(201).await?;
        assert_eq!(again.text, first.text);
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
    }
    // The same values written otherwise are the same request.
    let mut spelled = body.clone();
    spelled["quantity"] = json!("1.000");
    assert_eq!(place(&spelled).gives(201).await?.text, first.text);
    let mut other = body.clone();
    other["quantity"] = json!("2");
    place(&other)
        .refused(422, "idempotency_key_reused", &["/Idempotency-Key not_allowed"])
        .await?;
    assert_eq!(world.vendor_buys(), (1, 1));

    // A rejection is repeated too, and another user may use the same key.
    let mut bad = body.clone();
    bad["symbol"] = json!("NOSUCH");
    let rejected = |key: &'static str| {
        world
            .post("/v1/orders", &bad)
            .key(&world.key)
            .header("idempotency-key", key)
    };
    let first = rejected("bad").gives(422).await?;
    let again = rejected("bad").gives(422).await?;
    assert_eq!(
        (again.text.as_str(), again.header("content-type")),
        (first.text.as_str(), Some("application/problem+json"))
    );
    let stranger = world.make_key(Some(Uuid::now_v7()), "read,trade")?;
    world
        .post("/v1/orders", &body)
        .key(&stranger)
        .header("idempotency-key", "once")
        .gives(201)
        .await?;
    assert_eq!(world.vendor_buys(), (2, 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_at_once_is_bought() -> Result<()> {
    let world = World::with(Setup {
        env: vec![
            ("FUSE_DATABASE__ACQUIRE_TIMEOUT_MILLIS", "20000".to_owned()),
            ("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "10000".to_owned()),
        ],
        ..Setup::default()
    })
    .await?;
    let slow = Action::Latency(Latency::Fixed { ms: 2_500 });
    world
        .simulator
        .add_rule(Rule::on(Operation::Buy, slow))
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let body = world.good_order();
    let calls = (0..20).map(|_| {
        world
            .post("/v1/orders", &body)
            .key(&world.key)
            .header("idempotency-key", "race")
            .send()
    });
    let answers = futures::future::try_join_all(calls).await?;
    let (mut bought, mut replayed, mut waiting) = (0, 0, 0);
    for answer in answers {
        match (answer.status, answer.header("idempotency-replayed")) {
            (201, None) => bought += 1,
            // It came after the vendor had answered.
            (201, Some(_)) => replayed += 1,
            _ => {
                answer.is_problem(409, "idempotency_in_progress", &[]);
                assert_eq!(answer.header("retry-after"), Some("1"));
                waiting += 1;
            }
        }
    }
    assert_eq!((bought, waiting + replayed), (1, 19));
    assert!(waiting > 0, "none came while the order was in flight");
    assert_eq!(world.vendor_buys(), (1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_says_whose_portfolio() -> Result<()> {
    let world = World::start().await?;
    let service = world.make_key(None, "read,trade")?;
    let mut body = world.good_order();
    let place = |body: &Value| world.post("/v1/orders", body).key(&service).fresh();
    place(&body)
        .refused(422, "invalid_fields", &["/portfolioId required"])
        .await?;
    body["portfolioId"] = json!(Uuid::now_v7());
    place(&body)
        .refused(404, "portfolio_not_found", &["/portfolioId not_allowed"])
        .await?;
    assert_eq!(world.vendor_buys(), (0, 0));
    let path = format!("/v1/users/{}/portfolios", world.user);
    let made = world
        .post(&path, &json!({"name": "Savings"}))
        .key(&service)
        .gives(201)
        .await?;
    let portfolio = made.json();
    let id = portfolio["id"].as_str().expect("an id").to_owned();
    assert_eq!(
        made.header("location"),
        Some(format!("/v1/portfolios/{id}").as_str())
    );
    body["portfolioId"] = json!(id);
    let order = place(&body).gives(201).await?.json();
    assert_eq!(
        (&order["userId"], &order["portfolioId"]),
        (&json!(world.user), &json!(id))
    );

    let list = world.get(&path).key(&world.key).gives(200).await?.json();
    let names: Vec<&str> = list["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|item| item["name"].as_str())
        .collect();
    assert_eq!(names, ["Default", "Savings"]);
    let first = world
        .get(&format!("{path}?limit=1"))
        .key(&world.key)
        .gives(200)
        .await?
        .json();
    let token = first["nextPageToken"].as_str().expect("a token");
    let second = world
        .get(&format!("{path}?limit=1&pageToken={token}"))
        .key(&world.key)
        .gives(200)
        .await?
        .json();
    assert_eq!(
        (&second["items"][0]["name"], second.get("nextPageToken")),
        (&json!("Savings"), None)
    );
    world
        .post(&path, &json!({"name": " ", "colour": 1}))
        .key(&world.key)
        .refused(422, "invalid_fields", &["/name empty", "/colour unknown_field"])
        .await?;
    world
        .get(&format!("/v1/users/{}/portfolios", Uuid::now_v7()))
        .key(&service)
        .refused(404, "user_not_found", &[])
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_listed_newest_first() -> Result<()> {
    let world = World::start().await?;
    let mut placed = Vec::new();
    for number in 0..5 {
        let mut body = world.good_order();
        body["clientOrderId"] = json!(format!("c{number}"));
        placed.push(world.order(&body).gives(201).await?.json()["id"].clone());
    }
    let mut bad = world.good_order();
    bad["symbol"] = json!("NOSUCH");
    world.order(&bad).gives(422).await?;
    placed.reverse();
    let get = |path: String| world.get(&path).key(&world.key);
    let ids = |page: &Value| -> Vec<Value> {
        page["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|item| item["id"].clone())
            .collect()
    };
    let first = get("/v1/orders?status=filled&limit=3".to_owned())
        .gives(200)
        .await?
        .json();
    assert_eq!(ids(&first), placed[..3]);
    let token = first["nextPageToken"].as_str().expect("a token");
    let rest = get(format!("/v1/orders?status=filled&limit=3&pageToken={token}"))
        .gives(200)
        .await?
        .json();
    assert_eq!(
        (ids(&rest).as_slice(), rest.get("nextPageToken")),
        (&placed[3..], None)
    );
    let other_filter = get(format!("/v1/orders?status=failed&pageToken={token}"));
    other_filter
        .refused(400, "invalid_page_token", &["/pageToken other_filter"])
        .await?;
    let one = get("/v1/orders?clientOrderId=c1".to_owned())
        .gives(200)
        .await?
        .json();
    assert_eq!(ids(&one), [placed[3].clone()]);
    let rejected = get("/v1/orders?symbol=NOSUCH".to_owned())
        .gives(200)
        .await?
        .json();
    assert_eq!(rejected["items"][0]["reason"], "unknown_symbol");
    let stranger = world.make_key(Some(Uuid::now_v7()), "read")?;
    let foreign = world
        .get(&format!("/v1/orders?status=filled&limit=3&pageToken={token}"))
        .key(&stranger);
    foreign
        .refused(400, "invalid_page_token", &["/pageToken other_filter"])
        .await?;
    let taken = json!({"clientOrderId": "c1"});
    let mut body = world.good_order();
    body["clientOrderId"] = taken["clientOrderId"].clone();
    world
        .order(&body)
        .refused(422, "invalid_fields", &["/clientOrderId taken"])
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_does_not_stop_its_order() -> Result<()> {
    let world = World::start().await?;
    let slow = Action::Latency(Latency::Fixed { ms: 800 });
    world
        .simulator
        .add_rule(Rule::on(Operation::Buy, slow))
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let call = world.order(&world.good_order());
    let gone = tokio::spawn(call.send());
    wait::until("the vendor to be called", PATIENCE, || {
        (world.vendor_buys().0 == 1).then_some(())
    })?;
    gone.abort();
    wait::until_async("the order to be booked", PATIENCE, || async {
        let list = world
            .get("/v1/orders?status=filled")
            .key(&world.key)
            .send()
            .await
            .ok()?;
        (list.json()["items"].as_array()?.len() == 1).then_some(())
    })
    .await?;
    assert_eq!(world.vendor_buys(), (1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_the_orders_in_flight() -> Result<()> {
    let world = World::start().await?;
    let slow = Action::Latency(Latency::Fixed { ms: 1_000 });
    world
        .simulator
        .add_rule(Rule::on(Operation::Buy, slow))
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let call = world.call(Method::POST, "/v1/orders").key(&world.key).fresh();
    let call = call.body("application/json", world.good_order().to_string());
    let waiting = tokio::spawn(call.send());
    wait::until("the vendor to be called", PATIENCE, || {
        (world.vendor_buys().0 == 1).then_some(())
    })?;
    let status = world.api.proc.terminate(PATIENCE)?;
    assert!(status.success(), "a stop in order: {status}");
    assert_eq!(waiting.await??.status, 201, "the client got its answer");
    assert_eq!(world.sql("select status from orders")?, "filled");
    Ok(())
}
