//! Parts of a path. What cannot name anything is "not found", not "bad": nobody needs to know the form of our ids.

use axum::extract::{FromRequestParts, Path};
use fuse_domain::Symbol;
use http::request::Parts;
use uuid::Uuid;

use crate::problem::{ApiError, Code, FieldCode, Place};

/// The one id of a path; `None` when it is not an id, which the handler answers with its own 404.
pub struct PathId(pub Option<Uuid>);

/// The one symbol of a path; `None` when it cannot be a symbol.
pub struct PathSymbol(pub Option<Symbol>);

/// The one calendar day of a path.
pub struct PathDate(pub jiff::civil::Date);

async fn raw<S: Send + Sync>(parts: &mut Parts, state: &S) -> Option<String> {
    Path::<String>::from_request_parts(parts, state)
        .await
        .ok()
        .map(|Path(text)| text)
}

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = raw(parts, state).await;
        Ok(Self(text.and_then(|text| Uuid::try_parse(&text).ok())))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathSymbol {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = raw(parts, state).await;
        Ok(Self(text.and_then(|text| Symbol::parse(&text).ok())))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathDate {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = raw(parts, state).await.unwrap_or_default();
        // Only the ten-character form: the parser alone would also take times and other notations.
        let date = (text.len() == 10).then(|| text.parse().ok()).flatten();
        date.map(Self).ok_or_else(|| {
            ApiError::field(
                Code::InvalidPath,
                Place::Path,
                "/date",
                FieldCode::NotADate,
                "This must be a calendar day such as 2026-12-31.",
            )
        })
    }
}
