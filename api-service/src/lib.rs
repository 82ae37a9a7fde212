#![doc = include_str!("../README.md")]

pub mod audit;
pub mod auth;
pub mod commands;
pub mod config;
pub mod http;
pub mod input;
pub mod market_data;
pub mod metrics;
pub mod orders;
pub mod page_token;
pub mod portfolio_body;
mod probes;
pub mod problem;
pub mod routes;
pub mod serve;
pub mod shelf;
pub mod state;
mod upkeep;
