//! A body of two parts: shared bytes, and a short end of its own.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Sends both parts without copying either.
pub struct TwoParts {
    first: Option<Bytes>,
    second: Option<Bytes>,
}

impl TwoParts {
    /// A body of `first`, then `second`.
    #[must_use]
    pub fn new(first: Bytes, second: Bytes) -> Self {
        let part = |bytes: Bytes| (!bytes.is_empty()).then_some(bytes);
        Self {
            first: part(first),
            second: part(second),
        }
    }
}

impl Body for TwoParts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.first.take().or_else(|| self.second.take());
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.second.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let length = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len) as u64;
        SizeHint::with_exact(length(&self.first) + length(&self.second))
    }
}
