//! The ledger against a real PostgreSQL, one fresh database per test.

mod support;

mod audit;
mod batches;
mod distribute;
mod growth;
mod interleavings;
mod keys;
mod lists;
mod orders;
mod outage;
mod outlook;
mod portfolio_life;
mod portfolios;
mod reports;
mod role;
mod schema;
mod transactions;
mod unknown;
mod yardstick;
