//! Settings of the operator itself.

use std::time::Duration;

use fuse_platform::Reader;
use fuse_platform::config::AdminConfig;

/// How one operator works.
#[derive(Debug, Clone)]
pub struct Settings {
    pub admin: AdminConfig,
    pub controller: ControllerSettings,
}

/// What [`crate::controller::run`] needs to know.
#[derive(Debug, Clone)]
pub struct ControllerSettings {
    /// Namespaces to look after; empty: all.
    pub watch_namespaces: Vec<String>,
    /// Whether the operator may look at the metadata of Secrets, to tell which one is missing. Needs `list` and
    /// `watch` on Secrets, which lets it read values as well, though it never asks for them: so it is the default only
    /// where the operator is confined to namespaces.
    pub watch_secrets: bool,
    /// Everything is looked at again after this, from memory.
    pub resync: Duration,
    /// Changes within this time are handled together.
    pub debounce: Duration,
    /// Services handled at the same time.
    pub concurrency: usize,
}

impl Settings {
    /// Reads and documents all keys.
    pub fn read(reader: &mut Reader) -> Self {
        let watch_namespaces = reader.list(
            "operator.watch_namespaces",
            "Namespaces to look after, separated by commas; empty: all",
        );
        let watch_secrets = reader.parsed(
            "operator.watch_secrets",
            "auto",
            "auto, true or false",
            "Look at the metadata of Secrets to tell which is missing; auto: only with operator.watch_namespaces",
            |text| match text {
                "auto" => Ok(None),
                "true" => Ok(Some(true)),
                "false" => Ok(Some(false)),
                _ => Err("it is something else"),
            },
        );
        let resync = reader.duration_secs(
            "operator.resync_secs",
            600,
            1..=86_400,
            "Seconds after which a resource is looked at again without a change",
        );
        let debounce = reader.duration_millis(
            "operator.debounce_millis",
            200,
            0..=10_000,
            "Milliseconds within which changes are handled together",
        );
        let concurrency = reader.number(
            "operator.concurrency",
            16,
            1..=256,
            "Resources handled at the same time",
        );
        Self {
            admin: AdminConfig::read(reader),
            controller: ControllerSettings {
                watch_secrets: watch_secrets.unwrap_or(!watch_namespaces.is_empty()),
                watch_namespaces,
                resync,
                debounce,
                concurrency: usize::try_from(concurrency).unwrap_or(16),
            },
        }
    }
}
