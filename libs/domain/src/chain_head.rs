//! The end of the ledger's hash chain, as it is told to the outside.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One link of the chain: told in the daily report, it proves later that nothing before it was changed or cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    /// Its number, from 1.
    pub link: i64,
    /// Events in all links up to and including it.
    pub events: i64,
    /// SHA-256 over it and everything before.
    #[serde(with = "hex")]
    pub hash: [u8; 32],
}

/// A text that is not a link and its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write the number of a link, a colon and its hash of 64 hexadecimal digits, as a daily report shows it"
)]
pub struct ChainHeadError;

impl ChainHead {
    /// The hash as 64 hexadecimal digits.
    pub fn hash_text(&self) -> String {
        hex::text(&self.hash)
    }
}

/// `LINK:HASH`.
impl fmt::Display for ChainHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.link, self.hash_text())
    }
}

/// `LINK:HASH`; how many events it covers is not part of the text and reads as 0.
impl FromStr for ChainHead {
    type Err = ChainHeadError;

    fn from_str(text: &str) -> Result<ChainHead, ChainHeadError> {
        let (link, hash) = text.split_once(':').ok_or(ChainHeadError)?;
        let link = link
            .parse()
            .ok()
            .filter(|link| *link >= 1)
            .ok_or(ChainHeadError)?;
        let hash = hex::parse(hash).ok_or(ChainHeadError)?;
        Ok(ChainHead {
            link,
            events: 0,
            hash,
        })
    }
}

mod hex {
    use serde::de::{Deserialize as _, Error as _};

    pub fn text(bytes: &[u8; 32]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub fn parse(text: &str) -> Option<[u8; 32]> {
        let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(2 * index..2 * index + 2).filter(|_| is_hex)?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(bytes)
    }

    pub fn serialize<S: serde::Serializer>(bytes: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&text(bytes))
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(from)?;
        parse(&text).ok_or_else(|| D::Error::custom("a hash has 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_is_shown() {
        let hash = [0xab; 32];
        let head = ChainHead {
            link: 7,
            events: 0,
            hash,
        };
        assert_eq!(head.to_string().parse(), Ok(head));
        for wrong in [
            "",
            "7",
            "0:ab",
            "7:ab",
            "x:abababababababababababababababababababababababababababababababab",
            "7:zbabababababababababababababababababababababababababababababababab",
        ] {
            assert_eq!(wrong.parse::<ChainHead>(), Err(ChainHeadError), "{wrong}");
        }
        let json = serde_json::to_string(&head).expect("a head serializes");
        assert_eq!(
            serde_json::from_str::<ChainHead>(&json).expect("its own JSON"),
            head
        );
    }
}
