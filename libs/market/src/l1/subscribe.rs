//! The subscriber: a connection of its own that listens for announcements and never gives up.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fuse_platform::Metrics;
use fuse_platform::config::RedisConfig;
use futures::StreamExt;
use jiff::Timestamp;
use prometheus::{IntCounterVec, IntGauge};
use redis::Client;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::link::reason;
use super::wire::{self, Announcement};
use crate::backoff::full_jitter;

/// What a reader may leave unread; more is missed, and it is told so.
const UNREAD_MAX: usize = 64;
const BACKOFF_BASE: Duration = Duration::from_millis(50);
const BACKOFF_CAP: Duration = Duration::from_secs(2);
/// Between tries, jitter or not.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// What a subscriber hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Announced(Announcement),
    /// Listening (again), or something was missed: announcements may have gone by, so read the pointer.
    Reconnected,
}

/// A background task that listens: reconnects without end, sends a PING every heartbeat (5 s) and takes two of them
/// without any answer for a dead connection. Dropping it ends the task.
pub struct Subscription {
    shared: Arc<Shared>,
    unread: Receiver<Heard>,
    _task: DropGuard,
}

/// What makes subscriptions.
#[derive(Clone)]
pub(super) struct Listener {
    client: Client,
    connect_timeout: Duration,
    heartbeat: Duration,
    metrics: Metrics,
}

struct Gauges {
    live: IntGauge,
    last_heard: IntGauge,
    errors: IntCounterVec,
}

struct Shared {
    live: AtomicBool,
    /// Something was not delivered because nobody read.
    missed: AtomicBool,
    last_heard: Mutex<Instant>,
    silence_max: Duration,
    gauges: Gauges,
}

impl Listener {
    pub(super) fn new(client: Client, config: &RedisConfig, metrics: &Metrics) -> Self {
        Self {
            client,
            connect_timeout: config.connect_timeout,
            heartbeat: config.heartbeat,
            metrics: metrics.clone(),
        }
    }

    pub(super) fn listen(&self, channel: String, shutdown: CancellationToken) -> Subscription {
        let (sender, unread) = mpsc::channel(UNREAD_MAX);
        let shared = Arc::new(Shared {
            live: AtomicBool::new(false),
            missed: AtomicBool::new(false),
            last_heard: Mutex::new(Instant::now()),
            silence_max: self.heartbeat * 2,
            gauges: Gauges::new(&self.metrics),
        });
        shared.gauges.last_heard.set(Timestamp::now().as_second());
        let stop = shutdown.child_token();
        let task = Task {
            listener: self.clone(),
            channel,
            shared: Arc::clone(&shared),
            sender,
        };
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = task.listen_on() => {}
            }
            task.shared.is_live(false);
        });
        Subscription {
            shared,
            unread,
            _task: stop.drop_guard(),
        }
    }
}

impl Gauges {
    /// Only whoever subscribes has them: elsewhere a 0 would mean nothing.
    fn new(metrics: &Metrics) -> Self {
        Self {
            live: metrics.gauge(
                "snapshot_subscriber_live",
                "1 while this replica hears announcements of snapshots from Redis",
            ),
            last_heard: metrics.gauge(
                "snapshot_subscriber_last_message_timestamp_seconds",
                "When the subscriber last heard anything from Redis, an answered PING included; its start until then",
            ),
            errors: super::link::errors(metrics),
        }
    }
}

impl Subscription {
    /// The next thing heard; never returns after the shutdown. Cancel safe.
    pub async fn next(&mut self) -> Heard {
        if self.shared.missed.swap(false, Ordering::Relaxed) {
            // What is still unread is older than what was missed.
            while self.unread.try_recv().is_ok() {}
            return Heard::Reconnected;
        }
        match self.unread.recv().await {
            Some(heard) => heard,
            None => pending().await,
        }
    }

    /// Whether it is connected, subscribed and heard something (a PONG counts) within the last two heartbeats.
    pub fn is_live(&self) -> bool {
        self.shared.live.load(Ordering::Relaxed)
            && self.shared.last_heard().elapsed() <= self.shared.silence_max
    }
}

impl Shared {
    fn last_heard(&self) -> Instant {
        *self.last_heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self) {
        *self.last_heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.gauges.last_heard.set(Timestamp::now().as_second());
    }

    fn is_live(&self, live: bool) {
        self.live.store(live, Ordering::Relaxed);
        self.gauges.live.set(i64::from(live));
    }
}

struct Task {
    listener: Listener,
    channel: String,
    shared: Arc<Shared>,
    sender: Sender<Heard>,
}

impl Task {
    /// Never ends.
    async fn listen_on(&self) {
        let (mut failures, mut said) = (0, false);
        loop {
            let why = match self.connect().await {
                Ok((sink, stream)) => {
                    self.shared.heard();
                    self.shared.is_live(true);
                    tracing::info!("listening for announcements of snapshots");
                    (failures, said) = (0, false);
                    self.deliver(Heard::Reconnected);
                    self.hear(sink, stream).await
                }
                Err(why) => why,
            };
            self.shared.is_live(false);
            self.shared.gauges.errors.with_label_values(&["listen"]).inc();
            if !std::mem::replace(&mut said, true) {
                tracing::warn!(
                    reason = why,
                    "announcements of snapshots are not heard; trying on"
                );
            }
            let pause = full_jitter(BACKOFF_BASE, BACKOFF_CAP, failures);
            tokio::time::sleep(pause.max(PAUSE_MIN)).await;
            failures = failures.saturating_add(1);
        }
    }

    async fn connect(&self) -> Result<(PubSubSink, PubSubStream), String> {
        let connected = async {
            let (mut sink, stream) = self.listener.client.get_async_pubsub().await?.split();
            sink.subscribe(&self.channel).await?;
            Ok((sink, stream))
        };
        // Connecting and subscribing are two round trips and more.
        match timeout(self.listener.connect_timeout * 3, connected).await {
            Ok(connected) => connected.map_err(|error| reason(&error)),
            Err(_) => Err("timeout".into()),
        }
    }

    /// Until the connection is dead; then why.
    async fn hear(&self, sink: PubSubSink, stream: PubSubStream) -> String {
        tokio::select! {
            why = self.beat(sink) => why,
            why = self.read(stream) => why,
        }
    }

    async fn beat(&self, mut sink: PubSubSink) -> String {
        loop {
            tokio::time::sleep(self.listener.heartbeat).await;
            match timeout(self.listener.heartbeat, sink.ping::<redis::Value>()).await {
                Ok(Ok(_)) => self.shared.heard(),
                Ok(Err(error)) => return reason(&error),
                Err(_) => return "silence".into(),
            }
        }
    }

    async fn read(&self, mut stream: PubSubStream) -> String {
        while let Some(message) = stream.next().await {
            self.shared.heard();
            match wire::announcement(message.get_payload_bytes()) {
                Some(announcement) => self.deliver(Heard::Announced(announcement)),
                // Somebody else's, or of another version: something has happened all the same.
                None => self.deliver(Heard::Reconnected),
            }
        }
        "connection closed".into()
    }

    fn deliver(&self, heard: Heard) {
        if self.sender.try_send(heard).is_err() {
            self.shared.missed.store(true, Ordering::Relaxed);
        }
    }
}
