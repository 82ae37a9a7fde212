//! The rules in force: which of them fire for a request, how often they have matched and been used. The first fault that fires
//! decides; everything else adds up on the way to it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::action::Action;
use crate::fault::{BuyFault, PagingFault};
use crate::items::ItemRule;
use crate::rules::{FlapMs, Operation, Rule};
use crate::seed::draw;

/// What a rule sees of a request.
pub(crate) struct Seen<'a> {
    pub(crate) operation: Operation,
    pub(crate) symbol: Option<&'a str>,
    pub(crate) page: Option<usize>,
    /// Whether the page that is asked for lists a symbol.
    pub(crate) lists: &'a dyn Fn(&str) -> bool,
    /// What makes two requests the same for draws: path, query and body.
    pub(crate) content: &'a [u8],
}

/// What the rules say about one request.
#[derive(Debug, Default)]
pub(crate) struct Fired {
    pub(crate) delay: Duration,
    pub(crate) ticks_before: u32,
    pub(crate) ticks_after: u32,
    /// What to change in the page, in the rules' order.
    pub(crate) shapes: Vec<Shape>,
    pub(crate) buy_answer: Option<BuyFault>,
    pub(crate) strict_edge: bool,
    pub(crate) fault: Option<Action>,
}

/// A change of a page that leaves it an answer.
#[derive(Debug)]
pub(crate) enum Shape {
    Items(ItemRule),
    Paging(PagingFault),
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
                Action::Item {
                    fault,
                    symbols,
                    one_in,
                } => fired.shapes.push(Shape::Items(ItemRule {
                    fault: fault.clone(),
                    symbols: symbols.clone(),
                    one_in: *one_in,
                })),
                Action::Paging { fault } => fired.shapes.push(Shape::Paging(fault.clone())),
                Action::BuyAnswer { fault } => fired.buy_answer = Some(*fault),
                Action::StrictEdge => fired.strict_edge = true,
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
            && on.page.is_none_or(|page| request.page == Some(page))
            && self.rule.action.concerns(request);
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

impl Action {
    /// Faults of pages concern lists, and those of single items only the pages that list one of them; faults of orders concern buys.
    fn concerns(&self, request: &Seen<'_>) -> bool {
        match self {
            Self::Item { symbols, .. } => {
                request.operation == Operation::List
                    && (symbols.is_empty() || symbols.iter().any(|symbol| (request.lists)(symbol)))
            }
            Self::Paging { .. } => request.operation == Operation::List,
            Self::BuyAnswer { .. } | Self::StrictEdge => request.operation == Operation::Buy,
            _ => true,
        }
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
