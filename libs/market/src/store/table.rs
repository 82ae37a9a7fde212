//! Makes sure that the table and its index exist. Idempotent; several processes may do it at once.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{BuildError, ProvideErrorMetadata};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, CreateGlobalSecondaryIndexAction, GlobalSecondaryIndex,
    GlobalSecondaryIndexUpdate, KeySchemaElement, KeyType, Projection, ProjectionType, ScalarAttributeType,
    TableDescription, TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
};

use super::block::MOVERS_OF_BLOCK;
use super::error::{StoreError, sort};
use super::items::{MOVER_PK, MOVER_SK, MOVERS_INDEX};

/// A new table is ready within seconds; longer means that something else is wrong.
const ACTIVE_WAITS_MAX: u32 = 120;
const ACTIVE_WAIT: Duration = Duration::from_millis(500);

/// What `ensure_table` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableState {
    Existed,
    Created,
    /// The role may not describe tables. The table may be there all the same.
    NotChecked,
}

pub(super) async fn ensure(client: &Client, table: &str, may_create: bool) -> Result<TableState, StoreError> {
    let (state, indexed) = match describe(client, table).await {
        Ok(description) => {
            check_keys(table, &description)?;
            (TableState::Existed, has_index(&description))
        }
        Err(StoreError::TableMissing { .. }) if may_create => {
            tracing::info!(dynamodb.table = table, "table is missing, creating it");
            create(client, table).await?;
            (TableState::Created, true)
        }
        Err(StoreError::NotAllowed { .. }) => return Ok(TableState::NotChecked),
        Err(other) => return Err(other),
    };
    wait_until_active(client, table).await?;
    if !indexed {
        ensure_index(client, table, may_create).await;
    }
    if may_create {
        // Without the garbage collector the table only grows; reads are right either way.
        if let Err(error) = ensure_ttl(client, table).await {
            tracing::warn!(dynamodb.table = table, %error, "TTL on expires_at could not be switched on");
        }
    }
    if state == TableState::Created {
        tracing::info!(dynamodb.table = table, "table created");
    }
    Ok(state)
}

/// Adds the index of movers to a table that was made without it. Everything else works without, so that a failure is
/// only said.
async fn ensure_index(client: &Client, table: &str, may_create: bool) {
    if !may_create {
        tracing::warn!(
            dynamodb.table = table,
            dynamodb.index = MOVERS_INDEX,
            "the table has no index of movers, and dynamodb.create_table is false; movers are known from snapshots only"
        );
        return;
    }
    match add_index(client, table).await {
        Ok(()) => tracing::info!(
            dynamodb.table = table,
            dynamodb.index = MOVERS_INDEX,
            "index is missing, creating it"
        ),
        Err(error) => tracing::warn!(
            dynamodb.table = table,
            dynamodb.index = MOVERS_INDEX,
            %error,
            "the table has no index of movers and it could not be added; movers are known from snapshots only"
        ),
    }
}

async fn describe(client: &Client, table: &str) -> Result<TableDescription, StoreError> {
    let answer = client
        .describe_table()
        .table_name(table)
        .send()
        .await
        .map_err(|error| sort("DescribeTable", table, &error))?;
    answer
        .table
        .ok_or_else(|| StoreError::TableMissing { table: table.into() })
}

fn check_keys(table: &str, description: &TableDescription) -> Result<(), StoreError> {
    let keys: Vec<_> = description
        .key_schema()
        .iter()
        .map(|key| (key.attribute_name(), key.key_type().clone()))
        .collect();
    if keys == [("pk", KeyType::Hash), ("sk", KeyType::Range)] {
        return Ok(());
    }
    Err(StoreError::WrongKeys { table: table.into() })
}

fn has_index(description: &TableDescription) -> bool {
    description
        .global_secondary_indexes()
        .iter()
        .any(|index| index.index_name() == Some(MOVERS_INDEX))
}

async fn create(client: &Client, table: &str) -> Result<(), StoreError> {
    let created = client
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute("pk")?)
        .attribute_definitions(attribute("sk")?)
        .attribute_definitions(attribute(MOVER_PK)?)
        .attribute_definitions(attribute(MOVER_SK)?)
        .set_key_schema(Some(keys("pk", "sk")?))
        .global_secondary_indexes(
            GlobalSecondaryIndex::builder()
                .index_name(MOVERS_INDEX)
                .set_key_schema(Some(keys(MOVER_PK, MOVER_SK)?))
                .projection(movers_alone())
                .build()
                .map_err(not_built)?,
        )
        .send()
        .await;
    match created {
        Ok(_) => Ok(()),
        Err(error) if in_use(error.as_service_error()) => Ok(()),
        Err(error) => Err(sort("CreateTable", table, &error)),
    }
}

async fn add_index(client: &Client, table: &str) -> Result<(), StoreError> {
    let index = CreateGlobalSecondaryIndexAction::builder()
        .index_name(MOVERS_INDEX)
        .set_key_schema(Some(keys(MOVER_PK, MOVER_SK)?))
        .projection(movers_alone())
        .build()
        .map_err(not_built)?;
    let added = client
        .update_table()
        .table_name(table)
        .attribute_definitions(attribute("pk")?)
        .attribute_definitions(attribute("sk")?)
        .attribute_definitions(attribute(MOVER_PK)?)
        .attribute_definitions(attribute(MOVER_SK)?)
        .global_secondary_index_updates(GlobalSecondaryIndexUpdate::builder().create(index).build())
        .send()
        .await;
    match added {
        Ok(_) => Ok(()),
        Err(error) if in_use(error.as_service_error()) => Ok(()),
        Err(error) => Err(sort("UpdateTable", table, &error)),
    }
}

/// Somebody else was quicker.
fn in_use<E: ProvideErrorMetadata>(error: Option<&E>) -> bool {
    error.and_then(ProvideErrorMetadata::code) == Some("ResourceInUseException")
}

fn not_built(_: BuildError) -> StoreError {
    StoreError::Refused {
        operation: "CreateTable",
        code: "not built".into(),
    }
}

fn attribute(name: &str) -> Result<AttributeDefinition, StoreError> {
    AttributeDefinition::builder()
        .attribute_name(name)
        .attribute_type(ScalarAttributeType::S)
        .build()
        .map_err(not_built)
}

fn keys(hash: &str, range: &str) -> Result<Vec<KeySchemaElement>, StoreError> {
    let element = |name: &str, kind: KeyType| {
        KeySchemaElement::builder()
            .attribute_name(name)
            .key_type(kind)
            .build()
            .map_err(not_built)
    };
    Ok(vec![
        element(hash, KeyType::Hash)?,
        element(range, KeyType::Range)?,
    ])
}

/// The prices of a block that did not move much are none of the index's: they would be most of what it costs.
fn movers_alone() -> Projection {
    Projection::builder()
        .projection_type(ProjectionType::Include)
        .non_key_attributes(MOVERS_OF_BLOCK)
        .build()
}

async fn wait_until_active(client: &Client, table: &str) -> Result<(), StoreError> {
    for _ in 0..ACTIVE_WAITS_MAX {
        match describe(client, table).await {
            Ok(found) if found.table_status == Some(TableStatus::Active) => return Ok(()),
            Ok(found) if found.table_status == Some(TableStatus::Updating) => return Ok(()),
            Ok(_) | Err(StoreError::TableMissing { .. }) => tokio::time::sleep(ACTIVE_WAIT).await,
            Err(other) => return Err(other),
        }
    }
    Err(StoreError::Unavailable {
        operation: "CreateTable",
        detail: "the table does not become active".into(),
    })
}

async fn ensure_ttl(client: &Client, table: &str) -> Result<(), StoreError> {
    let found = client
        .describe_time_to_live()
        .table_name(table)
        .send()
        .await
        .map_err(|error| sort("DescribeTimeToLive", table, &error))?;
    let status = found
        .time_to_live_description
        .and_then(|ttl| ttl.time_to_live_status);
    if matches!(
        status,
        Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)
    ) {
        return Ok(());
    }
    let wanted = TimeToLiveSpecification::builder()
        .attribute_name("expires_at")
        .enabled(true)
        .build()
        .map_err(|_| StoreError::Refused {
            operation: "UpdateTimeToLive",
            code: "not built".into(),
        })?;
    client
        .update_time_to_live()
        .table_name(table)
        .time_to_live_specification(wanted)
        .send()
        .await
        .map_err(|error| sort("UpdateTimeToLive", table, &error))?;
    Ok(())
}
