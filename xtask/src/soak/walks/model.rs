//! What a walk must show: the snapshot as its pages lie in the table, filtered and sorted here by other code than the
//! service's.

use std::cmp::Ordering;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::soak::random::Random;

/// Decimals to which prices are compared; no price of the simulated vendor has more.
const DECIMALS: usize = 9;

/// One stock of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stock {
    pub symbol: String,
    pub name: String,
    pub sector: String,
    /// As it is written.
    pub price: String,
    pub mover: bool,
}

impl Stock {
    /// A stock out of a page item's JSON.
    pub fn read(stored: &Value) -> Result<Self> {
        let text = |field: &str| {
            let text = stored[field].as_str();
            text.map(str::to_owned)
                .with_context(|| format!("no {field} in a stored quote: {stored}"))
        };
        Ok(Self {
            symbol: text("symbol")?,
            name: text("name")?,
            sector: text("sector")?,
            price: text("price")?,
            mover: stored["mover"] == true,
        })
    }

    /// In units of the last decimal.
    fn price(&self) -> i128 {
        scaled(&self.price).expect("the table holds decimals")
    }
}

/// Decimal text as an integer of nine decimals.
fn scaled(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > DECIMALS {
        return None;
    }
    format!("{whole}{fraction:0<DECIMALS$}").parse().ok()
}

/// What a walk asks for; absent parts are not sent.
#[derive(Debug, Clone, Default)]
pub struct Question {
    search: Option<String>,
    sector: Option<String>,
    symbols: Option<Vec<String>>,
    min_price: Option<String>,
    max_price: Option<String>,
    movers: Option<bool>,
    sort: Option<&'static str>,
}

const SORTS: [&str; 6] = ["symbol", "-symbol", "name", "-name", "price", "-price"];

impl Question {
    /// A random one about stocks that are mostly there: half of all walks ask for everything.
    pub fn draw(random: &mut Random, stocks: &[Stock]) -> Self {
        let mut question = Self::default();
        if random.below(3) > 0 {
            question.sort = Some(SORTS[index(random, SORTS.len())]);
        }
        if random.below(2) == 0 {
            return question;
        }
        let mut any = || stocks[index(random, stocks.len())].clone();
        let (one, two) = (any(), any());
        match random.below(6) {
            0 => {
                // A part of a symbol or a name, in another case.
                let of = if random.below(2) == 0 {
                    one.symbol
                } else {
                    one.name
                };
                let chars: Vec<char> = of.to_lowercase().chars().collect();
                let from = index(random, chars.len());
                let length = 1 + index(random, 3);
                question.search = Some(chars.iter().skip(from).take(length).collect());
            }
            1 => question.sector = Some(one.sector.to_uppercase()),
            2 => {
                let count = 1 + index(random, 40);
                let mut symbols: Vec<String> = (0..count)
                    .map(|_| stocks[index(random, stocks.len())].symbol.clone())
                    .collect();
                symbols.push("NONE".to_owned());
                question.symbols = Some(symbols);
            }
            3 => question.movers = Some(random.below(2) == 0),
            4 => {
                let (low, high) = if one.price() <= two.price() {
                    (one, two)
                } else {
                    (two, one)
                };
                question.min_price = Some(low.price);
                question.max_price = Some(high.price);
            }
            _ => {
                question.sector = Some(one.sector);
                question.min_price = Some(two.price);
            }
        }
        // A search for blanks alone is no search.
        question.search = question
            .search
            .filter(|text| text.trim() == text && !text.is_empty());
        question
    }

    /// As a query, without a leading mark.
    pub fn query(&self) -> String {
        let symbols = self.symbols.as_ref().map(|symbols| symbols.join(","));
        let movers = self.movers.map(|movers| movers.to_string());
        let parts = [
            ("search", self.search.as_deref()),
            ("sector", self.sector.as_deref()),
            ("symbols", symbols.as_deref()),
            ("minPrice", self.min_price.as_deref()),
            ("maxPrice", self.max_price.as_deref()),
            ("movers", movers.as_deref()),
            ("sort", self.sort),
        ];
        let parts = parts
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", encoded(value?))));
        parts.collect::<Vec<_>>().join("&")
    }

    /// What must be listed, in order.
    pub fn answer<'s>(&self, stocks: &'s [Stock]) -> Vec<&'s Stock> {
        let bound = |text: &Option<String>| text.as_deref().and_then(scaled);
        let (least, most) = (bound(&self.min_price), bound(&self.max_price));
        let search = self.search.as_ref().map(|text| text.to_lowercase());
        let sector = self.sector.as_ref().map(|text| text.to_lowercase());
        let mut found: Vec<&Stock> = stocks
            .iter()
            .filter(|stock| {
                search.as_ref().is_none_or(|text| {
                    stock.symbol.to_lowercase().contains(text) || stock.name.to_lowercase().contains(text)
                }) && sector
                    .as_ref()
                    .is_none_or(|sector| stock.sector.to_lowercase() == *sector)
                    && self
                        .symbols
                        .as_ref()
                        .is_none_or(|all| all.contains(&stock.symbol))
                    && least.is_none_or(|least| stock.price() >= least)
                    && most.is_none_or(|most| stock.price() <= most)
                    && self.movers.is_none_or(|movers| stock.mover == movers)
            })
            .collect();
        let sort = self.sort.unwrap_or("symbol");
        let by = |a: &Stock, b: &Stock| match sort.trim_start_matches('-') {
            "name" => a.name.to_lowercase().cmp(&b.name.to_lowercase()),
            "price" => a.price().cmp(&b.price()),
            _ => a.symbol.cmp(&b.symbol),
        };
        let directed = |order: Ordering| {
            if sort.starts_with('-') {
                order.reverse()
            } else {
                order
            }
        };
        found.sort_by(|a, b| directed(by(a, b)).then_with(|| a.symbol.cmp(&b.symbol)));
        found
    }
}

fn index(random: &mut Random, length: usize) -> usize {
    let below = u64::try_from(length.max(1)).unwrap_or(u64::MAX);
    usize::try_from(random.below(below)).unwrap_or(0)
}

/// Percent-encoded but for letters, digits and what is harmless in a query.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b',' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stock(symbol: &str, name: &str, price: &str, mover: bool) -> Stock {
        Stock {
            symbol: symbol.into(),
            name: name.into(),
            sector: "Technology".into(),
            price: price.into(),
            mover,
        }
    }

    fn check(question: &Question, query: &str, symbols: &[&str]) {
        let stocks = [
            stock("B", "apple", "10", false),
            stock("A", "Zebra & Co", "9.5", true),
            stock("C", "Apple", "10.00", false),
        ];
        assert_eq!(question.query(), query);
        let found: Vec<&str> = question
            .answer(&stocks)
            .iter()
            .map(|s| s.symbol.as_str())
            .collect();
        assert_eq!(found, symbols, "{query}");
    }

    #[test]
    fn the_model_filters_and_sorts() {
        check(&Question::default(), "", &["A", "B", "C"]);
        let sorted = |sort| Question {
            sort: Some(sort),
            ..Question::default()
        };
        check(&sorted("-price"), "sort=-price", &["B", "C", "A"]);
        check(&sorted("name"), "sort=name", &["B", "C", "A"]);
        check(&sorted("-symbol"), "sort=-symbol", &["C", "B", "A"]);
        let question = Question {
            search: Some("A & c".into()),
            movers: Some(true),
            max_price: Some("9.50".into()),
            ..Question::default()
        };
        check(&question, "search=A%20%26%20c&maxPrice=9.50&movers=true", &["A"]);
    }
}
