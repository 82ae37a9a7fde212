//! Faults in the body of a complete answer.

use bytes::Bytes;
use serde_json::Value;

use crate::fault::BodyFault;
use crate::gzip::bomb;
use crate::rules::Operation;
use crate::vendor::Delivery;
use crate::wire::Answer;

/// Bytes of white space in one piece of a huge body.
const PIECE_BYTES: usize = 64 * 1024;

/// An item that is none, with the comma before the next.
const ITEMS: &[u8] = b"7,";

/// A body that is sent without ever being held: `prefix`, then `fill` again and again until `fill_bytes` are sent, then `suffix`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bulk {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) prefix: Bytes,
    pub(crate) fill: Bytes,
    pub(crate) fill_bytes: u64,
    pub(crate) suffix: Bytes,
    /// With a `content-length`.
    pub(crate) announced: bool,
}

impl Bulk {
    pub(crate) fn length(&self) -> u64 {
        self.prefix.len() as u64 + self.fill_bytes + self.suffix.len() as u64
    }
}

/// A page without items, or a success without an order, in two halves.
fn shell(operation: Operation) -> (&'static str, &'static str) {
    match operation {
        Operation::List => ("{\"status\":200,\"data\":{\"items\":[", "]}}"),
        Operation::Buy => (
            "{\"status\":200,\"message\":\"Order placed successfully\",\"data\":{",
            "}}",
        ),
    }
}

pub(crate) fn spoil(fault: &BodyFault, mut answer: Answer, operation: Operation) -> Delivery {
    match fault {
        BodyFault::Truncated => answer.body.truncate(answer.body.len() / 2),
        BodyFault::InvalidJson => {
            let text = String::from_utf8_lossy(&answer.body).replacen('{', "{,", 1);
            answer.body = text.into();
        }
        BodyFault::ContentType(value) => answer.set_header("content-type", value),
        BodyFault::Huge { bytes, announced } => {
            return Delivery::Bulk(huge(answer, *bytes, *announced, operation));
        }
        BodyFault::ManyItems { items } => {
            let mut bulk = huge(answer, 0, false, operation);
            if operation == Operation::List {
                bulk.fill = ITEMS.repeat(PIECE_BYTES / ITEMS.len()).into();
                bulk.suffix = Bytes::from_static(b"7]}}");
            }
            bulk.fill_bytes = items.saturating_sub(1) * ITEMS.len() as u64;
            return Delivery::Bulk(bulk);
        }
        BodyFault::GzipBomb { inflated_bytes } => {
            return Delivery::Bulk(gzipped(answer, *inflated_bytes, operation));
        }
        BodyFault::Deep { depth } => answer.body = deep(*depth, operation).into(),
        BodyFault::MissingData => remove(&mut answer, |whole| whole, "data"),
        BodyFault::MissingItems | BodyFault::MissingOrder => {
            let key = match operation {
                Operation::List => "items",
                Operation::Buy => "order",
            };
            remove(&mut answer, |whole| &mut whole["data"], key);
        }
    }
    Delivery::Full(answer)
}

fn huge(answer: Answer, bytes: u64, announced: bool, operation: Operation) -> Bulk {
    let (before, after) = shell(operation);
    Bulk {
        status: answer.status,
        headers: answer.headers,
        prefix: Bytes::from_static(before.as_bytes()),
        fill: Bytes::from_static(&[b' '; PIECE_BYTES]),
        fill_bytes: bytes.saturating_sub((before.len() + after.len()) as u64),
        suffix: Bytes::from_static(after.as_bytes()),
        announced,
    }
}

fn gzipped(mut answer: Answer, inflated_bytes: u64, operation: Operation) -> Bulk {
    let (before, after) = shell(operation);
    let bomb = bomb(before, inflated_bytes, after);
    answer.set_header("content-encoding", "gzip");
    Bulk {
        status: answer.status,
        headers: answer.headers,
        prefix: bomb.prefix,
        fill: bomb.fill,
        fill_bytes: bomb.fill_bytes,
        suffix: bomb.suffix,
        announced: true,
    }
}

fn deep(depth: usize, operation: Operation) -> String {
    let key = match operation {
        Operation::List => "items",
        Operation::Buy => "order",
    };
    let (open, close) = ("[".repeat(depth), "]".repeat(depth));
    format!("{{\"status\":200,\"data\":{{\"{key}\":{open}{close}}}}}")
}

/// An answer that has no such key stays as it is.
fn remove(answer: &mut Answer, part: impl Fn(&mut Value) -> &mut Value, key: &str) {
    let Ok(mut whole) = serde_json::from_slice::<Value>(&answer.body) else {
        return;
    };
    if whole.get("data").is_none() {
        return;
    }
    if let Some(object) = part(&mut whole).as_object_mut() {
        object.remove(key);
    }
    answer.body = whole.to_string().into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_body_is_as_long_as_asked_for_and_held_once() {
        let answer = Answer::json(200, "{}".to_owned());
        let Delivery::Bulk(bulk) = spoil(
            &BodyFault::Huge {
                bytes: 100_000_000,
                announced: true,
            },
            answer,
            Operation::List,
        ) else {
            panic!("a bulk")
        };
        assert_eq!(bulk.length(), 100_000_000);
        assert_eq!(bulk.fill.len(), PIECE_BYTES);
    }
}
