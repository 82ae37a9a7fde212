//! A gzip body whose end is written per answer.
//!
//! What changes every second (the age of the snapshot) stands at the end of a page. The rest is compressed once, up to a byte boundary
//! (a sync flush); each answer then closes the same stream with a stored block that holds its end, and with the checksum and length of the
//! whole. So the result is one ordinary gzip member (RFC 1952), and an answer costs no compression.

use bytes::{BufMut, Bytes, BytesMut};
use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress, Status};

/// Magic, deflate, no flags, no time, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// Most bytes of a stored block.
const END_BYTES_MAX: usize = u16::MAX as usize;
/// A page is compressed once and sent many times, but also once per page of a walk: the fastest levels already do most of the work.
const LEVEL: u32 = 4;

/// The compressed beginning of a body.
#[derive(Clone, Debug)]
pub struct OpenGzip {
    bytes: Bytes,
    checksum: Hasher,
    /// Uncompressed bytes so far.
    length: u32,
}

impl OpenGzip {
    /// Compresses the beginning. Takes about a millisecond for a hundred kilobytes.
    #[must_use]
    pub fn begin(text: &[u8]) -> Self {
        let mut checksum = Hasher::new();
        checksum.update(text);
        let mut bytes = Vec::with_capacity(text.len() / 3 + 1024);
        bytes.extend_from_slice(&HEADER);
        deflate(text, &mut bytes);
        Self {
            bytes: Bytes::from(bytes),
            checksum,
            length: u32::try_from(text.len()).expect("a page has some hundred kilobytes"),
        }
    }

    /// The shared beginning.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// What follows the beginning when the body ends with `end`.
    #[must_use]
    pub fn end(&self, end: &[u8]) -> Bytes {
        assert!(end.len() <= END_BYTES_MAX, "the end of a page is a short object");
        let mut checksum = self.checksum.clone();
        checksum.update(end);
        let length = u16::try_from(end.len()).unwrap_or(u16::MAX);
        let mut bytes = BytesMut::with_capacity(end.len() + 13);
        // Final block, stored; the sync flush left the stream at a byte boundary.
        bytes.put_u8(0b0000_0001);
        bytes.put_u16_le(length);
        bytes.put_u16_le(!length);
        bytes.put_slice(end);
        bytes.put_u32_le(checksum.finalize());
        bytes.put_u32_le(self.length + u32::from(length));
        bytes.freeze()
    }

    /// Bytes held.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// Appends the raw deflate stream of `text`, open, at a byte boundary.
fn deflate(text: &[u8], bytes: &mut Vec<u8>) {
    let mut deflate = Compress::new(Compression::new(LEVEL), false);
    loop {
        let read = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        let status = deflate
            .compress_vec(&text[read..], bytes, FlushCompress::Sync)
            .expect("deflating memory into memory cannot fail");
        // The flush is complete when it did not fill what it was given.
        let is_complete = bytes.len() < bytes.capacity() || status == Status::BufError;
        if is_complete && deflate.total_in() == text.len() as u64 {
            break;
        }
        bytes.reserve(text.len() / 4 + 256);
    }
    bytes.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::bufread::GzDecoder;

    use super::*;

    /// Unpacks the one member and checks that nothing follows it.
    fn unpack(bytes: &[u8]) -> Vec<u8> {
        let mut decoder = GzDecoder::new(bytes);
        let mut text = Vec::new();
        decoder
            .read_to_end(&mut text)
            .expect("valid gzip, checksum and length included");
        assert!(decoder.into_inner().is_empty(), "one member and nothing after it");
        text
    }

    fn check(beginning: &[u8], end: &[u8]) {
        let open = OpenGzip::begin(beginning);
        let whole = [open.bytes(), open.end(end)].concat();
        assert!(
            unpack(&whole) == [beginning, end].concat(),
            "{} {}",
            beginning.len(),
            end.len()
        );
    }

    #[test]
    fn one_member_of_any_size() {
        let repeated = b"{\"symbol\":\"AAPL\",\"price\":\"150.25\"},".repeat(4_000);
        let noise: Vec<u8> = (0..200_000).map(|_| rand::random::<u8>()).collect();
        for beginning in [&repeated[..], &noise, b"", b"{"] {
            check(beginning, b",\"snapshot\":{}}");
            check(beginning, b"");
            check(beginning, &noise[..END_BYTES_MAX]);
        }
        // Sizes around those where the room for the output just ends.
        for length in (0..3_000).step_by(7) {
            check(&noise[..length], b"}");
        }
    }

    #[test]
    fn ends_do_not_disturb_each_other() {
        let open = OpenGzip::begin(b"the beginning");
        for end in ["1", "22", "333"] {
            let whole = [open.bytes(), open.end(end.as_bytes())].concat();
            assert_eq!(unpack(&whole), format!("the beginning{end}").as_bytes());
        }
    }
}
