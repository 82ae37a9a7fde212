//! What a client is told about an order: made once, stored with the order, given again for every repeat.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use fuse_domain::{Outcome, Reason, Rejection};
use fuse_ledger::{Order, StoredAnswer};
use fuse_market::Buy;
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use uuid::Uuid;

use super::OrderBody;
use super::day::Day;
use crate::http::{Rendered, RequestContext};
use crate::problem::{Code, FieldCode, FieldError, MEDIA_TYPE, Place, Problem, RETRY_AFTER_DEFAULT_SECS};

/// An answer with its final bytes.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status and body, as stored.
    pub stored: StoredAnswer,
    /// It was given before, to the first request with the same key.
    pub is_replay: bool,
    /// Seconds of `Retry-After`.
    pub retry_after_secs: Option<u64>,
    /// The order, for `Location`.
    pub order_id: Option<Uuid>,
    /// What the log and the metrics are told of a failure.
    problem: Option<Problem>,
}

impl Answer {
    /// The order itself: 201 when filled, 202 while nobody knows.
    #[must_use]
    pub fn order(status: StatusCode, order: &Order) -> Self {
        let body = serde_json::to_string(&OrderBody::from(order)).expect("an order always serializes");
        Self {
            stored: StoredAnswer {
                status: status.as_u16(),
                body,
            },
            is_replay: false,
            retry_after_secs: None,
            order_id: Some(order.id),
            problem: None,
        }
    }

    /// A problem document about an order that was recorded.
    #[must_use]
    pub fn problem(mut problem: Problem, order_id: Uuid, context: &RequestContext) -> Self {
        problem.order_id = Some(order_id);
        Self {
            stored: StoredAnswer {
                status: problem.code.status().as_u16(),
                body: problem.render(&context.request_id, &context.instance),
            },
            is_replay: false,
            retry_after_secs: problem.retry_after_secs,
            order_id: Some(order_id),
            problem: Some(problem),
        }
    }

    /// What was stored in this answer's place, by whoever settled the order before us.
    #[must_use]
    pub fn first(stored: StoredAnswer) -> Self {
        Self {
            is_replay: false,
            ..Self::replay(stored)
        }
    }

    /// The answer of the first request, again.
    #[must_use]
    pub fn replay(stored: StoredAnswer) -> Self {
        let retry_after_secs = match StatusCode::from_u16(stored.status) {
            Ok(StatusCode::SERVICE_UNAVAILABLE) => Some(RETRY_AFTER_DEFAULT_SECS),
            // A limit of a day: whichever day the answer is from, tomorrow is another one.
            Ok(StatusCode::TOO_MANY_REQUESTS) => {
                let now = Timestamp::now();
                Some(Day::of(now).secs_left(now))
            }
            _ => None,
        };
        Self {
            stored,
            is_replay: true,
            retry_after_secs,
            order_id: None,
            problem: None,
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.stored.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let is_failure = status.is_client_error() || status.is_server_error();
        let mut response = Response::new(Body::from(self.stored.body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let media_type = if is_failure {
            MEDIA_TYPE
        } else {
            "application/json"
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.is_replay {
            headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
        }
        if let Some(seconds) = self.retry_after_secs {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(id) = self.order_id {
            let location = HeaderValue::from_str(&format!("/v1/orders/{id}"));
            headers.insert(header::LOCATION, location.expect("an id is visible ASCII"));
        }
        if let Some(problem) = self.problem {
            response.extensions_mut().insert(problem);
        }
        response.extensions_mut().insert(Rendered);
        response
    }
}

/// Why an order was not sent to the vendor. `is_by_amount`: its quantity was made from an amount of money.
#[must_use]
pub fn rejection_problem(rejection: &Rejection, is_by_amount: bool) -> Problem {
    let field = |code: Code, pointer: &str, detail: String| {
        let entry = FieldError::new(Place::Body, pointer, FieldCode::Refused, detail.clone());
        Problem::new(code, detail).with_errors(vec![entry])
    };
    match rejection {
        Rejection::UnknownSymbol => field(
            Code::UnknownSymbol,
            "/symbol",
            "The vendor lists no stock with this symbol; symbols are case-sensitive.".to_owned(),
        ),
        Rejection::PriceOutOfBand { quote, low, high } => field(
            Code::PriceOutOfBand,
            "/limitPrice",
            format!(
                "The limit price must be from {} to {}, both allowed; the quote is {quote}.",
                fuse_domain::decimal_text(*low),
                fuse_domain::decimal_text(*high),
            ),
        ),
        Rejection::NotionalTooLarge { max } => field(
            Code::NotionalTooLarge,
            if is_by_amount { "/notional" } else { "/quantity" },
            format!("Price times quantity must be at most {max}."),
        ),
        Rejection::QuoteStale { age_secs, max_secs } => Problem::new(
            Code::QuoteStale,
            format!(
                "The quote of this stock is {age_secs} s old and orders need one of at most {max_secs} s. Try again with a new Idempotency-Key."
            ),
        )
        .retry_after(10),
        Rejection::NoMarketData => Problem::new(
            Code::NoMarketData,
            "No prices have been received from the vendor yet, so no order can be checked. Try again with a new Idempotency-Key.",
        )
        .retry_after(5),
    }
}

/// The answer to what the vendor made of an order, where `order` is the settled order. `is_fetching`: prices are being
/// fetched because of it.
#[must_use]
pub fn outcome_answer(bought: &Buy, order: &Order, is_fetching: bool, context: &RequestContext) -> Answer {
    match &bought.outcome {
        Outcome::Filled(_) => Answer::order(StatusCode::CREATED, order),
        Outcome::Unknown(_) => Answer::order(StatusCode::ACCEPTED, order),
        Outcome::Failed(_) if bought.is_bad_request() => {
            Answer::problem(price_refused_problem(order, is_fetching), order.id, context)
        }
        Outcome::Failed(reason) => {
            Answer::problem(failure_problem(*reason, bought.retry_after), order.id, context)
        }
    }
}

/// Our quote allowed the price and the vendor did not: the quote is the likeliest to be wrong, and it is said which.
fn price_refused_problem(order: &Order, is_fetching: bool) -> Problem {
    let quote = order.quote.as_ref().map_or_else(String::new, |quote| {
        format!(" {} of {}", quote.price, quote.as_of)
    });
    let fetching = if is_fetching {
        ": prices are being fetched anew"
    } else {
        ""
    };
    let detail = format!(
        "The vendor refused the order; nothing was bought. The price was within the band of our quote{quote}, so the vendor's price has \
         probably moved since{fetching}. Read the stock again and order with a new Idempotency-Key.",
    );
    let entry = FieldError::new(Place::Body, "/limitPrice", FieldCode::Refused, detail.clone());
    Problem::new(Code::VendorRejected, detail).with_errors(vec![entry])
}

fn failure_problem(reason: Reason, retry_after: Option<Duration>) -> Problem {
    let (code, detail) = match reason {
        Reason::VendorForbidden => (
            Code::VendorForbidden,
            "The vendor does not accept the service's own key, so nothing was bought. The operators of the service must act.",
        ),
        Reason::VendorThrottled => (
            Code::VendorThrottled,
            "The vendor refused the order because of too many calls; nothing was bought. Try again later with a new Idempotency-Key.",
        ),
        Reason::VendorUnreachable => (
            Code::VendorUnreachable,
            "The vendor could not be reached in time; the order was never sent and nothing was bought. Try again later with a new Idempotency-Key.",
        ),
        _ => (
            Code::VendorRejected,
            "The vendor refused the order; nothing was bought. Its price may have moved: read the stock again and order with a new \
             Idempotency-Key.",
        ),
    };
    let problem = Problem::new(code, detail);
    match retry_after {
        Some(wait) if problem.retry_after_secs.is_some() => {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            problem.retry_after(seconds.max(1))
        }
        _ => problem,
    }
}

/// What is stored as the answer to an order that was given up: whoever repeats its request learns that nobody knows.
#[must_use]
pub fn unknown_answer(order: &Order) -> StoredAnswer {
    Answer::order(StatusCode::ACCEPTED, order).stored
}

/// The answer when the outcome could not be stored yet.
#[must_use]
pub fn kept_answer(order: &Order) -> Answer {
    Answer::order(StatusCode::ACCEPTED, order)
}
