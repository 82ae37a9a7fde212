//! `GET /v1/stocks/{symbol}/prices`: what a stock cost when.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use fuse_domain::Symbol;
use fuse_market::{HistoryPage, HistoryPoint, HistoryRange, StoreError};
use http::{HeaderValue, header};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::stock_get::stock_not_found;
use crate::auth::Reader;
use crate::http::vary;
use crate::input::{Params, PathSymbol};
use crate::market_data::{no_market_data, price_store_unavailable};
use crate::page_token::{FilterHash, List, refuse};
use crate::problem::{ApiError, Code, FieldCode};
use crate::state::AppState;

const LIMIT_DEFAULT: u16 = 100;
const LIMIT_MAX: u16 = 500;
/// What is shown when the client does not say from when.
const SPAN_DEFAULT: SignedDuration = SignedDuration::from_hours(24);
/// How long price changes are kept.
const KEPT_DAYS: i64 = 90;
/// Looks at the store for one page. Four see all that is kept.
const LOOKS_MAX: usize = 8;
/// How far back, from the end of what is asked for, a symbol is looked for that the vendor does not list: a guess must not cost a query
/// for each of ninety days.
const UNLISTED_SPAN: SignedDuration = SignedDuration::from_hours(24 * 7);
/// Requests at once that read history; more are refused, so that they cannot take all of this replica's connections to the store.
pub const READERS_MAX: usize = 16;
/// A client that reckons ninety days back itself must not fail because of the way here.
const KEPT_MARGIN: SignedDuration = SignedDuration::from_hours(1);
/// A price change never changes; a new one comes every few minutes.
const CACHE_CONTROL: &str = "private, max-age=60";

/// A page of price changes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PriceList {
    #[schema(example = "AAPL")]
    symbol: String,
    /// Oldest first.
    items: Vec<PriceBody>,
    /// Send it as `pageToken` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// One price change.
#[derive(Debug, Serialize, ToSchema)]
pub struct PriceBody {
    /// Exact decimal, as the vendor said it.
    #[schema(example = "150.25")]
    price: String,
    /// The vendor's own figure; whether absolute or percent is not known.
    #[schema(example = "-0.42")]
    change: String,
    /// The vendor's time of the price.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

impl From<HistoryPoint> for PriceBody {
    fn from(point: HistoryPoint) -> Self {
        Self {
            price: point.price.to_string(),
            change: point.change,
            at: point.at,
        }
    }
}

/// Read the price changes of one stock
///
/// Oldest first, kept for 90 days. A price that did not change has no entry. A stock that the vendor lists no more is found when a price
/// of it lies within the last seven days of the range.
#[utoipa::path(
    get, path = "/v1/stocks/{symbol}/prices", tag = "stocks",
    params(
        ("symbol" = String, Path, example = "AAPL"),
        ("from" = Option<String>, Query, format = DateTime, description = "From this time on; 24 hours before `to` when absent, at most 90 days ago"),
        ("to" = Option<String>, Query, format = DateTime, description = "Before this time; now when absent"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "Price changes on a page, 100 when absent"),
        ("pageToken" = Option<String>, Query, description = "`nextPageToken` of the page before; every other parameter but `limit` stays the same"),
    ),
    responses(
        (status = 200, body = PriceList),
        (status = 400, description = "`invalid_query`, `invalid_page_token`"),
        (status = 404, description = "`stock_not_found`"),
        (status = 503, description = "`price_store_unavailable`; `overloaded`; `no_market_data`: before the first complete crawl"),
    )
)]
pub async fn stock_prices(
    State(state): State<AppState>,
    _caller: Reader,
    PathSymbol(symbol): PathSymbol,
    mut params: Params,
) -> Result<Response, ApiError> {
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX);
    let asked = (params.time("from"), params.time("to"));
    let token = params.text("pageToken");
    let range = range(&mut params, asked, token.is_some(), Timestamp::now());
    params.finish()?;
    let symbol = symbol.ok_or_else(stock_not_found)?;
    let hash = hash(&symbol, asked);
    let (range, after) = match &token {
        Some(token) => rest(&state.tokens.open(hash, token)?)?,
        None => (range, None),
    };
    let Ok(_permit) = state.history_readers.try_acquire() else {
        state.metrics.shed("concurrency");
        let detail = "This replica reads as many price histories as it can. Send it again shortly.";
        return Err(ApiError::new(Code::Overloaded, detail));
    };
    if token.is_none() && !is_listed(&state, &symbol) {
        check_known(&state, &symbol, range).await?;
    }
    let found = prices(&state, &symbol, range, after, usize::from(limit)).await;
    let HistoryPage { points, next } = found.map_err(unreadable)?;
    let next_page_token = next.map(|after| state.tokens.seal(hash, &position(after, range.to)));
    let list = PriceList {
        symbol: symbol.as_str().to_owned(),
        items: points.into_iter().map(PriceBody::from).collect(),
        next_page_token,
    };
    let mut response = Json(list).into_response();
    let cache_control = HeaderValue::from_static(CACHE_CONTROL);
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, cache_control);
    vary(response.headers_mut());
    Ok(response)
}

/// A full page, or the last one: one look at the store sees a bounded number of days only.
async fn prices(
    state: &AppState,
    symbol: &Symbol,
    range: HistoryRange,
    mut after: Option<Timestamp>,
    limit: usize,
) -> Result<HistoryPage, StoreError> {
    let mut points = Vec::new();
    for _ in 0..LOOKS_MAX {
        let missing = limit - points.len();
        let page = state.market.history(symbol, range, after, missing).await?;
        points.extend(page.points);
        after = page.next;
        if after.is_none() || points.len() == limit {
            break;
        }
    }
    Ok(HistoryPage { points, next: after })
}

/// The range that is meant; what is wrong with it is recorded. A walk in progress may outlive the bound of its beginning.
fn range(
    params: &mut Params,
    (from, to): (Option<Timestamp>, Option<Timestamp>),
    is_walking: bool,
    now: Timestamp,
) -> HistoryRange {
    let end = to.unwrap_or(now);
    let begin = from.unwrap_or_else(|| back(end, SPAN_DEFAULT));
    if begin > end {
        let detail = format!("This must not be after to ({end}).");
        params.refuse("from", FieldCode::OutOfRange, detail);
        if to.is_some() {
            let detail = format!("This must not be before from ({begin}).");
            params.refuse("to", FieldCode::OutOfRange, detail);
        }
    }
    let kept = back(now, SignedDuration::from_hours(24 * KEPT_DAYS));
    if begin < back(kept, KEPT_MARGIN) && !is_walking {
        // Without `from` it was reckoned from `to`.
        let name = if from.is_some() { "from" } else { "to" };
        let detail = format!("Prices are kept for {KEPT_DAYS} days: write a time after {kept:.0}.");
        params.refuse(name, FieldCode::OutOfRange, detail);
    }
    HistoryRange { from: begin, to: end }
}

fn back(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_sub(by).unwrap_or(Timestamp::MIN)
}

/// Whether the current snapshot has it.
fn is_listed(state: &AppState, symbol: &Symbol) -> bool {
    let shelf = state.shelves.current();
    shelf.is_some_and(|shelf| shelf.place_of(symbol).is_some())
}

/// A stock that is not listed has prices of late: else it is unknown, 404, or 503 where nothing is known of any stock.
async fn check_known(state: &AppState, symbol: &Symbol, range: HistoryRange) -> Result<(), ApiError> {
    let late = HistoryRange {
        from: range.from.max(back(range.to, UNLISTED_SPAN)),
        to: range.to,
    };
    let found = state.market.history(symbol, late, None, 1).await;
    if !found.map_err(unreadable)?.points.is_empty() {
        return Ok(());
    }
    match state.shelves.current() {
        Some(_) => Err(stock_not_found()),
        None => Err(no_market_data().into()),
    }
}

fn unreadable(error: StoreError) -> ApiError {
    ApiError::from(price_store_unavailable()).because(error)
}

fn hash(symbol: &Symbol, (from, to): (Option<Timestamp>, Option<Timestamp>)) -> FilterHash {
    let from = from.map(|time| time.to_string());
    let to = to.map(|time| time.to_string());
    let parts = [Some(symbol.as_str()), from.as_deref(), to.as_deref()];
    FilterHash::of(List::Prices, parts)
}

/// Where a walk stands and ends: times in milliseconds, as they are kept.
fn position(after: Timestamp, to: Timestamp) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&after.as_millisecond().to_be_bytes());
    // A range that ends within a millisecond holds what is at its beginning.
    let to = to.as_millisecond() + i64::from(to.subsec_nanosecond() % 1_000_000 != 0);
    bytes[8..].copy_from_slice(&to.to_be_bytes());
    bytes
}

fn rest(position: &[u8]) -> Result<(HistoryRange, Option<Timestamp>), ApiError> {
    let time = |bytes: Option<&[u8]>| {
        let millis = i64::from_be_bytes(bytes?.try_into().ok()?);
        Timestamp::from_millisecond(millis).ok()
    };
    match (time(position.get(..8)), time(position.get(8..))) {
        (Some(after), Some(to)) => Ok((HistoryRange { from: after, to }, Some(after))),
        _ => Err(refuse(
            FieldCode::Forged,
            "This token makes no sense. Start again without pageToken.",
        )),
    }
}
