//! A replica stands still after the commit of an order and before the call of the vendor: when it goes on, the order has been given
//! up and may have been resolved as never executed, so it must not be sent any more.

use anyhow::{Context as _, Result, ensure};
use fuse_harness::proxy::Mode;
use fuse_harness::services::Service;
use fuse_harness::wait;
use nix::sys::signal::Signal;

use crate::support::{Case, SOON, new_key};

/// However long this replica waits for its database, it does not give up.
const PATIENT: [(&str, &str); 3] = [
    ("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "15000"),
    ("FUSE_DATABASE__ACQUIRE_TIMEOUT_MILLIS", "15000"),
    ("FUSE_DATABASE__STATEMENT_TIMEOUT_MILLIS", "60000"),
];
/// An order is given up two seconds after it was placed: this, and the margin of the tests' worlds.
const IMPATIENT: [(&str, &str); 1] = [("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "1000")];

/// Write 1 waits before its commit for as long as the gate is there. Neither limit of a statement applies to this wait.
const SHUT: &str = "
    create table gate ();
    insert into gate default values;
    create function wait_at_the_gate() returns trigger language plpgsql as $$ begin
        while exists (select from public.gate) loop perform pg_sleep(0.02); end loop;
        return null;
    end $$;
    create trigger gate after insert on orders for each statement execute function wait_at_the_gate()";
const WAITING: &str =
    "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'";
const SUBMITTED: &str = "select count(*) from orders where status = 'submitted'";

#[test]
fn an_order_that_became_too_old_before_it_was_sent_is_never_sent() -> Result<()> {
    let mut case = Case::start_apart(&IMPATIENT, &PATIENT)?;
    ensure!(case.place(0, &new_key(), &case.unique_order())?.status == 201);
    let sent_before = case.world.vendor.counters().buys.received;

    case.world.sql(SHUT)?;
    let (key, order) = (new_key(), case.unique_order());
    let begun = case.begin(0, &key, &order);
    becomes_one(&case, "write 1 at the gate", WAITING)?;
    // The statement has passed and its answer does not: PostgreSQL commits what the replica does not hear of.
    case.world.proxy.set(Mode::Hang)?;
    case.world.sql("delete from gate")?;
    becomes_one(&case, "the commit of write 1", SUBMITTED)?;
    stand_still(case.world.replica(0))?;
    case.world.proxy.set(Mode::Forward)?;
    let id = case.only("unknown")?;
    let swept = case.place(1, &key, &order)?;
    ensure!(
        swept.status == 202 && swept.json()["status"] == "unknown",
        "{swept:?}"
    );

    case.world.replica(0).proc().signal(Signal::SIGCONT)?;
    let told = case.end(begun)?.context("its client waited all the time")?;
    ensure!(told.body == swept.body, "{told:?} after {swept:?}");
    let sent = case.world.vendor.counters().buys.received;
    ensure!(sent == sent_before, "the vendor was asked to buy it");
    let replica = case.world.replica(0);
    replica.wait_for_log("the order to be too old", SOON, |line| {
        line["message"] == "an order is too old to be sent" && line["order.id"] == id
    })?;
    // Nobody knew; now it is known, as nothing was sent.
    case.wait_for_status(1, &id, "failed")?;
    ensure!(case.read(1, &id)?["reason"] == "vendor_unreachable");
    ensure!(case.path_of(&id)? == "submitted unknown failed");
    case.count()
}

/// The kernel stops a process when one of its threads takes the signal; until then the others go on.
fn stand_still(service: &Service) -> Result<()> {
    service.proc().signal(Signal::SIGSTOP)?;
    let threads = format!("/proc/{}/task", service.pid());
    wait::until("every thread to be stopped", SOON, || {
        let is_stopped = |thread: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).ok()?;
            Some(stat.rsplit_once(") ")?.1.starts_with('T'))
        };
        let mut threads = std::fs::read_dir(&threads).ok()?.flatten();
        threads
            .all(|thread| is_stopped(thread) == Some(true))
            .then_some(())
    })
}

fn becomes_one(case: &Case, what: &str, count: &str) -> Result<()> {
    wait::until(what, SOON, || (case.world.count(count).ok()? == 1).then_some(()))
}
