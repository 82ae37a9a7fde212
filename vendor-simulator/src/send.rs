//! Bodies that are not simply sent: slowly, in half, or longer than could be held.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;

use crate::body::Bulk;
use crate::rules::Operation;
use crate::server::InFlight;

/// Time for hyper to send the first half of a body that is then cut.
const HALF_BODY_FLUSH: Duration = Duration::from_millis(50);

pub(crate) type AnswerBody = UnsyncBoxBody<Bytes, io::Error>;

/// Sends byte after byte; counts as answered after the last.
pub(crate) fn slow_body(
    bytes: Bytes,
    byte_every: Duration,
    operation: Option<Operation>,
    in_flight: InFlight,
) -> AnswerBody {
    let bytes_left = (bytes, in_flight);
    let frames = stream::unfold(bytes_left, move |(mut left, in_flight)| async move {
        if left.is_empty() {
            return None;
        }
        tokio::time::sleep(byte_every).await;
        let byte = left.split_to(1);
        if left.is_empty() {
            in_flight.note_answered(operation);
        }
        Some((Ok(Frame::data(byte)), (left, in_flight)))
    });
    StreamBody::new(frames).boxed_unsync()
}

pub(crate) fn half_body(bytes: &Bytes) -> AnswerBody {
    let half = bytes.slice(..bytes.len() / 2);
    let first = stream::once(async move { Ok(Frame::data(half)) });
    let cut = stream::once(async {
        tokio::time::sleep(HALF_BODY_FLUSH).await;
        Err(io::ErrorKind::ConnectionAborted.into())
    });
    StreamBody::new(first.chain(cut)).boxed_unsync()
}

/// Sends piece after piece as the client takes them; counts as answered after the last.
pub(crate) fn bulk_body(bulk: Bulk, operation: Option<Operation>, in_flight: InFlight) -> AnswerBody {
    let start = (bulk, Part::Prefix, in_flight);
    let frames = stream::unfold(start, move |(mut bulk, part, in_flight)| async move {
        let (piece, next) = match part {
            Part::Prefix => (bulk.prefix.clone(), Part::Fill),
            Part::Fill if bulk.fill_bytes > 0 => {
                let length = usize::try_from(bulk.fill_bytes).unwrap_or(usize::MAX);
                let piece = bulk.fill.slice(..length.min(bulk.fill.len()));
                bulk.fill_bytes -= piece.len() as u64;
                (piece, Part::Fill)
            }
            Part::Fill => {
                in_flight.note_answered(operation);
                (bulk.suffix.clone(), Part::End)
            }
            Part::End => return None,
        };
        Some((Ok(Frame::data(piece)), (bulk, next, in_flight)))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// What of a bulk body comes next.
enum Part {
    Prefix,
    Fill,
    End,
}
