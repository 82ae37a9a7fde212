//! The runtime of the in-process backends: threads of our own, so that a test may block its thread (or end its runtime) freely.

use std::future::Future;
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Handle, Runtime};

/// The runtime that lives as long as the process.
///
/// # Panics
/// When no thread can be started.
#[must_use]
pub fn runtime() -> &'static Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name("harness")
                .enable_all()
                .build()
                .expect("a runtime can be started")
        })
        .handle()
}

/// Runs a future on the harness runtime and blocks until it is done; allowed inside and outside of any other runtime, but not on the
/// harness runtime itself.
///
/// # Panics
/// When the future panics.
pub fn block_on<F>(future: F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (sender, receiver) = mpsc::channel();
    runtime().spawn(async move {
        let _ = sender.send(future.await);
    });
    receiver
        .recv()
        .expect("the future on the harness runtime panicked")
}

/// The client of the harness itself: direct, no redirects.
#[must_use]
pub fn http_client() -> reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT
        .get_or_init(|| {
            reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(Duration::from_secs(2))
                // Idle connections would outlive the servers that tests stop.
                .pool_max_idle_per_host(0)
                .build()
                .expect("the client's settings are constant")
        })
        .clone()
}

/// GET over plain HTTP, blocking: status and body.
///
/// # Errors
/// When there is no answer within `deadline`.
pub fn http_get(url: &str, deadline: Duration) -> Result<(u16, String)> {
    let url = url.to_owned();
    block_on(async move {
        let answer = http_client().get(&url).timeout(deadline).send().await?;
        let status = answer.status().as_u16();
        let body = answer.text().await?;
        anyhow::Ok((status, body))
    })
    .context("GET failed")
}
