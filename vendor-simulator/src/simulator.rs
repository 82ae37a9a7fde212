//! Starts and stops a simulator. It runs on threads of its own, so it can be started from any test, with or without a runtime.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rust_decimal::Decimal;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::action::Action;
use crate::clock::Boundaries;
use crate::config::SimulatorConfig;
use crate::control;
use crate::counters::{Counters, Executed};
use crate::rules::{Rule, RuleError, check};
use crate::server::{self, Gate, Shared, serve};
use crate::vendor::Vendor;

/// How long `stop` waits for the listeners to close.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// How long the port may take to follow its gate, and how often that is looked at.
pub(crate) const SETTLE_DEADLINE: Duration = Duration::from_secs(5);
pub(crate) const SETTLE_POLL: Duration = Duration::from_millis(2);

/// A running simulator; dropping it stops it.
pub struct Simulator {
    runtime: Option<Runtime>,
    shared: Arc<Shared>,
    vendor_address: SocketAddr,
    control_address: SocketAddr,
    stop: CancellationToken,
    /// Disconnected when both listeners are closed.
    listeners: mpsc::Receiver<()>,
}

impl Simulator {
    /// Listens on both ports before it returns.
    ///
    /// # Errors
    /// When a port cannot be bound.
    pub fn start(config: SimulatorConfig) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("vendor-simulator")
            .enable_all()
            .build()?;
        let _entered = runtime.enter();
        let vendor_listener = bind(config.listen)?;
        let control_listener = bind(config.control_listen)?;
        let vendor_address = vendor_listener.local_addr()?;
        let control_address = control_listener.local_addr()?;
        let (auto_tick, wall_clock) = (config.auto_tick, config.wall_clock);
        let shared = Arc::new(Shared::new(Vendor::new(config)));
        let stop = CancellationToken::new();
        let (open, listeners) = mpsc::channel();

        runtime.spawn({
            let (shared, stop, open) = (Arc::clone(&shared), stop.clone(), open.clone());
            async move {
                if let Err(error) = serve(vendor_listener, vendor_address, shared, stop).await {
                    tracing::error!(%error, "the vendor port is lost");
                }
                drop(open);
            }
        });
        runtime.spawn({
            let router = control::router(Arc::clone(&shared));
            let stop = stop.clone();
            async move {
                tokio::select! {
                    _ = axum::serve(control_listener, router) => {}
                    () = stop.cancelled() => {}
                }
                drop(open);
            }
        });
        if let Some(every) = auto_tick {
            let (shared, stop) = (Arc::clone(&shared), stop.clone());
            if wall_clock {
                runtime.spawn(tick_by_the_wall_clock(shared, every, stop));
            } else {
                runtime.spawn(tick_by_itself(shared, every, stop));
            }
        }
        drop(_entered);
        Ok(Self {
            runtime: Some(runtime),
            shared,
            vendor_address,
            control_address,
            stop,
            listeners,
        })
    }

    /// The vendor's base URL, without a slash at its end.
    #[must_use]
    pub fn vendor_url(&self) -> String {
        format!("http://{}", self.vendor_address)
    }

    #[must_use]
    pub fn control_url(&self) -> String {
        format!("http://{}", self.control_address)
    }

    #[must_use]
    pub fn vendor_address(&self) -> SocketAddr {
        self.vendor_address
    }

    /// Adds a rule behind those that are there; in force when it returns.
    ///
    /// # Errors
    /// When the rule makes no sense.
    pub fn add_rule(&self, rule: Rule) -> Result<(), RuleError> {
        add_rule(&self.shared, rule)?;
        self.settle();
        Ok(())
    }

    /// Removes all rules and takes connections again.
    pub fn clear_rules(&self) {
        self.shared.vendor().rules().clear();
        self.back();
    }

    /// Refuses connections, on the same port, until [`Simulator::back`]; in force when it returns.
    pub fn away(&self) {
        self.shared.set_gate(Gate::Refusing(None));
        self.settle();
    }

    /// Takes connections again.
    pub fn back(&self) {
        self.shared.set_gate(Gate::Open);
        self.settle();
    }

    /// Blocks for a moment; the port is served by threads of its own.
    fn settle(&self) {
        let deadline = Instant::now() + SETTLE_DEADLINE;
        while !self.shared.gate_settled() && Instant::now() < deadline {
            std::thread::sleep(SETTLE_POLL);
        }
    }

    /// Advances the price clock; returns the tick now.
    pub fn tick(&self, by: u32) -> i64 {
        self.shared.vendor().tick(by)
    }

    /// Prices of a symbol by tick from tick 0 (the last one stays); false when there is no such symbol.
    pub fn set_prices(&self, symbol: &str, prices: Vec<Decimal>) -> bool {
        self.shared.vendor().list_prices(symbol, prices)
    }

    /// The price now; `None` for an unknown symbol.
    #[must_use]
    pub fn price(&self, symbol: &str) -> Option<Decimal> {
        self.shared.vendor().price(symbol)
    }

    /// All symbols in the vendor's order.
    #[must_use]
    pub fn symbols(&self) -> Vec<String> {
        self.shared.vendor().symbols()
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.vendor().counters.clone()
    }

    /// Executed buys in order.
    #[must_use]
    pub fn executed(&self) -> Vec<Executed> {
        self.shared.vendor().executed().to_vec()
    }

    /// As freshly started, on the same ports.
    pub fn reset(&self) {
        self.shared.vendor().reset();
        self.back();
    }

    /// Closes both ports and all connections, then returns.
    pub fn stop(mut self) {
        self.shut();
    }

    fn shut(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            self.stop.cancel();
            // Disconnection is the signal; nothing is ever sent.
            let _ = self.listeners.recv_timeout(STOP_DEADLINE);
            runtime.shutdown_background();
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.shut();
    }
}

/// Inside a runtime.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    server::socket(address)
        .and_then(|socket| socket.listen(server::BACKLOG))
        .map_err(|error| io::Error::new(error.kind(), format!("bind {address}: {error}")))
}

pub(crate) fn add_rule(shared: &Shared, rule: Rule) -> Result<(), RuleError> {
    check(&rule)?;
    if let Action::RefuseConnect { for_ms } = rule.action {
        let until = for_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
        shared.set_gate(Gate::Refusing(until));
        return Ok(());
    }
    shared.vendor().add_rule(rule);
    Ok(())
}

async fn tick_by_itself(shared: Arc<Shared>, every: Duration, stop: CancellationToken) {
    let mut due = tokio::time::interval(every);
    due.tick().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = due.tick() => {
                shared.vendor().tick(1);
            }
        }
    }
}

async fn tick_by_the_wall_clock(shared: Arc<Shared>, every: Duration, stop: CancellationToken) {
    let boundaries = Boundaries::new(every);
    let (mut boundary, mut wait) = boundaries.next(Timestamp::now());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let now = Timestamp::now();
        // Timers and clocks differ by a little; too early, and the boundary is still to come.
        if boundaries.last(now) >= boundary {
            shared.vendor().tick_at(boundaries.last(now));
        }
        (boundary, wait) = boundaries.next(now);
    }
}
