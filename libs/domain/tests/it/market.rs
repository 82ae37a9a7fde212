use fuse_domain::{Quote, Snapshot, Symbol, SymbolError};

use crate::{at_millis, id, price, symbol};

#[test]
fn symbols() {
    for text in [
        "A",
        "AAPL",
        "BRK.B",
        "BF-B",
        "^GSPC",
        "EURUSD=X",
        "a_b",
        "12345678901234567890",
        "0700.HK",
    ] {
        assert_eq!(
            Symbol::parse(text).map(|symbol| symbol.to_string()),
            Ok(text.to_owned())
        );
    }
    assert_eq!(Symbol::parse(""), Err(SymbolError::Empty));
    assert_eq!(Symbol::parse("123456789012345678901"), Err(SymbolError::TooLong));
    for text in [
        "A B", "A/B", "../x", "..", ".", "---", "Ä", "АAPL", "A\n", "A%20", "A?b", "A#", "😀", "A\0",
    ] {
        assert_eq!(
            Symbol::parse(text),
            Err(SymbolError::IllegalCharacter),
            "{text:?}"
        );
    }
    assert!(serde_json::from_str::<Symbol>(r#""..""#).is_err());
    assert_eq!(
        serde_json::from_str::<Symbol>(r#""AAPL""#).expect("reads"),
        symbol("AAPL")
    );
}

fn quote(name: &str, text: &str, updated_millis: i64) -> Quote {
    Quote {
        symbol: symbol(name),
        name: format!("{name} Inc."),
        sector: "Technology".to_owned(),
        price: price(text),
        change: "-0.5".to_owned(),
        last_updated: at_millis(updated_millis),
        as_of: at_millis(10_000),
        mover: false,
        listed: true,
    }
}

fn shown(snapshot: &Snapshot) -> Vec<String> {
    snapshot
        .quotes
        .iter()
        .map(|quote| format!("{} {}", quote.symbol, quote.price))
        .collect()
}

#[test]
fn a_snapshot_is_sorted_and_keeps_the_newer_of_two() {
    let quotes = vec![
        quote("UNH", "3", 5),
        quote("AAPL", "1", 7),
        quote("NVDA", "2", 3),
        quote("AAPL", "9", 6),
    ];
    let snapshot = Snapshot::new(id(1), at_millis(20), quotes.clone());
    assert_eq!(shown(&snapshot), ["AAPL 1", "NVDA 2", "UNH 3"]);
    assert_eq!((snapshot.meta.count, snapshot.meta.tick_at), (3, at_millis(7)));
    assert_eq!((snapshot.meta.id, snapshot.meta.taken_at), (id(1), at_millis(20)));
    let reversed = Snapshot::new(id(1), at_millis(20), quotes.into_iter().rev().collect());
    assert_eq!(reversed, snapshot);
}

#[test]
fn a_symbol_is_found_or_not() {
    let snapshot = Snapshot::new(
        id(1),
        at_millis(20),
        vec![quote("NVDA", "2", 3), quote("AAPL", "0.2475", 3)],
    );
    let used = snapshot.quote_used(&symbol("AAPL")).expect("is there");
    assert_eq!(
        (used.price, used.as_of, used.snapshot_id),
        (price("0.2475"), at_millis(10_000), id(1))
    );
    assert_eq!(
        snapshot.get(&symbol("NVDA")).map(|quote| quote.price),
        Some(price("2"))
    );
    assert_eq!(snapshot.get(&symbol("ZZZ")), None);
    let empty = Snapshot::new(id(2), at_millis(20), Vec::new());
    assert_eq!((empty.meta.count, empty.meta.tick_at), (0, at_millis(20)));
}

#[test]
fn a_stored_snapshot_reads_back_even_when_its_order_was_lost() {
    let snapshot = Snapshot::new(
        id(1),
        at_millis(20),
        vec![quote("NVDA", "2", 3), quote("AAPL", "0.2475", 3)],
    );
    let mut stored = serde_json::to_value(&snapshot).expect("serialises");
    assert_eq!(stored["quotes"][0]["price"], "0.2475");
    assert_eq!(stored["quotes"][0]["lastUpdated"], "2026-03-02T09:00:00.003Z");
    stored["quotes"].as_array_mut().expect("a list").reverse();
    assert_eq!(
        serde_json::from_value::<Snapshot>(stored).expect("reads"),
        snapshot
    );
}
