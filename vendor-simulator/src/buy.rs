//! `POST /stocks/{symbol}/buy`: judged and counted in one step.

use rust_decimal::Decimal;

use crate::action::Action;
use crate::book::Fired;
use crate::config::BandMode;
use crate::counters::Executed;
use crate::fault::BuyFault;
use crate::rules::Operation;
use crate::vendor::{Delivery, Request, Vendor, apply, forbidden};
use crate::wire::{self, Answer};

impl Vendor {
    pub(crate) fn buy(&mut self, symbol: &str, request: &Request<'_>, fired: Fired) -> Delivery {
        self.counters.buys.received += 1;
        let (answer, executed) = match &fired.fault {
            Some(fault) if fault.is_before_execution() => {
                self.counters.buys.not_executed_by_fault += 1;
                (unexecuted(fault), false)
            }
            _ => self.judge(symbol, request, &fired),
        };
        let Some(fault) = fired.fault else {
            return Delivery::Full(answer);
        };
        let delivery = apply(fault, answer, Operation::Buy);
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
    fn judge(&mut self, symbol: &str, request: &Request<'_>, fired: &Fired) -> (Answer, bool) {
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
        if !within_band(self.config.band, fired.strict_edge, current, &price) {
            return refuse("price_out_of_band", Answer::error(400, "Price validation failed"));
        }
        self.counters.buys.executed += 1;
        let told = match fired.buy_answer {
            Some(BuyFault::OtherSymbol) => self.another_symbol(symbol),
            _ => symbol,
        };
        let answer = wire::bought(told, &price, &quantity, fired.buy_answer);
        self.executed.push(Executed {
            symbol: symbol.to_owned(),
            price: price.text,
            quantity: quantity.text,
            tick: self.clock.tick(),
        });
        (answer, true)
    }

    fn another_symbol(&self, symbol: &str) -> &str {
        let others = self.stocks.all().iter().map(|stock| stock.symbol.as_str());
        others
            .into_iter()
            .find(|other| *other != symbol)
            .unwrap_or("OTHER")
    }
}

/// What a buy is answered with that never was judged; most faults replace it.
fn unexecuted(fault: &Action) -> Answer {
    match fault {
        Action::Body { .. } => Answer::envelope(200, 200, "Order placed successfully"),
        _ => Answer::error(500, "Internal server error"),
    }
}

/// More than 2 % off fails; exactly 2 % passes unless the edge is strict. Numbers too large to compare exactly are refused.
fn within_band(mode: BandMode, strict_edge: bool, current: Decimal, offer: &wire::Number) -> bool {
    let off_by_fifty = offer
        .value
        .checked_sub(current)
        .and_then(|off| off.abs().checked_mul(Decimal::from(50)));
    if strict_edge && off_by_fifty == Some(current) {
        return false;
    }
    match mode {
        BandMode::Exact => off_by_fifty.is_some_and(|off| off <= current),
        BandMode::Doubles => {
            let current: f64 = current.to_string().parse().unwrap_or(f64::NAN);
            (offer.double() - current).abs() <= current * 0.02
        }
    }
}
