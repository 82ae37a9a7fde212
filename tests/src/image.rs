//! Container images without Docker: one layer and three small JSON files in a tar (OCI layout, and Docker's archive format
//! beside it, so that every loader understands it).
//!
//! The same files give the same bytes: names sorted, times zero, owner root. The tag is the hash of the content, so a second
//! build of the same binaries is the same image, and nothing is imported twice.

use std::{
    fs::{self, File},
    io::{BufWriter, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

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
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Hex digits of the content hash that make the tag.
const TAG_DIGITS: usize = 16;
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

/// One file of the layer.
#[derive(Clone, Debug)]
struct Entry {
    /// Path without the leading slash.
    path: String,
    mode: u32,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Text(String),
    File(PathBuf),
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

/// The image that holds a pod's network open: a static program that sleeps, compiled once into the cache.
///
/// # Errors
/// When `rustc` is missing or fails.
pub fn build_pause(out: &Path) -> Result<Image> {
    // As process 1 of a pod it gets no signal that it has not asked for; the runtime ends it by SIGKILL.
    const SOURCE: &str = "fn main() { loop { std::thread::park(); } }\n";
    let dir = tools::cache_dir()?.join("pause-1");
    let binary = dir.join("pause");
    if !binary.is_file() {
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let scratch = tempfile::tempdir_in(&dir)?;
        let source = scratch.path().join("pause.rs");
        fs::write(&source, SOURCE)?;
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let product = scratch.path().join("pause");
        let mut command = Command::new(rustc);
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
    }
    build_single(&binary, out)
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

/// Passes everything on and keeps its hash and length.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    length: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

struct Blob {
    digest: String,
    length: u64,
}

impl Blob {
    fn of(bytes: &[u8]) -> Self {
        Self {
            digest: hex(&Sha256::digest(bytes)),
            length: bytes.len() as u64,
        }
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": format!("sha256:{}", self.digest), "size": self.length})
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn header(mode: u32, size: u64, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Writes the layer into `file`: every directory before what is in it.
fn write_layer(mut entries: Vec<Entry>, file: &File) -> Result<Blob> {
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let sink = Hashing {
        inner: BufWriter::new(file),
        hash: Sha256::new(),
        length: 0,
    };
    let mut layer = tar::Builder::new(sink);
    let mut directories = std::collections::BTreeSet::new();
    for entry in &entries {
        for parent in Path::new(&entry.path).ancestors().skip(1) {
            if !parent.as_os_str().is_empty() {
                directories.insert(parent.to_path_buf());
            }
        }
    }
    for directory in directories {
        layer.append_data(
            &mut header(0o755, 0, tar::EntryType::Directory),
            directory,
            std::io::empty(),
        )?;
    }
    for entry in entries {
        match entry.content {
            Content::Text(text) => {
                let mut header = header(entry.mode, text.len() as u64, tar::EntryType::Regular);
                layer.append_data(&mut header, &entry.path, text.as_bytes())?;
            }
            Content::File(path) => {
                let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
                let mut header = header(entry.mode, file.metadata()?.len(), tar::EntryType::Regular);
                layer.append_data(&mut header, &entry.path, file)?;
            }
        }
    }
    let mut sink = layer.into_inner()?;
    sink.flush()?;
    Ok(Blob {
        digest: hex(&sink.hash.finalize()),
        length: sink.length,
    })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn write_image(
    repository: &str,
    file_stem: &str,
    entries: Vec<Entry>,
    config: Value,
    out: &Path,
) -> Result<Image> {
    fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
    let stamp = Stamp::of(repository, file_stem, &entries, out)?;
    if let Some(image) = stamp.unchanged(repository) {
        return Ok(image);
    }
    let layer_file = tempfile::NamedTempFile::new_in(out)?;
    let layer = write_layer(entries, layer_file.as_file())?;
    let platform = json!({"architecture": architecture(), "os": "linux"});
    let config = serde_json::to_vec(&json!({
        "architecture": architecture(), "os": "linux", "created": "1970-01-01T00:00:00Z", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", layer.digest)]},
    }))?;
    let config_blob = Blob::of(&config);
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
        "config": config_blob.descriptor(CONFIG_TYPE), "layers": [layer.descriptor(LAYER_TYPE)],
    }))?;
    let manifest_blob = Blob::of(&manifest);
    let tag = manifest_blob.digest[..TAG_DIGITS].to_owned();
    let image = Image {
        archive: out.join(format!("{file_stem}-{tag}.tar")),
        repository: repository.to_owned(),
        tag,
    };
    if image.archive.is_file() {
        stamp.save(&image)?;
        return Ok(image);
    }
    let mut descriptor = manifest_blob.descriptor(MANIFEST_TYPE);
    descriptor["platform"] = platform;
    descriptor["annotations"] = json!({
        "io.containerd.image.name": image.name(), "org.opencontainers.image.ref.name": image.tag,
    });
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [descriptor]});
    let docker =
        json!([{"Config": config_blob.path(), "RepoTags": [image.name()], "Layers": [layer.path()]}]);
    let archive = tempfile::NamedTempFile::new_in(out)?;
    let mut tar = tar::Builder::new(BufWriter::new(archive.as_file()));
    let mut put = |path: &str, bytes: &[u8]| {
        tar.append_data(
            &mut header(0o644, bytes.len() as u64, tar::EntryType::Regular),
            path,
            bytes,
        )
    };
    put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    put("index.json", &serde_json::to_vec(&index)?)?;
    put("manifest.json", &serde_json::to_vec(&docker)?)?;
    put(&config_blob.path(), &config)?;
    put(&manifest_blob.path(), &manifest)?;
    let mut layer_header = header(0o644, layer.length, tar::EntryType::Regular);
    tar.append_data(&mut layer_header, layer.path(), File::open(layer_file.path())?)?;
    tar.into_inner()?.flush()?;
    remove_older(out, file_stem)?;
    fs::set_permissions(archive.path(), fs::Permissions::from_mode(0o644))?;
    archive
        .persist(&image.archive)
        .with_context(|| format!("place {}", image.archive.display()))?;
    stamp.save(&image)?;
    Ok(image)
}

/// Which files, of which size and time, the archive beside it was made of: hashing hundreds of megabytes again takes seconds.
struct Stamp {
    path: PathBuf,
    out: PathBuf,
    file_stem: String,
    inputs: String,
}

impl Stamp {
    fn of(repository: &str, file_stem: &str, entries: &[Entry], out: &Path) -> Result<Self> {
        let mut inputs = format!("{repository}\n");
        for entry in entries {
            match &entry.content {
                Content::Text(text) => inputs.push_str(&format!("{} {text:?}\n", entry.path)),
                Content::File(path) => {
                    let meta = fs::metadata(path).with_context(|| format!("look at {}", path.display()))?;
                    let modified = meta
                        .modified()?
                        .duration_since(std::time::UNIX_EPOCH)
                        .unwrap_or_default();
                    let (path, length) = (path.display(), meta.len());
                    inputs.push_str(&format!(
                        "{} {path} {length} {}\n",
                        entry.path,
                        modified.as_nanos()
                    ));
                }
            }
        }
        let path = out.join(format!("{file_stem}.stamp"));
        Ok(Self {
            path,
            out: out.to_path_buf(),
            file_stem: file_stem.to_owned(),
            inputs,
        })
    }

    fn unchanged(&self, repository: &str) -> Option<Image> {
        let text = fs::read_to_string(&self.path).ok()?;
        let (tag, inputs) = text.split_once('\n')?;
        let archive = self.out.join(format!("{}-{tag}.tar", self.file_stem));
        (inputs == self.inputs && archive.is_file()).then(|| Image {
            archive,
            repository: repository.to_owned(),
            tag: tag.to_owned(),
        })
    }

    fn save(&self, image: &Image) -> Result<()> {
        fs::write(&self.path, format!("{}\n{}", image.tag, self.inputs))
            .with_context(|| format!("write {}", self.path.display()))
    }
}

/// Images are large: only the newest of each name stays.
fn remove_older(out: &Path, file_stem: &str) -> Result<()> {
    let prefix = format!("{file_stem}-");
    for entry in fs::read_dir(out)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_ours = name
            .strip_prefix(&prefix)
            .and_then(|rest| rest.strip_suffix(".tar"))
            .is_some_and(|tag| tag.len() == TAG_DIGITS && tag.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if is_ours {
            fs::remove_file(entry.path())?;
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
        let error = require_static(&std::env::current_exe().expect("a path")).expect_err("tests are dynamic");
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
        remove_older(dir.path(), "fuse")?;
        let mut left: Vec<_> = fs::read_dir(dir.path())?
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["fuse-notes.tar", "fuse-pause-0123456789abcdef.tar"]);
        Ok(())
    }
}
