//! The text of an API key: `fuse_{id}_{secret}{checksum}`.
//!
//! `id` is the key's UUID in 32 hexadecimal digits; `secret` is 43 characters of base 62, which is 256 bits;
//! `checksum` is the CRC-32 of everything before it, 6 characters of base 62, so that a mistyped key is
//! refused without asking the database. The prefix lets secret scanners find a leaked key.

use rand::RngExt as _;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

const PREFIX: &str = "fuse";
const SECRET_CHARS: usize = 43;
const CHECKSUM_CHARS: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The text of a new key, shown once and never stored. Printing it for debugging shows the id alone.
pub struct KeyText(String);

/// What a client presented, well-formed: the id to look up and the hash to compare. The secret is gone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PresentedKey {
    /// The key's id.
    pub id: Uuid,
    /// SHA-256 of the whole text.
    pub sha256: [u8; 32],
}

/// Why a text is not a key. Deliberately without the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// Not of the form `fuse_{id}_{secret}{checksum}`.
    #[error("an API key looks like fuse_{{id}}_{{secret}}")]
    Shape,
    /// Of the right form, but mistyped or cut.
    #[error("the checksum of the API key is wrong: it was mistyped or cut")]
    Checksum,
}

impl KeyText {
    /// A fresh secret for the key `id`, from the system's random numbers.
    pub fn generate(id: Uuid) -> Self {
        let mut rng = rand::rng();
        let secret: String = (0..SECRET_CHARS)
            .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
            .collect();
        let body = format!("{PREFIX}_{}_{secret}", id.simple());
        let checksum = checksum(&body);
        Self(body + &checksum)
    }

    /// The text, to be shown to its owner.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The hash to store.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

impl std::fmt::Debug for KeyText {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("KeyText(…)")
    }
}

impl std::fmt::Debug for PresentedKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "PresentedKey({})", self.id)
    }
}

impl PresentedKey {
    /// Reads what a client sent.
    ///
    /// # Errors
    /// `Shape` or `Checksum`; neither says more about the text, and the database need not be asked.
    pub fn parse(text: &str) -> Result<Self, KeyTextError> {
        let rest = text
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_prefix('_'))
            .ok_or(KeyTextError::Shape)?;
        let (id, secret) = rest.split_once('_').ok_or(KeyTextError::Shape)?;
        let base62 = secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if id.len() != 32 || secret.len() != SECRET_CHARS + CHECKSUM_CHARS || !base62 {
            return Err(KeyTextError::Shape);
        }
        // Only the lower-case form without hyphens: one key has one text.
        let lower = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let id = Uuid::try_parse(id)
            .ok()
            .filter(|_| lower)
            .ok_or(KeyTextError::Shape)?;
        let (body, given) = text.split_at(text.len() - CHECKSUM_CHARS);
        if checksum(body) != given {
            return Err(KeyTextError::Checksum);
        }
        Ok(Self {
            id,
            sha256: Sha256::digest(text.as_bytes()).into(),
        })
    }
}

fn checksum(body: &str) -> String {
    let mut rest = crc32fast::hash(body.as_bytes());
    let mut digits = [b'0'; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    digits.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_is_read_back_and_two_are_never_alike() {
        let id = Uuid::now_v7();
        let key = KeyText::generate(id);
        let presented = PresentedKey::parse(key.reveal()).expect("a generated key is well-formed");
        assert_eq!(presented.id, id);
        assert_eq!(presented.sha256, key.sha256());
        assert_ne!(KeyText::generate(id).reveal(), key.reveal());
        assert!(!format!("{key:?} {presented:?}").contains(&key.reveal()[38..]));
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let key = KeyText::generate(Uuid::now_v7());
        for position in 0..key.reveal().len() {
            let mut bytes = key.reveal().as_bytes().to_vec();
            bytes[position] = if bytes[position] == b'x' { b'y' } else { b'x' };
            let text = String::from_utf8(bytes).expect("still ASCII");
            assert!(
                PresentedKey::parse(&text).is_err(),
                "position {position} of {text}"
            );
        }
    }

    #[test]
    fn what_is_not_a_key_is_refused() {
        let good = KeyText::generate(Uuid::now_v7());
        let cut = &good.reveal()[..good.reveal().len() - 1];
        let long = format!("{}0", good.reveal());
        let upper = good.reveal().to_uppercase();
        let many = "a".repeat(10_000);
        for text in [
            "",
            "fuse",
            "fuse_",
            "fuse__",
            "sk_live_1",
            "fuse_é_ü",
            cut,
            &long,
            &upper,
            &many,
        ] {
            assert_eq!(PresentedKey::parse(text), Err(KeyTextError::Shape), "{text}");
        }
    }
}
