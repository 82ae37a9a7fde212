//! `GET /v1/api-keys`: the records of keys, without their texts.

use axum::Json;
use axum::extract::State;
use fuse_ledger::ApiKey;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::auth::Admin;
use crate::input::Params;
use crate::page_token::{FilterHash, List};
use crate::problem::ApiError;
use crate::state::AppState;

const LIMIT_DEFAULT: u16 = 50;
const LIMIT_MAX: u16 = 200;

/// The record of a key.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Key)]
pub struct KeyBody {
    id: Uuid,
    name: String,
    /// Null: the key belongs to a service.
    user_id: Option<Uuid>,
    #[schema(value_type = Vec<String>)]
    scopes: Vec<&'static str>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
    /// Largest price times quantity of an order; null: no limit of its own.
    max_notional: Option<String>,
    /// Orders in a day (UTC); null: no limit of its own.
    max_orders_per_day: Option<u32>,
}

impl From<&ApiKey> for KeyBody {
    fn from(key: &ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name.clone(),
            user_id: key.owner.user_id(),
            scopes: key.scopes.iter().map(|scope| scope.as_str()).collect(),
            created_at: key.created_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            max_notional: key.limits.max_notional.map(|max| max.to_string()),
            max_orders_per_day: key.limits.max_orders_per_day,
        }
    }
}

/// A page of keys.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyList {
    /// In the order of their making, revoked and expired ones too.
    items: Vec<KeyBody>,
    /// Send it as `pageToken` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// List keys
#[utoipa::path(
    get, path = "/v1/api-keys", tag = "keys",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 200, description = "Keys on a page, 50 when absent"),
        ("pageToken" = Option<String>, Query, description = "`nextPageToken` of the page before"),
        ("userId" = Option<Uuid>, Query, description = "Only of this user"),
    ),
    responses((status = 200, body = KeyList))
)]
pub async fn keys_list(
    State(state): State<AppState>,
    Admin(caller): Admin,
    mut params: Params,
) -> Result<Json<KeyList>, ApiError> {
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX);
    let token = params.text("pageToken");
    let wanted = params.id("userId");
    params.finish()?;
    if let Some(user_id) = wanted {
        caller.check_sees(user_id)?;
    }
    let user_id = caller.only_user().or(wanted);
    let hash = FilterHash::of(List::Keys, [user_id.map(|id| id.to_string()).as_deref()]);
    let after = token
        .map(|token| state.tokens.open_id(hash, &token))
        .transpose()?;
    let mut found = state.ledger.list_keys(user_id, after, limit + 1).await?;
    let has_more = found.len() > usize::from(limit);
    found.truncate(usize::from(limit));
    let last = found.last().filter(|_| has_more).map(|key| key.id);
    Ok(Json(KeyList {
        items: found.iter().map(KeyBody::from).collect(),
        next_page_token: last.map(|id| state.tokens.seal(hash, id.as_bytes())),
    }))
}
