//! Opaque page tokens: where a walk stands, sealed with an HMAC so that nobody makes one up.
//!
//! Invariant: a token is good for exactly one filter of one kind of list, and for stocks for exactly one snapshot. What it holds is not
//! secret (it is the client's own position), only unforgeable. All replicas must hold the same key: see [`PageTokens::new`].

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::problem::{ApiError, Code, FieldCode, Place};

/// Bytes of the seal: half of SHA-256, far beyond guessing.
const SEAL_BYTES: usize = 16;

/// Bytes of the hash that binds a token to its filter.
const FILTER_BYTES: usize = 16;

/// Longest token that is looked at.
const TOKEN_MAX_CHARS: usize = 512;

/// Which list a token belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// `/v1/stocks`
    Stocks,
    /// `/v1/orders`
    Orders,
    /// `/v1/users/{userId}/portfolios`
    Portfolios,
    /// `/v1/api-keys`
    Keys,
    /// `/v1/stocks/{symbol}/prices`
    Prices,
    /// `/v1/portfolios/{id}/history`
    History,
}

/// What a walk selects; everything but the page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FilterHash([u8; FILTER_BYTES]);

impl FilterHash {
    /// Hash of the parts of a filter, each told apart by its length; absent parts are distinct from empty ones.
    pub fn of<'a>(list: List, parts: impl IntoIterator<Item = Option<&'a str>>) -> Self {
        let mut hash = Sha256::new();
        hash.update([list as u8]);
        for part in parts {
            match part {
                None => hash.update([0]),
                Some(text) => {
                    hash.update([1]);
                    hash.update((text.len() as u64).to_be_bytes());
                    hash.update(text);
                }
            }
        }
        let mut short = [0; FILTER_BYTES];
        short.copy_from_slice(&hash.finalize()[..FILTER_BYTES]);
        Self(short)
    }

    /// The hash itself.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Makes and opens tokens. Cheap to clone.
#[derive(Clone)]
pub struct PageTokens {
    mac: Hmac<Sha256>,
}

impl PageTokens {
    /// `key`: at least 32 secret bytes, the same on every replica; with different keys a walk that changes replica gets a 400.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self {
            mac: Hmac::new_from_slice(key).expect("HMAC takes keys of any length"),
        }
    }

    /// A token that stands after `position` in the list that `filter` selects.
    #[must_use]
    pub fn seal(&self, filter: FilterHash, position: &[u8]) -> String {
        let mut bytes = Vec::with_capacity(FILTER_BYTES + position.len() + SEAL_BYTES);
        bytes.extend_from_slice(&filter.0);
        bytes.extend_from_slice(position);
        let mut mac = self.mac.clone();
        mac.update(&bytes);
        bytes.extend_from_slice(&mac.finalize().into_bytes()[..SEAL_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// A short text that stands for all `parts`, for an `ETag`: the pages that it tags hold tokens, so it depends on the key as they do.
    #[must_use]
    pub fn tag(&self, parts: &[&[u8]]) -> String {
        let mut mac = self.mac.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        URL_SAFE_NO_PAD.encode(&mac.finalize().into_bytes()[..SEAL_BYTES])
    }

    /// The position in `token`. Fails with 400 when it was not made here, or for another filter.
    pub fn open(&self, filter: FilterHash, token: &str) -> Result<Vec<u8>, ApiError> {
        let position = self.checked(token).ok_or_else(|| {
            refuse(
                FieldCode::Forged,
                "This token was not made by this service, or was cut. Start again without pageToken.",
            )
        })?;
        let (sealed_filter, rest) = position.split_at(FILTER_BYTES);
        if sealed_filter != filter.0 {
            return Err(refuse(
                FieldCode::OtherFilter,
                "This token belongs to another list or other filters. Keep every parameter but limit the same during a walk.",
            ));
        }
        Ok(rest.to_vec())
    }

    /// As [`PageTokens::open`], for positions that are ids.
    pub fn open_id(&self, filter: FilterHash, token: &str) -> Result<Uuid, ApiError> {
        let position = self.open(filter, token)?;
        Uuid::from_slice(&position).map_err(|_| {
            refuse(
                FieldCode::Forged,
                "This token makes no sense. Start again without pageToken.",
            )
        })
    }

    /// Everything before the seal, when the seal is ours.
    fn checked(&self, token: &str) -> Option<Vec<u8>> {
        if token.len() > TOKEN_MAX_CHARS {
            return None;
        }
        let mut bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let length = bytes.len().checked_sub(SEAL_BYTES)?;
        let mut mac = self.mac.clone();
        mac.update(&bytes[..length]);
        mac.verify_truncated_left(&bytes[length..]).ok()?;
        bytes.truncate(length);
        (length >= FILTER_BYTES).then_some(bytes)
    }
}

/// The 400 of a token that is well sealed but makes no sense, or is not ours.
pub fn refuse(code: FieldCode, detail: &str) -> ApiError {
    ApiError::field(Code::InvalidPageToken, Place::Query, "/pageToken", code, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_tokens_for_the_same_filter_open() {
        let tokens = PageTokens::new(b"0123456789abcdef0123456789abcdef");
        let filter = FilterHash::of(List::Stocks, [Some("a"), None]);
        let token = tokens.seal(filter, b"AAPL");
        assert_eq!(tokens.open(filter, &token).expect("own token"), b"AAPL");

        let code = |result: Result<Vec<u8>, ApiError>| match result {
            Ok(_) => "opened",
            Err(error) => error.problem.errors[0].code.as_str(),
        };
        for other in [
            FilterHash::of(List::Orders, [Some("a"), None]),
            FilterHash::of(List::Stocks, [None, Some("a")]),
            FilterHash::of(List::Stocks, [Some("a"), Some("")]),
        ] {
            assert_eq!(code(tokens.open(other, &token)), "other_filter");
        }
        let foreign = PageTokens::new(b"another key of at least 32 bytes").seal(filter, b"AAPL");
        for forged in [
            "",
            "AAPL",
            "%%%",
            &token[1..],
            &token[..token.len() - 1],
            &foreign,
            &"A".repeat(9_999),
        ] {
            assert_eq!(code(tokens.open(filter, forged)), "forged", "{forged}");
        }
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let tokens = PageTokens::new(b"0123456789abcdef0123456789abcdef");
        let filter = FilterHash::of(List::Stocks, [None]);
        let token = tokens.seal(filter, b"AAPL");
        let bytes = URL_SAFE_NO_PAD.decode(&token).expect("base64");
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert!(tokens.open(filter, &changed).is_err(), "byte {index}");
        }
    }
}
