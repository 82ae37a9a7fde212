#![doc = include_str!("../README.md")]

mod collect;
mod config;
mod deliver;
mod dry_run;
mod due;
mod error;
mod interim;
mod job;
mod mail;
mod output;
mod patience;
mod render;

pub use self::config::{Args, JobConfig};
pub use self::error::JobError;
pub use self::job::Job;
pub use self::render::{Rendered, render, subject};
