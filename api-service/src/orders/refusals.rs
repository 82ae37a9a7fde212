//! What an order may be refused with before the vendor is called, as ready answers: the last word has the ledger, in the statement that
//! writes the order, and it stores the answer with it.

use fuse_domain::{Reason, Rejection};
use fuse_ledger::{DailyLimit, Decision, ExpectedVersion};
use jiff::Timestamp;
use uuid::Uuid;

use super::answer::{Answer, rejection_problem};
use super::day::Day;
use super::desk::PlaceOrder;
use crate::http::RequestContext;
use crate::problem::{Code, FieldCode, FieldError, Place, Problem};

/// The answers to one order, each for one reason.
pub struct Refusals {
    rejection: Option<(Reason, Answer)>,
    changed: Option<(i64, Answer)>,
    over: Option<(u32, Day, Answer)>,
}

impl Refusals {
    /// Renders whatever may be needed; `rejection` is what the rules said.
    #[must_use]
    pub fn render(order: &PlaceOrder, rejection: Option<&Rejection>, id: Uuid, at: Timestamp) -> Self {
        let answer = |problem: Problem, context: &RequestContext| Answer::problem(problem, id, context);
        let is_by_amount = order.order.notional.is_some();
        let day = Day::of(at);
        Self {
            rejection: rejection.map(|rejection| {
                let problem = rejection_problem(rejection, is_by_amount);
                (rejection.reason(), answer(problem, &order.context))
            }),
            changed: order
                .expected_version
                .map(|version| (version, answer(changed_problem(version), &order.context))),
            over: order.rules.max_per_day.map(|max| {
                (
                    max,
                    day,
                    answer(daily_limit_problem(max, day, at), &order.context),
                )
            }),
        }
    }

    /// What the ledger is told.
    #[must_use]
    pub fn decision(&self) -> Decision {
        match &self.rejection {
            None => Decision::Accepted,
            Some((reason, answer)) => Decision::Rejected {
                reason: *reason,
                answer: answer.stored.clone(),
            },
        }
    }

    /// The version that the portfolio must be at, and the answer when it is not.
    #[must_use]
    pub fn expected(&self) -> Option<ExpectedVersion> {
        self.changed.as_ref().map(|(version, answer)| ExpectedVersion {
            version: *version,
            answer_body: answer.stored.body.clone(),
        })
    }

    /// How many orders the key may place, and the answer beyond.
    #[must_use]
    pub fn daily(&self) -> Option<DailyLimit> {
        self.over.as_ref().map(|(max, day, answer)| DailyLimit {
            max: i64::from(*max),
            day_begins: day.first_id(),
            answer_body: answer.stored.body.clone(),
        })
    }

    /// The answer to an order that was rejected for this reason.
    #[must_use]
    pub fn answer(self, reason: Reason) -> Option<Answer> {
        match reason {
            Reason::PortfolioChanged => self.changed.map(|(_, answer)| answer),
            Reason::DailyLimitReached => self.over.map(|(_, _, answer)| answer),
            _ => self
                .rejection
                .filter(|(own, _)| *own == reason)
                .map(|(_, answer)| answer),
        }
    }
}

/// The portfolio is not at the version that the client has seen.
#[must_use]
pub fn changed_problem(version: i64) -> Problem {
    let detail = format!(
        "The portfolio is not at version {version} any more, or never was. Read it again, and if you still want the order, place it with the \
         new ETag and a new Idempotency-Key."
    );
    let entry = FieldError::new(Place::Header, "/If-Match", FieldCode::Refused, detail.clone());
    Problem::new(Code::PortfolioChanged, detail).with_errors(vec![entry])
}

/// The key has placed as many orders as it may.
#[must_use]
pub fn daily_limit_problem(max: u32, day: Day, at: Timestamp) -> Problem {
    let detail = format!(
        "This key may place {max} orders in a day, and has. The next day begins at {}: order then, with a new Idempotency-Key.",
        day.ends_at()
    );
    Problem::new(Code::DailyLimitReached, detail).retry_after(day.secs_left(at))
}
