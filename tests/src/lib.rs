//! Starts real backends and a real cluster, and tests that cross processes.

pub mod background;
pub mod proc;
pub mod rundir;
pub mod wait;
