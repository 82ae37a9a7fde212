//! The snapshot store against the DynamoDB stand-in.

use std::time::{Duration, Instant};

use anyhow::Result;
use fuse_domain::{Price, Snapshot};
use fuse_harness::dynamodb::{DynamoDb, DynamoFault};
use fuse_market::{Fence, Published, StoreError, TableState};
use fuse_platform::Metrics;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::stored::{Stored, TABLE, config, flipped, metric, snapshot, store_of};

const DAY_SECS: i64 = 24 * 3_600;

fn pages_pk(snapshot: &Snapshot) -> String {
    format!("SNAPSHOT#{}", snapshot.meta.id)
}

fn create(dynamodb: &DynamoDb, keys: &[(&str, &str)]) -> Result<()> {
    let attributes: Vec<_> = keys
        .iter()
        .map(|(name, _)| json!({"AttributeName": name, "AttributeType": "S"}))
        .collect();
    let schema: Vec<_> = keys
        .iter()
        .map(|(name, kind)| json!({"AttributeName": name, "KeyType": kind}))
        .collect();
    dynamodb.call(
        "CreateTable",
        &json!({"TableName": TABLE, "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": attributes, "KeySchema": schema}),
    )?;
    Ok(())
}

/// The index holds the movers and nothing else of their blocks, which would make it several times as dear.
fn check_index(dynamodb: &DynamoDb) -> Result<()> {
    let described = dynamodb.call("DescribeTable", &json!({"TableName": TABLE}))?;
    let index = &described["Table"]["GlobalSecondaryIndexes"][0];
    assert_eq!(index["IndexName"], "movers");
    let projection = json!({"ProjectionType": "INCLUDE", "NonKeyAttributes": ["movers"]});
    assert_eq!(index["Projection"], projection);
    Ok(())
}

#[tokio::test]
async fn a_table_is_created_once_and_a_foreign_one_is_refused() -> Result<()> {
    let stored = Stored::start().await?;
    assert_eq!(stored.store.ensure_table().await?, TableState::Existed);
    let ttl = stored
        .dynamodb
        .call("DescribeTimeToLive", &json!({"TableName": TABLE}))?;
    assert_eq!(ttl["TimeToLiveDescription"]["AttributeName"], "expires_at");
    assert_eq!(stored.dynamodb.requests().get("CreateTable"), Some(&1));
    check_index(&stored.dynamodb)?;

    let other = DynamoDb::start()?;
    create(&other, &[("id", "HASH")])?;
    let refused = store_of(&config(other.address())?, &Metrics::new())
        .await?
        .ensure_table()
        .await;
    assert!(
        matches!(refused, Err(StoreError::WrongKeys { .. })),
        "{refused:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_missing_table_is_named_with_setting_and_permission_when_it_may_not_be_made() -> Result<()> {
    let dynamodb = DynamoDb::start()?;
    let mut config = config(dynamodb.address())?;
    config.create_table = false;
    let store = store_of(&config, &Metrics::new()).await?;
    let missing = store.ensure_table().await.expect_err("no table");
    let text = missing.to_string();
    for named in [TABLE, "dynamodb.create_table", "dynamodb:CreateTable", "movers"] {
        assert!(text.contains(named), "{named}: {text}");
    }
    assert!(missing.retryable(), "somebody may make it");
    assert_eq!(dynamodb.requests().get("CreateTable"), None);
    let published = store.publish(&snapshot(1, "1", 1, 5)?, None, Fence::NONE).await;
    assert!(
        matches!(published, Err(StoreError::TableMissing { .. })),
        "{published:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_table_without_the_index_of_movers_gets_it_or_does_without() -> Result<()> {
    let dynamodb = DynamoDb::start()?;
    create(&dynamodb, &[("pk", "HASH"), ("sk", "RANGE")])?;
    let mut config = config(dynamodb.address())?;
    config.create_table = false;
    let careful = store_of(&config, &Metrics::new()).await?;
    assert_eq!(careful.ensure_table().await?, TableState::Existed);
    assert_eq!(dynamodb.requests().get("UpdateTable"), None);
    let mut first = snapshot(3, "1", 10, 5)?;
    first.quotes[1].mover = true;
    flipped(careful.publish(&first, None, Fence::NONE).await?);
    assert_eq!(careful.movers(first.meta.taken_at).await?, []);

    config.create_table = true;
    let store = store_of(&config, &Metrics::new()).await?;
    assert_eq!(store.ensure_table().await?, TableState::Existed);
    assert_eq!(
        store.movers(first.meta.taken_at).await?,
        [first.quotes[1].clone()]
    );
    store.ensure_table().await?;
    assert_eq!(dynamodb.requests().get("UpdateTable"), Some(&1));
    check_index(&dynamodb)
}

#[tokio::test]
async fn what_is_published_is_read_back_whole() -> Result<()> {
    let stored = Stored::start().await?;
    assert_eq!(stored.store.current().await?, None);
    let mut first = snapshot(2_000, "0.2475", 10, 180)?;
    first.quotes[7].listed = false;
    first.quotes[8].mover = true;
    let (pages, history) = flipped(stored.store.publish(&first, None, Fence::NONE).await?);
    assert!(pages > 1, "several pages");
    assert_eq!(history, 1_999, "all but the one that the vendor no longer lists");
    let pointer = stored.pointer().await?;
    assert_eq!(
        (pointer.id, pointer.count, pointer.pages),
        (first.meta.id, 2_000, pages)
    );
    assert_eq!(stored.store.load(&pointer).await?, first);
    assert_eq!(stored.store.load_id(first.meta.id).await?, Some(first));
    Ok(())
}

#[tokio::test]
async fn every_price_change_is_history_and_nothing_else_is_written() -> Result<()> {
    let stored = Stored::start().await?;
    let first = snapshot(30, "2", 20, 5)?;
    flipped(stored.store.publish(&first, None, Fence::NONE).await?);
    let mut second = snapshot(30, "2", 10, 5)?;
    second.quotes[3].price = Price::parse("2.5")?;
    second.quotes[4].name = "renamed".into();
    let (_, history) = flipped(stored.store.publish(&second, Some(&first), Fence::NONE).await?);
    assert_eq!(history, 1);
    assert_eq!(stored.lines("S00003 ")?, 2);
    assert_eq!(stored.lines("")?, 31);
    assert_eq!(stored.count("QUOTE#")?, 0);
    assert_eq!(stored.dynamodb.requests().get("PutItem"), None);
    let pages = stored.items()?;
    let bytes = pages[&(pages_pk(&second), "PAGE#00000".into())]["quotes"]["B"].as_str();
    assert!(bytes.is_some_and(|base64| base64.len() < 1_000), "compressed");
    Ok(())
}

#[tokio::test]
async fn an_older_crawl_moves_nothing_and_writes_nothing() -> Result<()> {
    let stored = Stored::start().await?;
    let (newer, older) = (snapshot(3, "2", 10, 5)?, snapshot(3, "1", 60, 5)?);
    flipped(stored.store.publish(&newer, None, Fence::NONE).await?);
    let before = stored.items()?;
    let published = stored.store.publish(&older, None, Fence::NONE).await?;
    assert_eq!(published, Published::Older);
    assert_eq!(stored.items()?, before);
    Ok(())
}

#[tokio::test]
async fn a_pointer_from_the_future_heals() -> Result<()> {
    let stored = Stored::start().await?;
    // A writer whose clock is ten minutes fast.
    let fast = snapshot(3, "1", -600, 5)?;
    flipped(stored.store.publish(&fast, None, Fence::NONE).await?);
    let right = snapshot(3, "2", 1, 5)?;
    flipped(stored.store.publish(&right, Some(&fast), Fence::NONE).await?);
    assert_eq!(stored.pointer().await?.id, right.meta.id);
    // Some seconds are what clocks do: no going back and forth.
    let little = snapshot(3, "3", -20, 5)?;
    flipped(stored.store.publish(&little, Some(&right), Fence::NONE).await?);
    let behind = snapshot(3, "4", 0, 5)?;
    let published = stored.store.publish(&behind, Some(&little), Fence::NONE).await?;
    assert_eq!(published, Published::Older);
    Ok(())
}

#[tokio::test]
async fn a_superseded_snapshot_is_found_whole_or_not_at_all() -> Result<()> {
    let stored = Stored::start().await?;
    let (first, second) = (snapshot(2_000, "1", 30, 180)?, snapshot(3, "2", 20, 5)?);
    flipped(stored.store.publish(&first, None, Fence::NONE).await?);
    flipped(stored.store.publish(&second, Some(&first), Fence::NONE).await?);
    assert_eq!(stored.store.load_id(first.meta.id).await?, Some(first.clone()));
    assert_eq!(stored.store.load_id(uuid::Uuid::now_v7()).await?, None);
    stored.delete(&pages_pk(&first), "PAGE#00001")?;
    assert_eq!(stored.store.load_id(first.meta.id).await?, None);
    assert_eq!(
        stored.metric("snapshot_reads_total{layer=\"l2\",result=\"miss\"}"),
        Some("2".into())
    );
    Ok(())
}

#[tokio::test]
async fn a_page_past_its_expiry_is_gone_even_before_it_is_collected() -> Result<()> {
    let stored = Stored::start().await?;
    let first = snapshot(3, "1", 30, 5)?;
    flipped(stored.store.publish(&first, None, Fence::NONE).await?);
    let past = Timestamp::now().as_second() - 1;
    stored.set(&pages_pk(&first), "PAGE#00000", "expires_at", past)?;
    let gone = stored.store.load(&stored.pointer().await?).await;
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
    assert_eq!(stored.store.load_id(first.meta.id).await?, None);
    Ok(())
}

#[tokio::test]
async fn pages_stay_two_days_and_those_of_the_current_snapshot_as_long_as_somebody_cares() -> Result<()> {
    let stored = Stored::start().await?;
    let first = snapshot(2_000, "1", 30, 180)?;
    let (pages, _) = flipped(stored.store.publish(&first, None, Fence::NONE).await?);
    let expiry = |item: &Value| {
        item["expires_at"]["N"]
            .as_str()
            .and_then(|at| at.parse::<i64>().ok())
    };
    let expiries = || -> Result<Vec<i64>> {
        let items = stored.items()?;
        let pages = items.iter().filter(|((pk, _), _)| *pk == pages_pk(&first));
        Ok(pages.filter_map(|(_, item)| expiry(item)).collect())
    };
    let now = Timestamp::now().as_second();
    let written = expiries()?;
    assert_eq!(written.len(), pages);
    assert!(
        written
            .iter()
            .all(|at| (now + DAY_SECS..=now + 2 * DAY_SECS + 60).contains(at))
    );

    stored.store.keep_current().await?;
    assert_eq!(expiries()?, written, "nothing to do yet");
    // As if a day and more had passed without a new snapshot.
    stored.set("SNAPSHOT", "CURRENT", "kept_until", now + DAY_SECS / 2)?;
    for page in 0..pages {
        stored.set(
            &pages_pk(&first),
            &format!("PAGE#{page:05}"),
            "expires_at",
            now + 60,
        )?;
    }
    stored.store.keep_current().await?;
    assert!(
        expiries()?.iter().all(|at| *at > now + DAY_SECS),
        "{:?}",
        expiries()?
    );
    let writes = stored.dynamodb.requests().get("UpdateItem").copied();
    stored.store.keep_current().await?;
    assert_eq!(stored.dynamodb.requests().get("UpdateItem").copied(), writes);
    Ok(())
}

#[tokio::test]
async fn unprocessed_items_are_written_again_and_counted() -> Result<()> {
    let stored = Stored::start().await?;
    stored
        .dynamodb
        .inject("BatchWriteItem", DynamoFault::Unprocessed, 6);
    let first = snapshot(100, "1", 10, 5)?;
    flipped(stored.store.publish(&first, None, Fence::NONE).await?);
    assert_eq!(stored.lines("")?, 100, "nothing is left out");
    let counted = stored
        .metric("snapshot_unprocessed_items_total")
        .and_then(|n| n.parse().ok());
    // The one page goes through; five times some of at most 25 blocks come back.
    assert!(counted.is_some_and(|n: u32| (5..=60).contains(&n)), "{counted:?}");
    Ok(())
}

#[tokio::test]
async fn throttled_batches_are_written_in_the_end() -> Result<()> {
    let stored = Stored::start().await?;
    stored.dynamodb.inject("BatchWriteItem", DynamoFault::Throttle, 5);
    stored.dynamodb.inject("UpdateItem", DynamoFault::ServerError, 1);
    let first = snapshot(60, "1", 10, 5)?;
    flipped(stored.store.publish(&first, None, Fence::NONE).await?);
    assert_eq!(stored.lines("")?, 60);
    assert_eq!(stored.pointer().await?.id, first.meta.id);
    Ok(())
}

#[tokio::test]
async fn a_flip_whose_answer_is_lost_is_a_flip() -> Result<()> {
    let stored = Stored::start().await?;
    stored.dynamodb.inject("UpdateItem", DynamoFault::LostAnswer, 1);
    flipped(
        stored
            .store
            .publish(&snapshot(3, "1", 10, 5)?, None, Fence::NONE)
            .await?,
    );
    assert_eq!(stored.dynamodb.requests().get("UpdateItem"), Some(&2));
    Ok(())
}

#[tokio::test]
async fn a_quote_too_large_is_refused_before_anything_is_written() -> Result<()> {
    let stored = Stored::start().await?;
    let good = snapshot(3, "1", 10, 5)?;
    flipped(stored.store.publish(&good, None, Fence::NONE).await?);
    let before = stored.items()?;
    let mut monstrous = snapshot(3, "2", 5, 5)?;
    monstrous.quotes[1].name = "x".repeat(450_000);
    let refused = stored.store.publish(&monstrous, Some(&good), Fence::NONE).await;
    let error = refused.expect_err("too large");
    assert!(matches!(error, StoreError::Oversize { .. }), "{error:?}");
    assert!(error.to_string().contains("S00001"), "{error}");
    assert!(!error.retryable());
    assert_eq!(stored.metric("snapshot_oversize_items_total"), Some("1".into()));
    assert_eq!(stored.items()?, before, "the last good one stays");
    Ok(())
}

#[tokio::test]
async fn writes_keep_to_the_configured_rate() -> Result<()> {
    let dynamodb = DynamoDb::start()?;
    let mut config = config(dynamodb.address())?;
    config.write_units_per_sec = 200;
    let store = store_of(&config, &Metrics::new()).await?;
    store.ensure_table().await?;
    let started = Instant::now();
    let published = store
        .publish(&snapshot(600, "1", 10, 5)?, None, Fence::NONE)
        .await?;
    let Published::Flipped { write_units, .. } = published else {
        panic!("{published:?}");
    };
    // A block for each bucket that is met, a page or two.
    assert!((400..=430).contains(&write_units), "{write_units}");
    // A second's worth may burst, and the last batch is not waited for.
    let least = Duration::from_millis((write_units - 200 - 25) * 1_000 / 200);
    assert!(started.elapsed() >= least, "{:?}", started.elapsed());
    Ok(())
}

#[tokio::test]
async fn an_outage_is_unavailable_and_ends() -> Result<()> {
    let stored = Stored::start().await?;
    let first = snapshot(5, "1", 10, 5)?;
    flipped(stored.store.publish(&first, None, Fence::NONE).await?);
    stored.dynamodb.stop()?;
    let away = stored.store.current().await;
    assert!(matches!(away, Err(StoreError::Unavailable { .. })), "{away:?}");
    assert!(
        !format!("{away:?}").contains("127.0.0.1"),
        "no addresses: {away:?}"
    );
    let up = || metric(&stored.metrics, "dependency_up{dependency=\"dynamodb\"}");
    assert_eq!(up(), Some("0".into()));
    stored.dynamodb.restart()?;
    assert_eq!(stored.pointer().await?.id, first.meta.id);
    assert_eq!(up(), Some("1".into()));
    Ok(())
}
