//! Serves an axum router with limits that hold: connections, time for a request head, idle time, and a stop that no
//! client can delay.
//!
//! hyper's own graceful shutdown waits for ever for a half-sent request head. Here, once the drain began, a connection
//! is closed when no handler worked for it for [`LINGER`]; one whose handler works ends with its answer, or at the hard
//! stop. A response body that a client has not read by then is cut, event streams included: clients of streams
//! reconnect to another replica.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::config::HttpConfig;
use crate::lifecycle::Shutdown;

/// How long a connection without a working handler lives on once draining began (up to twice this).
pub const LINGER: Duration = Duration::from_secs(1);

/// Connections that wait to be accepted: a crowd that comes at once. Beyond it (128 unless asked for) the kernel drops the
/// first packet of a connection, and its client tries again only after a second. (`net.core.somaxconn` is the most.)
const BACKLOG: u32 = 1024;

/// Pause after a failed accept: without file descriptors, trying at once would only burn CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bytes of a request head, and of the read buffer of a connection.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// What a server bears.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For the first request head of a new connection.
    pub header_read_timeout: Duration,
    /// For every further request head, idle time included.
    pub keep_alive: Duration,
    pub max_connections: usize,
}

impl From<&HttpConfig> for Limits {
    fn from(config: &HttpConfig) -> Self {
        Self {
            header_read_timeout: config.header_read_timeout,
            keep_alive: config.keep_alive,
            max_connections: config.max_connections,
        }
    }
}

/// Binds a port and logs `{"message":"{what} listening","address":"127.0.0.1:1234"}`, so that port 0 can be used.
///
/// # Errors
/// The address, and why it cannot be bound.
pub async fn bind(listen: SocketAddr, what: &str) -> io::Result<TcpListener> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {listen}: {error}"));
    let listener = listen_on(listen).map_err(named)?;
    let address = listener.local_addr()?;
    tracing::info!(address = %address, "{what} listening");
    Ok(listener)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until the drain is done or the hard stop comes, whichever is first. Handlers find the peer's address as
/// `ConnectInfo<SocketAddr>`.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown, limits: Limits) {
    let permits = Arc::new(Semaphore::new(limits.max_connections));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.drain.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                let connection = connection(stream, peer, router.clone(), shutdown.clone(), limits.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "connection not accepted"
                );
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Closed at once, so that new clients are refused and go elsewhere instead of waiting in the backlog.
    drop(listener);
    connections.close();
    tokio::select! {
        () = connections.wait() => {}
        () = shutdown.hard.cancelled() => {
            tracing::warn!(connections = connections.len(), "connections cut off");
        }
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // Small answers must not wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    Ok((stream, peer, permit))
}

/// What the connection's task needs to know of its requests.
#[derive(Default)]
struct Progress {
    any_head: AtomicBool,
    in_handler: AtomicUsize,
    answered: AtomicUsize,
}

/// Counts a request out again even when its future is dropped.
struct InHandler(Arc<Progress>);

impl InHandler {
    fn enter(progress: &Arc<Progress>) -> Self {
        progress.any_head.store(true, Ordering::Relaxed);
        progress.in_handler.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(progress))
    }
}

impl Drop for InHandler {
    fn drop(&mut self) {
        self.0.answered.fetch_add(1, Ordering::Relaxed);
        self.0.in_handler.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, shutdown: Shutdown, limits: Limits) {
    let progress = Arc::new(Progress::default());
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let in_handler = InHandler::enter(&progress);
        let router = router.clone();
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let answer = router.oneshot(request).await;
            drop(in_handler);
            answer
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.keep_alive)
        .max_buf_size(HEAD_BYTES_MAX);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));

    // First head, or a first end.
    tokio::select! {
        biased;
        _ = served.as_mut() => return,
        () = shutdown.drain.cancelled() => {}
        () = head_missing(&progress, limits.header_read_timeout) => return,
    }
    served.as_mut().graceful_shutdown();
    tokio::select! {
        // Errors here are the client's: a reset, a malformed head, which hyper has answered.
        _ = served.as_mut() => {}
        () = shutdown.hard.cancelled() => {}
        () = idle_for(&progress, LINGER) => {}
    }
}

/// Ends when the time for the first head is over without one; never, if it came.
async fn head_missing(progress: &Progress, within: Duration) {
    tokio::time::sleep(within).await;
    if progress.any_head.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// Ends once no handler has been at work for `linger`.
async fn idle_for(progress: &Progress, linger: Duration) {
    loop {
        let before = progress.answered.load(Ordering::Relaxed);
        tokio::time::sleep(linger).await;
        let working = progress.in_handler.load(Ordering::Relaxed) > 0;
        if !working && progress.answered.load(Ordering::Relaxed) == before {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody accepts: one that finds the queue full would wait for ever.
    const DEADLINE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_crowd_is_connected_before_any_of_it_is_accepted() {
        let listener = bind(([127, 0, 0, 1], 0).into(), "test").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let mut crowd = Vec::new();
        for number in 1..=400 {
            let connected = tokio::time::timeout(DEADLINE, TcpStream::connect(address)).await;
            crowd.push(
                connected
                    .unwrap_or_else(|_| panic!("connection {number} waits"))
                    .expect("connected"),
            );
        }
    }
}
