//! `DELETE /v1/portfolios/{id}`: a portfolio that is no longer wanted.

use axum::extract::State;
use fuse_ledger::PortfolioDeleted;
use http::StatusCode;
use jiff::Timestamp;

use crate::auth::Trader;
use crate::input::{IfMatch, Params, PathId};
use crate::portfolio_body::not_found;
use crate::problem::{ApiError, Code, FieldCode, Place};
use crate::state::AppState;

/// Delete a portfolio
///
/// Only one that holds nothing and has no open order, and not the default one. From then on it is not found; its orders stay readable.
#[utoipa::path(
    delete, path = "/v1/portfolios/{id}", tag = "portfolios",
    params(
        ("id" = uuid::Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the portfolio: it stays when it has moved since"),
    ),
    responses(
        (status = 204, description = "Deleted"),
        (status = 400, description = "`invalid_query`, `invalid_header`"),
        (status = 404, description = "`portfolio_not_found`"),
        (status = 409, description = "`portfolio_not_empty`, `default_portfolio`"),
        (status = 412, description = "`portfolio_changed`"),
    )
)]
pub async fn portfolio_delete(
    State(state): State<AppState>,
    Trader(caller): Trader,
    PathId(id): PathId,
    IfMatch(expected): IfMatch,
    params: Params,
) -> Result<StatusCode, ApiError> {
    params.finish()?;
    let id = id.ok_or_else(not_found)?;
    let deleted = state
        .ledger
        .delete_portfolio(caller.only_user(), id, expected, Timestamp::now())
        .await?;
    match deleted {
        PortfolioDeleted::Now => Ok(StatusCode::NO_CONTENT),
        PortfolioDeleted::NotFound => Err(not_found()),
        PortfolioDeleted::Changed => Err(ApiError::field(
            Code::PortfolioChanged,
            Place::Header,
            "/If-Match",
            FieldCode::Refused,
            "The portfolio is not at this version any more, or never was; it was not deleted.",
        )),
        PortfolioDeleted::NotEmpty => Err(ApiError::new(
            Code::PortfolioNotEmpty,
            "The portfolio holds something, or has orders that are submitted or unknown; it was not deleted.",
        )),
        PortfolioDeleted::IsDefault => Err(ApiError::new(
            Code::DefaultPortfolio,
            "This is the default portfolio of its user, who always has one; it was not deleted.",
        )),
    }
}
