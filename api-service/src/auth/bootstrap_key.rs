//! The first admin key: from a mounted secret, never stored. It works while the database is away.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fuse_platform::Secret;
use secrecy::ExposeSecret as _;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

/// A key that somebody could guess would open everything.
pub const BOOTSTRAP_KEY_MIN_CHARS: usize = 24;

/// How long the text of the secret is believed before its file is looked at again.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// What the secret says from time to time.
pub struct BootstrapKey {
    secret: Secret,
    own: Mutex<Own>,
}

/// What was read last.
#[derive(Clone, Copy)]
struct Own {
    read: Instant,
    /// A request is at it; the others go on with what the secret said before.
    is_being_read: bool,
    /// Of the text; `None` while the text could be guessed.
    hash: Option<[u8; 32]>,
}

impl BootstrapKey {
    /// The key in this secret.
    #[must_use]
    pub fn new(secret: Secret) -> Self {
        let own = Own {
            read: Instant::now(),
            is_being_read: false,
            hash: hash(&secret),
        };
        Self {
            secret,
            own: Mutex::new(own),
        }
    }

    /// Compares hashes in constant time.
    pub(super) fn is(&self, text: &str) -> bool {
        let given: [u8; 32] = Sha256::digest(text).into();
        self.hash().is_some_and(|own| bool::from(own.ct_eq(&given)))
    }

    fn hash(&self) -> Option<[u8; 32]> {
        {
            let mut own = self.own();
            if own.is_being_read || own.read.elapsed() < FRESH_FOR {
                return own.hash;
            }
            own.is_being_read = true;
        }
        // Without the lock: no other request waits for a disk.
        let hash = hash(&self.secret);
        *self.own() = Own {
            read: Instant::now(),
            is_being_read: false,
            hash,
        };
        hash
    }

    fn own(&self) -> std::sync::MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(secret: &Secret) -> Option<[u8; 32]> {
    let text = secret.reveal();
    // The file may have been replaced since the start, by something that could be guessed.
    let is_long = text.expose_secret().chars().count() >= BOOTSTRAP_KEY_MIN_CHARS;
    is_long.then(|| Sha256::digest(text.expose_secret()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a bootstrap key of the tests";

    fn age(key: &BootstrapKey) {
        let mut own = key.own();
        own.read = own
            .read
            .checked_sub(FRESH_FOR)
            .expect("the machine runs for a second");
    }

    #[test]
    fn a_changed_secret_is_seen_by_one_who_reads_it_and_nobody_waits_for_that() {
        let file = std::env::temp_dir().join(format!("fuse-bootstrap-{}", uuid::Uuid::now_v7()));
        std::fs::write(&file, TEXT).expect("a file");
        let key = BootstrapKey::new(Secret::from_file(&file).expect("a secret"));
        assert!(key.is(TEXT) && !key.is("another"));
        std::fs::write(&file, "a key that came later than that").expect("a file");
        assert!(key.is(TEXT), "believed for a second");
        age(&key);
        key.own().is_being_read = true;
        assert!(
            key.is(TEXT),
            "what it said before, while another request reads it"
        );
        key.own().is_being_read = false;
        assert!(!key.is(TEXT));
        assert!(key.is("a key that came later than that"));
        std::fs::write(&file, "short").expect("a file");
        age(&key);
        assert!(!key.is("short"), "it could be guessed");
        std::fs::remove_file(&file).expect("the file");
    }
}
