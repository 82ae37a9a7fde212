//! The stock vendor, deterministic, with faults on demand.

fn main() {}
