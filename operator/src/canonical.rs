//! Manifests in one canonical form, and hashes of it.
//!
//! Nulls and empty lists are never sent: the API server would take them for a change and move the resource version
//! (k8s#121404). Empty objects stay: `podSelector: {}` and `emptyDir: {}` mean something.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Removes nulls and empty lists, at every depth.
#[must_use]
pub fn canonical(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| (key, canonical(value)))
                .filter(|(_, value)| !is_void(value))
                .collect(),
        ),
        Value::Array(items) => Value::Array(
            items
                .into_iter()
                .map(canonical)
                .filter(|value| !value.is_null())
                .collect(),
        ),
        other => other,
    }
}

fn is_void(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// Hash of a manifest; equal for equal content, whatever the order of keys.
pub fn hash(value: &Value) -> u64 {
    let mut hasher = Hasher::new();
    hasher.value(value);
    hasher.finish()
}

/// Hashes parts of objects: SHA-256 cut to 64 bits, stable over restarts and builds.
pub struct Hasher(Sha256);

impl Hasher {
    /// Nothing hashed yet.
    pub fn new() -> Self {
        Self(Sha256::new())
    }

    /// Adds a text, with its length so that neighbours cannot run together.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.0.update((text.len() as u64).to_be_bytes());
        self.0.update(text.as_bytes());
        self
    }

    /// Adds JSON with keys in order.
    pub fn value(&mut self, value: &Value) -> &mut Self {
        match value {
            Value::Object(map) => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort_unstable();
                self.0.update([b'{']);
                for key in keys {
                    self.text(key).value(&map[key]);
                }
                self.0.update([b'}']);
            }
            Value::Array(items) => {
                self.0.update([b'[']);
                for item in items {
                    self.value(item);
                }
                self.0.update([b']']);
            }
            Value::String(text) => {
                self.0.update([b'"']);
                self.text(text);
            }
            other => {
                self.text(&other.to_string());
            }
        }
        self
    }

    /// Adds anything that serializes.
    pub fn serialized(&mut self, value: &impl Serialize) -> &mut Self {
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        self.value(&value)
    }

    /// The first 64 bits.
    pub fn finish(self) -> u64 {
        let digest = self.0.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        u64::from_be_bytes(first)
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nulls_and_empty_lists_go_and_empty_objects_stay() {
        let sent = canonical(json!({"a": null, "b": [], "c": {}, "d": {"e": [null, {"f": null}]}, "g": ""}));
        assert_eq!(sent, json!({"c": {}, "d": {"e": [{}]}, "g": ""}));
    }

    #[test]
    fn hash_tells_contents_apart() {
        assert_eq!(hash(&json!({"a": 1, "b": 2})), hash(&json!({"b": 2, "a": 1})));
        assert_ne!(hash(&json!({"a": "1"})), hash(&json!({"a": 1})));
        assert_ne!(hash(&json!(["ab", "c"])), hash(&json!(["a", "bc"])));
    }
}
