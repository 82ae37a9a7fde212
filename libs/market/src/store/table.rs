//! Makes sure that the table exists. Idempotent; several processes may do it at once.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableDescription,
    TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
};

use super::error::{StoreError, sort};

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

pub(super) async fn ensure(client: &Client, table: &str) -> Result<TableState, StoreError> {
    let state = match describe(client, table).await {
        Ok(description) => {
            check_keys(table, &description)?;
            TableState::Existed
        }
        Err(StoreError::TableMissing { .. }) => {
            tracing::info!(dynamodb.table = table, "table is missing, creating it");
            create(client, table).await?;
            TableState::Created
        }
        Err(StoreError::NotAllowed { .. }) => return Ok(TableState::NotChecked),
        Err(other) => return Err(other),
    };
    wait_until_active(client, table).await?;
    // Without the garbage collector the table only grows; reads are right either way.
    if let Err(error) = ensure_ttl(client, table).await {
        tracing::warn!(dynamodb.table = table, %error, "TTL on expires_at could not be switched on");
    }
    if state == TableState::Created {
        tracing::info!(dynamodb.table = table, "table created");
    }
    Ok(state)
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

async fn create(client: &Client, table: &str) -> Result<(), StoreError> {
    let built = |_| StoreError::Refused {
        operation: "CreateTable",
        code: "not built".into(),
    };
    let attribute = |name: &str| {
        AttributeDefinition::builder()
            .attribute_name(name)
            .attribute_type(ScalarAttributeType::S)
            .build()
            .map_err(built)
    };
    let element = |name: &str, kind: KeyType| {
        KeySchemaElement::builder()
            .attribute_name(name)
            .key_type(kind)
            .build()
            .map_err(built)
    };
    let created = client
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute("pk")?)
        .attribute_definitions(attribute("sk")?)
        .key_schema(element("pk", KeyType::Hash)?)
        .key_schema(element("sk", KeyType::Range)?)
        .send()
        .await;
    match created {
        Ok(_) => Ok(()),
        // Somebody else was quicker.
        Err(error)
            if error.as_service_error().and_then(ProvideErrorMetadata::code)
                == Some("ResourceInUseException") =>
        {
            Ok(())
        }
        Err(error) => Err(sort("CreateTable", table, &error)),
    }
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
