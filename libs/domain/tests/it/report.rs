use std::collections::BTreeSet;

use fuse_domain::{
    DailyReport, Fill, OrderStatus, Period, Reason, ReportError, ReportLine, Section, Tally, compute, cut_at,
    latest_due_date,
};
use jiff::Timestamp;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use crate::rational::{Rational, number};
use crate::{at_millis, id, price, quantity, symbol};

fn line(number: u128, name: &str, outcome: OrderStatus, reason: Option<Reason>) -> ReportLine {
    let (limit_price, shares) = (price("0.2475"), quantity("3"));
    let fill = (outcome == OrderStatus::Filled).then(|| Fill::new(limit_price, shares).expect("fits"));
    ReportLine {
        order_id: id(number),
        user_id: id(1000 + number % 3),
        symbol: symbol(name),
        quantity: shares,
        limit_price,
        outcome,
        reason,
        fill,
        at: at_millis(number as i64),
        resolution: false,
    }
}

fn filled(number: u128, name: &str, at_price: &str, shares: &str) -> ReportLine {
    let fill = Fill::new(price(at_price), quantity(shares)).expect("fits");
    let line = line(number, name, OrderStatus::Filled, None);
    ReportLine {
        quantity: fill.quantity,
        limit_price: fill.price,
        fill: Some(fill),
        ..line
    }
}

fn resolved(line: ReportLine) -> ReportLine {
    ReportLine {
        resolution: true,
        ..line
    }
}

fn report(lines: Vec<ReportLine>) -> Result<DailyReport, ReportError> {
    let period = Period {
        from: Some(at_millis(-1_000)),
        to: at_millis(1_000_000),
    };
    compute(date(2026, 3, 2), "UTC", period, lines)
}

fn day() -> Vec<ReportLine> {
    vec![
        filled(1, "NVDA", "19.71107", "4.5"),
        filled(2, "AAPL", "0.2475", "3"),
        filled(3, "NVDA", "19.7", "1"),
        line(4, "AAPL", OrderStatus::Rejected, Some(Reason::PriceOutOfBand)),
        line(5, "AAPL", OrderStatus::Failed, Some(Reason::VendorRejected)),
        line(6, "AAPL", OrderStatus::Unknown, Some(Reason::VendorTimeout)),
        line(7, "AAPL", OrderStatus::Unknown, Some(Reason::VendorTimeout)),
        resolved(filled(7, "AAPL", "100", "1")),
    ]
}

#[test]
fn the_json_that_the_api_serves() {
    let mut json = serde_json::to_value(report(day()).expect("computes")).expect("serialises");
    let object = json.as_object_mut().expect("an object");
    let sections = ["filled", "rejected", "failed", "unknown", "resolved"];
    let lists = sections.map(|section| object.remove(section).expect("a section"));
    let expected = json!({
        "date": "2026-03-02",
        "timeZone": "UTC",
        "period": {"from": "2026-03-02T08:59:59Z", "to": "2026-03-02T09:16:40Z"},
        "totals": {
            "orders": 7, "filled": 3, "rejected": 1, "failed": 1, "unknown": 2, "resolved": 1,
            "filledTotal": "109.142315", "resolvedTotal": "100", "users": 3,
        },
        "bySymbol": [
            {"symbol": "AAPL", "orders": 1, "quantity": "3", "total": "0.7425"},
            {"symbol": "NVDA", "orders": 2, "quantity": "5.5", "total": "108.399815"},
        ],
        "byReason": [
            {"outcome": "rejected", "reason": "price_out_of_band", "orders": 1},
            {"outcome": "failed", "reason": "vendor_rejected", "orders": 1},
            {"outcome": "unknown", "reason": "vendor_timeout", "orders": 2},
        ],
    });
    assert_eq!(json, expected);
    assert_eq!(
        lists
            .each_ref()
            .map(|list| list["items"].as_array().map(Vec::len)),
        [3, 1, 1, 2, 1].map(Some)
    );
    let first = json!({
        "orderId": id(1), "userId": id(1001), "symbol": "NVDA", "quantity": "4.5", "limitPrice": "19.71107",
        "outcome": "filled", "reason": null, "at": "2026-03-02T09:00:00.001Z", "resolution": false,
        "fill": {"price": "19.71107", "quantity": "4.5", "total": "88.699815"},
    });
    assert_eq!(
        lists[0],
        json!({"items": [first, lists[0]["items"][1], lists[0]["items"][2]], "omitted": 0})
    );
}

#[test]
fn a_stored_report_reads_back_equal() {
    let report = report(day()).expect("computes");
    let text = serde_json::to_string(&report).expect("serialises");
    assert_eq!(serde_json::from_str::<DailyReport>(&text).expect("reads"), report);
}

#[test]
fn a_day_without_orders_is_a_report_too() {
    let report = report(Vec::new()).expect("computes");
    assert_eq!(
        (report.totals.orders, report.totals.filled_total.to_string()),
        (0, "0".to_owned())
    );
}

#[test]
fn long_sections_are_capped_and_say_so() {
    let lines: Vec<ReportLine> = (0..1_005)
        .rev()
        .map(|number| filled(number, "AAPL", "0.01", "1"))
        .collect();
    let report = report(lines).expect("computes");
    assert_eq!((report.filled.items.len(), report.filled.omitted), (1_000, 5));
    assert_eq!(
        (report.totals.filled, report.totals.filled_total.to_string()),
        (1_005, "10.05".to_owned())
    );
    assert_eq!(report.filled.items.first().map(|line| line.order_id), Some(id(0)));
    assert_eq!(
        report.filled.items.last().map(|line| line.order_id),
        Some(id(999))
    );
}

#[test]
fn a_line_that_contradicts_itself_is_never_reported() {
    let good = filled(1, "AAPL", "2", "3");
    let rejected = line(2, "AAPL", OrderStatus::Rejected, Some(Reason::QuoteStale));
    let wrong_total = good.fill.map(|fill| Fill {
        quantity: quantity("4"),
        ..fill
    });
    for (bad, why) in [
        (
            ReportLine {
                fill: None,
                ..good.clone()
            },
            "a fill belongs to a filled order and to no other",
        ),
        (
            ReportLine {
                fill: good.fill,
                ..rejected.clone()
            },
            "a fill belongs to a filled order and to no other",
        ),
        (
            ReportLine {
                fill: wrong_total,
                ..good.clone()
            },
            "the total is not price times quantity",
        ),
        (
            ReportLine {
                reason: Some(Reason::VendorReset),
                ..good
            },
            "the reason belongs to another outcome",
        ),
        (
            line(3, "AAPL", OrderStatus::Submitted, None),
            "submitted is not an outcome",
        ),
        (resolved(rejected), "a resolution is filled or failed"),
    ] {
        let told = report(vec![bad.clone()]).map_err(|error| error.to_string());
        assert_eq!(
            told,
            Err(format!("order {} can not be reported: {why}", bad.order_id))
        );
    }
}

#[test]
fn an_order_is_not_counted_twice() {
    let once = filled(1, "AAPL", "2", "3");
    let again = ReportLine {
        at: at_millis(99),
        ..once.clone()
    };
    assert!(matches!(
        report(vec![once, again]),
        Err(ReportError::Inconsistent {
            why: "it is there twice",
            ..
        })
    ));
}

fn any_line(number: u128) -> impl Strategy<Value = ReportLine> {
    let rejections = vec![Reason::PriceOutOfBand, Reason::QuoteStale, Reason::UnknownSymbol];
    let not_filled = prop_oneof![
        prop::sample::select(rejections).prop_map(|reason| (reason, false)),
        Just((Reason::VendorRejected, false)),
        Just((Reason::VendorRejected, true)),
        Just((Reason::VendorTimeout, false)),
    ];
    let name = || prop::sample::select(vec!["AAPL", "NVDA", "UNH"]);
    prop_oneof![
        (name(), number_pair(), any::<bool>()).prop_map(move |(name, (at_price, shares), resolution)| {
            ReportLine {
                resolution,
                ..filled(number, name, &at_price, &shares)
            }
        }),
        (name(), not_filled).prop_map(move |(name, (reason, resolution))| ReportLine {
            resolution,
            ..line(number, name, reason.status(), Some(reason))
        }),
    ]
}

fn number_pair() -> impl Strategy<Value = (String, String)> {
    (number(17, 17), number(15, 9))
}

fn some_lines() -> impl Strategy<Value = Vec<ReportLine>> {
    (0usize..60)
        .prop_flat_map(|count| (0..count as u128).map(any_line).collect::<Vec<_>>())
        .prop_shuffle()
}

proptest! {
    #[test]
    fn each_line_is_in_exactly_one_section_and_sums_are_exact(lines in some_lines()) {
        let report = report(lines.clone()).expect("computes");
        let lists = [&report.filled, &report.rejected, &report.failed, &report.unknown, &report.resolved];
        let listed: Vec<Uuid> = lists.iter().flat_map(|list| list.items.iter().map(|line| line.order_id)).collect();
        let distinct: BTreeSet<Uuid> = listed.iter().copied().collect();
        prop_assert_eq!(listed.len(), lines.len());
        prop_assert_eq!(distinct, lines.iter().map(|line| line.order_id).collect());

        let totals = &report.totals;
        prop_assert_eq!(totals.orders + totals.resolved, lines.len() as u64);
        let paid = |resolution: bool| lines.iter().filter(|line| line.resolution == resolution).filter_map(|line| line.fill)
            .fold(Rational::whole(0), |sum, fill| {
                let product = Rational::of(&fill.price.to_string()).times(&Rational::of(&fill.quantity.to_string()));
                sum.plus(&product)
            });
        prop_assert!(Rational::of(&totals.filled_total.to_string()).equals(&paid(false)));
        prop_assert!(Rational::of(&totals.resolved_total.to_string()).equals(&paid(true)));
        let by_symbol = report.by_symbol.iter()
            .fold(Rational::whole(0), |sum, line| sum.plus(&Rational::of(&line.total.to_string())));
        prop_assert!(by_symbol.equals(&paid(false)));
        let reasons: u64 = report.by_reason.iter().map(|line| line.orders).sum();
        prop_assert_eq!(reasons + totals.filled, totals.orders);
    }

    #[test]
    fn the_order_of_the_lines_does_not_matter(lines in some_lines()) {
        let mut sorted = lines.clone();
        sorted.sort_by_key(|line| line.order_id);
        prop_assert_eq!(report(lines).expect("computes"), report(sorted).expect("computes"));
    }

    #[test]
    fn merged_parts_equal_the_whole(lines in some_lines(), cut in 0usize..60) {
        let tally = |lines: &[ReportLine]| {
            let mut tally = Tally::default();
            for line in lines {
                tally.add(line).expect("consistent");
            }
            tally
        };
        let (left, right) = lines.split_at(cut.min(lines.len()));
        let mut merged = tally(right);
        merged.merge(&tally(left));
        prop_assert_eq!(&merged, &tally(&lines));
        let counted: u64 = Section::ALL.into_iter().map(|section| merged.section(section).orders).sum();
        prop_assert_eq!(counted, lines.len() as u64);
    }
}

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).expect("a known zone")
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a legal time")
}

#[test]
fn cuts_follow_the_wall_clock_of_the_zone() {
    let cut = |name: &str, date: Date, hour, minute| {
        cut_at(date, &zone(name), hour, minute)
            .expect("exists")
            .to_string()
    };
    assert_eq!(cut("UTC", date(2026, 3, 2), 23, 59), "2026-03-02T23:59:00Z");
    assert_eq!(
        cut("America/New_York", date(2026, 3, 8), 23, 59),
        "2026-03-09T03:59:00Z"
    );
    assert_eq!(
        cut("Europe/Berlin", date(2028, 2, 29), 23, 59),
        "2028-02-29T22:59:00Z"
    );
    // 02:30 does not exist on this day, and exists twice on the next.
    assert_eq!(
        cut("Europe/Berlin", date(2026, 3, 29), 2, 30),
        "2026-03-29T01:30:00Z"
    );
    assert_eq!(
        cut("Europe/Berlin", date(2026, 10, 25), 2, 30),
        "2026-10-25T00:30:00Z"
    );
    for (hour, minute) in [(24, 0), (-1, 0), (0, 60)] {
        assert!(matches!(
            cut_at(date(2026, 3, 2), &TimeZone::UTC, hour, minute),
            Err(ReportError::Time(_))
        ));
    }
}

#[test]
fn a_report_is_due_from_its_cut_on() {
    let due = |now: &str, name: &str| {
        latest_due_date(time(now), &zone(name), 23, 59)
            .expect("exists")
            .to_string()
    };
    assert_eq!(due("2026-03-02T23:58:59.999Z", "UTC"), "2026-03-01");
    assert_eq!(due("2026-03-02T23:59:00Z", "UTC"), "2026-03-02");
    assert_eq!(due("2026-03-03T00:00:00Z", "UTC"), "2026-03-02");
    assert_eq!(due("2026-03-09T03:58:59Z", "America/New_York"), "2026-03-07");
    assert_eq!(due("2026-03-09T03:59:00Z", "America/New_York"), "2026-03-08");
    assert_eq!(due("2028-03-01T00:00:00Z", "UTC"), "2028-02-29");
}
