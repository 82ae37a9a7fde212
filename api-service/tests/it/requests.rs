//! Bad requests: what the user sees, and that nothing is booked and the vendor is not called.

use anyhow::Result;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{BOOTSTRAP, World};

/// Sends an order with this body and wants this refusal; neither ledger nor vendor may notice.
async fn check_order(world: &World, body: &str, status: u16, code: &str, errors: &[&str]) -> Result<Value> {
    let before = (world.ledger()?, world.vendor_buys());
    let call = world.call(Method::POST, "/v1/orders").key(&world.key).fresh();
    let answer = call
        .body("application/json", body)
        .refused(status, code, errors)
        .await?;
    assert_eq!((world.ledger()?, world.vendor_buys()), before, "{body}");
    Ok(answer.json())
}

/// The good order with some fields replaced (or, when null, taken away).
fn with(world: &World, changes: &Value) -> String {
    let mut body = world.good_order();
    for (name, value) in changes.as_object().expect("changes are an object") {
        match value {
            Value::Null => {
                body.as_object_mut().expect("an object").remove(name);
            }
            value => body[name] = value.clone(),
        }
    }
    body.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_needs_a_good_key() -> Result<()> {
    let world = World::start().await?;
    let get = || world.get("/v1/stocks");
    get().refused(401, "key_missing", &[]).await?;
    let answer = get().key("nonsense").refused(401, "key_invalid", &[]).await?;
    assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"fuse\""));
    get()
        .key(&world.key[..world.key.len() - 1])
        .refused(401, "key_invalid", &[])
        .await?;
    let flipped = world.key.replace(&world.key[40..44], "zzzz");
    get().key(&flipped).refused(401, "key_invalid", &[]).await?;
    get()
        .header("authorization", "Basic dXNlcjpwdw==")
        .refused(401, "key_invalid", &[])
        .await?;
    get()
        .key(&world.key)
        .header("authorization", "Bearer other")
        .refused(401, "key_invalid", &[])
        .await?;
    world
        .get(&format!("/v1/stocks?x-api-key={}", world.key))
        .refused(401, "key_missing", &[])
        .await?;
    world
        .post("/v1/orders", &world.good_order())
        .fresh()
        .refused(401, "key_missing", &[])
        .await?;

    get().key(&world.key).gives(200).await?;
    get()
        .header("authorization", &format!("Bearer {}", world.key))
        .gives(200)
        .await?;
    assert_eq!(world.vendor_buys(), (0, 0));
    let log = world.api.proc.log();
    assert!(
        !log.contains(&world.key[40..]) && !log.contains(BOOTSTRAP),
        "no key in the log"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_only_its_scopes() -> Result<()> {
    let world = World::start().await?;
    let reader = world.make_key(Some(world.user), "read")?;
    world
        .post("/v1/orders", &world.good_order())
        .key(&reader)
        .fresh()
        .refused(403, "scope_missing", &[])
        .await?;
    world
        .get("/v1/reports/daily/2026-01-01")
        .key(&world.key)
        .refused(403, "scope_missing", &[])
        .await?;
    world
        .get("/v1/api-keys")
        .key(&world.key)
        .refused(403, "scope_missing", &[])
        .await?;
    let portfolios = format!("/v1/users/{}/portfolios", world.user);
    world
        .post(&portfolios, &json!({"name": "x"}))
        .key(&reader)
        .refused(403, "scope_missing", &[])
        .await?;
    assert_eq!(
        (world.ledger()?.as_str(), world.vendor_buys()),
        ("0|0|0|1", (0, 0))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn other_users_do_not_exist() -> Result<()> {
    let world = World::start().await?;
    let other = Uuid::now_v7();
    let stranger = world.make_key(Some(other), "read,trade")?;
    let order = world.order(&world.good_order()).gives(201).await?.json();
    let before = (world.ledger()?, world.vendor_buys());

    let get = |path: String| world.get(&path).key(&stranger);
    get(format!("/v1/portfolios/{}", world.user))
        .refused(404, "portfolio_not_found", &[])
        .await?;
    get(format!("/v1/users/{}/portfolios", world.user))
        .refused(404, "user_not_found", &[])
        .await?;
    let id = order["id"].as_str().expect("an id");
    get(format!("/v1/orders/{id}"))
        .refused(404, "order_not_found", &[])
        .await?;
    assert_eq!(
        get("/v1/orders".to_owned()).gives(200).await?.json()["items"],
        json!([])
    );
    let mut into_foreign = world.good_order();
    into_foreign["portfolioId"] = json!(world.user);
    let call = world.post("/v1/orders", &into_foreign).key(&stranger).fresh();
    call.refused(404, "portfolio_not_found", &["/portfolioId not_allowed"])
        .await?;
    let path = format!("/v1/users/{}/portfolios", world.user);
    world
        .post(&path, &json!({"name": "x"}))
        .key(&stranger)
        .refused(404, "user_not_found", &[])
        .await?;

    assert_eq!((world.ledger()?, world.vendor_buys()), before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_json_is_told_where() -> Result<()> {
    let world = World::start().await?;
    for (body, error) in [
        ("", " required"),
        ("{", " syntax"),
        ("[]", " wrong_type"),
        ("\"order\"", " wrong_type"),
        (r#"{"quantity": NaN}"#, "/quantity syntax"),
        (r#"{"symbol": "A",}"#, " syntax"),
        (r#"{"symbol": "A"} {}"#, " syntax"),
        ("{\"symbol\": \"\u{1}\"}", "/symbol syntax"),
    ] {
        check_order(&world, body, 400, "invalid_json", &[error]).await?;
    }
    check_order(&world, &"[".repeat(10_000), 400, "invalid_json", &[" wrong_type"]).await?;
    let deep =
        with(&world, &json!({"x": 1})).replace(":1", &format!(":{}{}", "[".repeat(9_000), "]".repeat(9_000)));
    check_order(&world, &deep, 422, "invalid_fields", &["/x unknown_field"]).await?;

    let call = |content_type: &str| {
        let call = world.call(Method::POST, "/v1/orders").key(&world.key).fresh();
        call.body(content_type, world.good_order().to_string())
    };
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin1",
        "application/jsonp",
    ] {
        call(content_type)
            .refused(415, "unsupported_media_type", &["/Content-Type not_one_of"])
            .await?;
    }
    let no_type = world.call(Method::POST, "/v1/orders").key(&world.key).fresh();
    no_type
        .refused(415, "unsupported_media_type", &["/Content-Type not_one_of"])
        .await?;
    let large = with(&world, &json!({"clientOrderId": "x".repeat(70_000)}));
    let answer = check_order(&world, &large, 413, "body_too_large", &[]).await?;
    assert!(
        answer["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("65536 bytes"))
    );
    assert_eq!(
        (world.ledger()?.as_str(), world.vendor_buys()),
        ("0|0|0|1", (0, 0))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_field_is_named_at_once() -> Result<()> {
    let world = World::start().await?;
    let all = [
        "/symbol required",
        "/side required",
        "/quantity required",
        "/notional required",
        "/limitPrice required",
    ];
    check_order(&world, "{}", 422, "invalid_fields", &all).await?;
    let body = json!({
        "symbol": "no symbol", "side": "sell", "quantity": "0", "limitPrice": "1.0000000001", "portfolioId": "mine",
        "clientOrderId": "", "price": "1", "a/b~": true,
    });
    let errors = [
        "/symbol bad_character",
        "/side not_one_of",
        "/quantity not_positive",
        "/limitPrice too_many_decimals",
        "/portfolioId not_an_id",
        "/clientOrderId empty",
        "/a~1b~0 unknown_field",
        "/price unknown_field",
    ];
    check_order(&world, &body.to_string(), 422, "invalid_fields", &errors).await?;
    for (changes, error) in [
        (json!({"symbol": 7}), "/symbol wrong_type"),
        (json!({"symbol": ""}), "/symbol empty"),
        (json!({"symbol": "X".repeat(21)}), "/symbol too_long"),
        (json!({"symbol": "ÄÖÜ"}), "/symbol bad_character"),
        (
            json!({"clientOrderId": "x".repeat(65)}),
            "/clientOrderId too_long",
        ),
        (json!({"clientOrderId": "a\nb"}), "/clientOrderId bad_character"),
        (json!({"portfolioId": 1}), "/portfolioId wrong_type"),
    ] {
        check_order(&world, &with(&world, &changes), 422, "invalid_fields", &[error]).await?;
    }
    let twice = with(&world, &json!({})).replacen('{', r#"{"side":"buy","#, 1);
    check_order(&world, &twice, 422, "invalid_fields", &["/side duplicate"]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_decimals_are_refused_and_never_rounded() -> Result<()> {
    let world = World::start().await?;
    for (text, code) in [
        ("0", "not_positive"),
        ("0.000", "not_positive"),
        ("-1", "not_positive"),
        ("-0", "not_positive"),
        ("1.0000000001", "too_many_decimals"),
        ("1e400", "not_a_number"),
        ("1e3", "not_a_number"),
        ("NaN", "not_a_number"),
        ("Infinity", "not_a_number"),
        ("one", "not_a_number"),
        ("1,5", "not_a_number"),
        (" 1", "not_a_number"),
        ("0x10", "not_a_number"),
        ("", "empty"),
        ("99999999999999999999", "too_large"),
    ] {
        for field in ["quantity", "limitPrice"] {
            let body = with(&world, &json!({ field: text }));
            check_order(
                &world,
                &body,
                422,
                "invalid_fields",
                &[&format!("/{field} {code}")],
            )
            .await?;
        }
    }
    // A JSON number is not a decimal string, however it is written.
    for number in ["1", "1.5", "1e400", "-1", "true", "{}"] {
        let body = with(&world, &json!({"quantity": "Q"})).replace("\"Q\"", number);
        check_order(&world, &body, 422, "invalid_fields", &["/quantity wrong_type"]).await?;
    }
    let null = with(&world, &json!({"quantity": "Q"})).replace("\"Q\"", "null");
    check_order(
        &world,
        &null,
        422,
        "invalid_fields",
        &["/quantity required", "/notional required"],
    )
    .await?;
    assert_eq!(
        (world.ledger()?.as_str(), world.vendor_buys()),
        ("0|0|0|1", (0, 0))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_against_the_rules_is_recorded_and_never_sent() -> Result<()> {
    let world = World::start().await?;
    let symbol = world.symbol();
    world.simulator.set_prices(&symbol, vec!["100".parse()?]);
    let snapshot = world.publish().await?;
    world.wait_for_snapshot(snapshot.meta.id).await?;

    let order = |changes: Value| world.order(&serde_json::from_str(&with(&world, &changes)).expect("JSON"));
    let unknown = order(json!({"symbol": "NOSUCH"}));
    unknown
        .refused(422, "unknown_symbol", &["/symbol refused"])
        .await?;
    for price in ["97.99999999", "102.000000001", "0.01"] {
        let answer = order(json!({"limitPrice": price}))
            .refused(422, "price_out_of_band", &["/limitPrice refused"])
            .await?;
        let detail = answer.json()["detail"].to_string();
        assert!(
            detail.contains("from 98 to 102") && detail.contains("the quote is 100"),
            "{detail}"
        );
        // The order is there, so that the attempt leaves a trace.
        let id = answer.json()["orderId"]
            .as_str()
            .expect("the order's id")
            .to_owned();
        let recorded = world
            .get(&format!("/v1/orders/{id}"))
            .key(&world.key)
            .gives(200)
            .await?
            .json();
        assert_eq!(
            (&recorded["status"], &recorded["reason"]),
            (&json!("rejected"), &json!("price_out_of_band"))
        );
        assert_eq!(recorded["quote"]["price"], "100");
    }
    let large = order(json!({"quantity": "100001", "limitPrice": "100"}));
    large
        .refused(422, "notional_too_large", &["/quantity refused"])
        .await?;
    assert_eq!(world.vendor_buys(), (0, 0));
    assert_eq!(world.sql("select count(*) from holdings")?, "0");
    assert_eq!(
        world.sql("select count(*) from orders where status = 'rejected'")?,
        "5"
    );

    // Both edges of the band are allowed.
    for price in ["98", "102"] {
        order(json!({"limitPrice": price})).gives(201).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_needs_an_idempotency_key() -> Result<()> {
    let world = World::start().await?;
    let order = || world.post("/v1/orders", &world.good_order()).key(&world.key);
    let answer = order()
        .refused(400, "invalid_header", &["/Idempotency-Key required"])
        .await?;
    assert!(
        answer.text.contains("Send the header Idempotency-Key"),
        "the answer says how: {}",
        answer.text
    );
    for bad in ["", "a b", "schl\u{fc}ssel", &"x".repeat(256)] {
        order()
            .header("idempotency-key", bad)
            .refused(400, "invalid_header", &["/Idempotency-Key bad_character"])
            .await?;
    }
    let twice = order()
        .header("idempotency-key", "a")
        .header("idempotency-key", "b");
    twice
        .refused(400, "invalid_header", &["/Idempotency-Key duplicate"])
        .await?;
    assert_eq!(
        (world.ledger()?.as_str(), world.vendor_buys()),
        ("0|0|0|1", (0, 0))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_queries_paths_and_methods_are_problems_too() -> Result<()> {
    let world = World::start().await?;
    let get = |path: &str| world.get(path).key(&world.key);
    get("/v1/stocks?limit=0&search=&colour=red")
        .refused(
            400,
            "invalid_query",
            &["/limit out_of_range", "/search empty", "/colour unknown_field"],
        )
        .await?;
    get("/v1/stocks?limit=501")
        .refused(400, "invalid_query", &["/limit out_of_range"])
        .await?;
    get("/v1/orders?status=done&symbol=a%20b&after=yesterday&portfolioId=x")
        .refused(
            400,
            "invalid_query",
            &[
                "/status not_one_of",
                "/symbol bad_character",
                "/portfolioId not_an_id",
                "/after not_a_time",
            ],
        )
        .await?;
    get("/v1/clock?x=1")
        .refused(400, "invalid_query", &["/x unknown_field"])
        .await?;
    get("/v1/stocks/NOSUCH")
        .refused(404, "stock_not_found", &[])
        .await?;
    get("/v1/stocks/%20").refused(404, "stock_not_found", &[]).await?;
    get("/v1/stocks/%ff").refused(404, "stock_not_found", &[]).await?;
    get("/v1/orders/17").refused(404, "order_not_found", &[]).await?;
    get("/v1/portfolios/17")
        .refused(404, "portfolio_not_found", &[])
        .await?;
    get("/v1/users/17/portfolios")
        .refused(404, "user_not_found", &[])
        .await?;
    get("/v1/nothing").refused(404, "not_found", &[]).await?;
    get("/").refused(404, "not_found", &[]).await?;
    for date in ["2026-02-30", "20260101", "2026-01-01T00:00:00", "today"] {
        let report = world.get(&format!("/v1/reports/daily/{date}")).key(BOOTSTRAP);
        report.refused(400, "invalid_path", &["/date not_a_date"]).await?;
    }
    let answer = world
        .call(Method::DELETE, "/v1/orders")
        .key(&world.key)
        .refused(405, "method_not_allowed", &[])
        .await?;
    let allowed = answer.header("allow").unwrap_or_default().to_owned();
    assert!(
        allowed.contains("GET") && allowed.contains("POST"),
        "Allow lists the methods: {allowed:?}"
    );
    world
        .call(Method::PUT, "/v1/stocks")
        .refused(405, "method_not_allowed", &[])
        .await?;
    let long = format!("/v1/stocks?search={}", "x".repeat(9_000));
    get(&long).refused(414, "uri_too_long", &[]).await?;
    get("/v1/stocks")
        .header("x-much", &"x".repeat(17_000))
        .refused(431, "headers_too_large", &[])
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_id_of_the_client_comes_back() -> Result<()> {
    let world = World::start().await?;
    let answer = world
        .get("/v1/stocks")
        .header("x-request-id", "my-id-1")
        .refused(401, "key_missing", &[])
        .await?;
    assert_eq!(answer.json()["requestId"], "my-id-1");
    let answer = world
        .get("/v1/stocks")
        .header("x-request-id", "<script>")
        .refused(401, "key_missing", &[])
        .await?;
    assert!(
        Uuid::try_parse(answer.header("x-request-id").unwrap_or_default()).is_ok(),
        "a harmful id is replaced"
    );
    Ok(())
}
