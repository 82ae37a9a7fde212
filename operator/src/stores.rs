//! What the watches saw, cut to facts; reconciling reads here and never asks the API server.
//!
//! An answer to our own write is put in at once, and older watch events about the same object are then ignored: the
//! next reconcile sees its own writes, so it does not repeat them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use fuse_crds::FuseTradingService;
use kube::ResourceExt;

use crate::facts::{ChildFact, Kind, ObjectId};

/// Deleted objects whose last version is remembered, against answers that arrive after the deletion.
const TOMBSTONES_MAX: usize = 1024;

/// Namespace and name of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    pub namespace: String,
    pub name: String,
}

/// Facts of everything watched. Cheap to share.
#[derive(Debug, Default)]
pub struct Stores(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    services: HashMap<ServiceKey, Arc<FuseTradingService>>,
    children: HashMap<ObjectId, Arc<ChildFact>>,
    by_instance: HashMap<ServiceKey, BTreeSet<ObjectId>>,
    tombstones: HashMap<ObjectId, u64>,
    /// Resource versions by namespace and name.
    secrets: HashMap<(String, String), String>,
}

impl Stores {
    /// The service, if it exists and could be read.
    pub fn service(&self, key: &ServiceKey) -> Option<Arc<FuseTradingService>> {
        self.read(|inner| inner.services.get(key).cloned())
    }

    /// Keys of all services.
    pub fn service_keys(&self) -> Vec<ServiceKey> {
        self.read(|inner| inner.services.keys().cloned().collect())
    }

    /// All children that carry the name of this service.
    pub fn children(&self, key: &ServiceKey) -> BTreeMap<ObjectId, Arc<ChildFact>> {
        self.read(|inner| {
            let ids = inner.by_instance.get(key).into_iter().flatten();
            ids.filter_map(|id| Some((id.clone(), inner.children.get(id)?.clone())))
                .collect()
        })
    }

    /// Resource version of a Secret; `None` when there is none.
    pub fn secret(&self, namespace: &str, name: &str) -> Option<String> {
        self.read(|inner| {
            inner
                .secrets
                .get(&(namespace.to_owned(), name.to_owned()))
                .cloned()
        })
    }

    /// Puts a service in. True when it is new or newer, and differs in more than its version.
    pub fn put_service(&self, key: ServiceKey, service: FuseTradingService) -> bool {
        self.write(|inner| {
            let old = inner.services.get(&key);
            if old.is_some_and(|old| version(old) > version(&service) && old.uid() == service.uid()) {
                return false;
            }
            let changed = old.is_none_or(|old| {
                old.metadata.generation != service.metadata.generation
                    || old.metadata.uid != service.metadata.uid
                    || old.metadata.deletion_timestamp != service.metadata.deletion_timestamp
                    || old.status != service.status
            });
            inner.services.insert(key, Arc::new(service));
            changed
        })
    }

    /// Puts the answer to a write of ours in the place of what is held, unless that is newer. A service that the watch took out
    /// meanwhile stays out: an answer that comes late must not bring it back.
    pub fn replace_service(&self, key: &ServiceKey, answer: FuseTradingService) {
        self.write(|inner| {
            if let Some(held) = inner.services.get_mut(key)
                && held.uid() == answer.uid()
                && version(held) <= version(&answer)
            {
                *held = Arc::new(answer);
            }
        });
    }

    /// Takes a service out. True when it was there.
    pub fn remove_service(&self, key: &ServiceKey) -> bool {
        self.write(|inner| inner.services.remove(key).is_some())
    }

    /// Puts a child in, from a watch or from the answer to a write. Gives the services that it concerns, if its facts
    /// changed.
    pub fn put_child(&self, id: ObjectId, fact: ChildFact) -> Vec<ServiceKey> {
        self.write(|inner| inner.put_child(id, fact))
    }

    /// Takes a child out. Gives the services that it concerned.
    pub fn remove_child(&self, id: &ObjectId, version: u64) -> Vec<ServiceKey> {
        self.write(|inner| {
            if inner.tombstones.len() >= TOMBSTONES_MAX {
                inner.tombstones.clear();
            }
            inner.tombstones.insert(id.clone(), version);
            inner.remove_child(id)
        })
    }

    /// Replaces all children of one kind, in one namespace or in all, after a fresh list.
    pub fn replace_children(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        fresh: HashMap<ObjectId, ChildFact>,
    ) -> Vec<ServiceKey> {
        self.write(|inner| {
            let in_scope =
                |id: &&ObjectId| id.kind == kind && namespace.is_none_or(|wanted| wanted == id.namespace);
            let known: Vec<ObjectId> = inner.children.keys().filter(in_scope).cloned().collect();
            let gone = known.iter().filter(|id| !fresh.contains_key(id));
            let mut keys: Vec<ServiceKey> = gone.flat_map(|id| inner.remove_child(id)).collect();
            keys.extend(fresh.into_iter().flat_map(|(id, fact)| inner.put_child(id, fact)));
            keys
        })
    }

    /// Puts the version of a Secret in, or takes it out. Gives the services that name it, if it changed.
    pub fn set_secret(&self, namespace: &str, name: &str, version: Option<String>) -> Vec<ServiceKey> {
        self.write(|inner| {
            let key = (namespace.to_owned(), name.to_owned());
            let changed = match version {
                Some(version) => inner.secrets.insert(key, version.clone()) != Some(version),
                None => inner.secrets.remove(&key).is_some(),
            };
            if changed {
                inner.users_of(namespace, name)
            } else {
                Vec::new()
            }
        })
    }

    /// Names of all Secrets known in one namespace or in all.
    pub fn secret_names(&self, namespace: Option<&str>) -> Vec<(String, String)> {
        let in_scope = |key: &&(String, String)| namespace.is_none_or(|wanted| wanted == key.0);
        self.read(|inner| inner.secrets.keys().filter(in_scope).cloned().collect())
    }

    fn read<T>(&self, f: impl FnOnce(&Inner) -> T) -> T {
        f(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn put_child(&mut self, id: ObjectId, fact: ChildFact) -> Vec<ServiceKey> {
        if self
            .tombstones
            .get(&id)
            .is_some_and(|deleted| *deleted >= fact.resource_version)
        {
            return Vec::new();
        }
        self.tombstones.remove(&id);
        let old = self.children.get(&id).cloned();
        if old
            .as_ref()
            .is_some_and(|old| old.resource_version > fact.resource_version)
        {
            return Vec::new();
        }
        let changed = old.as_ref().is_none_or(|old| !old.same(&fact));
        let mut keys: BTreeSet<ServiceKey> = BTreeSet::new();
        if let Some(old) = old {
            keys.insert(instance_key(&id, &old));
        }
        let key = instance_key(&id, &fact);
        if !keys.contains(&key) {
            for old in &keys {
                self.forget(old, &id);
            }
        }
        self.by_instance
            .entry(key.clone())
            .or_default()
            .insert(id.clone());
        keys.insert(key);
        self.children.insert(id, Arc::new(fact));
        if changed {
            keys.into_iter().collect()
        } else {
            Vec::new()
        }
    }

    fn remove_child(&mut self, id: &ObjectId) -> Vec<ServiceKey> {
        let Some(old) = self.children.remove(id) else {
            return Vec::new();
        };
        let key = instance_key(id, &old);
        self.forget(&key, id);
        vec![key]
    }

    fn forget(&mut self, key: &ServiceKey, id: &ObjectId) {
        if let Some(ids) = self.by_instance.get_mut(key) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_instance.remove(key);
            }
        }
    }

    fn users_of(&self, namespace: &str, secret: &str) -> Vec<ServiceKey> {
        let uses = |service: &FuseTradingService| {
            crate::dereference::secret_names(&service.spec)
                .iter()
                .any(|name| name == secret)
        };
        let here = self.services.iter().filter(|(key, _)| key.namespace == namespace);
        here.filter(|(_, service)| uses(service))
            .map(|(key, _)| key.clone())
            .collect()
    }
}

fn instance_key(id: &ObjectId, fact: &ChildFact) -> ServiceKey {
    ServiceKey {
        namespace: id.namespace.clone(),
        name: fact.instance.clone(),
    }
}

fn version(service: &FuseTradingService) -> u64 {
    service
        .resource_version()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}
