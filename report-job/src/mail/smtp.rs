//! SMTP. `smtps://` is TLS from the first byte; `smtp://` uses STARTTLS when the server offers it, and insists on
//! it when a password would go over a network otherwise. `?tls=required` and `?tls=opportunistic` decide by name.

use std::time::Duration;

use fuse_platform::Secret;
use lettre::transport::smtp::AsyncSmtpTransport;
use lettre::{Address, AsyncTransport as _, Tokio1Executor};
use secrecy::ExposeSecret as _;

use super::SendError;

pub(crate) struct Smtp(AsyncSmtpTransport<Tokio1Executor>);

impl Smtp {
    pub(crate) fn new(url: &Secret, timeout: Duration) -> Result<Self, String> {
        let url = with_tls(url.reveal().expose_secret());
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(&url)
            .map_err(|error| format!("mail.smtp_url is not the address of a mail server: {error}"))?;
        Ok(Self(builder.timeout(Some(timeout)).build()))
    }

    pub(crate) async fn send(&self, from: &Address, to: &str, mime: &[u8]) -> Result<String, SendError> {
        let to: Address = to.parse().map_err(|error| SendError {
            permanent: true,
            detail: format!("the recipient's address is not one: {error}"),
        })?;
        let envelope =
            lettre::address::Envelope::new(Some(from.clone()), vec![to]).map_err(|error| SendError {
                permanent: true,
                detail: error.to_string(),
            })?;
        match self.0.send_raw(&envelope, mime).await {
            Ok(answer) => {
                let said: Vec<&str> = answer.message().collect();
                Ok(format!("{} {}", answer.code(), said.join(" ")))
            }
            Err(error) => Err(SendError {
                permanent: error.is_permanent(),
                detail: chain(&error),
            }),
        }
    }
}

/// The library's own default for `smtp://` would be no TLS at all.
fn with_tls(url: &str) -> String {
    let decides = url
        .split_once('?')
        .is_some_and(|(_, query)| query.split('&').any(|pair| pair.starts_with("tls=")));
    if !url.starts_with("smtp://") || decides {
        return url.to_owned();
    }
    let tls = if has_password(url) && !is_loopback(url) {
        "tls=required"
    } else {
        "tls=opportunistic"
    };
    let separator = if url.contains('?') { '&' } else { '?' };
    // Its default port changes with the parameter; ours stays that of SMTP.
    format!("{}{separator}{tls}", with_port(url))
}

fn authority(url: &str) -> &str {
    let rest = url.strip_prefix("smtp://").unwrap_or(url);
    rest.split(['/', '?']).next().unwrap_or(rest)
}

fn host_and_port(url: &str) -> &str {
    let authority = authority(url);
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

fn has_password(url: &str) -> bool {
    authority(url)
        .rsplit_once('@')
        .is_some_and(|(user, _)| user.contains(':'))
}

fn is_loopback(url: &str) -> bool {
    let host = host_and_port(url);
    ["127.", "localhost", "[::1]"]
        .iter()
        .any(|loopback| host.starts_with(loopback))
}

fn with_port(url: &str) -> String {
    let host = host_and_port(url);
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    if has_port || host.is_empty() {
        url.to_owned()
    } else {
        url.replacen(host, &format!("{host}:25"), 1)
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::with_tls;

    #[test]
    fn starttls_is_used_when_offered_and_required_where_a_password_would_show() {
        for (url, becomes) in [
            ("smtp://127.0.0.1:2525", "smtp://127.0.0.1:2525?tls=opportunistic"),
            ("smtp://mail", "smtp://mail:25?tls=opportunistic"),
            ("smtp://user:pw@mail:587", "smtp://user:pw@mail:587?tls=required"),
            (
                "smtp://user:pw@127.0.0.1:2525",
                "smtp://user:pw@127.0.0.1:2525?tls=opportunistic",
            ),
            (
                "smtp://user:pw@mail/helo.example.com",
                "smtp://user:pw@mail:25/helo.example.com?tls=required",
            ),
            ("smtp://mail:587?tls=required", "smtp://mail:587?tls=required"),
            ("smtps://user:pw@mail", "smtps://user:pw@mail"),
        ] {
            assert_eq!(with_tls(url), becomes);
        }
    }
}
