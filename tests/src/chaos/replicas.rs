//! The replicas of a world: started, killed, and at rest.

use std::time::Duration;

use anyhow::Result;

use super::world::{ADMIN_KEY, World};
use crate::client::ApiClient;
use crate::proxy::Mode;
use crate::services::Service;
use crate::wait;

/// For anything that a loaded machine does in the end.
pub(super) const SOON: Duration = Duration::from_secs(90);

impl World {
    /// Starts a replica that does not run, and waits until it serves prices; it needs no database for that.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_replica(&mut self, index: usize) -> Result<()> {
        self.start_replica_with(index, &[])
    }

    /// The same with settings of its own, which win over the world's.
    ///
    /// # Errors
    /// As [`World::start_replica`].
    pub fn start_replica_with(&mut self, index: usize, settings: &[(&str, &str)]) -> Result<()> {
        let url = self.postgres.service_url(&self.database).replace(
            &format!(":{}/", self.postgres.port()),
            &format!(":{}/", self.proxy.address().port()),
        );
        let replica = &mut self.replicas[index];
        if replica.service.is_some() {
            return Ok(());
        }
        let mut envs = self.settings.clone();
        envs.push(("FUSE_DATABASE__URL".to_owned(), url));
        envs.push(("FUSE_ORDERS__SWEEP_MARGIN_SECS".to_owned(), "1".to_owned()));
        envs.push((
            "FUSE_HTTP__LISTEN".to_owned(),
            replica.port.on_loopback().to_string(),
        ));
        let own = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let service = Service::spawn("api-service", &[], envs.into_iter().chain(own))?;
        let client = ApiClient::new(service.http_url(), None, ADMIN_KEY);
        wait::until("prices", SOON, || {
            let answer = client.get("/v1/stocks?limit=1").ok()?;
            (answer.status == 200).then_some(())
        })
        .map_err(|error| service.proc().explain(error))?;
        replica.service = Some(service);
        Ok(())
    }

    /// SIGKILL, as a crash.
    ///
    /// # Errors
    /// When it survives.
    pub fn kill_replica(&mut self, index: usize) -> Result<()> {
        if let Some(service) = self.replicas[index].service.take() {
            service.kill9()?;
            self.complaints.extend(complaints(&service));
        }
        Ok(())
    }

    /// SIGTERM, as an orderly restart.
    ///
    /// # Errors
    /// When it survives.
    pub fn stop_replica(&mut self, index: usize) -> Result<()> {
        if let Some(service) = self.replicas[index].service.take() {
            service.stop()?;
            self.complaints.extend(complaints(&service));
        }
        Ok(())
    }

    /// Ends every fault and waits until nothing is under way: no request, no outcome that waits for the database, no order that the
    /// sweeper is due to take. The load must have ended.
    ///
    /// # Errors
    /// When the world finds no rest; the message says what is still going on.
    pub fn rest(&mut self) -> Result<()> {
        self.vendor.clear_rules();
        self.proxy.set(Mode::Forward)?;
        self.postgres.restart()?;
        for index in 0..self.replicas.len() {
            self.start_replica(index)?;
        }
        for index in 0..self.replicas.len() {
            wait::until("a replica at rest", SOON, || self.is_at_rest(index).then_some(()))
                .map_err(|error| self.replica(index).proc().explain(error))?;
        }
        let submitted = "select count(*) from orders where status = 'submitted'";
        wait::until("submitted orders to be swept", SOON, || {
            (self.count(submitted).ok()? == 0).then_some(())
        })
    }

    fn is_at_rest(&self, index: usize) -> bool {
        let replica = self.replica(index);
        let zero = |series: &str| replica.metric(series).ok().flatten() == Some(0.0);
        let finds_database = || {
            let answer = self.client(index, ADMIN_KEY).get("/v1/orders?limit=1");
            answer.is_ok_and(|answer| answer.status == 200)
        };
        zero("fuse_http_in_flight_requests") && zero("fuse_order_settlements_waiting") && finds_database()
    }

    /// What the replicas of this round said that none should ever say.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let running = self
            .replicas
            .iter()
            .filter_map(|replica| replica.service.as_ref());
        let found = running.flat_map(complaints);
        self.complaints.iter().cloned().chain(found).collect()
    }
}

/// Panics, and lines by which someone must act.
fn complaints(service: &Service) -> Vec<String> {
    let is_complaint = |line: &&str| line.contains("panicked") || line.contains("\"level\":\"error\"");
    let log = service.log_text();
    log.lines()
        .filter(is_complaint)
        .take(5)
        .map(str::to_owned)
        .collect()
}
