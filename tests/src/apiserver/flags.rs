//! Flags and certificates that an API server has in every set-up, with its etcd.

use std::{
    net::{IpAddr, TcpListener},
    path::Path,
};

use anyhow::{Context, Result};

use crate::certs::{Authority, Identity, Subject};

/// Certificate with which etcd serves, talks to itself and knows its one client.
pub(crate) fn etcd_identity(authority: &Authority, address: IpAddr) -> Result<Identity> {
    authority.issue(
        "etcd",
        Subject {
            user: "fuse-etcd",
            group: None,
            names: &["localhost"],
            addresses: &[address],
        },
    )
}

/// Flags of etcd. Other users of the machine reach its port, so it wants a client certificate.
pub(crate) fn etcd_args(
    dir: &Path,
    authority: &Authority,
    identity: &Identity,
    address: IpAddr,
    port: u16,
    peer_port: u16,
) -> Vec<String> {
    let (cert, key, ca) = (
        identity.cert.display(),
        identity.key.display(),
        authority.ca_file(),
    );
    let ca = ca.display();
    vec![
        "--name=fuse".into(),
        format!("--data-dir={}", dir.join("etcd").display()),
        format!("--listen-client-urls=https://{address}:{port}"),
        format!("--advertise-client-urls=https://{address}:{port}"),
        format!("--listen-peer-urls=https://{address}:{peer_port}"),
        format!("--initial-advertise-peer-urls=https://{address}:{peer_port}"),
        format!("--initial-cluster=fuse=https://{address}:{peer_port}"),
        format!("--cert-file={cert}"),
        format!("--key-file={key}"),
        format!("--trusted-ca-file={ca}"),
        "--client-cert-auth".into(),
        format!("--peer-cert-file={cert}"),
        format!("--peer-key-file={key}"),
        format!("--peer-trusted-ca-file={ca}"),
        "--peer-client-cert-auth".into(),
        // Nothing here has to survive a power cut.
        "--unsafe-no-fsync".into(),
        "--logger=zap".into(),
        "--log-level=warn".into(),
    ]
}

/// Flags that the API server has in every set-up: etcd, authorities and service accounts.
pub(crate) fn common_server_args(
    authority: &Authority,
    etcd: &Identity,
    etcd_url: &str,
    serving: &Identity,
) -> Result<Vec<String>> {
    let (sa_private, sa_public) = authority.service_account_keys()?;
    let ca = authority.ca_file();
    let ca = ca.display();
    Ok(vec![
        format!("--etcd-servers={etcd_url}"),
        format!("--etcd-cafile={ca}"),
        format!("--etcd-certfile={}", etcd.cert.display()),
        format!("--etcd-keyfile={}", etcd.key.display()),
        format!("--client-ca-file={ca}"),
        format!("--tls-cert-file={}", serving.cert.display()),
        format!("--tls-private-key-file={}", serving.key.display()),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-account-signing-key-file={}", sa_private.display()),
        format!("--service-account-key-file={}", sa_public.display()),
        "--profiling=false".into(),
    ])
}

/// Ports that nobody listens on at `address` now. The gap until they are taken is short; who loses the race starts again.
pub(crate) fn free_ports<const N: usize>(address: IpAddr) -> Result<[u16; N]> {
    let listeners: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind((address, 0)))
        .collect::<std::io::Result<_>>()
        .with_context(|| format!("find free ports at {address}"))?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
