//! The vendor itself, without any I/O: a request in, a plan for the answer out. Everything is decided and counted in one step, so the
//! counters add up at every moment.

use std::time::Duration;

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use rust_decimal::Decimal;
use serde::Serialize;

use crate::action::Action;
use crate::body::{self, Bulk};
use crate::book::{RuleBook, RuleState, Seen};
use crate::clock::Clock;
use crate::config::SimulatorConfig;
use crate::counters::{Counters, Executed};
use crate::paging::Pages;
use crate::rules::{Operation, Rule};
use crate::stocks::{Stocks, TICK_SECS};
use crate::wire::Answer;

/// A request as the transport read it.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    /// Still percent-encoded.
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) api_key: Option<&'a [u8]>,
    pub(crate) body: &'a [u8],
}

/// What the transport does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Full(Answer),
    /// One byte at a time.
    Slow(Answer, Duration),
    /// Half of the body, then the end.
    CutMidBody(Answer),
    /// Too large to hold.
    Bulk(Bulk),
    Reset,
    Never,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) operation: Option<Operation>,
    pub(crate) delay: Duration,
    pub(crate) delivery: Delivery,
}

/// `GET /control/state`.
#[derive(Serialize)]
pub(crate) struct State {
    #[serde(flatten)]
    pub(crate) counters: Counters,
    pub(crate) tick: i64,
    /// When it began, in the items' time.
    pub(crate) tick_at: String,
    pub(crate) seed: u64,
    pub(crate) symbols: usize,
    pub(crate) pages: usize,
    pub(crate) rules: Vec<RuleState>,
}

#[derive(Debug)]
pub(crate) struct Vendor {
    pub(crate) config: SimulatorConfig,
    pub(crate) stocks: Stocks,
    pub(crate) pages: Pages,
    pub(crate) clock: Clock,
    rules: RuleBook,
    pub(crate) counters: Counters,
    pub(crate) executed: Vec<Executed>,
}

enum Route {
    List(Option<String>),
    Buy(String),
    Unknown,
}

impl Vendor {
    pub(crate) fn new(config: SimulatorConfig) -> Self {
        let stocks = Stocks::new(config.seed, config.symbols.max(1), &config.listed);
        let all = stocks.all();
        let pages = Pages::new(config.seed, all.len(), config.page_size, |index| {
            all[index].symbol.clone()
        });
        let clock = if config.wall_clock {
            Clock::on_the_wall(wall_tick(&config), Timestamp::now())
        } else {
            Clock::new(config.epoch)
        };
        Self {
            clock,
            rules: RuleBook::new(config.seed),
            stocks,
            pages,
            config,
            counters: Counters::default(),
            executed: Vec::new(),
        }
    }

    /// As freshly started; connections that are open stay counted as in flight.
    pub(crate) fn reset(&mut self) {
        let in_flight = self.counters.in_flight;
        *self = Self::new(self.config.clone());
        self.counters.in_flight = in_flight;
    }

    pub(crate) fn tick(&mut self, by: u32) -> i64 {
        self.clock.advance(by, Timestamp::now);
        self.clock.tick()
    }

    /// The next tick, which began at this boundary of the real clock.
    pub(crate) fn tick_at(&mut self, boundary: Timestamp) {
        self.clock.advance_to(boundary);
    }

    pub(crate) fn rules(&mut self) -> &mut RuleBook {
        &mut self.rules
    }

    pub(crate) fn add_rule(&mut self, rule: Rule) {
        self.rules.add(rule);
    }

    pub(crate) fn executed(&self) -> &[Executed] {
        &self.executed
    }

    pub(crate) fn list_prices(&mut self, symbol: &str, prices: Vec<Decimal>) -> bool {
        self.stocks.list_prices(symbol, prices)
    }

    pub(crate) fn price(&self, symbol: &str) -> Option<Decimal> {
        let stock = self.stocks.get(symbol)?;
        Some(self.stocks.price(stock, self.clock.tick()))
    }

    pub(crate) fn symbols(&self) -> Vec<String> {
        self.stocks.all().iter().map(|s| s.symbol.clone()).collect()
    }

    pub(crate) fn state(&self) -> State {
        State {
            counters: self.counters.clone(),
            tick: self.clock.tick(),
            tick_at: self.clock.last_updated(0, 0),
            seed: self.config.seed,
            symbols: self.stocks.all().len(),
            pages: self.pages.count(),
            rules: self.rules.states(),
        }
    }

    /// Decides, counts, and says what to answer.
    pub(crate) fn handle(&mut self, request: &Request<'_>) -> Plan {
        let route = route(request);
        let (operation, symbol, page) = match &route {
            Route::List(token) => {
                let page = self.pages.page(token.as_deref()).map(|page| page.number);
                (Operation::List, None, page)
            }
            Route::Buy(symbol) => (Operation::Buy, Some(symbol.as_str()), None),
            Route::Unknown => {
                self.counters.unknown_routes += 1;
                return Plan {
                    operation: None,
                    delay: Duration::ZERO,
                    delivery: Delivery::Full(not_found()),
                };
            }
        };
        let content = [request.path, "?", request.query, "\n"].concat().into_bytes();
        let content = [content.as_slice(), request.body].concat();
        let range = page.map(|number| self.pages.items(number, 1)).unwrap_or_default();
        let stocks = &self.stocks;
        let mut fired = self.rules.decide(&Seen {
            operation,
            symbol,
            page,
            lists: &|symbol| stocks.position(symbol).is_some_and(|at| range.contains(&at)),
            content: &content,
        });
        let (delay, ticks_after) = (fired.delay, std::mem::take(&mut fired.ticks_after));
        self.tick(fired.ticks_before);
        let delivery = match &route {
            Route::List(token) => self.list(token.as_deref(), request, fired),
            Route::Buy(symbol) => self.buy(symbol, request, fired),
            Route::Unknown => Delivery::Full(not_found()),
        };
        self.tick(ticks_after);
        Plan {
            operation: Some(operation),
            delay,
            delivery,
        }
    }

    pub(crate) fn key_is_good(&mut self, request: &Request<'_>) -> bool {
        let good = request.api_key == Some(self.config.api_key.as_bytes());
        if !good {
            self.counters.bad_keys += 1;
        }
        good
    }

    /// A complete answer went to the transport.
    pub(crate) fn note_answered(&mut self, operation: Option<Operation>) {
        match operation {
            Some(Operation::Buy) => self.counters.buys.answered += 1,
            Some(Operation::List) => self.counters.lists.answered += 1,
            None => {}
        }
    }
}

/// The interval of a clock on the wall, also when it ticks by command only.
fn wall_tick(config: &SimulatorConfig) -> Duration {
    let usual = Duration::from_secs(TICK_SECS.unsigned_abs());
    config.auto_tick.unwrap_or(usual)
}

fn not_found() -> Answer {
    Answer::error(404, "Not found")
}

pub(crate) fn forbidden() -> Answer {
    Answer::message_only(403, "Forbidden")
}

pub(crate) fn apply(fault: Action, answer: Answer, operation: Operation) -> Delivery {
    match fault {
        Action::Reset { .. } => Delivery::Reset,
        Action::NeverAnswer { .. } => Delivery::Never,
        Action::SlowBody { byte_every_ms } => Delivery::Slow(answer, Duration::from_millis(byte_every_ms)),
        Action::CloseMidBody { .. } => Delivery::CutMidBody(answer),
        Action::Body { fault, .. } => body::spoil(&fault, answer, operation),
        Action::Status {
            status,
            body,
            retry_after,
            location,
            ..
        } => Delivery::Full(Answer::fault(
            status,
            body,
            retry_after.as_deref(),
            location.as_deref(),
        )),
        Action::Envelope { status, .. } => Delivery::Full(Answer::envelope(200, status, "Request failed")),
        // What adds up, and the gate, never arrive here: the rule book keeps them apart.
        Action::Latency(_)
        | Action::Tick { .. }
        | Action::Item { .. }
        | Action::Paging { .. }
        | Action::BuyAnswer { .. }
        | Action::StrictEdge
        | Action::RefuseConnect { .. } => Delivery::Full(answer),
    }
}

fn route(request: &Request<'_>) -> Route {
    if request.path == "/stocks" && request.method == "GET" {
        return Route::List(next_token(request.query));
    }
    let symbol = request
        .path
        .strip_prefix("/stocks/")
        .and_then(|rest| rest.strip_suffix("/buy"))
        .filter(|symbol| !symbol.is_empty() && !symbol.contains('/'));
    match symbol {
        Some(symbol) if request.method == "POST" => {
            Route::Buy(percent_decode_str(symbol).decode_utf8_lossy().into_owned())
        }
        _ => Route::Unknown,
    }
}

/// Decoded as forms are: a raw `+` is a space. An empty token is the first page.
fn next_token(query: &str) -> Option<String> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("nextToken="))
        .filter(|token| !token.is_empty())
        .map(|token| {
            let spaced = token.replace('+', " ");
            percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        })
}
