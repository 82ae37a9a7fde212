//! Starts real backends and a real cluster, and tests that cross processes.

pub mod apiserver;
pub mod background;
pub mod certs;
pub mod kubectl;
pub mod packages;
pub mod proc;
pub mod progress;
pub mod rundir;
pub mod tools;
pub mod wait;
