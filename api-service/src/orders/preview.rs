//! What would become of an order, without any effect.

use std::sync::Arc;

use fuse_domain::{QuoteUsed, Reason, Snapshot};
use fuse_ledger::OutlookOf;
use jiff::Timestamp;
use uuid::Uuid;

use super::answer::rejection_problem;
use super::day::Day;
use super::desk::OrderDesk;
use super::limits::KeyRules;
use super::new_order::NewOrder;
use super::refusals::{changed_problem, daily_limit_problem};
use super::repeated::{client_order_id_taken, portfolio_not_found};
use crate::problem::{ApiError, Problem};

/// What the rules say about an order now. A moment later it may be something else.
pub struct Verdict {
    /// Why it would be rejected; `None`: the vendor would be asked.
    pub refused: Option<(Reason, Problem)>,
    /// What the price was compared with.
    pub quote: Option<QuoteUsed>,
    /// Where the quote is from.
    pub snapshot: Option<Arc<Snapshot>>,
}

impl OrderDesk {
    /// Judges an order exactly as [`OrderDesk::place`] does, and does nothing.
    pub async fn preview(
        &self,
        user_id: Uuid,
        order: &NewOrder,
        rules: &KeyRules,
        expected_version: Option<i64>,
        at: Timestamp,
    ) -> Result<Verdict, ApiError> {
        let checked = self.check(&order.request, rules, at);
        let day = Day::of(at);
        let key_id = rules.key_id.filter(|_| rules.max_per_day.is_some());
        let outlook = self
            .ledger
            .order_outlook(&OutlookOf {
                user_id,
                portfolio_id: order.portfolio_id,
                client_order_id: order.client_order_id.clone(),
                counted: key_id.map(|key_id| (key_id, day.first_id())),
            })
            .await?
            .ok_or_else(portfolio_not_found)?;
        if outlook.is_client_order_id_taken {
            return Err(client_order_id_taken());
        }
        let moved_from = expected_version.filter(|version| *version != outlook.version);
        let over = rules
            .max_per_day
            .filter(|max| outlook.placed_today >= i64::from(*max));
        // The first that applies, as in the ledger's own statement.
        let refused = match (checked.verdict, moved_from, over) {
            (Err(rejection), ..) => Some((
                rejection.reason(),
                rejection_problem(&rejection, order.notional.is_some()),
            )),
            (Ok(()), Some(version), _) => Some((Reason::PortfolioChanged, changed_problem(version))),
            (Ok(()), None, Some(max)) => Some((Reason::DailyLimitReached, daily_limit_problem(max, day, at))),
            (Ok(()), None, None) => None,
        };
        Ok(Verdict {
            refused,
            quote: checked.quote,
            snapshot: checked.snapshot,
        })
    }
}
