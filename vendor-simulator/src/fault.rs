//! The names of the faults in bodies, pages, items and answers to buys. What each of them does stands in the module that does it.

use serde::{Deserialize, Serialize};

/// What is wrong with a body. The status line and the framing are good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum BodyFault {
    /// Half of the JSON text, with the `content-length` of that half.
    Truncated,
    /// The whole text with a comma where none may be.
    InvalidJson,
    /// The good body under another label, such as `text/html`.
    ContentType(String),
    /// JSON that goes on for so many bytes, sent as fast as it is taken, never held in memory.
    Huge {
        bytes: u64,
        /// With a `content-length`; else in chunks, so that the client has to count.
        #[serde(default)]
        announced: bool,
    },
    /// `content-encoding: gzip` around an empty page (or an order's shell) that inflates to about so many bytes, from 1/158 of that.
    GzipBomb { inflated_bytes: u64 },
    /// So many numbers where the items should be, sent without being held; for buys as `Huge`.
    ManyItems { items: u64 },
    /// Arrays in arrays where the items (the order) should be.
    Deep { depth: usize },
    /// No `data`.
    MissingData,
    /// No `data.items`; for buys as `MissingOrder`.
    MissingItems,
    /// No `data.order`; for lists as `MissingItems`.
    MissingOrder,
}

/// What is wrong with a page or its token. Page numbers count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PagingFault {
    /// No `nextToken`. On a page in the middle the list seems to end there.
    TokenAbsent,
    /// `"nextToken":null`.
    TokenNull,
    /// `"nextToken":""`.
    TokenEmpty,
    /// The token that this page was asked for with (on page 1: the token of page 2, as usual).
    RepeatedToken,
    /// The token of an earlier (or later) page: a longer loop. At least 2, as page 1 has no token.
    LoopTo(usize),
    /// A token never given before, on every page: the pages come again and again, but never the same token.
    EndlessTokens,
    /// No items, and a token that leads to this very page, which then comes whole: nothing is lost by reading on.
    EmptyPage,
    /// So many pages' items on one page; its token leads behind them.
    BiggerPage { times: usize },
    /// Lists these symbols once more, at the end of the page: a duplicate in a page, or across pages.
    AlsoLists {
        symbols: Vec<String>,
        /// As they were so many ticks ago: price and `lastUpdated`.
        #[serde(default)]
        ticks_ago: u32,
    },
}

/// What is wrong with an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ItemFault {
    PriceZero,
    PriceNegative,
    PriceAbsent,
    /// The right price as a JSON string.
    PriceString,
    /// `1e400`: a JSON number beyond doubles and decimals.
    PriceTooLarge,
    /// A bare `NaN`, as careless libraries write it: then the page is no JSON.
    PriceNan,
    /// The right price with noise in the 17th digit, as doubles print it. Legal.
    PriceNoise,
    /// More fields than the contract has, nested ones too. Legal.
    UnknownFields,
    /// A script, quotes and an ampersand. Legal, and never to be shown raw.
    MarkupInName,
    /// Another symbol, outside ASCII: nobody can tell whose item it is.
    NonAsciiSymbol,
    /// Off by so many milliseconds; negative is late.
    LastUpdatedSkewed {
        ms: i64,
    },
    LastUpdatedAbsent,
    /// Goes back by a tick's length with every tick.
    LastUpdatedBackwards,
    /// Not listed, until the rule is spent or removed.
    Vanish,
    /// A number in place of the object.
    NotAnObject,
    /// This JSON text, taken as it is, as a field's value; without it the field is absent.
    Field {
        name: String,
        #[serde(default)]
        json: Option<String>,
    },
}

/// What a success says instead of the truth. What was executed is what `GET /control/executed` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuyFault {
    /// Another stock of this vendor.
    OtherSymbol,
    /// One more.
    OtherQuantity,
    /// One percent more.
    OtherPrice,
    /// Twice as much.
    OtherTotal,
}
