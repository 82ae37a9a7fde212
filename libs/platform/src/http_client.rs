//! The one constructor of HTTP clients: every wait bounded, nothing repeated or followed behind the caller's back.

use std::time::Duration;

/// Times and name of a client. All of them are required: reqwest has no limit by itself.
#[derive(Debug, Clone)]
pub struct HttpClientConfig {
    pub connect_timeout: Duration,
    /// Longest silence within an answer.
    pub read_timeout: Duration,
    /// The whole request; a request may set a shorter one.
    pub total_timeout: Duration,
    /// Below the server's own, so that no request goes into a connection that is being closed. Zero keeps none: every
    /// request has a connection of its own.
    pub pool_idle_timeout: Duration,
    pub user_agent: String,
}

/// Builds the client: rustls, no redirects (they would resend the key), no automatic retries (a buy must never be
/// repeated), no proxy from the environment, no Referer.
///
/// # Errors
/// The TLS set-up failed, such as no trusted roots.
pub fn build(config: &HttpClientConfig) -> reqwest::Result<reqwest::Client> {
    crate::tls::install_provider();
    // A time of zero alone would still hand a connection on to a request that is waiting for one.
    let idle_max = if config.pool_idle_timeout.is_zero() {
        0
    } else {
        usize::MAX
    };
    reqwest::Client::builder()
        .user_agent(&config.user_agent)
        .connect_timeout(config.connect_timeout)
        .read_timeout(config.read_timeout)
        .timeout(config.total_timeout)
        .pool_idle_timeout(config.pool_idle_timeout)
        .pool_max_idle_per_host(idle_max)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .build()
}
