//! The stocks and their prices: price(symbol, tick) is a pure function of the seed.

use std::collections::{BTreeMap, HashMap, HashSet};

use rust_decimal::Decimal;

use crate::seed::{below, draw};

/// Virtual seconds from one price change to the next.
pub const TICK_SECS: i64 = 300;

/// An item's `lastUpdated` lies less than this after its tick, in milliseconds.
pub(crate) const LAG_MS_MAX: i64 = 900;

/// Ticks between two knots of the slow part of a walk.
const KNOT_TICKS: i64 = 24;
/// How far the slow part wanders from the base, in basis points: at most 1.25 % per tick.
const SLOW_BP: u64 = 1500;
/// Noise on top, in basis points.
const FAST_BP: u64 = 30;
/// One tick in this many is a jump of more than 2 %.
const JUMP_ONE_IN: u64 = 40;

/// How a price moves.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    Still(Decimal),
    Walk { base: Decimal, decimals: u32 },
    Listed(Vec<Decimal>),
}

/// One stock of the vendor.
#[derive(Debug, Clone)]
pub struct Stock {
    pub symbol: String,
    pub name: String,
    pub sector: String,
    mode: Mode,
}

/// Tickers that people know, in the vendor's order: not the alphabet's. Base prices in cents; 0: see `special_mode`.
const KNOWN: &[(&str, &str, &str, i64)] = &[
    ("NVDA", "NVIDIA Corporation", "Technology", 13_107),
    ("UNH", "UnitedHealth Group Incorporated", "Healthcare", 52_345),
    ("AAPL", "Apple Inc.", "Technology", 22_067),
    ("MSFT", "Microsoft Corporation", "Technology", 41_532),
    ("PNNY", "Penny Lane Minerals", "Basic Materials", 0),
    ("AMZN", "Amazon.com, Inc.", "Consumer Cyclical", 19_841),
    ("JPM", "JPMorgan Chase & Co.", "Financial Services", 24_120),
    ("XOM", "Exxon Mobil Corporation", "Energy", 10_855),
    ("GOOGL", "Alphabet Inc.", "Communication Services", 17_650),
    ("HALF", "Halfway House Holdings", "Real Estate", 0),
    ("V", "Visa Inc.", "Financial Services", 31_010),
    ("LLY", "Eli Lilly and Company", "Healthcare", 78_999),
    ("TSLA", "Tesla, Inc.", "Consumer Cyclical", 25_044),
    ("FIVE", "Five Decimals plc", "Industrials", 0),
    ("META", "Meta Platforms, Inc.", "Communication Services", 56_712),
    ("KO", "The Coca-Cola Company", "Consumer Defensive", 6_233),
    ("PG", "The Procter & Gamble Company", "Consumer Defensive", 16_790),
    ("TQTR", "Three Quarters Trust", "Financial Services", 0),
    ("HD", "The Home Depot, Inc.", "Consumer Cyclical", 38_911),
    ("CVX", "Chevron Corporation", "Energy", 14_502),
    ("BRK.B", "Berkshire Hathaway Inc.", "Financial Services", 46_075),
    ("MRK", "Merck & Co., Inc.", "Healthcare", 9_987),
    ("PEP", "PepsiCo, Inc.", "Consumer Defensive", 15_208),
    ("ADBE", "Adobe Inc.", "Technology", 43_720),
    (
        "COST",
        "Costco Wholesale Corporation",
        "Consumer Defensive",
        91_633,
    ),
    ("CSCO", "Cisco Systems, Inc.", "Technology", 5_977),
    ("TMO", "Thermo Fisher Scientific Inc.", "Healthcare", 52_060),
    ("ORCL", "Oracle Corporation", "Technology", 16_318),
    ("NKE", "NIKE, Inc.", "Consumer Cyclical", 7_551),
    ("DIS", "The Walt Disney Company", "Communication Services", 11_149),
    ("INTC", "Intel Corporation", "Technology", 2_024),
    ("CAT", "Caterpillar Inc.", "Industrials", 36_277),
    ("IBM", "International Business Machines", "Technology", 23_013),
    ("GE", "GE Aerospace", "Industrials", 16_684),
    ("BA", "The Boeing Company", "Industrials", 17_795),
    ("NEE", "NextEra Energy, Inc.", "Utilities", 7_139),
    ("F", "Ford Motor Company", "Consumer Cyclical", 1_012),
    ("PFE", "Pfizer Inc.", "Healthcare", 2_653),
    ("SO", "The Southern Company", "Utilities", 8_466),
    ("AMT", "American Tower Corporation", "Real Estate", 18_377),
    ("LIN", "Linde plc", "Basic Materials", 42_199),
    ("UPS", "United Parcel Service, Inc.", "Industrials", 12_428),
    ("WMT", "Walmart Inc.", "Consumer Defensive", 9_305),
    ("AVGO", "Broadcom Inc.", "Technology", 22_870),
    ("BAC", "Bank of America Corporation", "Financial Services", 4_419),
    ("T", "AT&T Inc.", "Communication Services", 2_266),
    (
        "GS",
        "The Goldman Sachs Group, Inc.",
        "Financial Services",
        57_261,
    ),
    ("DUK", "Duke Energy Corporation", "Utilities", 10_902),
];

const SECTORS: &[&str] = &[
    "Technology",
    "Healthcare",
    "Financial Services",
    "Energy",
    "Utilities",
    "Industrials",
    "Real Estate",
    "Basic Materials",
];

/// Prices that were seen at the vendor and that floats or two decimals get wrong.
fn special_mode(symbol: &str) -> Mode {
    let listed =
        |prices: &[(i64, u32)]| Mode::Listed(prices.iter().map(|&(m, s)| Decimal::new(m, s)).collect());
    match symbol {
        "PNNY" => Mode::Still(Decimal::new(25, 2)),
        "HALF" => Mode::Still(Decimal::new(5, 1)),
        "TQTR" => Mode::Still(Decimal::new(75, 2)),
        _ => listed(&[(1_971_107, 5), (1_971_107, 5), (1_984_012, 5), (1_969_999, 5)]),
    }
}

/// All stocks of one simulator, in the vendor's order.
#[derive(Debug)]
pub(crate) struct Stocks {
    seed: u64,
    stocks: Vec<Stock>,
    by_symbol: HashMap<String, usize>,
}

impl Stocks {
    /// `listed` symbols that are not among the first `count` are added behind them.
    pub(crate) fn new(seed: u64, count: usize, listed: &BTreeMap<String, Vec<Decimal>>) -> Self {
        let mut stocks: Vec<Stock> = KNOWN.iter().take(count).map(known).collect();
        let mut taken: HashSet<String> = stocks.iter().map(|s| s.symbol.clone()).collect();
        for number in KNOWN.len()..count.max(KNOWN.len()) {
            stocks.push(generated(seed, number, &mut taken));
        }
        for symbol in listed.keys().filter(|symbol| !taken.contains(*symbol)) {
            stocks.push(Stock {
                symbol: symbol.clone(),
                name: format!("{symbol} Listed Company"),
                sector: SECTORS[0].to_owned(),
                mode: Mode::Still(Decimal::ONE),
            });
        }
        let by_symbol = stocks
            .iter()
            .enumerate()
            .map(|(index, stock)| (stock.symbol.clone(), index))
            .collect();
        let mut all = Self {
            seed,
            stocks,
            by_symbol,
        };
        for (symbol, prices) in listed {
            all.list_prices(symbol, prices.clone());
        }
        all
    }

    pub(crate) fn all(&self) -> &[Stock] {
        &self.stocks
    }

    pub(crate) fn get(&self, symbol: &str) -> Option<&Stock> {
        self.position(symbol).map(|index| &self.stocks[index])
    }

    /// Its place in the vendor's order.
    pub(crate) fn position(&self, symbol: &str) -> Option<usize> {
        self.by_symbol.get(symbol).copied()
    }

    /// From now on this symbol follows the list by tick; false when there is no such symbol or no price.
    pub(crate) fn list_prices(&mut self, symbol: &str, prices: Vec<Decimal>) -> bool {
        let Some(&index) = self.by_symbol.get(symbol) else {
            return false;
        };
        if prices.is_empty() {
            return false;
        }
        self.stocks[index].mode = Mode::Listed(prices);
        true
    }

    pub(crate) fn price(&self, stock: &Stock, tick: i64) -> Decimal {
        match &stock.mode {
            Mode::Still(price) => *price,
            Mode::Listed(prices) => {
                let last = prices.len() - 1;
                prices[usize::try_from(tick).unwrap_or(0).min(last)]
            }
            Mode::Walk { base, decimals } => {
                let bp = Decimal::from(10_000 + walk_bp(self.seed, &stock.symbol, tick));
                let price = (base * bp / Decimal::from(10_000)).round_dp(*decimals);
                price.max(Decimal::new(1, *decimals)).normalize()
            }
        }
    }

    /// Milliseconds by which an item's `lastUpdated` lies after its tick.
    pub(crate) fn update_lag_ms(&self, stock: &Stock, tick: i64) -> i64 {
        let lag = below(
            self.seed,
            &[b"lag", stock.symbol.as_bytes(), &tick.to_le_bytes()],
            LAG_MS_MAX.unsigned_abs(),
        );
        i64::try_from(lag).expect("below the maximum")
    }
}

fn known(&(symbol, name, sector, cents): &(&str, &str, &str, i64)) -> Stock {
    let mode = if cents == 0 {
        special_mode(symbol)
    } else {
        Mode::Walk {
            base: Decimal::new(cents, 2),
            decimals: 2,
        }
    };
    Stock {
        symbol: symbol.to_owned(),
        name: name.to_owned(),
        sector: sector.to_owned(),
        mode,
    }
}

/// A made-up ticker of four or five letters; every tenth is a penny stock with five decimals.
fn generated(seed: u64, number: usize, taken: &mut HashSet<String>) -> Stock {
    let number_bytes = number.to_le_bytes();
    let mut attempt = 0_u64;
    let symbol = loop {
        let mut value = draw(seed, &[b"symbol", &number_bytes, &attempt.to_le_bytes()]);
        let length = 4 + value % 2;
        let mut symbol = String::new();
        for _ in 0..length {
            value /= 26;
            let letter = u8::try_from(value % 26).expect("below 26");
            symbol.push(char::from(b'A' + letter));
        }
        if taken.insert(symbol.clone()) {
            break symbol;
        }
        attempt += 1;
    };
    let value = draw(seed, &[b"base", symbol.as_bytes()]);
    let cents = |below: u64| i64::try_from(value % below).expect("small");
    let (base, decimals) = if number.is_multiple_of(10) {
        (Decimal::new(1_000 + cents(90_000), 5), 5)
    } else {
        (Decimal::new(500 + cents(50_000), 2), 2)
    };
    let sector = SECTORS[number % SECTORS.len()].to_owned();
    Stock {
        name: format!("{symbol} Holdings {number}"),
        sector,
        mode: Mode::Walk { base, decimals },
        symbol,
    }
}

/// Distance from the base in basis points: a slow walk between knots, noise, and rare jumps.
fn walk_bp(seed: u64, symbol: &str, tick: i64) -> i64 {
    let signed = |kind: &[u8], at: i64, range: u64| {
        let value = below(seed, &[kind, symbol.as_bytes(), &at.to_le_bytes()], 2 * range + 1);
        i64::try_from(value).expect("small") - i64::try_from(range).expect("small")
    };
    let knot = tick.div_euclid(KNOT_TICKS);
    let into = tick.rem_euclid(KNOT_TICKS);
    let from = signed(b"knot", knot, SLOW_BP);
    let to = signed(b"knot", knot + 1, SLOW_BP);
    let slow = from + (to - from) * into / KNOT_TICKS;
    let at = tick.to_le_bytes();
    let jump = match below(seed, &[b"jump", symbol.as_bytes(), &at], 2 * JUMP_ONE_IN) {
        0 => 450,
        1 => -450,
        _ => 0,
    };
    slow + signed(b"fast", tick, FAST_BP) + jump
}
