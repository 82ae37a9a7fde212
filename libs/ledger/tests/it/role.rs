//! What the services' role cannot do: it owns nothing, and every way around the schema's rules is refused.

mod by_hand;
mod functions;
mod grants;

use anyhow::Result;
use uuid::Uuid;

use crate::support::{Fixture, fixture};

/// A ledger with an order in each state, all made as the services' role through the two functions.
struct Scene {
    fixture: Fixture,
    filled: Uuid,
    submitted: Uuid,
    unknown: Uuid,
    rejected: Uuid,
}

impl Scene {
    async fn start() -> Result<Self> {
        let scene = Self {
            fixture: fixture().await?,
            filled: Uuid::now_v7(),
            submitted: Uuid::now_v7(),
            unknown: Uuid::now_v7(),
            rejected: Uuid::now_v7(),
        };
        for order in [scene.filled, scene.submitted, scene.unknown] {
            scene.done(&scene.place(order, "submitted")).await?;
        }
        scene.done(&scene.place(scene.rejected, "rejected")).await?;
        scene.done(&scene.settle(scene.filled, "filled")).await?;
        scene.done(&scene.settle(scene.unknown, "unknown")).await?;
        scene.done(&scene.link(1, 1)).await?;
        scene.done(REPORT).await?;
        Ok(scene)
    }

    /// Write 1 as SQL.
    fn place(&self, order: Uuid, status: &str) -> String {
        let (reason, answer, body) = match status {
            "submitted" => ("null", "null", "null"),
            _ => ("'price_out_of_range'", "422", "'no'"),
        };
        format!(
            "select * from place_orders(user_ids => array['{user}']::uuid[], order_ids => array['{order}']::uuid[],
                portfolio_ids => array['{user}']::uuid[], idempotency_keys => array['{order}'],
                request_sha256s => array[decode(repeat('07', 32), 'hex')], client_order_ids => array[null]::text[],
                symbols => array['AAPL'], sides => array['buy'], quantities => array['2'], limit_prices => array['10'],
                notionals => array[null]::text[], key_ids => array[null]::uuid[], statuses => array['{status}'],
                reasons => array[{reason}]::text[], quote_prices => array['10'], quote_as_ofs => array[now()],
                quote_snapshot_ids => array['{user}']::uuid[], answer_statuses => array[{answer}]::smallint[],
                answer_bodies => array[{body}]::text[], created_ats => array[now()],
                expected_versions => array[null]::bigint[], moved_answer_bodies => array[null]::text[],
                daily_maxima => array[null]::bigint[], days_begin => array[null]::uuid[],
                daily_answer_bodies => array[null]::text[])",
            user = self.fixture.user
        )
    }

    /// Write 2 as SQL.
    fn settle(&self, order: Uuid, status: &str) -> String {
        self.settle_at(order, status, ("2", "10"))
    }

    fn settle_at(&self, order: Uuid, status: &str, (quantity, price): (&str, &str)) -> String {
        let (reason, quantity, price, answer) = match status {
            "filled" => ("null", format!("'{quantity}'"), format!("'{price}'"), "201"),
            _ => ("'interrupted'", "null".to_owned(), "null".to_owned(), "202"),
        };
        format!(
            "select * from settle_orders(user_ids => array['{user}']::uuid[], order_ids => array['{order}']::uuid[],
                statuses => array['{status}'], reasons => array[{reason}]::text[], fill_prices => array[{price}]::text[],
                fill_quantities => array[{quantity}]::text[], attempts_made => array['[]'],
                answer_statuses => array[{answer}]::smallint[], answer_bodies => array['given'], ats => array[now()],
                are_resolutions => array[false], actors => array['vendor'], notes => array['late'])",
            user = self.fixture.user
        )
    }

    /// A link that continues the chain when `link` and `total` do.
    fn link(&self, link: u32, total: u32) -> String {
        format!(
            "insert into order_event_chain (link, previous_hash, hash, events, total, last_txid, last_seq, last_user_id,
                digests, made_at)
             select {link}, coalesce((select hash from order_event_chain order by link desc limit 1),
                    decode(repeat('00', 32), 'hex')),
                decode(repeat('01', 32), 'hex'), 1, {total}, '{link}', 1, '{}', decode(repeat('02', 32), 'hex'), now()",
            self.fixture.user
        )
    }

    /// It works as the services' role.
    async fn done(&self, sql: &str) -> Result<()> {
        let outcome = self.fixture.by_hand_as_service(sql).await?;
        outcome.map_err(|error| anyhow::anyhow!("{sql}: {error}"))
    }

    /// It is refused to the services' role, with words that name the rule, and changes nothing.
    async fn refused(&self, sql: &str, words: &str) -> Result<()> {
        let before = self.dump().await?;
        match self.fixture.by_hand_as_service(sql).await? {
            Ok(()) => anyhow::bail!("accepted: {sql}"),
            Err(error) => anyhow::ensure!(error.contains(words), "{sql}: refused, but with {error:?}"),
        }
        anyhow::ensure!(
            self.dump().await? == before,
            "refused, but it changed something: {sql}"
        );
        Ok(())
    }

    /// It is no mistake, but it changes nothing.
    async fn idle(&self, sql: &str) -> Result<()> {
        let before = self.dump().await?;
        self.done(sql).await?;
        anyhow::ensure!(self.dump().await? == before, "it changed something: {sql}");
        Ok(())
    }

    /// Every row that matters, and every rule over them.
    async fn dump(&self) -> Result<String> {
        let rows = [
            "users",
            "portfolios",
            "holdings",
            "orders",
            "order_events",
            "api_keys",
            "order_event_chain",
            "reports",
        ]
        .map(|table| {
            format!("(select coalesce(string_agg(t::text, ';' order by t::text), '') from {table} t)")
        })
        .join(" || '\n' || ");
        let rules = "(select string_agg(tgrelid::regclass || tgname || tgenabled::text, ';' order by oid) from pg_trigger)
            || (select string_agg(conrelid::regclass || conname, ';' order by oid) from pg_constraint
                where connamespace = current_schema()::regnamespace)
            || (select string_agg(md5(p::text), ';' order by oid) from pg_proc p
                where pronamespace = current_schema()::regnamespace)
            || (select string_agg(relname || relowner || relacl::text, ';' order by oid) from pg_class
                where relnamespace = current_schema()::regnamespace)";
        self.fixture.text(&format!("select {rows} || {rules}")).await
    }

    async fn count(&self, what: &str) -> Result<String> {
        self.fixture
            .text(&format!("select count(*)::text from {what}"))
            .await
    }
}

/// A report that is sealed and computed.
const REPORT: &str = "
    insert into reports (report_date, time_zone, cut_at, txid_upper, sealed_at)
    values ('2026-03-02', 'UTC', '2026-03-02 23:59Z', pg_snapshot_xmin(pg_current_snapshot()), now());
    update reports set content = '{}', html = 'h', plain = 'p', computed_at = now()";
