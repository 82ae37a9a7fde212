//! What a rule does to a request: on the way (latency, tick), to the page (items, paging), or instead of the answer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fault::{BodyFault, BuyFault, ItemFault, PagingFault};

/// How long an answer is held back. A buy is decided before the wait: a client that gives up has still bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "distribution", rename_all = "snake_case")]
pub enum Latency {
    Fixed {
        ms: u64,
    },
    Uniform {
        min_ms: u64,
        max_ms: u64,
    },
    /// Half of the answers near the median, each doubling half as likely, never above the maximum.
    HeavyTail {
        median_ms: u64,
        max_ms: u64,
    },
}

impl Latency {
    pub(crate) fn delay(self, luck: u64) -> Duration {
        let ms = match self {
            Self::Fixed { ms } => ms,
            Self::Uniform { min_ms, max_ms } => {
                min_ms + luck % (max_ms.saturating_sub(min_ms).saturating_add(1)).max(1)
            }
            Self::HeavyTail { median_ms, max_ms } => {
                let near = median_ms / 2 + (luck >> 32) % median_ms.max(1);
                let doublings = (luck & 0xFFFF_FFFF).trailing_ones().min(20);
                near.saturating_mul(1 << doublings).min(max_ms)
            }
        };
        Duration::from_millis(ms)
    }
}

/// The body of a status fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// `{"status":N,"message":"..."}`
    #[default]
    Envelope,
    /// `{"message":"..."}` without a status, as for a bad key.
    Message,
    /// A page of a proxy, as `text/html`.
    Html,
    Empty,
}

/// What happens to a request. `executed` tells whether a buy is judged and, when good, executed all the same.
///
/// `Latency`, `Tick`, `Item`, `Paging`, `BuyAnswer` and `StrictEdge` add up and do not end the search; the first of the others that
/// fires decides.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    Latency(Latency),
    /// Advances the price clock after (or before) this request.
    Tick {
        by: u32,
        #[serde(default)]
        before: bool,
    },
    /// Something is wrong with items of the page.
    Item {
        fault: ItemFault,
        /// Which ones; empty: all items of the page.
        #[serde(default)]
        symbols: Vec<String>,
        /// Of those only one in so many, drawn from the seed and the symbol: the same ones in every crawl.
        #[serde(default)]
        one_in: Option<u64>,
    },
    /// Something is wrong with the page as such, or with its token.
    Paging {
        fault: PagingFault,
    },
    /// The buy is judged and executed as always, but its success is told wrongly.
    BuyAnswer {
        fault: BuyFault,
    },
    /// A buy at exactly 2 % off is refused.
    StrictEdge,
    /// Closes the listener and all connections at once, until `for_ms` is over or the rules are deleted. Takes no match and no times.
    RefuseConnect {
        #[serde(default)]
        for_ms: Option<u64>,
    },
    /// TCP reset after the request was read.
    Reset {
        executed: bool,
    },
    /// The connection stays open and silent.
    NeverAnswer {
        executed: bool,
    },
    /// The normal answer, one byte at a time.
    SlowBody {
        #[serde(default = "one_second")]
        byte_every_ms: u64,
    },
    /// Full `content-length`, half of the body, then the end.
    CloseMidBody {
        #[serde(default = "yes")]
        executed: bool,
    },
    /// A complete answer, with this wrong in its body.
    Body {
        fault: BodyFault,
        #[serde(default = "yes")]
        executed: bool,
    },
    /// This status instead of the answer.
    Status {
        status: u16,
        #[serde(default)]
        body: Body,
        #[serde(default)]
        executed: bool,
        #[serde(default)]
        retry_after: Option<String>,
        #[serde(default)]
        location: Option<String>,
    },
    /// HTTP 200 around an envelope with another status.
    Envelope {
        status: u16,
        #[serde(default)]
        executed: bool,
    },
}

impl Action {
    /// Whether the fault comes instead of a buy's execution.
    pub(crate) fn is_before_execution(&self) -> bool {
        matches!(
            self,
            Self::Reset { executed: false }
                | Self::NeverAnswer { executed: false }
                | Self::CloseMidBody { executed: false }
                | Self::Body { executed: false, .. }
                | Self::Status { executed: false, .. }
                | Self::Envelope { executed: false, .. }
        )
    }
}

fn one_second() -> u64 {
    1000
}

fn yes() -> bool {
    true
}
