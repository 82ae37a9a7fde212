//! The pages of a snapshot: quotes as JSON arrays, compressed. DynamoDB and Redis hold the same bytes.
//!
//! Prices compress to about a seventh, which is what write units, answers and memory of both cost.

use std::borrow::Cow;
use std::fmt;
use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use fuse_domain::{Price, Quote, Snapshot, Symbol};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::StoreError;

/// Largest page before it is compressed. DynamoDB's own limit is 400 KB an item, and what cannot be compressed grows
/// by a hair only.
pub(crate) const PAGE_BYTES_MAX: usize = 300 * 1_000;

#[derive(Serialize, Deserialize)]
struct StoredQuote<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    sector: Cow<'a, str>,
    #[serde(borrow)]
    price: Cow<'a, str>,
    #[serde(borrow)]
    change: Cow<'a, str>,
    last_updated: i64,
    as_of: i64,
    #[serde(default, skip_serializing_if = "is_false")]
    mover: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    unlisted: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// The pages of one snapshot as they are stored: made once, for DynamoDB and for Redis.
#[derive(Clone, PartialEq, Eq)]
pub struct EncodedPages(Vec<Vec<u8>>);

impl EncodedPages {
    /// Encodes a snapshot, in order. Gives way to other tasks between pages, each of which takes some milliseconds.
    ///
    /// # Errors
    /// `Oversize` when a single quote does not fit a page; the vendor client cuts texts far below that.
    pub async fn of(snapshot: &Snapshot) -> Result<Self, StoreError> {
        encode(snapshot).await.map(Self)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn bytes(&self) -> &[Vec<u8>] {
        &self.0
    }
}

impl fmt::Debug for EncodedPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pages", self.count())
    }
}

async fn encode(snapshot: &Snapshot) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut pages = Vec::new();
    let mut text = Vec::with_capacity(PAGE_BYTES_MAX);
    let mut one = Vec::new();
    for quote in &snapshot.quotes {
        one.clear();
        write_quote(quote, &mut one)?;
        // Two brackets.
        if one.len() + 2 > PAGE_BYTES_MAX {
            return Err(StoreError::Oversize {
                what: format!("quote {}", quote.symbol),
                bytes: one.len(),
            });
        }
        if text.len() + one.len() + 2 > PAGE_BYTES_MAX {
            pages.push(compressed(&mut text)?);
            tokio::task::yield_now().await;
        }
        text.push(if text.is_empty() { b'[' } else { b',' });
        text.append(&mut one);
    }
    if text.is_empty() {
        text.push(b'[');
    }
    pages.push(compressed(&mut text)?);
    Ok(pages)
}

/// Closes the array, compresses it and leaves the buffer empty for the next page.
fn compressed(text: &mut Vec<u8>) -> Result<Vec<u8>, StoreError> {
    text.push(b']');
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4), Compression::fast());
    let written = encoder.write_all(text).and_then(|()| encoder.finish());
    text.clear();
    written.map_err(|_| StoreError::corrupt("a page cannot be compressed"))
}

fn write_quote(quote: &Quote, to: &mut Vec<u8>) -> Result<(), StoreError> {
    let stored = StoredQuote {
        symbol: quote.symbol.as_str().into(),
        name: quote.name.as_str().into(),
        sector: quote.sector.as_str().into(),
        price: quote.price.to_string().into(),
        change: quote.change.as_str().into(),
        last_updated: quote.last_updated.as_millisecond(),
        as_of: quote.as_of.as_millisecond(),
        mover: quote.mover,
        unlisted: !quote.listed,
    };
    serde_json::to_writer(to, &stored).map_err(|_| StoreError::corrupt("a quote has no JSON form"))
}

/// Makes a snapshot of its pages, off the runtime's threads, which serve requests meanwhile.
///
/// # Errors
/// `Corrupt` when a page does not read back as what we write.
pub(crate) async fn decode(
    id: Uuid,
    taken_at: Timestamp,
    count: usize,
    pages: Vec<Vec<u8>>,
) -> Result<Snapshot, StoreError> {
    let decoded = tokio::task::spawn_blocking(move || {
        // The count is checked by the caller; here it is only a hint, and no more trusted than that.
        let mut quotes = Vec::with_capacity(count.min(1_000_000));
        for page in &pages {
            decode_page(page, &mut quotes)?;
        }
        Ok(Snapshot::new(id, taken_at, quotes))
    });
    decoded
        .await
        .unwrap_or_else(|_| Err(StoreError::corrupt("a page that cannot be read at all")))
}

fn decode_page(page: &[u8], quotes: &mut Vec<Quote>) -> Result<(), StoreError> {
    let mut text = Vec::with_capacity(PAGE_BYTES_MAX);
    let limit = PAGE_BYTES_MAX as u64 + 1;
    GzDecoder::new(page)
        .take(limit)
        .read_to_end(&mut text)
        .map_err(|_| StoreError::corrupt("a page that is not compressed as ours are"))?;
    if text.len() > PAGE_BYTES_MAX {
        return Err(StoreError::corrupt("a page that is larger than any of ours"));
    }
    let stored: Vec<StoredQuote<'_>> =
        serde_json::from_slice(&text).map_err(|_| StoreError::corrupt("a page that is not JSON"))?;
    for quote in stored {
        quotes.push(read_quote(quote)?);
    }
    Ok(())
}

fn read_quote(stored: StoredQuote<'_>) -> Result<Quote, StoreError> {
    let corrupt = |what: &str| StoreError::corrupt(format!("a quote with a bad {what}"));
    let millis = |value| Timestamp::from_millisecond(value).ok();
    Ok(Quote {
        symbol: Symbol::parse(&stored.symbol).map_err(|_| corrupt("symbol"))?,
        name: stored.name.into_owned(),
        sector: stored.sector.into_owned(),
        price: Price::parse(&stored.price).map_err(|_| corrupt("price"))?,
        change: stored.change.into_owned(),
        last_updated: millis(stored.last_updated).ok_or_else(|| corrupt("last_updated"))?,
        as_of: millis(stored.as_of).ok_or_else(|| corrupt("as_of"))?,
        mover: stored.mover,
        listed: !stored.unlisted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(names: &[String]) -> Snapshot {
        let taken_at = Timestamp::from_second(1_000).expect("a time");
        let quote = |(n, name): (usize, &String)| Quote {
            symbol: Symbol::parse(&format!("S{n:05}")).expect("a symbol"),
            name: name.clone(),
            sector: "Tech \u{1F4C8} \"quoted\"".into(),
            price: Price::parse("123.45000000000002").expect("a price"),
            change: "-0.5".into(),
            last_updated: taken_at,
            as_of: taken_at,
            mover: n % 2 == 0,
            listed: n % 3 == 0,
        };
        let quotes = names.iter().enumerate().map(quote).collect();
        Snapshot::new(Uuid::now_v7(), taken_at, quotes)
    }

    async fn read(snapshot: &Snapshot, pages: Vec<Vec<u8>>) -> Result<Snapshot, StoreError> {
        let meta = &snapshot.meta;
        decode(meta.id, meta.taken_at, meta.count, pages).await
    }

    #[tokio::test]
    async fn pages_read_back_as_they_were() {
        let names = (0..3_000).map(|n| "n".repeat(n % 200)).collect::<Vec<_>>();
        for names in [&names[..], &names[..1], &[]] {
            let snapshot = snapshot(names);
            let pages = encode(&snapshot).await.expect("encoded");
            assert_eq!(pages.len() > 1, names.len() > 1, "{} names", names.len());
            assert_eq!(read(&snapshot, pages).await.expect("read"), snapshot);
        }
    }

    #[tokio::test]
    async fn a_quote_beyond_a_page_is_refused_by_name() {
        let refused = encode(&snapshot(&["ok".into(), "x".repeat(400_001)])).await;
        let error = refused.expect_err("too large").to_string();
        assert!(error.contains("S00001"), "{error}");
    }

    #[tokio::test]
    async fn what_is_not_a_page_is_corrupt() {
        let snapshot = snapshot(&["ok".into()]);
        let whole = encode(&snapshot).await.expect("encoded").remove(0);
        let cut = whole[..whole.len() / 2].to_vec();
        let bomb = {
            let mut text = vec![b' '; 2_000_000];
            text[0] = b'[';
            compressed(&mut text).expect("compressed")
        };
        let not_json = compressed(&mut b"[{".to_vec()).expect("compressed");
        for page in [b"garbage".to_vec(), Vec::new(), cut, bomb, not_json] {
            let read = read(&snapshot, vec![page]).await;
            assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
        }
    }
}
