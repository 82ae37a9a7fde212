//! Configuration: defaults, then a TOML file, then `FUSE_SECTION__KEY` variables; secrets also from files.
//!
//! A process reads its keys one by one through a [`Reader`], which gathers every mistake and, at the same time, the
//! documentation that `--help` and `--check-config` print. A mistake never stops the reading: a placeholder is
//! returned and [`Reader::finish`] fails with the whole list.

mod groups;
mod known;
mod mistake;
mod reader;
mod secret;
mod sources;
mod value;

pub use groups::{
    AdminConfig, AuthConfig, DatabaseConfig, DynamoDbConfig, HttpConfig, LifecycleConfig, MailConfig,
    RedisConfig, RefreshConfig, ReportConfig, RuntimeConfig, VendorConfig, migration_url,
};
pub use known::{KNOWN_KEYS, KNOWN_SECTIONS};
pub use mistake::{Mistake, Mistakes};
pub use reader::{Entry, Reader, Settings};
pub use secret::Secret;
pub use sources::{Sources, env_name};
pub use value::{ConfigValue, HttpUrl};
