//! One extractor for each scope, so that a handler's signature says what its caller needs.

use axum::extract::FromRequestParts;
use fuse_ledger::Scope;
use http::request::Parts;
use http::{HeaderMap, header};

use super::Caller;
use crate::http::RequestContext;
use crate::problem::{ApiError, Code};
use crate::state::AppState;

macro_rules! scoped {
    ($($(#[$doc:meta])* $name:ident $scope:ident;)+) => {$(
        $(#[$doc])*
        pub struct $name(pub Caller);

        impl FromRequestParts<AppState> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
                authenticate(parts, state, Scope::$scope).await.map(Self)
            }
        }
    )+};
}

scoped! {
    /// A caller with the scope `read`.
    Reader Read;
    /// A caller with the scope `trade`.
    Trader Trade;
    /// A caller with the scope `report`.
    Reporter Report;
    /// A caller with the scope `admin`.
    Admin Admin;
}

async fn authenticate(parts: &mut Parts, state: &AppState, scope: Scope) -> Result<Caller, ApiError> {
    let text = presented(&parts.headers).inspect_err(|error| {
        let is_missing = error.problem.code == Code::KeyMissing;
        state
            .metrics
            .auth_failure(if is_missing { "missing" } else { "malformed" });
    })?;
    let caller = state.keys.caller(text, jiff::Timestamp::now()).await?;
    if let Some(context) = parts.extensions.get::<RequestContext>() {
        context.set_caller(&caller.label);
    }
    if !caller.allows(scope) {
        state.metrics.auth_failure("scope");
        let detail = format!("This request needs a key with the scope {}.", scope.as_str());
        return Err(ApiError::new(Code::ScopeMissing, detail));
    }
    Ok(caller)
}

/// The one key of the headers.
fn presented(headers: &HeaderMap) -> Result<&str, ApiError> {
    let mut keys = headers
        .get_all("x-api-key")
        .iter()
        .map(|value| value.to_str().ok().map(str::trim))
        .chain(
            headers
                .get_all(header::AUTHORIZATION)
                .iter()
                .map(|value| bearer(value.to_str().ok()?)),
        );
    let Some(first) = keys.next() else {
        return Err(ApiError::new(
            Code::KeyMissing,
            "Send an API key in the header x-api-key, or as Authorization: Bearer.",
        ));
    };
    let unreadable = "The key has the wrong form; it looks like fuse_ followed by an id and a secret.";
    let first = first.ok_or_else(|| ApiError::new(Code::KeyInvalid, unreadable))?;
    if keys.any(|other| other != Some(first)) {
        let detail = "Two different keys came with this request; send one.";
        return Err(ApiError::new(Code::KeyInvalid, detail));
    }
    Ok(first)
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(headers: &[(&'static str, &'static str)], expected: Result<&str, Code>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let found = presented(&map).map_err(|error| error.problem.code);
        assert_eq!(found, expected, "{headers:?}");
    }

    #[test]
    fn a_key_comes_in_one_of_two_headers() {
        check(&[], Err(Code::KeyMissing));
        check(&[("x-api-key", "k")], Ok("k"));
        check(&[("authorization", "Bearer k")], Ok("k"));
        check(&[("authorization", "bearer  k ")], Ok("k"));
        check(&[("authorization", "Bearer k"), ("x-api-key", "k")], Ok("k"));
        check(
            &[("authorization", "Bearer k"), ("x-api-key", "j")],
            Err(Code::KeyInvalid),
        );
        check(&[("authorization", "Basic k")], Err(Code::KeyInvalid));
        check(&[("authorization", "k")], Err(Code::KeyInvalid));
        check(&[("x-api-key", "k"), ("x-api-key", "j")], Err(Code::KeyInvalid));
    }
}
