//! `GET /v1/orders/{id}`: one order.

use axum::Json;
use axum::extract::State;

use crate::auth::Reader;
use crate::input::{Params, PathId};
use crate::orders::OrderBody;
use crate::problem::{ApiError, Code};
use crate::state::AppState;

/// Read one order
#[utoipa::path(
    get, path = "/v1/orders/{id}", tag = "orders",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = OrderBody), (status = 404, description = "`order_not_found`"))
)]
pub async fn order_get(
    State(state): State<AppState>,
    Reader(caller): Reader,
    PathId(id): PathId,
    params: Params,
) -> Result<Json<OrderBody>, ApiError> {
    params.finish()?;
    let id = id.ok_or_else(order_not_found)?;
    let order = state
        .ledger
        .order(caller.only_user(), id)
        .await?
        .ok_or_else(order_not_found)?;
    Ok(Json(OrderBody::from(&order)))
}

/// The 404 of an order that is not there or not the caller's.
#[must_use]
pub fn order_not_found() -> ApiError {
    ApiError::new(
        Code::OrderNotFound,
        "There is no such order, or it belongs to another user.",
    )
}
