//! `GET /stocks` on the wire, and the crawl's limits.

use std::time::{Duration, Instant};

use anyhow::Result;
use fuse_market::{CrawlError, CrawlLimits, VendorError, crawl};
use jiff::Timestamp;

use crate::fixture::{Act, Client, RawVendor};

fn page(symbols: &[&str], token: &str) -> Act {
    Act::answer(200, &page_body(symbols, token))
}

fn page_body(symbols: &[&str], token: &str) -> String {
    let items: Vec<_> = symbols
        .iter()
        .map(|symbol| {
            format!(
                r#"{{"symbol":"{symbol}","name":"N","sector":"S","price":1.5,"change":0,"lastUpdated":"2026-01-02T03:04:05.678Z"}}"#
            )
        })
        .collect();
    format!(
        r#"{{"status":200,"data":{{"items":[{}]{token}}}}}"#,
        items.join(",")
    )
}

fn limits() -> CrawlLimits {
    CrawlLimits {
        backoff_base: Duration::from_millis(1),
        backoff_cap: Duration::from_millis(5),
        ..CrawlLimits::with_deadline(Duration::from_secs(30))
    }
}

async fn check(
    acts: Vec<Act>,
    limits: &CrawlLimits,
) -> Result<(Result<usize, &'static str>, RawVendor, Client)> {
    let vendor = RawVendor::start(acts.clone()).await?;
    let client = vendor.client_for(&acts[0])?;
    let crawled = crawl(&client.vendor, limits, None, Timestamp::now()).await;
    let crawled = crawled
        .map(|crawl| crawl.snapshot.meta.count)
        .map_err(|error| error.reason());
    Ok((crawled, vendor, client))
}

#[tokio::test]
async fn all_pages_are_read_with_their_tokens_encoded() -> Result<()> {
    let token = r#","nextToken":"eyJzeW1ib2wiOiLDv8O+Pj4/w78ifQ==""#;
    let acts = vec![
        page(&["NVDA", "UNH"], token),
        page(&[], r#","nextToken":"two""#),
        page(&["A"], r#","nextToken":null"#),
    ];
    let (crawled, vendor, client) = check(acts, &limits()).await?;
    assert_eq!(crawled, Ok(3), "an empty page with a token is not the last one");
    let paths: Vec<_> = vendor
        .requests()
        .iter()
        .map(|text| text.split(' ').nth(1).expect("a path").to_owned())
        .collect();
    assert_eq!(
        paths,
        [
            "/stocks",
            "/stocks?nextToken=eyJzeW1ib2wiOiLDv8O%2BPj4%2Fw78ifQ%3D%3D",
            "/stocks?nextToken=two"
        ]
    );
    assert_eq!(
        client
            .metric(r#"vendor_requests_total{op="list",outcome="ok"}"#)
            .as_deref(),
        Some("3")
    );
    Ok(())
}

#[tokio::test]
async fn a_failed_page_is_asked_for_again_not_the_whole_crawl() -> Result<()> {
    let acts = vec![
        page(&["A"], r#","nextToken":"two""#),
        Act::answer(500, "<html>"),
        Act::Reset,
        Act::RawThenClose("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".into()),
        page(&["B"], ""),
    ];
    let (crawled, vendor, client) = check(acts, &limits()).await?;
    assert_eq!(crawled, Ok(2));
    let second = vendor
        .requests()
        .iter()
        .filter(|text| text.contains("nextToken=two"))
        .count();
    assert_eq!((second, vendor.requests().len()), (4, 5));
    assert_eq!(
        client.metric(r#"vendor_retries_total{op="list"}"#).as_deref(),
        Some("3")
    );
    Ok(())
}

#[tokio::test]
async fn what_refuses_a_pass() -> Result<()> {
    let next = |token: &str| format!(r#","nextToken":"{token}""#);
    let few = CrawlLimits {
        pages_max: 3,
        items_max: 4,
        bytes_max: 4_000,
        ..limits()
    };
    let gzip = Act::with_header(200, "content-encoding: gzip\r\n", "\u{1f}\u{8b} not inflated");
    for (acts, reason, is_bad_data) in [
        (
            vec![page(&["A"], &next("x")), page(&["B"], &next("x"))],
            "token_loop",
            true,
        ),
        (
            vec![
                page(&["A"], &next("x")),
                page(&["B"], &next("y")),
                page(&["C"], &next("x")),
            ],
            "token_loop",
            true,
        ),
        (
            (0..9).map(|n| page(&[], &next(&n.to_string()))).collect(),
            "too_many_pages",
            true,
        ),
        (vec![page(&["A", "B", "C", "D", "E"], "")], "too_many_items", true),
        (
            vec![page(
                &[],
                &format!("{},\"x\":\"{}\"", next("t"), "x".repeat(5_000)),
            )],
            "too_many_bytes",
            true,
        ),
        (vec![page(&[], "")], "empty", true),
        (vec![Act::answer(200, "<html>")], "unreadable", true),
        (vec![gzip], "unreadable", true),
        (
            vec![Act::Raw(
                "HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n".into(),
            )],
            "unreadable",
            true,
        ),
        (
            vec![Act::answer(200, r#"{"status":500,"message":"x"}"#)],
            "unexpected",
            false,
        ),
        (
            vec![Act::with_header(302, "location: /stocks\r\n", "")],
            "unexpected",
            false,
        ),
        (
            vec![Act::answer(403, r#"{"message":"Forbidden"}"#)],
            "forbidden",
            false,
        ),
        (vec![Act::answer(404, "{}")], "refused", false),
        (vec![Act::answer(503, "")], "server_error", false),
        (vec![Act::Hang], "timeout", false),
    ] {
        let what = format!("{acts:.80?}");
        let (crawled, _, client) = check(acts, &few).await?;
        assert_eq!(crawled, Err(reason), "{what}");
        let counted = client.metric(&format!(
            r#"vendor_rejected_payloads_total{{reason="{reason}",scope="pass"}}"#
        ));
        assert_eq!(counted.as_deref(), is_bad_data.then_some("1"), "{what}");
    }
    Ok(())
}

#[tokio::test]
async fn a_crawl_ends_at_its_deadline_whatever_the_vendor_does() -> Result<()> {
    let slow = "HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n".to_owned() + &" ".repeat(900);
    let limits = CrawlLimits {
        deadline: Duration::from_millis(200),
        ..limits()
    };
    let vendor = RawVendor::start(vec![Act::Drip(slow)]).await?;
    let client = vendor.client()?;
    let started = Instant::now();
    let error = crawl(&client.vendor, &limits, None, Timestamp::now())
        .await
        .expect_err("no page in time");
    assert_eq!(error.reason(), "deadline");
    // The page's own timeout is ten seconds.
    assert!(started.elapsed() < Duration::from_secs(8));
    Ok(())
}

#[tokio::test]
async fn the_breaker_opens_and_then_lists_are_not_sent() -> Result<()> {
    let vendor = RawVendor::start(vec![Act::answer(500, "")]).await?;
    let client = Client::with_lasting_breakers(vendor.address)?;
    for _ in 0..5 {
        let error = client.vendor.list_page(None).await.expect_err("a failure");
        assert_eq!(
            error,
            VendorError::Status {
                status: 500,
                retry_after: None
            }
        );
    }
    let error = client.vendor.list_page(None).await.expect_err("not sent");
    assert!(matches!(error, VendorError::BreakerOpen { .. }), "{error:?}");
    assert_eq!(vendor.requests().len(), 5);
    let crawled = crawl(&client.vendor, &limits(), None, Timestamp::now()).await;
    assert!(
        matches!(crawled, Err(CrawlError::Page { attempts: 1, .. })),
        "{crawled:?}"
    );
    Ok(())
}

#[tokio::test]
async fn errors_and_metrics_never_hold_the_key_or_the_address() -> Result<()> {
    let vendor = RawVendor::start(vec![Act::Reset]).await?;
    let client = vendor.client()?;
    let error = crawl(&client.vendor, &limits(), None, Timestamp::now())
        .await
        .expect_err("a failure");
    let text = format!(
        "{error} {error:?} {}",
        String::from_utf8(client.metrics.encode())?
    );
    assert!(
        !text.contains(crate::fixture::KEY) && !text.contains("127.0.0.1"),
        "{text}"
    );
    Ok(())
}
