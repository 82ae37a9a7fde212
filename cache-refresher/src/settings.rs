//! What the refresher is configured with; all of it shared with other processes.

use fuse_platform::Reader;
use fuse_platform::config::{AdminConfig, DynamoDbConfig, RefreshConfig, VendorConfig};

#[derive(Debug, Clone)]
pub struct Settings {
    pub admin: AdminConfig,
    pub vendor: VendorConfig,
    pub dynamodb: DynamoDbConfig,
    pub refresh: RefreshConfig,
}

impl Settings {
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            admin: AdminConfig::read(reader),
            vendor: VendorConfig::read(reader),
            dynamodb: DynamoDbConfig::read(reader),
            refresh: RefreshConfig::read(reader),
        }
    }
}
