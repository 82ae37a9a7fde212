//! The list of stocks: every parameter and what is wrong with it, order, caching, compression, and pages that are ready.

use anyhow::{Context as _, Result};
use fuse_harness::wait;
use fuse_harness::walks::{Query, Stock, Walked, Walker, unpack};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, PATIENCE, World};

/// A world whose first three stocks are movers, whose fourth is no longer listed, and with names and prices that tie.
async fn world() -> Result<World> {
    let world = World::start().await?;
    let published = world
        .publish_with(|quotes| {
            quotes.sort_by(|a, b| a.symbol.cmp(&b.symbol));
            for quote in &mut quotes[..3] {
                quote.mover = true;
            }
            quotes[3].listed = false;
            quotes[7].name = "zeta".into();
            quotes[5].name = "ZETA".into();
            quotes[9].price = quotes[11].price;
            quotes[10].price = quotes[11].price;
        })
        .await?;
    world.wait_for_snapshot(published.meta.id).await?;
    Ok(world)
}

fn walker(world: &World) -> Walker {
    Walker::new(vec![world.api.url.clone()], &world.key)
}

async fn all(world: &World) -> Result<Vec<Stock>> {
    let page = world
        .get("/v1/stocks?limit=500")
        .key(&world.key)
        .gives(200)
        .await?
        .json();
    Ok(serde_json::from_value(page["items"].clone())?)
}

/// Walks with small pages and compares with what is reckoned from all stocks.
async fn check(world: &World, stocks: &[Stock], query: Query) -> Result<usize> {
    let mut rng = rand::rng();
    let walked = walker(world).walk(query.clone(), &mut rng, 1..=7).await?;
    let Walked::Whole(whole) = walked else {
        anyhow::bail!("{query:?}: {walked:?}")
    };
    assert_eq!(whole.symbols(), query.select(stocks), "{query:?}");
    Ok(whole.stocks.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_selects_and_every_order_sorts() -> Result<()> {
    let world = world().await?;
    let stocks = all(&world).await?;
    assert_eq!(
        (stocks.len(), stocks[3].listed, stocks[0].mover),
        (40, false, true)
    );
    for sort in ["symbol", "-symbol", "name", "-name", "price", "-price"] {
        let sort = Some(sort);
        assert_eq!(
            check(
                &world,
                &stocks,
                Query {
                    sort,
                    ..Query::default()
                }
            )
            .await?,
            40
        );
        let min_price = Some(stocks[11].price.clone());
        let found = check(
            &world,
            &stocks,
            Query {
                sort,
                min_price,
                ..Query::default()
            },
        )
        .await?;
        assert!((3..40).contains(&found), "{found}");
    }
    let symbols = |symbols: &[&str]| Query {
        symbols: Some(symbols.iter().map(|symbol| (*symbol).to_owned()).collect()),
        ..Query::default()
    };
    let (first, last) = (stocks[0].symbol.as_str(), stocks[39].symbol.as_str());
    assert_eq!(
        check(&world, &stocks, symbols(&[last, first, first, "NOSUCH"])).await?,
        2
    );
    assert_eq!(check(&world, &stocks, symbols(&["NOSUCH"])).await?, 0);
    let movers = |movers| Query {
        movers: Some(movers),
        ..Query::default()
    };
    assert_eq!(check(&world, &stocks, movers(true)).await?, 3);
    assert_eq!(check(&world, &stocks, movers(false)).await?, 37);
    let search = Some("zEtA".to_owned());
    assert!(
        check(
            &world,
            &stocks,
            Query {
                search,
                ..Query::default()
            }
        )
        .await?
            >= 2
    );
    let exactly = Query {
        min_price: Some(stocks[11].price.clone()),
        max_price: Some(stocks[11].price.clone()),
        ..Query::default()
    };
    assert!(check(&world, &stocks, exactly).await? >= 3);
    let nothing = Query {
        max_price: Some("0.0000000000000000000001".to_owned()),
        ..Query::default()
    };
    assert_eq!(check(&world, &stocks, nothing).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_names_its_parameter_and_says_what_to_write() -> Result<()> {
    let world = World::start().await?;
    let many = vec!["A"; 101].join(",");
    let check = async |query: &str, errors: &[&str], hint: &str| {
        let call = world.get(&format!("/v1/stocks?{query}")).key(&world.key);
        let answer = call.refused(400, "invalid_query", errors).await?;
        let details = answer.json()["errors"].to_string();
        assert!(details.contains(hint), "{query}: {details}");
        anyhow::Ok(())
    };
    check("limit=0", &["/limit out_of_range"], "from 1 to 500").await?;
    check("limit=501", &["/limit out_of_range"], "from 1 to 500").await?;
    check("search=", &["/search empty"], "leave the parameter out").await?;
    check(
        &format!("search={}", "x".repeat(65)),
        &["/search too_long"],
        "At most 64",
    )
    .await?;
    check("sector=+", &["/sector empty"], "leave the parameter out").await?;
    check("symbols=", &["/symbols empty"], "such as AAPL,MSFT").await?;
    check("symbols=AAPL,,MSFT", &["/symbols empty"], "Symbol 2").await?;
    check(
        "symbols=AAPL,a%20b",
        &["/symbols bad_character"],
        "such as AAPL,MSFT",
    )
    .await?;
    check(
        &format!("symbols={}", "A".repeat(21)),
        &["/symbols too_long"],
        "at most 20",
    )
    .await?;
    check(
        &format!("symbols={many}"),
        &["/symbols out_of_range"],
        "at most 100",
    )
    .await?;
    check("minPrice=1e2", &["/minPrice not_a_number"], "such as 10.5").await?;
    check("minPrice=0", &["/minPrice not_positive"], "such as 10.5").await?;
    check("maxPrice=-1", &["/maxPrice not_positive"], "such as 10.5").await?;
    check("maxPrice=", &["/maxPrice empty"], "such as 10.5").await?;
    check("maxPrice=1.%30%30x", &["/maxPrice not_a_number"], "such as 10.5").await?;
    check(
        "minPrice=1.2345678901234567890123456789",
        &["/minPrice too_many_digits"],
        "such as 10.5",
    )
    .await?;
    let both = ["/minPrice out_of_range", "/maxPrice out_of_range"];
    check("minPrice=10.50&maxPrice=10.49", &both, "at most maxPrice (10.49)").await?;
    check("movers=yes", &["/movers not_one_of"], "true, false").await?;
    check(
        "sort=change",
        &["/sort not_one_of"],
        "symbol, -symbol, name, -name, price, -price",
    )
    .await?;
    check("sort=%2Bprice", &["/sort not_one_of"], "-price").await?;
    check("sort=name&sort=name", &["/sort duplicate"], "twice").await?;
    check("change=1", &["/change unknown_field"], "not known").await?;
    check(
        "limit=x&movers=1&sort=&foo=bar",
        &[
            "/limit out_of_range",
            "/movers not_one_of",
            "/sort not_one_of",
            "/foo unknown_field",
        ],
        "symbol",
    )
    .await?;
    // Equal bounds are a range, and so is one bound alone.
    world
        .get("/v1/stocks?minPrice=10.5&maxPrice=10.50")
        .key(&world.key)
        .gives(200)
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_belongs_to_its_question() -> Result<()> {
    let world = World::start().await?;
    let first = world
        .get("/v1/stocks?limit=2&sort=price&minPrice=0.0001")
        .key(&world.key)
        .gives(200)
        .await?
        .json();
    let token = first["nextPageToken"].as_str().context("a token")?;
    let ask = |query: &str| {
        world
            .get(&format!("/v1/stocks?pageToken={token}&{query}"))
            .key(&world.key)
    };
    for other in [
        "",
        "sort=price",
        "minPrice=0.0001",
        "sort=-price&minPrice=0.0001",
        "sort=price&maxPrice=0.0001",
        "sort=price&minPrice=0.0002",
        "sort=price&minPrice=0.0001&movers=false",
        "sort=price&minPrice=0.0001&symbols=AAPL",
    ] {
        ask(other)
            .refused(400, "invalid_page_token", &["/pageToken other_filter"])
            .await?;
    }
    // Another spelling of the same question, and another page size.
    ask("minPrice=0.00010&sort=price&limit=9").gives(200).await?;
    // What is absent is what is the default.
    let first = world
        .get("/v1/stocks?limit=2")
        .key(&world.key)
        .gives(200)
        .await?
        .json();
    let token = first["nextPageToken"].as_str().context("a token")?;
    world
        .get(&format!("/v1/stocks?sort=symbol&pageToken={token}"))
        .key(&world.key)
        .gives(200)
        .await?;
    Ok(())
}

/// An answer with its bytes: a packed body is no text.
async fn raw(
    world: &World,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<(reqwest::header::HeaderMap, u16, Vec<u8>)> {
    let mut request = reqwest::Client::new()
        .request(method, format!("{}{path}", world.api.url))
        .header("x-api-key", &world.key);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await?;
    let (headers, status) = (answer.headers().clone(), answer.status().as_u16());
    Ok((headers, status, answer.bytes().await?.to_vec()))
}

fn header<'h>(headers: &'h reqwest::header::HeaderMap, name: &str) -> &'h str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// A body without what changes every second.
fn timeless(bytes: &[u8]) -> Result<Value> {
    let mut body: Value = serde_json::from_slice(bytes)?;
    body["snapshot"]["ageSeconds"] = json!(null);
    Ok(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn gzip_is_the_same_page() -> Result<()> {
    let world = world().await?;
    for path in [
        "/v1/stocks",
        "/v1/stocks?limit=500&sort=-price",
        "/v1/stocks?search=no+such+stock",
        "/v1/stocks?limit=1&movers=true",
    ] {
        let (plain_headers, _, plain) = raw(&world, Method::GET, path, &[]).await?;
        let (headers, status, packed) =
            raw(&world, Method::GET, path, &[("accept-encoding", "gzip, br")]).await?;
        assert_eq!(
            (status, header(&headers, "content-encoding")),
            (200, "gzip"),
            "{path}"
        );
        assert_eq!(header(&plain_headers, "content-encoding"), "", "{path}");
        assert_eq!(timeless(&unpack(&packed)?)?, timeless(&plain)?, "{path}");
        for name in ["etag", "cache-control", "content-type", "vary"] {
            assert_eq!(
                headers.get_all(name).iter().collect::<Vec<_>>(),
                plain_headers.get_all(name).iter().collect::<Vec<_>>()
            );
            assert!(!header(&headers, name).is_empty(), "{name}");
        }
        for (headers, body) in [(&headers, &packed), (&plain_headers, &plain)] {
            assert_eq!(
                header(headers, "content-length"),
                body.len().to_string(),
                "{path}"
            );
        }
        for refusing in ["gzip;q=0", "br", "identity", "gzip;q=0.1, identity;q=0.2"] {
            let (headers, _, body) = raw(&world, Method::GET, path, &[("accept-encoding", refusing)]).await?;
            assert_eq!(header(&headers, "content-encoding"), "", "{refusing}");
            timeless(&body)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_has_is_not_sent_again() -> Result<()> {
    let world = world().await?;
    let symbol = world.symbol();
    let one = format!("/v1/stocks/{symbol}");
    let mut tags = Vec::new();
    for path in [
        "/v1/stocks",
        "/v1/stocks?limit=7",
        "/v1/stocks?sort=name",
        "/v1/stocks?movers=true",
        &one,
    ] {
        let (fresh, _, body) = raw(&world, Method::GET, path, &[]).await?;
        let etag = header(&fresh, "etag").to_owned();
        assert!(etag.starts_with("W/\"") && etag.ends_with('"'), "{etag}");
        assert!(!tags.contains(&etag), "{path}: another page has another tag");
        for encoding in ["gzip", "identity"] {
            let several = format!("\"other\", {etag}");
            for known in [etag.as_str(), etag.trim_start_matches("W/"), "*", &several] {
                let sent = [("if-none-match", known), ("accept-encoding", encoding)];
                let (headers, status, body) = raw(&world, Method::GET, path, &sent).await?;
                assert_eq!((status, body.len()), (304, 0), "{path} {known}");
                assert_eq!(header(&headers, "etag"), etag);
                assert_eq!(
                    header(&headers, "content-length"),
                    "",
                    "a 304 has no length of its own"
                );
                assert_eq!(header(&headers, "cache-control"), header(&fresh, "cache-control"));
                assert_eq!(
                    header(&headers, "vary"),
                    "Accept-Encoding, Authorization, X-Api-Key"
                );
                assert!(header(&headers, "age").parse::<u64>().is_ok());
            }
            let sent = [("if-none-match", "W/\"other\""), ("accept-encoding", encoding)];
            assert_eq!(raw(&world, Method::GET, path, &sent).await?.1, 200);
        }
        // HEAD says what GET would, without the body.
        let (headers, status, empty) = raw(&world, Method::HEAD, path, &[]).await?;
        assert_eq!((status, empty.len()), (200, 0));
        assert_eq!(header(&headers, "etag"), etag);
        // The age may have got one more digit in between.
        let length: usize = header(&headers, "content-length").parse()?;
        assert!(length.abs_diff(body.len()) <= 1, "{path}: {length}");
        let (_, status, _) = raw(&world, Method::HEAD, path, &[("if-none-match", &etag)]).await?;
        assert_eq!(status, 304);
        tags.push(etag);
    }
    // New prices, new tags.
    let published = world.publish().await?;
    world.wait_for_snapshot(published.meta.id).await?;
    for (path, etag) in ["/v1/stocks", "/v1/stocks?limit=7"].iter().zip(&tags) {
        let (headers, status, _) = raw(&world, Method::GET, path, &[("if-none-match", etag)]).await?;
        assert_eq!(status, 200, "{path}");
        assert_ne!(header(&headers, "etag"), etag);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_are_told_until_when() -> Result<()> {
    let world = World::start().await?;
    let answer = world.get("/v1/stocks?limit=1").key(&world.key).gives(200).await?;
    let snapshot = answer.json()["snapshot"].clone();
    let time = |name: &str| {
        snapshot[name]
            .as_str()
            .and_then(|text| text.parse::<jiff::Timestamp>().ok())
    };
    let (taken_at, next_tick_at) = (
        time("takenAt").context("taken")?,
        time("nextTickAt").context("next")?,
    );
    let secs = next_tick_at.duration_since(taken_at).as_secs();
    let expected = format!("public, max-age={secs}");
    assert_eq!(
        answer.header("cache-control"),
        Some(expected.as_str()),
        "{snapshot}"
    );
    assert!((0..=300).contains(&secs), "{secs}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_pages_are_not_cached_and_have_another_tag() -> Result<()> {
    let world = World::with(crate::support::Setup {
        publish: Some(297),
        ..crate::support::Setup::default()
    })
    .await?;
    let symbol = world.symbol();
    let get = async |path: &str| world.get(path).key(&world.key).gives(200).await;
    let one = format!("/v1/stocks/{symbol}");
    let (page, stock) = (get("/v1/stocks").await?, get(&one).await?);
    // A machine that is too busy sees them stale already; then there is nothing to compare.
    let is_fresh = |answer: &Answer| answer.json()["snapshot"]["stale"] == false;
    let fresh =
        [&page, &stock].map(|answer| is_fresh(answer).then(|| answer.header("etag").map(str::to_owned)));
    for (path, fresh) in ["/v1/stocks", one.as_str()].into_iter().zip(fresh) {
        let stale = wait::until_async("staleness", PATIENCE, || async {
            let answer = get(path).await.ok()?;
            (answer.json()["snapshot"]["stale"] == true).then_some(answer)
        })
        .await?;
        assert_eq!(stale.header("cache-control"), Some("no-cache"), "{path}");
        assert!(stale.header("etag").is_some());
        if let Some(fresh) = fresh {
            assert_ne!(stale.header("etag"), fresh.as_deref(), "{path}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_page_is_ready_before_it_is_asked_for() -> Result<()> {
    let world = World::start().await?;
    let series = |result: &str| format!("fuse_stock_pages_total{{result=\"{result}\"}}");
    let metric = async |result: &str| world.api.metric(&series(result)).await;
    let mut path = "/v1/stocks?limit=9&sort=-name".to_owned();
    let mut pages = 0.0;
    let (mut made, mut prepared) = (metric("made").await?, metric("prepared").await?);
    loop {
        let page = world.get(&path).key(&world.key).gives(200).await?.json();
        pages += 1.0;
        made += if pages == 1.0 { 1.0 } else { 0.0 };
        assert_eq!(metric("made").await?, made, "page {pages} was there");
        let Some(token) = page["nextPageToken"].as_str() else {
            break;
        };
        prepared += 1.0;
        world.api.wait_for_metric(&series("prepared"), prepared).await?;
        path = format!("/v1/stocks?limit=9&sort=-name&pageToken={token}");
    }
    assert_eq!(pages, 5.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_snapshot_stops_no_walk_but_its_own() -> Result<()> {
    let world = World::start().await?;
    let mut walks = Vec::new();
    for _ in 0..3 {
        let first = world.get("/v1/stocks?limit=2").key(&world.key).gives(200).await?;
        walks.push(first.json());
        world.simulator.tick(1);
        let published = world.publish().await?;
        world.wait_for_snapshot(published.meta.id).await?;
    }
    let id = walks[0]["snapshot"]["id"].as_str().context("an id")?;
    let pages = world.dynamodb.call(
        "Query",
        &json!({
            "TableName": "fuse-market",
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": {"S": format!("SNAPSHOT#{id}")}},
        }),
    )?;
    for page in pages["Items"].as_array().context("pages")? {
        world.dynamodb.call(
            "UpdateItem",
            &json!({
                "TableName": "fuse-market",
                "Key": {"pk": page["pk"], "sk": page["sk"]},
                "UpdateExpression": "SET quotes = :broken",
                "ExpressionAttributeValues": {":broken": {"S": "[{"}},
            }),
        )?;
    }
    // A replica that has seen none of them has to read them.
    let other = world.second_api()?;
    wait::until_async("the other replica", PATIENCE, || async {
        let answer = other.call(Method::GET, "/v1/stocks").key(&world.key).send().await;
        answer.ok().filter(|answer| answer.status == 200)
    })
    .await?;
    let next = |walk: &Value| {
        let token = walk["nextPageToken"].as_str().expect("a token");
        other
            .call(Method::GET, &format!("/v1/stocks?limit=2&pageToken={token}"))
            .key(&world.key)
    };
    next(&walks[0]).refused(410, "snapshot_gone", &[]).await?;
    next(&walks[1]).gives(200).await?;
    world.dynamodb.stop()?;
    next(&walks[2])
        .refused(503, "price_store_unavailable", &[])
        .await?;
    let unreadable = r#"fuse_snapshot_reads_total{layer="l0",result="error"}"#;
    assert_eq!(other.metric(unreadable).await?, 1.0);
    Ok(())
}
