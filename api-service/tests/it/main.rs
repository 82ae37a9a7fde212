//! The service as a real process, through HTTP, against a real PostgreSQL, the DynamoDB stand-in and the vendor simulator.

mod support;

mod at_the_vendor;
mod aws;
mod caching;
mod database;
mod docs;
mod dynamodb;
mod key_limits;
mod keys;
mod listing;
mod market;
mod metrics;
mod order_filters;
mod order_limits;
mod order_notional;
mod order_preview;
mod orders;
mod portfolios;
mod prices;
mod process;
mod reports;
mod requests;
mod secrets;
mod stocks;
mod surroundings;
mod unkeyed_orders;
mod unknown;
mod vanished;
mod vendor;
mod vendor_tls;
