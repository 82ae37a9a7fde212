//! The subscriber: a connection of its own that listens for announcements and never gives up.

use fuse_domain::Symbol;

use crate::store::Pointer;

/// A new snapshot, as its publisher told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    pub pointer: Pointer,
    /// Symbols whose price moved significantly since the snapshot before.
    pub movers: Vec<Symbol>,
}

/// What a subscriber hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Announced(Announcement),
    /// Listening (again), or something was missed: announcements may have gone by, so read the pointer.
    Reconnected,
}

/// A background task that listens: reconnects without end, sends a PING every 5 s and takes 10 s of silence for a
/// dead connection. Dropping it ends the task.
pub struct Subscription;

impl Subscription {
    /// The next thing heard; never returns after the shutdown. Cancel safe.
    pub async fn next(&mut self) -> Heard {
        todo!()
    }

    /// Whether it is connected, subscribed and heard something (a PONG counts) within the last 10 s.
    pub fn is_live(&self) -> bool {
        todo!()
    }
}
