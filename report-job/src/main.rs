//! One daily report, one delivery, then exit.

fn main() {}
