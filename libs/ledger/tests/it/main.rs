//! The ledger against a real PostgreSQL, one fresh database per test.

mod support;
mod unknown;

mod audit;
mod batches;
mod keys;
mod orders;
mod outage;
mod outlook;
mod portfolio_life;
mod portfolios;
mod reports;
mod role;
mod schema;
mod yardstick;
