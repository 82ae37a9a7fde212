//! `GET /v1/users/{userId}/portfolios`: the portfolios of a user.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::{Reader, user_not_found};
use crate::input::{Params, PathId};
use crate::page_token::{FilterHash, List};
use crate::portfolio_body::PortfolioSummary;
use crate::problem::ApiError;
use crate::state::AppState;

const LIMIT_DEFAULT: u16 = 50;
const LIMIT_MAX: u16 = 200;

/// A page of portfolios.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortfolioList {
    /// The default portfolio first, then in the order of their making.
    items: Vec<PortfolioSummary>,
    /// Send it as `pageToken` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// List the portfolios of a user
#[utoipa::path(
    get, path = "/v1/users/{userId}/portfolios", tag = "portfolios",
    params(
        ("userId" = uuid::Uuid, Path),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 200, description = "Portfolios on a page, 50 when absent"),
        ("pageToken" = Option<String>, Query, description = "`nextPageToken` of the page before"),
    ),
    responses((status = 200, body = PortfolioList), (status = 404, description = "`user_not_found`"))
)]
pub async fn portfolios_list(
    State(state): State<AppState>,
    Reader(caller): Reader,
    PathId(user_id): PathId,
    mut params: Params,
) -> Result<Json<PortfolioList>, ApiError> {
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX);
    let token = params.text("pageToken");
    params.finish()?;
    let user_id = user_id.ok_or_else(user_not_found)?;
    caller.check_sees(user_id)?;
    let hash = FilterHash::of(List::Portfolios, [Some(user_id.to_string().as_str())]);
    let after = token
        .map(|token| state.tokens.open_id(hash, &token))
        .transpose()?;
    let mut found = state.ledger.portfolios(user_id, after, limit + 1).await?;
    if found.is_empty() && after.is_none() && !state.ledger.user_exists(user_id).await? {
        return Err(user_not_found());
    }
    let has_more = found.len() > usize::from(limit);
    found.truncate(usize::from(limit));
    let last = found.last().filter(|_| has_more).map(|last| last.id);
    Ok(Json(PortfolioList {
        items: found.iter().map(PortfolioSummary::from).collect(),
        next_page_token: last.map(|id| state.tokens.seal(hash, id.as_bytes())),
    }))
}
