//! What is done to a world under load. Each blow ends with everything up again.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::world::World;
use crate::proxy::Mode;
use crate::random::Random;

/// How long an outage lasts at most; two waits for a connection, and longer than a buy may take.
const OUTAGE_MS_MAX: u64 = 1_500;

/// One fault of a process or of the way to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL to a replica.
    KillReplica { replica: usize },
    /// SIGSTOP to a replica, later SIGCONT.
    PauseReplica { replica: usize, outage: Duration },
    /// All connections to PostgreSQL are reset, so many times.
    CutDatabase { times: u64 },
    /// The network to PostgreSQL keeps bytes back, then lets them pass.
    HangDatabase { outage: Duration, kill: Option<usize> },
    /// PostgreSQL refuses connections for a time.
    RefuseDatabase { outage: Duration, kill: Option<usize> },
    /// SIGKILL to PostgreSQL; it recovers when it is started again.
    KillPostgres { kill: Option<usize> },
    /// PostgreSQL is restarted in order.
    RestartPostgres,
    /// SIGSTOP to PostgreSQL and its sessions, later SIGCONT.
    PausePostgres { outage: Duration },
}

impl Blow {
    /// Half of all blows kill a replica alone; of those to the database one in three kills a replica in the middle of it.
    #[must_use]
    pub fn draw(random: &mut Random, replicas: usize) -> Self {
        let replica = usize::try_from(random.below(replicas as u64)).expect("an index");
        let outage = Duration::from_millis(50 + random.below(OUTAGE_MS_MAX));
        let kill = random.percent(33).then_some(replica);
        match random.below(100) {
            0..50 => Self::KillReplica { replica },
            50..58 => Self::PauseReplica { replica, outage },
            58..66 => Self::CutDatabase {
                times: 1 + random.below(5),
            },
            66..74 => Self::HangDatabase { outage, kill },
            74..82 => Self::RefuseDatabase { outage, kill },
            82..90 => Self::KillPostgres { kill },
            90..95 => Self::RestartPostgres,
            _ => Self::PausePostgres { outage },
        }
    }

    /// What it does, counted.
    #[must_use]
    pub fn toll(self) -> Toll {
        let none = Toll::default();
        let kills = |replica: Option<usize>| u64::from(replica.is_some());
        match self {
            Self::KillReplica { replica } => Toll {
                replicas_killed: kills(Some(replica)),
                ..none
            },
            Self::PauseReplica { .. } => Toll {
                replicas_paused: 1,
                ..none
            },
            Self::CutDatabase { times } => Toll { cuts: times, ..none },
            Self::HangDatabase { kill, .. } => Toll {
                hangs: 1,
                replicas_killed: kills(kill),
                ..none
            },
            Self::RefuseDatabase { kill, .. } => Toll {
                refusals: 1,
                replicas_killed: kills(kill),
                ..none
            },
            Self::KillPostgres { kill } => Toll {
                servers_killed: 1,
                replicas_killed: kills(kill),
                ..none
            },
            Self::RestartPostgres => Toll {
                servers_restarted: 1,
                ..none
            },
            Self::PausePostgres { .. } => Toll {
                servers_paused: 1,
                ..none
            },
        }
    }

    /// Strikes, and puts everything up again.
    ///
    /// # Errors
    /// When a process does not come back.
    pub fn strike(self, world: &mut World) -> Result<()> {
        match self {
            Self::KillReplica { replica } => {
                world.kill_replica(replica)?;
                world.start_replica(replica)
            }
            Self::PauseReplica { replica, outage } => {
                world.replica(replica).proc().signal(Signal::SIGSTOP)?;
                last(outage);
                world.replica(replica).proc().signal(Signal::SIGCONT)
            }
            Self::CutDatabase { times } => {
                for _ in 0..times {
                    world.proxy.cut();
                    last(Duration::from_millis(30));
                }
                Ok(())
            }
            Self::HangDatabase { outage, kill } => outage_of(world, Mode::Hang, outage, kill),
            Self::RefuseDatabase { outage, kill } => outage_of(world, Mode::Refuse, outage, kill),
            Self::KillPostgres { kill } => {
                world.postgres.kill()?;
                if let Some(replica) = kill {
                    world.kill_replica(replica)?;
                    world.start_replica(replica)?;
                }
                world.postgres.restart()
            }
            Self::RestartPostgres => {
                world.postgres.stop()?;
                world.postgres.restart()
            }
            Self::PausePostgres { outage } => {
                world.postgres.pause()?;
                last(outage);
                world.postgres.resume()
            }
        }
    }
}

/// What blows did, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Toll {
    pub replicas_killed: u64,
    pub servers_killed: u64,
    pub replicas_paused: u64,
    pub servers_paused: u64,
    pub servers_restarted: u64,
    /// Times that all connections to PostgreSQL were reset.
    pub cuts: u64,
    /// Outages in which PostgreSQL does not answer.
    pub hangs: u64,
    /// Outages in which it refuses connections.
    pub refusals: u64,
}

impl Toll {
    /// Processes that got SIGKILL.
    #[must_use]
    pub fn kills(&self) -> u64 {
        self.replicas_killed + self.servers_killed
    }
}

impl AddAssign for Toll {
    fn add_assign(&mut self, other: Self) {
        self.replicas_killed += other.replicas_killed;
        self.servers_killed += other.servers_killed;
        self.replicas_paused += other.replicas_paused;
        self.servers_paused += other.servers_paused;
        self.servers_restarted += other.servers_restarted;
        self.cuts += other.cuts;
        self.hangs += other.hangs;
        self.refusals += other.refusals;
    }
}

impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} processes killed ({} replicas, {} PostgreSQL servers), {} replicas and {} servers paused, {} servers restarted, \
             connections cut {} times, {} outages of the database ({} hung, {} refused)",
            self.kills(),
            self.replicas_killed,
            self.servers_killed,
            self.replicas_paused,
            self.servers_paused,
            self.servers_restarted,
            self.cuts,
            self.hangs + self.refusals,
            self.hangs,
            self.refusals
        )
    }
}

fn outage_of(world: &mut World, mode: Mode, outage: Duration, kill: Option<usize>) -> Result<()> {
    world.proxy.set(mode)?;
    last(outage);
    if let Some(replica) = kill {
        world.kill_replica(replica)?;
        world.start_replica(replica)?;
    }
    world.proxy.set(Mode::Forward)
}

/// How long a fault lasts is part of the fault; nothing is waited for.
fn last(time: Duration) {
    std::thread::sleep(time);
}
