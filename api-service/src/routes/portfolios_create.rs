//! `POST /v1/users/{userId}/portfolios`: one more portfolio.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use fuse_ledger::NewPortfolio;
use http::{StatusCode, header};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::auth::{Trader, user_not_found};
use crate::input::{Fields, JsonBody, Params, PathId};
use crate::portfolio_body::PortfolioSummary;
use crate::problem::ApiError;
use crate::state::AppState;

const NAME_MAX_CHARS: usize = 200;

/// A portfolio to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPortfolio)]
#[expect(dead_code, reason = "the shape for the description of the interface")]
pub struct NewPortfolioBody {
    #[schema(max_length = 200, example = "Savings")]
    name: String,
}

/// Make a portfolio
///
/// Every user has a default portfolio already, which has the user's id. A repeat makes another portfolio.
#[utoipa::path(
    post, path = "/v1/users/{userId}/portfolios", tag = "portfolios", request_body = NewPortfolioBody,
    params(("userId" = uuid::Uuid, Path)),
    responses(
        (status = 201, body = PortfolioSummary, headers(("Location" = String))),
        (status = 404, description = "`user_not_found`"),
        (status = 422, description = "`invalid_fields`"),
    )
)]
pub async fn portfolios_create(
    State(state): State<AppState>,
    Trader(caller): Trader,
    PathId(user_id): PathId,
    params: Params,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    params.finish()?;
    let user_id = user_id.ok_or_else(user_not_found)?;
    caller.check_sees(user_id)?;
    let name = read(&body)?;
    let new = NewPortfolio {
        id: Uuid::now_v7(),
        user_id,
        name,
        created_at: Timestamp::now(),
    };
    let made = state
        .ledger
        .create_portfolio(new)
        .await?
        .ok_or_else(user_not_found)?;
    let location = format!("/v1/portfolios/{}", made.id);
    let body = Json(PortfolioSummary::from(&made));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], body).into_response())
}

fn read(body: &[u8]) -> Result<String, ApiError> {
    let mut fields = Fields::parse(body)?;
    let name = fields.text("name", "what to call the portfolio");
    let name = name.and_then(|name| fields.label("name", name, NAME_MAX_CHARS));
    fields.finish()?;
    name.ok_or_else(|| ApiError::internal("the name is absent and nobody complained"))
}
