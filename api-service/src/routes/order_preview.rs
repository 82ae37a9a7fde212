//! `POST /v1/orders/preview`: what would become of an order.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Trader;
use crate::input::{IfMatch, JsonBody, Params};
use crate::market_data::{Freshness, SnapshotInfo};
use crate::orders::{KeyRules, NewOrder, NewOrderBody, QuoteBody, Verdict, left_of};
use crate::problem::ApiError;
use crate::state::AppState;

/// What the service would do with an order. What the vendor would do, nobody knows.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrderPreview {
    /// `accepted`: the vendor would be asked to buy; or `rejected`.
    #[schema(example = "accepted")]
    verdict: &'static str,
    /// Why it would be rejected; listed in docs/errors.md.
    reason: Option<&'static str>,
    /// The same in a sentence, with the figures that count.
    detail: Option<String>,
    #[schema(example = "4.5")]
    quantity: String,
    #[schema(example = "150.25")]
    limit_price: String,
    /// The amount of money that the quantity was made from; null when a quantity was given.
    notional: Option<String>,
    /// What of that amount does not buy a further part of a share; null when a quantity was given.
    remainder: Option<String>,
    /// Quantity times limit price, exactly: what a fill costs. Null only when it has too many digits to be exact.
    #[schema(example = "676.125")]
    total: Option<String>,
    /// What the price was compared with; null when none is known.
    quote: Option<QuoteBody>,
    /// Where the quote is from; null while no prices are known.
    snapshot: Option<SnapshotInfo>,
}

/// Preview an order
///
/// The same body, the same checks and the same mistakes as an order, without any effect: nothing is recorded, and the vendor is not called. The
/// verdict is that of this moment. `Idempotency-Key` is not needed and not looked at.
#[utoipa::path(
    post, path = "/v1/orders/preview", tag = "orders", request_body = NewOrderBody,
    params(("If-Match" = Option<String>, Header, description = "The `ETag` of the portfolio, judged as with an order")),
    responses(
        (status = 200, body = OrderPreview),
        (status = 400, description = "`invalid_json`, `invalid_header`"),
        (status = 404, description = "`portfolio_not_found`"),
        (status = 413, description = "`body_too_large`"),
        (status = 415, description = "`unsupported_media_type`"),
        (status = 422, description = "`invalid_fields`"),
    )
)]
pub async fn order_preview(
    State(state): State<AppState>,
    Trader(caller): Trader,
    params: Params,
    IfMatch(expected_version): IfMatch,
    JsonBody(body): JsonBody,
) -> Result<Json<OrderPreview>, ApiError> {
    params.finish()?;
    let order = NewOrder::read(&body, &caller)?;
    let user_id = order.owner(&state, &caller).await?;
    let rules = KeyRules::of(&caller, state.orders);
    let now = Timestamp::now();
    let verdict = state
        .desk
        .preview(user_id, &order, &rules, expected_version, now)
        .await?;
    Ok(Json(shape(&order, verdict, state.freshness, now)))
}

fn shape(order: &NewOrder, verdict: Verdict, freshness: Freshness, now: Timestamp) -> OrderPreview {
    let request = &order.request;
    let (reason, detail) = match verdict.refused {
        Some((reason, problem)) => (Some(reason.as_str()), Some(problem.detail)),
        None => (None, None),
    };
    let total = request.limit_price.times(request.quantity).ok();
    OrderPreview {
        verdict: if reason.is_none() { "accepted" } else { "rejected" },
        reason,
        detail,
        quantity: request.quantity.to_string(),
        limit_price: request.limit_price.to_string(),
        notional: order.notional.map(|notional| notional.to_string()),
        remainder: order.notional.and_then(|notional| left_of(notional, request)),
        total: total.map(|total| total.to_string()),
        quote: verdict.quote.as_ref().map(QuoteBody::from),
        snapshot: verdict
            .snapshot
            .map(|snapshot| freshness.describe(&snapshot.meta, now)),
    }
}
