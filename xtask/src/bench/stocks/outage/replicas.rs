//! Two replicas under one load, of which one may be restarted while the other goes on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use fuse_harness::load::{self, Inspect, Outcome, Pace, Plan, Running, Target, Until};
use fuse_harness::services::Service;

use super::ENVS;
use crate::bench::stocks::sample::{CONNECTIONS, PER_SECOND};
use crate::bench::world::{READY_DEADLINE, World, empty_log, wait_for_json};

const PATH: &str = "/v1/stocks";
const COUNT: usize = 2;
const RESTART_DEADLINE: Duration = Duration::from_secs(90);

pub struct Replicas<'w> {
    world: &'w World,
    /// The one in front is the next to be restarted.
    all: [Service; COUNT],
    /// A user's key.
    pub key: String,
}

impl<'w> Replicas<'w> {
    pub fn start(world: &'w World) -> Result<Self> {
        let launch = || world.launch_ready("api-service", &ENVS);
        let all = [launch()?, launch()?];
        let key = world.user_key(&all[0])?;
        Ok(Self { world, all, key })
    }

    /// Waits until the prices that each serves are marked so.
    pub fn wait_until_stale_is(&self, stale: bool) -> Result<()> {
        let what = if stale { "stale prices" } else { "fresh prices" };
        self.all.iter().try_for_each(|api| {
            let client = self.world.admin(api).with_key(&self.key);
            wait_for_json(&client, PATH, what, READY_DEADLINE, |page| {
                (page["snapshot"]["stale"] == stale).then_some(())
            })
        })
    }

    /// Every answer must be 2xx and marked as it should be, or this is an error.
    pub fn load(&self, time: Duration, stale: bool) -> Result<Outcome> {
        let running = self
            .all
            .iter()
            .map(|api| self.start_load(api, time, stale))
            .collect::<Result<Vec<_>>>()?;
        all_good(running.into_iter().map(Running::wait))
    }

    /// The same in an outage, with a restart halfway: the load of that replica ends before its process does, as traffic
    /// does before a pod's, and begins on the new one as soon as that says ready. Meanwhile the other one has all of it.
    pub fn load_and_restart(&mut self, time: Duration) -> Result<Outcome> {
        let steady = self.start_load(&self.all[1], time + RESTART_DEADLINE, true)?;
        let before = self.start_load(&self.all[0], time / 2, true)?.wait();
        let instead = self.start_load(&self.all[1], RESTART_DEADLINE, true)?;
        self.all[0].stop()?;
        self.all[0] = self.world.launch_ready("api-service", &ENVS)?;
        let instead = instead.stop();
        let after = self.start_load(&self.all[0], time / 2, true)?.wait();
        self.all.rotate_left(1);
        all_good([before, instead, steady.stop(), after])
    }

    /// So that a long run stays bounded.
    pub fn empty_logs(&self) -> Result<()> {
        self.all.iter().try_for_each(empty_log)
    }

    /// The part of one replica: half of the connections and of the pace.
    fn start_load(&self, api: &Service, time: Duration, stale: bool) -> Result<Running> {
        let target = Target::get(&api.http_url(), PATH, &[("x-api-key", &self.key)])?;
        let plan = Plan {
            connections: CONNECTIONS / COUNT,
            pace: Pace::PerSecond(PER_SECOND / 2.0),
            until: Until::Elapsed(time),
            inspect: Some(marked(stale)),
        };
        load::start(&[target], &plan)
    }
}

fn all_good(parts: impl IntoIterator<Item = Result<Outcome>>) -> Result<Outcome> {
    let outcome = Outcome::merged(parts.into_iter().collect::<Result<Vec<_>>>()?);
    outcome.all_good()?;
    Ok(outcome)
}

fn marked(stale: bool) -> Inspect {
    let mark: &[u8] = if stale {
        b"\"stale\":true"
    } else {
        b"\"stale\":false"
    };
    Arc::new(move |reply| {
        // The mark stands near the end, so the search is short.
        let tail = &reply.body[reply.body.len().saturating_sub(400)..];
        let is_marked = tail.windows(mark.len()).any(|window| window == mark);
        is_marked
            .then_some(())
            .ok_or_else(|| format!("not marked as it should be: {}", String::from_utf8_lossy(tail)))
    })
}
