//! Proof that history is what it was: a hash chain over all order events, and a check of every table against them.

mod chain;
mod checks;
mod line;
mod verify;

use fuse_domain::ChainHead;

pub use self::verify::{Progress, Verification, VerifyOptions};

/// The first row that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// Which rule it breaks.
    pub invariant: Invariant,
    /// Which row: its table and key.
    pub row: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What [`Ledger::verify`](crate::Ledger::verify) checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Invariant {
    /// The hash chain holds, and anchors outside it agree.
    Chain,
    /// Each order is what its events made of it.
    Events,
    /// Each holding is the fold of its filled orders.
    Holdings,
    /// A portfolio's version counts its fills; one with fills is not deleted, and one with orders is there.
    Versions,
    /// At most one attempt of an order reached the vendor.
    Attempts,
}

impl Invariant {
    /// All of them, in the order in which they are checked.
    pub const ALL: [Self; 5] = [
        Self::Chain,
        Self::Events,
        Self::Holdings,
        Self::Versions,
        Self::Attempts,
    ];

    /// The label of `ledger_invariant_violations`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Events => "events",
            Self::Holdings => "holdings",
            Self::Versions => "versions",
            Self::Attempts => "attempts",
        }
    }
}

/// Where a link ends, in the order of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    txid: u64,
    seq: i32,
    user_id: uuid::Uuid,
}

impl Position {
    /// Before every event.
    const START: Self = Self {
        txid: 0,
        seq: 0,
        user_id: uuid::Uuid::nil(),
    };
}

/// A link with everything that it says.
struct Link {
    head: ChainHead,
    previous_hash: [u8; 32],
    events: usize,
    last: Position,
    digests: Vec<u8>,
}
