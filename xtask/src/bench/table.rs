//! The market table seen from outside the service: emptied, and weighed as DynamoDB weighs items.

use anyhow::{Context as _, Result, bail};
use fuse_harness::dynamodb::DynamoDb;
use serde_json::{Map, Value, json};

/// As the world's services name it.
const TABLE: &str = "fuse-market";
/// Items of one batch; DynamoDB's own limit.
const BATCH: usize = 25;

/// Removes every item; a table that is missing is empty.
pub fn empty(dynamodb: &DynamoDb) -> Result<()> {
    let input = json!({"TableName": TABLE, "ProjectionExpression": "pk, sk"});
    let keys = match all(dynamodb, "Scan", input) {
        Ok(keys) => keys,
        Err(error) if format!("{error:#}").contains("ResourceNotFoundException") => return Ok(()),
        Err(error) => return Err(error),
    };
    for batch in keys.chunks(BATCH) {
        let deletes: Vec<Value> = batch
            .iter()
            .map(|key| json!({"DeleteRequest": {"Key": key}}))
            .collect();
        dynamodb.call("BatchWriteItem", &json!({"RequestItems": {TABLE: deletes}}))?;
    }
    Ok(())
}

/// The pages of the current snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotWeight {
    /// Page items.
    pub pages: usize,
    /// Bytes of all of them, names of attributes included.
    pub bytes: usize,
}

/// Id of the snapshot that the pointer names.
pub fn current_id(dynamodb: &DynamoDb) -> Result<String> {
    let key = json!({"pk": {"S": "SNAPSHOT"}, "sk": {"S": "CURRENT"}});
    let found = dynamodb.call("GetItem", &json!({"TableName": TABLE, "Key": key}))?;
    let id = found["Item"]["id"]["S"].as_str();
    Ok(id.context("the pointer names no snapshot")?.to_owned())
}

/// Weighs the snapshot that the pointer names.
pub fn current_snapshot(dynamodb: &DynamoDb) -> Result<SnapshotWeight> {
    let id = current_id(dynamodb)?;
    let pages = all(
        dynamodb,
        "Query",
        json!({
            "TableName": TABLE,
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": {"S": format!("SNAPSHOT#{id}")}},
        }),
    )?;
    let bytes = pages.iter().map(item_bytes).sum::<Result<usize>>()?;
    Ok(SnapshotWeight {
        pages: pages.len(),
        bytes,
    })
}

/// All items of a `Scan` or `Query`, page by page.
fn all(dynamodb: &DynamoDb, operation: &str, mut input: Value) -> Result<Vec<Value>> {
    let mut items = Vec::new();
    loop {
        let output = dynamodb.call(operation, &input)?;
        items.extend(output["Items"].as_array().cloned().unwrap_or_default());
        match output.get("LastEvaluatedKey") {
            Some(key) if !key.is_null() => input["ExclusiveStartKey"] = key.clone(),
            _ => return Ok(items),
        }
    }
}

/// Size of an item by DynamoDB's rules: names and values in UTF-8; a number takes a byte for two digits and one more.
fn item_bytes(item: &Value) -> Result<usize> {
    let attributes: &Map<String, Value> = item.as_object().context("an item is an object")?;
    attributes
        .iter()
        .map(|(name, value)| Ok(name.len() + value_bytes(value)?))
        .sum()
}

fn value_bytes(value: &Value) -> Result<usize> {
    if let Some(text) = value["S"].as_str() {
        return Ok(text.len());
    }
    if let Some(number) = value["N"].as_str() {
        let digits = number.bytes().filter(u8::is_ascii_digit).count();
        return Ok(digits.div_ceil(2) + 1);
    }
    if let Some(base64) = value["B"].as_str() {
        let padding = base64.bytes().rev().take_while(|byte| *byte == b'=').count();
        return Ok(base64.len() / 4 * 3 - padding);
    }
    bail!("an attribute of another type than S, N and B: {value:.100}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_weigh_as_dynamodb_says() {
        let item = json!({"pk": {"S": "SNAPSHOT"}, "n": {"N": "1767623400000"}, "b": {"B": "AAECAw=="}});
        assert_eq!(item_bytes(&item).expect("a weight"), 10 + (1 + 8) + (1 + 4));
    }
}
