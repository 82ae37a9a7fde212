//! The MIME text of a mail. The same input gives the same bytes, so a repeated mail is the same mail.

use jiff::Timestamp;
use lettre::Message;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use sha2::{Digest as _, Sha256};

/// Everything that is in a mail.
pub(crate) struct Letter {
    pub(crate) from: Mailbox,
    pub(crate) to: Mailbox,
    pub(crate) subject: String,
    pub(crate) message_id: String,
    pub(crate) date: Timestamp,
    pub(crate) plain: String,
    pub(crate) html: String,
}

/// `Auto-Submitted` of RFC 3834: no out-of-office answers, please.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// A text part and an HTML part that say the same.
pub(crate) fn mime(letter: Letter) -> Result<Vec<u8>, String> {
    let boundary: String = Sha256::digest(letter.message_id.as_bytes())
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let plain = SinglePart::builder()
        .header(ContentType::TEXT_PLAIN)
        .body(letter.plain);
    let html = SinglePart::builder()
        .header(ContentType::TEXT_HTML)
        .body(letter.html);
    let body = MultiPart::alternative()
        .boundary(format!("fuse-{boundary}"))
        .singlepart(plain)
        .singlepart(html);
    let message = Message::builder()
        .from(letter.from)
        .to(letter.to)
        .subject(letter.subject)
        .date(letter.date.into())
        .message_id(Some(letter.message_id))
        .header(AutoSubmitted)
        .multipart(body)
        .map_err(|error| error.to_string())?;
    Ok(message.formatted())
}
