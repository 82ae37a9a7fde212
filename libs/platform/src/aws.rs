//! The one constructor of AWS client settings: every wait bounded, no network before the first call.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};

use crate::config::{DynamoDbConfig, HttpUrl};

/// Attempts of one call, the first included; the operation timeout bounds them together.
const ATTEMPTS_MAX: u32 = 3;

/// Where and how patiently AWS is called.
#[derive(Debug, Clone)]
pub struct AwsConfig {
    pub region: String,
    /// Another address than AWS's own.
    pub endpoint: Option<HttpUrl>,
    pub connect_timeout: Duration,
    pub attempt_timeout: Duration,
    /// All attempts together.
    pub operation_timeout: Duration,
}

impl From<&DynamoDbConfig> for AwsConfig {
    fn from(config: &DynamoDbConfig) -> Self {
        Self {
            region: config.region.clone(),
            endpoint: config.endpoint.clone(),
            connect_timeout: config.connect_timeout,
            attempt_timeout: config.attempt_timeout,
            operation_timeout: config.operation_timeout,
        }
    }
}

/// Builds the settings that every AWS client of this process shares. Credentials are looked up by the SDK's own
/// chain at the first call, so that a process starts without them and without network.
pub async fn sdk_config(config: &AwsConfig) -> SdkConfig {
    crate::tls::install_provider();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(config.connect_timeout)
        .read_timeout(config.attempt_timeout)
        .operation_attempt_timeout(config.attempt_timeout)
        .operation_timeout(config.operation_timeout)
        .build();
    // Pinned: a newer version changes retries and timeouts, which must be a decision.
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(Region::new(config.region.clone()))
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(ATTEMPTS_MAX)
                .with_initial_backoff(Duration::from_millis(50)),
        )
        .timeout_config(timeouts);
    if let Some(endpoint) = &config.endpoint {
        loader = loader.endpoint_url(endpoint.as_str());
    }
    loader.load().await
}
