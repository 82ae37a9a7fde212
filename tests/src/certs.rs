//! One certificate authority per cluster, and what it signs. Everything is written into one
//! directory that only its owner can read, and is thrown away with the cluster.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

/// Certificate and key of one identity: the PEM texts and the files that hold them.
#[derive(Clone, Debug)]
pub struct Identity {
    /// File of the certificate.
    pub cert: PathBuf,
    /// File of the private key, mode 0600.
    pub key: PathBuf,
    /// The certificate as PEM.
    pub cert_pem: String,
    /// The private key as PEM (PKCS#8).
    pub key_pem: String,
}

/// Who a certificate speaks for: the common name is the user, the organizations are its groups.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// User name, for example `system:node:node`.
    pub user: &'a str,
    /// Group, for example `system:nodes`.
    pub group: Option<&'a str>,
    /// Host names a server may be called by.
    pub names: &'a [&'a str],
    /// Addresses a server may be called by.
    pub addresses: &'a [IpAddr],
}

/// A certificate authority with its own directory.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
}

impl Authority {
    /// Makes an authority; writes `ca.crt` into `dir` and keeps the key in memory only.
    pub fn create(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "fuse-local-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let cert = params.self_signed(&key)?;
        let ca_pem = cert.pem();
        write_private(&dir.join("ca.crt"), &ca_pem)?;
        Ok(Self {
            dir: dir.to_path_buf(),
            issuer: Issuer::new(params, key),
            ca_pem,
        })
    }

    /// File of the authority's certificate.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// The authority's certificate as PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Signs a certificate for server and client use and writes `{file}.crt` and `{file}.key`.
    pub fn issue(&self, file: &str, subject: Subject<'_>) -> Result<Identity> {
        let mut params =
            CertificateParams::new(subject.names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.subject_alt_names.extend(
            subject
                .addresses
                .iter()
                .map(|address| SanType::IpAddress(*address)),
        );
        params.distinguished_name.push(DnType::CommonName, subject.user);
        if let Some(group) = subject.group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert_pem = params.signed_by(&key, &self.issuer)?.pem();
        let key_pem = key.serialize_pem();
        let identity = Identity {
            cert: self.dir.join(format!("{file}.crt")),
            key: self.dir.join(format!("{file}.key")),
            cert_pem,
            key_pem,
        };
        write_private(&identity.cert, &identity.cert_pem)?;
        write_private(&identity.key, &identity.key_pem)?;
        Ok(identity)
    }

    /// Makes the key pair that signs service-account tokens: `(private, public)` files.
    pub fn service_account_keys(&self) -> Result<(PathBuf, PathBuf)> {
        let key = KeyPair::generate()?;
        let (private, public) = (self.dir.join("sa.key"), self.dir.join("sa.pub"));
        write_private(&private, &key.serialize_pem())?;
        write_private(&public, &key.public_key_pem())?;
        Ok((private, public))
    }

    /// Issues a client certificate and writes a kubeconfig `{file}.kubeconfig` that uses it.
    pub fn kubeconfig(&self, file: &str, server: &str, subject: Subject<'_>) -> Result<PathBuf> {
        let identity = self.issue(file, subject)?;
        let path = self.dir.join(format!("{file}.kubeconfig"));
        write_private(&path, &kubeconfig(server, &self.ca_pem, &identity))?;
        Ok(path)
    }
}

/// A kubeconfig with one context `fuse-local` and everything embedded.
#[must_use]
pub fn kubeconfig(server: &str, ca_pem: &str, identity: &Identity) -> String {
    let (ca, cert, key) = (
        BASE64.encode(ca_pem),
        BASE64.encode(&identity.cert_pem),
        BASE64.encode(&identity.key_pem),
    );
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: fuse-local\n\
         clusters:\n- name: fuse-local\n  cluster:\n    server: {server}\n    certificate-authority-data: {ca}\n\
         contexts:\n- name: fuse-local\n  context:\n    cluster: fuse-local\n    user: fuse-local\n\
         users:\n- name: fuse-local\n  user:\n    client-certificate-data: {cert}\n    client-key-data: {key}\n"
    )
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("write {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("write {}", path.display()))
}
