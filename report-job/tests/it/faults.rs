//! Runs that go badly: the mail server refuses, hangs, cuts, is away; the database is away.

use std::time::{Duration, Instant};

use anyhow::Result;
use fuse_harness::postgres::Postgres;
use fuse_harness::smtp::SmtpMode;
use fuse_harness::wait::until_async;
use fuse_ledger::DeliveryState;

use crate::support::{Fixture, fixture, fixture_at, fourth_of_march, second_of_march};

const SOON: Duration = Duration::from_secs(10);

/// For a run that must come to its end on a busy machine, after one that must not.
fn patient(fixture: &mut Fixture) {
    fixture.config.run_deadline = Duration::from_secs(30);
    fixture.config.send_timeout = Duration::from_secs(10);
}

async fn attempts(fixture: &Fixture) -> i32 {
    fixture
        .delivery("2026-03-02")
        .await
        .map_or(0, |delivery| delivery.attempts)
}

/// Whatever happened to the mail: the report is kept, the failure is recorded, and the next run sends it once.
async fn is_kept_and_sent_once_later(fixture: &Fixture, detail: &str) -> Result<()> {
    let delivery = fixture.delivery("2026-03-02").await?;
    assert_eq!(delivery.state, DeliveryState::Failed);
    let said = delivery.detail.clone().unwrap_or_default();
    anyhow::ensure!(said.contains(detail), "{said:?} does not say {detail:?}");
    assert!(fixture.report("2026-03-02").await?.content.is_some());
    assert_eq!(fixture.runs().await?, "delivery_failed 0");
    fixture.sink.set_mode(SmtpMode::Accept);
    for _ in 0..2 {
        fixture.run(second_of_march).await?.map_err(anyhow::Error::msg)?;
    }
    let mails = fixture.sink.messages();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].header("message-id"), Some(delivery.message_id));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_later_is_asked_again_within_the_run() -> Result<()> {
    let fixture = fixture().await?;
    fixture.order("AAPL", None, "2026-03-02T10:00:00Z").await?;
    fixture
        .sink
        .set_mode(SmtpMode::RefuseRecipient("451 4.7.1 greylisted".into()));
    let (outcome, waited) = tokio::join!(fixture.run(second_of_march), async {
        let tried = until_async("two tries", SOON, || async {
            (attempts(&fixture).await >= 2).then_some(())
        })
        .await;
        fixture.sink.set_mode(SmtpMode::Accept);
        tried
    });
    waited?;
    outcome?.map_err(anyhow::Error::msg)?;
    assert_eq!(fixture.sink.messages().len(), 1);
    assert_eq!(fixture.delivery("2026-03-02").await?.state, DeliveryState::Sent);
    assert_eq!(fixture.runs().await?, "delivered 1");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_good_ends_the_run_at_once_and_hides_the_address() -> Result<()> {
    let fixture = fixture().await?;
    fixture.order("AAPL", None, "2026-03-02T10:00:00Z").await?;
    fixture.sink.set_mode(SmtpMode::RefuseRecipient(
        "550 5.1.1 ops@example.com unknown".into(),
    ));
    let began = Instant::now();
    let error = fixture
        .run(second_of_march)
        .await?
        .expect_err("a refused mail is a failed run");
    assert_eq!(
        error,
        "1 of 1 mails were not taken; the report is kept and the next run tries again"
    );
    assert!(began.elapsed() < fixture.config.run_deadline / 2);
    assert_eq!(attempts(&fixture).await, 1);
    let said = fixture.delivery("2026-03-02").await?.detail.unwrap_or_default();
    assert!(
        said.contains("<recipient> unknown") && !said.contains("ops@"),
        "{said}"
    );
    is_kept_and_sent_once_later(&fixture, "550").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_or_hangs_fails_the_run_in_its_deadline() -> Result<()> {
    for hangs in [false, true] {
        let mut fixture = fixture().await?;
        fixture.config.run_deadline = Duration::from_secs(4);
        fixture.config.send_timeout = Duration::from_secs(1);
        fixture.order("AAPL", None, "2026-03-02T10:00:00Z").await?;
        if hangs {
            fixture.sink.set_mode(SmtpMode::Hang);
        } else {
            fixture.sink.stop()?;
        }
        let began = Instant::now();
        let error = fixture
            .run(second_of_march)
            .await?
            .expect_err("no mail, no success");
        assert!(error.contains("1 of 1 mails"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        if !hangs {
            fixture.sink.restart()?;
        }
        patient(&mut fixture);
        is_kept_and_sent_once_later(&fixture, if hangs { "" } else { "onnect" }).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_may_repeat_a_mail_but_with_the_same_id() -> Result<()> {
    let fixture = fixture().await?;
    fixture.order("AAPL", None, "2026-03-02T10:00:00Z").await?;
    fixture.sink.set_mode(SmtpMode::CutAfterData);
    let (outcome, waited) = tokio::join!(fixture.run(second_of_march), async {
        let took = until_async("a mail that was cut", SOON, || async {
            (!fixture.sink.messages().is_empty()).then_some(())
        });
        let took = took.await;
        fixture.sink.set_mode(SmtpMode::Accept);
        took
    });
    waited?;
    outcome?.map_err(anyhow::Error::msg)?;
    let mails = fixture.sink.messages();
    assert!(mails.len() >= 2);
    assert!(
        mails.iter().all(|mail| mail.raw == mails[0].raw),
        "the same mail to the byte, Message-ID included"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_mail_of_an_older_day_is_sent_before_the_next_report() -> Result<()> {
    let fixture = fixture().await?;
    fixture.order("AAPL", None, "2026-03-02T10:00:00Z").await?;
    fixture.sink.set_mode(SmtpMode::RefuseMail("554 5.7.1 no".into()));
    fixture.run(second_of_march).await?.expect_err("refused");
    fixture.sink.set_mode(SmtpMode::Accept);
    fixture.run(fourth_of_march).await?.map_err(anyhow::Error::msg)?;
    let subjects: Vec<String> = fixture
        .sink
        .messages()
        .iter()
        .map(|mail| mail.subject()[12..22].to_owned())
        .collect();
    assert_eq!(subjects, ["2026-03-02", "2026-03-03", "2026-03-04"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_waited_for_and_then_named() -> Result<()> {
    let mut postgres = Postgres::start()?;
    let url = postgres.database()?;
    let mut fixture = fixture_at(&url).await?;
    fixture.order("AAPL", None, "2026-03-02T10:00:00Z").await?;
    postgres.stop()?;
    fixture.config.run_deadline = Duration::from_secs(3);
    let error = fixture
        .run(second_of_march)
        .await?
        .expect_err("no database, no report");
    assert!(
        error.contains("cannot read which days are sealed: the database cannot be used now"),
        "{error}"
    );
    assert!(fixture.sink.messages().is_empty());

    // Back while the job waits: nothing is lost and one mail goes out.
    fixture.config.run_deadline = Duration::from_secs(30);
    let job = fixture.job(second_of_march)?;
    let run = tokio::spawn(async move {
        job.run(&report_job::Args::default())
            .await
            .map_err(|error| error.to_string())
    });
    postgres.restart()?;
    run.await?.map_err(anyhow::Error::msg)?;
    assert_eq!(fixture.sink.messages().len(), 1);
    Ok(())
}

/// T19: a job that is killed while it sends. The claim ends by itself; the next run sends with the same id.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_killed_while_sending_is_continued() -> Result<()> {
    let mut fixture = fixture().await?;
    fixture.order("AAPL", None, "2026-03-02T10:00:00Z").await?;
    fixture.sink.set_mode(SmtpMode::Hang);
    let job = fixture.job(second_of_march)?;
    let run = tokio::spawn(async move {
        job.run(&report_job::Args::default())
            .await
            .map_err(|error| error.to_string())
    });
    until_async("the claim", SOON, || async {
        (attempts(&fixture).await == 1).then_some(())
    })
    .await?;
    run.abort();
    let _ = run.await;
    let claimed = fixture.delivery("2026-03-02").await?;
    assert_eq!(claimed.state, DeliveryState::Sending);
    fixture.sink.set_mode(SmtpMode::Accept);

    // While the claim holds, another run leaves the mail alone and says that it is not done.
    fixture.config.run_deadline = Duration::from_secs(3);
    fixture.config.send_timeout = Duration::from_secs(1);
    fixture
        .run(second_of_march)
        .await?
        .expect_err("the claim is not over");
    assert!(fixture.sink.messages().is_empty());
    Postgres::shared()?.sql_at(&fixture.url, "update report_deliveries set claimed_until = now()")?;
    patient(&mut fixture);
    fixture.run(second_of_march).await?.map_err(anyhow::Error::msg)?;
    let mails = fixture.sink.messages();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].header("message-id"), Some(claimed.message_id));
    Ok(())
}
