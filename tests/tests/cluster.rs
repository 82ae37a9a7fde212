//! Tests against real Kubernetes parts: an API server alone, and a whole one-node cluster.

#[path = "cluster/apiserver.rs"]
mod apiserver;
#[path = "cluster/machine.rs"]
mod machine;
#[path = "cluster/release.rs"]
mod release;
#[path = "cluster/samples.rs"]
mod samples;
#[path = "cluster/whole_path.rs"]
mod whole_path;
