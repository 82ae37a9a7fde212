use std::collections::BTreeMap;

use uuid::Uuid;

use super::*;

const NINE_THIRTY: &str = "2026-01-05T09:30:00.123Z";

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn symbol(text: &str) -> Symbol {
    Symbol::parse(text).expect("a symbol")
}

fn quote(name: &str, at: &str) -> Quote {
    Quote {
        symbol: symbol(name),
        name: format!("{name} Inc."),
        sector: "Tech".into(),
        price: Price::parse("123.45000000000002").expect("a price"),
        change: "-0.5".into(),
        last_updated: time(at),
        as_of: time(at),
        mover: false,
        listed: true,
    }
}

fn meta(id: u128) -> SnapshotMeta {
    SnapshotMeta {
        id: Uuid::from_u128(id),
        taken_at: time("2026-01-05T09:30:02Z"),
        tick_at: time(NINE_THIRTY),
        count: 1,
    }
}

fn blocks_of(quotes: &[Quote]) -> Vec<Item> {
    blocks(&quotes.iter().collect::<Vec<_>>(), &meta(1))
}

fn text<'a>(item: &'a Item, name: &str) -> &'a str {
    items::text(item, name).expect("a text")
}

fn size(item: &Item) -> usize {
    ["pk", "sk", POINTS, MOVERS_OF_BLOCK]
        .map(|name| items::text(item, name).map_or(0, str::len))
        .iter()
        .sum()
}

/// What is written stays where it is for ninety days: another layout would lose it.
#[test]
fn a_block_is_laid_out_as_ever() {
    let items = blocks_of(&[quote("AAPL", NINE_THIRTY)]);
    let [item] = &items[..] else {
        panic!("one block: {items:?}");
    };
    assert_eq!(text(item, "pk"), "HISTORY#320#2026-01-05");
    assert_eq!(text(item, "sk"), "09#00000000-0000-0000-0000-000000000001#0");
    assert_eq!(text(item, POINTS), ";AAPL 1800123 123.45000000000002 -0.5");
    assert_eq!(items::integer(item, "expires_at").expect("a time"), 1_775_381_400);
    assert_eq!(item.len(), 4, "no movers: not in their index");
}

#[test]
fn changes_go_by_the_hours_of_their_own_times() {
    let quotes = [
        quote("AAPL", "2026-01-05T09:59:59.999Z"),
        quote("AAPL", "2026-01-05T10:00:00Z"),
        quote("AAPL", "2026-01-04T23:59:59.999Z"),
        quote("AAPL", "1969-12-31T23:00:00.001Z"),
    ];
    let items = blocks_of(&quotes);
    let read = |item: &Item| {
        let day: Date = text(item, "pk")[12..].parse().expect("a day");
        let point = point(item, day, &symbol("AAPL")).expect("readable");
        (hour(item).expect("an hour"), point.expect("a point").at)
    };
    let mut found: Vec<_> = items.iter().map(read).collect();
    found.sort_by_key(|(_, at)| *at);
    let expected =
        [(23, 3), (23, 2), (9, 0), (10, 1)].map(|(hour, n): (_, usize)| (hour, quotes[n].last_updated));
    assert_eq!(found, expected);
}

#[test]
fn symbols_that_hold_one_another_do_not_mix() {
    let mut item = blocks_of(&[quote("A", NINE_THIRTY)]).remove(0);
    let points = ";AA 1 1 0;A 2 2 0;-A 3 3 0;A-A 4 4 0;A. 5 5 0;a 6 6 0";
    item.insert(POINTS.into(), items::string(points));
    let day = day_of(time(NINE_THIRTY));
    for (name, price) in [
        ("AA", "1"),
        ("A", "2"),
        ("-A", "3"),
        ("A-A", "4"),
        ("A.", "5"),
        ("a", "6"),
    ] {
        let found = point(&item, day, &symbol(name)).expect("readable").expect(name);
        assert_eq!(found.price.to_string(), price, "{name}");
    }
    assert_eq!(point(&item, day, &symbol("AAA")).expect("readable"), None);
}

#[test]
fn what_is_no_block_is_corrupt() {
    let good = blocks_of(&[quote("A", NINE_THIRTY)]).remove(0);
    let day = day_of(time(NINE_THIRTY));
    for line in [";A ", ";A 1 2", ";A 1 2 3 4", ";A x 2 3", ";A 1 x 3", ";A 1 -2 3"] {
        let mut bad = good.clone();
        bad.insert(POINTS.into(), items::string(line));
        let read = point(&bad, day, &symbol("A"));
        assert!(
            matches!(read, Err(StoreError::Corrupt { .. })),
            "{line}: {read:?}"
        );
        assert_eq!(point(&bad, day, &symbol("B")).expect("another's"), None, "{line}");
    }
    for key in ["", "9", "24#", "-1#", "é#"] {
        let mut bad = good.clone();
        bad.insert("sk".into(), items::string(key));
        assert!(matches!(hour(&bad), Err(StoreError::Corrupt { .. })), "{key}");
    }
    for movers in ["", "[", "{}", r#"[["A",1,"0","0","",""]]"#] {
        let mut bad = good.clone();
        bad.insert(items::MOVER_SK.into(), items::string("1767605402000#000#0"));
        bad.insert(MOVERS_OF_BLOCK.into(), items::string(movers));
        let read = super::movers(&bad);
        assert!(
            matches!(read, Err(StoreError::Corrupt { .. })),
            "{movers}: {read:?}"
        );
    }
}

/// Whether everything is told by exactly one block, and no block is too large; gives the blocks.
fn check_whole(quotes: &[Quote]) -> Vec<Item> {
    let items = blocks_of(quotes);
    let mut by_key = BTreeMap::new();
    for item in &items {
        assert!(size(item) <= BLOCK_BYTES_MAX + 200, "{} bytes", size(item));
        let before = by_key.insert((text(item, "pk"), text(item, "sk")), item);
        assert!(before.is_none(), "no key twice");
    }
    let lines: usize = items
        .iter()
        .map(|item| text(item, POINTS).matches(';').count())
        .sum();
    assert_eq!(lines, quotes.len());
    for quote in quotes.iter().step_by(97) {
        let day = day_of(quote.last_updated);
        let (first, last) = block_sks(hour_of(quote.last_updated), hour_of(quote.last_updated));
        let pk = block_pk(&quote.symbol, day);
        let found: Vec<_> = by_key
            .range((&*pk, &*first)..=(&*pk, &*last))
            .filter_map(|(_, item)| point(item, day, &quote.symbol).expect("readable"))
            .collect();
        let expected = HistoryPoint {
            at: quote.last_updated,
            price: quote.price,
            change: quote.change.clone(),
        };
        assert_eq!(found, [expected], "{}", quote.symbol);
    }
    items
}

/// The vendor's and the simulator's kinds of names: numbered, and short ones of letters.
fn names(count: u32) -> impl Iterator<Item = String> {
    let letters = |n: u32| (0..4).map(move |place| char::from(b'A' + (n / 26_u32.pow(place) % 26) as u8));
    (0..count).map(move |n| match n % 2 {
        0 => format!("S{n:05}"),
        _ => letters(n).collect(),
    })
}

#[test]
fn ten_thousand_changes_are_blocks_of_one_write_unit() {
    let quotes: Vec<_> = names(10_000).map(|name| quote(&name, NINE_THIRTY)).collect();
    let items = check_whole(&quotes);
    assert_eq!(items.len(), 512, "every bucket is used");
    // A write unit pays for 1,024 bytes; the attributes' names and the expiry are among them. These prices are long.
    let larger = items.iter().filter(|item| size(item) > 1_024 - 40).count();
    assert!(larger <= 120, "{larger} of 512 are larger");
}

#[test]
fn a_hundred_thousand_changes_are_no_more_blocks_and_when_large_they_are_split() {
    let mut quotes: Vec<_> = names(100_000).map(|name| quote(&name, NINE_THIRTY)).collect();
    assert_eq!(check_whole(&quotes).len(), 512);
    // Many move, all with the longest names that are taken.
    quotes.truncate(40_000);
    for quote in &mut quotes {
        quote.mover = true;
        quote.name = "\u{1F4C8}".repeat(200);
    }
    let items = check_whole(&quotes);
    assert!(items.len() > 512, "{} items", items.len());
    let movers = items
        .iter()
        .map(|item| super::movers(item).expect("readable").len());
    assert_eq!(movers.sum::<usize>(), 40_000, "each is told once");
}

#[test]
fn a_pass_written_again_is_the_same_bytes() {
    let quotes: Vec<_> = names(2_000).map(|name| quote(&name, NINE_THIRTY)).collect();
    assert_eq!(blocks_of(&quotes), blocks_of(&quotes));
    let of = |id| blocks(&[&quotes[0]], &meta(id)).remove(0);
    assert!(text(&of(1), "sk") < text(&of(2), "sk"), "a later one lies behind");
}
