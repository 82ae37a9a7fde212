//! The same binary as in AWS: a region, no endpoint of ours, credentials by the SDK's own chain, and no more permissions
//! than the documentation asks for.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use fuse_harness::documents::dynamodb_actions;
use fuse_harness::dynamodb::DynamoDb;
use fuse_harness::postgres::{Postgres, as_service};
use fuse_harness::wait;
use reqwest::Method;
use serde_json::{Value, json};
use vendor_simulator::{Simulator, SimulatorConfig};

use crate::support::{Api, BOOTSTRAP, PATIENCE, migrate};

/// What a replica in AWS is told. The SDK's own variables lead it to the stand-in; ours say nothing about where DynamoDB is.
fn environment(database_url: &str, vendor: &Simulator, dynamodb: &DynamoDb) -> Vec<(&'static str, String)> {
    vec![
        ("FUSE_HTTP__LISTEN", "127.0.0.1:0".to_owned()),
        ("FUSE_ADMIN__LISTEN", "127.0.0.1:0".to_owned()),
        ("FUSE_LIFECYCLE__DRAIN_DELAY_SECS", "0".to_owned()),
        ("FUSE_DATABASE__URL", as_service(database_url)),
        ("FUSE_VENDOR__BASE_URL", vendor.vendor_url()),
        ("FUSE_VENDOR__API_KEY", SimulatorConfig::default().api_key),
        ("FUSE_AUTH__BOOTSTRAP_ADMIN_KEY", BOOTSTRAP.to_owned()),
        ("FUSE_DYNAMODB__REGION", "eu-central-1".to_owned()),
        ("FUSE_DYNAMODB__TABLE_PREFIX", "test".to_owned()),
        ("AWS_ENDPOINT_URL_DYNAMODB", dynamodb.endpoint()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
    ]
}

/// A replica's life: it starts, lists the stocks, shows the history of the first one, and ends.
async fn serves_list_and_history(env: &[(&'static str, String)]) -> Result<()> {
    let api = Api::start(env)?;
    let get = |path: &str| api.call(Method::GET, path).key(BOOTSTRAP);
    let list = wait::until_async("stocks", PATIENCE, || async {
        let answer = get("/v1/stocks?limit=1").send().await.ok()?;
        (answer.status == 200).then(|| answer.json())
    })
    .await
    .map_err(|error| api.proc.explain(error))?;
    let symbol = list["items"][0]["symbol"].as_str().context("a stock")?;
    let history = get(&format!("/v1/stocks/{symbol}/prices")).gives(200).await?;
    let prices = history.json()["items"].as_array().map(Vec::len);
    ensure!(prices == Some(1), "{}", history.text);
    ensure!(api.proc.terminate(PATIENCE)?.success(), "{}", api.proc.log());
    Ok(())
}

/// The table as it was before there was an index of movers, without anything in it.
fn create_older_table(dynamodb: &DynamoDb) -> Result<Value> {
    let table = json!({
        "TableName": "test-market",
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
        ],
        "KeySchema": [
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
    });
    dynamodb.call("CreateTable", &table)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_and_the_sdks_own_chain_are_enough_and_exactly_the_documented_actions_are_used() -> Result<()>
{
    let database_url = Postgres::shared()?.database()?;
    migrate(&database_url)?;
    let vendor = Simulator::start(SimulatorConfig {
        // History is kept for a while only.
        wall_clock: true,
        ..SimulatorConfig::default()
    })?;
    let (empty, older) = (DynamoDb::start()?, DynamoDb::start()?);
    create_older_table(&older)?;
    for dynamodb in [&empty, &older] {
        vendor.back();
        let env = environment(&database_url, &vendor, dynamodb);
        serves_list_and_history(&env).await?;
        // The next one finds everything, so that it needs no vendor, and must read only.
        vendor.away();
        let before = dynamodb.requests();
        serves_list_and_history(&env).await?;
        let mut after = dynamodb.requests();
        after.retain(|action, count| before.get(action) != Some(&*count));
        let reads: Vec<_> = after.keys().map(String::as_str).collect();
        assert_eq!(reads, ["GetItem", "Query"]);
    }
    let requests = [empty.requests(), older.requests()];
    let used: BTreeSet<String> = requests.into_iter().flat_map(|all| all.into_keys()).collect();
    assert_eq!(used, dynamodb_actions("docs/operations.md", "| api-service")?);
    Ok(())
}
