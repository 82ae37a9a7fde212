//! A PostgreSQL that keeps what it confirms, and on it databases with users, each served by an api-service as shipped.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fuse_harness::postgres::{Postgres, PostgresOptions};
use fuse_harness::services::Service;
use serde_json::json;
use vendor_simulator::{Simulator, SimulatorConfig};

use super::{PORTFOLIOS, SYMBOLS, USERS, id};
use crate::bench::world::{READY_DEADLINE, World, wait_for_json};

/// Settings that differ from the harness's own: as durable as PostgreSQL comes, with memory for the tables that are used,
/// and without a checkpoint in the middle of a turn. The same for ours and for pgbench.
const SETTINGS: [(&str, &str); 7] = [
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "512MB"),
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "30min"),
    ("track_io_timing", "on"),
];
/// An empty database takes seconds, a hash chain over 20 million events a quarter of an hour and more.
const UPKEEP_DEADLINE: Duration = Duration::from_secs(90 * 60);
const UPKEEP_POLL: Duration = Duration::from_millis(500);
/// So few events wait for a link until they are a minute old.
const UNCHAINED_MAX: f64 = 1_000.0;
/// Sums over millions of rows.
const BOOKS_DEADLINE: Duration = Duration::from_secs(600);

/// The backends. Databases are made on it.
pub struct Scene {
    /// Keeps prices there.
    _refresher: Service,
    world: World,
    /// Last, so that it outlives those that use it.
    pub postgres: Postgres,
}

impl Scene {
    /// Starts them, with a vendor that answers at once.
    pub fn start() -> Result<Self> {
        let settings = SETTINGS.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let postgres = Postgres::start_with(PostgresOptions {
            fsync: true,
            settings: settings.to_vec(),
            ..PostgresOptions::default()
        })?;
        let shown = postgres.sql(
            "postgres",
            "select string_agg(name || ' ' || current_setting(name), ', ') from (values ('server_version'), ('fsync'), \
             ('synchronous_commit'), ('wal_sync_method'), ('shared_buffers')) as asked (name)",
        )?;
        println!("PostgreSQL: {shown}");
        ensure!(
            shown.contains("fsync on") && shown.contains("synchronous_commit on"),
            "this server does not keep what it confirms"
        );
        postgres.create_database("fuse")?;
        let vendor = SimulatorConfig {
            symbols: usize::try_from(SYMBOLS)?,
            page_size: usize::try_from(SYMBOLS)?,
            ..SimulatorConfig::default()
        };
        let world = World::start_on(vendor, Some(postgres.url("fuse")))?;
        let refresher = world.launch_ready("cache-refresher", &[])?;
        Ok(Self {
            _refresher: refresher,
            world,
            postgres,
        })
    }

    /// The simulated vendor.
    pub fn vendor(&self) -> &Simulator {
        &self.world.vendor
    }

    /// Before each turn, so that each writes the full images of the pages that it touches, and none of another's.
    pub fn checkpoint(&self) -> Result<()> {
        self.postgres
            .sql_within(BOOKS_DEADLINE, "postgres", "checkpoint")?;
        Ok(())
    }

    /// Bytes of WAL that the server has written since it was made.
    pub fn wal_bytes(&self) -> Result<u64> {
        let text = self
            .postgres
            .sql("postgres", "select pg_current_wal_insert_lsn() - '0/0'")?;
        text.parse()
            .with_context(|| format!("{text} is no number of bytes"))
    }
}

/// A database with the schema, users, their keys and portfolios.
pub struct Database {
    pub name: &'static str,
    /// Of user 1, 2, …
    pub keys: Vec<String>,
}

impl Database {
    /// Makes it. Users and keys are made by the API, the further portfolios by SQL.
    pub fn make(scene: &Scene, name: &'static str) -> Result<Self> {
        scene.postgres.create_database(name)?;
        World::migrate(&scene.postgres.url(name))?;
        let mut database = Self {
            name,
            keys: Vec::new(),
        };
        let api = database.launch(scene)?;
        let admin = scene.world.admin(&api);
        for user in 1..=USERS {
            let body = json!({"name": "bench", "userId": id(user), "scopes": ["read", "trade"]});
            let made = admin.post("/v1/api-keys", &body)?.expect(201)?;
            let key = made["key"].as_str().context("the answer holds no key")?;
            database.keys.push(key.to_owned());
        }
        api.stop()?;
        let more_a_user = PORTFOLIOS / USERS - 1;
        scene.postgres.sql(
            name,
            &format!(
                "insert into portfolios (user_id, portfolio_id, name, created_at, updated_at)
                 select lpad(u::text, 32, '0')::uuid, lpad((u + 1000 * k)::text, 32, '0')::uuid, 'bench', now(), now()
                 from generate_series(1, {USERS}) u, generate_series(1, {more_a_user}) k"
            ),
        )?;
        Ok(database)
    }

    /// What autovacuum does within a minute of the first orders: done before the rounds, so that no plan changes between two.
    pub fn analyze(&self, scene: &Scene) -> Result<()> {
        scene.postgres.sql_within(BOOKS_DEADLINE, self.name, "analyze")?;
        Ok(())
    }

    /// Reads the indexes and the tables that are updated at random, so that they are in the machine's memory, as they are
    /// where orders have come in for a while. Passes over all rows displace them: making millions of orders, checking them.
    pub fn warm(&self, scene: &Scene) -> Result<()> {
        let begun = Instant::now();
        let pages = scene.postgres.sql_within(
            BOOKS_DEADLINE,
            self.name,
            "set client_min_messages = warning;
             create extension if not exists pg_prewarm;
             select sum(pg_prewarm(oid, 'read')) from pg_class where relnamespace = 'public'::regnamespace
                 and (relkind = 'i' or relname in ('holdings', 'portfolios'))",
        )?;
        let seconds = begun.elapsed().as_secs_f64();
        println!("{}: {pages} pages of indexes read in {seconds:.1} s", self.name);
        Ok(())
    }

    /// Pages that its sessions have read from outside of PostgreSQL's memory so far, and the milliseconds that they waited for
    /// them, as PostgreSQL tells it: up to a second late.
    pub fn reads(&self, scene: &Scene) -> Result<(f64, f64)> {
        let text = scene.postgres.sql(
            "postgres",
            &format!(
                "select blks_read || ' ' || blk_read_time from pg_stat_database where datname = '{}'",
                self.name
            ),
        )?;
        let (pages, millis) = text.split_once(' ').context("no statistics")?;
        Ok((pages.parse()?, millis.parse()?))
    }

    fn launch(&self, scene: &Scene) -> Result<Service> {
        let url = scene.postgres.service_url(self.name);
        scene
            .world
            .launch_ready("api-service", &[("FUSE_DATABASE__URL", &url)])
    }

    /// An api-service as shipped, with prices, and with the upkeep of what is in the database done.
    pub fn serve(&self, scene: &Scene) -> Result<Service> {
        let api = self.launch(scene)?;
        let client = scene.world.admin(&api);
        wait_for_json(&client, "/v1/stocks", "prices", READY_DEADLINE, |page| {
            (page["items"].as_array()?.len() as u64 >= SYMBOLS).then_some(())
        })?;
        wait_for_upkeep(&api)?;
        Ok(api)
    }

    /// Runs a command of api-service on it; returns whether it succeeded, what it said and how long it took.
    pub fn command(&self, scene: &Scene, args: &[&str]) -> Result<(bool, String, Duration)> {
        let url = scene.postgres.service_url(self.name);
        let begun = Instant::now();
        let output = scene
            .world
            .run("api-service", args, &[("FUSE_DATABASE__URL", &url)])?;
        let took = begun.elapsed();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        Ok((output.status.success(), text.concat(), took))
    }

    /// What is measured must also be right: every order is filled, the holdings are the sum of the fills, to the last
    /// decimal, and versions have made a step for each.
    pub fn check_books(&self, scene: &Scene) -> Result<()> {
        self.check_books_but_for(scene, "status = 'filled'")
    }

    /// The same where orders may have been refused: none is open.
    pub fn check_books_with_refusals(&self, scene: &Scene) -> Result<()> {
        self.check_books_but_for(scene, "status in ('filled', 'rejected', 'failed')")
    }

    fn check_books_but_for(&self, scene: &Scene, allowed: &str) -> Result<()> {
        let wrong = scene.postgres.sql_within(
            BOOKS_DEADLINE,
            self.name,
            &format!("select format('%s orders have not ended as they should; holdings less fills: %s pieces for %s; steps of versions less fills: %s',
                 o.open, h.quantity - o.quantity, h.cost - o.total, p.steps - o.filled)
             from (select count(*) filter (where not ({allowed})) as open, count(*) filter (where status = 'filled') as filled,
                       coalesce(sum(fill_quantity), 0) as quantity, coalesce(sum(fill_total), 0) as total from orders) o,
                  (select coalesce(sum(quantity), 0) as quantity, coalesce(sum(cost), 0) as cost from holdings) h,
                  (select coalesce(sum(version - 1), 0) as steps from portfolios) p
             where o.open > 0 or h.quantity <> o.quantity or h.cost <> o.total or p.steps <> o.filled"),
        )?;
        ensure!(wrong.is_empty(), "the books of {} are wrong: {wrong}", self.name);
        Ok(())
    }
}

/// In the background one replica checks the whole ledger when it has begun, and extends the hash chain; over millions of orders
/// both would still go on while new ones are measured.
fn wait_for_upkeep(api: &Service) -> Result<()> {
    let begun = Instant::now();
    let mut next_line = Duration::from_secs(10);
    while let Some(behind) = api.metric("fuse_ledger_chain_lag_rows")? {
        // Until the first round of upkeep has ended, nothing is known of the lag.
        let verified_at = api.metric("fuse_ledger_chain_verified_timestamp_seconds")?;
        let is_verified = verified_at.is_some_and(|at| at > 0.0);
        if is_verified && behind <= UNCHAINED_MAX {
            break;
        }
        ensure!(
            begun.elapsed() < UPKEEP_DEADLINE,
            "the ledger was {}verified, and the chain is still {behind} events behind",
            if is_verified { "" } else { "not " }
        );
        if begun.elapsed() >= next_line {
            println!(
                "waiting for the upkeep of the ledger: {}, chain behind by {behind:.0} events (or more)",
                if is_verified { "verified" } else { "being verified" }
            );
            next_line = begun.elapsed() + Duration::from_secs(10);
        }
        std::thread::sleep(UPKEEP_POLL);
    }
    Ok(())
}
