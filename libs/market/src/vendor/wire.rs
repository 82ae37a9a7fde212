//! The vendor's wire format: bytes in, domain types out, every number read from its JSON text.
//!
//! Invariant: no vendor number ever passes through a float. `RawValue` hands us the digits as they
//! were sent; `Price::parse` and `Quantity::parse` take them exactly or refuse them.

use fuse_domain::{Price, Quantity, Symbol};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::items;

/// Longest paging token that we follow; longer ones cannot be put into a URL safely.
const TOKEN_BYTES_MAX: usize = 4_096;
/// Names and sectors are untrusted text: what is longer is cut, it is only shown.
const TEXT_CHARS_MAX: usize = 200;
/// The vendor's own total is evidence; no real number is longer.
const TOTAL_BYTES_MAX: usize = 64;

/// One stock as the vendor listed it, checked. The crawl adds the time at which it was fetched.
#[derive(Debug, Clone, PartialEq)]
pub struct VendorItem {
    pub symbol: Symbol,
    pub name: String,
    pub sector: String,
    pub price: Price,
    /// Exact, normalised text; absolute or percent is unknown, so nobody computes with it.
    pub change: String,
    pub last_updated: Timestamp,
}

/// Why one item of a page cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ItemFault {
    NotAnObject,
    Symbol,
    /// Absent, a string, zero, negative, or more digits than fit exactly.
    Price,
    Change,
    LastUpdated,
    /// `lastUpdated` lies so far ahead that accepting it would freeze the symbol.
    FromTheFuture,
    /// An older `lastUpdated` than the quote that we hold, with another price.
    Older,
    /// The symbol was listed twice; the newer one is kept. Counted, but not a bad item.
    DuplicateSymbol,
}

impl ItemFault {
    pub const ALL: [Self; 8] = [
        Self::NotAnObject,
        Self::Symbol,
        Self::Price,
        Self::Change,
        Self::LastUpdated,
        Self::FromTheFuture,
        Self::Older,
        Self::DuplicateSymbol,
    ];

    /// Stable label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAnObject => "not_an_object",
            Self::Symbol => "symbol",
            Self::Price => "price",
            Self::Change => "change",
            Self::LastUpdated => "last_updated",
            Self::FromTheFuture => "from_the_future",
            Self::Older => "older",
            Self::DuplicateSymbol => "duplicate_symbol",
        }
    }
}

/// An item that is left out of this crawl. Without a readable symbol nobody knows whose it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadItem {
    pub symbol: Option<Symbol>,
    pub fault: ItemFault,
}

/// One page of `GET /stocks`.
#[derive(Debug, Clone)]
pub struct VendorPage {
    pub items: Vec<Result<VendorItem, BadItem>>,
    /// `None` ends the crawl: the field was absent, `null` or `""`.
    pub next_token: Option<String>,
    /// Size of the body, for the crawl's byte limit.
    pub bytes: usize,
}

/// Why a 2xx body of `GET /stocks` is not a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageFault {
    Unreadable,
    EnvelopeStatus,
    TokenTooLong,
}

#[derive(Deserialize)]
struct WirePage<'a> {
    status: u16,
    #[serde(borrow)]
    data: Option<WireData<'a>>,
}

#[derive(Deserialize)]
struct WireData<'a> {
    #[serde(borrow, deserialize_with = "items::at_most")]
    items: Vec<&'a RawValue>,
    #[serde(rename = "nextToken", default)]
    next_token: Option<String>,
}

#[derive(Deserialize)]
struct WireItem<'a> {
    #[serde(borrow, default)]
    symbol: Option<&'a RawValue>,
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    sector: Option<&'a RawValue>,
    #[serde(borrow, default)]
    price: Option<&'a RawValue>,
    #[serde(borrow, default)]
    change: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "lastUpdated")]
    last_updated: Option<&'a RawValue>,
}

pub(crate) fn parse_page(body: &[u8]) -> Result<VendorPage, PageFault> {
    let page: WirePage<'_> = serde_json::from_slice(body).map_err(|_| PageFault::Unreadable)?;
    if page.status != 200 {
        return Err(PageFault::EnvelopeStatus);
    }
    let data = page.data.ok_or(PageFault::Unreadable)?;
    let next_token = data.next_token.filter(|token| !token.is_empty());
    if next_token
        .as_ref()
        .is_some_and(|token| token.len() > TOKEN_BYTES_MAX)
    {
        return Err(PageFault::TokenTooLong);
    }
    let items = data.items.into_iter().map(parse_item).collect();
    Ok(VendorPage {
        items,
        next_token,
        bytes: body.len(),
    })
}

fn parse_item(raw: &RawValue) -> Result<VendorItem, BadItem> {
    let nameless = |fault| BadItem { symbol: None, fault };
    let item: WireItem<'_> = serde_json::from_str(raw.get()).map_err(|_| nameless(ItemFault::NotAnObject))?;
    let symbol = text(item.symbol)
        .and_then(|symbol| Symbol::parse(&symbol).ok())
        .ok_or_else(|| nameless(ItemFault::Symbol))?;
    let bad = |fault| BadItem {
        symbol: Some(symbol.clone()),
        fault,
    };

    let price = number_text(item.price)
        .and_then(|digits| Price::parse(digits).ok())
        .ok_or_else(|| bad(ItemFault::Price))?;
    let change = number_text(item.change)
        .and_then(|digits| fuse_domain::number_text(digits).ok())
        .ok_or_else(|| bad(ItemFault::Change))?;
    let last_updated = text(item.last_updated)
        .and_then(|time| time.parse::<Timestamp>().ok())
        // As exact as the store keeps it, so that every replica serves the same bytes.
        .and_then(|time| Timestamp::from_millisecond(time.as_millisecond()).ok())
        .ok_or_else(|| bad(ItemFault::LastUpdated))?;
    Ok(VendorItem {
        name: shown(item.name),
        sector: shown(item.sector),
        price,
        change,
        last_updated,
        symbol,
    })
}

/// A JSON string's text; `None` for every other kind of value.
fn text(raw: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(raw?.get()).ok()
}

/// Text that is only shown: absent or not a string is empty, because a missing name is no reason
/// to do without a price.
fn shown(raw: Option<&RawValue>) -> String {
    text(raw)
        .unwrap_or_default()
        .chars()
        .take(TEXT_CHARS_MAX)
        .collect()
}

/// The digits of a JSON number as sent; `None` for every other kind of value, strings included.
pub(crate) fn number_text(raw: Option<&RawValue>) -> Option<&str> {
    let digits = raw?.get();
    digits
        .starts_with(|c: char| c == '-' || c.is_ascii_digit())
        .then_some(digits)
}

/// The vendor's answer to a buy, as far as it could be read.
#[derive(Debug, PartialEq)]
pub(crate) struct OrderAnswer {
    pub symbol: String,
    pub price: Price,
    pub quantity: Quantity,
    /// Probably float arithmetic: evidence, never used.
    pub total: Option<String>,
}

/// What a complete 2xx body of a buy says.
#[derive(Debug, PartialEq)]
pub(crate) enum BuyBody {
    Order(OrderAnswer),
    /// JSON with an envelope status other than 200.
    OtherStatus,
    Unreadable,
}

#[derive(Deserialize)]
struct WireBuy<'a> {
    status: u16,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireBuyData<'a> {
    #[serde(borrow)]
    order: WireOrder<'a>,
}

#[derive(Deserialize)]
struct WireOrder<'a> {
    symbol: String,
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    quantity: &'a RawValue,
    #[serde(borrow, default)]
    total: Option<&'a RawValue>,
}

pub(crate) fn parse_buy(body: &[u8]) -> BuyBody {
    let Ok(answer) = serde_json::from_slice::<WireBuy<'_>>(body) else {
        return BuyBody::Unreadable;
    };
    if answer.status != 200 {
        return BuyBody::OtherStatus;
    }
    match answer.data.and_then(parse_order) {
        Some(order) => BuyBody::Order(order),
        None => BuyBody::Unreadable,
    }
}

fn parse_order(data: &RawValue) -> Option<OrderAnswer> {
    let WireBuyData { order } = serde_json::from_str(data.get()).ok()?;
    Some(OrderAnswer {
        price: Price::parse(number_text(Some(order.price))?).ok()?,
        quantity: Quantity::parse(number_text(Some(order.quantity))?).ok()?,
        total: number_text(order.total)
            .filter(|digits| digits.len() <= TOTAL_BYTES_MAX)
            .map(str::to_owned),
        symbol: order.symbol,
    })
}

/// Whether a refusal's body is a JSON object whose `status`, if present, agrees with HTTP's.
pub(crate) fn refusal_agrees(body: &[u8], http_status: u16) -> bool {
    #[derive(Deserialize)]
    struct Refusal<'a> {
        #[serde(borrow, default, deserialize_with = "present")]
        status: Option<&'a RawValue>,
    }
    // A present `null` must not read as absent: it is a status that does not agree.
    fn present<'de: 'a, 'a, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<&'a RawValue>, D::Error> {
        <&RawValue>::deserialize(deserializer).map(Some)
    }
    // A derived struct would take a JSON array as well.
    if !body.trim_ascii_start().starts_with(b"{") {
        return false;
    }
    match serde_json::from_slice::<Refusal<'_>>(body) {
        Ok(Refusal { status: None }) => true,
        Ok(Refusal { status: Some(raw) }) => raw.get() == http_status.to_string(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(items: &str) -> VendorPage {
        let body = format!(r#"{{"status":200,"data":{{"items":[{items}]}}}}"#);
        parse_page(body.as_bytes()).expect("a page")
    }

    fn item(price: &str) -> Result<VendorItem, BadItem> {
        let item = format!(
            r#"{{"symbol":"AAPL","name":"Apple","sector":"Tech","price":{price},"change":-0.50,"lastUpdated":"2026-01-02T03:04:05.678901Z","extra":[{{}}]}}"#
        );
        page(&item).items.remove(0)
    }

    #[test]
    fn prices_are_read_exactly_or_not_at_all() {
        let vectors = [
            ("0.2475", Some("0.2475")),
            ("19.71107", Some("19.71107")),
            ("123.45000000000002", Some("123.45000000000002")),
            ("1e-5", Some("0.00001")),
            ("220.670", Some("220.67")),
            ("0", None),
            ("-1", None),
            ("\"12.5\"", None),
            ("null", None),
            ("true", None),
            ("1e400", None),
            ("0.12345678901234567890123456789", None),
        ];
        for (sent, expected) in vectors {
            let got = item(sent);
            match expected {
                Some(text) => assert_eq!(got.expect(sent).price.to_string(), text, "{sent}"),
                None => assert_eq!(got.expect_err(sent).fault, ItemFault::Price, "{sent}"),
            }
        }
    }

    #[test]
    fn a_good_item_keeps_every_text() {
        let item = item("1.10").expect("a good item");
        assert_eq!(item.symbol.as_str(), "AAPL");
        assert_eq!((item.name.as_str(), item.sector.as_str()), ("Apple", "Tech"));
        assert_eq!(item.change, "-0.5");
        assert_eq!(item.last_updated.to_string(), "2026-01-02T03:04:05.678Z");
    }

    #[test]
    fn a_bad_item_names_its_fault_and_its_symbol() {
        let time = r#""lastUpdated":"2026-01-02T03:04:05Z""#;
        let vectors = [
            ("7".to_owned(), ItemFault::NotAnObject, false),
            (
                format!(r#"{{"price":1,"change":0,{time}}}"#),
                ItemFault::Symbol,
                false,
            ),
            (
                format!(r#"{{"symbol":"ÄÖ","price":1,"change":0,{time}}}"#),
                ItemFault::Symbol,
                false,
            ),
            (
                format!(r#"{{"symbol":"A","change":0,{time}}}"#),
                ItemFault::Price,
                true,
            ),
            (
                format!(r#"{{"symbol":"A","price":1,"change":"0",{time}}}"#),
                ItemFault::Change,
                true,
            ),
            (
                r#"{"symbol":"A","price":1,"change":0}"#.to_owned(),
                ItemFault::LastUpdated,
                true,
            ),
            (
                r#"{"symbol":"A","price":1,"change":0,"lastUpdated":"yesterday"}"#.to_owned(),
                ItemFault::LastUpdated,
                true,
            ),
        ];
        for (sent, fault, named) in vectors {
            let bad = page(&sent).items.remove(0).expect_err(&sent);
            assert_eq!((bad.fault, bad.symbol.is_some()), (fault, named), "{sent}");
        }
    }

    #[test]
    fn the_last_page_is_absent_null_or_empty() {
        for token in ["", r#","nextToken":null"#, r#","nextToken":"""#] {
            let body = format!(r#"{{"status":200,"data":{{"items":[]{token}}}}}"#);
            assert_eq!(
                parse_page(body.as_bytes()).expect(token).next_token,
                None,
                "{token}"
            );
        }
        let body = br#"{"status":200,"data":{"items":[],"nextToken":"a+/="}}"#;
        assert_eq!(
            parse_page(body).expect("page").next_token.as_deref(),
            Some("a+/=")
        );
    }

    #[test]
    fn what_is_no_page_is_refused() {
        let deep = format!(r#"{{"status":200,"data":{{"items":{}"#, "[".repeat(100_000));
        let long = format!(
            r#"{{"status":200,"data":{{"items":[],"nextToken":"{}"}}}}"#,
            "t".repeat(TOKEN_BYTES_MAX + 1)
        );
        let vectors: [(&str, PageFault); 8] = [
            ("", PageFault::Unreadable),
            ("<html>", PageFault::Unreadable),
            (
                r#"{"status":200,"data":{"items":[{"symbol":"A""#,
                PageFault::Unreadable,
            ),
            (r#"{"status":200}"#, PageFault::Unreadable),
            (r#"{"status":200,"data":{}}"#, PageFault::Unreadable),
            (r#"{"status":500,"message":"no"}"#, PageFault::EnvelopeStatus),
            (&deep, PageFault::Unreadable),
            (&long, PageFault::TokenTooLong),
        ];
        for (body, fault) in vectors {
            assert_eq!(
                parse_page(body.as_bytes()).expect_err("no page"),
                fault,
                "{body:.60}"
            );
        }
    }

    #[test]
    fn a_refusal_agrees_only_as_an_object_with_the_same_status() {
        let vectors = [
            (r#"{"status":400,"message":"Price validation failed"}"#, true),
            (r#"{"message":"Forbidden"}"#, true),
            (r#" {"a":1}"#, true),
            (r#"{"status":500}"#, false),
            (r#"{"status":null}"#, false),
            (r#"{"status":"400"}"#, false),
            ("[400]", false),
            ("", false),
            ("<html>400</html>", false),
            (r#"{"status":400"#, false),
        ];
        for (body, agrees) in vectors {
            assert_eq!(refusal_agrees(body.as_bytes(), 400), agrees, "{body}");
        }
    }
}
