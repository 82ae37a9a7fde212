//! Problem documents (RFC 9457): the only shape a failure has on the wire.
//!
//! A handler returns an [`ApiError`]. Its response carries the [`Problem`] as an extension and an empty body; the outermost
//! middleware ([`crate::http::observe`]) fills in request id and instance and writes the body, so that failures made by
//! the router itself (404, 405, panics, timeouts) get exactly the same treatment.

mod codes;
mod error;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

pub use codes::{Code, Fault, FieldCode};
pub use error::{ApiError, Cause};

/// Media type of every failure.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Seconds that a client is asked to wait after a 503 that has no better figure.
pub const RETRY_AFTER_DEFAULT_SECS: u64 = 2;

/// Where a wrong value was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A field of the JSON body; `pointer` is its JSON pointer.
    Body,
    /// A query parameter; `pointer` is `/` and its name.
    Query,
    /// A part of the path; `pointer` is `/` and its name.
    Path,
    /// A header; `pointer` is `/` and its name.
    Header,
}

/// One wrong value. A document lists all of them at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Where `pointer` points into.
    #[serde(rename = "in")]
    pub place: Place,
    /// JSON pointer to the value, such as `/limitPrice`; empty for the whole.
    pub pointer: String,
    /// Stable code of the entry.
    #[schema(value_type = String)]
    #[serde(serialize_with = "field_code")]
    pub code: FieldCode,
    /// What is wrong, and what would be right.
    pub detail: String,
}

fn field_code<S: serde::Serializer>(code: &FieldCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.as_str())
}

impl FieldError {
    /// A wrong value at `place` and `pointer` (empty, or starting with `/`).
    pub fn new(place: Place, pointer: impl Into<String>, code: FieldCode, detail: impl Into<String>) -> Self {
        Self {
            place,
            pointer: pointer.into(),
            code,
            detail: detail.into(),
        }
    }
}

/// A failure, before it knows which request it answers.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Stable code; decides status, title and fault.
    pub code: Code,
    /// This occurrence, for people; never anything private.
    pub detail: String,
    /// Every wrong value.
    pub errors: Vec<FieldError>,
    /// Sent as `Retry-After`, in seconds.
    pub retry_after_secs: Option<u64>,
    /// Id of the order that this failure left behind, if any.
    pub order_id: Option<uuid::Uuid>,
}

/// The document on the wire.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Problem)]
pub struct ProblemDocument<'a> {
    /// `urn:fuse:problem:` and the code.
    #[serde(rename = "type")]
    kind: String,
    /// The same for every occurrence of the code.
    title: &'a str,
    /// The HTTP status again.
    #[schema(example = 422)]
    status: u16,
    /// Stable code, listed in docs/errors.md.
    #[schema(example = "invalid_fields")]
    code: &'a str,
    /// This occurrence, for people.
    detail: &'a str,
    /// Path of the request.
    instance: &'a str,
    /// The `X-Request-Id` of the answer; name it when you ask for help.
    request_id: &'a str,
    /// The order that the failure left behind: it was recorded, and can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<uuid::Uuid>,
    /// Every wrong value; empty when the failure is not about a value.
    errors: &'a [FieldError],
}

impl Problem {
    /// A failure with `code` and a sentence about this occurrence.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let retry_after_secs =
            (code.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_DEFAULT_SECS);
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_secs,
            order_id: None,
        }
    }

    /// With the wrong values.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// With `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_secs = Some(seconds);
        self
    }

    /// The document as JSON text.
    #[must_use]
    pub fn render(&self, request_id: &str, instance: &str) -> String {
        let document = ProblemDocument {
            kind: format!("urn:fuse:problem:{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            code: self.code.as_str(),
            detail: &self.detail,
            instance,
            request_id,
            order_id: self.order_id,
            errors: &self.errors,
        };
        serde_json::to_string(&document).expect("strings and integers always serialize")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.code.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.code.status() == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"fuse\""),
            );
        }
        if let Some(seconds) = self.retry_after_secs {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}
