//! Walks over `GET /v1/stocks` from outside, as a client sees them, with everything checked that a client relies on.
//!
//! What is selected and how it is sorted is reckoned here anew, from the texts on the wire alone, so that a walk is judged by something
//! that shares no code with the service. Every page is asked of a random replica, with a random size, packed or not.

mod market;
mod run;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::io::Read as _;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rand::{Rng, RngExt as _};
use serde::Deserialize;
use serde_json::Value;

pub use run::{Outcome, Plan, run};

/// Orders that the list can be asked for; absent is by symbol.
const SORTS: [&str; 6] = ["symbol", "-symbol", "name", "-name", "price", "-price"];
/// Well below the time after which the services close an idle connection (75 s, `http.keep_alive_secs`). A client that holds
/// one for longer may send a request on it just as it is closed.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// Most symbols that are asked for by name here.
const SYMBOLS_MAX: usize = 40;

/// One stock as the list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Stock {
    pub symbol: String,
    pub name: String,
    pub sector: String,
    /// Plain decimal text.
    pub price: String,
    pub mover: bool,
    pub listed: bool,
}

/// What a walk asks for, beside page sizes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pub search: Option<String>,
    pub sector: Option<String>,
    pub symbols: Option<Vec<String>>,
    pub min_price: Option<String>,
    pub max_price: Option<String>,
    pub movers: Option<bool>,
    pub sort: Option<&'static str>,
}

impl Query {
    /// Any question about these stocks: each condition is there or not, and made from one of them, so that most select something.
    pub fn any(rng: &mut impl Rng, stocks: &[Stock]) -> Self {
        let mut query = Self {
            sort: rng.random_bool(0.8).then(|| *pick(rng, &SORTS)),
            ..Self::default()
        };
        if stocks.is_empty() || rng.random_bool(0.3) {
            return query;
        }
        if rng.random_bool(0.3) {
            query.search = Some(part(rng, stocks));
        }
        if rng.random_bool(0.2) {
            let sector = &pick(rng, stocks).sector;
            query.sector = Some(any_case(rng, sector));
        }
        if rng.random_bool(0.2) {
            let count = rng.random_range(1..=SYMBOLS_MAX);
            let mut symbols: Vec<_> = (0..count).map(|_| pick(rng, stocks).symbol.clone()).collect();
            symbols.push("NO.SUCH-STOCK".to_owned());
            query.symbols = Some(symbols);
        }
        let (one, other) = (pick(rng, stocks).price.clone(), pick(rng, stocks).price.clone());
        let (least, most) = if compare_decimals(&one, &other).is_le() {
            (one, other)
        } else {
            (other, one)
        };
        if rng.random_bool(0.2) {
            query.min_price = Some(least);
        }
        if rng.random_bool(0.2) {
            query.max_price = Some(most);
        }
        if rng.random_bool(0.2) {
            query.movers = Some(rng.random_bool(0.5));
        }
        query
    }

    /// Symbols of what it selects from all stocks of one snapshot, in its order.
    #[must_use]
    pub fn select(&self, stocks: &[Stock]) -> Vec<String> {
        let mut found: Vec<&Stock> = stocks.iter().filter(|stock| self.selects(stock)).collect();
        found.sort_by(|a, b| self.compare(a, b));
        found.into_iter().map(|stock| stock.symbol.clone()).collect()
    }

    /// Whether all its conditions hold.
    #[must_use]
    pub fn selects(&self, stock: &Stock) -> bool {
        let has = |text: &str, part: &str| text.to_lowercase().contains(&part.to_lowercase());
        let at_least = |least: &String| compare_decimals(&stock.price, least).is_ge();
        let at_most = |most: &String| compare_decimals(&stock.price, most).is_le();
        self.search
            .as_ref()
            .is_none_or(|part| has(&stock.symbol, part) || has(&stock.name, part))
            && self
                .sector
                .as_ref()
                .is_none_or(|sector| stock.sector.to_lowercase() == sector.to_lowercase())
            && self
                .symbols
                .as_ref()
                .is_none_or(|symbols| symbols.contains(&stock.symbol))
            && self.min_price.as_ref().is_none_or(at_least)
            && self.max_price.as_ref().is_none_or(at_most)
            && self.movers.is_none_or(|movers| stock.mover == movers)
    }

    fn compare(&self, a: &Stock, b: &Stock) -> Ordering {
        let sort = self.sort.unwrap_or("symbol");
        let by_key = match sort.trim_start_matches('-') {
            "name" => a.name.to_lowercase().cmp(&b.name.to_lowercase()),
            "price" => compare_decimals(&a.price, &b.price),
            _ => a.symbol.cmp(&b.symbol),
        };
        let by_key = if sort.starts_with('-') {
            by_key.reverse()
        } else {
            by_key
        };
        by_key.then_with(|| a.symbol.cmp(&b.symbol))
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let text = |name, value: &Option<String>| value.clone().map(|value| (name, value));
        [
            text("search", &self.search),
            text("sector", &self.sector),
            self.symbols
                .as_ref()
                .map(|symbols| ("symbols", symbols.join(","))),
            text("minPrice", &self.min_price),
            text("maxPrice", &self.max_price),
            self.movers.map(|movers| ("movers", movers.to_string())),
            self.sort.map(|sort| ("sort", sort.to_owned())),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// A client of one or more replicas.
#[derive(Debug, Clone)]
pub struct Walker {
    client: reqwest::Client,
    /// Base URLs without a slash at the end.
    replicas: Vec<String>,
    key: String,
}

/// How a walk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Walked {
    /// Nothing twice and as many as the service said there are. Whether they are the right ones is for the caller to compare.
    Whole(Whole),
    /// The service said that the snapshot is gone (410), after so many pages.
    Gone { pages: usize },
}

/// A whole walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// Id of its snapshot.
    pub snapshot: String,
    /// In the order in which they came.
    pub stocks: Vec<Stock>,
    pub pages: usize,
}

impl Whole {
    /// Their symbols.
    #[must_use]
    pub fn symbols(&self) -> Vec<String> {
        self.stocks.iter().map(|stock| stock.symbol.clone()).collect()
    }
}

impl Walker {
    /// # Panics
    /// Without a replica.
    #[must_use]
    pub fn new(replicas: Vec<String>, key: impl Into<String>) -> Self {
        assert!(!replicas.is_empty(), "a walker needs a replica");
        Self {
            client: reqwest::Client::builder()
                .pool_idle_timeout(POOL_IDLE)
                .build()
                .expect("a client without settings that can fail"),
            replicas,
            key: key.into(),
        }
    }

    /// A walk that takes its next page when told to, so that anything may happen in between.
    #[must_use]
    pub fn begin(&self, query: Query) -> Walk<'_> {
        Walk {
            walker: self,
            query,
            token: None,
            snapshot: None,
            total: 0,
            seen: BTreeSet::new(),
            stocks: Vec::new(),
            pages: 0,
        }
    }

    /// A walk to its end, each page of a size within `limits`.
    ///
    /// # Errors
    /// Whatever a client could not explain to itself: see [`Walk::next`].
    pub async fn walk(
        &self,
        query: Query,
        rng: &mut impl Rng,
        limits: RangeInclusive<u16>,
    ) -> Result<Walked> {
        let mut walk = self.begin(query);
        loop {
            let choice = Choice::any(rng, self.replicas.len(), limits.clone());
            match walk.next(choice).await? {
                Step::More => {}
                Step::Done => return walk.finish().map(Walked::Whole),
                Step::Gone => return Ok(Walked::Gone { pages: walk.pages }),
            }
        }
    }
}

/// How one page is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    /// Which replica.
    pub replica: usize,
    pub limit: u16,
    pub gzip: bool,
}

impl Choice {
    /// Any replica, any size within `limits`, packed or not.
    pub fn any(rng: &mut impl Rng, replicas: usize, limits: RangeInclusive<u16>) -> Self {
        Self {
            replica: rng.random_range(0..replicas),
            limit: rng.random_range(limits),
            gzip: rng.random_bool(0.5),
        }
    }
}

/// What one page said about the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is another page.
    More,
    /// That was the last one.
    Done,
    /// The snapshot is gone (410).
    Gone,
}

/// A walk in progress.
#[derive(Debug)]
pub struct Walk<'w> {
    walker: &'w Walker,
    query: Query,
    token: Option<String>,
    snapshot: Option<String>,
    total: usize,
    seen: BTreeSet<String>,
    stocks: Vec<Stock>,
    pages: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    items: Vec<Stock>,
    next_page_token: Option<String>,
    total: usize,
    snapshot: Snapshot,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Snapshot {
    id: String,
    age_seconds: u64,
    stale: bool,
}

impl Walk<'_> {
    /// Id of its snapshot, once it has a page.
    #[must_use]
    pub fn snapshot(&self) -> Option<&str> {
        self.snapshot.as_deref()
    }

    /// Takes the next page.
    ///
    /// # Errors
    /// No answer, a status other than 200 and 410, a stock twice, one that the question does not select, a wrong order, a page that is too
    /// large, another snapshot or total than before, an age in the body that the headers do not repeat.
    pub async fn next(&mut self, choice: Choice) -> Result<Step> {
        let (status, page) = self.ask(choice).await?;
        if status == 410 {
            ensure!(
                self.token.is_some(),
                "a walk cannot begin on a snapshot that is gone"
            );
            return Ok(Step::Gone);
        }
        let page: Page = serde_json::from_value(page).context("a page of another shape")?;
        let query = &self.query;
        ensure!(
            page.items.len() <= usize::from(choice.limit),
            "{query:?}: more than {}",
            choice.limit
        );
        let id = self.snapshot.get_or_insert_with(|| page.snapshot.id.clone());
        ensure!(
            *id == page.snapshot.id,
            "{query:?}: from snapshot {id} to {}",
            page.snapshot.id
        );
        ensure!(
            self.pages == 0 || self.total == page.total,
            "{query:?}: the total went from {} to {}",
            self.total,
            page.total
        );
        self.total = page.total;
        for stock in page.items {
            ensure!(query.selects(&stock), "{query:?} does not select {stock:?}");
            ensure!(
                self.seen.insert(stock.symbol.clone()),
                "{query:?}: {} came twice",
                stock.symbol
            );
            if let Some(last) = self.stocks.last() {
                ensure!(
                    query.compare(last, &stock).is_lt(),
                    "{query:?}: {last:?} before {stock:?}"
                );
            }
            self.stocks.push(stock);
        }
        self.pages += 1;
        self.token = page.next_page_token;
        Ok(if self.token.is_some() {
            Step::More
        } else {
            Step::Done
        })
    }

    /// The walk as a whole.
    ///
    /// # Errors
    /// When it is not at its end, or holds another number of stocks than the service said.
    pub fn finish(self) -> Result<Whole> {
        let query = &self.query;
        ensure!(
            self.token.is_none() && self.pages > 0,
            "{query:?}: not at its end"
        );
        ensure!(
            self.stocks.len() == self.total,
            "{query:?}: {} stocks of {}",
            self.stocks.len(),
            self.total
        );
        Ok(Whole {
            snapshot: self.snapshot.unwrap_or_default(),
            stocks: self.stocks,
            pages: self.pages,
        })
    }

    async fn ask(&self, choice: Choice) -> Result<(u16, Value)> {
        let walker = self.walker;
        let mut parameters = self.query.parameters();
        parameters.push(("limit", choice.limit.to_string()));
        parameters.extend(self.token.clone().map(|token| ("pageToken", token)));
        let replica = &walker.replicas[choice.replica];
        let mut request = walker
            .client
            .get(format!("{replica}/v1/stocks"))
            .query(&parameters)
            .header("x-api-key", &walker.key);
        if choice.gzip {
            request = request.header("accept-encoding", "gzip");
        }
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let header = |name: &str| {
            let value = answer.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let (encoding, age) = (header("content-encoding"), header("age"));
        let (etag, cache_control) = (header("etag"), header("cache-control"));
        let bytes = answer.bytes().await?;
        let packed = encoding.as_deref() == Some("gzip");
        let text = if packed { unpack(&bytes)? } else { bytes.to_vec() };
        let shown = || {
            String::from_utf8_lossy(&text)
                .chars()
                .take(500)
                .collect::<String>()
        };
        if !matches!(status, 200 | 410) {
            bail!("{parameters:?}: {status} {}", shown());
        }
        let body: Value = serde_json::from_slice(&text).with_context(|| format!("not JSON: {}", shown()))?;
        if status == 410 {
            ensure!(body["code"] == "snapshot_gone", "{}", shown());
            return Ok((status, body));
        }
        ensure!(
            packed == choice.gzip,
            "asked for gzip: {}, got it: {packed}",
            choice.gzip
        );
        let snapshot: Snapshot = serde_json::from_value(body["snapshot"].clone())?;
        ensure!(
            age == Some(snapshot.age_seconds.to_string()),
            "Age {age:?}: {}",
            shown()
        );
        ensure!(
            etag.is_some_and(|etag| etag.starts_with("W/\"")),
            "an ETag on every page"
        );
        let is_cacheable = cache_control.is_some_and(|text| text.starts_with("public, max-age="));
        ensure!(
            is_cacheable != snapshot.stale,
            "cacheable {is_cacheable}: {}",
            shown()
        );
        Ok((status, body))
    }
}

/// The text of one gzip member.
///
/// # Errors
/// When it is broken, or something follows it.
pub fn unpack(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut decoder = flate2::bufread::GzDecoder::new(bytes);
    let mut text = Vec::new();
    decoder.read_to_end(&mut text).context("a broken gzip body")?;
    ensure!(
        decoder.into_inner().is_empty(),
        "something follows the gzip member"
    );
    Ok(text)
}

/// Compares positive decimals by their texts.
fn compare_decimals(a: &str, b: &str) -> Ordering {
    let split = |text: &str| {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let whole = whole.trim_start_matches('0').to_owned();
        (whole.len(), whole, decimals.trim_end_matches('0').to_owned())
    };
    split(a).cmp(&split(b))
}

fn pick<'t, T>(rng: &mut impl Rng, from: &'t [T]) -> &'t T {
    &from[rng.random_range(0..from.len())]
}

/// One to three characters of some symbol or name.
fn part(rng: &mut impl Rng, stocks: &[Stock]) -> String {
    let stock = pick(rng, stocks);
    let text = if rng.random_bool(0.5) {
        &stock.symbol
    } else {
        &stock.name
    };
    let characters: Vec<char> = text.trim().chars().collect();
    if characters.is_empty() {
        return "a".to_owned();
    }
    let begin = rng.random_range(0..characters.len());
    let length = rng.random_range(1..=3).min(characters.len() - begin);
    let part: String = characters[begin..begin + length].iter().collect();
    // The service wants more than white space.
    if part.trim().is_empty() {
        "a".to_owned()
    } else {
        any_case(rng, &part)
    }
}

fn any_case(rng: &mut impl Rng, text: &str) -> String {
    if rng.random_bool(0.5) {
        text.to_uppercase()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_compared_by_value() {
        let check = |a: &str, b: &str, expected| {
            assert_eq!(compare_decimals(a, b), expected, "{a} {b}");
            assert_eq!(compare_decimals(b, a), expected.reverse(), "{b} {a}");
        };
        check("1", "1.0", Ordering::Equal);
        check("9", "10", Ordering::Less);
        check("0.25", "0.245", Ordering::Greater);
        check("0.1", "0.09999999999999999999", Ordering::Greater);
        check("123.45", "123.450000000002", Ordering::Less);
        check("0.5", ".5", Ordering::Equal);
    }
}
