//! Reconciles FuseTradingService resources into running workloads.

fn main() {}
