//! What every answer from a snapshot says about its age: made once a second, not once a request.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use fuse_domain::SnapshotMeta;
use http::HeaderValue;
use jiff::Timestamp;

use crate::market_data::{Freshness, SnapshotInfo};

/// One second of a snapshot's life.
pub struct Moment {
    /// What clients are told.
    pub info: SnapshotInfo,
    /// The end of a page: `,"snapshot":{…}}`.
    pub end: Bytes,
    /// `Age`.
    pub age: HeaderValue,
    /// `Cache-Control`.
    pub cache_control: HeaderValue,
}

impl Moment {
    fn new(meta: &SnapshotMeta, freshness: Freshness, now: Timestamp) -> Self {
        let info = freshness.describe(meta, now);
        let text = serde_json::to_string(&info).expect("texts and numbers always serialize");
        Self {
            end: Bytes::from(format!(",\"snapshot\":{text}}}")),
            age: HeaderValue::from(info.age_seconds),
            cache_control: freshness.cache_control(meta, info.stale),
            info,
        }
    }

    fn is_of(&self, meta: &SnapshotMeta, freshness: Freshness, now: Timestamp) -> bool {
        let (age_seconds, stale) = freshness.age(meta, now);
        let info = &self.info;
        info.age_seconds == age_seconds && info.stale == stale && now < info.next_tick_at
    }
}

/// The current moment of one snapshot.
pub(super) struct Moments {
    meta: SnapshotMeta,
    current: Mutex<Option<Arc<Moment>>>,
}

impl Moments {
    pub(super) fn new(meta: SnapshotMeta) -> Self {
        Self {
            meta,
            current: Mutex::default(),
        }
    }

    pub(super) fn at(&self, freshness: Freshness, now: Timestamp) -> Arc<Moment> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(moment) if moment.is_of(&self.meta, freshness, now) => Arc::clone(moment),
            _ => {
                let moment = Arc::new(Moment::new(&self.meta, freshness, now));
                *current = Some(Arc::clone(&moment));
                moment
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_moment_lasts_until_something_that_it_says_changes() {
        let taken_at: Timestamp = "2026-01-01T00:00:04.5Z".parse().expect("a time");
        let meta = SnapshotMeta {
            id: Uuid::now_v7(),
            taken_at,
            tick_at: "2026-01-01T00:00:00Z".parse().expect("a time"),
            count: 0,
        };
        let freshness = Freshness {
            stale_after_secs: 400,
            tick_secs: 300,
        };
        let moments = Moments::new(meta);
        let at = |millis: i64| moments.at(freshness, taken_at + SignedDuration::from_millis(millis));
        assert!(Arc::ptr_eq(&at(0), &at(999)));
        assert!(!Arc::ptr_eq(&at(999), &at(1_000)));
        assert_eq!(at(37_400).info.age_seconds, 37);
        // The tick falls into the middle of a second of age.
        let (before, after) = (at(295_400), at(295_600));
        assert_eq!(before.info.age_seconds, after.info.age_seconds);
        assert_eq!(after.info.next_tick_at.to_string(), "2026-01-01T00:10:00Z");
        assert_ne!(before.info.next_tick_at, after.info.next_tick_at);
        // From the future, further than clocks may differ: stale; then nearer: not, at the same age.
        assert!(at(-61_000).info.stale);
        assert!(!at(-59_000).info.stale);
        assert_eq!(at(400_999).cache_control, "public, max-age=295");
        assert_eq!(at(401_000).cache_control, "no-cache");
    }
}
