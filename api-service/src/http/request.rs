//! What a handler may know about the request it answers.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use uuid::Uuid;

use crate::problem::ApiError;

/// Header that carries the id in and out.
pub const REQUEST_ID: &str = "x-request-id";

/// Longest request id that is taken over from the client.
const REQUEST_ID_MAX_BYTES: usize = 128;
/// Most of a path that documents repeat.
const INSTANCE_MAX_CHARS: usize = 512;

/// Id and path of one request, and once known its caller. Clones are the same.
#[derive(Clone, Debug)]
pub struct RequestContext(Arc<Known>);

/// See the fields.
#[derive(Debug)]
pub struct Known {
    /// The client's `X-Request-Id` when it is harmless, else a new one.
    pub request_id: String,
    /// Path without the query: a query may hold what does not belong into documents.
    pub instance: String,
    caller: OnceLock<Arc<str>>,
}

impl Deref for RequestContext {
    type Target = Known;

    fn deref(&self) -> &Known {
        &self.0
    }
}

impl RequestContext {
    /// Takes the id over from the client, or makes one.
    #[must_use]
    pub fn of(headers: &HeaderMap, path: &str) -> Self {
        let given = headers
            .get(REQUEST_ID)
            .and_then(|value| value.to_str().ok())
            .filter(|text| is_harmless(text));
        Self(Arc::new(Known {
            request_id: given.map_or_else(|| new_id().to_string(), str::to_owned),
            instance: beginning(path).to_owned(),
            caller: OnceLock::new(),
        }))
    }

    /// Names the caller for the request log; the first name stays.
    pub fn set_caller(&self, label: &Arc<str>) {
        self.caller.get_or_init(|| Arc::clone(label));
    }

    /// What the log calls the caller, once the key is verified.
    #[must_use]
    pub fn caller(&self) -> Option<&str> {
        self.caller.get().map(|label| &**label)
    }

    /// The id as a header.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.request_id).expect("request ids are visible ASCII")
    }
}

/// A version 7 UUID from the thread's random numbers: [`Uuid::now_v7`] asks the system for them, which is too much for every request.
fn new_id() -> Uuid {
    let now = Timestamp::now().as_millisecond();
    let random = rand::random::<[u8; 10]>();
    uuid::Builder::from_unix_timestamp_millis(u64::try_from(now).unwrap_or(0), &random).into_uuid()
}

fn beginning(path: &str) -> &str {
    let end = path.char_indices().nth(INSTANCE_MAX_CHARS);
    end.map_or(path, |(end, _)| &path[..end])
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
            RequestContext::of(&headers, "/").request_id.clone()
        };
        assert_eq!(with("abc-123"), "abc-123");
        for bad in ["", "a b", "\"x\"", "<script>", &"x".repeat(129)] {
            let id = Uuid::try_parse(&with(bad)).unwrap_or_else(|_| panic!("{bad:?} is replaced"));
            assert_eq!(id.get_version_num(), 7);
        }
    }

    #[test]
    fn long_paths_are_cut_between_characters() {
        let of = |path: &str| RequestContext::of(&HeaderMap::new(), path).instance.clone();
        assert_eq!(of("/v1/stocks"), "/v1/stocks");
        assert_eq!(of(&"é".repeat(600)), "é".repeat(512));
    }
}
