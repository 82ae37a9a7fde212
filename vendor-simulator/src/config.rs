//! What a simulator is started with.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;
use rust_decimal::Decimal;

/// How the 2 % rule is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BandMode {
    /// `50 * |offer - price| <= price` in exact decimals.
    #[default]
    Exact,
    /// `|offer - price| <= price * 0.02` in doubles, as a careless vendor has it: about half of the exact edges are refused.
    Doubles,
}

/// Settings of one simulator. `Default` is what most tests want: loopback, free ports, 40 stocks on 5 pages.
#[derive(Debug, Clone)]
pub struct SimulatorConfig {
    /// Where the vendor listens.
    pub listen: SocketAddr,
    /// Where the control port listens.
    pub control_listen: SocketAddr,
    pub seed: u64,
    /// Number of stocks, 1..=100,000.
    pub symbols: usize,
    /// Items on a page, at least 1.
    pub page_size: usize,
    /// What `x-api-key` must hold.
    pub api_key: String,
    /// `lastUpdated` of tick 0; each tick is 5 virtual minutes later.
    pub epoch: Timestamp,
    /// Advance the price clock by itself this often; `None`: by command only.
    pub auto_tick: Option<Duration>,
    /// `lastUpdated` is real time instead of virtual: ticks by themselves fall on the whole multiples of `auto_tick` (of 5 minutes
    /// without it) since 1970, those by command are as old as the command, and no item is ever ahead of the clock. `epoch` is not used.
    pub wall_clock: bool,
    pub band: BandMode,
    /// Prices by tick for some symbols (the last one stays); other symbols follow the seed.
    pub listed: BTreeMap<String, Vec<Decimal>>,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            listen: loopback,
            control_listen: loopback,
            seed: 1,
            symbols: 40,
            page_size: 8,
            api_key: "simulator-key".to_owned(),
            epoch: "2026-01-05T14:30:00Z".parse().expect("a constant in RFC 3339"),
            auto_tick: None,
            wall_clock: false,
            band: BandMode::Exact,
            listed: BTreeMap::new(),
        }
    }
}
