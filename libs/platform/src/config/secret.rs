//! Secrets: never printed, and read again when their file changes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use secrecy::SecretString;

/// Bytes that a secret file may have; a larger one is a wrong path.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A secret value and, if it came from a file, where it is read again.
///
/// Cheap to clone; clones share what was read. `Debug` shows neither text nor length, and there is no `Display`.
#[derive(Clone)]
pub struct Secret(Arc<Inner>);

struct Inner {
    file: Option<PathBuf>,
    current: Mutex<Current>,
}

struct Current {
    text: SecretString,
    stamp: Option<Stamp>,
    /// One warning per failing period, not one per use.
    failing: bool,
}

/// What changes when Kubernetes swaps a mounted Secret or a person rewrites the file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl Secret {
    /// A secret that never changes.
    #[must_use]
    pub fn from_text(text: impl Into<String>) -> Self {
        Self::with(None, text.into(), None)
    }

    /// A secret that follows a file. White space around the text is dropped, as editors and `echo` leave a line end.
    ///
    /// # Errors
    /// A clause that names the file: missing, unreadable, empty, too large or not UTF-8.
    pub fn from_file(path: impl Into<PathBuf>) -> Result<Self, String> {
        let path = path.into();
        let stamp = stamp(&path).ok();
        let text = read(&path)?;
        Ok(Self::with(Some(path), text, stamp))
    }

    fn with(file: Option<PathBuf>, text: String, stamp: Option<Stamp>) -> Self {
        let current = Current {
            text: SecretString::from(text),
            stamp,
            failing: false,
        };
        Self(Arc::new(Inner {
            file,
            current: Mutex::new(current),
        }))
    }

    /// The text as it is now: read again when the file changed since the last call (one `stat` per call otherwise).
    /// A file that cannot be read any more keeps the last good text and warns once.
    #[must_use]
    pub fn reveal(&self) -> SecretString {
        let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &self.0.file {
            current.refresh(path);
        }
        current.text.clone()
    }

    /// The file that is followed, if any.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }
}

impl Current {
    fn refresh(&mut self, path: &Path) {
        // The stamp is taken before the text: a change between the two is seen again next time, never missed.
        let found = match stamp(path) {
            Ok(found) if Some(found) == self.stamp => return,
            Ok(found) => read(path).map(|text| (found, text)),
            Err(error) => Err(format!("cannot read {}: {error}", path.display())),
        };
        match found {
            Ok((stamp, text)) => {
                self.text = SecretString::from(text);
                self.stamp = Some(stamp);
                self.failing = false;
                tracing::info!(secret.file = %path.display(), "secret read again");
            }
            Err(error) => {
                if !self.failing {
                    tracing::warn!(secret.file = %path.display(), error, "secret kept as it was");
                }
                self.failing = true;
            }
        }
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(path)?;
    Ok(Stamp {
        modified: metadata.modified().ok(),
        bytes: metadata.len(),
        inode: metadata.ino(),
    })
}

fn read(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    if !metadata.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(format!("{shown} is larger than {FILE_BYTES_MAX} bytes"));
    }
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8 text"))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("{shown} is empty"));
    }
    Ok(text.to_owned())
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([hidden])")
    }
}
