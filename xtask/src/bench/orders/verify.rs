//! How long `api-service verify` takes to prove a ledger of a million orders, and that it finds what was changed in it.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::history;
use super::scene::{Database, Scene};
use crate::bench::figure::{Figure, Goal};

const GOAL_SECS: f64 = 30.0;
/// A statement over a million orders.
const DEADLINE: Duration = Duration::from_secs(600);
/// Where the chain ended before anything was changed.
const HEAD: &str =
    "select link || ':' || encode(hash, 'hex') from order_event_chain order by link desc limit 1";

/// A change by the owner of the tables, triggers off.
struct Tampering {
    what: &'static str,
    /// Changes it, and says what verify has to name.
    make: &'static str,
    undo: &'static str,
}

const TAMPERINGS: [Tampering; 3] = [
    Tampering {
        what: "a flipped byte",
        make: "create table target as select o.user_id, o.order_id
                   from (select * from order_event_chain order by link offset (select count(*) / 2 from order_event_chain) limit 1) c
                   join order_events e on (e.txid, e.seq, e.user_id) = (c.last_txid, c.last_seq, c.last_user_id)
                   join orders o on o.user_id = e.user_id and o.order_id = e.order_id;
               update orders o set answer_body = overlay(answer_body placing 'b' from 300 for 1)
                   from target t where o.user_id = t.user_id and o.order_id = t.order_id;
               select 'order_events ' || order_id from target",
        undo: "update orders o set answer_body = overlay(answer_body placing 'a' from 300 for 1)
                   from target t where o.user_id = t.user_id and o.order_id = t.order_id;
               drop table target",
    },
    Tampering {
        what: "a cut tail",
        make: "create table cut_link as select * from order_event_chain order by link desc limit 1;
               create table cut_events as select e.* from order_events e
                   where (e.txid, e.seq, e.user_id) > (select last_txid, last_seq, last_user_id from order_event_chain
                       order by link desc offset 1 limit 1);
               delete from order_events e using cut_events c
                   where e.user_id = c.user_id and e.order_id = c.order_id and e.status = c.status;
               delete from order_event_chain where link = (select link from cut_link);
               select 'anchor (link ' || link || ')' from cut_link",
        undo: "insert into order_events select * from cut_events;
               insert into order_event_chain select * from cut_link;
               drop table cut_events, cut_link",
    },
    Tampering {
        what: "a changed holding",
        make: "create table target as select * from holdings limit 1;
               update holdings h set quantity = h.quantity + 0.000000001
                   from target t where h.portfolio_id = t.portfolio_id and h.symbol = t.symbol;
               select 'holdings ' || portfolio_id || ' ' || symbol from target",
        undo: "update holdings h set quantity = t.quantity
                   from target t where h.portfolio_id = t.portfolio_id and h.symbol = t.symbol;
               drop table target",
    },
];

pub fn measure(quick: bool) -> Result<Vec<Figure>> {
    let (rounds, orders) = if quick { (2, 100_000) } else { (3, 1_000_000) };
    let scene = Scene::start()?;
    let database = Database::make(&scene, "verify")?;
    history::make(&scene, &database, orders)?;
    // Chains what is there.
    database.serve(&scene)?.stop()?;
    // With fewer orders the promise says nothing.
    let goal = (!quick).then_some(Goal::AtMost(GOAL_SECS));
    let mut figure = Figure::new(format!("verify {orders} orders"), "s", goal);
    for round in 1..=rounds {
        let (is_intact, said, took) = database.command(&scene, &["verify"])?;
        ensure!(is_intact, "the ledger was made legally, and verify says: {said}");
        println!("round {round}: verified in {:.1} s", took.as_secs_f64());
        figure.ours.push(took.as_secs_f64());
    }
    let head = scene.postgres.sql(database.name, HEAD)?;
    for tampering in &TAMPERINGS {
        tampering.must_be_named(&scene, &database, &head)?;
    }
    let (is_intact, said, _) = database.command(&scene, &["verify", "--anchor", &head])?;
    ensure!(is_intact, "all changes were undone, and verify says: {said}");
    Ok(vec![figure])
}

impl Tampering {
    fn must_be_named(&self, scene: &Scene, database: &Database, head: &str) -> Result<()> {
        let as_owner = |sql: &str| {
            let sql = format!("set session_replication_role = replica; {sql}");
            scene.postgres.sql_within(DEADLINE, database.name, &sql)
        };
        let row = as_owner(self.make)?;
        let (is_intact, said, took) = database.command(scene, &["verify", "--anchor", head])?;
        let named = said.lines().find(|line| line.contains("NOT what it should be"));
        ensure!(
            !is_intact && !row.is_empty() && named.is_some_and(|line| line.contains(&row)),
            "{} ({row}) is not named: {said}",
            self.what
        );
        println!(
            "{}: {} ({:.1} s)",
            self.what,
            named.unwrap_or_default(),
            took.as_secs_f64()
        );
        as_owner(self.undo)?;
        Ok(())
    }
}
