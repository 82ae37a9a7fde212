//! A fresh database with the schema, a user, and orders in one line.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use fuse_domain::{Fill, OrderRequest, Outcome, Price, Quantity, QuoteUsed, Side, Symbol};
use fuse_harness::postgres::{Postgres, as_service};
use fuse_harness::wait;
use fuse_ledger::{
    Decision, IdempotencyKey, Ledger, Order, Placed, Settle, Settled, StoredAnswer, SubmitOrder,
    first_order_id,
};
use fuse_platform::config::DatabaseConfig;
use fuse_platform::{Metrics, Secret};
use jiff::Timestamp;
use sqlx::{Connection as _, PgConnection, Row as _};
use uuid::Uuid;

const SESSIONS_END: Duration = Duration::from_secs(20);

/// A ledger on its own database, as the services' role, with one user.
pub struct Fixture {
    pub ledger: Ledger,
    pub metrics: Metrics,
    /// As the role that owns the tables.
    pub url: String,
    pub user: Uuid,
}

pub fn config(url: &str) -> DatabaseConfig {
    DatabaseConfig {
        url: Secret::from_text(url),
        max_connections: 10,
        acquire_timeout: Duration::from_secs(2),
        statement_timeout: Duration::from_secs(5),
    }
}

pub async fn fixture() -> Result<Fixture> {
    let url = Postgres::shared()?.database()?;
    let metrics = Metrics::new();
    // Some tests start a hundred calls at once on ten connections.
    let patient = DatabaseConfig {
        acquire_timeout: Duration::from_secs(30),
        ..config(&as_service(&url))
    };
    let ledger = Ledger::new(&patient, &metrics)?;
    ledger.migrate_as(Some(&Secret::from_text(url.as_str()))).await?;
    let user = Uuid::now_v7();
    ledger
        .create_user(user, "Ada", at("2026-03-02T10:00:00Z"))
        .await?;
    Ok(Fixture {
        ledger,
        metrics,
        url,
        user,
    })
}

pub fn at(text: &str) -> Timestamp {
    text.parse().expect("a time written in a test")
}

pub fn request(symbol: &str, quantity: &str, limit_price: &str) -> OrderRequest {
    OrderRequest {
        symbol: Symbol::parse(symbol).expect("a symbol written in a test"),
        side: Side::Buy,
        quantity: Quantity::parse_client(quantity).expect("a quantity written in a test"),
        limit_price: Price::parse_client(limit_price).expect("a price written in a test"),
    }
}

pub fn fill(price: &str, quantity: &str) -> Outcome {
    let price = Price::parse(price).expect("a price written in a test");
    let quantity = Quantity::parse(quantity).expect("a quantity written in a test");
    Outcome::Filled(Fill::new(price, quantity).expect("an exact product"))
}

pub fn answer(status: u16, body: &str) -> StoredAnswer {
    StoredAnswer {
        status,
        body: body.to_owned(),
    }
}

async fn by_hand_at(url: &str, sql: &str) -> Result<Result<(), String>> {
    let mut connection = PgConnection::connect(url).await?;
    let outcome = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
        .execute(&mut connection)
        .await;
    connection.close().await?;
    Ok(outcome.map(drop).map_err(|error| error.to_string()))
}

/// An id as the service would have made it then; later ones of the same moment sort after it.
pub fn order_id(at: Timestamp) -> Uuid {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Uuid::from_u128(first_order_id(at).as_u128() | u128::from(number))
}

impl Fixture {
    /// An accepted order for `quantity` at `limit_price`, under the given key.
    pub fn submit(&self, key: &str, request: OrderRequest, when: &str) -> SubmitOrder {
        SubmitOrder {
            id: order_id(at(when)),
            user_id: self.user,
            portfolio_id: None,
            key: IdempotencyKey::parse(key).expect("a key written in a test"),
            request_sha256: [7; 32],
            quote: Some(QuoteUsed {
                price: request.limit_price,
                as_of: at("2026-03-02T10:00:00Z"),
                snapshot_id: Uuid::nil(),
            }),
            request,
            client_order_id: None,
            notional: None,
            key_id: None,
            expected: None,
            daily: None,
            decision: Decision::Accepted,
            at: at(when),
        }
    }

    pub async fn placed(&self, order: SubmitOrder) -> Result<Order> {
        match self.ledger.place(order).await? {
            Placed::New(order) => Ok(*order),
            other => anyhow::bail!("not a new order: {other:?}"),
        }
    }

    pub fn settlement(&self, order_id: Uuid, outcome: Outcome, when: &str) -> Settle {
        Settle {
            order_id,
            user_id: self.user,
            outcome,
            attempts: serde_json::json!([{"reached": "answered"}]),
            answer: answer(201, r#"{"made":"by the test"}"#),
            at: at(when),
        }
    }

    /// Places and settles in one go.
    pub async fn traded(
        &self,
        key: &str,
        request: OrderRequest,
        outcome: Outcome,
        when: &str,
    ) -> Result<Order> {
        let order = self.placed(self.submit(key, request, when)).await?;
        let settled = self
            .ledger
            .settle(self.settlement(order.id, outcome, when))
            .await?;
        anyhow::ensure!(settled == Settled::Now, "not settled now: {settled:?}");
        self.order(order.id).await
    }

    /// An order of the fixture's user that is there.
    pub async fn order(&self, id: Uuid) -> Result<Order> {
        let found = self.ledger.order(Some(self.user), id).await?;
        found.context("no such order")
    }

    /// Ends all sessions of the ledger and opens others, with new metrics.
    pub async fn reopen(&mut self) -> Result<()> {
        self.ledger.close().await;
        let sessions = "select count(*)::text from pg_stat_activity where datname = current_database() and application_name = 'fuse'";
        wait::until_async("the ledger's sessions to end", SESSIONS_END, || async {
            (self.text(sessions).await.ok()? == "0").then_some(())
        })
        .await?;
        self.metrics = Metrics::new();
        self.ledger = Ledger::new(&config(&as_service(&self.url)), &self.metrics)?;
        Ok(())
    }

    /// A connection of its own as the owner of the tables, for hand-written SQL.
    pub async fn connection(&self) -> Result<PgConnection> {
        PgConnection::connect(&self.url)
            .await
            .context("connecting to the test's own database")
    }

    /// Hand-written SQL as the owner of the tables; its error's text when it is refused.
    pub async fn by_hand(&self, sql: &str) -> Result<Result<(), String>> {
        by_hand_at(&self.url, sql).await
    }

    /// The same as the role that the services use.
    pub async fn by_hand_as_service(&self, sql: &str) -> Result<Result<(), String>> {
        by_hand_at(&as_service(&self.url), sql).await
    }

    /// One text from the database.
    pub async fn text(&self, sql: &str) -> Result<String> {
        let mut connection = self.connection().await?;
        let row = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        Ok(row.try_get::<Option<String>, _>(0)?.unwrap_or_default())
    }

    /// The current figure of a metric as its text, by the beginning of its line.
    pub fn metric(&self, line: &str) -> Option<String> {
        let text = String::from_utf8(self.metrics.encode()).ok()?;
        let found = text.lines().find(|found| found.starts_with(line))?;
        found.rsplit(' ').next().map(str::to_owned)
    }
}
