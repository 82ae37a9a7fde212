//! The vendor itself, without any I/O: a request in, a plan for the answer out. Everything is decided and counted in one step, so the
//! counters add up at every moment.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use rust_decimal::Decimal;
use serde::Serialize;

use crate::clock::Clock;
use crate::config::{BandMode, SimulatorConfig};
use crate::counters::{Counters, Executed};
use crate::paging::Pages;
use crate::rules::{Action, Operation, Rule, RuleBook, RuleState, Seen};
use crate::stocks::Stocks;
use crate::wire::{self, Answer, Item};

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
    pub(crate) seed: u64,
    pub(crate) symbols: usize,
    pub(crate) rules: Vec<RuleState>,
}

#[derive(Debug)]
pub(crate) struct Vendor {
    config: SimulatorConfig,
    stocks: Stocks,
    pages: Pages,
    clock: Clock,
    rules: RuleBook,
    pub(crate) counters: Counters,
    executed: Vec<Executed>,
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
        Self {
            clock: Clock::new(config.epoch),
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
        self.clock.advance(by);
        self.clock.tick()
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
            seed: self.config.seed,
            symbols: self.stocks.all().len(),
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
        let fired = self.rules.decide(&Seen {
            operation,
            symbol,
            page,
            content: &content,
        });
        self.clock.advance(fired.ticks_before);
        let delivery = match &route {
            Route::List(token) => self.list(token.as_deref(), request, fired.fault),
            Route::Buy(symbol) => self.buy(symbol, request, fired.fault),
            Route::Unknown => Delivery::Full(not_found()),
        };
        self.clock.advance(fired.ticks_after);
        Plan {
            operation: Some(operation),
            delay: fired.delay,
            delivery,
        }
    }

    fn list(&mut self, token: Option<&str>, request: &Request<'_>, fault: Option<Action>) -> Delivery {
        self.counters.lists.received += 1;
        let Some(fault) = fault else {
            return Delivery::Full(self.list_page(token, request));
        };
        self.counters.lists.faulted += 1;
        let answer = self.list_page(token, request);
        apply(fault, answer)
    }

    fn list_page(&mut self, token: Option<&str>, request: &Request<'_>) -> Answer {
        if !self.key_is_good(request) {
            return forbidden();
        }
        let Some(page) = self.pages.page(token) else {
            self.counters.lists.bad_tokens += 1;
            return Answer::error(400, "Invalid nextToken");
        };
        self.counters.lists.pages += 1;
        let tick = self.clock.tick();
        let items: Vec<Item<'_>> = self.stocks.all()[page.items]
            .iter()
            .map(|stock| {
                let price = self.stocks.price(stock, tick);
                Item {
                    symbol: &stock.symbol,
                    name: &stock.name,
                    sector: &stock.sector,
                    price,
                    change: price - self.stocks.price(stock, tick - 1),
                    last_updated: self.clock.last_updated(self.stocks.update_lag_ms(stock, tick)),
                }
            })
            .collect();
        wire::page(&items, page.next_token)
    }

    fn buy(&mut self, symbol: &str, request: &Request<'_>, fault: Option<Action>) -> Delivery {
        self.counters.buys.received += 1;
        let before_execution = matches!(
            &fault,
            Some(
                Action::Reset { executed: false }
                    | Action::NeverAnswer { executed: false }
                    | Action::CloseMidBody { executed: false }
                    | Action::Status { executed: false, .. }
                    | Action::Envelope { executed: false, .. }
            )
        );
        let (answer, executed) = if before_execution {
            self.counters.buys.not_executed_by_fault += 1;
            (Answer::error(500, "Internal server error"), false)
        } else {
            self.judge(symbol, request)
        };
        let Some(fault) = fault else {
            return Delivery::Full(answer);
        };
        let delivery = apply(fault, answer);
        if matches!(
            delivery,
            Delivery::Reset | Delivery::Never | Delivery::CutMidBody(_)
        ) {
            if executed {
                self.counters.buys.cut_after_execution += 1;
            } else {
                self.counters.buys.cut_before_execution += 1;
            }
        }
        delivery
    }

    /// Executes or refuses a buy; the only place that does. Returns the answer and whether it was executed.
    fn judge(&mut self, symbol: &str, request: &Request<'_>) -> (Answer, bool) {
        let mut refuse = |reason: &str, answer: Answer| {
            *self.counters.buys.refused.entry(reason.to_owned()).or_default() += 1;
            (answer, false)
        };
        if request.api_key != Some(self.config.api_key.as_bytes()) {
            self.counters.bad_keys += 1;
            return refuse("forbidden", forbidden());
        }
        let Ok((price, quantity)) = wire::parse_buy(request.body) else {
            return refuse("invalid_body", Answer::error(400, "Invalid request body"));
        };
        let Some(stock) = self.stocks.get(symbol) else {
            return refuse("unknown_symbol", Answer::error(404, "Stock not found"));
        };
        let Some(price) = price else {
            return refuse("invalid_price", Answer::error(400, "Invalid price"));
        };
        let Some(quantity) = quantity else {
            return refuse("invalid_quantity", Answer::error(400, "Invalid quantity"));
        };
        let current = self.stocks.price(stock, self.clock.tick());
        if !within_band(self.config.band, current, &price) {
            return refuse("price_out_of_band", Answer::error(400, "Price validation failed"));
        }
        self.counters.buys.executed += 1;
        let answer = wire::bought(symbol, &price, &quantity);
        self.executed.push(Executed {
            symbol: symbol.to_owned(),
            price: price.text,
            quantity: quantity.text,
            tick: self.clock.tick(),
        });
        (answer, true)
    }

    fn key_is_good(&mut self, request: &Request<'_>) -> bool {
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

fn not_found() -> Answer {
    Answer::error(404, "Not found")
}

fn forbidden() -> Answer {
    Answer::message_only(403, "Forbidden")
}

/// More than 2 % off fails; exactly 2 % passes. Numbers too large to compare exactly are refused.
fn within_band(mode: BandMode, current: Decimal, offer: &wire::Number) -> bool {
    match mode {
        BandMode::Exact => offer
            .value
            .checked_sub(current)
            .and_then(|off| off.abs().checked_mul(Decimal::from(50)))
            .is_some_and(|off| off <= current),
        BandMode::Doubles => {
            let current: f64 = current.to_string().parse().unwrap_or(f64::NAN);
            (offer.double() - current).abs() <= current * 0.02
        }
    }
}

fn apply(fault: Action, answer: Answer) -> Delivery {
    match fault {
        Action::Reset { .. } => Delivery::Reset,
        Action::NeverAnswer { .. } => Delivery::Never,
        Action::SlowBody { byte_every_ms } => Delivery::Slow(answer, Duration::from_millis(byte_every_ms)),
        Action::CloseMidBody { .. } => Delivery::CutMidBody(answer),
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
        // Modifiers and the gate never arrive here: the rule book keeps them apart.
        Action::Latency(_) | Action::Tick { .. } | Action::RefuseConnect { .. } => Delivery::Full(answer),
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
