//! `GET /v1/portfolios/{id}`: what is held, what it cost, what it is worth.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use jiff::Timestamp;

use crate::auth::Reader;
use crate::input::{Params, PathId};
use crate::market_data::current_if_any;
use crate::portfolio_body::{PortfolioBody, not_found, value};
use crate::problem::ApiError;
use crate::state::AppState;

/// Read a portfolio
///
/// Quantities and costs are exact. Values use the newest quotes, whose age is told; they are null where no quote is known. What may still be
/// bought, or may have been without being known, is in `pending` and not in the holdings.
///
/// The `ETag` is for `If-Match`. There is no 304: prices move while the version stays.
#[utoipa::path(
    get, path = "/v1/portfolios/{id}", tag = "portfolios",
    params(("id" = uuid::Uuid, Path)),
    responses(
        (status = 200, body = PortfolioBody, headers(
            ("Age" = u64, description = "Seconds since the prices were taken; absent while none are known"),
            ("ETag" = String, description = "The version of the portfolio, for `If-Match`"),
        )),
        (status = 404, description = "`portfolio_not_found`"),
    )
)]
pub async fn portfolio_get(
    State(state): State<AppState>,
    Reader(caller): Reader,
    PathId(id): PathId,
    params: Params,
) -> Result<Response, ApiError> {
    params.finish()?;
    let id = id.ok_or_else(not_found)?;
    let found = state
        .ledger
        .portfolio(caller.only_user(), id)
        .await?
        .ok_or_else(not_found)?;
    let now = Timestamp::now();
    let snapshot = current_if_any(&state, now);
    let (holdings, totals) = value(&found.holdings, snapshot.as_deref());
    let snapshot = snapshot.map(|snapshot| state.freshness.describe(&snapshot.meta, now));
    let age = snapshot.as_ref().map(|snapshot| snapshot.age_seconds);
    let version = found.portfolio.version;
    let body = PortfolioBody {
        summary: (&found.portfolio).into(),
        holdings,
        totals,
        pending: (&found.pending).into(),
        snapshot,
    };
    let mut response = Json(body).into_response();
    let etag = HeaderValue::from_str(&format!("\"{version}\"")).expect("a number is visible ASCII");
    response.headers_mut().insert(header::ETAG, etag);
    if let Some(age) = age {
        response.headers_mut().insert(header::AGE, HeaderValue::from(age));
    }
    Ok(response)
}
