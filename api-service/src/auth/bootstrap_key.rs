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
