//! What one order costs: CPU time of everybody who has a part in it, time by phase, and bytes of WAL; PostgreSQL's share beside
//! what pgbench makes it spend.

use std::time::Duration;

use anyhow::{Context as _, Result};
use fuse_harness::usage;

use super::ours::Ours;
use super::pgbench::{Commit, Pgbench};
use super::scene::{Database, Scene};
use super::{SPREAD, Sample, count};
use crate::bench::figure::Figure;

const WARM_UP: Duration = Duration::from_secs(3);
/// Phases of `fuse_order_duration_seconds`; `own` is the total less the vendor's part.
const PHASES: [&str; 4] = ["quote", "vendor", "commit", "own"];
/// Threads of the simulated vendor, which runs inside of this process.
const VENDOR_THREADS: &str = "vendor-simulator";

pub fn measure(quick: bool) -> Result<Vec<Figure>> {
    let (rounds, secs) = if quick { (4, 3) } else { (10, 8) };
    let each = Duration::from_secs(secs);
    let scene = Scene::start()?;
    let database = Database::make(&scene, "cost")?;
    let ours = Ours::start(&scene, &database, SPREAD)?;
    let pgbench = Pgbench {
        scene: &scene,
        database: &database,
        reach: SPREAD,
        answer_bytes: ours.answer_bytes,
    };
    ours.sample(WARM_UP)?;
    pgbench.sample(Commit::Each, WARM_UP)?;
    database.analyze(&scene)?;
    let mut figures = Figures::new();
    for round in 1..=rounds {
        let own = of_ours(&scene, &ours, each)?;
        let (yardstick, orders) = of_pgbench(&scene, &pgbench, each)?;
        println!(
            "round {round:>2} an order of ours: api-service {:.3} ms CPU, PostgreSQL {:.3} ms, {:.0} bytes of WAL; of pgbench: \
             PostgreSQL {:.3} ms, {:.0} bytes; {} and {orders} orders",
            own.api,
            own.server.postgres,
            own.server.wal,
            yardstick.postgres,
            yardstick.wal,
            own.sample.orders
        );
        figures.add(&own, &yardstick);
    }
    ours.api.stop()?;
    database.check_books(&scene)?;
    Ok(figures.into_list())
}

/// Milliseconds of CPU time, and bytes, for each order.
pub struct Server {
    pub postgres: f64,
    pub wal: f64,
}

/// What a load came to, and milliseconds of CPU time for each order of it.
pub struct Cost {
    pub sample: Sample,
    pub api: f64,
    pub server: Server,
    vendor: f64,
    generator: f64,
    /// Milliseconds, as in [`PHASES`].
    phases: [f64; 4],
}

/// Orders for so long, and their cost.
pub fn of_ours(scene: &Scene, ours: &Ours<'_>, time: Duration) -> Result<Cost> {
    // What the turn before left to be written is not this one's.
    scene.checkpoint()?;
    let api = usage::cpu(ours.api.pid())?;
    let vendor = usage::own_threads_cpu(VENDOR_THREADS)?;
    let phases = phases(ours)?;
    let before = server(scene)?;
    let taken = ours.sample(time)?;
    let orders = count(taken.sample.orders);
    let after = server(scene)?;
    let millis =
        |later: Duration, earlier: Duration| later.saturating_sub(earlier).as_secs_f64() * 1e3 / orders;
    let mut each = [0.0; 4];
    for ((each, later), earlier) in each.iter_mut().zip(self::phases(ours)?).zip(phases) {
        *each = (later.0 - earlier.0) * 1e3 / (later.1 - earlier.1);
    }
    Ok(Cost {
        api: millis(usage::cpu(ours.api.pid())?, api),
        server: per_order(&before, &after, orders),
        vendor: millis(usage::own_threads_cpu(VENDOR_THREADS)?, vendor),
        generator: millis(taken.generator_cpu, Duration::ZERO),
        phases: each,
        sample: taken.sample,
    })
}

fn of_pgbench(scene: &Scene, pgbench: &Pgbench<'_>, time: Duration) -> Result<(Server, u64)> {
    scene.checkpoint()?;
    let before = server(scene)?;
    let sample = pgbench.sample(Commit::Each, time)?;
    let after = server(scene)?;
    Ok((per_order(&before, &after, count(sample.orders)), sample.orders))
}

/// CPU time of all its processes and bytes of WAL so far.
fn server(scene: &Scene) -> Result<(Duration, u64)> {
    let pid = scene.postgres.pid().context("PostgreSQL is stopped")?;
    Ok((usage::cpu_of_family(pid)?, scene.wal_bytes()?))
}

fn per_order(before: &(Duration, u64), after: &(Duration, u64), orders: f64) -> Server {
    Server {
        postgres: after.0.saturating_sub(before.0).as_secs_f64() * 1e3 / orders,
        wal: count(after.1 - before.1) / orders,
    }
}

/// Seconds and orders of each phase so far.
fn phases(ours: &Ours<'_>) -> Result<[(f64, f64); 4]> {
    let mut all = [(0.0, 0.0); 4];
    for (phase, name) in all.iter_mut().zip(PHASES) {
        let series = |kind: &str| -> Result<f64> {
            let series = format!("fuse_order_duration_seconds_{kind}{{phase=\"{name}\"}}");
            ours.api.metric(&series)?.with_context(|| format!("no {series}"))
        };
        *phase = (series("sum")?, series("count")?);
    }
    Ok(all)
}

struct Figures {
    api: Figure,
    postgres: Figure,
    vendor: Figure,
    generator: Figure,
    phases: Vec<Figure>,
    wal: Figure,
}

impl Figures {
    fn new() -> Self {
        let cpu = |who: &str| Figure::new(format!("an order: CPU time of {who}"), "ms", None);
        Self {
            api: cpu("api-service"),
            postgres: cpu("PostgreSQL, beside pgbench"),
            vendor: cpu("the simulated vendor"),
            generator: cpu("the load generator"),
            phases: PHASES
                .map(|phase| Figure::new(format!("an order: time, {phase}"), "ms", None))
                .into(),
            wal: Figure::new("an order: WAL, beside pgbench", "bytes", None),
        }
    }

    fn add(&mut self, own: &Cost, yardstick: &Server) {
        self.api.ours.push(own.api);
        self.postgres.pair(own.server.postgres, yardstick.postgres);
        self.vendor.ours.push(own.vendor);
        self.generator.ours.push(own.generator);
        for (figure, value) in self.phases.iter_mut().zip(own.phases) {
            figure.ours.push(value);
        }
        self.wal.pair(own.server.wal, yardstick.wal);
    }

    fn into_list(self) -> Vec<Figure> {
        let mut list = vec![self.api, self.postgres, self.vendor, self.generator];
        list.extend(self.phases);
        list.push(self.wal);
        list
    }
}
