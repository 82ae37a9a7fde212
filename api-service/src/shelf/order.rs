//! In which order stocks are listed.

use std::cmp::Ordering;

use fuse_domain::Snapshot;

use super::text::Texts;

/// The orders that a client may ask for. Ties are ordered by symbol, upwards, so that every order is total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Sort {
    /// By symbol.
    #[default]
    SymbolUp,
    /// By symbol, downwards.
    SymbolDown,
    /// By name in any case.
    NameUp,
    /// By name in any case, downwards.
    NameDown,
    /// Cheapest first.
    PriceUp,
    /// Dearest first.
    PriceDown,
}

impl Sort {
    /// Every order.
    pub const ALL: [Self; 6] = [
        Self::SymbolUp,
        Self::SymbolDown,
        Self::NameUp,
        Self::NameDown,
        Self::PriceUp,
        Self::PriceDown,
    ];

    /// The text on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SymbolUp => "symbol",
            Self::SymbolDown => "-symbol",
            Self::NameUp => "name",
            Self::NameDown => "-name",
            Self::PriceUp => "price",
            Self::PriceDown => "-price",
        }
    }

    /// By its text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sort| sort.as_str() == text)
    }

    /// Which of two stocks comes first, by their places in the snapshot.
    pub(super) fn compare(self, snapshot: &Snapshot, texts: &Texts, a: u32, b: u32) -> Ordering {
        let price = |at: u32| snapshot.quotes[at as usize].price;
        let by_key = match self {
            Self::SymbolUp | Self::SymbolDown => Ordering::Equal,
            Self::NameUp => texts.name(a).cmp(texts.name(b)),
            Self::NameDown => texts.name(b).cmp(texts.name(a)),
            Self::PriceUp => price(a).cmp(&price(b)),
            Self::PriceDown => price(b).cmp(&price(a)),
        };
        // A snapshot is sorted by symbol: the place is the symbol's rank.
        let by_symbol = if self == Self::SymbolDown {
            b.cmp(&a)
        } else {
            a.cmp(&b)
        };
        by_key.then(by_symbol)
    }
}
