//! Reads a vendor's body with a cap. Compression is off in the client, so a small compressed body
//! cannot grow: what was received is what counts, and what comes encoded all the same is not read at all.

use bytes::{Bytes, BytesMut};
use reqwest::header::CONTENT_ENCODING;

/// How a body ended.
#[derive(Debug, PartialEq)]
pub(super) enum Body {
    Complete(Bytes),
    /// The connection broke before the announced end.
    Truncated,
    /// More than the cap; the connection is dropped, the rest is never read.
    TooLarge,
    TimedOut,
    /// Under a `content-encoding`, which nobody asked for.
    Encoded,
}

pub(super) async fn read(mut response: reqwest::Response, bytes_max: usize) -> Body {
    let encoding = response.headers().get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        return Body::Encoded;
    }
    if response
        .content_length()
        .is_some_and(|announced| announced > bytes_max as u64)
    {
        return Body::TooLarge;
    }
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > bytes_max => return Body::TooLarge,
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Body::Complete(body.freeze()),
            Err(error) if error.is_timeout() => return Body::TimedOut,
            Err(_) => return Body::Truncated,
        }
    }
}
