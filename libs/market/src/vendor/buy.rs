//! `POST /stocks/{symbol}/buy`: exactly one call that writes bytes, whatever happens.

use std::time::{Duration, Instant};

use fuse_domain::{Outcome, Price, Quantity, Reason, Symbol};
use jiff::Timestamp;
use reqwest::header::CONTENT_TYPE;

use super::body;
use super::metrics::Op;
use super::outcome::{self, Buy, BuyAttempt, Reached, Verdict};
use super::{BUY_BYTES_MAX, VendorClient, encoded, retry_after};
use crate::backoff::full_jitter;

const ATTEMPTS_MAX: usize = 3;
const BACKOFF_BASE: Duration = Duration::from_millis(100);
const BACKOFF_CAP: Duration = Duration::from_secs(1);
/// The total deadline must not be the one that ends a connect: only the connect timeout tells us
/// that nothing was sent. So an attempt begins only with this much more left than a connect takes (less when the whole
/// deadline is very short).
const DIAL_MARGIN: Duration = Duration::from_millis(100);

/// What one attempt came to.
enum Attempt {
    NotSent {
        detail: &'static str,
    },
    Sent {
        reason: Reason,
        detail: &'static str,
    },
    Answered {
        status: u16,
        verdict: Verdict,
        retry_after: Option<Duration>,
    },
}

impl VendorClient {
    /// Sends one order. Never an error: every way it can go is an outcome, judged by the table of
    /// the vendor contract, and every attempt is recorded.
    ///
    /// Must run to its end: dropped half-way, nobody knows what the vendor did.
    pub async fn buy(&self, symbol: &Symbol, price: Price, quantity: Quantity) -> Buy {
        let deadline = Instant::now() + self.0.buy_timeout;
        let mut attempts = Vec::new();
        self.0.buy_gate.pay_in();
        loop {
            let (at, started) = (Timestamp::now(), Instant::now());
            let call = match self.0.buy_gate.enter() {
                Ok(call) => call,
                Err(retry_after) => {
                    self.0.metrics.requested(Op::Buy, "breaker_open");
                    attempts.push(record(at, started, Reached::NotSent, "breaker open"));
                    return Buy::not_sent(attempts, Some(retry_after));
                }
            };
            let attempt = self.attempt(symbol, price, quantity, deadline).await;
            self.0.metrics.took(Op::Buy, started.elapsed());
            self.0.metrics.requested(Op::Buy, attempt.label());
            call.ended(attempt.vendor_is_well());
            match attempt {
                Attempt::NotSent { detail } => {
                    attempts.push(record(at, started, Reached::NotSent, detail));
                    let failures = u32::try_from(attempts.len()).unwrap_or(u32::MAX) - 1;
                    let wait = full_jitter(BACKOFF_BASE, BACKOFF_CAP, failures);
                    if attempts.len() >= ATTEMPTS_MAX
                        || !self.may_dial(deadline, wait)
                        || !self.0.buy_gate.take_retry()
                    {
                        return Buy::not_sent(attempts, None);
                    }
                    tokio::time::sleep(wait).await;
                }
                Attempt::Sent { reason, detail } => {
                    attempts.push(record(at, started, Reached::Sent, detail));
                    let outcome = Outcome::Unknown(reason);
                    return Buy {
                        outcome,
                        attempts,
                        status: None,
                        retry_after: None,
                    };
                }
                Attempt::Answered {
                    status,
                    verdict,
                    retry_after,
                } => {
                    let Verdict {
                        outcome,
                        vendor_total,
                    } = verdict;
                    if outcome::totals_differ(&outcome, vendor_total.as_deref()) {
                        self.0.metrics.total_differs();
                    }
                    attempts.push(BuyAttempt {
                        vendor_total,
                        ..record(at, started, Reached::Answered, format!("http {status}"))
                    });
                    return Buy {
                        outcome,
                        attempts,
                        status: Some(status),
                        retry_after,
                    };
                }
            }
        }
    }

    fn may_dial(&self, deadline: Instant, wait: Duration) -> bool {
        let left = deadline
            .saturating_duration_since(Instant::now())
            .saturating_sub(wait);
        left >= self.0.buy_connect_timeout + DIAL_MARGIN.min(self.0.buy_timeout / 10)
    }

    async fn attempt(&self, symbol: &Symbol, price: Price, quantity: Quantity, deadline: Instant) -> Attempt {
        if !self.may_dial(deadline, Duration::ZERO) {
            return Attempt::NotSent { detail: "deadline" };
        }
        let Some(key) = self.0.key_header() else {
            return Attempt::NotSent {
                detail: "unusable key",
            };
        };
        let url = format!("{}/stocks/{}/buy", self.0.base_url, encoded(symbol.as_str()));
        let sent = self
            .0
            .buys
            .post(url)
            .timeout(deadline.saturating_duration_since(Instant::now()))
            .header("x-api-key", key)
            .header(CONTENT_TYPE, "application/json")
            .body(outcome::request_body(price, quantity))
            .send()
            .await;
        let response = match sent {
            Ok(response) => response,
            // In this order: a connect that timed out is both, and was not sent.
            Err(error) if error.is_connect() => return Attempt::NotSent { detail: "connect" },
            Err(error) if error.is_builder() => return Attempt::NotSent { detail: "not built" },
            Err(error) if error.is_timeout() => {
                return Attempt::Sent {
                    reason: Reason::VendorTimeout,
                    detail: "timeout",
                };
            }
            Err(_) => {
                return Attempt::Sent {
                    reason: Reason::VendorReset,
                    detail: "reset",
                };
            }
        };
        let status = response.status().as_u16();
        let retry_after = retry_after(&response);
        let body = body::read(response, BUY_BYTES_MAX).await;
        let verdict = outcome::judge(status, &body, symbol, quantity);
        // Said by a refusal only: an order that may have gone through must not invite another try.
        let retry_after = retry_after.filter(|_| matches!(verdict.outcome, Outcome::Failed(_)));
        Attempt::Answered {
            status,
            verdict,
            retry_after,
        }
    }
}

impl Attempt {
    /// Label value of `vendor_requests_total`.
    fn label(&self) -> &'static str {
        match self {
            Self::NotSent { .. } => "unreachable",
            Self::Sent { reason, .. } => label(*reason),
            Self::Answered { verdict, .. } => match verdict.outcome {
                Outcome::Filled(_) => "ok",
                Outcome::Failed(reason) | Outcome::Unknown(reason) => label(reason),
            },
        }
    }

    /// A refusal is an answer; everything that leaves us in doubt is bad health.
    fn vendor_is_well(&self) -> bool {
        match self {
            Self::NotSent { .. } | Self::Sent { .. } => false,
            Self::Answered { verdict, .. } => !matches!(verdict.outcome, Outcome::Unknown(_)),
        }
    }
}

fn label(reason: Reason) -> &'static str {
    match reason {
        Reason::VendorRejected => "refused",
        Reason::VendorForbidden => "forbidden",
        Reason::VendorThrottled => "throttled",
        Reason::VendorUnreachable => "unreachable",
        Reason::VendorTimeout => "timeout",
        Reason::VendorReset => "reset",
        Reason::VendorServerError => "server_error",
        Reason::VendorUnreadable => "unreadable",
        Reason::VendorMismatch => "mismatch",
        _ => "unexpected",
    }
}

fn record(at: Timestamp, started: Instant, reached: Reached, detail: impl Into<String>) -> BuyAttempt {
    let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    BuyAttempt {
        at,
        millis,
        reached,
        detail: detail.into(),
        vendor_total: None,
    }
}
