//! The `Idempotency-Key` header.

use axum::extract::FromRequestParts;
use fuse_ledger::IdempotencyKey;
use http::request::Parts;

use crate::problem::{ApiError, Code, FieldCode, Place};

/// Name of the header.
const NAME: &str = "Idempotency-Key";

/// Longest key that is taken.
const LENGTH_MAX: usize = 255;

/// The key under which a repeat of this request returns the first answer.
pub struct IdempotencyKeyHeader(pub IdempotencyKey);

impl<S: Sync> FromRequestParts<S> for IdempotencyKeyHeader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let mut values = parts.headers.get_all(NAME).iter();
        let (first, second) = (values.next(), values.next());
        let Some(value) = first else {
            return Err(refuse(
                FieldCode::Required,
                "Send the header Idempotency-Key with a value that is new for each order you want, such as a UUID. A repeat with the same \
                 value returns the first answer and never buys twice.",
            ));
        };
        if second.is_some() {
            return Err(refuse(FieldCode::Duplicate, "Send one Idempotency-Key only."));
        }
        let text = value.to_str().unwrap_or_default();
        let printable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !printable || text.len() > LENGTH_MAX {
            return Err(refuse(
                FieldCode::BadCharacter,
                "An Idempotency-Key has 1 to 255 visible ASCII characters without spaces.",
            ));
        }
        IdempotencyKey::parse(text)
            .map(Self)
            .map_err(|error| refuse(FieldCode::BadCharacter, &error.to_string()))
    }
}

fn refuse(code: FieldCode, detail: &str) -> ApiError {
    ApiError::field(
        Code::InvalidHeader,
        Place::Header,
        "/Idempotency-Key",
        code,
        detail,
    )
}
