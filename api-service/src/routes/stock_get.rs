//! `GET /v1/stocks/{symbol}`: one quote.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Reader;
use crate::input::{Params, PathSymbol};
use crate::market_data::{Aged, SnapshotInfo, StockBody, age_secs, current};
use crate::problem::{ApiError, Code};
use crate::state::AppState;

/// One stock and the snapshot that it comes from.
#[derive(Debug, Serialize, ToSchema)]
pub struct StockDetail {
    #[serde(flatten)]
    stock: StockBody,
    snapshot: SnapshotInfo,
}

/// Read one stock
#[utoipa::path(
    get, path = "/v1/stocks/{symbol}", tag = "stocks",
    params(("symbol" = String, Path, example = "AAPL")),
    responses(
        (status = 200, body = StockDetail, headers(("Age" = u64, description = "Seconds since the price was fetched"))),
        (status = 404, description = "`stock_not_found`"),
        (status = 503, description = "`no_market_data`: before the first complete crawl"),
    )
)]
pub async fn stock_get(
    State(state): State<AppState>,
    _caller: Reader,
    PathSymbol(symbol): PathSymbol,
    params: Params,
) -> Result<Aged<Json<StockDetail>>, ApiError> {
    params.finish()?;
    let now = Timestamp::now();
    let snapshot = current(&state, now)?;
    let quote = symbol.and_then(|symbol| snapshot.get(&symbol)).ok_or_else(|| {
        ApiError::new(
            Code::StockNotFound,
            "The vendor lists no stock with this symbol; symbols are case-sensitive.",
        )
    })?;
    let mut info = state.freshness.describe(&snapshot.meta, now);
    let age = age_secs(quote.as_of, now);
    // A quarantined stock is older than its snapshot, and must not look fresh because of it.
    info.stale |= age > state.freshness.stale_after_secs;
    Ok(Aged(
        age,
        Json(StockDetail {
            stock: quote.into(),
            snapshot: info,
        }),
    ))
}
