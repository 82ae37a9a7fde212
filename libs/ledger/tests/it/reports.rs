//! Periods, contents, deliveries, run records.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use fuse_domain::{OrderStatus, Outcome, Reason};
use fuse_ledger::{
    Claim, DeliveryResult, PlannedDelivery, ReportContent, ReportPeriod, ReportRun, ReportRunResult,
    ReportStatus, Sealed,
};
use jiff::civil::Date;
use sqlx::Connection as _;
use uuid::Uuid;

use crate::support::{Fixture, answer, at, fill, fixture, request};

fn date(text: &str) -> Date {
    text.parse().expect("a date written in a test")
}

/// Seals when all that was committed can be in the period: other tests share the server's transactions.
async fn seal(fixture: &Fixture, day: &str) -> Result<ReportPeriod> {
    let next = fixture.ledger.horizon().await?.next;
    let reached = || async { (fixture.ledger.horizon().await.ok()?.oldest_open >= next).then_some(()) };
    fuse_harness::wait::until_async("older transactions to end", Duration::from_secs(10), reached).await?;
    seal_at_once(fixture, day).await
}

async fn seal_at_once(fixture: &Fixture, day: &str) -> Result<ReportPeriod> {
    let cut = at(&format!("{day}T23:59:00Z"));
    match fixture.ledger.seal(date(day), "Etc/UTC", cut, cut).await? {
        Sealed::Now(period) => Ok(period),
        other => anyhow::bail!("not sealed now: {other:?}"),
    }
}

async fn orders_in(fixture: &Fixture, period: &ReportPeriod) -> Result<BTreeSet<Uuid>> {
    let lines = fixture.ledger.period_lines(period).await?;
    let ids: BTreeSet<Uuid> = lines.iter().map(|line| line.order_id).collect();
    anyhow::ensure!(ids.len() == lines.len(), "an order is there twice");
    Ok(ids)
}

async fn filled(fixture: &Fixture, key: &str, when: &str) -> Result<Uuid> {
    Ok(fixture
        .traded(key, request("AAPL", "1", "10"), fill("10", "1"), when)
        .await?
        .id)
}

#[tokio::test]
async fn each_outcome_is_a_line_and_what_is_at_the_vendor_is_none() -> Result<()> {
    let fixture = fixture().await?;
    let when = "2026-03-02T10:00:00Z";
    filled(&fixture, "filled", when).await?;
    fixture
        .traded(
            "failed",
            request("A", "1", "1"),
            Outcome::Failed(Reason::VendorRejected),
            when,
        )
        .await?;
    fixture
        .traded(
            "unknown",
            request("A", "1", "1"),
            Outcome::Unknown(Reason::VendorTimeout),
            when,
        )
        .await?;
    fixture
        .placed(fixture.submit("submitted", request("A", "1", "1"), when))
        .await?;
    let rejected = fuse_ledger::SubmitOrder {
        decision: fuse_ledger::Decision::Rejected {
            reason: Reason::QuoteStale,
            answer: answer(503, "stale"),
        },
        ..fixture.submit("rejected", request("A", "1", "1"), when)
    };
    fixture.placed(rejected).await?;
    let period = seal(&fixture, "2026-03-02").await?;
    let lines = fixture.ledger.period_lines(&period).await?;
    let outcomes: Vec<_> = lines.iter().map(|line| (line.outcome, line.reason)).collect();
    assert_eq!(
        outcomes,
        [
            (OrderStatus::Filled, None),
            (OrderStatus::Failed, Some(Reason::VendorRejected)),
            (OrderStatus::Unknown, Some(Reason::VendorTimeout)),
            (OrderStatus::Rejected, Some(Reason::QuoteStale)),
        ]
    );
    assert_eq!(
        lines[0].fill.map(|fill| fill.total.to_string()).as_deref(),
        Some("10")
    );
    Ok(())
}

#[tokio::test]
async fn a_missed_day_and_late_rows_are_in_exactly_one_report_each() -> Result<()> {
    let fixture = fixture().await?;
    let early = filled(&fixture, "early", "2026-03-02T10:00:00Z").await?;
    let at_the_cut = filled(&fixture, "cut", "2026-03-02T23:59:00Z").await?;
    let after_the_cut = filled(&fixture, "after", "2026-03-02T23:59:00.000001Z").await?;
    let missed_day = filled(&fixture, "missed", "2026-03-03T12:00:00Z").await?;
    let latest = filled(&fixture, "latest", "2026-03-04T12:00:00Z").await?;

    // Nobody ran the job until the 4th: oldest first.
    let first = seal(&fixture, "2026-03-02").await?;
    let second = seal(&fixture, "2026-03-03").await?;
    // An order whose clock was behind: its time is of a sealed day, so it goes to the next report.
    let behind = filled(&fixture, "behind", "2026-03-02T09:00:00Z").await?;
    let third = seal(&fixture, "2026-03-04").await?;
    let fourth = seal(&fixture, "2026-03-05").await?;
    assert_eq!(orders_in(&fixture, &first).await?, [early, at_the_cut].into());
    assert_eq!(
        orders_in(&fixture, &second).await?,
        [after_the_cut, missed_day].into()
    );
    assert_eq!(orders_in(&fixture, &third).await?, [behind, latest].into());
    assert_eq!(orders_in(&fixture, &fourth).await?, [].into());
    assert_eq!(third.period().from, Some(at("2026-03-03T23:59:00Z")));
    Ok(())
}

#[tokio::test]
async fn what_commits_after_the_seal_is_in_the_next_report() -> Result<()> {
    let fixture = fixture().await?;
    let order = fixture
        .placed(fixture.submit("late", request("A", "1", "1"), "2026-03-02T10:00:00Z"))
        .await?;
    // A transaction that is open while the report is sealed, and another one that begins and ends meanwhile.
    let mut slow = fixture.connection().await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "begin;
         update orders set status = 'unknown', reason = 'vendor_timeout', answer_status = 202, answer_body = '{{}}' where order_id = '{id}';
         insert into order_events (user_id, order_id, from_status, status, reason, at)
         select user_id, order_id, 'submitted', status, reason, created_at from orders where order_id = '{id}';",
        id = order.id
    )))
    .execute(&mut slow)
    .await?;
    let quick = filled(&fixture, "quick", "2026-03-02T11:00:00Z").await?;
    let first = seal_at_once(&fixture, "2026-03-02").await?;
    let before = orders_in(&fixture, &first).await?;
    assert!(!before.contains(&order.id));
    sqlx::raw_sql("commit").execute(&mut slow).await?;
    slow.close().await?;
    assert_eq!(
        orders_in(&fixture, &first).await?,
        before,
        "a sealed period never changes"
    );
    let second = seal(&fixture, "2026-03-03").await?;
    let after = orders_in(&fixture, &second).await?;
    assert!(before.is_disjoint(&after));
    assert_eq!(
        before.union(&after).copied().collect::<BTreeSet<_>>(),
        [quick, order.id].into()
    );
    Ok(())
}

#[tokio::test]
async fn a_day_is_sealed_once_and_never_before_a_later_one() -> Result<()> {
    let fixture = fixture().await?;
    let second = seal(&fixture, "2026-03-03").await?;
    let cut = at("2026-03-05T00:00:00Z");
    let again = fixture
        .ledger
        .seal(date("2026-03-03"), "Europe/Berlin", cut, cut)
        .await?;
    assert_eq!(again, Sealed::Before(second));
    let earlier = fixture
        .ledger
        .seal(date("2026-03-02"), "Etc/UTC", cut, cut)
        .await?;
    assert_eq!(
        earlier,
        Sealed::Superseded {
            by: date("2026-03-03")
        }
    );
    assert_eq!(
        fixture
            .ledger
            .preview_period(date("2026-03-02"), "Etc/UTC", cut)
            .await?,
        None
    );
    let ahead = fixture
        .ledger
        .preview_period(date("2026-03-04"), "Etc/UTC", cut)
        .await?
        .expect("the next day");
    assert_eq!(ahead.period().from, Some(at("2026-03-03T23:59:00Z")));
    assert_eq!(fixture.ledger.last_sealed().await?, Some(date("2026-03-03")));

    let seals = (0..10).map(|_| fixture.ledger.seal(date("2026-03-04"), "Etc/UTC", cut, cut));
    let mut now = 0;
    for sealed in futures::future::join_all(seals).await {
        now += usize::from(matches!(sealed?, Sealed::Now(_)));
    }
    assert_eq!(now, 1);
    Ok(())
}

#[tokio::test]
async fn the_first_content_of_a_report_stays() -> Result<()> {
    let fixture = fixture().await?;
    let now = at("2026-03-03T00:00:00Z");
    let content = |text: &str| ReportContent {
        json: format!("{{\"b\": 1,  \"a\": \"{text}\"}}"),
        html: text.into(),
        plain: text.into(),
    };
    assert_eq!(
        fixture
            .ledger
            .save_computed(date("2026-03-02"), content("early"), now)
            .await?,
        None
    );
    seal(&fixture, "2026-03-02").await?;
    assert_eq!(
        fixture.ledger.uncomputed_reports(date("2026-03-02")).await?.len(),
        1
    );
    let kept = fixture
        .ledger
        .save_computed(date("2026-03-02"), content("first"), now)
        .await?;
    assert_eq!(kept, Some(content("first")));
    let kept = fixture
        .ledger
        .save_computed(date("2026-03-02"), content("second"), now)
        .await?;
    assert_eq!(kept, Some(content("first")));
    let stored = fixture.ledger.report(date("2026-03-02")).await?.expect("sealed");
    assert_eq!(stored.content, Some(content("first")));
    assert_eq!(fixture.ledger.report(date("2026-03-03")).await?, None);
    assert!(
        fixture
            .ledger
            .uncomputed_reports(date("2026-03-02"))
            .await?
            .is_empty()
    );
    Ok(())
}

#[tokio::test]
async fn a_mail_is_claimed_by_one_and_sent_once() -> Result<()> {
    let fixture = fixture().await?;
    seal(&fixture, "2026-03-02").await?;
    let day = date("2026-03-02");
    let now = at("2026-03-03T00:00:00Z");
    let lease = Duration::from_secs(60);
    let ledger = &fixture.ledger;
    assert_eq!(
        ledger.begin_delivery(day, "a@example.com", lease).await?,
        Claim::NotPlanned
    );
    let planned = [PlannedDelivery {
        recipient: "a@example.com".into(),
        message_id: "<one@fuse>".into(),
    }];
    ledger.plan_deliveries(day, &planned, now).await?;
    let other = [PlannedDelivery {
        recipient: "a@example.com".into(),
        message_id: "<two@fuse>".into(),
    }];
    ledger.plan_deliveries(day, &other, now).await?;

    let claims = (0..10).map(|_| ledger.begin_delivery(day, "a@example.com", lease));
    let mut sends = Vec::new();
    for claim in futures::future::join_all(claims).await {
        match claim? {
            Claim::Send(claimed) => sends.push(claimed),
            Claim::Busy => {}
            other => anyhow::bail!("{other:?}"),
        }
    }
    let [first] = &sends[..] else {
        anyhow::bail!("{sends:?}")
    };
    assert_eq!(first.message_id, "<one@fuse>");

    let failed = DeliveryResult::Failed("451 try later\0".repeat(200));
    assert!(ledger.finish_delivery(first, "smtp", failed, now).await?);
    // A job that was killed: its claim ends by itself, and then it has no say any more.
    let Claim::Send(killed) = ledger
        .begin_delivery(day, "a@example.com", Duration::ZERO)
        .await?
    else {
        anyhow::bail!("a failed delivery can be tried again")
    };
    let Claim::Send(last) = ledger.begin_delivery(day, "a@example.com", lease).await? else {
        anyhow::bail!("an abandoned claim can be taken")
    };
    assert_eq!(
        (killed.attempt, last.attempt, last.message_id.as_str()),
        (2, 3, "<one@fuse>")
    );
    assert!(
        !ledger
            .finish_delivery(&killed, "smtp", DeliveryResult::Sent("250".into()), now)
            .await?
    );
    for _ in 0..2 {
        assert!(
            ledger
                .finish_delivery(&last, "smtp", DeliveryResult::Sent("250".into()), now)
                .await?
        );
    }
    assert_eq!(
        ledger.begin_delivery(day, "a@example.com", lease).await?,
        Claim::AlreadySent
    );
    assert!(ledger.open_deliveries(day).await?.is_empty());
    let by_hand = fixture
        .by_hand("update report_deliveries set state = 'pending', sent_at = null")
        .await?;
    assert!(by_hand.is_err_and(|error| error.contains("was sent")));
    Ok(())
}

#[tokio::test]
async fn run_records_become_metrics_once_each() -> Result<()> {
    let fixture = fixture().await?;
    let status = ReportStatus::register(&fixture.metrics);
    let now = at("2026-03-03T00:00:10Z");
    status.observe(&fixture.ledger, now).await?;
    assert_eq!(
        fixture
            .metric("fuse_report_last_success_timestamp_seconds")
            .as_deref(),
        Some("0")
    );
    seal(&fixture, "2026-03-02").await?;
    let content = ReportContent {
        json: r#"{"totals":{"filled":3,"unknown":1}}"#.into(),
        html: String::new(),
        plain: String::new(),
    };
    fixture
        .ledger
        .save_computed(date("2026-03-02"), content, now)
        .await?;
    let planned = [PlannedDelivery {
        recipient: "a@example.com".into(),
        message_id: "<one@fuse>".into(),
    }];
    fixture
        .ledger
        .plan_deliveries(date("2026-03-02"), &planned, at("2026-03-03T00:00:00Z"))
        .await?;
    let run = |result, sent, finished: &str| ReportRun {
        id: Uuid::now_v7(),
        started_at: at("2026-03-03T00:00:00Z"),
        finished_at: at(finished),
        result,
        date: Some(date("2026-03-02")),
        collect_millis: 20,
        render_millis: 4,
        send_millis: 300,
        mails_sent: sent,
        mails_failed: 1 - sent,
        transport: Some("smtp"),
        detail: None,
    };
    let failed = run(ReportRunResult::DeliveryFailed, 0, "2026-03-03T00:00:01Z");
    for _ in 0..2 {
        fixture.ledger.record_report_run(&failed).await?;
        status.observe(&fixture.ledger, now).await?;
    }
    assert_eq!(
        fixture
            .metric("fuse_report_last_success_timestamp_seconds")
            .as_deref(),
        Some("0")
    );
    assert_eq!(
        fixture.metric("fuse_mail_outbox_oldest_seconds").as_deref(),
        Some("10")
    );
    fixture
        .ledger
        .record_report_run(&run(ReportRunResult::Delivered, 1, "2026-03-03T00:00:02Z"))
        .await?;
    status.observe(&fixture.ledger, now).await?;
    let figures = [
        ("fuse_report_runs_total{result=\"delivery_failed\"}", "1"),
        ("fuse_report_runs_total{result=\"delivered\"}", "1"),
        ("fuse_mail_sends_total{result=\"sent\",transport=\"smtp\"}", "1"),
        ("fuse_mail_sends_total{result=\"failed\",transport=\"smtp\"}", "1"),
        ("fuse_report_duration_seconds_count{phase=\"send\"}", "2"),
        ("fuse_report_orders{section=\"filled\"}", "3"),
        ("fuse_report_orders{section=\"unknown\"}", "1"),
        ("fuse_report_last_success_timestamp_seconds", "1772496002"),
    ];
    for (line, figure) in figures {
        assert_eq!(fixture.metric(line).as_deref(), Some(figure), "{line}");
    }
    Ok(())
}
