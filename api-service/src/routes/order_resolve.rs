//! `POST /v1/orders/{id}/resolve`: somebody has found out what became of an unknown order.

use axum::Json;
use axum::extract::State;
use fuse_domain::{Fill, OrderStatus, Price, Quantity};
use fuse_ledger::{Order, Resolution, Resolve, Resolved};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::auth::Admin;
use crate::input::{self, Fields, JsonBody, Params, PathId};
use crate::orders::OrderBody;
use crate::problem::{ApiError, Code, FieldCode, Problem};
use crate::routes::order_get::order_not_found;
use crate::state::AppState;

const NOTE_MAX_CHARS: usize = 500;

/// What became of the order. Only described here: the body is read by [`read`], which collects every mistake.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewResolution)]
#[expect(dead_code, reason = "the shape for the description of the interface")]
pub struct ResolutionBody {
    /// `filled` or `failed`.
    #[schema(example = "filled")]
    outcome: String,
    /// With `filled`: what the vendor charged for a share.
    #[schema(example = "150.25")]
    price: Option<String>,
    /// With `filled`: how much was bought, at most what was ordered.
    #[schema(example = "4.5")]
    quantity: Option<String>,
    /// How it is known; kept with the order.
    #[schema(max_length = 500, example = "Vendor's support, ticket 4711")]
    note: String,
}

struct Told {
    bought: Option<(Price, Quantity)>,
    note: String,
}

/// Settle an unknown order
///
/// Records what somebody found out at the vendor: the order becomes `filled`, and its holding is booked, or `failed`. A repeat with the
/// same outcome changes nothing; another outcome is refused, for a settled order never changes. Scope `admin`.
#[utoipa::path(
    post, path = "/v1/orders/{id}/resolve", tag = "orders", request_body = ResolutionBody,
    params(("id" = uuid::Uuid, Path)),
    responses(
        (status = 200, body = OrderBody),
        (status = 404, description = "`order_not_found`"),
        (status = 409, description = "`order_not_unknown`, `resolution_conflict`"),
        (status = 422, description = "`invalid_fields`"),
    )
)]
pub async fn order_resolve(
    State(state): State<AppState>,
    Admin(caller): Admin,
    PathId(id): PathId,
    params: Params,
    JsonBody(body): JsonBody,
) -> Result<Json<OrderBody>, ApiError> {
    params.finish()?;
    let id = id.ok_or_else(order_not_found)?;
    let order = state
        .ledger
        .order(caller.only_user(), id)
        .await?
        .ok_or_else(order_not_found)?;
    let told = read(&body, &order)?;
    let fill = told
        .bought
        .map(|(price, quantity)| Fill::new(price, quantity))
        .transpose()
        .map_err(ApiError::internal)?;
    let resolve = Resolve {
        order_id: id,
        fill,
        told: Resolution {
            actor: format!("key:{}", caller.label),
            note: told.note,
        },
        at: Timestamp::now(),
    };
    let order = match state.ledger.resolve(resolve).await? {
        Resolved::Now(order) => {
            state.metrics.order(order.status, order.reason);
            tracing::info!(order.id = %id, outcome = order.status.as_str(), "an unknown order was settled by hand");
            order
        }
        Resolved::Before(order) => order,
        Resolved::Conflict(order) => return Err(conflict(&order)),
        Resolved::NotFound => return Err(order_not_found()),
    };
    Ok(Json(OrderBody::from(&*order)))
}

fn read(body: &[u8], order: &Order) -> Result<Told, ApiError> {
    let mut fields = Fields::parse(body)?;
    let outcome = fields.text("outcome", "\"filled\" or \"failed\"");
    let note = fields
        .text("note", "how it is known what became of the order")
        .and_then(|note| fields.label("note", note, NOTE_MAX_CHARS));
    let bought = match outcome.as_deref() {
        Some("filled") => {
            let price = input::price(&mut fields, "price");
            let quantity = input::quantity(&mut fields, "quantity");
            if quantity.is_some_and(|quantity| quantity > order.request.quantity) {
                let detail = format!(
                    "The order was for {}; more cannot have been bought by it.",
                    order.request.quantity
                );
                fields.refuse("quantity", FieldCode::TooLarge, detail);
            }
            let bought = price.zip(quantity);
            if bought.is_some_and(|(price, quantity)| price.times(quantity).is_err()) {
                let detail = "Price times quantity has too many digits to be kept exactly.";
                fields.refuse("price", FieldCode::TooManyDigits, detail);
            }
            bought
        }
        Some("failed") => {
            for name in ["price", "quantity"] {
                fields.unsupported(name, "An order that failed bought nothing; leave this out.");
            }
            None
        }
        Some(_) => {
            fields.refuse(
                "outcome",
                FieldCode::NotOneOf,
                "This must be \"filled\" or \"failed\".",
            );
            None
        }
        None => None,
    };
    fields.finish()?;
    let note = note.ok_or_else(|| ApiError::internal("a note is absent that nobody complained about"))?;
    Ok(Told { bought, note })
}

fn conflict(order: &Order) -> ApiError {
    let (code, detail) = match order.status {
        OrderStatus::Submitted => (
            Code::OrderNotUnknown,
            "The order is still at the vendor. It becomes unknown by itself when no answer comes; read it again in a minute.".to_owned(),
        ),
        status if order.resolution.is_some() => (
            Code::ResolutionConflict,
            format!("The order was settled before, with another outcome: it is {status}, and that never changes."),
        ),
        status => (
            Code::OrderNotUnknown,
            format!("Only an unknown order can be settled by hand; this one is {status}, and that never changes."),
        ),
    };
    let mut problem = Problem::new(code, detail);
    problem.order_id = Some(order.id);
    problem.into()
}
