//! Each way a buy can go, on the wire. The table of answers itself is tested beside the code.

use std::time::Duration;

use anyhow::Result;
use fuse_domain::{Outcome, Price, Quantity, Reason, Symbol};
use fuse_market::{Buy, Reached};

use crate::fixture::{Act, Client, KEY, RawVendor, refusing};

const FILLED: &str = r#"{"status":200,"message":"Order placed successfully","data":{"order":{"symbol":"AAPL","quantity":4.5,"price":19.71107,"total":88.69981500000001}}}"#;

pub async fn buy(client: &Client) -> Result<Buy> {
    let (symbol, price) = (Symbol::parse("AAPL")?, Price::parse("19.71107")?);
    Ok(client.vendor.buy(&symbol, price, Quantity::parse("4.5")?).await)
}

/// One buy against one act: outcome, how far it got, and that the vendor saw it exactly once.
async fn check(act: Act, expected: Outcome, reached: Reached) -> Result<Buy> {
    let what = format!("{act:.60?}");
    // Were it ever sent again, it would be filled.
    let vendor = RawVendor::start(vec![act.clone(), Act::answer(200, FILLED)]).await?;
    let bought = buy(&vendor.client_for(&act)?).await?;
    assert_eq!(bought.outcome, expected, "{what}");
    let reaches: Vec<_> = bought.attempts.iter().map(|attempt| attempt.reached).collect();
    assert_eq!(reaches, [reached], "{what}");
    assert_eq!(vendor.requests().len(), 1, "{what}");
    Ok(bought)
}

#[tokio::test]
async fn a_filled_buy_sends_exact_numbers_and_the_key_in_its_header() -> Result<()> {
    let vendor = RawVendor::start(vec![Act::answer(200, FILLED)]).await?;
    let client = vendor.client()?;
    let bought = buy(&client).await?;
    let fill = bought.outcome.fill().expect("filled");
    assert_eq!(fill.total.to_string(), "88.699815");
    let evidence = bought.attempts[0].vendor_total.as_deref();
    assert_eq!(evidence, Some("88.69981500000001"));
    let request = vendor.requests().remove(0);
    assert!(
        request.starts_with("POST /stocks/AAPL/buy HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains(&format!("\r\nx-api-key: {KEY}\r\n")),
        "{request}"
    );
    assert!(
        request.ends_with(r#"{"price":19.71107,"quantity":4.5}"#),
        "{request}"
    );
    assert_eq!(
        client
            .metric(r#"vendor_requests_total{op="buy",outcome="ok"}"#)
            .as_deref(),
        Some("1")
    );
    assert_eq!(
        client.metric(r#"dependency_up{dependency="vendor"}"#).as_deref(),
        Some("1")
    );
    Ok(())
}

#[tokio::test]
async fn what_breaks_after_the_request_left_is_unknown_and_not_sent_again() -> Result<()> {
    let truncated = format!("HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n{}", &FILLED[..60]);
    let oversized = "HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n".to_owned() + &" ".repeat(10_000);
    let endless = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned()
        + &format!("4000\r\n{}\r\n", " ".repeat(0x4000)).repeat(8);
    let drip = "HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n".to_owned() + &" ".repeat(200);
    for (act, reason, reached) in [
        (Act::Reset, Reason::VendorReset, Reached::Sent),
        (Act::Hang, Reason::VendorTimeout, Reached::Sent),
        (
            Act::RawThenClose(String::new()),
            Reason::VendorReset,
            Reached::Sent,
        ),
        (
            Act::RawThenClose("HTTP/1.1 20".into()),
            Reason::VendorReset,
            Reached::Sent,
        ),
        (
            Act::RawThenClose("no http at all\r\n\r\n".into()),
            Reason::VendorReset,
            Reached::Sent,
        ),
        (
            Act::RawThenClose(truncated),
            Reason::VendorUnreadable,
            Reached::Answered,
        ),
        (Act::Raw(oversized), Reason::VendorUnreadable, Reached::Answered),
        (Act::Raw(endless), Reason::VendorUnreadable, Reached::Answered),
        (Act::Drip(drip), Reason::VendorTimeout, Reached::Sent),
    ] {
        check(act, Outcome::Unknown(reason), reached).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_total_of_the_vendors_own_making_is_counted_and_kept_but_decides_nothing() -> Result<()> {
    for (total, counted) in [
        ("88.69981500000001", "0"),
        ("88.7", "0"),
        ("88.71", "1"),
        ("1e400", "1"),
    ] {
        let answer = FILLED.replace("88.69981500000001", total);
        let vendor = RawVendor::start(vec![Act::answer(200, &answer)]).await?;
        let client = vendor.client()?;
        let bought = buy(&client).await?;
        let fill = bought.outcome.fill().expect("filled");
        assert_eq!(fill.total.to_string(), "88.699815", "{total}");
        assert_eq!(bought.attempts[0].vendor_total.as_deref(), Some(total));
        let metric = client.metric("vendor_buy_total_mismatches_total");
        assert_eq!(metric.as_deref(), Some(counted), "{total}");
    }
    Ok(())
}

#[tokio::test]
async fn answers_are_judged_by_status_and_shape() -> Result<()> {
    let other = FILLED.replace("AAPL", "MSFT");
    let refusal = r#"{"status":400,"message":"Price validation failed"}"#;
    let failed = Outcome::Failed;
    let unknown = Outcome::Unknown;
    for (act, expected) in [
        (Act::answer(200, &other), unknown(Reason::VendorMismatch)),
        (Act::answer(400, refusal), failed(Reason::VendorRejected)),
        (
            Act::answer(403, r#"{"message":"Forbidden"}"#),
            failed(Reason::VendorForbidden),
        ),
        (Act::answer(404, "<html>"), unknown(Reason::VendorUnreadable)),
        (Act::answer(500, refusal), unknown(Reason::VendorServerError)),
        (Act::answer(503, ""), unknown(Reason::VendorServerError)),
        (
            Act::with_header(307, "location: /elsewhere\r\n", ""),
            unknown(Reason::VendorUnexpected),
        ),
    ] {
        check(act, expected, Reached::Answered).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_throttled_buy_passes_on_how_long_to_wait() -> Result<()> {
    let act = Act::with_header(
        429,
        "retry-after: 7\r\n",
        r#"{"status":429,"message":"slow down"}"#,
    );
    let bought = check(act, Outcome::Failed(Reason::VendorThrottled), Reached::Answered).await?;
    assert_eq!(bought.retry_after, Some(Duration::from_secs(7)));
    let act = Act::with_header(503, "retry-after: 7\r\n", "");
    let bought = check(
        act,
        Outcome::Unknown(Reason::VendorServerError),
        Reached::Answered,
    )
    .await?;
    assert_eq!(
        bought.retry_after, None,
        "what may be executed invites no other try"
    );
    Ok(())
}

#[tokio::test]
async fn a_vendor_that_refuses_connections_is_provably_not_sent() -> Result<()> {
    let (_held, nobody) = refusing()?;
    let client = Client::of(nobody)?;
    let bought = buy(&client).await?;
    assert_eq!(bought.outcome, Outcome::Failed(Reason::VendorUnreachable));
    let reaches: Vec<_> = bought.attempts.iter().map(|attempt| attempt.reached).collect();
    assert_eq!(reaches, [Reached::NotSent; 3]);
    assert_eq!(
        client.metric(r#"vendor_retries_total{op="buy"}"#).as_deref(),
        Some("2")
    );
    assert_eq!(
        client.metric(r#"dependency_up{dependency="vendor"}"#).as_deref(),
        Some("0")
    );
    Ok(())
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_provably_not_sent() -> Result<()> {
    let client = Client::of_url("http://vendor.invalid", KEY)?;
    let bought = buy(&client).await?;
    assert_eq!(bought.outcome, Outcome::Failed(Reason::VendorUnreachable));
    Ok(())
}

#[tokio::test]
async fn refused_then_accepted_is_filled_and_executed_once() -> Result<()> {
    let (held, address) = refusing()?;
    let client = Client::of(address)?;
    let opened = async {
        // Listens at once when the first attempt was refused: a poll with pauses could miss both retries.
        let retried = async {
            while client.metric(r#"vendor_retries_total{op="buy"}"#).as_deref() == Some("0") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), retried).await?;
        anyhow::Ok(RawVendor::serve(
            held.listen(16)?,
            vec![Act::answer(200, FILLED)],
        )?)
    };
    let (bought, vendor) = tokio::join!(buy(&client), opened);
    let (bought, vendor) = (bought?, vendor?);
    assert!(bought.outcome.fill().is_some(), "{bought:?}");
    let (last, before) = bought.attempts.split_last().expect("attempts");
    assert_eq!(last.reached, Reached::Answered);
    assert!(!before.is_empty() && before.iter().all(|attempt| attempt.reached == Reached::NotSent));
    assert_eq!(vendor.requests().len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_buy_never_goes_over_a_used_connection() -> Result<()> {
    let vendor = RawVendor::start(vec![Act::answer(200, FILLED)]).await?;
    let client = vendor.client()?;
    for _ in 0..3 {
        assert!(buy(&client).await?.outcome.fill().is_some());
    }
    assert_eq!(vendor.connections(), 3);
    Ok(())
}

#[tokio::test]
async fn an_open_breaker_sends_nothing_and_says_when_to_come_back() -> Result<()> {
    let vendor = RawVendor::start(vec![Act::answer(500, "")]).await?;
    let client = Client::with_lasting_breakers(vendor.address)?;
    for _ in 0..5 {
        buy(&client).await?;
    }
    assert_eq!(client.vendor.breakers().buy.as_str(), "open");
    assert_eq!(client.vendor.breakers().list.as_str(), "closed");
    let bought = buy(&client).await?;
    assert_eq!(bought.outcome, Outcome::Failed(Reason::VendorUnreachable));
    assert_eq!(bought.attempts[0].reached, Reached::NotSent);
    assert!(bought.retry_after.is_some());
    assert_eq!(vendor.requests().len(), 5);
    assert_eq!(
        client
            .metric(r#"vendor_breaker_state{op="buy",state="open"}"#)
            .as_deref(),
        Some("1")
    );
    assert_eq!(
        client
            .metric(r#"vendor_breaker_transitions_total{op="buy",to="open"}"#)
            .as_deref(),
        Some("1")
    );
    Ok(())
}

#[tokio::test]
async fn refusals_do_not_open_the_breaker() -> Result<()> {
    let vendor = RawVendor::start(vec![Act::answer(400, r#"{"status":400,"message":"no"}"#)]).await?;
    let client = vendor.client()?;
    for _ in 0..10 {
        buy(&client).await?;
    }
    assert_eq!(client.vendor.breakers().buy.as_str(), "closed");
    Ok(())
}
