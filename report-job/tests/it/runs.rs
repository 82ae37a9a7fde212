//! Runs that go well: sealed once, mailed once, nothing missed.

use std::collections::BTreeSet;

use anyhow::Result;
use fuse_domain::{DailyReport, Reason};
use fuse_harness::deployment::far_schedule;
use fuse_ledger::DeliveryState;
use jiff::civil::time;
use jiff::{SignedDuration, Timestamp};
use report_job::Args;
use uuid::Uuid;

use crate::support::{at, date, fixture, fourth_of_march, second_of_march};

fn orders_of(report: &fuse_ledger::StoredReport) -> Result<BTreeSet<Uuid>> {
    let content = report
        .content
        .as_ref()
        .expect("a report that was run has content");
    let report: DailyReport = serde_json::from_str(&content.json)?;
    let lists = [report.filled, report.rejected, report.failed, report.unknown];
    Ok(lists
        .iter()
        .flat_map(|list| list.items.iter().map(|line| line.order_id))
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_mail_with_the_orders_and_never_a_second_one() -> Result<()> {
    let fixture = fixture().await?;
    let filled = fixture.order("AAPL", None, "2026-03-02T10:00:00Z").await?;
    let unknown = fixture
        .order("MSFT", Some(Reason::VendorTimeout), "2026-03-02T11:00:00Z")
        .await?;
    for _ in 0..3 {
        fixture.run(second_of_march).await?.map_err(anyhow::Error::msg)?;
    }
    let mails = fixture.sink.messages();
    let [mail] = &mails[..] else {
        anyhow::bail!("{} mails", mails.len())
    };
    assert_eq!(
        (mail.from.as_str(), mail.recipients.join(",").as_str()),
        ("report@fuse.example.com", "ops@example.com")
    );
    assert_eq!(
        mail.subject(),
        "Fuse report 2026-03-02: 2 orders, 1 filled, 1 UNKNOWN"
    );
    assert_eq!(mail.header("auto-submitted").as_deref(), Some("auto-generated"));
    for part in ["text/html", "text/plain"] {
        let body = mail.part(part)?;
        for text in [
            filled.to_string(),
            unknown.to_string(),
            "88.699815".into(),
            "vendor_timeout".into(),
        ] {
            assert!(body.contains(&text), "{part} lacks {text}");
        }
    }
    let delivery = fixture.delivery("2026-03-02").await?;
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Sent, 1));
    assert_eq!(mail.header("message-id"), Some(delivery.message_id));
    let stored = fixture.report("2026-03-02").await?;
    let html = stored.content.expect("computed").html;
    assert_eq!(
        mail.part("text/html")?.replace("\r\n", "\n").trim_end(),
        html.trim_end()
    );
    assert_eq!(
        fixture.runs().await?,
        "delivered 1, nothing_to_do 0, nothing_to_do 0"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_jobs_at_once_send_one_mail() -> Result<()> {
    let fixture = fixture().await?;
    fixture.order("AAPL", None, "2026-03-02T10:00:00Z").await?;
    let runs = (0..4).map(|_| fixture.run(second_of_march));
    for outcome in futures::future::join_all(runs).await {
        outcome?.map_err(anyhow::Error::msg)?;
    }
    assert_eq!(fixture.sink.messages().len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn missed_days_are_caught_up_oldest_first_and_each_order_is_reported_once() -> Result<()> {
    let fixture = fixture().await?;
    let second = fixture.order("AAPL", None, "2026-03-02T10:00:00Z").await?;
    fixture.run(second_of_march).await?.map_err(anyhow::Error::msg)?;
    // On the 3rd nobody ran the job.
    let third = fixture.order("AAPL", None, "2026-03-03T10:00:00Z").await?;
    let fourth = fixture.order("AAPL", None, "2026-03-04T10:00:00Z").await?;
    fixture.run(fourth_of_march).await?.map_err(anyhow::Error::msg)?;

    let subjects: Vec<String> = fixture
        .sink
        .messages()
        .iter()
        .map(|mail| mail.subject()[..22].to_owned())
        .collect();
    assert_eq!(
        subjects,
        [
            "Fuse report 2026-03-02",
            "Fuse report 2026-03-03",
            "Fuse report 2026-03-04"
        ]
    );
    assert_eq!(orders_of(&fixture.report("2026-03-02").await?)?, [second].into());
    assert_eq!(orders_of(&fixture.report("2026-03-03").await?)?, [third].into());
    assert_eq!(orders_of(&fixture.report("2026-03-04").await?)?, [fourth].into());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_by_hand_before_the_schedule_leaves_the_rest_to_the_next_report() -> Result<()> {
    let fixture = fixture().await?;
    let noon = || at("2026-03-02T12:00:00Z");
    let before = fixture.order("AAPL", None, "2026-03-02T11:00:00Z").await?;
    let today = Args {
        date: Some(date("2026-03-02")),
        ..Args::default()
    };
    fixture
        .run_with(noon, &today)
        .await?
        .map_err(anyhow::Error::msg)?;
    let after = fixture.order("AAPL", None, "2026-03-02T13:00:00Z").await?;
    fixture.run(second_of_march).await?.map_err(anyhow::Error::msg)?;
    fixture
        .run(|| at("2026-03-03T23:59:01Z"))
        .await?
        .map_err(anyhow::Error::msg)?;
    assert_eq!(orders_of(&fixture.report("2026-03-02").await?)?, [before].into());
    assert_eq!(orders_of(&fixture.report("2026-03-03").await?)?, [after].into());
    assert_eq!(fixture.sink.messages().len(), 2);

    let tomorrow = Args {
        date: Some(date("2026-03-03")),
        ..Args::default()
    };
    let refused = fixture.run_with(noon, &tomorrow).await?;
    assert!(refused.is_err_and(|error| error.contains("has not begun")));
    let long_ago = Args {
        date: Some(date("2026-02-01")),
        ..Args::default()
    };
    let refused = fixture.run_with(second_of_march, &long_ago).await?;
    assert!(refused.is_err_and(|error| error.contains("has no report of its own")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_writes_files_and_changes_nothing() -> Result<()> {
    let fixture = fixture().await?;
    let order = fixture.order("AAPL", None, "2026-03-02T10:00:00Z").await?;
    let folder = tempfile::tempdir()?;
    let args = Args {
        dry_run: true,
        out: Some(folder.path().join("made")),
        ..Args::default()
    };
    fixture
        .job(second_of_march)?
        .dry_run(&args)
        .await
        .map_err(anyhow::Error::from_boxed)?;
    assert_eq!(fixture.ledger.last_sealed().await?, None);
    assert!(fixture.sink.messages().is_empty());
    assert_eq!(fixture.runs().await?, "");

    let real = Args {
        out: Some(folder.path().join("real")),
        ..Args::default()
    };
    fixture
        .run_with(second_of_march, &real)
        .await?
        .map_err(anyhow::Error::msg)?;
    for name in ["report.html", "report.txt", "report.json"] {
        let dry = std::fs::read_to_string(folder.path().join("made").join(name))?;
        assert!(dry.contains(&order.to_string()), "{name}");
        assert_eq!(
            dry,
            std::fs::read_to_string(folder.path().join("real").join(name))?,
            "{name}"
        );
    }
    let file = std::fs::read(folder.path().join("real/report.eml"))?;
    let mails = fixture.sink.messages();
    // The end of the last line belongs to the transport.
    let is_the_mail = mails[0].raw.trim_ascii_end() == file.trim_ascii_end();
    assert!(is_the_mail, "report.eml is the mail, to the byte");

    // Of days that are still to be sealed, one after the other.
    let dry = Args {
        dry_run: true,
        out: Some(folder.path().join("later")),
        ..Args::default()
    };
    let later = fixture.order("MSFT", None, "2026-03-04T10:00:00Z").await?;
    fixture
        .job(fourth_of_march)?
        .dry_run(&dry)
        .await
        .map_err(anyhow::Error::from_boxed)?;
    let json = std::fs::read_to_string(folder.path().join("later/report.json"))?;
    assert!(json.contains(&later.to_string()) && !json.contains(&order.to_string()));
    assert_eq!(fixture.ledger.last_sealed().await?, Some(date("2026-03-02")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_come_and_go() -> Result<()> {
    let mut fixture = fixture().await?;
    fixture.order("AAPL", None, "2026-03-02T10:00:00Z").await?;
    fixture.run(second_of_march).await?.map_err(anyhow::Error::msg)?;
    fixture.config.recipients = vec![
        "ops@example.com".parse()?,
        "\"New, Person\" <new@example.com>".parse()?,
    ];
    fixture.run(second_of_march).await?.map_err(anyhow::Error::msg)?;
    let to: Vec<String> = fixture
        .sink
        .messages()
        .iter()
        .map(|mail| mail.recipients.join(","))
        .collect();
    assert_eq!(to, ["ops@example.com", "new@example.com"]);

    fixture.config.recipients.clear();
    fixture.run(fourth_of_march).await?.map_err(anyhow::Error::msg)?;
    assert_eq!(fixture.sink.messages().len(), 2);
    assert!(
        fixture.report("2026-03-04").await?.content.is_some(),
        "readable without any mail"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_by_hand_at_noon_mails_what_is_there_and_the_days_report_holds_it_again() -> Result<()> {
    let fixture = fixture().await?;
    let noon = || at("2026-03-02T12:00:00Z");
    let before = fixture.order("AAPL", None, "2026-03-02T11:00:00Z").await?;
    fixture.run(noon).await?.map_err(anyhow::Error::msg)?;
    let mails = fixture.sink.messages();
    assert_eq!(
        mails.len(),
        1,
        "a young service has no report of yesterday to send"
    );
    assert_eq!(
        mails[0].subject(),
        "Interim: Fuse report 2026-03-02: 1 order, 1 filled"
    );
    for part in ["text/html", "text/plain"] {
        let body = mails[0].part(part)?;
        assert!(body.contains(&before.to_string()), "{part} lacks the order");
        assert!(
            body.contains("INTERIM: the day is still open"),
            "{part} lacks the notice"
        );
    }
    assert_eq!(fixture.ledger.last_sealed().await?, None, "nothing is sealed");

    let after = fixture.order("AAPL", None, "2026-03-02T13:00:00Z").await?;
    fixture.run(second_of_march).await?.map_err(anyhow::Error::msg)?;
    assert_eq!(
        orders_of(&fixture.report("2026-03-02").await?)?,
        [before, after].into()
    );
    assert_eq!(fixture.sink.messages().len(), 2);

    // What a schedule does late, or a Job again, is no run by hand: it sends nothing more.
    fixture
        .run(|| at("2026-03-03T00:30:00Z"))
        .await?
        .map_err(anyhow::Error::msg)?;
    assert_eq!(fixture.sink.messages().len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_by_hand_sends_what_is_due_before_anything_interim() -> Result<()> {
    let fixture = fixture().await?;
    let missed = fixture.order("AAPL", None, "2026-03-02T11:00:00Z").await?;
    let noon = || at("2026-03-03T12:00:00Z");
    fixture.run(noon).await?.map_err(anyhow::Error::msg)?;
    assert_eq!(orders_of(&fixture.report("2026-03-02").await?)?, [missed].into());
    let subjects = || {
        fixture
            .sink
            .messages()
            .iter()
            .map(|mail| mail.subject())
            .collect::<Vec<_>>()
    };
    assert_eq!(subjects(), ["Fuse report 2026-03-02: 1 order, 1 filled"]);
    fixture.run(noon).await?.map_err(anyhow::Error::msg)?;
    assert_eq!(
        subjects()[1],
        "Interim: Fuse report 2026-03-03: 0 orders, 0 filled"
    );
    Ok(())
}

/// What `cargo xtask up` promises: the report that it runs by hand holds the order that it has just placed.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_far_schedule_a_run_by_hand_holds_the_newest_order_at_any_time_of_day() -> Result<()> {
    let times: [fn() -> Timestamp; 7] = [
        || at("2026-03-02T02:00:00Z"),
        || at("2026-03-02T21:59:59Z"),
        || at("2026-03-02T22:00:00Z"),
        || at("2026-03-02T23:58:30Z"),
        || at("2026-03-02T23:59:30Z"),
        || at("2026-03-03T00:30:00Z"),
        || at("2026-03-03T01:59:59Z"),
    ];
    for now in times {
        let mut fixture = fixture().await?;
        let mut schedule = far_schedule(now()).split(' ');
        let (minute, hour) = (schedule.next(), schedule.next());
        let field = |text: Option<&str>| text.expect("five fields").parse();
        fixture.config.report.time = time(field(hour)?, field(minute)?, 0, 0);
        let just_now = now() - SignedDuration::from_secs(1);
        let order = fixture.order("AAPL", None, &just_now.to_string()).await?;
        fixture.run(now).await?.map_err(anyhow::Error::msg)?;
        let mails = fixture.sink.messages();
        assert_eq!(mails.len(), 1, "at {}", now());
        let body = mails[0].part("text/plain")?;
        assert!(body.contains(&order.to_string()), "at {}:\n{body}", now());
    }
    Ok(())
}
