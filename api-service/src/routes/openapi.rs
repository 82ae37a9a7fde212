//! `GET /openapi.json`: this interface, described from its own code.

use axum::extract::State;
use axum::response::IntoResponse;
use http::header;

use crate::state::AppState;

/// Read this description
///
/// OpenAPI 3.1. Needs no key.
#[utoipa::path(
    get, path = "/openapi.json", tag = "service", security(()),
    responses((status = 200, content_type = "application/json"))
)]
pub async fn openapi_get(State(state): State<AppState>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        state.openapi.clone(),
    )
}
