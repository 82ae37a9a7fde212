//! Types of the `FuseTradingService` custom resource: what a user may ask for ([`v1alpha1`]), what the operator
//! answers ([`status`]), and the manifest of the definition itself ([`crd_yaml`]).
//!
//! No client and no runtime here. The schema is the first line of defence: every string, list and map has a limit,
//! every rule that spans fields is a CEL rule with a sentence that names the field, and integers are signed, because
//! the API server warns about unsigned ones.

pub mod quantity;
pub mod status;
pub mod v1alpha1;

mod definition;

pub use definition::{DefinitionError, chart_yaml, crd, crd_yaml};
pub use status::{Condition, ConditionState, ConditionType, FuseTradingServiceStatus, Reason};
pub use v1alpha1::{FuseTradingService, FuseTradingServiceSpec};

/// API group of the resource.
pub const GROUP: &str = "fuse.trading";
/// Served and stored version.
pub const VERSION: &str = "v1alpha1";
/// Kind, as in manifests.
pub const KIND: &str = "FuseTradingService";
/// Plural, as in URLs and RBAC rules.
pub const PLURAL: &str = "fusetradingservices";
/// Longest allowed name of a resource: child names add up to 17 characters and some names end at 63.
pub const NAME_LENGTH_MAX: usize = 40;
