//! `GET /v1/stocks`: a page of one snapshot.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use fuse_domain::{Price, Symbol};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::auth::Reader;
use crate::http::{Caching, Wants};
use crate::input::Params;
use crate::market_data::{SnapshotInfo, StockBody, current, price_store_unavailable};
use crate::page_token::refuse;
use crate::problem::{ApiError, Code, FieldCode};
use crate::shelf::{Asked, Filter, LIMIT_DEFAULT, Lost, Moment, Page, Shelf, Sort, TwoParts};
use crate::state::AppState;

const LIMIT_MAX: u16 = 500;
const SEARCH_MAX_CHARS: usize = 64;
const SYMBOLS_MAX: usize = 100;

/// A page of stocks. Written piece by piece from what the shelf has ready; this is its description.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StockPage<'q> {
    /// In the order of `sort`.
    pub items: Vec<StockBody<'q>>,
    /// Send it as `pageToken` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
    /// Stocks on all pages.
    pub total: usize,
    pub snapshot: SnapshotInfo,
}

/// List stocks
///
/// A walk over all pages sees one snapshot, whatever happens meanwhile: nothing twice, nothing missed.
/// A token of a snapshot that is gone answers 410: start again without it. All conditions must hold for a stock to be listed.
#[utoipa::path(
    get, path = "/v1/stocks", tag = "stocks",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "Stocks on a page, 100 when absent"),
        ("pageToken" = Option<String>, Query, description = "`nextPageToken` of the page before; every other parameter but `limit` stays the same"),
        ("search" = Option<String>, Query, max_length = 64, description = "Part of the symbol or name, in any case"),
        ("sector" = Option<String>, Query, max_length = 64, description = "The whole sector, in any case"),
        ("symbols" = Option<String>, Query, example = "AAPL,MSFT", description = "Only these: 1 to 100 symbols with commas between them, case-sensitive; those that are not listed are left out"),
        ("minPrice" = Option<String>, Query, example = "10.5", description = "Only prices from here on"),
        ("maxPrice" = Option<String>, Query, example = "99.95", description = "Only prices up to here"),
        ("movers" = Option<bool>, Query, description = "`true`: only stocks whose price moved markedly since the snapshot before; `false`: only the others"),
        ("sort" = Option<String>, Query, description = "`symbol` (when absent), `name` or `price`; downwards with a minus sign, such as `-price`. Equal ones by symbol, upwards"),
        ("If-None-Match" = Option<String>, Header, description = "An `ETag`: 304 when the page is still the same"),
    ),
    responses(
        (status = 200, body = StockPage, headers(
            ("Age" = u64, description = "Seconds since the snapshot was taken"),
            ("ETag" = String, description = "Stands for the page"),
            ("Cache-Control" = String, description = "Until the next price change; `no-cache` when stale"),
        )),
        (status = 304, description = "The page is still the same"),
        (status = 400, description = "`invalid_query`, `invalid_page_token`"),
        (status = 410, description = "`snapshot_gone`"),
        (status = 503, description = "`no_market_data`: before the first complete crawl; `price_store_unavailable`: an old snapshot cannot be read now"),
    )
)]
pub async fn stocks_list(
    State(state): State<AppState>,
    _caller: Reader,
    wants: Wants,
    mut params: Params,
) -> Result<Response, ApiError> {
    let asked = asked(&mut params);
    let token = params.text("pageToken");
    params.finish()?;
    let (shelf, after) = stand(&state, &asked, token.as_deref()).await?;
    let moment = shelf.moment(state.freshness, Timestamp::now());
    state
        .metrics
        .snapshot_read(Some(moment.info.age_seconds), moment.info.stale);
    let page = state.shelves.page(&shelf, &asked, after, wants.gzip);
    state.shelves.prepare_next(&shelf, &asked, &page);
    Ok(answer(&page, &moment, &wants))
}

fn asked(params: &mut Params) -> Asked {
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX);
    let mut lower = |name| {
        params
            .label(name, SEARCH_MAX_CHARS)
            .map(|text| text.to_lowercase())
    };
    let filter = Filter {
        search: lower("search"),
        sector: lower("sector"),
        symbols: symbols(params),
        min_price: params.price("minPrice"),
        max_price: params.price("maxPrice"),
        movers: params.flag("movers"),
    };
    if let (Some(least), Some(most)) = (filter.min_price, filter.max_price) {
        check_prices(params, least, most);
    }
    let sort = params.one_of("sort", Sort::parse, &Sort::ALL.map(Sort::as_str));
    Asked::new(filter, sort.unwrap_or_default(), limit)
}

fn symbols(params: &mut Params) -> Option<Vec<Symbol>> {
    let mut symbols = params.symbols("symbols", SYMBOLS_MAX)?;
    symbols.sort();
    symbols.dedup();
    Some(symbols)
}

fn check_prices(params: &mut Params, least: Price, most: Price) {
    if least > most {
        let below = format!("This must be at most maxPrice ({most}).");
        params.refuse("minPrice", FieldCode::OutOfRange, below);
        let above = format!("This must be at least minPrice ({least}).");
        params.refuse("maxPrice", FieldCode::OutOfRange, above);
    }
}

/// Where the walk stands: at the beginning of the current snapshot, or within its own one after the stock at a place.
async fn stand(
    state: &AppState,
    asked: &Asked,
    token: Option<&str>,
) -> Result<(Arc<Shelf>, Option<u32>), ApiError> {
    let Some(token) = token else {
        if asked.filter().movers == Some(true)
            && let Some(movers) = state.shelves.movers().await
        {
            return Ok((movers, None));
        }
        return Ok((current(state).await?, None));
    };
    let position = state.tokens.open(asked.hash(), token)?;
    let nonsense = || {
        refuse(
            FieldCode::Forged,
            "This token makes no sense. Start again without pageToken.",
        )
    };
    let (id, symbol) = position.split_at_checked(16).ok_or_else(nonsense)?;
    let id = Uuid::from_slice(id).map_err(|_| nonsense())?;
    let symbol = std::str::from_utf8(symbol)
        .ok()
        .and_then(|text| Symbol::parse(text).ok())
        .ok_or_else(nonsense)?;
    let shelf = state.shelves.find(id).await.map_err(|lost| match lost {
        Lost::Gone => ApiError::new(
            Code::SnapshotGone,
            "The snapshot that this walk began on is no longer kept. Start again without pageToken.",
        ),
        Lost::Away(cause) => {
            state.metrics.snapshot_unreadable();
            ApiError::from(price_store_unavailable()).because(cause)
        }
    })?;
    let after = shelf.place_of(&symbol).ok_or_else(nonsense)?;
    Ok((shelf, Some(after)))
}

fn answer(page: &Page, moment: &Moment, wants: &Wants) -> Response {
    let etag = page.etag(moment.info.stale);
    let mut response = if wants.has(etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else if let (true, Some(gzip)) = (wants.gzip, page.gzip()) {
        let body = TwoParts::new(gzip.bytes(), gzip.end(&moment.end));
        let mut response = json(body);
        let encoding = HeaderValue::from_static("gzip");
        response.headers_mut().insert(header::CONTENT_ENCODING, encoding);
        response
    } else {
        json(TwoParts::new(page.text(), moment.end.clone()))
    };
    Caching {
        etag: etag.clone(),
        age: moment.age.clone(),
        cache_control: moment.cache_control.clone(),
    }
    .put(response.headers_mut());
    response
}

fn json(body: TwoParts) -> Response {
    let mut response = Response::new(Body::new(body));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
