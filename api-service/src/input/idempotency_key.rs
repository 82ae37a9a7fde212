//! The `Idempotency-Key` header.

use axum::extract::FromRequestParts;
use fuse_ledger::IdempotencyKey;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::problem::{ApiError, Code, FieldCode, Place};
use crate::state::AppState;

/// Name of the header.
pub const NAME: HeaderName = HeaderName::from_static("idempotency-key");

/// Longest key that is taken.
const LENGTH_MAX: usize = 255;

/// The key under which a repeat of this request returns the first answer.
pub struct IdempotencyKeyHeader {
    /// The client's, or a new one where none is required.
    pub key: IdempotencyKey,
    /// It was made here: the answer must tell it.
    pub is_made: bool,
}

impl FromRequestParts<AppState> for IdempotencyKeyHeader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        match read(&parts.headers)? {
            Some(key) => Ok(Self { key, is_made: false }),
            None if state.orders.require_idempotency_key => Err(refuse(
                FieldCode::Required,
                "Send the header Idempotency-Key with a value that is new for each order you want, such as a UUID. A repeat with the same \
                 value returns the first answer and never buys twice.",
            )),
            None => Self::make(),
        }
    }
}

impl IdempotencyKeyHeader {
    fn make() -> Result<Self, ApiError> {
        let key = IdempotencyKey::parse(&Uuid::now_v7().to_string()).map_err(ApiError::internal)?;
        Ok(Self { key, is_made: true })
    }

    /// The header of the answer, where the client does not know the key.
    #[must_use]
    pub fn to_tell(&self) -> Option<HeaderValue> {
        let value = self.is_made.then(|| HeaderValue::from_str(self.key.as_str()));
        value.map(|value| value.expect("a UUID is visible ASCII"))
    }
}

fn read(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, ApiError> {
    let mut values = headers.get_all(NAME).iter();
    let (first, second) = (values.next(), values.next());
    let Some(value) = first else {
        return Ok(None);
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
        .map(Some)
        .map_err(|error| refuse(FieldCode::BadCharacter, &error.to_string()))
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
