//! Orders that were not written, because something was there before or is not there.

use fuse_ledger::Placed;

use super::Answer;
use crate::problem::{ApiError, Code, FieldCode, Place, Problem};

/// The answer to an order that was not written because something was there before.
pub(super) fn repeated(placed: Placed) -> Result<Answer, ApiError> {
    match placed {
        Placed::New(_) => Err(ApiError::internal("a new order is not a repeated one")),
        Placed::Replay(stored) => Ok(Answer::replay(stored)),
        Placed::InFlight { order_id } => {
            let mut problem = Problem::new(
                Code::IdempotencyInProgress,
                "The first request with this Idempotency-Key is still running. Send this one again shortly to get its answer. If this lasts \
                 for minutes, that request was interrupted and its outcome is not known: do not order again under a new key.",
            )
            .retry_after(1);
            problem.order_id = Some(order_id);
            Err(problem.into())
        }
        Placed::KeyReused => Err(ApiError::field(
            Code::IdempotencyKeyReused,
            Place::Header,
            "/Idempotency-Key",
            FieldCode::NotAllowed,
            "This Idempotency-Key was used for an order with other values. Use a new one for a new order.",
        )),
        Placed::ClientOrderIdTaken => Err(client_order_id_taken()),
        Placed::PortfolioNotFound => Err(portfolio_not_found()),
    }
}

/// The 422 of a name that another order has.
pub(super) fn client_order_id_taken() -> ApiError {
    ApiError::field(
        Code::InvalidFields,
        Place::Body,
        "/clientOrderId",
        FieldCode::Taken,
        "Another order of this user has this clientOrderId.",
    )
}

/// The 404 of a portfolio that is not there or not the caller's.
#[must_use]
pub fn portfolio_not_found() -> ApiError {
    ApiError::field(
        Code::PortfolioNotFound,
        Place::Body,
        "/portfolioId",
        FieldCode::NotAllowed,
        "There is no such portfolio, or it belongs to another user.",
    )
}
