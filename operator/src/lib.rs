//! Reconciles FuseTradingService resources into running workloads.
