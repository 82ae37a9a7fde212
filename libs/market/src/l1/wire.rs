//! What stands in Redis as text: the pointer and announcements.

use fuse_domain::Symbol;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::store::{Fence, Pointer};

/// A new snapshot, as its publisher told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    pub pointer: Pointer,
    /// Symbols whose price moved significantly since the snapshot before.
    pub movers: Vec<Symbol>,
}

/// Times in epoch milliseconds, as in DynamoDB.
#[derive(Serialize, Deserialize)]
struct WirePointer {
    id: Uuid,
    taken_at: i64,
    tick_at: i64,
    pages: usize,
    count: usize,
    fence: u64,
}

#[derive(Serialize, Deserialize)]
struct WireAnnouncement {
    pointer: WirePointer,
    movers: Vec<Symbol>,
}

impl From<&Pointer> for WirePointer {
    fn from(pointer: &Pointer) -> Self {
        Self {
            id: pointer.id,
            taken_at: pointer.taken_at.as_millisecond(),
            tick_at: pointer.tick_at.as_millisecond(),
            pages: pointer.pages,
            count: pointer.count,
            fence: pointer.fence.get(),
        }
    }
}

impl WirePointer {
    fn read(self) -> Option<Pointer> {
        Some(Pointer {
            id: self.id,
            taken_at: Timestamp::from_millisecond(self.taken_at).ok()?,
            tick_at: Timestamp::from_millisecond(self.tick_at).ok()?,
            pages: self.pages,
            count: self.count,
            fence: Fence::new(self.fence),
        })
    }
}

pub(super) fn pointer_text(pointer: &Pointer) -> String {
    serde_json::to_string(&WirePointer::from(pointer)).expect("numbers and an id have a JSON form")
}

pub(super) fn pointer(text: &[u8]) -> Option<Pointer> {
    serde_json::from_slice::<WirePointer>(text).ok()?.read()
}

pub(super) fn announcement_text(pointer: &Pointer, movers: &[Symbol]) -> String {
    let announcement = WireAnnouncement {
        pointer: pointer.into(),
        movers: movers.to_vec(),
    };
    serde_json::to_string(&announcement).expect("numbers and texts have a JSON form")
}

pub(super) fn announcement(text: &[u8]) -> Option<Announcement> {
    let WireAnnouncement { pointer, movers } = serde_json::from_slice(text).ok()?;
    Some(Announcement {
        pointer: pointer.read()?,
        movers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_read_back_and_garbage_does_not() {
        let pointer = Pointer {
            id: Uuid::now_v7(),
            taken_at: Timestamp::from_millisecond(1_700_000_000_123).expect("a time"),
            tick_at: Timestamp::from_millisecond(1_700_000_000_000).expect("a time"),
            pages: 7,
            count: 10_000,
            fence: Fence::new(42),
        };
        let movers = vec![Symbol::parse("AAPL").expect("a symbol")];
        let text = announcement_text(&pointer, &movers);
        assert_eq!(
            announcement(text.as_bytes()),
            Some(Announcement { pointer, movers })
        );
        assert_eq!(super::pointer(pointer_text(&pointer).as_bytes()), Some(pointer));
        for garbage in ["", "{}", "[]", "hello", "{\"pointer\":{},\"movers\":[]}"] {
            assert_eq!(announcement(garbage.as_bytes()), None, "{garbage}");
        }
    }
}
