//! The service as a real process, through HTTP, against a real PostgreSQL, the DynamoDB stand-in and the vendor simulator.

mod support;

mod caching;
mod database;
mod docs;
mod dynamodb;
mod keys;
mod listing;
mod market;
mod metrics;
mod orders;
mod prices;
mod process;
mod reports;
mod requests;
mod stocks;
mod surroundings;
mod unknown;
mod vendor;
mod walks;
