//! From what the vendor listed to the next snapshot: a pure function of listing, previous snapshot and time.

use std::collections::HashSet;
use std::time::Duration;

use fuse_domain::{Quote, Snapshot, Symbol};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{Crawl, CrawlError, CrawlLimits, Listing, ONE_BAD_OF};
use crate::vendor::{BadItem, ItemFault, VendorItem};

pub(super) fn merge(
    listing: Listing,
    limits: &CrawlLimits,
    previous: Option<&Snapshot>,
    now: Timestamp,
) -> Result<Crawl, CrawlError> {
    let Listing {
        items, pages, bytes, ..
    } = listing;
    let seen = items.len();
    let (good, mut quarantined) = parted(items);
    let (listed, duplicates) = one_each(good);
    let clock = Clock::new(&listed, limits, previous, now);
    let mut quotes = Vec::with_capacity(listed.len());
    for item in listed {
        match clock.quote(item, previous) {
            Ok(quote) => quotes.push(quote),
            Err(bad) => quarantined.push(bad),
        }
    }
    if quarantined.len() * ONE_BAD_OF > seen {
        return Err(CrawlError::TooManyBad {
            bad: quarantined.len(),
            seen,
        });
    }
    if quotes.is_empty() {
        return Err(CrawlError::Empty);
    }
    mark_movers(&mut quotes, previous, limits);
    let Missing { kept, unlisted } = missing(&quotes, &quarantined, previous, limits, now);
    let (kept_count, unlisted_count) = (kept.len(), unlisted.len());
    quotes.extend(kept.into_iter().chain(unlisted));
    let snapshot = Snapshot::new(Uuid::now_v7(), now, quotes);
    super::shrunk::check(&snapshot, previous)?;
    Ok(Crawl {
        snapshot,
        quarantined,
        kept: kept_count,
        unlisted: unlisted_count,
        duplicates,
        pages,
        bytes,
    })
}

fn parted(items: Vec<Result<VendorItem, BadItem>>) -> (Vec<VendorItem>, Vec<BadItem>) {
    let (mut good, mut bad) = (Vec::with_capacity(items.len()), Vec::new());
    for item in items {
        match item {
            Ok(item) => good.push(item),
            Err(fault) => bad.push(fault),
        }
    }
    (good, bad)
}

/// Each symbol once, with the newer `last_updated`, and of the same time the one listed first; and how many were too many.
/// Sorted by symbol, as the snapshot will be: a vendor that lists by symbol costs no sorting at all.
fn one_each(mut items: Vec<VendorItem>) -> (Vec<VendorItem>, usize) {
    let count = items.len();
    items.sort_by(|one, other| {
        let newest_first = other.last_updated.cmp(&one.last_updated);
        one.symbol.cmp(&other.symbol).then(newest_first)
    });
    items.dedup_by(|later, kept| later.symbol == kept.symbol);
    let duplicates = count - items.len();
    (items, duplicates)
}

/// Judges the vendor's times. The vendor's clock may differ from ours as a whole; a single item that is far ahead of
/// both would never be replaced again, because nothing newer comes for long.
struct Clock {
    now: Timestamp,
    /// No item is from later.
    newest: Timestamp,
    /// What we hold from later than this holds nothing up.
    newest_held: Timestamp,
    /// The vendor's clock was set back: nothing that we hold holds anything up.
    went_back: bool,
}

impl Clock {
    fn new(items: &[VendorItem], limits: &CrawlLimits, previous: Option<&Snapshot>, now: Timestamp) -> Self {
        let plus = |at: Timestamp, ahead| at.checked_add(signed(ahead)).unwrap_or(Timestamp::MAX);
        let theirs = median(items.iter().map(|item| item.last_updated));
        Self {
            now,
            newest: plus(now.max(theirs.unwrap_or(now)), limits.item_ahead_max),
            newest_held: plus(now, limits.ahead_max),
            went_back: previous.is_some_and(|previous| went_back(theirs, previous, limits, now)),
        }
    }

    /// The quote that an item gives, unless we hold a newer one with another price.
    fn quote(&self, item: VendorItem, previous: Option<&Snapshot>) -> Result<Quote, BadItem> {
        if item.last_updated > self.newest {
            return Err(BadItem {
                symbol: Some(item.symbol),
                fault: ItemFault::FromTheFuture,
            });
        }
        // What was taken over while the vendor's clock was ahead must not hold up the right time.
        let held = previous
            .and_then(|previous| previous.get(&item.symbol))
            .filter(|held| !self.went_back && held.last_updated <= self.newest_held);
        let last_updated = match held {
            Some(held) if item.last_updated < held.last_updated => {
                if item.price != held.price {
                    return Err(BadItem {
                        symbol: Some(item.symbol),
                        fault: ItemFault::Older,
                    });
                }
                // The vendor's clocks differ by some milliseconds; the price stands, so it is fresh.
                held.last_updated
            }
            _ => item.last_updated,
        };
        let VendorItem {
            symbol,
            name,
            sector,
            price,
            change,
            ..
        } = item;
        Ok(Quote {
            symbol,
            name,
            sector,
            price,
            change,
            last_updated,
            as_of: self.now,
            mover: false,
            listed: true,
        })
    }
}

/// Whether the whole list is older than the one before, for longer than a list from an old cache would be. One such
/// list refused is a pass lost; refusing all until the vendor's clock is where it was would be an hour.
fn went_back(theirs: Option<Timestamp>, previous: &Snapshot, limits: &CrawlLimits, now: Timestamp) -> bool {
    let listed = previous.quotes.iter().filter(|quote| quote.listed);
    let before = median(listed.map(|quote| quote.last_updated));
    theirs < before && now.duration_since(previous.meta.taken_at) >= signed(limits.back_after)
}

fn median(times: impl Iterator<Item = Timestamp>) -> Option<Timestamp> {
    let mut times: Vec<_> = times.collect();
    let middle = times.len() / 2;
    (!times.is_empty()).then(|| *times.select_nth_unstable(middle).1)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// Marks the quotes whose price moved significantly since the previous snapshot.
fn mark_movers(quotes: &mut [Quote], previous: Option<&Snapshot>, limits: &CrawlLimits) {
    let Some(previous) = previous else { return };
    for quote in quotes {
        let before = previous.get(&quote.symbol);
        quote.mover = before.is_some_and(|before| limits.mover_from.is_reached(before.price, quote.price));
    }
}

/// Quotes of the previous snapshot that this crawl does not replace.
struct Missing {
    /// Their items were bad: the last good quotes stay, with their true age. When a bad item does not even say whose
    /// it is, every symbol that is missing may be the one, so all of them stay.
    kept: Vec<Quote>,
    /// The vendor does not list them any more.
    unlisted: Vec<Quote>,
}

fn missing(
    quotes: &[Quote],
    bad: &[BadItem],
    previous: Option<&Snapshot>,
    limits: &CrawlLimits,
    now: Timestamp,
) -> Missing {
    let Some(previous) = previous else {
        return Missing {
            kept: Vec::new(),
            unlisted: Vec::new(),
        };
    };
    let listed: HashSet<&Symbol> = quotes.iter().map(|quote| &quote.symbol).collect();
    let named: HashSet<&Symbol> = bad.iter().filter_map(|bad| bad.symbol.as_ref()).collect();
    let nameless = bad.iter().any(|bad| bad.symbol.is_none());
    let gone = previous
        .quotes
        .iter()
        .filter(|quote| !listed.contains(&quote.symbol))
        .map(|quote| Quote {
            mover: false,
            ..quote.clone()
        });
    let (kept, unlisted): (Vec<_>, Vec<_>) =
        gone.partition(|quote| quote.listed && (nameless || named.contains(&quote.symbol)));
    let unlisted = unlisted
        .into_iter()
        .filter(|quote| now.duration_since(quote.as_of).unsigned_abs() < limits.unlisted_kept)
        .map(|quote| Quote {
            listed: false,
            ..quote
        })
        .collect();
    Missing { kept, unlisted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuse_domain::Price;

    const NOW: &str = "2026-01-02T12:00:00Z";

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn item(symbol: &str, price: &str, last_updated: &str) -> VendorItem {
        VendorItem {
            symbol: Symbol::parse(symbol).expect("a symbol"),
            name: format!("{symbol} Inc."),
            sector: "Tech".into(),
            price: Price::parse(price).expect("a price"),
            change: "0".into(),
            last_updated: time(last_updated),
        }
    }

    fn bad(symbol: Option<&str>) -> BadItem {
        let symbol = symbol.map(|symbol| Symbol::parse(symbol).expect("a symbol"));
        BadItem {
            symbol,
            fault: ItemFault::Price,
        }
    }

    /// Twenty-five quiet stocks, so that one bad item is less than 5 %.
    fn quiet() -> impl Iterator<Item = Result<VendorItem, BadItem>> {
        (0..25).map(|n| Ok(item(&format!("Q{n:02}"), "1", "2026-01-02T11:59:00Z")))
    }

    fn check(
        items: impl IntoIterator<Item = Result<VendorItem, BadItem>>,
        previous: Option<&Snapshot>,
    ) -> Result<Crawl, CrawlError> {
        let listing = Listing {
            items: quiet().chain(items).collect(),
            pages: 1,
            bytes: 1,
            ..Listing::default()
        };
        merge(
            listing,
            &CrawlLimits::with_deadline(Duration::from_secs(1)),
            previous,
            time(NOW),
        )
    }

    fn before(items: impl IntoIterator<Item = VendorItem>) -> Snapshot {
        let listing = Listing {
            items: items.into_iter().map(Ok).collect(),
            pages: 1,
            bytes: 1,
            ..Listing::default()
        };
        let limits = CrawlLimits::with_deadline(Duration::from_secs(1));
        merge(listing, &limits, None, time("2026-01-02T11:55:00Z"))
            .expect("a crawl")
            .snapshot
    }

    fn quote<'a>(crawl: &'a Crawl, symbol: &str) -> Option<&'a Quote> {
        crawl.snapshot.get(&Symbol::parse(symbol).expect("a symbol"))
    }

    #[test]
    fn a_good_item_is_as_old_as_the_crawl() {
        let crawl = check([Ok(item("A", "2", "2026-01-02T11:58:00Z"))], None).expect("a crawl");
        let quote = quote(&crawl, "A").expect("listed");
        assert_eq!(
            (quote.as_of, quote.last_updated),
            (time(NOW), time("2026-01-02T11:58:00Z"))
        );
        assert_eq!(
            (crawl.snapshot.meta.count, crawl.snapshot.meta.taken_at),
            (26, time(NOW))
        );
    }

    #[test]
    fn a_bad_item_keeps_its_last_good_quote_with_its_true_age() {
        let previous = before([item("A", "2", "2026-01-02T11:54:00Z")]);
        let crawl = check([Err(bad(Some("A")))], Some(&previous)).expect("a crawl");
        let quote = quote(&crawl, "A").expect("kept");
        assert_eq!(quote.as_of, time("2026-01-02T11:55:00Z"));
        assert_eq!((crawl.kept, crawl.quarantined.len()), (1, 1));
    }

    #[test]
    fn a_bad_item_without_a_name_keeps_whatever_is_missing() {
        let previous = before([item("A", "2", "2026-01-02T11:54:00Z")]);
        let crawl = check([Err(bad(None))], Some(&previous)).expect("a crawl");
        assert!(quote(&crawl, "A").is_some());
    }

    #[test]
    fn a_stock_that_is_no_longer_listed_stays_marked_for_a_day_and_comes_back() {
        let previous = before([item("A", "2", "2026-01-02T11:54:00Z")]);
        let crawl = check([], Some(&previous)).expect("a crawl");
        let gone = quote(&crawl, "A").expect("marked");
        assert_eq!(
            (gone.listed, gone.as_of, crawl.unlisted),
            (false, time("2026-01-02T11:55:00Z"), 1)
        );
        let symbol = Symbol::parse("A").expect("a symbol");
        assert!(crawl.snapshot.quote_used(&symbol).is_none(), "nobody can buy it");
        let other = check([Err(bad(Some("B")))], Some(&previous)).expect("a crawl");
        assert!(
            !quote(&other, "A").expect("marked").listed,
            "another one's fault excuses nothing"
        );

        let back = check(
            [Ok(item("A", "3", "2026-01-02T11:58:00Z"))],
            Some(&crawl.snapshot),
        )
        .expect("a crawl");
        assert!(quote(&back, "A").expect("listed").listed);

        let mut old = crawl.snapshot.clone();
        for quote in &mut old.quotes {
            quote.as_of = time("2026-01-01T12:00:00Z");
        }
        let crawl = check([], Some(&old)).expect("a crawl");
        assert!(quote(&crawl, "A").is_none(), "after a day it goes");
    }

    #[test]
    fn a_stock_moves_from_two_percent_on() {
        let previous = before([
            item("A", "100", "2026-01-02T11:54:00Z"),
            item("B", "100", "2026-01-02T11:54:00Z"),
        ]);
        let moved = [
            Ok(item("A", "98", "2026-01-02T11:58:00Z")),
            Ok(item("B", "101.99999", "2026-01-02T11:58:00Z")),
            Ok(item("C", "7", "2026-01-02T11:58:00Z")),
        ];
        let crawl = check(moved, Some(&previous)).expect("a crawl");
        let is_mover = |symbol| quote(&crawl, symbol).expect("listed").mover;
        assert_eq!(
            (is_mover("A"), is_mover("B"), is_mover("C"), is_mover("Q00")),
            (true, false, false, false)
        );
    }

    #[test]
    fn more_than_five_percent_bad_refuses_the_pass() {
        let bads = |n: usize| (0..n).map(|_| Err(bad(None)));
        assert!(check(bads(1), None).is_ok(), "1 of 26");
        let refused = check(bads(2), None).expect_err("2 of 27");
        assert_eq!(refused.reason(), "too_many_bad_items");
        assert!(refused.is_bad_data());
    }

    #[test]
    fn a_symbol_listed_twice_keeps_the_newer_and_is_counted() {
        let (old, new) = (
            item("A", "2", "2026-01-02T11:58:00Z"),
            item("A", "3", "2026-01-02T11:58:00.001Z"),
        );
        for items in [[old.clone(), new.clone()], [new.clone(), old]] {
            let crawl = check(items.map(Ok), None).expect("a crawl");
            assert_eq!(quote(&crawl, "A").expect("listed").price.to_string(), "3");
            assert_eq!((crawl.duplicates, crawl.quarantined.len()), (1, 0));
        }
        let same_time = item("A", "4", "2026-01-02T11:58:00.001Z");
        let crawl = check([new, same_time].map(Ok), None).expect("a crawl");
        assert_eq!(quote(&crawl, "A").expect("listed").price.to_string(), "3");
    }

    #[test]
    fn an_older_quote_never_replaces_a_newer_one() {
        let previous = before([item("A", "2", "2026-01-02T11:54:00Z")]);
        let older = check([Ok(item("A", "9", "2026-01-02T11:50:00Z"))], Some(&previous)).expect("a crawl");
        assert_eq!(quote(&older, "A").expect("kept").price.to_string(), "2");
        assert_eq!(older.quarantined[0].fault, ItemFault::Older);

        let same = check([Ok(item("A", "2", "2026-01-02T11:53:59.990Z"))], Some(&previous)).expect("a crawl");
        let kept = quote(&same, "A").expect("listed");
        assert_eq!(
            (kept.last_updated, kept.as_of),
            (time("2026-01-02T11:54:00Z"), time(NOW))
        );
        assert!(same.quarantined.is_empty());
    }

    #[test]
    fn one_item_from_the_future_is_bad_but_a_vendor_ahead_as_a_whole_is_not() {
        let crawl = check([Ok(item("A", "2", "2027-01-01T00:00:00Z"))], None).expect("a crawl");
        assert_eq!(crawl.quarantined[0].fault, ItemFault::FromTheFuture);

        let ahead = before((0..25).map(|n| item(&format!("Q{n:02}"), "7", "2026-03-01T00:00:00Z")));
        assert_eq!(ahead.meta.count, 25);
        let healed = check([], Some(&ahead)).expect("the right time again");
        assert_eq!(quote(&healed, "Q00").expect("listed").price.to_string(), "1");
    }

    #[test]
    fn an_item_a_minute_ahead_of_ours_and_of_the_others_is_bad() {
        for (at, is_good) in [("2026-01-02T12:01:00Z", true), ("2026-01-02T12:01:01Z", false)] {
            let crawl = check([Ok(item("A", "2", at))], None).expect("a crawl");
            assert_eq!(crawl.quarantined.is_empty(), is_good, "{at}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_is_followed_but_not_at_once() {
        // All that is held is from half an hour later than what the vendor says now.
        let held = |taken_at| {
            let items = (0..25).map(|n| Ok(item(&format!("Q{n:02}"), "7", "2026-01-02T12:29:00Z")));
            let listing = Listing {
                items: items.collect(),
                ..Listing::default()
            };
            let limits = CrawlLimits::with_deadline(Duration::from_secs(1));
            merge(listing, &limits, None, time(taken_at))
                .expect("a crawl")
                .snapshot
        };
        let refused = check([], Some(&held("2026-01-02T11:56:01Z"))).expect_err("just now");
        assert_eq!(refused.reason(), "too_many_bad_items");
        let crawl = check([], Some(&held("2026-01-02T11:56:00Z"))).expect("for long");
        assert_eq!(quote(&crawl, "Q00").expect("listed").price.to_string(), "1");
    }

    #[test]
    fn no_stock_at_all_is_no_crawl() {
        let limits = CrawlLimits::with_deadline(Duration::from_secs(1));
        let refused = merge(Listing::default(), &limits, None, time(NOW)).expect_err("empty");
        assert_eq!(refused.reason(), "empty");
    }
}
