//! `GET /v1/clock`: when prices change, how the vendor does, when the next report is due.

use axum::Json;
use axum::extract::State;
use fuse_domain::BreakerState;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Reader;
use crate::input::Params;
use crate::market_data::{SnapshotInfo, current_if_any};
use crate::problem::ApiError;
use crate::state::AppState;

/// Times and states.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Clock {
    #[schema(value_type = String, format = DateTime)]
    now: Timestamp,
    /// The newest price change that was seen; null before the first crawl.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_tick_at: Option<Timestamp>,
    /// When prices are expected to change next; null before the first crawl.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_tick_at: Option<Timestamp>,
    vendor: VendorClock,
    snapshot: Option<SnapshotInfo>,
    /// Whether prices are too old to be taken for current, or not there at all.
    stale: bool,
    /// Prices older than this are stale.
    stale_after_seconds: u64,
    /// When the next daily report is due.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_report_at: Option<Timestamp>,
}

/// The breakers around the vendor.
#[derive(Debug, Serialize, ToSchema)]
pub struct VendorClock {
    list: BreakerClock,
    buy: BreakerClock,
}

/// One breaker.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakerClock {
    /// `closed`, `open` or `half_open`, as this replica sees it.
    #[schema(example = "closed")]
    breaker: &'static str,
    /// While it is open: when the vendor is called again.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    open_until: Option<Timestamp>,
}

impl From<BreakerState> for BreakerClock {
    fn from(state: BreakerState) -> Self {
        Self {
            breaker: state.as_str(),
            open_until: match state {
                BreakerState::Open { until } => Some(until),
                BreakerState::Closed | BreakerState::HalfOpen => None,
            },
        }
    }
}

/// Read the clock
#[utoipa::path(get, path = "/v1/clock", tag = "service", responses((status = 200, body = Clock)))]
pub async fn clock_get(
    State(state): State<AppState>,
    _caller: Reader,
    params: Params,
) -> Result<Json<Clock>, ApiError> {
    params.finish()?;
    let now = Timestamp::now();
    let snapshot = current_if_any(&state, now);
    let info = snapshot
        .as_ref()
        .map(|snapshot| state.freshness.describe(&snapshot.meta, now));
    let breakers = state.vendor.breakers();
    Ok(Json(Clock {
        now,
        last_tick_at: snapshot.as_ref().map(|snapshot| snapshot.meta.tick_at),
        next_tick_at: info.as_ref().map(|info| info.next_tick_at),
        vendor: VendorClock {
            list: breakers.list.into(),
            buy: breakers.buy.into(),
        },
        stale: info.as_ref().is_none_or(|info| info.stale),
        stale_after_seconds: state.freshness.stale_after_secs,
        snapshot: info,
        next_report_at: state.report_schedule.next(now),
    }))
}
