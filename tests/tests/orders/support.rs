//! What the tests of orders share: a world with one round, and orders placed by hand that are counted like those of a load.

use std::cell::Cell;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use fuse_harness::chaos::{
    Evidence, Got, Journal, Options, Quote, Traffic, User, Violations, World, place_all, violations,
};
use fuse_harness::figures;
use fuse_harness::postgres::PostgresOptions;
use fuse_harness::wait;
use serde_json::{Value, json};
use uuid::Uuid;

/// For anything that a loaded machine does in the end.
pub const SOON: Duration = Duration::from_secs(90);

/// An order that is being placed.
pub struct Begun {
    key: String,
    request: JoinHandle<Result<Vec<Option<Got>>>>,
}

/// A world with its users and prices, and what was told to those users.
pub struct Case {
    pub world: World,
    pub users: Vec<User>,
    pub quotes: Vec<Quote>,
    journal: Arc<Journal>,
    serial: Cell<u32>,
}

impl Case {
    /// So many replicas. Waits are patient: a loaded machine makes no answer late.
    pub fn start(replicas: usize) -> Result<Self> {
        Self::start_with(replicas, PostgresOptions::default(), &patient())
    }

    pub fn start_with(replicas: usize, postgres: PostgresOptions, settings: &[(&str, &str)]) -> Result<Self> {
        let settings = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let world = World::with_replicas(replicas, Options { postgres, settings })?;
        let users = (0..3)
            .map(|number| world.user(&format!("user {number}"), 1))
            .collect::<Result<Vec<_>>>()?;
        let quotes = world.quotes()?;
        ensure!(quotes.len() > 1, "hardly a stock: {quotes:?}");
        Ok(Self {
            world,
            users,
            quotes,
            journal: Arc::default(),
            serial: Cell::new(0),
        })
    }

    /// Two replicas of which the first alone reaches the database through the proxy, with settings of its own: it can be cut off
    /// while the second one goes on.
    pub fn start_apart(settings: &[(&str, &str)], of_the_first: &[(&str, &str)]) -> Result<Self> {
        let mut case = Self::start_with(2, PostgresOptions::default(), settings)?;
        let past_the_proxy = case.direct_url()?;
        case.world.kill_replica(1)?;
        case.world
            .start_replica_with(1, &[("FUSE_DATABASE__URL", &past_the_proxy)])?;
        case.world.kill_replica(0)?;
        case.world.start_replica_with(0, of_the_first)?;
        Ok(case)
    }

    /// An order of the first user at the quote. Its quantity tells it from every other order at the vendor.
    pub fn order(&self, quantity: &str) -> Value {
        json!({
            "symbol": self.quotes[0].symbol,
            "side": "buy",
            "quantity": quantity,
            "limitPrice": figures::text(self.quotes[0].price),
        })
    }

    /// The same in a quantity that neither a load nor an earlier call of this gives.
    pub fn unique_order(&self) -> Value {
        let number = self.serial.get() + 1;
        self.serial.set(number);
        self.order(&format!("0.{number:06}1"))
    }

    /// Places it for the first user at a replica; an answer must come.
    pub fn place(&self, replica: usize, key: &str, order: &Value) -> Result<Got> {
        let url = self.world.urls().swap_remove(replica);
        let mut got = self.place_at(&[url], vec![(key.to_owned(), order.clone())], 1)?;
        got.pop().flatten().context("no answer")
    }

    /// Begins to place it at a replica; the answer comes when it comes.
    pub fn begin(&self, replica: usize, key: &str, order: &Value) -> Begun {
        self.journal.sends(0, key, order);
        let (url, user) = (self.world.urls().swap_remove(replica), self.users[0].clone());
        let orders = vec![(key.to_owned(), order.clone())];
        Begun {
            key: key.to_owned(),
            request: thread::spawn(move || place_all(&[url], &user, orders, 1)),
        }
    }

    /// The answer to what was begun; `None` when its connection broke.
    pub fn end(&self, begun: Begun) -> Result<Option<Got>> {
        let answers = begun.request.join().map_err(|_| anyhow!("a request panicked"))?;
        let got = answers?.pop().flatten();
        self.journal.gets(&begun.key, got.as_ref());
        Ok(got)
    }

    /// Waits until the vendor has been asked to buy so often since the start.
    pub fn wait_for_buys(&self, count: u64) -> Result<()> {
        wait::until("the vendor to be asked", SOON, || {
            (self.world.vendor.counters().buys.received >= count).then_some(())
        })
    }

    /// Places orders of the first user under their keys, so many at a time, over all replicas. Each must get an answer.
    pub fn place_all(&self, orders: Vec<(String, Value)>, at_once: usize) -> Result<Vec<Got>> {
        let answers = self.place_at(&self.world.urls(), orders, at_once)?;
        answers
            .into_iter()
            .collect::<Option<_>>()
            .context("a request without an answer")
    }

    fn place_at(
        &self,
        urls: &[String],
        orders: Vec<(String, Value)>,
        at_once: usize,
    ) -> Result<Vec<Option<Got>>> {
        for (key, order) in &orders {
            self.journal.sends(0, key, order);
        }
        let answers = place_all(urls, &self.users[0], orders.clone(), at_once)?;
        for ((key, order), got) in orders.iter().zip(&answers) {
            // Another order under a known key is not what the key stands for.
            if self.journal.entry(key).is_some_and(|entry| entry.order == *order) {
                self.journal.gets(key, got.as_ref());
            }
        }
        Ok(answers)
    }

    /// An order of the first user as it is now.
    pub fn read(&self, replica: usize, id: &Value) -> Result<Value> {
        let path = format!("/v1/orders/{}", id.as_str().context("an id")?);
        self.world
            .client(replica, &self.users[0].key)
            .get(&path)?
            .expect(200)
    }

    /// Waits until a replica says so of an order of the first user.
    pub fn wait_for_status(&self, replica: usize, id: &Value, status: &str) -> Result<()> {
        wait::until(&format!("the order to be {status}"), SOON, || {
            (self.read(replica, id).ok()?["status"] == status).then_some(())
        })
    }

    /// The id of the only order in that state, asked of the ledger itself.
    pub fn only(&self, status: &str) -> Result<Value> {
        let sql = format!("select order_id from orders where status = '{status}'");
        let id = wait::until(&format!("one order that is {status}"), SOON, || {
            let ids = self.world.sql(&sql).ok()?;
            (ids.lines().count() == 1 && !ids.is_empty()).then_some(ids)
        })?;
        Ok(json!(id))
    }

    /// The states that an order went through, asked of the ledger itself.
    pub fn path_of(&self, id: &Value) -> Result<String> {
        self.world.sql(&format!(
            "select string_agg(status, ' ' order by txid, seq) from order_events where order_id = '{}'",
            id.as_str().context("an id")?
        ))
    }

    /// URL of the round's database for the services, past the proxy.
    pub fn direct_url(&self) -> Result<String> {
        let database = self.world.sql("select current_database()")?;
        Ok(self.world.postgres.service_url(&database))
    }

    /// A mixed load of these clients on all replicas.
    pub fn traffic(&self, seed: u64, clients: u64, urls: Vec<String>) -> Result<Traffic> {
        Traffic::start(seed, clients, urls, self.users.clone(), self.quotes.clone())
    }

    /// Waits for rest and counts what was placed by hand: nothing may be wrong. What the count itself asks is not remembered.
    pub fn count(&mut self) -> Result<()> {
        let journal = Journal::default();
        journal.take_in(&self.journal);
        self.count_of(Arc::new(journal))
    }

    /// The same for a load, which it ends. What was placed by hand beside it is counted too.
    pub fn count_with(&mut self, traffic: Traffic) -> Result<()> {
        let journal = traffic.stop()?;
        journal.take_in(&self.journal);
        self.count_of(journal)
    }

    /// Counts where something is wrong by design: all that is found must hold one of these texts.
    pub fn count_but_for(&mut self, known: &[&str]) -> Result<()> {
        let journal = Journal::default();
        journal.take_in(&self.journal);
        let mut found = self.found_by_count(Arc::new(journal))?;
        ensure!(!found.is_empty(), "the count finds nothing wrong");
        found.retain(|line| !known.iter().any(|text| line.contains(text)));
        ensure!(found.is_empty(), "{}", found.join("\n"));
        Ok(())
    }

    fn count_of(&mut self, journal: Arc<Journal>) -> Result<()> {
        let found = self.found_by_count(journal)?;
        ensure!(found.is_empty(), "{}", found.join("\n"));
        Ok(())
    }

    fn found_by_count(&mut self, journal: Arc<Journal>) -> Result<Violations> {
        self.world.rest()?;
        let users = self.users.clone();
        violations(&self.world, &Evidence { journal, users })
    }
}

/// Settings under which nothing is late on a loaded machine.
pub fn patient() -> [(&'static str, &'static str); 2] {
    [
        ("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "15000"),
        ("FUSE_DATABASE__ACQUIRE_TIMEOUT_MILLIS", "15000"),
    ]
}

/// A key that was never used.
pub fn new_key() -> String {
    Uuid::new_v4().to_string()
}
