//! The vendor client: one stock vendor, two calls, no trust.
//!
//! What must stay true:
//! * a buy is written to the wire at most once; it is tried again only when the connection was
//!   never established, so that no byte of the request can have left;
//! * every call has a deadline, every body a cap, no redirect is followed (it would resend the key),
//!   and no layer below retries;
//! * the key goes into one header, marked sensitive, and nowhere else.

mod body;
mod buy;
mod error;
mod gate;
mod items;
mod list;
mod metrics;
mod not_json;
mod outcome;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use fuse_domain::{BreakerPolicy, BreakerState};
use fuse_platform::Metrics;
use fuse_platform::config::{Secret, VendorConfig};
use fuse_platform::http_client::{self, HttpClientConfig};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{HeaderValue, RETRY_AFTER};
use secrecy::ExposeSecret;

pub use error::VendorError;
pub use outcome::{Buy, BuyAttempt, Reached};
pub use wire::{BadItem, ItemFault, VendorItem, VendorPage};

use gate::Gate;
pub(crate) use metrics::VendorMetrics;

use metrics::Op;

/// Everything but RFC 3986's unreserved characters: a raw `+` would arrive as a space.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// As many items as a page may have at most, at two hundred bytes each; a longer body is an attack or a mistake.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// An order's answer is a few hundred bytes.
const BUY_BYTES_MAX: usize = 64 * 1024;
/// Longer waits are not passed on: nobody means them.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// Client of one vendor. Clones share connections, breakers and budgets.
#[derive(Clone)]
pub struct VendorClient(Arc<Inner>);

struct Inner {
    base_url: String,
    api_key: Secret,
    lists: reqwest::Client,
    buys: reqwest::Client,
    buy_connect_timeout: Duration,
    buy_timeout: Duration,
    list_gate: Gate,
    buy_gate: Gate,
    metrics: VendorMetrics,
}

/// The breakers' states, for `/v1/clock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VendorBreakers {
    pub list: BreakerState,
    pub buy: BreakerState,
}

impl VendorClient {
    /// Needs no network.
    ///
    /// # Errors
    /// When the TLS stack cannot be set up.
    pub fn new(config: &VendorConfig, metrics: &Metrics) -> Result<Self, reqwest::Error> {
        Self::with_breakers(config, metrics, gate::policy())
    }

    /// The same with breakers of another policy, for lists and for buys.
    ///
    /// # Errors
    /// As [`VendorClient::new`].
    pub fn with_breakers(
        config: &VendorConfig,
        metrics: &Metrics,
        policy: BreakerPolicy,
    ) -> Result<Self, reqwest::Error> {
        let metrics = VendorMetrics::new(metrics);
        let lists = HttpClientConfig {
            connect_timeout: config.connect_timeout,
            read_timeout: config.page_timeout,
            total_timeout: config.page_timeout,
            pool_idle_timeout: config.pool_idle_timeout,
            user_agent: USER_AGENT.into(),
        };
        // A buy never goes over a used connection: the vendor may be closing it just then, and a
        // reset after our bytes left would make the order unknown without need.
        // Half of a very short deadline, so that a connect that fails is known to have failed within it.
        let buy_connect_timeout = config.connect_timeout.min(config.buy_timeout / 2);
        let buys = HttpClientConfig {
            connect_timeout: buy_connect_timeout,
            read_timeout: config.buy_timeout,
            total_timeout: config.buy_timeout,
            pool_idle_timeout: Duration::ZERO,
            ..lists.clone()
        };
        let gate = |op| Gate::new(op, policy, metrics.clone());
        Ok(Self(Arc::new(Inner {
            base_url: config.base_url.as_str().to_owned(),
            api_key: config.api_key.clone(),
            lists: http_client::build(&lists)?,
            buys: http_client::build(&buys)?,
            buy_connect_timeout,
            buy_timeout: config.buy_timeout,
            list_gate: gate(Op::List),
            buy_gate: gate(Op::Buy),
            metrics,
        })))
    }

    /// The breakers as they are now.
    pub fn breakers(&self) -> VendorBreakers {
        VendorBreakers {
            list: self.0.list_gate.breaker(),
            buy: self.0.buy_gate.breaker(),
        }
    }

    pub(crate) fn metrics(&self) -> &VendorMetrics {
        &self.0.metrics
    }

    /// Takes one retry of a list call from the budget, if there is one.
    pub(crate) fn may_retry_list(&self) -> bool {
        self.0.list_gate.take_retry()
    }
}

const USER_AGENT: &str = concat!("fuse/", env!("CARGO_PKG_VERSION"));

impl Inner {
    /// The key as a header, read anew for each call because mounted secrets rotate. `None` when it
    /// cannot be a header at all; the call then ends before it is sent.
    fn key_header(&self) -> Option<HeaderValue> {
        let mut header = HeaderValue::from_str(self.api_key.reveal().expose_secret()).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// `Retry-After` in either of its forms, capped.
fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    parse_retry_after(
        response.headers().get(RETRY_AFTER)?.to_str().ok()?,
        Timestamp::now(),
    )
}

fn parse_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let wait = match text.trim().parse::<u64>() {
        Ok(secs) => Duration::from_secs(secs),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
            Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_percent_encoded() {
        assert_eq!(
            encoded("eyJzeW1ib2wiOiLDv8O+Pj4/w78ifQ=="),
            "eyJzeW1ib2wiOiLDv8O%2BPj4%2Fw78ifQ%3D%3D"
        );
        assert_eq!(encoded("BRK.B-_~"), "BRK.B-_~");
        assert_eq!(encoded("^GSPC=F"), "%5EGSPC%3DF");
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_capped() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().expect("a time");
        for (text, secs) in [
            ("7", Some(7)),
            ("0", Some(0)),
            ("999999", Some(3_600)),
            ("Fri, 02 Jan 2026 03:04:35 GMT", Some(30)),
            ("Fri, 02 Jan 2026 03:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(
                parse_retry_after(text, now),
                secs.map(Duration::from_secs),
                "{text}"
            );
        }
    }
}
