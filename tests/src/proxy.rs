//! A TCP proxy on loopback that can cut, hang and refuse: what a network does to a client.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::background;
use crate::ports::{Port, bound, bound_again};

/// What the proxy does with connections and bytes, until told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Bytes pass.
    Forward,
    /// Connections are taken and stay open, but no byte passes in either direction. Held bytes pass later.
    Hang,
    /// Open connections are reset, new ones refused.
    Refuse,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    mode: watch::Sender<Mode>,
    /// Raised to reset all connections that are open.
    cuts: watch::Sender<u64>,
    accepted: AtomicU64,
    stop: CancellationToken,
}

/// A running proxy; dropping it resets its connections and closes its port.
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _port: Option<Port>,
}

impl TcpProxy {
    /// On a free loopback port.
    ///
    /// # Errors
    /// When no port can be bound.
    pub fn start(upstream: SocketAddr) -> Result<Self> {
        let port = Port::reserve()?;
        let mut proxy = Self::start_on(port.on_loopback(), upstream)?;
        proxy._port = Some(port);
        Ok(proxy)
    }

    /// On this address.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub fn start_on(address: SocketAddr, upstream: SocketAddr) -> Result<Self> {
        let shared = Arc::new(Shared {
            upstream,
            mode: watch::Sender::new(Mode::Forward),
            cuts: watch::Sender::new(0),
            accepted: AtomicU64::new(0),
            stop: CancellationToken::new(),
        });
        let (listener, address) = {
            let _entered = background::runtime().enter();
            let listener = bound(address)
                .and_then(|socket| socket.listen(1024))
                .with_context(|| format!("bind {address}"))?;
            let address = listener.local_addr()?;
            (listener, address)
        };
        background::runtime().spawn(serve(listener, address, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            _port: None,
        })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections taken so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Takes effect before it returns: after `Refuse` the port no longer accepts, after the others it does.
    ///
    /// # Errors
    /// When the port does not follow within 5 s.
    pub fn set(&self, mode: Mode) -> Result<()> {
        self.shared.mode.send_replace(mode);
        let deadline = std::time::Duration::from_secs(5);
        crate::wait::until("the proxy to change its mode", deadline, || {
            (crate::wait::accepts(self.address) == (mode != Mode::Refuse)).then_some(())
        })
    }

    /// Resets all open connections; new ones are served.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

async fn serve(first: TcpListener, address: SocketAddr, shared: Arc<Shared>) {
    let stop = shared.stop.clone();
    tokio::select! {
        () = stop.cancelled() => {}
        result = accept_in_turns(first, address, &shared) => {
            if let Err(error) = result {
                tracing::error!(%error, %address, "the proxy lost its port");
            }
        }
    }
}

async fn accept_in_turns(first: TcpListener, address: SocketAddr, shared: &Arc<Shared>) -> io::Result<()> {
    let mut mode = shared.mode.subscribe();
    let mut listener = first;
    loop {
        tokio::select! {
            _ = async { mode.wait_for(|mode| *mode == Mode::Refuse).await.is_ok() } => {}
            () = accept_all(&listener, shared) => {}
        }
        drop(listener);
        shared.cuts.send_modify(|cuts| *cuts += 1);
        // Bound but not listening: refused, and nobody else can take the port.
        let parked = bound_again(address).await?;
        if mode.wait_for(|mode| *mode != Mode::Refuse).await.is_err() {
            return Ok(());
        }
        listener = parked.listen(1024)?;
    }
}

async fn accept_all(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        if let Ok((client, _)) = listener.accept().await {
            shared.accepted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(serve_connection(client, Arc::clone(shared)));
        } else {
            tokio::task::yield_now().await;
        }
    }
}

async fn serve_connection(mut client: TcpStream, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    let mut mode = shared.mode.subscribe();
    let _ = client.set_nodelay(true);
    let cut = tokio::select! {
        _ = cuts.changed() => true,
        () = shared.stop.cancelled() => true,
        done = async {
            // A hanging network does not even reach the upstream.
            wait_for_forward(&mut mode).await;
            let mut upstream = TcpStream::connect(shared.upstream).await?;
            let _ = upstream.set_nodelay(true);
            pump_both(&mut client, &mut upstream, &shared).await
        } => done.is_err(),
    };
    if cut {
        // A reset, as a cut connection has it, and not an orderly end.
        let _ = client.set_zero_linger();
    }
}

async fn wait_for_forward(mode: &mut watch::Receiver<Mode>) {
    if mode.wait_for(|mode| *mode == Mode::Forward).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn pump_both(client: &mut TcpStream, upstream: &mut TcpStream, shared: &Shared) -> io::Result<()> {
    let (client_read, client_write) = client.split();
    let (upstream_read, upstream_write) = upstream.split();
    tokio::try_join!(
        pump(client_read, upstream_write, shared.mode.subscribe()),
        pump(upstream_read, client_write, shared.mode.subscribe()),
    )?;
    Ok(())
}

async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut mode: watch::Receiver<Mode>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        wait_for_forward(&mut mode).await;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
    }
}

/// Any loopback port that the kernel picks: for servers that never come back on it.
pub(crate) const ANY_LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
