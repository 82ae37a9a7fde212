//! Orders across processes: real binaries between the simulated vendor and a real PostgreSQL, while each of them fails. What is
//! checked is what clients were told, what the ledger holds and what the vendor executed.

#[path = "orders/contradiction.rs"]
mod contradiction;
#[path = "orders/count.rs"]
mod count;
#[path = "orders/full.rs"]
mod full;
#[path = "orders/hard_stop.rs"]
mod hard_stop;
#[path = "orders/hot.rs"]
mod hot;
#[path = "orders/keys.rs"]
mod keys;
#[path = "orders/kills.rs"]
mod kills;
#[path = "orders/late.rs"]
mod late;
#[path = "orders/lead.rs"]
mod lead;
#[path = "orders/outage.rs"]
mod outage;
#[path = "orders/standstill.rs"]
mod standstill;
#[path = "orders/storm.rs"]
mod storm;
#[path = "orders/support.rs"]
mod support;
#[path = "orders/unclear.rs"]
mod unclear;
#[path = "orders/unknown.rs"]
mod unknown;
#[path = "orders/upgrade.rs"]
mod upgrade;
