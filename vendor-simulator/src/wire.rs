//! The vendor's answers as bytes.

use bytes::Bytes;
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::rules::Body;

const JSON: &str = "application/json";

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

/// One item of a list page.
pub(crate) struct Item<'a> {
    pub(crate) symbol: &'a str,
    pub(crate) name: &'a str,
    pub(crate) sector: &'a str,
    pub(crate) price: Decimal,
    pub(crate) change: Decimal,
    pub(crate) last_updated: String,
}

pub(crate) fn page(items: &[Item<'_>], next_token: Option<&str>) -> Answer {
    let items: Vec<String> = items
        .iter()
        .map(|item| {
            format!(
                "{{\"symbol\":{},\"name\":{},\"sector\":{},\"price\":{},\"change\":{},\"lastUpdated\":{}}}",
                json_string(item.symbol),
                json_string(item.name),
                json_string(item.sector),
                item.price.normalize(),
                item.change.normalize(),
                json_string(&item.last_updated),
            )
        })
        .collect();
    let token = next_token.map_or_else(String::new, |token| {
        format!(",\"nextToken\":{}", json_string(token))
    });
    Answer::json(
        200,
        format!(
            "{{\"status\":200,\"data\":{{\"items\":[{}]{token}}}}}",
            items.join(",")
        ),
    )
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

/// The success answer. `total` comes from double maths, as it probably does at the vendor: 0.2475 * 3 gives 0.7424999999999999.
pub(crate) fn bought(symbol: &str, price: &Number, quantity: &Number) -> Answer {
    let total = price.double() * quantity.double();
    Answer::json(
        200,
        format!(
            "{{\"status\":200,\"message\":\"Order placed successfully\",\"data\":{{\"order\":{{\"symbol\":{},\"quantity\":{},\"price\":{},\"total\":{total}}}}}}}",
            json_string(symbol),
            quantity.value.normalize(),
            price.value.normalize(),
        ),
    )
}
