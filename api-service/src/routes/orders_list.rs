//! `GET /v1/orders`: pages of orders, newest first.

use axum::Json;
use axum::extract::State;
use fuse_domain::{OrderStatus, Symbol};
use fuse_ledger::OrderFilter;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::{Caller, Reader};
use crate::input::{Params, sentence, symbol_code};
use crate::orders::OrderBody;
use crate::page_token::{FilterHash, List};
use crate::problem::{ApiError, FieldCode};
use crate::state::AppState;

const LIMIT_DEFAULT: u16 = 50;
const LIMIT_MAX: u16 = 200;
const CLIENT_ORDER_ID_MAX_CHARS: usize = 64;

/// A page of orders.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderList {
    /// Newest first.
    items: Vec<OrderBody>,
    /// Send it as `pageToken` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// List orders
///
/// Newest first. A key of a user sees only that user's orders. Orders placed during a walk are not part of it.
#[utoipa::path(
    get, path = "/v1/orders", tag = "orders",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 200, description = "Orders on a page, 50 when absent"),
        ("pageToken" = Option<String>, Query, description = "`nextPageToken` of the page before; every other parameter but `limit` stays the same"),
        ("status" = Option<String>, Query, description = "`rejected`, `submitted`, `filled`, `failed` or `unknown`"),
        ("symbol" = Option<String>, Query),
        ("portfolioId" = Option<uuid::Uuid>, Query),
        ("clientOrderId" = Option<String>, Query, max_length = 64),
        ("after" = Option<String>, Query, format = DateTime, description = "Placed at this time or later"),
        ("before" = Option<String>, Query, format = DateTime, description = "Placed before this time"),
        ("updatedAfter" = Option<String>, Query, format = DateTime, description = "Changed at this time or later"),
    ),
    responses((status = 200, body = OrderList), (status = 400, description = "`invalid_query`, `invalid_page_token`"))
)]
pub async fn orders_list(
    State(state): State<AppState>,
    Reader(caller): Reader,
    mut params: Params,
) -> Result<Json<OrderList>, ApiError> {
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX);
    let filter = filter(&mut params, &caller);
    let token = params.text("pageToken");
    params.finish()?;
    let hash = hash(&filter);
    let after = token
        .map(|token| state.tokens.open_id(hash, &token))
        .transpose()?;
    let page = state.ledger.orders(&filter, after, limit).await?;
    Ok(Json(OrderList {
        items: page.items.iter().map(OrderBody::from).collect(),
        next_page_token: page.next.map(|id| state.tokens.seal(hash, id.as_bytes())),
    }))
}

fn filter(params: &mut Params, caller: &Caller) -> OrderFilter {
    OrderFilter {
        user_id: caller.only_user(),
        status: status(params),
        symbol: symbol(params),
        portfolio_id: params.id("portfolioId"),
        client_order_id: params.label("clientOrderId", CLIENT_ORDER_ID_MAX_CHARS),
        created_from: params.time("after"),
        created_before: params.time("before"),
        updated_from: params.time("updatedAfter"),
    }
}

fn status(params: &mut Params) -> Option<OrderStatus> {
    let text = params.text("status")?;
    let detail = "This must be one of rejected, submitted, filled, failed, unknown.";
    OrderStatus::parse(&text)
        .map_err(|_| params.refuse("status", FieldCode::NotOneOf, detail))
        .ok()
}

fn symbol(params: &mut Params) -> Option<Symbol> {
    let text = params.text("symbol")?;
    Symbol::parse(&text)
        .map_err(|error| params.refuse("symbol", symbol_code(error), sentence(&error.to_string())))
        .ok()
}

fn hash(filter: &OrderFilter) -> FilterHash {
    let parts = [
        filter.user_id.map(|id| id.to_string()),
        filter.status.map(|status| status.as_str().to_owned()),
        filter.symbol.as_ref().map(|symbol| symbol.as_str().to_owned()),
        filter.portfolio_id.map(|id| id.to_string()),
        filter.client_order_id.clone(),
        filter.created_from.map(|time| time.to_string()),
        filter.created_before.map(|time| time.to_string()),
        filter.updated_from.map(|time| time.to_string()),
    ];
    FilterHash::of(List::Orders, parts.iter().map(Option::as_deref))
}
