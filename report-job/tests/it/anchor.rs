//! The end of the hash chain in the mail: it is what `api-service verify` takes, and it names a cut that nothing in the database tells of.

use std::time::Duration;

use anyhow::{Context as _, Result};
use fuse_domain::{ChainHead, Reason};
use fuse_harness::postgres::{Postgres, as_service};
use fuse_harness::services::Service;
use fuse_harness::wait;
use serde_json::{Value, json};

use crate::support::{Fixture, at, fixture, second_of_march};

#[tokio::test(flavor = "multi_thread")]
async fn the_mail_holds_the_end_of_the_chain_and_proves_that_it_was_cut() -> Result<()> {
    let fixture = fixture().await?;
    fixture.order("AAPL", None, "2026-03-02T10:00:00Z").await?;
    chained(&fixture, 2).await?;
    let refused = fixture
        .order("MSFT", Some(Reason::VendorRejected), "2026-03-02T11:00:00Z")
        .await?;
    let head = chained(&fixture, 4).await?;
    assert_eq!(head.link, 2);
    fixture.run(second_of_march).await?.map_err(anyhow::Error::msg)?;

    let mails = fixture.sink.messages();
    let [mail] = &mails[..] else {
        anyhow::bail!("{} mails", mails.len())
    };
    let anchor = told(&mail.part("text/plain")?)?;
    assert_eq!(told(&mail.part("text/html")?)?, anchor);
    assert_eq!(anchor, head.to_string());
    let (code, found) = verify(&fixture, Some(&anchor))?;
    assert_eq!((code, &found["valid"]), (Some(0), &json!(true)), "{found}");

    // Whoever may do everything takes the last order away with all that is known of it here.
    let cut = format!(
        "set session_replication_role = replica;
         delete from order_event_chain where link = 2;
         delete from order_events where order_id = '{refused}';
         delete from orders where order_id = '{refused}';
         update reports set content = (content::jsonb - 'chain')::json"
    );
    Postgres::shared()?.sql_at(&fixture.url, &cut)?;
    let (code, found) = verify(&fixture, None)?;
    assert_eq!(
        (code, &found["valid"]),
        (Some(0), &json!(true)),
        "what is left agrees with itself: {found}"
    );
    let (code, found) = verify(&fixture, Some(&anchor))?;
    let bad = &found["firstBad"];
    assert_eq!(
        (code, &found["valid"], &bad["invariant"]),
        (Some(3), &json!(false), &json!("chain")),
        "{found}"
    );
    assert_eq!(bad["row"], "order_event_chain, against anchor (link 2)");
    assert_eq!(
        bad["problem"],
        "the chain ends before the link that was told to the outside"
    );
    Ok(())
}

/// Makes the chain hold so many events and gives its end. Links are made behind the oldest transaction of the whole server, which
/// other tests share.
async fn chained(fixture: &Fixture, events: i64) -> Result<ChainHead> {
    let later = at("2026-03-02T12:00:00Z");
    wait::until_async(
        "the chain to hold every event",
        Duration::from_secs(60),
        || async {
            fixture.ledger.extend_chain(later).await.ok()?;
            let head = fixture.ledger.chain_head().await.ok()??;
            (head.events == events).then_some(head)
        },
    )
    .await
}

/// What a form of the report shows behind `Anchor:`.
fn told(form: &str) -> Result<String> {
    let (_, rest) = form.split_once("Anchor: ").context("no anchor")?;
    let end = rest.find(|found: char| !found.is_ascii_alphanumeric() && found != ':');
    Ok(rest[..end.unwrap_or(rest.len())].to_owned())
}

/// Exit code and what was found.
fn verify(fixture: &Fixture, anchor: Option<&str>) -> Result<(Option<i32>, Value)> {
    let anchor = anchor.map(|anchor| ["--anchor", anchor]);
    let args = [&["verify"][..], anchor.as_ref().map_or(&[], |args| &args[..])].concat();
    let url = as_service(&fixture.url);
    let output = Service::run("api-service", &args, [("FUSE_DATABASE__URL", url.as_str())])?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = serde_json::from_str(&said).with_context(|| format!("verify said {said}"))?;
    Ok((output.status.code(), found))
}
