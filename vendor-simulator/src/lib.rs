//! The stock vendor, deterministic, with faults on demand.
//!
//! Two ports: the vendor's own wire format, and a control port for tests. The same seed, script of rules and order of requests give the
//! same bytes; no wall clock is read in what is answered
//! (unless the configuration asks for real times). It shares no code with the service, so that a mistake there is not mirrored here.
//!
//! Invariant, true at every moment: `buys.received = buys.executed + sum(buys.refused) + buys.not_executed_by_fault`.

mod action;
mod body;
mod book;
mod buy;
mod clock;
mod config;
mod control;
mod counters;
mod fault;
mod gzip;
mod items;
mod list;
mod paging;
mod rules;
mod seed;
mod send;
mod server;
mod simulator;
mod stocks;
mod vendor;
mod wire;

pub use action::{Action, Body, Latency};
pub use config::{BandMode, SimulatorConfig};
pub use counters::{BuyCounters, Counters, Executed, ListCounters};
pub use fault::{BodyFault, BuyFault, ItemFault, PagingFault};
pub use rules::{Flap, FlapMs, Match, Operation, Rule, RuleError};
pub use simulator::Simulator;
pub use stocks::{Stock, TICK_SECS};
