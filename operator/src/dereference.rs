//! Step 1: everything that one reconcile looks at, read from the stores in one go.

use std::collections::BTreeMap;
use std::sync::Arc;

use fuse_crds::v1alpha1::SecretKeyRef;
use fuse_crds::{FuseTradingService, FuseTradingServiceSpec, FuseTradingServiceStatus};
use kube::ResourceExt;

use crate::facts::{ChildFact, Kind, ObjectId};
use crate::stores::{ServiceKey, Stores};

/// The service, its children and the facts about its Secrets.
#[derive(Debug, Clone)]
pub struct Seen {
    pub key: ServiceKey,
    pub uid: String,
    pub generation: i64,
    pub is_deleting: bool,
    pub service: Arc<FuseTradingService>,
    pub secrets: Secrets,
    children: BTreeMap<ObjectId, Arc<ChildFact>>,
}

/// What is known about the Secrets that the service names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secrets {
    /// The operator may not look at Secrets.
    NotWatched,
    /// Name and resource version; `None` for a Secret that does not exist.
    Watched(BTreeMap<String, Option<String>>),
}

impl Secrets {
    /// Names of the Secrets that surely do not exist, sorted.
    pub fn missing(&self) -> Vec<&str> {
        match self {
            Self::NotWatched => Vec::new(),
            Self::Watched(known) => known
                .iter()
                .filter(|(_, version)| version.is_none())
                .map(|(name, _)| name.as_str())
                .collect(),
        }
    }
}

impl Seen {
    /// The facts of a service and what else was seen, for [`dereference`] and for tests.
    pub fn new(
        service: Arc<FuseTradingService>,
        secrets: Secrets,
        children: BTreeMap<ObjectId, Arc<ChildFact>>,
    ) -> Self {
        let key = ServiceKey {
            namespace: service.namespace().unwrap_or_default(),
            name: service.name_any(),
        };
        Self {
            key,
            uid: service.uid().unwrap_or_default(),
            generation: service.metadata.generation.unwrap_or_default(),
            is_deleting: service.metadata.deletion_timestamp.is_some(),
            service,
            secrets,
            children,
        }
    }

    /// The same, said to be about this generation of the spec.
    #[must_use]
    pub fn about_generation(&self, generation: i64) -> Self {
        Self {
            generation,
            ..self.clone()
        }
    }

    /// The spec.
    pub fn spec(&self) -> &FuseTradingServiceSpec {
        &self.service.spec
    }

    /// The status as last written, by whomever.
    pub fn status(&self) -> Option<&FuseTradingServiceStatus> {
        self.service.status.as_ref()
    }

    /// The child of this name, whoever owns it.
    pub fn child(&self, kind: Kind, name: &str) -> Option<&Arc<ChildFact>> {
        let id = ObjectId {
            kind,
            namespace: self.key.namespace.clone(),
            name: name.to_owned(),
        };
        self.children.get(&id)
    }

    /// The child of this name, if this very service owns it.
    pub fn own_child(&self, kind: Kind, name: &str) -> Option<&Arc<ChildFact>> {
        self.child(kind, name).filter(|fact| self.owns(fact))
    }

    /// All children that this very service owns.
    pub fn own_children(&self) -> impl Iterator<Item = (&ObjectId, &Arc<ChildFact>)> {
        self.children.iter().filter(|(_, fact)| self.owns(fact))
    }

    /// Whether this very service, not an earlier one of its name, owns the child.
    pub fn owns(&self, fact: &ChildFact) -> bool {
        fact.owner.as_ref().is_some_and(|owner| owner.uid == self.uid)
    }
}

/// Reads the stores. `None`: there is no such service (any more).
pub fn dereference(stores: &Stores, key: &ServiceKey, watches_secrets: bool) -> Option<Seen> {
    let service = stores.service(key)?;
    let secrets = if watches_secrets {
        let names = secret_names(&service.spec);
        Secrets::Watched(
            names
                .into_iter()
                .map(|name| {
                    let version = stores.secret(&key.namespace, &name);
                    (name, version)
                })
                .collect(),
        )
    } else {
        Secrets::NotWatched
    };
    let children = stores.children(key);
    Some(Seen::new(service, secrets, children))
}

/// Names of the Secrets that pods of this service mount: sorted, each once.
pub fn secret_names(spec: &FuseTradingServiceSpec) -> Vec<String> {
    let smtp = spec
        .report
        .as_ref()
        .and_then(|report| report.delivery.smtp.as_ref());
    let all: [Option<&SecretKeyRef>; 6] = [
        Some(&spec.vendor.api_key),
        Some(&spec.database.url),
        spec.database.migration_url.as_ref(),
        spec.redis.as_ref().map(|redis| &redis.url),
        spec.api.bootstrap_admin_key.as_ref(),
        smtp.map(|smtp| &smtp.url),
    ];
    let mut names: Vec<String> = all
        .into_iter()
        .flatten()
        .map(|secret| secret.secret_name.clone())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}
