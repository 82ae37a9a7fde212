//! `GET /stocks`: one page.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::body::{self, Body};
use super::metrics::Op;
use super::not_json::replace_no_numbers;
use super::wire::{self, PageFault};
use super::{PAGE_BYTES_MAX, VendorClient, VendorError, VendorPage, encoded, retry_after};

impl VendorClient {
    /// Fetches one page, once; the crawl decides about asking again. `None` is the first page.
    pub async fn list_page(&self, token: Option<&str>) -> Result<VendorPage, VendorError> {
        let started = Instant::now();
        let call = match self.0.list_gate.enter() {
            Ok(call) => call,
            Err(retry_after) => {
                let error = VendorError::BreakerOpen { retry_after };
                self.0.metrics.requested(Op::List, error.label());
                return Err(error);
            }
        };
        let page = self.fetch(token).await;
        self.0.metrics.took(Op::List, started.elapsed());
        self.0
            .metrics
            .requested(Op::List, page.as_ref().map_or_else(VendorError::label, |_| "ok"));
        call.ended(page.as_ref().err().is_none_or(|error| !is_ill(error)));
        page
    }

    /// A first attempt at a page that is needed: pays into the retry budget.
    pub(crate) fn page_needed(&self) {
        self.0.list_gate.pay_in();
    }

    async fn fetch(&self, token: Option<&str>) -> Result<VendorPage, VendorError> {
        let mut url = format!("{}/stocks", self.0.base_url);
        if let Some(token) = token {
            url.push_str("?nextToken=");
            url.push_str(&encoded(token));
        }
        let key = self.0.key_header().ok_or(VendorError::Unreachable)?;
        let response = self
            .0
            .lists
            .get(url)
            .header("x-api-key", key)
            .send()
            .await
            .map_err(|e| sort(&e))?;
        let status = response.status().as_u16();
        if !(200..300).contains(&status) {
            return Err(VendorError::Status {
                status,
                retry_after: retry_after(&response),
            });
        }
        let bytes = match body::read(response, PAGE_BYTES_MAX).await {
            Body::Complete(bytes) => bytes,
            Body::Truncated | Body::Encoded => return Err(VendorError::Unreadable),
            Body::TooLarge => {
                return Err(VendorError::TooLarge {
                    bytes_max: PAGE_BYTES_MAX,
                });
            }
            Body::TimedOut => return Err(VendorError::Timeout),
        };
        parse(bytes).map_err(|fault| match fault {
            PageFault::Unreadable => VendorError::Unreadable,
            PageFault::EnvelopeStatus => VendorError::Envelope,
            PageFault::TokenTooLong => VendorError::TokenTooLong,
        })
    }
}

/// A page that is no JSON because of a bare `NaN` is read all the same: only its item is bad.
fn parse(body: Bytes) -> Result<VendorPage, PageFault> {
    match wire::parse_page(&body) {
        Err(PageFault::Unreadable) => {
            let mut body = BytesMut::from(body);
            if replace_no_numbers(&mut body) {
                wire::parse_page(&body)
            } else {
                Err(PageFault::Unreadable)
            }
        }
        parsed => parsed,
    }
}

fn sort(error: &reqwest::Error) -> VendorError {
    if error.is_connect() || error.is_builder() {
        VendorError::Unreachable
    } else if error.is_timeout() {
        VendorError::Timeout
    } else {
        VendorError::Reset
    }
}

/// Whether an error says that the vendor is unwell. A refusal is an answer, and one over-long token
/// or body is bad data, not bad health.
fn is_ill(error: &VendorError) -> bool {
    match error {
        VendorError::Unreachable
        | VendorError::Timeout
        | VendorError::Reset
        | VendorError::Envelope
        | VendorError::Unreadable => true,
        VendorError::Status { status, .. } => *status >= 500,
        VendorError::BreakerOpen { .. } | VendorError::TooLarge { .. } | VendorError::TokenTooLong => false,
    }
}
