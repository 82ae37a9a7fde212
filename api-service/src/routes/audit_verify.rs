//! `GET /v1/audit/verify`: is everything what it was?

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use fuse_domain::ChainHead;
use fuse_ledger::Verification;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Admin;
use crate::input::Params;
use crate::problem::{ApiError, Code, Problem};
use crate::state::AppState;

/// What is left of a request's time for everything but the check.
const MARGIN: Duration = Duration::from_secs(5);
/// When to ask again for a check that takes longer.
const AGAIN_AFTER_SECS: u64 = 10;

/// What a check of the whole ledger found.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Verification)]
pub struct VerificationBody {
    /// Whether nothing is wrong.
    valid: bool,
    checked: CheckedBody,
    /// When the check ended.
    #[schema(value_type = String, format = DateTime)]
    checked_at: Timestamp,
    /// The end of the hash chain; null before its first link.
    head: Option<HeadBody>,
    /// The first row that is wrong.
    first_bad: Option<BadRowBody>,
}

/// How much was looked at.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VerificationCounts)]
struct CheckedBody {
    events: u64,
    orders: u64,
    holdings: u64,
}

/// A link of the hash chain; the daily report shows the same.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChainHead)]
struct HeadBody {
    link: i64,
    /// Events in all links up to it.
    events: i64,
    /// 64 hexadecimal digits.
    hash: String,
}

/// A row that is not what it should be.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BadRow)]
struct BadRowBody {
    /// `chain`, `events`, `holdings`, `versions` or `attempts`.
    invariant: &'static str,
    row: String,
    problem: String,
}

/// Check the whole ledger
///
/// Walks the hash chain over all order events and compares orders, holdings and versions with them. A check that takes longer than
/// a request goes on, and whoever asks again within a minute of its end gets its result. `api-service verify` does the same.
#[utoipa::path(
    get, path = "/v1/audit/verify", tag = "service",
    responses((status = 200, body = VerificationBody), (status = 503, description = "`verification_running`, `database_unavailable`"))
)]
pub async fn audit_verify(
    State(state): State<AppState>,
    _: Admin,
    params: Params,
) -> Result<Json<VerificationBody>, ApiError> {
    params.finish()?;
    let wait = state.limits.request_timeout.saturating_sub(MARGIN);
    match state.auditor.verify_within(wait).await {
        Some(found) => Ok(Json(VerificationBody::from(&*found?))),
        None => {
            let detail = "The check takes longer than a request may; it goes on. Ask again for its result.";
            Err(Problem::new(Code::VerificationRunning, detail)
                .retry_after(AGAIN_AFTER_SECS)
                .into())
        }
    }
}

impl From<&Verification> for VerificationBody {
    fn from(found: &Verification) -> Self {
        Self {
            valid: found.is_valid(),
            checked: CheckedBody {
                events: found.events,
                orders: found.orders,
                holdings: found.holdings,
            },
            checked_at: found.at,
            head: found.head.as_ref().map(HeadBody::from),
            first_bad: found.first_bad.as_ref().map(|bad| BadRowBody {
                invariant: bad.invariant.as_str(),
                row: bad.row.clone(),
                problem: bad.problem.clone(),
            }),
        }
    }
}

impl From<&ChainHead> for HeadBody {
    fn from(head: &ChainHead) -> Self {
        Self {
            link: head.link,
            events: head.events,
            hash: head.hash_text(),
        }
    }
}
