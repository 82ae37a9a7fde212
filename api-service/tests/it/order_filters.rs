//! The list of orders: every filter by itself and together.

use anyhow::Result;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn every_filter_selects() -> Result<()> {
    let world = World::start().await?;
    let path = format!("/v1/users/{}/portfolios", world.user);
    let savings = world
        .post(&path, &json!({"name": "Savings"}))
        .key(&world.key)
        .gives(201)
        .await?
        .json()["id"]
        .clone();
    let place = async |changes: Value, status: u16| {
        let mut body = world.good_order();
        for (name, value) in changes.as_object().expect("changes are an object") {
            body[name] = value.clone();
        }
        let answer = world.order(&body).gives(status).await?.json();
        let id = answer.get("orderId").unwrap_or(&answer["id"]).clone();
        let path = format!("/v1/orders/{}", id.as_str().expect("an id"));
        anyhow::Ok(world.get(&path).key(&world.key).gives(200).await?.json())
    };
    let first = place(json!({"clientOrderId": "first one"}), 201).await?;
    let second = place(json!({"portfolioId": savings}), 201).await?;
    let third = place(json!({"symbol": "NOSUCH", "portfolioId": savings}), 422).await?;
    let (symbol, user) = (world.symbol(), world.user);
    // The second changes again, after everything else has happened.
    let changed = "2030-01-01T00:00:00.5Z";
    let id = |order: &Value| order["id"].as_str().expect("an id").to_owned();
    let at = |order: &Value, member: &str| order[member].as_str().expect("a time").to_owned();
    world.sql(&format!(
        "set session_replication_role = replica;
         update orders set updated_at = '{changed}' where order_id = '{0}';
         update order_events set at = '{changed}' where order_id = '{0}' and status = 'filled'",
        id(&second)
    ))?;

    let check = async |query: String, expected: &[&Value]| {
        let path = format!("/v1/orders?{query}");
        let list = world.get(&path).key(&world.key).gives(200).await?.json();
        let found: Vec<String> = list["items"].as_array().expect("items").iter().map(id).collect();
        let expected: Vec<String> = expected.iter().map(|order| id(order)).collect();
        assert_eq!(found, expected, "{query}");
        anyhow::Ok(())
    };
    check(String::new(), &[&third, &second, &first]).await?;
    check("status=filled".to_owned(), &[&second, &first]).await?;
    check("status=rejected".to_owned(), &[&third]).await?;
    check("status=unknown".to_owned(), &[]).await?;
    check(format!("symbol={symbol}"), &[&second, &first]).await?;
    check("symbol=NOSUCH".to_owned(), &[&third]).await?;
    check(format!("portfolioId={user}"), &[&first]).await?;
    check(
        format!("portfolioId={}", savings.as_str().expect("an id")),
        &[&third, &second],
    )
    .await?;
    check("clientOrderId=first%20one".to_owned(), &[&first]).await?;
    check("clientOrderId=first".to_owned(), &[]).await?;
    // Placed: from the moment itself, and before it.
    check(format!("after={}", at(&second, "createdAt")), &[&third, &second]).await?;
    check(format!("before={}", at(&second, "createdAt")), &[&first]).await?;
    check(
        format!(
            "after={}&before={}",
            at(&second, "createdAt"),
            at(&third, "createdAt")
        ),
        &[&second],
    )
    .await?;
    check(format!("updatedAfter={changed}"), &[&second]).await?;
    check("updatedAfter=2030-01-01T00:00:00.500001Z".to_owned(), &[]).await?;
    check(
        format!("updatedAfter={}", at(&third, "updatedAt")),
        &[&third, &second],
    )
    .await?;
    check(
        format!("status=filled&symbol={symbol}&portfolioId={user}&clientOrderId=first%20one"),
        &[&first],
    )
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_filter_is_named() -> Result<()> {
    let world = World::start().await?;
    let query = "status=done&symbol=a%20b&portfolioId=1&clientOrderId=&after=today&before=1&updatedAfter=x&limit=0&user=1";
    let errors = [
        "/limit out_of_range",
        "/status not_one_of",
        "/symbol bad_character",
        "/portfolioId not_an_id",
        "/clientOrderId empty",
        "/after not_a_time",
        "/before not_a_time",
        "/updatedAfter not_a_time",
        "/user unknown_field",
    ];
    let call = world.get(&format!("/v1/orders?{query}")).key(&world.key);
    call.refused(400, "invalid_query", &errors).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_order_id_is_unique_for_its_user_only() -> Result<()> {
    let world = World::start().await?;
    let mut body = world.good_order();
    body["clientOrderId"] = json!("mine");
    world.order(&body).gives(201).await?;
    let before = (world.ledger()?, world.vendor_buys());
    world
        .order(&body)
        .refused(422, "invalid_fields", &["/clientOrderId taken"])
        .await?;
    assert_eq!((world.ledger()?, world.vendor_buys()), before);
    // A rejected order has its name too.
    let mut bad = world.good_order();
    (bad["symbol"], bad["clientOrderId"]) = (json!("NOSUCH"), json!("spoilt"));
    world.order(&bad).gives(422).await?;
    body["clientOrderId"] = json!("spoilt");
    world
        .order(&body)
        .refused(422, "invalid_fields", &["/clientOrderId taken"])
        .await?;
    let stranger = world.make_key(Some(Uuid::now_v7()), "trade")?;
    world
        .post("/v1/orders", &body)
        .key(&stranger)
        .fresh()
        .gives(201)
        .await?;
    Ok(())
}
