//! The snapshot store and the view that follows it, against the DynamoDB stand-in.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use fuse_domain::{Price, Quote, Snapshot, Symbol};
use fuse_harness::dynamodb::{DynamoDb, DynamoFault};
use fuse_harness::wait;
use fuse_market::{MarketView, Published, SnapshotStore, StoreError, TableState, follow};
use fuse_platform::Metrics;
use fuse_platform::aws::{AwsConfig, sdk_config};
use fuse_platform::config::{ConfigValue, HttpUrl};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const TABLE: &str = "test-market";

async fn store_of(dynamodb: &DynamoDb, metrics: &Metrics) -> Result<SnapshotStore> {
    let config = AwsConfig {
        region: "us-east-1".into(),
        endpoint: Some(HttpUrl::from_text(&dynamodb.endpoint()).map_err(anyhow::Error::msg)?),
        connect_timeout: Duration::from_millis(500),
        attempt_timeout: Duration::from_secs(5),
        operation_timeout: Duration::from_secs(10),
    };
    let credentials = Credentials::new("test", "test", None, None, "test");
    let sdk = sdk_config(&config)
        .await
        .to_builder()
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build();
    Ok(SnapshotStore::new(&sdk, "test", metrics))
}

async fn start() -> Result<(DynamoDb, SnapshotStore, Metrics)> {
    let (dynamodb, metrics) = (DynamoDb::start()?, Metrics::new());
    let store = store_of(&dynamodb, &metrics).await?;
    assert_eq!(store.ensure_table().await?, TableState::Created);
    Ok((dynamodb, store, metrics))
}

/// `count` quotes at one price each, taken `secs_ago`; `name_bytes` makes them large.
fn snapshot(count: usize, price: &str, secs_ago: i64, name_bytes: usize) -> Result<Snapshot> {
    let taken_at = Timestamp::from_millisecond(Timestamp::now().as_millisecond() - secs_ago * 1_000)?;
    let quote = |n: usize| -> Result<Quote> {
        Ok(Quote {
            symbol: Symbol::parse(&format!("S{n:05}"))?,
            name: "n".repeat(name_bytes),
            sector: "Tech".into(),
            price: Price::parse(price)?,
            change: "-0.5".into(),
            last_updated: taken_at,
            as_of: taken_at,
            mover: false,
            listed: true,
        })
    };
    Ok(Snapshot::new(
        Uuid::now_v7(),
        taken_at,
        (0..count).map(quote).collect::<Result<_>>()?,
    ))
}

fn flipped(published: Published) -> (usize, usize, usize) {
    match published {
        Published::Flipped {
            pages,
            quotes_written,
            history_written,
        } => (pages, quotes_written, history_written),
        Published::Older => panic!("not flipped"),
    }
}

/// Every item of the table by its key.
fn items(dynamodb: &DynamoDb) -> Result<BTreeMap<(String, String), Value>> {
    let scanned = dynamodb.call("Scan", &json!({"TableName": TABLE}))?;
    assert!(
        scanned["LastEvaluatedKey"].is_null(),
        "the tests' tables fit one answer"
    );
    let text = |item: &Value, name: &str| item[name]["S"].as_str().unwrap_or_default().to_owned();
    let all = scanned["Items"].as_array().cloned().unwrap_or_default();
    Ok(all
        .into_iter()
        .map(|item| ((text(&item, "pk"), text(&item, "sk")), item))
        .collect())
}

#[tokio::test]
async fn a_table_is_created_once_and_a_foreign_one_is_refused() -> Result<()> {
    let (dynamodb, store, metrics) = start().await?;
    assert_eq!(store.ensure_table().await?, TableState::Existed);
    let ttl = dynamodb.call("DescribeTimeToLive", &json!({"TableName": TABLE}))?;
    assert_eq!(ttl["TimeToLiveDescription"]["AttributeName"], "expires_at");

    let other = DynamoDb::start()?;
    other.call(
        "CreateTable",
        &json!({"TableName": TABLE, "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}]}),
    )?;
    let refused = store_of(&other, &metrics).await?.ensure_table().await;
    assert!(
        matches!(refused, Err(StoreError::WrongKeys { .. })),
        "{refused:?}"
    );
    Ok(())
}

#[tokio::test]
async fn what_is_published_is_read_back_whole() -> Result<()> {
    let (dynamodb, store, _) = start().await?;
    assert_eq!(store.current().await?, None);
    let first = snapshot(1_500, "0.2475", 10, 180)?;
    let (pages, quotes, history) = flipped(store.publish(&first, None).await?);
    assert!(pages > 1, "several pages");
    assert_eq!((quotes, history), (1_500, 1_500));
    let pointer = store.current().await?.expect("a pointer");
    assert_eq!(
        (pointer.id, pointer.count, pointer.pages),
        (first.meta.id, 1_500, pages)
    );
    let millis = |snapshot: &Snapshot| -> Vec<Quote> { snapshot.quotes.clone() };
    assert_eq!(millis(&store.load(&pointer).await?), millis(&first));
    for ((pk, _), item) in items_of_pages(&dynamodb)? {
        let bytes = item["quotes"]["S"].as_str().map_or(0, str::len);
        assert!(bytes <= 300_000, "{pk}: {bytes}");
    }
    Ok(())
}

/// Only the pages: a big table does not fit one scan answer.
fn items_of_pages(dynamodb: &DynamoDb) -> Result<BTreeMap<(String, String), Value>> {
    let pointer = dynamodb.call(
        "GetItem",
        &json!({"TableName": TABLE, "Key": {"pk": {"S": "SNAPSHOT"}, "sk": {"S": "CURRENT"}}}),
    )?;
    let id = pointer["Item"]["id"]["S"].as_str().unwrap_or_default().to_owned();
    let found = dynamodb.call(
        "Query",
        &json!({"TableName": TABLE, "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": {"S": format!("SNAPSHOT#{id}")}}}),
    )?;
    let all = found["Items"].as_array().cloned().unwrap_or_default();
    Ok(all
        .into_iter()
        .map(|item| ((id.clone(), item["sk"]["S"].to_string()), item))
        .collect())
}

#[tokio::test]
async fn only_what_changed_is_written_and_every_price_change_is_history() -> Result<()> {
    let (dynamodb, store, _) = start().await?;
    let first = snapshot(30, "2", 20, 5)?;
    store.publish(&first, None).await?;
    let mut second = snapshot(30, "2", 10, 5)?;
    second.quotes[3].price = Price::parse("2.5")?;
    second.quotes[4].name = "renamed".into();
    let before = dynamodb.requests().get("PutItem").copied();
    let (_, quotes, history) = flipped(store.publish(&second, Some(&first)).await?);
    assert_eq!((quotes, history), (2, 1));
    assert_eq!(
        dynamodb.requests().get("PutItem").copied(),
        before.map(|puts| puts + 2)
    );
    let items = items(&dynamodb)?;
    let lines = items
        .keys()
        .filter(|(pk, _)| pk.starts_with("HISTORY#S00003#"))
        .count();
    assert_eq!(lines, 2);
    let quote = &items[&("QUOTE#S00003".to_owned(), "LATEST".to_owned())];
    assert_eq!(quote["price"]["S"], "2.5");
    Ok(())
}

#[tokio::test]
async fn an_older_crawl_moves_neither_the_pointer_nor_a_quote() -> Result<()> {
    let (dynamodb, store, _) = start().await?;
    let (newer, older) = (snapshot(3, "2", 10, 5)?, snapshot(3, "1", 60, 5)?);
    store.publish(&newer, None).await?;
    assert_eq!(store.publish(&older, None).await?, Published::Older);
    assert_eq!(store.current().await?.expect("a pointer").id, newer.meta.id);
    let quote = &items(&dynamodb)?[&("QUOTE#S00000".to_owned(), "LATEST".to_owned())];
    assert_eq!(quote["price"]["S"], "2");
    Ok(())
}

#[tokio::test]
async fn current_pages_never_expire_and_superseded_ones_do() -> Result<()> {
    let (dynamodb, store, _) = start().await?;
    let (first, second, lost) = (
        snapshot(3, "1", 30, 5)?,
        snapshot(3, "2", 20, 5)?,
        snapshot(3, "3", 60, 5)?,
    );
    store.publish(&first, None).await?;
    let first_pointer = store.current().await?.expect("a pointer");
    store.publish(&second, Some(&first)).await?;
    store.publish(&lost, None).await?;
    store.keep_current().await?;
    let items = items(&dynamodb)?;
    let expiry = |snapshot: &Snapshot| {
        items[&(format!("SNAPSHOT#{}", snapshot.meta.id), "PAGE#00000".to_owned())]["expires_at"]["N"]
            .as_str()
            .and_then(|at| at.parse::<i64>().ok())
    };
    assert_eq!(expiry(&second), None, "the current one stays");
    assert_eq!(
        expiry(&first),
        Some(second.meta.taken_at.as_second() + 3_600),
        "an hour for walks"
    );
    assert_eq!(
        expiry(&lost),
        Some(lost.meta.taken_at.as_second() + 3_600),
        "an abandoned one goes"
    );
    assert_eq!(
        store.load(&first_pointer).await?.quotes,
        first.quotes,
        "a walk in progress finishes"
    );
    Ok(())
}

#[tokio::test]
async fn a_page_past_its_expiry_is_gone_even_before_it_is_collected() -> Result<()> {
    let (dynamodb, store, _) = start().await?;
    let first = snapshot(3, "1", 30, 5)?;
    store.publish(&first, None).await?;
    let pointer = store.current().await?.expect("a pointer");
    dynamodb.call(
        "UpdateItem",
        &json!({"TableName": TABLE,
            "Key": {"pk": {"S": format!("SNAPSHOT#{}", first.meta.id)}, "sk": {"S": "PAGE#00000"}},
            "UpdateExpression": "SET expires_at = :at",
            "ExpressionAttributeValues": {":at": {"N": (Timestamp::now().as_second() - 1).to_string()}}}),
    )?;
    let gone = store.load(&pointer).await;
    assert!(
        matches!(
            gone,
            Err(StoreError::Incomplete {
                found: 0,
                expected: 1,
                ..
            })
        ),
        "{gone:?}"
    );
    Ok(())
}

#[tokio::test]
async fn unprocessed_items_are_written_again_and_counted() -> Result<()> {
    let (dynamodb, store, metrics) = start().await?;
    dynamodb.inject("BatchWriteItem", DynamoFault::Unprocessed, 3);
    let first = snapshot(60, "1", 10, 5)?;
    store.publish(&first, None).await?;
    let history = items(&dynamodb)?
        .keys()
        .filter(|(pk, _)| pk.starts_with("HISTORY#"))
        .count();
    assert_eq!(history, 60, "nothing is left out");
    let text = String::from_utf8(metrics.encode())?;
    let counted = text
        .lines()
        .find_map(|line| line.strip_prefix("fuse_snapshot_unprocessed_items_total "));
    // The one page goes through, then 12 of 25 lines come back, then 6 of those 12.
    assert_eq!(counted, Some("18"), "{text}");
    Ok(())
}

#[tokio::test]
async fn throttling_and_server_errors_pass_and_an_outage_is_unavailable() -> Result<()> {
    let (dynamodb, store, metrics) = start().await?;
    dynamodb.inject("PutItem", DynamoFault::Throttle, 2);
    dynamodb.inject("UpdateItem", DynamoFault::ServerError, 1);
    let first = snapshot(5, "1", 10, 5)?;
    flipped(store.publish(&first, None).await?);
    dynamodb.stop()?;
    let away = store.current().await;
    assert!(matches!(away, Err(StoreError::Unavailable { .. })), "{away:?}");
    assert!(
        !format!("{away:?}").contains("127.0.0.1"),
        "no addresses: {away:?}"
    );
    let up = |metrics: &Metrics| {
        String::from_utf8_lossy(&metrics.encode()).contains("fuse_dependency_up{dependency=\"dynamodb\"} 1")
    };
    assert!(!up(&metrics));
    dynamodb.restart()?;
    assert_eq!(store.current().await?.expect("a pointer").id, first.meta.id);
    assert!(up(&metrics));
    Ok(())
}

#[tokio::test]
async fn a_view_follows_through_an_outage_and_keeps_what_it_has() -> Result<()> {
    let (dynamodb, store, metrics) = start().await?;
    dynamodb.stop()?;
    let (view, stop) = (MarketView::new(&metrics), CancellationToken::new());
    let poll = Duration::from_millis(20);
    let task = tokio::spawn(follow(store.clone(), view.clone(), stop.clone(), poll));
    tokio::time::timeout(Duration::from_secs(20), view.tried()).await?;
    assert!(view.current().is_none());

    dynamodb.restart()?;
    let first = snapshot(3, "1", 20, 5)?;
    store.publish(&first, None).await?;
    let deadline = Duration::from_secs(20);
    let loaded = tokio::time::timeout(deadline, view.newer_than(None)).await?;
    assert_eq!(loaded.quotes, first.quotes);

    dynamodb.stop()?;
    let away = || {
        String::from_utf8_lossy(&metrics.encode()).contains("fuse_dependency_up{dependency=\"dynamodb\"} 0")
    };
    wait::until_async("the outage to be seen", deadline, || async {
        away().then_some(())
    })
    .await?;
    assert_eq!(view.current().expect("kept").meta.id, first.meta.id);
    assert!(
        view.age(Timestamp::now())
            .is_some_and(|age| age >= Duration::from_secs(20))
    );

    dynamodb.restart()?;
    let second = snapshot(3, "2", 10, 5)?;
    store.publish(&second, Some(&first)).await?;
    let newer = tokio::time::timeout(deadline, view.newer_than(Some(first.meta.id))).await?;
    assert_eq!(newer.meta.id, second.meta.id);
    assert!(view.get(first.meta.id).is_some(), "walks over the first go on");
    stop.cancel();
    tokio::time::timeout(deadline, task).await??;
    Ok(())
}
