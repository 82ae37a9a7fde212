//! A day of orders, a job, and a mail server, in one line each.

use std::time::Duration;

use anyhow::{Context as _, Result};
use fuse_domain::{Fill, OrderRequest, Outcome, Price, Quantity, QuoteUsed, Reason, Side, Symbol};
use fuse_harness::postgres::{Postgres, as_service};
use fuse_harness::smtp::SmtpSink;
use fuse_ledger::{
    Decision, Delivery, IdempotencyKey, Ledger, Placed, Settle, StoredAnswer, StoredReport, SubmitOrder,
};
use fuse_platform::config::{DatabaseConfig, MailConfig, ReportConfig};
use fuse_platform::{Metrics, Readiness, Secret, Shutdown};
use jiff::Timestamp;
use jiff::civil::Date;
use report_job::{Args, Job, JobConfig};
use uuid::Uuid;

pub struct Fixture {
    pub url: String,
    pub ledger: Ledger,
    pub sink: SmtpSink,
    pub user: Uuid,
    pub config: JobConfig,
}

pub fn at(text: &str) -> Timestamp {
    text.parse().expect("a time written in a test")
}

pub fn date(text: &str) -> Date {
    text.parse().expect("a date written in a test")
}

/// Just after the cut of the 2nd.
pub fn second_of_march() -> Timestamp {
    at("2026-03-02T23:59:01Z")
}

pub fn fourth_of_march() -> Timestamp {
    at("2026-03-04T23:59:01Z")
}

pub async fn fixture() -> Result<Fixture> {
    fixture_at(&Postgres::shared()?.database()?).await
}

/// On the database of an owner's URL, as the services' role.
pub async fn fixture_at(url: &str) -> Result<Fixture> {
    let database = DatabaseConfig {
        url: Secret::from_text(as_service(url)),
        max_connections: 5,
        acquire_timeout: Duration::from_secs(2),
        statement_timeout: Duration::from_secs(5),
    };
    let ledger = Ledger::new(&database, &Metrics::new())?;
    ledger.migrate_as(Some(&Secret::from_text(url))).await?;
    let user = Uuid::now_v7();
    ledger
        .create_user(user, "Ada", at("2026-03-01T00:00:00Z"))
        .await?;
    let sink = SmtpSink::start()?;
    let smtp = format!("smtp://{}", sink.address());
    let config = JobConfig {
        database,
        mail: MailConfig {
            smtp_url: Some(Secret::from_text(smtp)),
            ses_region: None,
            from: "Fuse <report@fuse.example.com>".into(),
        },
        report: ReportConfig {
            recipients: Vec::new(),
            time_zone: jiff::tz::TimeZone::UTC,
            time_zone_name: "Etc/UTC".into(),
            time: jiff::civil::time(23, 59, 0, 0),
        },
        from: "Fuse <report@fuse.example.com>".parse()?,
        recipients: vec!["ops@example.com".parse()?],
        interim: true,
        run_deadline: Duration::from_secs(15),
        send_timeout: Duration::from_secs(3),
    };
    Ok(Fixture {
        url: url.to_owned(),
        ledger,
        sink,
        user,
        config,
    })
}

pub fn context() -> fuse_platform::Context {
    fuse_platform::Context {
        process: "report-job",
        metrics: Metrics::new(),
        readiness: Readiness::new(),
        shutdown: Shutdown::new(),
    }
}

impl Fixture {
    pub fn job(&self, clock: fn() -> Timestamp) -> Result<Job> {
        let job = Job::new(&context(), self.config.clone()).map_err(anyhow::Error::from_boxed)?;
        Ok(job.with_clock(clock))
    }

    /// One run for the newest due day; its error's text when it failed.
    pub async fn run(&self, clock: fn() -> Timestamp) -> Result<Result<(), String>> {
        self.run_with(clock, &Args::default()).await
    }

    pub async fn run_with(&self, clock: fn() -> Timestamp, args: &Args) -> Result<Result<(), String>> {
        Ok(self
            .job(clock)?
            .run(args)
            .await
            .map_err(|error| error.to_string()))
    }

    /// One order that ends as told, at the given time.
    pub async fn order(&self, symbol: &str, outcome: Option<Reason>, when: &str) -> Result<Uuid> {
        let request = OrderRequest {
            symbol: Symbol::parse(symbol)?,
            side: Side::Buy,
            quantity: Quantity::parse_client("4.5")?,
            limit_price: Price::parse_client("19.8")?,
        };
        let id = Uuid::now_v7();
        let order = SubmitOrder {
            id,
            user_id: self.user,
            portfolio_id: None,
            key: IdempotencyKey::parse(&id.to_string())?,
            request_sha256: [0; 32],
            quote: Some(QuoteUsed {
                price: request.limit_price,
                as_of: at(when),
                snapshot_id: Uuid::nil(),
            }),
            client_order_id: None,
            notional: None,
            key_id: None,
            expected: None,
            daily: None,
            decision: Decision::Accepted,
            at: at(when),
            request,
        };
        let placed = self.ledger.place(order).await?;
        anyhow::ensure!(matches!(placed, Placed::New(_)), "{placed:?}");
        let outcome = match outcome {
            None => Outcome::Filled(Fill::new(Price::parse("19.71107")?, Quantity::parse("4.5")?)?),
            Some(reason) => Outcome::from_reason(reason).context("a reason of an attempt")?,
        };
        let settle = Settle {
            order_id: id,
            user_id: self.user,
            outcome,
            attempts: serde_json::json!([]),
            answer: StoredAnswer {
                status: 201,
                body: "{}".into(),
            },
            at: at(when),
        };
        self.ledger.settle(settle).await?;
        Ok(id)
    }

    pub async fn report(&self, day: &str) -> Result<StoredReport> {
        self.ledger
            .report(date(day))
            .await?
            .with_context(|| format!("{day} is not sealed"))
    }

    pub async fn delivery(&self, day: &str) -> Result<Delivery> {
        let mut all = self.ledger.deliveries(date(day)).await?;
        anyhow::ensure!(all.len() == 1, "{all:?}");
        all.pop().context("one delivery")
    }

    pub async fn runs(&self) -> Result<String> {
        use sqlx::{Connection as _, Row as _};
        let mut connection = sqlx::PgConnection::connect(&self.url).await?;
        let sql = "select coalesce(string_agg(result || ' ' || mails_sent, ', ' order by run_id), '') from report_runs";
        let row = sqlx::query(sql).fetch_one(&mut connection).await?;
        Ok(row.try_get(0)?)
    }
}
