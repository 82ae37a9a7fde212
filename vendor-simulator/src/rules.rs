//! Rules as they are written: which request meets which action, how often; and which of them make no sense.

use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::fault::{BodyFault, ItemFault, PagingFault};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    List,
    Buy,
}

/// What a request must be like. Absent parts match everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    pub operation: Option<Operation>,
    /// Buys of this symbol only.
    pub symbol: Option<String>,
    /// Lists of this page only, from 1.
    pub page: Option<usize>,
    /// Only the n-th request that matches the parts above, from 1.
    pub nth: Option<u64>,
    /// 0..=1. Drawn from the rule's seed and the request's content, so the order of arrival does not matter.
    pub probability: Option<f64>,
    /// Fire for `on` matches, then rest for `off`, and so on.
    pub flap: Option<Flap>,
    /// The same by real time since the rule was added: not deterministic, for load runs only.
    pub flap_ms: Option<FlapMs>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flap {
    pub on: u64,
    pub off: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlapMs {
    pub on_ms: u64,
    pub off_ms: u64,
}

/// `POST /control/rules` takes one of these or a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    #[serde(rename = "match", default)]
    pub on: Match,
    pub action: Action,
    /// Uses before it is spent; absent: unlimited.
    #[serde(default)]
    pub times: Option<u64>,
}

impl Rule {
    /// A rule for every request of one operation.
    #[must_use]
    pub fn on(operation: Operation, action: Action) -> Self {
        let on = Match {
            operation: Some(operation),
            ..Match::default()
        };
        Self {
            on,
            action,
            times: None,
        }
    }

    /// A rule for buys of one symbol.
    #[must_use]
    pub fn on_buy_of(symbol: &str, action: Action) -> Self {
        let mut rule = Self::on(Operation::Buy, action);
        rule.on.symbol = Some(symbol.to_owned());
        rule
    }

    /// Something is wrong with these items, on whatever page they are; none named: with all.
    #[must_use]
    pub fn on_items(symbols: &[&str], fault: ItemFault) -> Self {
        let symbols = symbols.iter().map(|&symbol| symbol.to_owned()).collect();
        let action = Action::Item {
            fault,
            symbols,
            one_in: None,
        };
        Self::on(Operation::List, action)
    }

    /// Something is wrong with this page, from 1.
    #[must_use]
    pub fn on_page(page: usize, fault: PagingFault) -> Self {
        Self::on(Operation::List, Action::Paging { fault }).page(page)
    }

    /// Lists of this page only.
    #[must_use]
    pub fn page(mut self, page: usize) -> Self {
        self.on.page = Some(page);
        self
    }

    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    #[must_use]
    pub fn nth(mut self, nth: u64) -> Self {
        self.on.nth = Some(nth);
        self
    }

    #[must_use]
    pub fn probability(mut self, probability: f64) -> Self {
        self.on.probability = Some(probability);
        self
    }
}

/// Nested arrays are written down whole.
const DEPTH_MAX: usize = 10_000_000;
/// One tebibyte; its sums still fit.
const BULK_BYTES_MAX: u64 = 1 << 40;

/// A rule that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleError {
    ProbabilityOutOfRange,
    StatusOutOfRange(u16),
    FlapWithoutLength,
    /// `refuse_connect` is about connections, before any request.
    RefuseConnectTakesNoMatch,
    NotAHeader(String),
    /// `one_in` or `times` of 0, a loop to page 1, or more than this process can write.
    NumberOutOfRange(&'static str),
}

impl std::fmt::Display for RuleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ProbabilityOutOfRange => f.write_str("probability must be within 0..=1"),
            Self::StatusOutOfRange(status) => write!(f, "status {status} is not within 200..=599"),
            Self::FlapWithoutLength => f.write_str("a flap needs a length above 0"),
            Self::RefuseConnectTakesNoMatch => f.write_str("refuse_connect takes no match and no times"),
            Self::NotAHeader(text) => write!(f, "{text:?} cannot be a header value"),
            Self::NumberOutOfRange(name) => write!(f, "{name} is out of range"),
        }
    }
}

impl std::error::Error for RuleError {}

pub(crate) fn check(rule: &Rule) -> Result<(), RuleError> {
    if rule.on.probability.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
        return Err(RuleError::ProbabilityOutOfRange);
    }
    let no_flap = rule
        .on
        .flap
        .is_some_and(|f| f.on.checked_add(f.off).is_none_or(|n| n == 0));
    let no_flap_ms = rule
        .on
        .flap_ms
        .is_some_and(|f| f.on_ms.checked_add(f.off_ms).is_none_or(|n| n == 0));
    if no_flap || no_flap_ms {
        return Err(RuleError::FlapWithoutLength);
    }
    match &rule.action {
        Action::RefuseConnect { .. } if rule.on != Match::default() || rule.times.is_some() => {
            Err(RuleError::RefuseConnectTakesNoMatch)
        }
        Action::Status {
            status,
            retry_after,
            location,
            ..
        } => {
            if !(200..=599).contains(status) {
                return Err(RuleError::StatusOutOfRange(*status));
            }
            for text in [retry_after, location].into_iter().flatten() {
                if http::HeaderValue::from_str(text).is_err() {
                    return Err(RuleError::NotAHeader(text.clone()));
                }
            }
            Ok(())
        }
        Action::Item { one_in: Some(0), .. } => Err(RuleError::NumberOutOfRange("one_in")),
        Action::Paging { fault } => check_paging(fault),
        Action::Body { fault, .. } => check_body(fault),
        _ => Ok(()),
    }
}

fn check_paging(fault: &PagingFault) -> Result<(), RuleError> {
    match fault {
        PagingFault::LoopTo(..=1) => Err(RuleError::NumberOutOfRange("loop_to")),
        PagingFault::BiggerPage { times: 0 } => Err(RuleError::NumberOutOfRange("times")),
        _ => Ok(()),
    }
}

fn check_body(fault: &BodyFault) -> Result<(), RuleError> {
    match fault {
        BodyFault::ContentType(text) if http::HeaderValue::from_str(text).is_err() => {
            Err(RuleError::NotAHeader(text.clone()))
        }
        BodyFault::Deep { depth } if *depth > DEPTH_MAX => Err(RuleError::NumberOutOfRange("depth")),
        BodyFault::Huge { bytes, .. } if *bytes > BULK_BYTES_MAX => Err(RuleError::NumberOutOfRange("bytes")),
        BodyFault::ManyItems { items } if *items > BULK_BYTES_MAX => {
            Err(RuleError::NumberOutOfRange("items"))
        }
        BodyFault::GzipBomb { inflated_bytes } if *inflated_bytes > BULK_BYTES_MAX => {
            Err(RuleError::NumberOutOfRange("inflated_bytes"))
        }
        _ => Ok(()),
    }
}
