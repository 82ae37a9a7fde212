//! The vendor's answers as bytes.

use bytes::Bytes;
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::action::Body;
use crate::fault::BuyFault;
use crate::items::Item;

const JSON: &str = "application/json";

/// A usual item, for the page's first allocation.
const ITEM_BYTES: usize = 192;

/// A complete answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(status: u16, body: String) -> Self {
        Self {
            status,
            headers: vec![("content-type", JSON.to_owned())],
            body: Bytes::from(body),
        }
    }

    pub(crate) fn set_header(&mut self, name: &'static str, value: &str) {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value.to_owned()));
    }

    pub(crate) fn envelope(http_status: u16, status: u16, message: &str) -> Self {
        Self::json(
            http_status,
            format!("{{\"status\":{status},\"message\":{}}}", json_string(message)),
        )
    }

    /// An error in the vendor's usual shape.
    pub(crate) fn error(status: u16, message: &str) -> Self {
        Self::envelope(status, status, message)
    }

    pub(crate) fn message_only(status: u16, message: &str) -> Self {
        Self::json(status, format!("{{\"message\":{}}}", json_string(message)))
    }

    /// The answer of a status fault.
    pub(crate) fn fault(status: u16, body: Body, retry_after: Option<&str>, location: Option<&str>) -> Self {
        let message = reason_phrase(status);
        let mut answer = match body {
            Body::Envelope => Self::error(status, message),
            Body::Message => Self::message_only(status, message),
            Body::Html => Self {
                status,
                headers: vec![("content-type", "text/html".to_owned())],
                body: Bytes::from(format!(
                    "<html><head><title>{status} {message}</title></head><body><center><h1>{status} {message}</h1></center></body></html>\n"
                )),
            },
            Body::Empty => Self {
                status,
                headers: Vec::new(),
                body: Bytes::new(),
            },
        };
        for (name, value) in [("retry-after", retry_after), ("location", location)] {
            if let Some(value) = value {
                answer.headers.push((name, value.to_owned()));
            }
        }
        answer
    }
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        500 => "Internal server error",
        _ => http::StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("Unknown"),
    }
}

/// A JSON string literal.
pub(crate) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The token of a page.
#[derive(Debug)]
pub(crate) enum NextToken {
    Absent,
    Null,
    Text(String),
}

pub(crate) fn page(items: &[Item], next_token: &NextToken) -> Answer {
    let mut text = String::with_capacity(80 + items.len() * ITEM_BYTES);
    text.push_str("{\"status\":200,\"data\":{\"items\":[");
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        item.write(&mut text);
    }
    text.push(']');
    match next_token {
        NextToken::Absent => {}
        NextToken::Null => text.push_str(",\"nextToken\":null"),
        NextToken::Text(token) => {
            text.push_str(",\"nextToken\":");
            text.push_str(&json_string(token));
        }
    }
    text.push_str("}}");
    Answer::json(200, text)
}

/// A JSON number of a buy: its text as it came, and its exact value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) text: String,
    pub(crate) value: Decimal,
}

impl Number {
    /// `None` for anything that is not a JSON number above 0 which fits 28 digits.
    fn positive(raw: Option<&RawValue>) -> Option<Self> {
        let text = raw?.get();
        if !text.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
            return None;
        }
        let value = Decimal::from_str_exact(text)
            .or_else(|_| Decimal::from_scientific(text))
            .ok()?;
        (value > Decimal::ZERO).then(|| Self {
            text: text.to_owned(),
            value,
        })
    }

    /// As the vendor calculates, so far as anyone can tell.
    pub(crate) fn double(&self) -> f64 {
        self.text.parse().unwrap_or(f64::NAN)
    }
}

#[derive(Deserialize)]
struct BuyBody<'a> {
    #[serde(borrow, default)]
    price: Option<&'a RawValue>,
    #[serde(borrow, default)]
    quantity: Option<&'a RawValue>,
}

/// A buy's body: `Err(())` when it is no JSON object; price and quantity are `None` when unusable.
pub(crate) fn parse_buy(body: &[u8]) -> Result<(Option<Number>, Option<Number>), ()> {
    let body: BuyBody<'_> = serde_json::from_slice(body).map_err(|_| ())?;
    Ok((Number::positive(body.price), Number::positive(body.quantity)))
}

/// The success answer, or what a fault makes of it. `total` comes from double maths, as it probably does at the vendor: 0.2475 * 3
/// gives 0.7424999999999999.
pub(crate) fn bought(symbol: &str, price: &Number, quantity: &Number, fault: Option<BuyFault>) -> Answer {
    let mut total = price.double() * quantity.double();
    let (mut price, mut quantity) = (price.value, quantity.value);
    match fault {
        Some(BuyFault::OtherQuantity) => quantity = quantity.saturating_add(Decimal::ONE),
        Some(BuyFault::OtherPrice) => price = price.saturating_mul(Decimal::new(101, 2)),
        Some(BuyFault::OtherTotal) => total *= 2.0,
        // The caller names the other one.
        Some(BuyFault::OtherSymbol) | None => {}
    }
    Answer::json(
        200,
        format!(
            "{{\"status\":200,\"message\":\"Order placed successfully\",\"data\":{{\"order\":{{\"symbol\":{},\"quantity\":{},\"price\":{},\"total\":{total}}}}}}}",
            json_string(symbol),
            quantity.normalize(),
            price.normalize(),
        ),
    )
}
