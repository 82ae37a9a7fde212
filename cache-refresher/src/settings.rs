//! What the refresher is configured with; most of it shared with other processes.

use fuse_market::CrawlLimits;
use fuse_platform::Reader;
use fuse_platform::config::{AdminConfig, DynamoDbConfig, RedisConfig, RefreshConfig, VendorConfig};

#[derive(Debug, Clone)]
pub struct Settings {
    pub admin: AdminConfig,
    pub vendor: VendorConfig,
    pub dynamodb: DynamoDbConfig,
    pub redis: RedisConfig,
    pub refresh: RefreshConfig,
    pub limits: CrawlLimits,
}

impl Settings {
    pub fn read(reader: &mut Reader) -> Self {
        let vendor = VendorConfig::read(reader);
        Self {
            admin: AdminConfig::read(reader),
            limits: CrawlLimits::read(reader, &vendor),
            vendor,
            dynamodb: DynamoDbConfig::read(reader),
            redis: RedisConfig::read(reader),
            refresh: RefreshConfig::read(reader),
        }
    }
}
