//! Runs the operator: watches fill the stores and say which services to look at; a queue debounces, limits and repeats.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fuse_platform::Condition;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::apply::Cluster;
use crate::backoff::Backoff;
use crate::config::ControllerSettings;
use crate::error::Retry;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::reconcile::{Context, Next, reconcile};
use crate::stores::{ServiceKey, Stores};

mod queue;
mod watches;

use queue::Queue;

/// Connecting to the API server; every request has its own deadline besides.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Signals that may wait; a full channel slows the watches down, not the memory up.
const SIGNALS_MAX: usize = 256;
/// Reconciles under way at the end may take this long: one request's deadline and a little.
const STOP_GRACE: Duration = Duration::from_secs(6);

/// What a watch tells the controller.
#[derive(Debug)]
enum Signal {
    /// Facts about these services changed.
    Changed(Vec<ServiceKey>),
    /// The watch of this name has everything that there is.
    Synced(String),
}

/// A client that counts its writes and repeats nothing by itself: a hidden retry could write after the operator
/// stopped.
///
/// # Errors
/// The configuration does not make a client (certificates, proxy).
pub fn connect(mut config: kube::Config, metrics: &Metrics) -> kube::Result<kube::Client> {
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let builder = kube::client::ClientBuilder::try_from(config)?;
    Ok(builder.with_layer(&metrics.layer()).build())
}

/// Looks after all services until `shutdown`. `synced` is met once every watch has its list.
pub async fn run(
    client: kube::Client,
    settings: ControllerSettings,
    metrics: Metrics,
    synced: Condition,
    shutdown: CancellationToken,
) {
    let context = Arc::new(Context {
        cluster: Cluster(client),
        stores: Stores::default(),
        ledger: Ledger::default(),
        metrics: metrics.clone(),
        watches_secrets: settings.watch_secrets,
    });
    let (sender, mut signals) = mpsc::channel(SIGNALS_MAX);
    let mut watches = JoinSet::new();
    let pending = watches::spawn(&mut watches, &context, &settings, &sender);
    let mut controller = Controller {
        context,
        queue: Queue::new(settings.debounce),
        backoffs: HashMap::new(),
        running: JoinSet::new(),
        keys: HashMap::new(),
        settings,
    };
    tokio::select! {
        () = shutdown.cancelled() => return,
        () = controller.sync(&mut signals, pending, &synced) => {}
    }
    metrics.leader.set(1);
    tracing::info!("all watches have their lists");
    controller.work(&mut signals, &shutdown).await;
    watches.abort_all();
    controller.stop().await;
    metrics.leader.set(0);
}

struct Controller {
    context: Arc<Context>,
    settings: ControllerSettings,
    queue: Queue,
    backoffs: HashMap<ServiceKey, Backoff>,
    running: JoinSet<Next>,
    keys: HashMap<Id, ServiceKey>,
}

impl Controller {
    /// Nothing is reconciled before every watch has its list: what is not in the stores would be taken for missing.
    async fn sync(
        &mut self,
        signals: &mut mpsc::Receiver<Signal>,
        mut pending: BTreeSet<String>,
        synced: &Condition,
    ) {
        while !pending.is_empty() {
            let names: Vec<&str> = pending.iter().map(String::as_str).collect();
            synced.unmet(format!("no list yet of {}", names.join(", ")));
            match signals.recv().await {
                Some(Signal::Synced(name)) => {
                    pending.remove(&name);
                }
                Some(Signal::Changed(keys)) => self.trigger(keys),
                None => return,
            }
        }
        synced.met();
    }

    async fn work(&mut self, signals: &mut mpsc::Receiver<Signal>, shutdown: &CancellationToken) {
        loop {
            self.start_due();
            let due = self.next_due();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                signal = signals.recv() => match signal {
                    Some(Signal::Changed(keys)) => self.trigger(keys),
                    Some(Signal::Synced(_)) => {}
                    None => return,
                },
                Some(ended) = self.running.join_next_with_id() => self.ended(ended),
                () = sleep_until(due) => {}
            }
        }
    }

    fn trigger(&mut self, keys: Vec<ServiceKey>) {
        let now = Instant::now();
        for key in keys {
            self.queue.trigger(key, now);
        }
    }

    /// `None` while all places are taken: the end of a reconcile wakes us up.
    fn next_due(&self) -> Option<Instant> {
        (self.running.len() < self.settings.concurrency)
            .then(|| self.queue.next_due())
            .flatten()
    }

    fn start_due(&mut self) {
        let free = self.settings.concurrency.saturating_sub(self.running.len());
        for key in self.queue.take(Instant::now(), free) {
            let context = Arc::clone(&self.context);
            let task = {
                let key = key.clone();
                async move { reconcile(&context, &key).await }
            };
            let id = self.running.spawn(task).id();
            self.keys.insert(id, key);
        }
    }

    fn ended(&mut self, ended: Result<(Id, Next), JoinError>) {
        let (id, next) = match ended {
            Ok((id, next)) => (id, next),
            // A panic was logged by the hook; the service is tried again like after any other failure.
            Err(error) => (
                error.id(),
                Next {
                    retry: Some(Retry::Transient),
                    generation: 0,
                },
            ),
        };
        let Some(key) = self.keys.remove(&id) else {
            return;
        };
        self.queue.finished(&key);
        let now = Instant::now();
        match next.retry {
            Some(Retry::Transient) => {
                let backoff = self.backoffs.entry(key.clone()).or_default();
                let pause = backoff.next(next.generation, rand::random_range(0..1000));
                self.queue.at(key, now + pause);
            }
            Some(Retry::AtOnce) => self.queue.trigger(key, now),
            Some(Retry::AwaitChange) | None => {
                self.backoffs.remove(&key);
                // Also for what is refused: the cluster may have changed where no watch looks.
                if self.context.stores.service(&key).is_some() {
                    self.queue.at(key, now + jittered(self.settings.resync));
                }
            }
        }
        self.context
            .metrics
            .backoff_resources
            .set(i64::try_from(self.backoffs.len()).unwrap_or(i64::MAX));
    }

    async fn stop(&mut self) {
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_GRACE, all).await.is_err() {
            tracing::warn!("reconciles cut off");
        }
    }
}

/// Give or take a fifth, so that services do not come all at once.
fn jittered(time: Duration) -> Duration {
    time * rand::random_range(800..1200) / 1000
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
