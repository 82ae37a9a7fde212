//! `GET /v1/portfolios/{id}/history`: what was bought for a portfolio.

use axum::Json;
use axum::extract::State;
use fuse_ledger::PortfolioFill;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::auth::Reader;
use crate::input::{Params, PathId};
use crate::page_token::{FilterHash, List};
use crate::portfolio_body::not_found;
use crate::problem::ApiError;
use crate::state::AppState;

const LIMIT_DEFAULT: u16 = 50;
const LIMIT_MAX: u16 = 200;

/// A page of purchases.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortfolioHistory {
    /// That of the newest order first.
    items: Vec<PurchaseBody>,
    /// Send it as `pageToken` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// One purchase. The holdings are the sum of all of them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Purchase)]
pub struct PurchaseBody {
    order_id: Uuid,
    #[schema(example = "AAPL")]
    symbol: String,
    #[schema(example = "4.5")]
    quantity: String,
    #[schema(example = "150.25")]
    price: String,
    /// The exact product.
    #[schema(example = "676.125")]
    total: String,
    /// When it was booked.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The outcome of the order was unknown at first, and was found out later.
    resolution: bool,
}

impl From<&PortfolioFill> for PurchaseBody {
    fn from(bought: &PortfolioFill) -> Self {
        Self {
            order_id: bought.order_id,
            symbol: bought.symbol.as_str().to_owned(),
            quantity: bought.fill.quantity.to_string(),
            price: bought.fill.price.to_string(),
            total: bought.fill.total.to_string(),
            at: bought.at,
            resolution: bought.is_resolution,
        }
    }
}

/// List the purchases of a portfolio
///
/// In the order in which their orders were placed, newest first. What is bought during a walk may not be part of it.
#[utoipa::path(
    get, path = "/v1/portfolios/{id}/history", tag = "portfolios",
    params(
        ("id" = Uuid, Path),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 200, description = "Purchases on a page, 50 when absent"),
        ("pageToken" = Option<String>, Query, description = "`nextPageToken` of the page before"),
    ),
    responses(
        (status = 200, body = PortfolioHistory),
        (status = 400, description = "`invalid_query`, `invalid_page_token`"),
        (status = 404, description = "`portfolio_not_found`"),
    )
)]
pub async fn portfolio_history(
    State(state): State<AppState>,
    Reader(caller): Reader,
    PathId(id): PathId,
    mut params: Params,
) -> Result<Json<PortfolioHistory>, ApiError> {
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX);
    let token = params.text("pageToken");
    params.finish()?;
    let id = id.ok_or_else(not_found)?;
    let hash = FilterHash::of(List::History, [Some(id.to_string().as_str())]);
    let after = token
        .map(|token| state.tokens.open_id(hash, &token))
        .transpose()?;
    let user_id = state
        .ledger
        .portfolio_owner(caller.only_user(), id)
        .await?
        .ok_or_else(not_found)?;
    let page = state.ledger.portfolio_history(user_id, id, after, limit).await?;
    Ok(Json(PortfolioHistory {
        items: page.items.iter().map(PurchaseBody::from).collect(),
        next_page_token: page.next.map(|id| state.tokens.seal(hash, id.as_bytes())),
    }))
}
