//! Waiting for conditions, never for time: everything here polls with a deadline and says in its error what it waited for.

use std::future::Future;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
pub const POLL_EVERY: Duration = Duration::from_millis(20);

/// Blocks until `condition` gives a value. Fine inside `#[tokio::test]`: the in-process backends run on threads of their own.
///
/// # Errors
/// When `deadline` has passed; the message names `what`.
pub fn until<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if started.elapsed() >= deadline {
            bail!("waited {} ms in vain for {what}", deadline.as_millis());
        }
        std::thread::sleep(POLL_EVERY);
    }
}

/// Like [`until`], for conditions that are futures.
///
/// # Errors
/// When `deadline` has passed, also when a single look takes longer than that.
pub async fn until_async<T, F>(what: &str, deadline: Duration, mut condition: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Option<T>>,
{
    let ends = tokio::time::Instant::now() + deadline;
    loop {
        match tokio::time::timeout_at(ends, condition()).await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) if tokio::time::Instant::now() < ends => {
                tokio::time::sleep(POLL_EVERY).await;
            }
            Ok(None) | Err(_) => {
                bail!("waited {} ms in vain for {what}", deadline.as_millis());
            }
        }
    }
}

/// Whether something accepts connections at `address`.
#[must_use]
pub fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()
}

/// Blocks until something accepts connections at `address`.
///
/// # Errors
/// When `deadline` has passed.
pub fn for_port(address: SocketAddr, deadline: Duration) -> Result<()> {
    until(&format!("a listener at {address}"), deadline, || {
        accepts(address).then_some(())
    })
}
