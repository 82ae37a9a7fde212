use fuse_domain::{
    Amount, Fill, OrderPolicy, OrderRequest, OrderStatus, Outcome, QuoteLookup, QuoteUsed, Reason, Rejection,
    Side, Tolerance, judge,
};

use crate::{at_millis, id, price, quantity, symbol};

#[test]
fn an_order_may_only_go_forward() {
    use OrderStatus::{Failed, Filled, Rejected, Submitted, Unknown};
    let legal = [
        (Submitted, Filled),
        (Submitted, Failed),
        (Submitted, Unknown),
        (Unknown, Filled),
        (Unknown, Failed),
    ];
    for from in OrderStatus::ALL {
        for to in OrderStatus::ALL {
            assert_eq!(from.may_become(to), legal.contains(&(from, to)), "{from} -> {to}");
        }
        assert_eq!(from.may_begin(), [Rejected, Submitted].contains(&from), "{from}");
        assert_eq!(
            from.is_terminal(),
            [Rejected, Filled, Failed].contains(&from),
            "{from}"
        );
        let stuck = OrderStatus::ALL.into_iter().all(|to| !from.may_become(to));
        assert_eq!(from.is_terminal(), stuck, "{from}");
    }
}

#[test]
fn codes_are_read_back_and_serialise_alike() {
    for status in OrderStatus::ALL {
        assert_eq!(OrderStatus::parse(status.as_str()), Ok(status));
        assert_eq!(
            serde_json::to_string(&status).expect("serialises"),
            format!("\"{status}\"")
        );
    }
    for reason in Reason::ALL {
        assert_eq!(Reason::parse(reason.as_str()), Ok(reason));
        assert_eq!(
            serde_json::to_string(&reason).expect("serialises"),
            format!("\"{reason}\"")
        );
    }
    let message = OrderStatus::parse("Filled").map_err(|error| error.to_string());
    assert_eq!(message, Err("\"Filled\" is not an order status".to_owned()));
    assert!(Reason::parse("").is_err());
    assert_eq!(Side::parse("buy"), Ok(Side::Buy));
    assert!(Side::parse("sell").is_err());
}

#[test]
fn each_reason_explains_one_status() {
    let of = |status| {
        Reason::ALL
            .into_iter()
            .filter(move |reason| reason.status() == status)
            .map(Reason::as_str)
    };
    let rejected = "unknown_symbol price_out_of_band quote_stale no_market_data notional_too_large \
                    portfolio_changed daily_limit_reached";
    let failed = "vendor_rejected vendor_forbidden vendor_throttled vendor_unreachable";
    let unknown = "vendor_timeout vendor_reset vendor_server_error vendor_unreadable vendor_mismatch \
                   vendor_unexpected interrupted";
    assert!(of(OrderStatus::Rejected).eq(rejected.split_whitespace()));
    assert!(of(OrderStatus::Failed).eq(failed.split_whitespace()));
    assert!(of(OrderStatus::Unknown).eq(unknown.split_whitespace()));
}

#[test]
fn outcomes_of_an_attempt() {
    let fill = Fill::new(price("19.71107"), quantity("4.5")).expect("fits");
    assert_eq!(fill.total.to_string(), "88.699815");
    let filled = Outcome::Filled(fill);
    assert_eq!(
        (filled.status(), filled.reason(), filled.fill()),
        (OrderStatus::Filled, None, Some(&fill))
    );
    for reason in Reason::ALL {
        match Outcome::from_reason(reason) {
            Some(outcome) => {
                assert_eq!(
                    (outcome.status(), outcome.reason()),
                    (reason.status(), Some(reason))
                );
                assert!(OrderStatus::Submitted.may_become(outcome.status()), "{reason}");
            }
            None => assert_eq!(reason.status(), OrderStatus::Rejected, "{reason}"),
        }
    }
}

fn request(limit_price: &str, shares: &str) -> OrderRequest {
    OrderRequest {
        symbol: symbol("AAPL"),
        side: Side::Buy,
        quantity: quantity(shares),
        limit_price: price(limit_price),
    }
}

fn policy() -> OrderPolicy {
    OrderPolicy {
        tolerance: Tolerance::default(),
        max_quote_age_secs: 300,
        max_notional: Amount::parse("1000000").expect("fits"),
    }
}

fn quote(text: &str) -> QuoteUsed {
    QuoteUsed {
        price: price(text),
        as_of: at_millis(0),
        snapshot_id: id(1),
    }
}

/// Judges an order for `shares` at `limit` against a quote of 100 that is `age_millis` old.
fn check(limit: &str, shares: &str, age_millis: i64) -> Result<(), String> {
    let quote = quote("100");
    let verdict = judge(
        &request(limit, shares),
        QuoteLookup::Found(&quote),
        at_millis(age_millis),
        &policy(),
    );
    verdict.map_err(|rejection| format!("{}: {rejection}", rejection.reason()))
}

#[test]
fn an_order_in_the_band_of_a_fresh_quote_may_be_sent() {
    assert_eq!(check("98", "1", 0), Ok(()));
    assert_eq!(check("102", "4.5", 300_000), Ok(()));
}

#[test]
fn a_price_out_of_band_is_told_the_range() {
    let told = Err("price_out_of_band: the limit price must be from 98 to 102 (quote 100)".to_owned());
    assert_eq!(check("97.99999999", "1", 0), told);
    assert_eq!(check("102.00000001", "1", 0), told);
}

#[test]
fn an_old_quote_is_refused_whatever_the_price() {
    let told = |age| {
        Err(format!(
            "quote_stale: the quote is {age} s old, more than the 300 s allowed"
        ))
    };
    assert_eq!(check("100", "1", 300_001), told(301));
    assert_eq!(check("500", "1", 400_000), told(400));
    // From the future: the clock went back.
    assert_eq!(check("100", "1", -1_000), Ok(()));
    assert_eq!(check("100", "1", -3_600_000), told(3600));
}

#[test]
fn the_notional_is_compared_exactly() {
    let told = Err("notional_too_large: price times quantity must not be more than 1000000".to_owned());
    assert_eq!(check("100", "10000", 0), Ok(()));
    assert_eq!(check("100", "10000.000000001", 0), told);
    assert_eq!(check("100.000000001", "10000", 0), told);
    assert_eq!(
        check(
            "9999999999999999999.999999999",
            "9999999999999999999.999999999",
            0
        ),
        told
    );
}

#[test]
fn no_data_and_no_such_symbol_differ() {
    let verdict = |lookup| judge(&request("100", "1"), lookup, at_millis(0), &policy());
    assert_eq!(verdict(QuoteLookup::NoMarketData), Err(Rejection::NoMarketData));
    assert_eq!(verdict(QuoteLookup::UnknownSymbol), Err(Rejection::UnknownSymbol));
}
