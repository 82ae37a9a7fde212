//! `DELETE /v1/api-keys/{id}`: a key is taken back; its record stays.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;

use crate::auth::Admin;
use crate::input::{Params, PathId};
use crate::problem::{ApiError, Code};
use crate::routes::keys_list::KeyBody;
use crate::state::AppState;

/// Revoke a key
///
/// This replica refuses it at once, every other one within two seconds (configurable). A repeat changes nothing.
#[utoipa::path(
    delete, path = "/v1/api-keys/{id}", tag = "keys",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = KeyBody), (status = 404, description = "`key_not_found`"))
)]
pub async fn keys_revoke(
    State(state): State<AppState>,
    Admin(caller): Admin,
    PathId(id): PathId,
    params: Params,
) -> Result<Json<KeyBody>, ApiError> {
    params.finish()?;
    let not_found = || {
        ApiError::new(
            Code::KeyNotFound,
            "There is no such key. The bootstrap key is revoked by changing its secret.",
        )
    };
    let id = id.ok_or_else(not_found)?;
    if let Some(own) = caller.only_user() {
        let key = state.ledger.find_key(id).await?.ok_or_else(not_found)?;
        if key.owner.user_id() != Some(own) {
            return Err(not_found());
        }
    }
    let key = state
        .ledger
        .revoke_key(id, Timestamp::now())
        .await?
        .ok_or_else(not_found)?;
    state.keys.forget(id);
    Ok(Json(KeyBody::from(&key)))
}
