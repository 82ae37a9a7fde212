//! Writes the archive: a tar of the layer, and around it a tar with the JSON files that describe it.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Image;

const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Hex digits of the content hash that make the tag.
const TAG_DIGITS: usize = 16;

/// One file of the layer.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Path without the leading slash.
    pub path: String,
    pub mode: u32,
    pub content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Text(String),
    File(PathBuf),
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

pub(super) fn write_image(
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
pub(super) fn remove_older(out: &Path, file_stem: &str) -> Result<()> {
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
