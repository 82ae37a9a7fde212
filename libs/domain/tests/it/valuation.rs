use fuse_domain::{Amount, Valuation, decimal_text, value_holding, value_portfolio};

use crate::{price, quantity};

fn cost(text: &str) -> Amount {
    Amount::parse(text).expect("fits")
}

fn valued(shares: &str, paid: &str, at_price: &str) -> Valuation {
    value_holding(quantity(shares), cost(paid), price(at_price)).expect("fits")
}

#[test]
fn a_holding_is_worth_the_exact_product() {
    let value = valued("4.5", "90", "19.71107");
    assert_eq!(
        (value.market_value.to_string(), value.profit_loss.to_string()),
        ("88.699815".into(), "-1.300185".into())
    );
    // Exactly -1.44465: half to even.
    assert_eq!(
        value.profit_loss_percent.map(decimal_text),
        Some("-1.4446".to_owned())
    );
    assert_eq!(valued("1", "0", "5").profit_loss_percent, None);
}

#[test]
fn a_portfolio_has_a_value_only_when_all_its_holdings_have_one() {
    let (first, second) = (valued("4.5", "90", "19.71107"), valued("1", "10", "12.5"));
    let whole = value_portfolio([(cost("90"), Some(first)), (cost("10"), Some(second))]);
    let texts = [
        Some(&whole.cost),
        whole.market_value.as_ref(),
        whole.profit_loss.as_ref(),
    ];
    assert_eq!(
        texts.map(|total| total.map(ToString::to_string)),
        ["100", "101.199815", "1.199815"].map(|text| Some(text.to_owned()))
    );

    for holdings in [
        [(cost("90"), Some(first)), (cost("10"), None)],
        [(cost("10"), None), (cost("90"), Some(first))],
    ] {
        let partly = value_portfolio(holdings);
        assert_eq!(
            (partly.cost.to_string(), partly.market_value, partly.profit_loss),
            ("100".to_owned(), None, None)
        );
    }
    let empty = value_portfolio([]);
    assert_eq!(
        empty.profit_loss.map(|total| total.to_string()),
        Some("0".to_owned())
    );
}
