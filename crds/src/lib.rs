//! Types of the FuseTradingService custom resource.
