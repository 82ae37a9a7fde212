//! What a buy came to: the table of the vendor contract, in one place.
//!
//! Definite are only a full success, a clear refusal, and provably not sent. Everything else is
//! `unknown`: the vendor may have executed the order, so nobody may send it again.

use std::time::Duration;

use fuse_domain::{Fill, Outcome, Price, Quantity, Reason, Symbol};
use jiff::Timestamp;
use serde::Serialize;

use super::body::Body;
use super::wire::{self, BuyBody};

/// How far one attempt got. Only `NotSent` may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reached {
    /// No byte of the request left this process.
    NotSent,
    /// Bytes may have left; no status line came back.
    Sent,
    /// The vendor answered with a status.
    Answered,
}

/// One attempt of a buy, kept with the order as evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BuyAttempt {
    pub at: Timestamp,
    pub millis: u64,
    pub reached: Reached,
    /// Short and stable, without addresses or bodies: `connect`, `timeout`, `http 500`.
    pub detail: String,
    /// The total that the vendor named, text as sent. Evidence only: ours is the exact product.
    #[serde(rename = "vendorTotal", skip_serializing_if = "Option::is_none")]
    pub vendor_total: Option<String>,
}

/// What a buy came to, with everything needed to record and answer it.
#[derive(Debug, Clone, PartialEq)]
pub struct Buy {
    pub outcome: Outcome,
    /// In order; at most the last one reached further than `NotSent`.
    pub attempts: Vec<BuyAttempt>,
    /// Of the vendor's answer, if there was one.
    pub status: Option<u16>,
    /// From the vendor's `Retry-After`, or until the breaker lets a call through.
    pub retry_after: Option<Duration>,
}

impl Buy {
    /// No byte of the order left this process.
    pub fn not_sent(attempts: Vec<BuyAttempt>, retry_after: Option<Duration>) -> Self {
        Self {
            outcome: Outcome::Failed(Reason::VendorUnreachable),
            attempts,
            status: None,
            retry_after,
        }
    }

    /// The order had become too old before it was sent.
    pub fn too_late(at: Timestamp) -> Self {
        let attempt = BuyAttempt {
            at,
            millis: 0,
            reached: Reached::NotSent,
            detail: "too late".to_owned(),
            vendor_total: None,
        };
        Self::not_sent(vec![attempt], None)
    }

    /// Whether the vendor refused the order with 400: its own check of price or quantity failed. Status and shape only;
    /// what the text says decides nothing.
    pub fn is_bad_request(&self) -> bool {
        self.outcome == Outcome::Failed(Reason::VendorRejected) && self.status == Some(400)
    }
}

/// The verdict on one answered attempt.
#[derive(Debug, PartialEq)]
pub(super) struct Verdict {
    pub outcome: Outcome,
    pub vendor_total: Option<String>,
}

impl Verdict {
    fn unknown(reason: Reason) -> Self {
        Self {
            outcome: Outcome::Unknown(reason),
            vendor_total: None,
        }
    }

    fn failed(reason: Reason) -> Self {
        Self {
            outcome: Outcome::Failed(reason),
            vendor_total: None,
        }
    }
}

/// Judges an answer by status and shape, never by message text.
pub(super) fn judge(status: u16, body: &Body, symbol: &Symbol, quantity: Quantity) -> Verdict {
    match status {
        200..=299 => judge_success(body, symbol, quantity),
        500..=599 => Verdict::unknown(Reason::VendorServerError),
        400 | 401 | 403 | 404 | 405 | 413 | 415 | 422 | 429 => judge_refusal(status, body),
        _ => Verdict::unknown(Reason::VendorUnexpected),
    }
}

fn judge_success(body: &Body, symbol: &Symbol, quantity: Quantity) -> Verdict {
    let bytes = match body {
        Body::Complete(bytes) => bytes,
        Body::TimedOut => return Verdict::unknown(Reason::VendorTimeout),
        Body::Truncated | Body::TooLarge | Body::Encoded => {
            return Verdict::unknown(Reason::VendorUnreadable);
        }
    };
    let order = match wire::parse_buy(bytes) {
        BuyBody::Order(order) => order,
        BuyBody::OtherStatus => return Verdict::unknown(Reason::VendorUnexpected),
        BuyBody::Unreadable => return Verdict::unknown(Reason::VendorUnreadable),
    };
    if order.symbol != symbol.as_str() || order.quantity != quantity {
        return Verdict::unknown(Reason::VendorMismatch);
    }
    // A product that does not fit exactly cannot be booked; a person has to look at it.
    let Ok(fill) = Fill::new(order.price, quantity) else {
        return Verdict::unknown(Reason::VendorMismatch);
    };
    Verdict {
        outcome: Outcome::Filled(fill),
        vendor_total: order.total,
    }
}

fn judge_refusal(status: u16, body: &Body) -> Verdict {
    let bytes = match body {
        Body::Complete(bytes) => bytes,
        Body::TimedOut => return Verdict::unknown(Reason::VendorTimeout),
        Body::Truncated | Body::TooLarge | Body::Encoded => {
            return Verdict::unknown(Reason::VendorUnreadable);
        }
    };
    // A proxy's HTML page with status 404 says nothing about our order.
    if !wire::refusal_agrees(bytes, status) {
        return Verdict::unknown(Reason::VendorUnreadable);
    }
    Verdict::failed(match status {
        401 | 403 => Reason::VendorForbidden,
        429 => Reason::VendorThrottled,
        _ => Reason::VendorRejected,
    })
}

/// Half a cent and what floating point loses: a total further from the exact product was not computed from our numbers.
const TOTAL_NOISE: (f64, f64) = (0.005, 1e-12);

/// Whether the vendor named another total than price times quantity. It decides nothing: what counts is the product.
pub(super) fn totals_differ(outcome: &Outcome, vendor_total: Option<&str>) -> bool {
    let (Some(fill), Some(text)) = (outcome.fill(), vendor_total) else {
        return false;
    };
    match (text.parse::<f64>(), fill.total.to_string().parse::<f64>()) {
        (Ok(theirs), Ok(ours)) => {
            let (absolute, relative) = TOTAL_NOISE;
            (theirs - ours).abs() > absolute + ours * relative
        }
        _ => true,
    }
}

/// The body of a buy: numbers as exact decimal text without exponent, as the client gave them.
pub(super) fn request_body(price: Price, quantity: Quantity) -> String {
    format!(r#"{{"price":{price},"quantity":{quantity}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = r#"{"status":200,"message":"Order placed successfully","data":{"order":{"symbol":"AAPL","quantity":4.5,"price":19.71107,"total":88.69981500000001}}}"#;

    fn check(status: u16, body: &str) -> Outcome {
        check_body(status, &Body::Complete(body.to_owned().into()))
    }

    fn check_body(status: u16, body: &Body) -> Outcome {
        let symbol = Symbol::parse("AAPL").expect("a symbol");
        judge(status, body, &symbol, Quantity::parse("4.5").expect("a quantity")).outcome
    }

    #[test]
    fn a_matching_order_is_filled_with_our_own_product() {
        let Outcome::Filled(fill) = check(200, ORDER) else {
            panic!("not filled")
        };
        assert_eq!(fill.price.to_string(), "19.71107");
        assert_eq!(fill.total.to_string(), "88.699815");
        assert!(matches!(check(201, ORDER), Outcome::Filled(_)));
    }

    #[test]
    fn the_table_of_answered_buys() {
        use Outcome::{Failed, Unknown};
        let other_symbol = ORDER.replace("AAPL", "MSFT");
        let other_quantity = ORDER.replace("4.5", "4");
        let text_price = ORDER.replace("19.71107", r#""19.71107""#);
        let vectors = [
            (200, other_symbol.as_str(), Unknown(Reason::VendorMismatch)),
            (200, other_quantity.as_str(), Unknown(Reason::VendorMismatch)),
            (200, text_price.as_str(), Unknown(Reason::VendorUnreadable)),
            (
                200,
                r#"{"status":500,"message":"no"}"#,
                Unknown(Reason::VendorUnexpected),
            ),
            (
                200,
                r#"{"status":400,"message":"no"}"#,
                Unknown(Reason::VendorUnexpected),
            ),
            (200, r#"{"status":200}"#, Unknown(Reason::VendorUnreadable)),
            (
                200,
                r#"{"status":200,"data":{}}"#,
                Unknown(Reason::VendorUnreadable),
            ),
            (200, "", Unknown(Reason::VendorUnreadable)),
            (200, "<html>", Unknown(Reason::VendorUnreadable)),
            (204, "", Unknown(Reason::VendorUnreadable)),
            (301, "", Unknown(Reason::VendorUnexpected)),
            (307, ORDER, Unknown(Reason::VendorUnexpected)),
            (
                400,
                r#"{"status":400,"message":"x"}"#,
                Failed(Reason::VendorRejected),
            ),
            (400, r#"{"message":"x"}"#, Failed(Reason::VendorRejected)),
            (
                400,
                r#"{"status":500,"message":"x"}"#,
                Unknown(Reason::VendorUnreadable),
            ),
            (400, "<html>", Unknown(Reason::VendorUnreadable)),
            (400, "", Unknown(Reason::VendorUnreadable)),
            (401, r#"{"message":"x"}"#, Failed(Reason::VendorForbidden)),
            (402, r#"{"status":402}"#, Unknown(Reason::VendorUnexpected)),
            (403, r#"{"message":"Forbidden"}"#, Failed(Reason::VendorForbidden)),
            (
                404,
                r#"{"status":404,"message":"x"}"#,
                Failed(Reason::VendorRejected),
            ),
            (405, r#"{"status":405}"#, Failed(Reason::VendorRejected)),
            (408, r#"{"status":408}"#, Unknown(Reason::VendorUnexpected)),
            (409, r#"{"status":409}"#, Unknown(Reason::VendorUnexpected)),
            (413, r#"{"status":413}"#, Failed(Reason::VendorRejected)),
            (415, r#"{"status":415}"#, Failed(Reason::VendorRejected)),
            (422, r#"{"status":422}"#, Failed(Reason::VendorRejected)),
            (429, r#"{"status":429}"#, Failed(Reason::VendorThrottled)),
            (429, "", Unknown(Reason::VendorUnreadable)),
            (
                500,
                r#"{"status":500,"message":"x"}"#,
                Unknown(Reason::VendorServerError),
            ),
            (502, "<html>", Unknown(Reason::VendorServerError)),
            (503, "", Unknown(Reason::VendorServerError)),
            (599, ORDER, Unknown(Reason::VendorServerError)),
        ];
        for (status, body, expected) in vectors {
            assert_eq!(check(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_body_that_did_not_arrive_whole_is_unknown() {
        for status in [200, 400] {
            for (body, reason) in [
                (Body::Truncated, Reason::VendorUnreadable),
                (Body::TooLarge, Reason::VendorUnreadable),
                (Body::TimedOut, Reason::VendorTimeout),
            ] {
                assert_eq!(
                    check_body(status, &body),
                    Outcome::Unknown(reason),
                    "{status} {body:?}"
                );
            }
        }
    }

    #[test]
    fn the_request_body_is_exact_text_without_exponent() {
        for (price, quantity, body) in [
            ("0.2475", "1", r#"{"price":0.2475,"quantity":1}"#),
            ("1e-9", "4.50", r#"{"price":0.000000001,"quantity":4.5}"#),
            ("1000000000", "1e3", r#"{"price":1000000000,"quantity":1000}"#),
        ] {
            let price = Price::parse(price).expect("a price");
            let quantity = Quantity::parse(quantity).expect("a quantity");
            assert_eq!(request_body(price, quantity), body);
        }
    }
}
