#![doc = include_str!("../README.md")]

pub mod admin;
#[cfg(feature = "aws")]
pub mod aws;
pub mod config;
#[cfg(feature = "http-client")]
pub mod http_client;
pub mod http_server;
pub mod lifecycle;
pub mod metrics;
mod process;
mod readiness;
pub mod telemetry;
pub mod tls;

pub use config::{ConfigValue, Reader, Secret};
pub use lifecycle::Shutdown;
pub use metrics::Metrics;
pub use process::{BoxError, Context, EXIT_CONFIGURATION, Process};
pub use readiness::{Condition, Readiness};

/// Version of every process: they are built and shipped together.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Source revision given at build time by `FUSE_REVISION`, else `unknown`.
pub const REVISION: &str = match option_env!("FUSE_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
