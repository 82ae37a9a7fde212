//! Conditional requests, compression and what caches are told.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// An answer depends on these: who may see it and in which form.
const VARY: &str = "Accept-Encoding, Authorization, X-Api-Key";

/// In which form a client wants its answer, and what it has already.
#[derive(Clone, Debug, Default)]
pub struct Wants {
    /// gzip rather than nothing.
    pub gzip: bool,
    /// Values of `If-None-Match`.
    known: Vec<HeaderValue>,
}

impl Wants {
    /// Reads the headers. What cannot be read wants nothing special.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        Self {
            gzip: wants_gzip(headers),
            known: headers.get_all(header::IF_NONE_MATCH).iter().cloned().collect(),
        }
    }

    /// Whether the client has what this tag stands for (weak comparison, RFC 9110 section 13.1.2).
    #[must_use]
    pub fn has(&self, etag: &HeaderValue) -> bool {
        let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
        if self.known.is_empty() {
            return false;
        }
        let own = etag.to_str().map(opaque).unwrap_or_default();
        self.known
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|text| {
                // Our tags hold no comma, so that no piece of a foreign one can be taken for ours.
                text.trim() == "*" || text.split(',').any(|tag| opaque(tag.trim()) == own)
            })
    }
}

impl<S: Sync> FromRequestParts<S> for Wants {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

/// `Accept-Encoding` (RFC 9110 section 12.5.3): gzip when it is named or covered by `*`, its weight is not zero, and identity is not
/// explicitly wanted more.
fn wants_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut any, mut identity) = (None, None, None);
    for value in headers.get_all(header::ACCEPT_ENCODING) {
        for item in value.to_str().unwrap_or_default().split(',') {
            let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
            let weight = weight_permille(parameters);
            match name.trim() {
                name if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => {
                    gzip = weight
                }
                name if name.eq_ignore_ascii_case("identity") => identity = weight,
                "*" => any = weight,
                _ => {}
            }
        }
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

/// `q=0.25` as 250; 1000 when absent. `None`: not readable, as if the item were not there.
fn weight_permille(parameters: &str) -> Option<u16> {
    let parameters = parameters.trim();
    if parameters.is_empty() {
        return Some(1_000);
    }
    let text = parameters
        .strip_prefix(['q', 'Q'])?
        .trim_start()
        .strip_prefix('=')?
        .trim();
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let permille: u16 = format!("{decimals:0<3}").parse().ok()?;
    match whole {
        "0" => Some(permille),
        "1" if permille == 0 => Some(1_000),
        _ => None,
    }
}

/// What caches are told about an answer from a snapshot.
pub struct Caching {
    /// Stands for what the answer says.
    pub etag: HeaderValue,
    /// Seconds since the data were taken.
    pub age: HeaderValue,
    /// How long it may be used, counted from when the data were taken.
    pub cache_control: HeaderValue,
}

impl Caching {
    /// Puts it into an answer: 200 and 304 carry the same.
    pub fn put(self, headers: &mut HeaderMap) {
        headers.insert(header::ETAG, self.etag);
        headers.insert(header::AGE, self.age);
        headers.insert(header::CACHE_CONTROL, self.cache_control);
        vary(headers);
    }
}

/// `Vary`, for whatever a shared cache could keep.
pub fn vary(headers: &mut HeaderMap) {
    const NAME: HeaderName = header::VARY;
    // Others (CORS) add their own.
    headers.append(NAME, HeaderValue::from_static(VARY));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(headers: &[(HeaderName, &'static str)]) -> Wants {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_static(value));
        }
        Wants::of(&map)
    }

    #[test]
    fn gzip_is_negotiated() {
        let check = |values: &[&'static str], expected: bool| {
            let headers: Vec<_> = values
                .iter()
                .map(|value| (header::ACCEPT_ENCODING, *value))
                .collect();
            assert_eq!(wants(&headers).gzip, expected, "{values:?}");
        };
        check(&[], false);
        check(&[""], false);
        check(&["gzip"], true);
        check(&["GZip"], true);
        check(&["x-gzip"], true);
        check(&["br, deflate"], false);
        check(&["gzip, deflate, br, zstd"], true);
        check(&["br", "gzip"], true);
        check(&["*"], true);
        check(&["gzip;q=0"], false);
        check(&["gzip;q=0, *"], false);
        check(&["gzip; q=0.000"], false);
        check(&["gzip;q=0.001"], true);
        check(&["gzip ; Q = 1.000"], true);
        check(&["*;q=0"], false);
        check(&["identity;q=1, gzip;q=0.5"], false);
        check(&["identity;q=0.5, gzip;q=0.5"], true);
        check(&["identity;q=0, gzip;q=0.1"], true);
        check(&["gzip;q=1.001"], false);
        check(&["gzip;q=2"], false);
        check(&["gzip;q=x"], false);
        check(&["gzip;q=0.1234"], false);
        check(&["gzip;level=9"], false);
        check(&["gzipped"], false);
    }

    #[test]
    fn a_known_tag_is_recognised() {
        let check = |values: &[&'static str], expected: bool| {
            let headers: Vec<_> = values
                .iter()
                .map(|value| (header::IF_NONE_MATCH, *value))
                .collect();
            let etag = HeaderValue::from_static("W/\"a-b_1\"");
            assert_eq!(wants(&headers).has(&etag), expected, "{values:?}");
        };
        check(&[], false);
        check(&["W/\"a-b_1\""], true);
        check(&["\"a-b_1\""], true);
        check(&["*"], true);
        check(&["\"x\", W/\"a-b_1\""], true);
        check(&["\"x\"", "\"y\",\"a-b_1\""], true);
        check(&["a-b_1"], false);
        check(&["\"a-b_1"], false);
        check(&["\"a-b_12\""], false);
        check(&[""], false);
    }
}
