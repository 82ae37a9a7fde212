//! Starts real backends and a real cluster, and tests that cross processes.

pub mod apiserver;
pub mod background;
pub mod certs;
pub mod client;
pub mod cluster;
pub mod deployment;
pub mod dynamodb;
pub mod existing;
pub mod image;
pub mod kubectl;
pub mod monitoring;
pub mod packages;
pub mod ports;
pub mod postgres;
pub mod proc;
pub mod progress;
pub mod prometheus;
pub mod proxy;
pub mod redis;
pub mod release;
pub mod rundir;
pub mod services;
pub mod smtp;
pub mod stack;
pub mod tools;
pub mod wait;
