//! Portfolios: what is pending, what was bought, and their end.

use anyhow::{Result, anyhow};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;
use vendor_simulator::{Action, Operation, Rule};

use crate::support::{Call, World};

async fn another(world: &World) -> Result<String> {
    let path = format!("/v1/users/{}/portfolios", world.user);
    let made = world.post(&path, &json!({"name": "Savings"})).key(&world.key);
    let made = made.gives(201).await?.json();
    Ok(made["id"].as_str().expect("an id").to_owned())
}

fn into(world: &World, portfolio: &str) -> Value {
    let mut body = world.good_order();
    body["portfolioId"] = json!(portfolio);
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_settled_is_pending_and_not_held() -> Result<()> {
    let world = World::start().await?;
    let path = format!("/v1/portfolios/{}", world.user);
    let read = async || anyhow::Ok(world.get(&path).key(&world.key).gives(200).await?.json());
    assert_eq!(
        read().await?["pending"],
        json!({"submitted": 0, "unknown": 0, "items": []})
    );
    world
        .simulator
        .add_rule(Rule::on(Operation::Buy, Action::Reset { executed: true }))
        .map_err(|error| anyhow!("{error}"))?;
    let order = world.order(&world.good_order()).gives(202).await?.json();
    let portfolio = read().await?;
    let pending = &portfolio["pending"];
    assert_eq!(
        (&pending["submitted"], &pending["unknown"]),
        (&json!(0), &json!(1))
    );
    let item = &pending["items"][0];
    for member in ["id", "symbol", "quantity", "limitPrice", "status", "createdAt"] {
        assert_eq!(item[member], order[member], "{member}");
    }
    assert_eq!(
        (item["status"].as_str(), &portfolio["holdings"]),
        (Some("unknown"), &json!([]))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_for_orders_and_not_for_caches() -> Result<()> {
    let world = World::start().await?;
    let path = format!("/v1/portfolios/{}", world.user);
    world.order(&world.good_order()).gives(201).await?;
    let portfolio = world.get(&path).key(&world.key).gives(200).await?;
    assert_eq!(
        (portfolio.header("etag"), portfolio.header("cache-control")),
        (Some("\"2\""), Some("no-store"))
    );
    // Prices move while the version stays.
    let same = world.get(&path).key(&world.key).header("if-none-match", "\"2\"");
    same.gives(200).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_walked_newest_first() -> Result<()> {
    let world = World::start().await?;
    let savings = another(&world).await?;
    let mut bought = Vec::new();
    for _ in 0..5 {
        bought.push(world.order(&world.good_order()).gives(201).await?.json());
        world.order(&into(&world, &savings)).gives(201).await?;
    }
    bought.reverse();
    let path = format!("/v1/portfolios/{}/history", world.user);
    let page = async |query: String| {
        let call = world.get(&format!("{path}?{query}")).key(&world.key);
        anyhow::Ok(call.gives(200).await?.json())
    };
    let first = page("limit=3".to_owned()).await?;
    let token = first["nextPageToken"].as_str().expect("a token").to_owned();
    let rest = page(format!("limit=3&pageToken={token}")).await?;
    assert_eq!(rest.get("nextPageToken"), None);
    let items: Vec<Value> = [&first, &rest]
        .iter()
        .flat_map(|page| page["items"].as_array().expect("items").clone())
        .collect();
    let expected: Vec<Value> = bought
        .iter()
        .map(|order| {
            json!({
                "orderId": order["id"], "symbol": order["symbol"], "quantity": order["fill"]["quantity"],
                "price": order["fill"]["price"], "total": order["fill"]["total"], "at": order["updatedAt"],
                "resolution": false,
            })
        })
        .collect();
    assert_eq!(items, expected);

    let other = format!("/v1/portfolios/{savings}/history?pageToken={token}");
    world
        .get(&other)
        .key(&world.key)
        .refused(400, "invalid_page_token", &["/pageToken other_filter"])
        .await?;
    let stranger = world.make_key(Some(Uuid::now_v7()), "read")?;
    for path in [path.as_str(), "/v1/portfolios/x/history"] {
        world
            .get(path)
            .key(&stranger)
            .refused(404, "portfolio_not_found", &[])
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_empty_portfolio_is_deleted_and_then_it_is_gone() -> Result<()> {
    let world = World::start().await?;
    let delete = |id: &str| -> Call {
        let path = format!("/v1/portfolios/{id}");
        world.call(Method::DELETE, &path).key(&world.key)
    };
    delete(&world.user.to_string())
        .refused(409, "default_portfolio", &[])
        .await?;
    let full = another(&world).await?;
    world.order(&into(&world, &full)).gives(201).await?;
    delete(&full).refused(409, "portfolio_not_empty", &[]).await?;

    let empty = another(&world).await?;
    let mut bad = into(&world, &empty);
    bad["symbol"] = json!("NOSUCH");
    let rejected = world.order(&bad).gives(422).await?.json();
    delete(&empty)
        .header("if-match", "\"2\"")
        .refused(412, "portfolio_changed", &["/If-Match refused"])
        .await?;
    delete(&empty)
        .header("if-match", "1")
        .refused(400, "invalid_header", &["/If-Match not_a_tag"])
        .await?;
    let reader = world.make_key(Some(world.user), "read")?;
    let path = format!("/v1/portfolios/{empty}");
    world
        .call(Method::DELETE, &path)
        .key(&reader)
        .refused(403, "scope_missing", &[])
        .await?;
    let stranger = world.make_key(Some(Uuid::now_v7()), "trade")?;
    world
        .call(Method::DELETE, &path)
        .key(&stranger)
        .refused(404, "portfolio_not_found", &[])
        .await?;

    let gone = delete(&empty).header("if-match", "\"1\"").gives(204).await?;
    assert_eq!(gone.text, "");
    delete(&empty).refused(404, "portfolio_not_found", &[]).await?;
    for path in [path.clone(), format!("{path}/history")] {
        world
            .get(&path)
            .key(&world.key)
            .refused(404, "portfolio_not_found", &[])
            .await?;
    }
    let list = format!("/v1/users/{}/portfolios", world.user);
    let list = world.get(&list).key(&world.key).gives(200).await?.json();
    let ids: Vec<&Value> = list["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| &item["id"])
        .collect();
    assert_eq!(ids, [&json!(world.user), &json!(full)]);
    // Its orders stay.
    let order = format!("/v1/orders/{}", rejected["orderId"].as_str().expect("an id"));
    world.get(&order).key(&world.key).gives(200).await?;
    Ok(())
}
