//! What tests read: counts of everything that arrived and what became of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One executed buy. Price and quantity are the texts of the JSON numbers as they came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    pub symbol: String,
    pub price: String,
    pub quantity: String,
    /// The tick at which it was executed.
    pub tick: i64,
}

/// `received = executed + sum(refused) + not_executed_by_fault`, at every moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuyCounters {
    pub received: u64,
    pub executed: u64,
    /// By reason: `forbidden`, `invalid_body`, `invalid_price`, `invalid_quantity`, `unknown_symbol`, `price_out_of_band`.
    pub refused: BTreeMap<String, u64>,
    pub not_executed_by_fault: u64,
    /// Complete answers given to the transport, of whatever status.
    pub answered: u64,
    /// No (complete) answer, and not executed.
    pub cut_before_execution: u64,
    /// No (complete) answer, although executed.
    pub cut_after_execution: u64,
}

impl BuyCounters {
    #[must_use]
    pub fn refused_total(&self) -> u64 {
        self.refused.values().sum()
    }

    /// The invariant.
    #[must_use]
    pub fn add_up(&self) -> bool {
        self.received == self.executed + self.refused_total() + self.not_executed_by_fault
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListCounters {
    pub received: u64,
    /// Good pages made (also those that a fault then cut).
    pub pages: u64,
    pub bad_tokens: u64,
    pub answered: u64,
    /// Answers that a fault cut, kept back or replaced.
    pub faulted: u64,
    /// Good pages whose items or paging a rule changed.
    pub shaped: u64,
    /// Items that rules changed or left out; one that two rules changed counts twice.
    pub items_spoilt: u64,
}

/// All counters of `GET /control/state`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub buys: BuyCounters,
    pub lists: ListCounters,
    /// Requests of any kind with a missing or wrong key.
    pub bad_keys: u64,
    /// Requests to no known route.
    pub unknown_routes: u64,
    pub connections: u64,
    pub in_flight: u64,
    pub peak_concurrency: u64,
}
