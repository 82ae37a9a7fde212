//! `POST /v1/api-keys`: a new key, shown once.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use fuse_ledger::{KeyLimits, NewKey, Owner, Scope};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::auth::{Admin, user_not_found};
use crate::input::{Fields, JsonBody, Params, optional_amount};
use crate::problem::{ApiError, FieldCode};
use crate::routes::keys_list::KeyBody;
use crate::state::AppState;

const NAME_MAX_CHARS: usize = 200;
/// What an integer of the database holds.
const MAX_ORDERS_PER_DAY_MAX: u32 = 2_147_483_647;

/// A key to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewKey)]
#[expect(dead_code, reason = "the shape for the description of the interface")]
pub struct NewKeyBody {
    /// What to call it.
    #[schema(max_length = 200, example = "Anna's terminal")]
    name: String,
    /// The user it acts for, made when there is none yet; `new` makes a new one. Absent: the key belongs to a service.
    #[schema(example = "new")]
    user_id: Option<String>,
    /// `read`, `trade`; for a service also `report` and `admin`.
    #[schema(example = json!(["read", "trade"]))]
    scopes: Vec<String>,
    /// From then on it is refused; absent: never.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// Largest price times quantity of an order by this key; absent: only the limit for every key (`orders.max_notional`).
    #[schema(example = "50000")]
    max_notional: Option<String>,
    /// Orders by this key in a day (UTC), those that were rejected not counted; absent: `orders.max_per_day_per_key`.
    #[schema(minimum = 1, maximum = 2_147_483_647, example = 500)]
    max_orders_per_day: Option<u32>,
}

/// A key and its text.
#[derive(Serialize, ToSchema)]
pub struct NewKeyAnswer {
    #[serde(flatten)]
    record: KeyBody,
    /// The text to send as `x-api-key`. It is shown here and never again.
    #[schema(example = "fuse_0198a8f27c3e7d10a8a13a1f0a4bb0c1_…")]
    key: String,
}

struct Wanted {
    name: String,
    owner: Owner,
    scopes: BTreeSet<Scope>,
    expires_at: Option<Timestamp>,
    limits: KeyLimits,
}

/// Make a key
#[utoipa::path(
    post, path = "/v1/api-keys", tag = "keys", request_body = NewKeyBody,
    responses((status = 201, body = NewKeyAnswer), (status = 422, description = "`invalid_fields`"))
)]
pub async fn keys_create(
    State(state): State<AppState>,
    Admin(caller): Admin,
    params: Params,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    params.finish()?;
    let now = Timestamp::now();
    let wanted = read(&body, now)?;
    if let Some(user_id) = wanted.owner.user_id() {
        caller.check_sees(user_id)?;
        state.ledger.create_user(user_id, &wanted.name, now).await?;
    } else if caller.only_user().is_some() {
        // A user's own admin key must not reach beyond that user.
        return Err(user_not_found());
    }
    let new = NewKey {
        id: Uuid::now_v7(),
        name: wanted.name,
        owner: wanted.owner,
        scopes: wanted.scopes,
        limits: wanted.limits,
        created_at: now,
        expires_at: wanted.expires_at,
    };
    let (key, text) = state.ledger.create_key(new).await?.ok_or_else(user_not_found)?;
    let answer = NewKeyAnswer {
        record: KeyBody::from(&key),
        key: text.reveal().to_owned(),
    };
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((StatusCode::CREATED, no_store, Json(answer)).into_response())
}

fn read(body: &[u8], now: Timestamp) -> Result<Wanted, ApiError> {
    let mut fields = Fields::parse(body)?;
    let name = fields.text("name", "what to call the key");
    let name = name.and_then(|name| fields.label("name", name, NAME_MAX_CHARS));
    let owner = owner(&mut fields);
    let scopes = scopes(&mut fields, owner);
    let expires_at = fields.optional_time("expiresAt");
    if expires_at.is_some_and(|end| end <= now) {
        fields.refuse("expiresAt", FieldCode::OutOfRange, "This must be in the future.");
    }
    let limits = KeyLimits {
        max_notional: optional_amount(&mut fields, "maxNotional"),
        max_orders_per_day: fields.optional_count("maxOrdersPerDay", MAX_ORDERS_PER_DAY_MAX),
    };
    fields.finish()?;
    let (Some(name), Some(owner), Some(scopes)) = (name, owner, scopes) else {
        return Err(ApiError::internal(
            "a field is absent that nobody complained about",
        ));
    };
    Ok(Wanted {
        name,
        owner,
        scopes,
        expires_at,
        limits,
    })
}

/// `None` when it is wrong.
fn owner(fields: &mut Fields<'_>) -> Option<Owner> {
    if !fields.has("userId") {
        return Some(Owner::Service);
    }
    match fields.optional_text("userId").as_deref() {
        Some("new") => Some(Owner::User(Uuid::now_v7())),
        Some(text) => {
            let id = Uuid::try_parse(text).ok().filter(|id| !id.is_nil());
            if id.is_none() {
                fields.refuse("userId", FieldCode::NotAnId, "This must be an id, or \"new\".");
            }
            id.map(Owner::User)
        }
        // Null means a service; anything else was complained about.
        None => Some(Owner::Service),
    }
}

fn scopes(fields: &mut Fields<'_>, owner: Option<Owner>) -> Option<BTreeSet<Scope>> {
    let texts = fields.texts("scopes", "what the key may do, such as [\"read\",\"trade\"]")?;
    if texts.is_empty() {
        fields.refuse("scopes", FieldCode::Empty, "A key needs at least one scope.");
        return None;
    }
    let mut scopes = BTreeSet::new();
    for (index, text) in texts.iter().enumerate() {
        let scope = Scope::parse(text);
        let is_of_user = owner.is_some_and(|owner| owner.user_id().is_some());
        match scope {
            None => {
                let detail = "This must be one of read, trade, report, admin.".to_owned();
                fields.refuse_entry("scopes", index, FieldCode::NotOneOf, detail);
            }
            Some(Scope::Report | Scope::Admin) if is_of_user => {
                let detail = format!("A key of a user cannot have {text}: it reaches beyond that user.");
                fields.refuse_entry("scopes", index, FieldCode::NotAllowed, detail);
            }
            Some(scope) => {
                scopes.insert(scope);
            }
        }
    }
    Some(scopes)
}
