//! Keys that several processes share. Each group is read with `Group::read(&mut reader)`; a process takes the groups
//! it needs and adds its own keys.

mod backends;
mod business;
mod frame;

pub use backends::{DatabaseConfig, DynamoDbConfig, RedisConfig, VendorConfig, migration_url};
pub use business::{AuthConfig, MailConfig, RefreshConfig, ReportConfig};
pub use frame::{AdminConfig, HttpConfig, LifecycleConfig, RuntimeConfig};
