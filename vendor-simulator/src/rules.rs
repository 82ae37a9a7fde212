//! Rules: which request meets which fault, how often. The first rule that fires decides; latency and ticks add up on the way to it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::seed::draw;

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

/// How long an answer is held back. A buy is decided before the wait: a client that gives up has still bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "distribution", rename_all = "snake_case")]
pub enum Latency {
    Fixed {
        ms: u64,
    },
    Uniform {
        min_ms: u64,
        max_ms: u64,
    },
    /// Half of the answers near the median, each doubling half as likely, never above the maximum.
    HeavyTail {
        median_ms: u64,
        max_ms: u64,
    },
}

/// The body of a status fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// `{"status":N,"message":"..."}`
    #[default]
    Envelope,
    /// `{"message":"..."}` without a status, as for a bad key.
    Message,
    /// A page of a proxy, as `text/html`.
    Html,
    Empty,
}

/// What happens to a request. `executed` tells whether a buy is judged and, when good, executed all the same.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Adds up with other rules; does not end the search.
    Latency(Latency),
    /// Advances the price clock after (or before) this request; does not end the search.
    Tick {
        by: u32,
        #[serde(default)]
        before: bool,
    },
    /// Closes the listener and all connections at once, until `for_ms` is over or the rules are deleted. Takes no match and no times.
    RefuseConnect {
        #[serde(default)]
        for_ms: Option<u64>,
    },
    /// TCP reset after the request was read.
    Reset { executed: bool },
    /// The connection stays open and silent.
    NeverAnswer { executed: bool },
    /// The normal answer, one byte at a time.
    SlowBody {
        #[serde(default = "one_second")]
        byte_every_ms: u64,
    },
    /// Full `content-length`, half of the body, then the end.
    CloseMidBody {
        #[serde(default = "yes")]
        executed: bool,
    },
    /// This status instead of the answer.
    Status {
        status: u16,
        #[serde(default)]
        body: Body,
        #[serde(default)]
        executed: bool,
        #[serde(default)]
        retry_after: Option<String>,
        #[serde(default)]
        location: Option<String>,
    },
    /// HTTP 200 around an envelope with another status.
    Envelope {
        status: u16,
        #[serde(default)]
        executed: bool,
    },
}

fn one_second() -> u64 {
    1000
}

fn yes() -> bool {
    true
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

/// A rule that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleError {
    ProbabilityOutOfRange,
    StatusOutOfRange(u16),
    FlapWithoutLength,
    /// `refuse_connect` is about connections, before any request.
    RefuseConnectTakesNoMatch,
    NotAHeader(String),
}

impl std::fmt::Display for RuleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ProbabilityOutOfRange => f.write_str("probability must be within 0..=1"),
            Self::StatusOutOfRange(status) => write!(f, "status {status} is not within 200..=599"),
            Self::FlapWithoutLength => f.write_str("a flap needs a length above 0"),
            Self::RefuseConnectTakesNoMatch => f.write_str("refuse_connect takes no match and no times"),
            Self::NotAHeader(text) => write!(f, "{text:?} cannot be a header value"),
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
        _ => Ok(()),
    }
}

/// What a rule sees of a request.
pub(crate) struct Seen<'a> {
    pub(crate) operation: Operation,
    pub(crate) symbol: Option<&'a str>,
    pub(crate) page: Option<usize>,
    /// What makes two requests the same for draws: path, query and body.
    pub(crate) content: &'a [u8],
}

/// What the rules say about one request.
#[derive(Debug, Default)]
pub(crate) struct Fired {
    pub(crate) delay: Duration,
    pub(crate) ticks_before: u32,
    pub(crate) ticks_after: u32,
    pub(crate) fault: Option<Action>,
}

#[derive(Debug)]
struct ActiveRule {
    rule: Rule,
    /// Its place among all rules ever added since the start or reset: the seed of its stream.
    number: u64,
    matched: u64,
    used: u64,
    /// How often each content (its hash) was seen, for draws that do not depend on the order of arrival. Kept only where something is
    /// drawn: a long run has many contents.
    seen: HashMap<u64, u64>,
    added: Instant,
}

/// A rule as `GET /control/state` shows it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RuleState {
    #[serde(flatten)]
    rule: Rule,
    matched: u64,
    used: u64,
}

#[derive(Debug)]
pub(crate) struct RuleBook {
    seed: u64,
    added: u64,
    rules: Vec<ActiveRule>,
}

impl RuleBook {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            added: 0,
            rules: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, rule: Rule) {
        self.rules.push(ActiveRule {
            rule,
            number: self.added,
            matched: 0,
            used: 0,
            seen: HashMap::new(),
            added: Instant::now(),
        });
        self.added += 1;
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(crate) fn states(&self) -> Vec<RuleState> {
        self.rules
            .iter()
            .map(|active| RuleState {
                rule: active.rule.clone(),
                matched: active.matched,
                used: active.used,
            })
            .collect()
    }

    pub(crate) fn decide(&mut self, request: &Seen<'_>) -> Fired {
        let mut fired = Fired::default();
        for active in &mut self.rules {
            let Some(luck) = active.fires(self.seed, request) else {
                continue;
            };
            match &active.rule.action {
                Action::Latency(latency) => fired.delay += latency.delay(luck),
                Action::Tick { by, before: true } => fired.ticks_before += by,
                Action::Tick { by, before: false } => fired.ticks_after += by,
                fault => {
                    fired.fault = Some(fault.clone());
                    break;
                }
            }
        }
        fired
    }
}

impl ActiveRule {
    /// A number to draw from when the rule fires.
    fn fires(&mut self, seed: u64, request: &Seen<'_>) -> Option<u64> {
        let on = &self.rule.on;
        let spent = self.rule.times.is_some_and(|times| self.used >= times);
        let matches = !spent
            && on.operation.is_none_or(|op| op == request.operation)
            && on
                .symbol
                .as_deref()
                .is_none_or(|symbol| request.symbol == Some(symbol))
            && on.page.is_none_or(|page| request.page == Some(page));
        if !matches {
            return None;
        }
        self.matched += 1;
        let draws = on.probability.is_some() || matches!(self.rule.action, Action::Latency(_));
        let (chance, luck) = if draws {
            let content = draw(seed, &[request.content]);
            let count = self.seen.entry(content).or_default();
            *count += 1;
            let (number, count) = (self.number.to_le_bytes(), count.to_le_bytes());
            let of = |kind: &[u8]| draw(seed, &[kind, &number, request.content, &count]);
            (of(b"chance"), of(b"luck"))
        } else {
            (0, 0)
        };
        let fires = on.nth.is_none_or(|nth| nth == self.matched)
            && on
                .flap
                .is_none_or(|flap| (self.matched - 1) % (flap.on + flap.off) < flap.on)
            && on.flap_ms.is_none_or(|flap| flap.is_on(self.added.elapsed()))
            && on.probability.is_none_or(|p| is_lucky(chance, p));
        if !fires {
            return None;
        }
        self.used += 1;
        Some(luck)
    }
}

impl FlapMs {
    fn is_on(self, since: Duration) -> bool {
        since.as_millis() % u128::from(self.on_ms + self.off_ms) < u128::from(self.on_ms)
    }
}

fn is_lucky(draw: u64, probability: f64) -> bool {
    // 32 bits are enough for a chance and exact in a double.
    let upper = u32::try_from(draw >> 32).expect("32 bits remain");
    f64::from(upper) < probability * 4_294_967_296.0
}

impl Latency {
    fn delay(self, luck: u64) -> Duration {
        let ms = match self {
            Self::Fixed { ms } => ms,
            Self::Uniform { min_ms, max_ms } => {
                min_ms + luck % (max_ms.saturating_sub(min_ms).saturating_add(1)).max(1)
            }
            Self::HeavyTail { median_ms, max_ms } => {
                let near = median_ms / 2 + (luck >> 32) % median_ms.max(1);
                let doublings = (luck & 0xFFFF_FFFF).trailing_ones().min(20);
                near.saturating_mul(1 << doublings).min(max_ms)
            }
        };
        Duration::from_millis(ms)
    }
}
