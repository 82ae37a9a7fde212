//! The `If-Match` header: the version of a portfolio that the client has seen.

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, header};

use crate::problem::{ApiError, Code, FieldCode, Place};

/// The expected version; `None`: any will do.
pub struct IfMatch(pub Option<i64>);

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        read(&parts.headers).map(Self)
    }
}

fn read(headers: &HeaderMap) -> Result<Option<i64>, ApiError> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let (first, second) = (values.next(), values.next());
    let Some(value) = first else {
        return Ok(None);
    };
    if second.is_some() {
        return Err(refuse(FieldCode::Duplicate, "Send one If-Match only."));
    }
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let detail = "This must be the ETag of a portfolio as it came, such as \"7\" in its quotation marks: one, and not a weak one; or *.";
    version(text)
        .map(Some)
        .ok_or_else(|| refuse(FieldCode::NotATag, detail))
}

/// A tag exactly as we write it: 7 and 07 would be two texts for one version.
fn version(tag: &str) -> Option<i64> {
    let text = tag.strip_prefix('"')?.strip_suffix('"')?;
    let version: i64 = text.parse().ok()?;
    (version >= 1 && version.to_string() == text).then_some(version)
}

fn refuse(code: FieldCode, detail: &str) -> ApiError {
    ApiError::field(Code::InvalidHeader, Place::Header, "/If-Match", code, detail)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(values: &[&'static str], expected: Result<Option<i64>, FieldCode>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, HeaderValue::from_static(value));
        }
        let found = read(&headers).map_err(|error| error.problem.errors[0].code);
        assert_eq!(found, expected, "{values:?}");
    }

    #[test]
    fn one_strong_tag_is_a_version() {
        check(&[], Ok(None));
        check(&["*"], Ok(None));
        check(&["\"7\""], Ok(Some(7)));
        check(&[" \"9223372036854775807\" "], Ok(Some(i64::MAX)));
        for garbled in [
            "",
            "7",
            "\"7",
            "7\"",
            "\"\"",
            "\"",
            "W/\"7\"",
            "w/\"7\"",
            "\"7\", \"8\"",
            "\"7\",",
            "\"07\"",
            "\"+7\"",
            "\"-7\"",
            "\"0\"",
            "\"7.0\"",
            "\" 7\"",
            "\"9223372036854775808\"",
            "\"x\"",
            "'7'",
            "*, \"7\"",
        ] {
            check(&[garbled], Err(FieldCode::NotATag));
        }
        check(&["\"7\"", "\"8\""], Err(FieldCode::Duplicate));
        check(&["*", "*"], Err(FieldCode::Duplicate));
    }
}
