//! Amazon SES v2 with the raw MIME text. Credentials, and another endpoint for tests (`AWS_ENDPOINT_URL_SESV2`),
//! come by the SDK's own chain.

use std::time::Duration;

use aws_sdk_sesv2::Client;
use aws_sdk_sesv2::config::retry::RetryConfig;
use aws_sdk_sesv2::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_sesv2::primitives::Blob;
use aws_sdk_sesv2::types::{Destination, EmailContent, RawMessage};
use fuse_platform::aws::{AwsConfig, sdk_config};
use lettre::Address;

use super::SendError;

const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(3);

pub(crate) struct Ses(Client);

impl Ses {
    pub(crate) async fn new(region: &str, timeout: Duration) -> Self {
        let sdk = sdk_config(&AwsConfig {
            region: region.to_owned(),
            endpoint: None,
            connect_timeout: CONNECT_TIMEOUT_MAX.min(timeout),
            attempt_timeout: timeout,
            operation_timeout: timeout,
        })
        .await;
        // Tries are counted in one place, where each is recorded; a mail is not idempotent.
        let config = aws_sdk_sesv2::config::Builder::from(&sdk)
            .retry_config(RetryConfig::disabled())
            .build();
        Self(Client::from_conf(config))
    }

    pub(crate) async fn send(&self, from: &Address, to: &str, mime: &[u8]) -> Result<String, SendError> {
        let raw = RawMessage::builder()
            .data(Blob::new(mime))
            .build()
            .map_err(|error| SendError {
                permanent: true,
                detail: error.to_string(),
            })?;
        let sent = self
            .0
            .send_email()
            .from_email_address(from.to_string())
            .destination(Destination::builder().to_addresses(to).build())
            .content(EmailContent::builder().raw(raw).build())
            .send()
            .await;
        match sent {
            Ok(answer) => Ok(format!(
                "accepted as {}",
                answer.message_id().unwrap_or("an unnamed message")
            )),
            Err(error) => Err(refused(&error)),
        }
    }
}

fn refused<R>(error: &SdkError<aws_sdk_sesv2::operation::send_email::SendEmailError, R>) -> SendError
where
    R: std::fmt::Debug,
{
    let Some(service) = error.as_service_error() else {
        return SendError::temporary(aws_sdk_sesv2::error::DisplayErrorContext(error).to_string());
    };
    // Everything that somebody has to change; throttling, limits and outages pass.
    let permanent = service.is_message_rejected()
        || service.is_bad_request_exception()
        || service.is_mail_from_domain_not_verified_exception()
        || service.is_not_found_exception()
        || service.is_account_suspended_exception();
    let code = service.code().unwrap_or("unknown error");
    SendError {
        permanent,
        detail: format!("{code}: {}", service.message().unwrap_or("no message")),
    }
}
