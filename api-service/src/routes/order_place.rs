//! `POST /v1/orders`: buy.

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::auth::Trader;
use crate::http::RequestContext;
use crate::input::{IDEMPOTENCY_KEY, IdempotencyKeyHeader, IfMatch, JsonBody, Params};
use crate::orders::{Answer, KeyRules, NewOrder, NewOrderBody, OrderBody, PlaceOrder};
use crate::problem::ApiError;
use crate::state::AppState;

/// Place an order
///
/// The order is recorded before the vendor is called, and the vendor is called at most once for it. A repeat with the same `Idempotency-Key`
/// and values returns the first answer byte for byte, with `Idempotency-Replayed: true`. 201 says that the stock was bought; 202 that the
/// outcome is not known (yet): read the order again, never place another one instead.
#[utoipa::path(
    post, path = "/v1/orders", tag = "orders", request_body = NewOrderBody,
    params(
        ("Idempotency-Key" = String, Header, max_length = 255, description = "New for each order you want, such as a UUID"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the portfolio: the order is rejected with 412 when the portfolio has moved since. No part of what makes a repeat a repeat"),
    ),
    responses(
        (status = 201, body = OrderBody, description = "Bought", headers(("Location" = String))),
        (status = 202, body = OrderBody, description = "Unknown: it may have been bought", headers(("Location" = String))),
        (status = 400, description = "`invalid_json`, `invalid_header`"),
        (status = 404, description = "`portfolio_not_found`"),
        (status = 409, description = "`idempotency_in_progress`"),
        (status = 412, description = "`portfolio_changed`"),
        (status = 413, description = "`body_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
        (status = 422, description = "`invalid_fields`, `idempotency_key_reused`, `unknown_symbol`, `price_out_of_band`, `notional_too_large`, `vendor_rejected`"),
        (status = 429, description = "`daily_limit_reached`"),
        (status = 502, description = "`vendor_forbidden`"),
        (status = 503, description = "`quote_stale`, `no_market_data`, `vendor_unreachable`, `vendor_throttled`, `database_unavailable`"),
    )
)]
pub async fn order_place(
    State(state): State<AppState>,
    Trader(caller): Trader,
    context: RequestContext,
    params: Params,
    key: IdempotencyKeyHeader,
    IfMatch(expected_version): IfMatch,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    params.finish()?;
    let order = NewOrder::read(&body, &caller)?;
    let made_key = key.to_tell();
    let place = PlaceOrder {
        user_id: order.owner(&state, &caller).await?,
        request_sha256: order.hash(),
        order,
        rules: KeyRules::of(&caller, state.orders),
        expected_version,
        key: key.key,
        context,
    };
    let answer: Result<Answer, ApiError> = state.desk.place(place).await;
    let mut response = answer.into_response();
    if let Some(made_key) = made_key {
        // Also with a failure: only this key finds out what became of the order.
        response.headers_mut().insert(IDEMPOTENCY_KEY, made_key);
    }
    Ok(response)
}
