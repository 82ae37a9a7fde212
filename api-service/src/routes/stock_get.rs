//! `GET /v1/stocks/{symbol}`: one quote.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use fuse_domain::Symbol;
use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Reader;
use crate::http::{Caching, Wants};
use crate::input::{Params, PathSymbol};
use crate::market_data::{SnapshotInfo, StockBody, age_secs, current};
use crate::problem::{ApiError, Code};
use crate::state::AppState;

/// Changes whenever the bytes of the same stock would: part of every `ETag`.
const RENDERING: &[u8] = b"stock 1";

/// One stock and the snapshot that it comes from.
#[derive(Debug, Serialize, ToSchema)]
pub struct StockDetail<'q> {
    #[serde(flatten)]
    stock: StockBody<'q>,
    snapshot: SnapshotInfo,
}

/// Read one stock
#[utoipa::path(
    get, path = "/v1/stocks/{symbol}", tag = "stocks",
    params(
        ("symbol" = String, Path, example = "AAPL"),
        ("If-None-Match" = Option<String>, Header, description = "An `ETag`: 304 when the stock is still the same"),
    ),
    responses(
        (status = 200, body = StockDetail, headers(
            ("Age" = u64, description = "Seconds since the price was fetched"),
            ("ETag" = String, description = "Stands for the stock in its snapshot"),
            ("Cache-Control" = String, description = "Until the next price change; `no-cache` when stale"),
        )),
        (status = 304, description = "The stock is still the same"),
        (status = 404, description = "`stock_not_found`"),
        (status = 503, description = "`no_market_data`: before the first complete crawl"),
    )
)]
pub async fn stock_get(
    State(state): State<AppState>,
    _caller: Reader,
    PathSymbol(symbol): PathSymbol,
    wants: Wants,
    params: Params,
) -> Result<Response, ApiError> {
    params.finish()?;
    let shelf = current(&state).await?;
    let now = Timestamp::now();
    let mut info = shelf.moment(state.freshness, now).info.clone();
    state.metrics.snapshot_read(Some(info.age_seconds), info.stale);
    let meta = &shelf.snapshot().meta;
    let quote = symbol
        .as_ref()
        .and_then(|symbol| shelf.snapshot().get(symbol))
        .ok_or_else(stock_not_found)?;
    let age = age_secs(quote.as_of, now);
    // A quarantined stock is older than its snapshot, and must not look fresh because of it.
    info.stale |= age > state.freshness.stale_after_secs;
    let caching = Caching {
        etag: etag(&state, &info, &quote.symbol),
        age: HeaderValue::from(age),
        cache_control: state.freshness.cache_control(meta, info.stale),
    };
    let mut response = if wants.has(&caching.etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let stock = quote.into();
        let snapshot = info;
        Json(StockDetail { stock, snapshot }).into_response()
    };
    caching.put(response.headers_mut());
    Ok(response)
}

/// The 404 of a stock that no snapshot has.
pub fn stock_not_found() -> ApiError {
    ApiError::new(
        Code::StockNotFound,
        "The vendor lists no stock with this symbol; symbols are case-sensitive.",
    )
}

fn etag(state: &AppState, info: &SnapshotInfo, symbol: &Symbol) -> HeaderValue {
    let tag = state.tokens.tag(&[
        RENDERING,
        info.id.as_bytes(),
        symbol.as_str().as_bytes(),
        &[u8::from(info.stale)],
    ]);
    HeaderValue::from_str(&format!("W/\"{tag}\"")).expect("base 64 is visible ASCII")
}
