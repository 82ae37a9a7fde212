//! `GET /v1/stocks`: a page of one snapshot, by symbol.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use fuse_domain::{Quote, Snapshot, Symbol};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::auth::Reader;
use crate::input::Params;
use crate::market_data::{Aged, SnapshotInfo, StockBody, current_or_wait, no_market_data};
use crate::page_token::{FilterHash, List, refuse};
use crate::problem::{ApiError, Code, FieldCode};
use crate::state::AppState;

const LIMIT_DEFAULT: u16 = 100;
const LIMIT_MAX: u16 = 500;
const SEARCH_MAX_CHARS: usize = 64;

/// A page of stocks.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StockPage {
    /// By symbol.
    items: Vec<StockBody>,
    /// Send it as `pageToken` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
    /// Stocks on all pages.
    total: usize,
    snapshot: SnapshotInfo,
}

/// What a walk selects.
struct Filter {
    /// Lower case.
    search: Option<String>,
    /// Lower case.
    sector: Option<String>,
}

impl Filter {
    fn hash(&self) -> FilterHash {
        FilterHash::of(List::Stocks, [self.search.as_deref(), self.sector.as_deref()])
    }

    fn selects(&self, quote: &Quote) -> bool {
        let found = self.search.as_ref().is_none_or(|search| {
            quote.symbol.as_str().to_lowercase().contains(search)
                || quote.name.to_lowercase().contains(search)
        });
        found
            && self
                .sector
                .as_ref()
                .is_none_or(|sector| quote.sector.to_lowercase() == *sector)
    }
}

/// List stocks
///
/// Pages by symbol. A walk over all pages sees one snapshot, whatever happens meanwhile: nothing twice, nothing missed.
/// A token of a snapshot that is gone answers 410: start again without it.
#[utoipa::path(
    get, path = "/v1/stocks", tag = "stocks",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "Stocks on a page, 100 when absent"),
        ("pageToken" = Option<String>, Query, description = "`nextPageToken` of the page before; every other parameter but `limit` stays the same"),
        ("search" = Option<String>, Query, max_length = 64, description = "Part of the symbol or name, in any case"),
        ("sector" = Option<String>, Query, max_length = 64, description = "The whole sector, in any case"),
    ),
    responses(
        (status = 200, body = StockPage, headers(("Age" = u64, description = "Seconds since the snapshot was taken"))),
        (status = 400, description = "`invalid_query`, `invalid_page_token`"),
        (status = 410, description = "`snapshot_gone`"),
        (status = 503, description = "`no_market_data`: before the first complete crawl"),
    )
)]
pub async fn stocks_list(
    State(state): State<AppState>,
    _caller: Reader,
    mut params: Params,
) -> Result<Aged<Json<StockPage>>, ApiError> {
    let now = Timestamp::now();
    let limit = params.limit(LIMIT_DEFAULT, LIMIT_MAX);
    let filter = Filter {
        search: params
            .label("search", SEARCH_MAX_CHARS)
            .map(|text| text.to_lowercase()),
        sector: params
            .label("sector", SEARCH_MAX_CHARS)
            .map(|text| text.to_lowercase()),
    };
    let token = params.text("pageToken");
    params.finish()?;
    let (snapshot, after) = stand(&state, &filter, token.as_deref(), now).await?;
    let page = page(
        &state,
        &snapshot,
        &filter,
        after.as_ref(),
        usize::from(limit),
        now,
    );
    Ok(Aged(page.snapshot.age_seconds, Json(page)))
}

/// Where the walk stands: the current snapshot at its start, its own snapshot afterwards.
async fn stand(
    state: &AppState,
    filter: &Filter,
    token: Option<&str>,
    now: Timestamp,
) -> Result<(Arc<Snapshot>, Option<Symbol>), ApiError> {
    let Some(token) = token else {
        return Ok((current_or_wait(state, now).await?, None));
    };
    let position = state.tokens.open(filter.hash(), token)?;
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
        .and_then(|text| Symbol::parse(text).ok());
    let symbol = symbol.ok_or_else(nonsense)?;
    let snapshot = state.market.snapshot(id).await.map_err(|error| {
        ApiError::from(no_market_data()).because(error)
    })?;
    let snapshot = snapshot.ok_or_else(|| {
        ApiError::new(
            Code::SnapshotGone,
            "The snapshot that this walk began on is no longer kept. Start again without pageToken.",
        )
    })?;
    Ok((snapshot, Some(symbol)))
}

fn page(
    state: &AppState,
    snapshot: &Snapshot,
    filter: &Filter,
    after: Option<&Symbol>,
    limit: usize,
    now: Timestamp,
) -> StockPage {
    let mut items = Vec::with_capacity(limit.min(snapshot.quotes.len()));
    let (mut total, mut last, mut has_more) = (0, None, false);
    for quote in snapshot.quotes.iter().filter(|quote| filter.selects(quote)) {
        total += 1;
        if after.is_some_and(|after| quote.symbol <= *after) {
            continue;
        }
        if items.len() == limit {
            has_more = true;
            continue;
        }
        items.push(StockBody::from(quote));
        last = Some(&quote.symbol);
    }
    let next_page_token = last.filter(|_| has_more).map(|symbol| {
        let position = [snapshot.meta.id.as_bytes(), symbol.as_str().as_bytes()].concat();
        state.tokens.seal(filter.hash(), &position)
    });
    StockPage {
        items,
        next_page_token,
        total,
        snapshot: state.freshness.describe(&snapshot.meta, now),
    }
}
