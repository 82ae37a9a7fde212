use fuse_domain::{
    Amount, AmountError, Decimal, Price, Quantity, SignedAmount, Total, average_price, decimal_text,
    number_text, profit_loss_percent,
};
use proptest::prelude::*;

use crate::rational::{Rational, number};
use crate::{price, quantity};

const TOO_MANY_DECIMALS: AmountError = AmountError::TooManyDecimals { max: 28 };

fn check(text: &str, expected: Result<&str, AmountError>) {
    assert_eq!(
        Price::parse(text).map(|price| price.to_string()),
        expected.map(str::to_owned),
        "{text:?}"
    );
    assert_eq!(
        Quantity::parse(text).map(|value| value.to_string()),
        expected.map(str::to_owned),
        "{text:?}"
    );
}

fn check_client(text: &str, expected: Result<&str, AmountError>) {
    assert_eq!(
        Price::parse_client(text).map(|price| price.to_string()),
        expected.map(str::to_owned),
        "{text:?}"
    );
    assert_eq!(
        Quantity::parse_client(text).map(|value| value.to_string()),
        expected.map(str::to_owned),
        "{text:?}"
    );
}

#[test]
fn number_texts_are_kept_exactly_or_refused() {
    check("0.2475", Ok("0.2475"));
    check("19.71107", Ok("19.71107"));
    check("150.250", Ok("150.25"));
    check("100", Ok("100"));
    check("1.0", Ok("1"));
    // Float noise is a legal price.
    check("123.45000000000002", Ok("123.45000000000002"));
    check("0.12345678901234567", Ok("0.12345678901234567"));
    // Exponent forms that JSON allows.
    check("1e-5", Ok("0.00001"));
    check("1E+3", Ok("1000"));
    check("2.5e2", Ok("250"));
    check("120e-1", Ok("12"));
    check("1e-28", Ok("0.0000000000000000000000000001"));
    check("9999999999999999999999999999", Ok("9999999999999999999999999999"));
    check("1.000000000000000000000000000000000000", Ok("1"));

    check("0", Err(AmountError::NotPositive));
    check("0.000", Err(AmountError::NotPositive));
    check("0e400", Err(AmountError::NotPositive));
    check("-0", Err(AmountError::NotPositive));
    check("-1", Err(AmountError::NotPositive));
    check("-1e400", Err(AmountError::NotPositive));
    check("1e400", Err(AmountError::TooLarge));
    check("1e28", Err(AmountError::TooLarge));
    check("1e99999999999999999999999999", Err(AmountError::TooLarge));
    check("1e-29", Err(TOO_MANY_DECIMALS));
    check("1e-400", Err(TOO_MANY_DECIMALS));
    check("1e-99999999999999999999999999", Err(TOO_MANY_DECIMALS));
    check("12345678901234567890123456789", Err(AmountError::TooLarge));
    check("1234567890.1234567890123456789", Err(AmountError::TooManyDigits));
    check(
        &format!("1{}", "0".repeat(10_000)),
        Err(AmountError::TooManyDigits),
    );
    check("", Err(AmountError::Empty));
}

#[test]
fn texts_that_are_no_json_number_are_refused() {
    for text in [
        "NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "inf",
        "abc",
        "-",
        "+1",
        ".5",
        "5.",
        "1.2.3",
        "1,5",
        "01",
        "-01",
        "00",
        " 1",
        "1 ",
        "1_000",
        "1e",
        "1e+",
        "e5",
        "1e1.5",
        "0x10",
        "1e5e5",
        "١",
        "１",
        "\u{0}",
        "1\n",
        "--1",
        "$1",
    ] {
        check(text, Err(AmountError::NotANumber));
        check_client(text, Err(AmountError::NotANumber));
        assert_eq!(number_text(text), Err(AmountError::NotANumber), "{text:?}");
    }
}

#[test]
fn clients_send_plain_decimals_of_nine_decimals() {
    let too_many_decimals = AmountError::TooManyDecimals { max: 9 };
    check_client("0.2475", Ok("0.2475"));
    check_client("4.5", Ok("4.5"));
    check_client("0.123456789", Ok("0.123456789"));
    check_client("0.000000001", Ok("0.000000001"));
    check_client(
        "9999999999999999999.999999999",
        Ok("9999999999999999999.999999999"),
    );
    check_client("0.1234567891", Err(too_many_decimals));
    check_client("1.0000000000", Err(too_many_decimals));
    check_client("10000000000000000000", Err(AmountError::TooLarge));
    check_client("1e5", Err(AmountError::NotANumber));
    check_client("1e400", Err(AmountError::NotANumber));
    check_client("0", Err(AmountError::NotPositive));
    check_client("-5", Err(AmountError::NotPositive));
    check_client("", Err(AmountError::Empty));
}

#[test]
fn passed_on_figures_may_be_zero_or_negative() {
    assert_eq!(number_text("-0.50"), Ok("-0.5".to_owned()));
    assert_eq!(number_text("-0.0"), Ok("0".to_owned()));
    assert_eq!(number_text("-1e-3"), Ok("-0.001".to_owned()));
    assert_eq!(number_text("1e400"), Err(AmountError::TooLarge));
    assert_eq!(number_text("-1e28"), Err(AmountError::TooLarge));
    assert_eq!(number_text("1e-29"), Err(TOO_MANY_DECIMALS));
}

#[test]
fn products_of_the_vendor_contract() {
    let total = price("19.71107").times(quantity("4.5")).expect("fits");
    assert_eq!(total.to_string(), "88.699815");
    assert_eq!(
        price("0.2475").times(quantity("3")).expect("fits").to_string(),
        "0.7425"
    );
}

#[test]
fn a_noisy_quote_times_a_long_quantity_is_exact() {
    // 32 digits: a Decimal would have rounded.
    let value = price("123.45000000000002")
        .times(quantity("123456.789012345"))
        .expect("fits");
    let expected = Rational::of("123.45000000000002").times(&Rational::of("123456.789012345"));
    assert!(Rational::of(&value.to_string()).equals(&expected), "{value}");
    assert_eq!(value.as_decimal(), Err(AmountError::TooManyDigits));
}

#[test]
fn a_product_that_does_not_fit_is_an_error() {
    let error = price("9999999999999999999.999999999").times(quantity("9999999999999999999.999999999"));
    assert_eq!(error, Err(AmountError::TooManyDigits));
    assert_eq!(price("1e20").times(quantity("1e20")), Err(AmountError::TooLarge));
    let error = price("1e-28").times(quantity("1e-28"));
    assert_eq!(error, Err(AmountError::TooManyDecimals { max: 38 }));
}

#[test]
fn sums_and_differences_that_do_not_fit_are_errors() {
    let nines = quantity("9999999999999999999999999999");
    assert_eq!(nines.checked_add(quantity("1")), Err(AmountError::TooLarge));
    assert_eq!(
        nines.checked_add(quantity("0.1")),
        Err(AmountError::TooManyDigits)
    );
    let amount = |text: &str| Amount::parse(text).expect("fits");
    let largest = amount(&"9".repeat(38));
    assert_eq!(largest.checked_add(amount("1")), Err(AmountError::TooLarge));
    assert_eq!(
        largest.checked_add(amount("0.1")),
        Err(AmountError::TooManyDigits)
    );
    assert_eq!(
        amount("88.699815").checked_add(amount("0.2475")),
        Ok(amount("88.947315"))
    );
    assert_eq!(
        quantity("4.5").checked_add(quantity("0.000000001")),
        Ok(quantity("4.500000001"))
    );
    assert_eq!(
        amount("1").checked_sub(amount("2.5")),
        Ok(SignedAmount::parse("-1.5").expect("fits"))
    );
    assert_eq!(Amount::parse("-1"), Err(AmountError::Negative));
    assert_eq!(Amount::parse("-0"), Ok(Amount::ZERO));
    assert_eq!(
        Amount::from_decimal(Decimal::NEGATIVE_ONE),
        Err(AmountError::Negative)
    );
}

#[test]
fn padding_of_the_database_is_not_shown() {
    let padded: Decimal = "12.5000".parse().expect("a decimal");
    assert_eq!(decimal_text(padded), "12.5");
    assert_eq!(Price::from_decimal(padded), Price::parse("12.5"));
    assert_eq!(Amount::parse("0.000"), Ok(Amount::ZERO));
    assert_eq!(decimal_text("100".parse().expect("a decimal")), "100");
    assert_eq!(decimal_text("-0.00".parse().expect("a decimal")), "0");
    assert_eq!(Price::from_decimal(Decimal::ZERO), Err(AmountError::NotPositive));
    assert_eq!(Price::from_decimal(Decimal::MAX), Err(AmountError::TooLarge));
}

#[test]
fn money_is_a_json_string_both_ways() {
    let value = price("0.2475");
    assert_eq!(serde_json::to_string(&value).expect("serialises"), r#""0.2475""#);
    assert_eq!(
        serde_json::from_str::<Price>(r#""0.2475""#).expect("reads"),
        value
    );
    for wrong in ["0.2475", r#""-1""#, r#""x""#, "null"] {
        assert!(serde_json::from_str::<Price>(wrong).is_err(), "{wrong}");
    }
    let amount = Amount::parse("88.699815").expect("fits");
    assert_eq!(
        serde_json::to_string(&amount).expect("serialises"),
        r#""88.699815""#
    );
    assert_eq!(
        serde_json::from_str::<Amount>(r#""88.699815""#).expect("reads"),
        amount
    );
}

#[test]
fn display_figures_round_half_to_even() {
    let average = |cost: &str, shares: &str| {
        decimal_text(average_price(Amount::parse(cost).expect("fits"), quantity(shares)).expect("fits"))
    };
    assert_eq!(average("1", "3"), "0.333333333");
    assert_eq!(average("2", "3"), "0.666666667");
    assert_eq!(average("0.000000001", "2"), "0"); // 0.5 units: down to even
    assert_eq!(average("0.000000003", "2"), "0.000000002"); // 1.5 units: up to even
    assert_eq!(average("0.000000005", "2"), "0.000000002"); // 2.5 units: down to even
    assert_eq!(average("88.699815", "4.5"), "19.71107");
    let percent = |cost: &str, profit: &str| {
        let profit = SignedAmount::parse(profit).expect("fits");
        profit_loss_percent(Amount::parse(cost).expect("fits"), profit).map(decimal_text)
    };
    assert_eq!(percent("3", "-1"), Some("-33.3333".to_owned()));
    assert_eq!(percent("3", "2"), Some("66.6667".to_owned()));
    assert_eq!(percent("200", "0.0001"), Some("0".to_owned()));
    assert_eq!(percent("0", "1"), None);
}

fn total_of(amounts: &[Amount]) -> Total {
    let mut total = Total::default();
    amounts.iter().for_each(|amount| total.add_amount(*amount));
    total
}

proptest! {
    #[test]
    fn reading_and_writing_keeps_the_value(text in number(28, 28)) {
        let value = price(&text);
        prop_assert!(Rational::of(&value.to_string()).equals(&Rational::of(&text)));
        prop_assert_eq!(price(&value.to_string()), value);
        prop_assert_eq!(Price::from_decimal(value.as_decimal()), Ok(value));
        let written = value.to_string();
        prop_assert!(!written.contains('.') || !written.ends_with(['0', '.']), "{}", written);
    }

    #[test]
    fn products_are_exact_or_refused(a in number(28, 28), b in number(28, 28)) {
        let expected = Rational::of(&a).times(&Rational::of(&b));
        match price(&a).times(quantity(&b)) {
            Ok(total) => prop_assert!(Rational::of(&total.to_string()).equals(&expected), "{} * {} = {}", a, b, total),
            // Refused only what 38 digits really do not hold.
            Err(_) => {
                let digits = |text: &str| text.replace('.', "").trim_matches('0').len();
                let decimals = |text: &str| text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
                prop_assert!(digits(&a) + digits(&b) > 38 || decimals(&a) + decimals(&b) > 38 || a.len() + b.len() > 38);
            }
        }
    }

    #[test]
    fn products_of_clients_numbers_below_ten_to_the_twenty_always_fit(a in number(19, 9), b in number(19, 9)) {
        let expected = Rational::of(&a).times(&Rational::of(&b));
        let fits = expected.at_most(&Rational::of("99999999999999999999"));
        prop_assert!(!fits || price(&a).times(quantity(&b)).is_ok(), "{} * {}", a, b);
    }

    #[test]
    fn comparing_agrees_with_rationals(a in number(28, 28), b in number(28, 28)) {
        let (x, y) = (Amount::parse(&a).expect("fits"), Amount::parse(&b).expect("fits"));
        prop_assert_eq!(x <= y, Rational::of(&a).at_most(&Rational::of(&b)));
        prop_assert_eq!(x == y, Rational::of(&a).equals(&Rational::of(&b)));
    }

    #[test]
    fn sums_are_exact_in_any_order_and_grouping(texts in prop::collection::vec(number(38, 20), 1..40), cut in 0usize..40) {
        let amounts: Vec<Amount> = texts.iter().map(|text| Amount::parse(text).expect("fits")).collect();
        let expected = texts.iter().fold(Rational::whole(0), |sum, text| sum.plus(&Rational::of(text)));
        let whole = total_of(&amounts);
        prop_assert!(Rational::of(&whole.to_string()).equals(&expected));

        let (left, right) = amounts.split_at(cut.min(amounts.len()));
        let mut parts = total_of(right);
        parts.add_total(&total_of(left));
        prop_assert_eq!(parts, whole);
    }

    #[test]
    fn the_average_is_within_half_a_unit(cost in number(28, 9), shares in number(14, 9)) {
        if let Ok(average) = average_price(Amount::parse(&cost).expect("fits"), quantity(&shares)) {
            let true_average = Rational::of(&cost).over(&Rational::of(&shares));
            let error = Rational::of(&decimal_text(average)).minus(&true_average).abs();
            prop_assert!(error.at_most(&Rational::of("0.0000000005")));
        }
    }
}
