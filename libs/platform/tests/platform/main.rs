//! What users see of a process: configuration mistakes, help, exit codes, admin port, logs, stopping.

mod child;
mod clients;
mod config_mistakes;
mod config_sources;
mod logs;
mod metrics;
mod process;
mod stopping;
