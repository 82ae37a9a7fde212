//! Items of a page before they are written: fields as JSON texts, so that a fault can put anything in their place.

use std::borrow::Cow;

use rust_decimal::Decimal;

use crate::clock::Clock;
use crate::fault::ItemFault;
use crate::seed::below;
use crate::stocks::{Stock, Stocks, TICK_SECS};
use crate::wire::json_string;

/// Significant digits of a double's shortest text at most.
const DOUBLE_DIGITS: usize = 17;

/// An item fault and the items that it is about.
#[derive(Debug, Clone)]
pub(crate) struct ItemRule {
    pub(crate) fault: ItemFault,
    pub(crate) symbols: Vec<String>,
    pub(crate) one_in: Option<u64>,
}

impl ItemRule {
    fn is_about(&self, seed: u64, symbol: &str) -> bool {
        let named = self.symbols.is_empty() || self.symbols.iter().any(|one| one == symbol);
        named
            && self
                .one_in
                .is_none_or(|n| below(seed, &[b"one in", symbol.as_bytes()], n) == 0)
    }
}

/// One item of a list page.
#[derive(Debug)]
pub(crate) struct Item {
    /// The true symbol, whatever its field says.
    symbol: String,
    price: Decimal,
    fields: Vec<(Cow<'static, str>, String)>,
    is_an_object: bool,
}

impl Item {
    /// The stock as it is, or was some ticks ago.
    pub(crate) fn of(stocks: &Stocks, stock: &Stock, clock: &Clock, ticks_ago: i64) -> Self {
        let tick = clock.tick() - ticks_ago;
        let price = stocks.price(stock, tick);
        let change = price - stocks.price(stock, tick - 1);
        let last_updated = clock.last_updated(ticks_ago, stocks.update_lag_ms(stock, tick));
        let fields = [
            ("symbol", json_string(&stock.symbol)),
            ("name", json_string(&stock.name)),
            ("sector", json_string(&stock.sector)),
            ("price", price.normalize().to_string()),
            ("change", change.normalize().to_string()),
            ("lastUpdated", json_string(&last_updated)),
        ];
        Self {
            symbol: stock.symbol.clone(),
            price,
            fields: fields.map(|(name, json)| (name.into(), json)).into(),
            is_an_object: true,
        }
    }

    pub(crate) fn write(&self, to: &mut String) {
        if !self.is_an_object {
            to.push('7');
            return;
        }
        for (index, (name, json)) in self.fields.iter().enumerate() {
            to.push_str(if index == 0 { "{\"" } else { ",\"" });
            to.push_str(name);
            to.push_str("\":");
            to.push_str(json);
        }
        to.push_str(if self.fields.is_empty() { "{}" } else { "}" });
    }

    fn set(&mut self, name: &str, json: String) {
        match self.fields.iter_mut().find(|(field, _)| field == name) {
            Some((_, value)) => *value = json,
            None => self.fields.push((name.to_owned().into(), json)),
        }
    }

    fn remove(&mut self, name: &str) {
        self.fields.retain(|(field, _)| field != name);
    }
}

/// Spoils the items that the rule is about; returns how many.
pub(crate) fn spoil(
    items: &mut Vec<Item>,
    rule: &ItemRule,
    seed: u64,
    stocks: &Stocks,
    clock: &Clock,
) -> u64 {
    let mut spoilt = 0;
    items.retain_mut(|item| {
        if !rule.is_about(seed, &item.symbol) {
            return true;
        }
        spoilt += 1;
        item.spoil(&rule.fault, stocks, clock)
    });
    spoilt
}

impl Item {
    /// False when the item is not listed any more.
    fn spoil(&mut self, fault: &ItemFault, stocks: &Stocks, clock: &Clock) -> bool {
        match fault {
            ItemFault::PriceZero => self.set("price", "0".to_owned()),
            ItemFault::PriceNegative => self.set("price", format!("-{}", self.price.normalize())),
            ItemFault::PriceAbsent => self.remove("price"),
            ItemFault::PriceString => self.set("price", format!("\"{}\"", self.price.normalize())),
            ItemFault::PriceTooLarge => self.set("price", "1e400".to_owned()),
            ItemFault::PriceNan => self.set("price", "NaN".to_owned()),
            ItemFault::PriceNoise => self.set("price", with_noise(self.price)),
            ItemFault::UnknownFields => {
                self.set("currency", "\"USD\"".to_owned());
                self.set(
                    "venue",
                    "{\"mic\":\"XNAS\",\"open\":[9.5,16,null,true]}".to_owned(),
                );
                self.set("__proto__", "{\"price\":0}".to_owned());
            }
            ItemFault::MarkupInName => {
                let name = format!("<script>alert('{0}')</script><b>\"{0}\" & Sons</b>", self.symbol);
                self.set("name", json_string(&name));
            }
            ItemFault::NonAsciiSymbol => {
                self.set("symbol", json_string(&format!("{}\u{e9}\u{682a}", self.symbol)))
            }
            ItemFault::LastUpdatedSkewed { ms } => self.shift_time(*ms, stocks, clock),
            ItemFault::LastUpdatedAbsent => self.remove("lastUpdated"),
            ItemFault::LastUpdatedBackwards => {
                let forwards_twice = clock.tick().saturating_mul(2 * TICK_SECS * 1000);
                self.shift_time(-forwards_twice, stocks, clock);
            }
            ItemFault::Vanish => return false,
            ItemFault::NotAnObject => self.is_an_object = false,
            ItemFault::Field {
                name,
                json: Some(json),
            } => self.set(name, json.clone()),
            ItemFault::Field { name, json: None } => self.remove(name),
        }
        true
    }

    fn shift_time(&mut self, ms: i64, stocks: &Stocks, clock: &Clock) {
        let Some(stock) = stocks.get(&self.symbol) else {
            return;
        };
        let lag = stocks.update_lag_ms(stock, clock.tick());
        let shifted = clock.last_updated(0, lag.saturating_add(ms));
        self.set("lastUpdated", json_string(&shifted));
    }
}

/// 220.67 becomes 220.67000000000002.
fn with_noise(price: Decimal) -> String {
    let mut text = price.normalize().to_string();
    if !text.contains('.') {
        text.push('.');
    }
    let significant = text
        .chars()
        .filter(char::is_ascii_digit)
        .skip_while(|&c| c == '0')
        .count();
    text.extend(std::iter::repeat_n(
        '0',
        DOUBLE_DIGITS.saturating_sub(significant + 1),
    ));
    text.push('2');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_stands_in_the_seventeenth_digit() {
        for (price, noisy) in [
            ("220.67", "220.67000000000002"),
            ("0.25", "0.25000000000000002"),
            ("0.00001", "0.000010000000000000002"),
            ("100", "100.00000000000002"),
        ] {
            let price: Decimal = price.parse().expect("a price");
            assert_eq!(with_noise(price), noisy);
        }
    }
}
