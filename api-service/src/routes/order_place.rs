//! `POST /v1/orders`: buy.

use axum::extract::State;
use fuse_domain::{OrderRequest, Side, Symbol};
use fuse_ledger::IdempotencyKey;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::auth::{Caller, Trader};
use crate::http::RequestContext;
use crate::input::{self, Fields, IdempotencyKeyHeader, JsonBody, Params};
use crate::orders::{Answer, OrderBody, PlaceOrder, portfolio_not_found};
use crate::problem::{ApiError, FieldCode};
use crate::state::AppState;

const CLIENT_ORDER_ID_MAX_CHARS: usize = 64;

/// What to buy. Only described here: the body is read by [`read`], which collects every mistake.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewOrder)]
#[expect(dead_code, reason = "the shape for the description of the interface")]
pub struct NewOrderBody {
    #[schema(example = "AAPL")]
    symbol: String,
    /// Always `buy`.
    #[schema(example = "buy")]
    side: String,
    /// Greater than 0, at most 9 decimals.
    #[schema(example = "4.5")]
    quantity: String,
    /// At most 2 % (configurable) from the quote; at most 9 decimals.
    #[schema(example = "150.25")]
    limit_price: String,
    /// Needed with the key of a service; absent: the default portfolio of the key's user.
    portfolio_id: Option<Uuid>,
    /// Your own name for it, unique among your orders.
    #[schema(max_length = 64)]
    client_order_id: Option<String>,
}

struct NewOrder {
    request: OrderRequest,
    portfolio_id: Option<Uuid>,
    client_order_id: Option<String>,
}

/// Place an order
///
/// The order is recorded before the vendor is called, and the vendor is called at most once for it. A repeat with the same `Idempotency-Key`
/// and values returns the first answer byte for byte, with `Idempotency-Replayed: true`. 201 says that the stock was bought; 202 that the
/// outcome is not known (yet): read the order again, never place another one instead.
#[utoipa::path(
    post, path = "/v1/orders", tag = "orders", request_body = NewOrderBody,
    params(("Idempotency-Key" = String, Header, max_length = 255, description = "New for each order you want, such as a UUID")),
    responses(
        (status = 201, body = OrderBody, description = "Bought", headers(("Location" = String))),
        (status = 202, body = OrderBody, description = "Unknown: it may have been bought", headers(("Location" = String))),
        (status = 400, description = "`invalid_json`, `invalid_header`"),
        (status = 404, description = "`portfolio_not_found`"),
        (status = 409, description = "`idempotency_in_progress`"),
        (status = 413, description = "`body_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
        (status = 422, description = "`invalid_fields`, `idempotency_key_reused`, `unknown_symbol`, `price_out_of_band`, `notional_too_large`, `vendor_rejected`"),
        (status = 502, description = "`vendor_forbidden`"),
        (status = 503, description = "`quote_stale`, `no_market_data`, `vendor_unreachable`, `vendor_throttled`, `database_unavailable`"),
    )
)]
pub async fn order_place(
    State(state): State<AppState>,
    Trader(caller): Trader,
    context: RequestContext,
    params: Params,
    IdempotencyKeyHeader(key): IdempotencyKeyHeader,
    JsonBody(body): JsonBody,
) -> Result<Answer, ApiError> {
    params.finish()?;
    let order = read(&body, &caller)?;
    let user_id = owner(&state, &caller, order.portfolio_id).await?;
    state.desk.place(place(order, user_id, key, context)).await
}

fn read(body: &[u8], caller: &Caller) -> Result<NewOrder, ApiError> {
    let mut fields = Fields::parse(body)?;
    let symbol = symbol(&mut fields);
    let side = side(&mut fields);
    fields.unsupported(
        "notional",
        "Orders by amount of money are not supported yet; give quantity.",
    );
    let quantity = input::quantity(&mut fields, "quantity");
    let limit_price = input::price(&mut fields, "limitPrice");
    let portfolio_id = fields.optional_id("portfolioId");
    let client_order_id = fields.optional_label("clientOrderId", CLIENT_ORDER_ID_MAX_CHARS);
    if caller.only_user().is_none() && !fields.has("portfolioId") {
        let detail = "The key belongs to a service, which has no portfolio of its own; say whose portfolio.";
        fields.refuse("portfolioId", FieldCode::Required, detail);
    }
    fields.finish()?;
    let complete = (symbol, side, quantity, limit_price);
    let (Some(symbol), Some(side), Some(quantity), Some(limit_price)) = complete else {
        return Err(ApiError::internal(
            "a field is absent that nobody complained about",
        ));
    };
    let request = OrderRequest {
        symbol,
        side,
        quantity,
        limit_price,
    };
    Ok(NewOrder {
        request,
        portfolio_id,
        client_order_id,
    })
}

fn symbol(fields: &mut Fields<'_>) -> Option<Symbol> {
    let text = fields.text("symbol", "the symbol of a stock, such as \"AAPL\"")?;
    Symbol::parse(&text)
        .map_err(|error| {
            fields.refuse(
                "symbol",
                input::symbol_code(error),
                input::sentence(&error.to_string()),
            )
        })
        .ok()
}

fn side(fields: &mut Fields<'_>) -> Option<Side> {
    let text = fields.text("side", "\"buy\"")?;
    Side::parse(&text)
        .map_err(|_| fields.refuse("side", FieldCode::NotOneOf, "This must be \"buy\"."))
        .ok()
}

/// Whose order it is: the key's user, or for a service the owner of the portfolio.
async fn owner(state: &AppState, caller: &Caller, portfolio_id: Option<Uuid>) -> Result<Uuid, ApiError> {
    if let Some(user_id) = caller.only_user() {
        return Ok(user_id);
    }
    let portfolio_id =
        portfolio_id.ok_or_else(|| ApiError::internal("a service's order without portfolio"))?;
    let found = state.ledger.portfolio(None, portfolio_id).await?;
    found
        .map(|found| found.portfolio.user_id)
        .ok_or_else(portfolio_not_found)
}

fn place(order: NewOrder, user_id: Uuid, key: IdempotencyKey, context: RequestContext) -> PlaceOrder {
    PlaceOrder {
        user_id,
        portfolio_id: order.portfolio_id,
        key,
        request_sha256: hash(&order),
        request: order.request,
        client_order_id: order.client_order_id,
        context,
    }
}

/// Hash of the values, not of the bytes: 1 and 1.0 are the same quantity, and white space means nothing.
fn hash(order: &NewOrder) -> [u8; 32] {
    let canonical = serde_json::json!([
        order.request.symbol.as_str(),
        order.request.side.as_str(),
        order.request.quantity.to_string(),
        order.request.limit_price.to_string(),
        order.portfolio_id,
        order.client_order_id,
    ]);
    Sha256::digest(canonical.to_string()).into()
}
