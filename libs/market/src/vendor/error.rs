//! Why `GET /stocks` gave no page.

use std::time::Duration;

/// A failed list call. Texts carry no URL, key or body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VendorError {
    /// Not called: the vendor failed too often just now.
    #[error("the vendor's breaker is open")]
    BreakerOpen { retry_after: Duration },
    /// DNS, connect or TLS failed.
    #[error("the vendor cannot be reached")]
    Unreachable,
    #[error("the vendor did not answer in time")]
    Timeout,
    #[error("the vendor broke the connection")]
    Reset,
    #[error("the vendor answered with HTTP status {status}")]
    Status {
        status: u16,
        retry_after: Option<Duration>,
    },
    /// HTTP 200, but the envelope says otherwise.
    #[error("the vendor answered 200 around another status")]
    Envelope,
    /// Truncated, not JSON, or not the agreed shape.
    #[error("the vendor's answer is not readable")]
    Unreadable,
    #[error("the vendor's answer is larger than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    #[error("the vendor's paging token is too long to be sent back")]
    TokenTooLong,
}

impl VendorError {
    /// Whether asking for the same page again may help. Lists change nothing, so what is broken on
    /// the way may be asked for again; a clear refusal or a monstrous body may not.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unreachable | Self::Timeout | Self::Reset | Self::Envelope | Self::Unreadable => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
            Self::BreakerOpen { .. } | Self::TooLarge { .. } | Self::TokenTooLong => false,
        }
    }

    /// Label value of `vendor_requests_total` and of pass results.
    pub fn label(&self) -> &'static str {
        match self {
            Self::BreakerOpen { .. } => "breaker_open",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Status {
                status: 401 | 403, ..
            } => "forbidden",
            Self::Status { status: 429, .. } => "throttled",
            Self::Status {
                status: 400..=499, ..
            } => "refused",
            Self::Status {
                status: 500..=599, ..
            } => "server_error",
            Self::Status { .. } | Self::Envelope => "unexpected",
            Self::Unreadable | Self::TooLarge { .. } | Self::TokenTooLong => "unreadable",
        }
    }

    /// How long the vendor or the breaker asks us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::BreakerOpen { retry_after } => Some(*retry_after),
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
