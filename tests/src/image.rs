//! Container images without Docker: one layer and three small JSON files in a tar (OCI layout, and Docker's archive format
//! beside it, so that every loader understands it).
//!
//! The same files give the same bytes: names sorted, times zero, owner root. The tag is the hash of the content, so a second
//! build of the same binaries is the same image, and nothing is imported twice.

mod archive;
mod load;

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;

use self::archive::{Content, Entry, write_image};
pub use self::load::Loader;
use crate::{proc, tools};

/// The binaries that the one image of the service holds.
pub const BINARIES: &[&str] = &["api-service", "cache-refresher", "report-job", "operator"];
/// Repository of the service's image, without a tag.
pub const REPOSITORY: &str = "localhost/fuse";
/// User and group that everything runs as.
pub const UID: u32 = 65532;
/// Where the usual systems keep the certificates of the public authorities.
const CA_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const CA_BUNDLE_IN_IMAGE: &str = "etc/ssl/certs/ca-certificates.crt";
const RUSTC_DEADLINE: Duration = Duration::from_secs(120);

/// An image in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The archive.
    pub archive: PathBuf,
    /// For example `localhost/fuse`.
    pub repository: String,
    /// Hash of the content.
    pub tag: String,
}

impl Image {
    /// `repository:tag`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

/// Builds the image of the service from the four static binaries in `binaries` and writes `fuse-{tag}.tar` into `out`,
/// removing older ones there.
///
/// # Errors
/// When a binary is missing or is linked to shared libraries, or the machine has no CA certificates.
pub fn build(binaries: &Path, out: &Path) -> Result<Image> {
    let mut entries = base_entries();
    entries.push(Entry {
        path: CA_BUNDLE_IN_IMAGE.into(),
        mode: 0o644,
        content: Content::File(ca_bundle()?),
    });
    for binary in BINARIES {
        let path = binaries.join(binary);
        require_static(&path)?;
        entries.push(Entry {
            path: format!("usr/local/bin/{binary}"),
            mode: 0o755,
            content: Content::File(path),
        });
    }
    let config = json!({
        "User": format!("{UID}:{UID}"),
        "Env": ["PATH=/usr/local/bin", format!("SSL_CERT_FILE=/{CA_BUNDLE_IN_IMAGE}")],
        "WorkingDir": "/",
    });
    write_image(REPOSITORY, "fuse", entries, config, out)
}

/// An image with one static binary as its entry point; kept in `out` as `{name}-{tag}.tar`.
///
/// # Errors
/// As [`build`].
pub fn build_single(binary: &Path, out: &Path) -> Result<Image> {
    require_static(binary)?;
    let name = binary
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| anyhow!("{} has no name", binary.display()))?;
    let mut entries = base_entries();
    entries.push(Entry {
        path: format!("usr/local/bin/{name}"),
        mode: 0o755,
        content: Content::File(binary.to_path_buf()),
    });
    let config = json!({
        "User": format!("{UID}:{UID}"),
        "Env": ["PATH=/usr/local/bin"],
        "WorkingDir": "/",
        "Entrypoint": [format!("/usr/local/bin/{name}")],
    });
    write_image(&format!("localhost/fuse-{name}"), name, entries, config, out)
}

/// The image that holds a pod's network open.
///
/// # Errors
/// When `rustc` is missing or fails.
pub fn build_pause(out: &Path) -> Result<Image> {
    build_single(&pause_binary()?, out)
}

/// A static program that sleeps, compiled once into the cache.
///
/// # Errors
/// When `rustc` is missing or fails.
pub fn pause_binary() -> Result<PathBuf> {
    // As process 1 of a pod it gets no signal that it has not asked for; the runtime ends it by SIGKILL.
    const SOURCE: &str = "fn main() { loop { std::thread::park(); } }\n";
    let dir = tools::cache_dir()?.join("pause-1");
    let binary = dir.join("pause");
    if binary.is_file() {
        return Ok(binary);
    }
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let scratch = tempfile::tempdir_in(&dir)?;
    let (source, product) = (scratch.path().join("pause.rs"), scratch.path().join("pause"));
    fs::write(&source, SOURCE)?;
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.args([
        "--edition=2024",
        "-C",
        "target-feature=+crt-static",
        "-C",
        "opt-level=s",
    ]);
    command
        .args(["-C", "strip=symbols", "-C", "panic=abort", "-o"])
        .arg(&product)
        .arg(&source);
    proc::run(&mut command, RUSTC_DEADLINE).context("compile the pause binary")?;
    fs::rename(&product, &binary).context("place the pause binary")?;
    Ok(binary)
}

fn base_entries() -> Vec<Entry> {
    let text = |path: &str, text: String| Entry {
        path: path.into(),
        mode: 0o644,
        content: Content::Text(text),
    };
    vec![
        text(
            "etc/passwd",
            format!("root:x:0:0:root:/:/sbin/nologin\nfuse:x:{UID}:{UID}:fuse:/:/sbin/nologin\n"),
        ),
        text("etc/group", format!("root:x:0:\nfuse:x:{UID}:\n")),
    ]
}

fn ca_bundle() -> Result<PathBuf> {
    CA_BUNDLES
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
        .ok_or_else(|| {
            anyhow!(
                "no CA certificates on this machine (package ca-certificates): looked for {}",
                CA_BUNDLES.join(", ")
            )
        })
}

/// The image has no loader and no libraries: a dynamic binary would only say "no such file" when it starts.
fn require_static(path: &Path) -> Result<()> {
    const DYNAMIC_LOADER: u32 = 3; // PT_INTERP
    let mut head = [0_u8; 4096];
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let length = file.read(&mut head)?;
    let head = &head[..length];
    if head.get(..5) != Some(b"\x7fELF\x02") {
        bail!("{} is no 64-bit ELF binary", path.display());
    }
    let number = |at: usize, bytes: usize| -> Option<u64> {
        let field = head.get(at..at + bytes)?;
        Some(
            field
                .iter()
                .rev()
                .fold(0, |sum, byte| (sum << 8) | u64::from(*byte)),
        )
    };
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let (Some(table), Some(size), Some(count)) = (table, size, count) else {
        bail!("{} is cut short", path.display());
    };
    for index in 0..count {
        let at = usize::try_from(table + index * size).context("program header")?;
        if number(at, 4) == Some(u64::from(DYNAMIC_LOADER)) {
            bail!(
                "{} needs shared libraries; build it with RUSTFLAGS='-C target-feature=+crt-static' and --target",
                path.display()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_make_the_same_image() -> Result<()> {
        let (one, two) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let first = build_pause(one.path())?;
        let second = build_pause(two.path())?;
        assert_eq!(first.name(), second.name());
        assert_eq!(fs::read(&first.archive)?, fs::read(&second.archive)?);
        Ok(())
    }

    #[test]
    fn a_binary_with_shared_libraries_is_refused() {
        let error = require_static(Path::new("/bin/sh")).expect_err("sh is dynamic");
        assert!(error.to_string().contains("crt-static"), "{error}");
    }

    #[test]
    fn only_older_archives_of_the_same_name_go() -> Result<()> {
        let dir = tempfile::tempdir()?;
        for name in [
            "fuse-0123456789abcdef.tar",
            "fuse-notes.tar",
            "fuse-pause-0123456789abcdef.tar",
        ] {
            fs::write(dir.path().join(name), "")?;
        }
        archive::remove_older(dir.path(), "fuse")?;
        let mut left: Vec<_> = fs::read_dir(dir.path())?
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["fuse-notes.tar", "fuse-pause-0123456789abcdef.tar"]);
        Ok(())
    }
}
