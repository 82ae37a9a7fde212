//! What a handler may know about the request it answers.

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

use crate::problem::ApiError;

/// Header that carries the id in and out.
pub const REQUEST_ID: &str = "x-request-id";

/// Longest request id that is taken over from the client.
const REQUEST_ID_MAX_BYTES: usize = 128;

/// Id and path of one request.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The client's `X-Request-Id` when it is harmless, else a new one.
    pub request_id: String,
    /// Path without the query: a query may hold what does not belong into documents.
    pub instance: String,
}

impl RequestContext {
    /// Takes the id over from the client, or makes one.
    #[must_use]
    pub fn of(headers: &HeaderMap, path: &str) -> Self {
        let given = headers
            .get(REQUEST_ID)
            .and_then(|value| value.to_str().ok())
            .filter(|text| is_harmless(text));
        Self {
            request_id: given.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned),
            instance: path.chars().take(512).collect(),
        }
    }

    /// The id as a header.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.request_id).expect("request ids are visible ASCII")
    }
}

fn is_harmless(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(&byte);
    (1..=REQUEST_ID_MAX_BYTES).contains(&text.len()) && text.bytes().all(allowed)
}

impl<S: Sync> FromRequestParts<S> for RequestContext {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let context = parts.extensions.get::<Self>().cloned();
        context.ok_or_else(|| ApiError::internal("the observe middleware did not run"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_ids_are_taken_over() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(value).expect("header"));
            RequestContext::of(&headers, "/").request_id
        };
        assert_eq!(with("abc-123"), "abc-123");
        for bad in ["", "a b", "\"x\"", "<script>", &"x".repeat(129)] {
            assert!(Uuid::try_parse(&with(bad)).is_ok(), "{bad:?} is replaced");
        }
    }
}
