use fuse_domain::{Decimal, Price, Tolerance, ToleranceError, decimal_text};
use num_bigint::BigUint;
use proptest::prelude::*;

use crate::price;
use crate::rational::{Rational, number, text_of};

fn two_percent() -> Tolerance {
    Tolerance::default()
}

fn tolerance(text: &str) -> Tolerance {
    Tolerance::parse(text).expect("a legal tolerance")
}

fn check(quote: &str, accept: &[&str], refuse: &[&str]) {
    for offer in accept {
        assert!(
            two_percent().accepts(price(quote), price(offer)),
            "{offer} at {quote}"
        );
    }
    for offer in refuse {
        assert!(
            !two_percent().accepts(price(quote), price(offer)),
            "{offer} at {quote}"
        );
    }
}

#[test]
fn vectors_of_the_vendor_contract() {
    check("0.25", &["0.245", "0.255"], &["0.24499", "0.24495001", "0.25504"]);
    check("100", &["98", "98.5", "102"], &["95", "97.99999999"]);
    check("220.67", &["216.2566", "225.0834"], &["225.08341"]);
    check("19.71107", &["20.1052914"], &["20.1052915"]);
    check("0.01", &["0.0098", "0.0102"], &["0.01021"]);
    check("0.00001", &["0.0000102"], &["0.00001021"]);
    check("1000000000", &["1020000000"], &["1020000000.00001"]);
}

#[test]
fn every_cent_price_accepts_its_exact_edges_and_nothing_beyond() {
    for cents in 1u64..=100_000 {
        let quote = price(&text_of(&cents.into(), 2));
        for edge in [98 * cents, 102 * cents] {
            assert!(
                two_percent().accepts(quote, price(&text_of(&edge.into(), 4))),
                "{edge} at {cents}"
            );
        }
        for beyond in [980_000 * cents - 1, 1_020_000 * cents + 1] {
            assert!(
                !two_percent().accepts(quote, price(&text_of(&beyond.into(), 8))),
                "{beyond} at {cents}"
            );
        }
    }
}

#[test]
fn tolerances_are_percentages_below_a_hundred() {
    for (text, shown) in [
        ("0", "0"),
        ("2", "2"),
        ("2.0", "2"),
        ("0.0001", "0.0001"),
        ("99.9999", "99.9999"),
    ] {
        assert_eq!(
            Tolerance::parse(text).map(|tolerance| tolerance.to_string()),
            Ok(shown.to_owned())
        );
    }
    for text in ["", "-1", "100", "2.00001", "1e1", "2%", "NaN", "1e400"] {
        assert_eq!(Tolerance::parse(text), Err(ToleranceError), "{text:?}");
    }
    assert_eq!(tolerance("2"), two_percent());
    assert!(tolerance("0").accepts(price("5"), price("5")));
    assert!(!tolerance("0").accepts(price("5"), price("5.000000001")));
}

fn range(percent: &str, quote: &str) -> (String, String) {
    let (low, high) = tolerance(percent).allowed_range(price(quote));
    (decimal_text(low), decimal_text(high))
}

#[test]
fn the_range_names_the_edges() {
    assert_eq!(range("2", "0.25"), ("0.245".to_owned(), "0.255".to_owned()));
    assert_eq!(
        range("2", "19.71107"),
        ("19.3168486".to_owned(), "20.1052914".to_owned())
    );
    assert_eq!(range("0.5", "100"), ("99.5".to_owned(), "100.5".to_owned()));
    // 28 digits can not hold these edges: rounded inwards.
    let quote = "1.111111111111111111111111111";
    assert_eq!(
        range("2", quote),
        (
            "1.088888888888888888888888889".to_owned(),
            "1.133333333333333333333333333".to_owned()
        )
    );
    let nines = "9999999999999999999999999999";
    assert_eq!(
        range("2", nines),
        ("9800000000000000000000000000".to_owned(), nines.to_owned())
    );
}

/// `|offer - quote| / quote <= percent / 100`, in fractions.
fn model(percent: &str, quote: &str, offer: &str) -> bool {
    let quote = Rational::of(quote);
    let distance = Rational::of(offer).minus(&quote).abs();
    distance
        .over(&quote)
        .at_most(&Rational::of(percent).over(&Rational::whole(100)))
}

fn percent() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("2".to_owned()),
        (0u32..1_000_000).prop_map(|parts| text_of(&parts.into(), 4))
    ]
}

proptest! {
    #[test]
    fn agrees_with_rationals_anywhere(quote in number(28, 28), offer in number(28, 28), percent in percent()) {
        let accepted = tolerance(&percent).accepts(price(&quote), price(&offer));
        prop_assert_eq!(accepted, model(&percent, &quote, &offer));
    }

    #[test]
    fn agrees_with_rationals_near_the_edges(
        mantissa in 1u64..=9_999_999_999_999_999,
        scale in 0usize..=9,
        upper in any::<bool>(),
        nudge in -3i64..=3,
        percent in percent(),
    ) {
        let quote = text_of(&mantissa.into(), scale);
        let parts: u64 = (Rational::of(&percent).numerator * 10_000u32 / Rational::of(&percent).denominator)
            .try_into().expect("small");
        let factor = if upper { 1_000_000 + parts } else { 1_000_000 - parts };
        let edge = i128::from(mantissa) * i128::from(factor) + i128::from(nudge);
        prop_assume!(edge > 0);
        let offer = text_of(&BigUint::try_from(edge).expect("positive"), scale + 6);
        let accepted = tolerance(&percent).accepts(price(&quote), price(&offer));
        prop_assert_eq!(accepted, model(&percent, &quote, &offer), "{} at {}", offer, quote);
    }

    #[test]
    fn the_range_is_accepted_and_nothing_a_client_can_write_beyond_it(quote in number(11, 9), percent in percent()) {
        let tolerance = tolerance(&percent);
        let quote = price(&quote);
        let (low, high) = tolerance.allowed_range(quote);
        let step: Decimal = "0.0000000000000001".parse().expect("a decimal");
        for inside in [low, high] {
            prop_assert!(tolerance.accepts(quote, Price::from_decimal(inside).expect("positive")));
        }
        for outside in [low - step, high + step] {
            if let Ok(outside) = Price::from_decimal(outside) {
                prop_assert!(!tolerance.accepts(quote, outside), "{} at {}", outside, quote);
            }
        }
    }

    #[test]
    fn the_range_is_accepted_for_any_quote(quote in number(28, 28), percent in percent()) {
        let (low, high) = tolerance(&percent).allowed_range(price(&quote));
        for inside in [low, high] {
            // Rounded inwards: a quote of the last decimal place may leave nothing but itself.
            let inside = Price::from_decimal(inside);
            prop_assert!(inside.is_ok_and(|offer| tolerance(&percent).accepts(price(&quote), offer)), "{:?}", inside);
        }
    }
}
