//! While orders are at the vendor.

use anyhow::{Result, anyhow};
use fuse_harness::wait;
use vendor_simulator::{Action, Latency, Operation, Rule};

use crate::support::{PATIENCE, Setup, World};

const ORDERS: u64 = 8;

/// Orders that are at the vendor hold nothing of the database: no connection that works, and no open transaction.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_open_in_the_database_while_the_vendor_has_orders() -> Result<()> {
    let world = World::with(Setup {
        env: vec![
            ("FUSE_VENDOR__BUY_TIMEOUT_MILLIS", "30000".to_owned()),
            ("FUSE_LIMITS__REQUEST_TIMEOUT_SECS", "60".to_owned()),
        ],
        ..Setup::default()
    })
    .await?;
    let slow = Action::Latency(Latency::Fixed { ms: 5_000 });
    world
        .simulator
        .add_rule(Rule::on(Operation::Buy, slow))
        .map_err(|error| anyhow!("{error}"))?;
    let calls: Vec<_> = (0..ORDERS)
        .map(|_| tokio::spawn(world.order(&world.good_order()).send()))
        .collect();
    wait::until("the vendor to have them all", PATIENCE, || {
        (world.vendor_buys().0 == ORDERS).then_some(())
    })?;
    let sessions = |states: &str| {
        world.sql(&format!(
            "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() \
                 and backend_type = 'client backend' and state {states}"
        ))
    };
    assert_ne!(sessions("is not null")?, "0", "the service has connections");
    // Its upkeep looks into the database now and then, for milliseconds.
    wait::until("no session that is busy or in a transaction", PATIENCE, || {
        (sessions("<> 'idle'").ok()? == "0").then_some(())
    })?;
    let counters = world.simulator.counters();
    assert_eq!(
        (counters.in_flight, counters.buys.answered),
        (ORDERS, 0),
        "the vendor still has them all"
    );
    assert_eq!(
        world.sql("select count(*) from orders where status = 'submitted'")?,
        ORDERS.to_string()
    );
    for call in calls {
        assert_eq!(call.await??.status, 201);
    }
    Ok(())
}
