use fuse_domain::{Amount, AmountError, remainder, shares_for};
use proptest::prelude::*;

use crate::price;
use crate::rational::{Rational, number};

fn amount(text: &str) -> Amount {
    Amount::parse_client(text).expect("an amount written in a test")
}

fn check(notional: &str, limit_price: &str, expected: Result<(&str, &str), AmountError>) {
    let found = shares_for(amount(notional), price(limit_price)).map(|quantity| {
        let left = remainder(amount(notional), price(limit_price), quantity).expect("it suffices");
        (quantity.to_string(), left.to_string())
    });
    let expected = expected.map(|(quantity, left)| (quantity.to_owned(), left.to_owned()));
    assert_eq!(found, expected, "{notional} at {limit_price}");
}

#[test]
fn an_amount_buys_the_shares_that_it_pays_for() {
    check("100", "50", Ok(("2", "0")));
    check("1000", "150.25", Ok(("6.655574043", "0.00000003925")));
    check("1", "3", Ok(("0.333333333", "0.000000001")));
    // Down, also where half a step or more is missing.
    check("2", "3", Ok(("0.666666666", "0.000000002")));
    check("0.000000001", "1", Ok(("0.000000001", "0")));
    check(
        "9999999999999999999.999999999",
        "1",
        Ok(("9999999999999999999.999999999", "0")),
    );
    check("0.000000001", "1.000000001", Err(AmountError::NotPositive));
    check("1", "1000000000.000000001", Err(AmountError::NotPositive));
    check("1", "1000000000", Ok(("0.000000001", "0")));
    check("9999999999999999999", "0.999999999", Err(AmountError::TooLarge));
    check("10000000000", "0.000000001", Err(AmountError::TooLarge));
    check("9999999999", "0.000000001", Ok(("9999999999000000000", "0")));
}

#[test]
fn an_amount_of_a_client_is_plain_and_positive() {
    let parse = |text| Amount::parse_client(text).map(|amount| amount.to_string());
    assert_eq!(parse("1000.50"), Ok("1000.5".to_owned()));
    assert_eq!(parse("0"), Err(AmountError::NotPositive));
    assert_eq!(parse("-1"), Err(AmountError::NotPositive));
    assert_eq!(parse("1e3"), Err(AmountError::NotANumber));
    assert_eq!(
        parse("0.0000000001"),
        Err(AmountError::TooManyDecimals { max: 9 })
    );
    assert_eq!(parse("10000000000000000000"), Err(AmountError::TooLarge));
}

#[test]
fn what_does_not_suffice_has_no_remainder() {
    let quantity = crate::quantity("3");
    assert_eq!(
        remainder(amount("1"), price("1"), quantity),
        Err(AmountError::Negative)
    );
}

proptest! {
    /// As fractions: the shares cost at most the amount, one step more would cost more than it, and cost and remainder
    /// make up the amount.
    #[test]
    fn shares_are_the_most_that_the_amount_pays_for(notional in number(19, 9), limit_price in number(19, 9)) {
        let (money, step) = (Rational::of(&notional), Rational::of("0.000000001"));
        let limit = price(&limit_price);
        let at = Rational::of(&limit_price);
        match shares_for(amount(&notional), limit) {
            Ok(quantity) => {
                let shares = Rational::of(&quantity.to_string());
                let cost = shares.times(&at);
                prop_assert!(cost.at_most(&money));
                prop_assert!(!shares.plus(&step).times(&at).at_most(&money));
                let left = remainder(amount(&notional), limit, quantity).expect("it suffices");
                prop_assert!(cost.plus(&Rational::of(&left.to_string())).equals(&money));
                let decimals = quantity.to_string().split_once('.').map_or(0, |(_, part)| part.len());
                prop_assert!(decimals <= 9);
            }
            Err(AmountError::NotPositive) => prop_assert!(!step.times(&at).at_most(&money)),
            Err(AmountError::TooLarge) => {
                prop_assert!(Rational::of("10000000000000000000").times(&at).at_most(&money));
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
