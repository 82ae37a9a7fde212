//! Ports for servers that stop and come back on the same port. They lie below the kernel's ephemeral range, so that no outgoing connection
//! takes one while it is free, and are held by a file lock, so that no neighbour does.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use tokio::net::TcpSocket;

const FIRST: u16 = 10_000;
/// Below the node ports of Kubernetes (30000) and the ephemeral range (32768).
const LAST: u16 = 29_999;

/// A port of ours until dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// A free port on loopback.
    ///
    /// # Errors
    /// When none is free or the temporary directory cannot be written.
    pub fn reserve() -> Result<Self> {
        Self::reserve_on(&[IpAddr::V4(Ipv4Addr::LOCALHOST)])
    }

    /// A port that is free on all of these addresses.
    ///
    /// # Errors
    /// As [`Port::reserve`].
    pub fn reserve_on(addresses: &[IpAddr]) -> Result<Self> {
        static LAST_GIVEN: Mutex<Option<u16>> = Mutex::new(None);
        let span = LAST - FIRST + 1;
        let mut last = LAST_GIVEN
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // Processes begin at different places, so that they seldom try the same port.
        let pid = u16::try_from(std::process::id() % u32::from(span)).expect("below the span");
        let mut offset = last.map_or(pid, |last| last - FIRST);
        for _ in 0..span {
            offset = (offset + 1) % span;
            if let Some(port) = Self::take(FIRST + offset, addresses)? {
                *last = Some(port.number);
                return Ok(port);
            }
        }
        bail!("no free port in {FIRST}..={LAST}")
    }

    /// This very port, for services whose address people know; not checked for being free.
    ///
    /// # Errors
    /// When a neighbour of ours has it, or the temporary directory cannot be written.
    pub fn fixed(number: u16) -> Result<Self> {
        Self::take(number, &[])?
            .with_context(|| format!("port {number} is held by another run of this harness"))
    }

    fn take(number: u16, addresses: &[IpAddr]) -> Result<Option<Self>> {
        let dir = crate::rundir::base()?.join("ports");
        fs::create_dir_all(&dir)?;
        let lock = File::create(dir.join(number.to_string()))?;
        if lock.try_lock().is_err() {
            return Ok(None);
        }
        let free = addresses
            .iter()
            .all(|ip| TcpListener::bind(SocketAddr::new(*ip, number)).is_ok());
        Ok(free.then_some(Self { number, _lock: lock }))
    }

    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    #[must_use]
    pub fn on_loopback(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

/// A socket that has the address but does not listen yet: connections are refused, and nobody else can take it.
pub(crate) fn bound(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Like [`bound`], for a port whose listener was just closed: a child that is between fork and exec holds a copy of it for a moment.
pub(crate) async fn bound_again(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let mut tries_left = 200;
    loop {
        match bound(address) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && tries_left > 0 => {
                tries_left -= 1;
                tokio::time::sleep(crate::wait::POLL_EVERY).await;
            }
            result => return result,
        }
    }
}
