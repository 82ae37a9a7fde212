//! What answers say about being kept.

use anyhow::Result;
use api_service::http::routes_and_methods;
use reqwest::Method;
use serde_json::json;

use crate::support::{BOOTSTRAP, World};

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_not_for_caches_says_so() -> Result<()> {
    let world = World::start().await?;
    let order = world.order(&world.good_order()).gives(201).await?.json();
    let order = order["id"].as_str().expect("an id").to_owned();
    let user = world.user.to_string();
    let mut seen = Vec::new();
    for (route, method) in routes_and_methods() {
        if method != "GET" {
            continue;
        }
        let id = if route.starts_with("/v1/orders") {
            &order
        } else {
            &user
        };
        let path = route
            .replace("{symbol}", &world.symbol())
            .replace("{date}", "2026-01-01")
            .replace("{userId}", &user)
            .replace("{id}", id);
        let answer = world.get(&path).key(BOOTSTRAP).send().await?;
        // No report was made.
        let is_report = route.starts_with("/v1/reports");
        assert_eq!(
            answer.status,
            if is_report { 404 } else { 200 },
            "{path}: {}",
            answer.text
        );
        let cache_control = answer.header("cache-control").unwrap_or("nothing");
        let expected = match route.as_str() {
            "/v1/stocks" | "/v1/stocks/{symbol}" => "public, max-age=",
            "/v1/stocks/{symbol}/prices" => "private, max-age=60",
            _ => "no-store",
        };
        assert!(cache_control.starts_with(expected), "{path}: {cache_control}");
        seen.push(route);
    }
    assert!(seen.len() > 8, "{seen:?}");
    for (method, path) in [(Method::GET, "/nothing"), (Method::PUT, "/v1/orders")] {
        let answer = world.call(method, path).key(BOOTSTRAP).send().await?;
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
    let made = world.post("/v1/api-keys", &json!({"name": "x", "scopes": ["read"]}));
    let made = made.key(BOOTSTRAP).gives(201).await?;
    assert_eq!(made.header("cache-control"), Some("no-store"));
    Ok(())
}
