//! Mail: one MIME text, two ways to send it.

mod message;
mod ses;
mod smtp;

use lettre::Address;

pub(crate) use self::message::{Letter, mime};
use self::ses::Ses;
use self::smtp::Smtp;
use crate::config::JobConfig;

/// Why a mail was not taken.
#[derive(Debug, Clone)]
pub(crate) struct SendError {
    /// Asking again with the same mail will be answered the same way.
    pub(crate) permanent: bool,
    /// What the other side said.
    pub(crate) detail: String,
}

impl SendError {
    pub(crate) fn temporary(detail: impl Into<String>) -> Self {
        Self {
            permanent: false,
            detail: detail.into(),
        }
    }
}

/// The configured way.
pub(crate) enum Transport {
    Smtp(Smtp),
    Ses(Ses),
}

impl Transport {
    /// `None` when nobody gets the report by mail. Connects to nothing yet.
    ///
    /// # Errors
    /// When the address of the mail server is none.
    pub(crate) async fn new(config: &JobConfig) -> Result<Option<Self>, String> {
        if config.recipients.is_empty() {
            return Ok(None);
        }
        match (&config.mail.ses_region, &config.mail.smtp_url) {
            (Some(region), _) => Ok(Some(Self::Ses(Ses::new(region, config.send_timeout).await))),
            (None, Some(url)) => Smtp::new(url, config.send_timeout).map(|smtp| Some(Self::Smtp(smtp))),
            (None, None) => Ok(None),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Smtp(_) => "smtp",
            Self::Ses(_) => "ses",
        }
    }

    /// One try. Returns what the other side said on taking it.
    pub(crate) async fn send(&self, from: &Address, to: &str, mime: &[u8]) -> Result<String, SendError> {
        match self {
            Self::Smtp(smtp) => smtp.send(from, to, mime).await,
            Self::Ses(ses) => ses.send(from, to, mime).await,
        }
    }
}
