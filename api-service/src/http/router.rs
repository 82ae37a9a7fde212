//! All routes in one place, with their description.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, header};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::CorsLayer;
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::guard::{Guard, guard};
use super::observe::{Observer, observe};
use crate::problem::{ApiError, Code, MEDIA_TYPE, ProblemDocument};
use crate::routes as r;
use crate::state::AppState;

/// The frame of the description; everything else comes from the handlers.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Fuse stock trading service",
        description = "List stocks, place buy orders, read portfolios and daily reports. Money and quantities are decimal strings, times are RFC 3339 in UTC. Every failure is an application/problem+json document with a stable code.",
    ),
    components(schemas(ProblemDocument<'_>)),
    security(("key" = []), ("bearer" = [])),
    tags(
        (name = "stocks", description = "Prices of one snapshot, with their age"),
        (name = "orders", description = "Buy"),
        (name = "portfolios", description = "What is held and what it is worth"),
        (name = "reports", description = "What happened on a day"),
        (name = "keys", description = "Who may do what; scope admin"),
        (name = "service", description = "The service itself"),
    ),
)]
struct Frame;

fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(Frame::openapi())
        .routes(routes!(r::stocks_list::stocks_list))
        .routes(routes!(r::stock_get::stock_get))
        .routes(routes!(r::stock_prices::stock_prices))
        .routes(routes!(r::orders_list::orders_list, r::order_place::order_place))
        .routes(routes!(r::order_preview::order_preview))
        .routes(routes!(r::order_get::order_get))
        .routes(routes!(r::order_resolve::order_resolve))
        .routes(routes!(
            r::portfolios_list::portfolios_list,
            r::portfolios_create::portfolios_create
        ))
        .routes(routes!(
            r::portfolio_get::portfolio_get,
            r::portfolio_delete::portfolio_delete
        ))
        .routes(routes!(r::portfolio_history::portfolio_history))
        .routes(routes!(r::report_daily::report_daily))
        .routes(routes!(r::keys_list::keys_list, r::keys_create::keys_create))
        .routes(routes!(r::keys_revoke::keys_revoke))
        .routes(routes!(r::clock::clock_get))
        .routes(routes!(r::audit_verify::audit_verify))
        .routes(routes!(r::openapi::openapi_get))
}

/// The router with everything around it.
pub fn build(state: AppState, origins: &[HeaderValue]) -> Router {
    let (router, _) = routes().split_for_parts();
    let guard = Guard::new(state.limits.clone(), Arc::clone(&state.metrics));
    let observer = Observer::new(Arc::clone(&state.metrics), state.read_sample_per_sec);
    wrap(router.with_state(state), guard, observer, origins)
}

/// Puts what surrounds every handler around a router, its fallbacks included.
pub fn wrap(router: Router, limits: Guard, observer: Observer, origins: &[HeaderValue]) -> Router {
    let router = router
        .fallback(async || ApiError::new(Code::NotFound, "No such address; /openapi.json lists them."))
        .method_not_allowed_fallback(async || {
            ApiError::new(
                Code::MethodNotAllowed,
                "The header Allow lists the methods of this address.",
            )
        })
        .layer(from_fn_with_state(Arc::new(limits), guard))
        .layer(CatchPanicLayer::custom(panicked));
    let router = if origins.is_empty() {
        router
    } else {
        router.layer(cors(origins))
    };
    router.layer(from_fn_with_state(Arc::new(observer), observe))
}

/// A handler broke an invariant. The panic hook has logged what; the client learns only that.
fn panicked(_payload: Box<dyn std::any::Any + Send + 'static>) -> Response {
    ApiError::internal("a handler panicked").into_response()
}

/// Browsers need not ask again for so long.
const PREFLIGHT_KEPT_FOR: Duration = Duration::from_secs(600);

fn cors(origins: &[HeaderValue]) -> CorsLayer {
    let allowed = [
        "x-api-key",
        "idempotency-key",
        "x-request-id",
        "if-match",
        "if-none-match",
    ]
    .map(HeaderName::from_static);
    let exposed = ["x-request-id", "idempotency-key", "idempotency-replayed"].map(HeaderName::from_static);
    CorsLayer::new()
        .max_age(PREFLIGHT_KEPT_FOR)
        .allow_origin(origins.to_vec())
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers(
            allowed
                .into_iter()
                .chain([header::AUTHORIZATION, header::CONTENT_TYPE])
                .collect::<Vec<_>>(),
        )
        .expose_headers(
            exposed
                .into_iter()
                .chain([header::AGE, header::ETAG, header::LOCATION, header::RETRY_AFTER])
                .collect::<Vec<_>>(),
        )
}

/// The description of the interface, from the handlers, with the failures that every one of them shares.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let (_, mut api) = routes().split_for_parts();
    let components = api.components.get_or_insert_default();
    let key = ApiKey::Header(ApiKeyValue::new("x-api-key"));
    components.add_security_scheme("key", SecurityScheme::ApiKey(key));
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    for item in api.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            describe_failures(operation);
        }
    }
    api
}

fn describe_failures(operation: &mut Operation) {
    let needs_key = operation.security.is_none();
    let mut shared = vec![
        ("400", "`invalid_query`, `invalid_path`"),
        ("500", "`internal_error`"),
        ("503", "`overloaded`"),
        ("504", "`request_timeout`"),
    ];
    if needs_key {
        shared.extend([
            (
                "401",
                "`key_missing`, `key_invalid`, `key_revoked`, `key_expired`",
            ),
            ("403", "`scope_missing`"),
            ("503", "`database_unavailable`, `overloaded`"),
        ]);
    }
    for (status, description) in shared {
        operation
            .responses
            .responses
            .entry(status.to_owned())
            .or_insert_with(|| ResponseBuilder::new().description(description).build().into());
    }
    for (status, response) in &mut operation.responses.responses {
        if let (true, RefOr::T(response)) = (status.starts_with(['4', '5']), response) {
            let schema = Ref::from_schema_name("Problem");
            let content = ContentBuilder::new().schema(Some(schema)).build();
            response.content.insert(MEDIA_TYPE.to_owned(), content.into());
        }
    }
}

/// Every route template with each of its methods, as the metrics name them.
#[must_use]
pub fn routes_and_methods() -> Vec<(String, &'static str)> {
    let (_, api) = routes().split_for_parts();
    let mut all = Vec::new();
    for (path, item) in &api.paths.paths {
        let methods = [("GET", &item.get), ("POST", &item.post), ("DELETE", &item.delete)];
        all.extend(
            methods
                .iter()
                .filter(|(_, operation)| operation.is_some())
                .map(|(method, _)| (path.clone(), *method)),
        );
    }
    all
}
