//! One watch per kind (and namespace): each fills the stores and tells which services changed.
//!
//! Objects become facts as they arrive; whole ones are never kept, but for the services themselves.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use fuse_crds::FuseTradingService;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::core::{DeserializeGuard, ObjectMeta};
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

use super::Signal;
use crate::config::ControllerSettings;
use crate::facts::{ChildFact, Kind, ObjectId};
use crate::labels::WATCH_SELECTOR;
use crate::reconcile::Context;
use crate::stores::ServiceKey;

/// Objects per page of a list.
const PAGE_SIZE: u32 = 50;
/// Pauses after a failed watch: doubled from the first to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_LAST: Duration = Duration::from_secs(5);

/// Starts all watches; gives their names.
pub(super) fn spawn(
    tasks: &mut JoinSet<()>,
    context: &Arc<Context>,
    settings: &ControllerSettings,
    signals: &Sender<Signal>,
) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let scopes: Vec<Option<String>> = match settings.watch_namespaces.as_slice() {
        [] => vec![None],
        namespaces => namespaces.iter().cloned().map(Some).collect(),
    };
    for scope in scopes {
        let mut start = |kind: &'static str| {
            let name = scope
                .as_ref()
                .map_or_else(|| kind.to_owned(), |namespace| format!("{kind} in {namespace}"));
            names.insert(name.clone());
            Watch {
                context: Arc::clone(context),
                signals: signals.clone(),
                kind,
                name,
                scope: scope.clone(),
            }
        };
        let watch = start(fuse_crds::KIND);
        tasks.spawn(watch.services());
        for kind in Kind::ALL {
            let watch = start(kind.as_str());
            tasks.spawn(watch.children(*kind));
        }
        if settings.watch_secrets {
            let watch = start("Secret");
            tasks.spawn(watch.secrets());
        }
    }
    names
}

struct Watch {
    context: Arc<Context>,
    signals: Sender<Signal>,
    kind: &'static str,
    name: String,
    /// One namespace, or all.
    scope: Option<String>,
}

impl Watch {
    async fn services(self) {
        let client = self.context.cluster.0.clone();
        let api: Api<DeserializeGuard<FuseTradingService>> = match &self.scope {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let config = watcher::Config::default().page_size(PAGE_SIZE);
        let mut listed = HashSet::new();
        self.follow(watcher(api, config), |event| match event {
            Event::Init => {
                listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                let (key, changed) = self.put_service(object);
                listed.insert(key.clone());
                changed.then_some(key).into_iter().collect()
            }
            Event::InitDone => self.remove_services_but(&listed),
            Event::Apply(object) => {
                let (key, changed) = self.put_service(object);
                changed.then_some(key).into_iter().collect()
            }
            Event::Delete(object) => {
                let key = match &object.0 {
                    Ok(service) => service_key(&service.metadata),
                    Err(unreadable) => service_key(&unreadable.metadata),
                };
                self.context.stores.remove_service(&key);
                vec![key]
            }
        })
        .await;
    }

    fn put_service(&self, object: DeserializeGuard<FuseTradingService>) -> (ServiceKey, bool) {
        match object.0 {
            Ok(mut service) => {
                service.metadata.managed_fields = None;
                let key = service_key(&service.metadata);
                let changed = self.context.stores.put_service(key.clone(), service);
                (key, changed)
            }
            Err(unreadable) => {
                let key = service_key(&unreadable.metadata);
                tracing::error!(
                    resource.namespace = key.namespace,
                    resource.name = key.name,
                    error = unreadable.error,
                    "the resource cannot be read and is left alone; is the definition newer than the operator?"
                );
                let changed = self.context.stores.remove_service(&key);
                (key, changed)
            }
        }
    }

    fn remove_services_but(&self, listed: &HashSet<ServiceKey>) -> Vec<ServiceKey> {
        let in_scope = |key: &ServiceKey| {
            self.scope
                .as_ref()
                .is_none_or(|namespace| *namespace == key.namespace)
        };
        let known = self.context.stores.service_keys().into_iter();
        known
            .filter(|key| in_scope(key) && !listed.contains(key) && self.context.stores.remove_service(key))
            .collect()
    }

    async fn children(self, kind: Kind) {
        let client = self.context.cluster.0.clone();
        let resource = kind.api_resource();
        let api: Api<DynamicObject> = match &self.scope {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let config = watcher::Config::default()
            .labels(WATCH_SELECTOR)
            .page_size(PAGE_SIZE);
        let mut fresh: HashMap<ObjectId, ChildFact> = HashMap::new();
        let stores = &self.context.stores;
        self.follow(watcher(api, config), |event| match event {
            Event::Init => {
                fresh.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                fresh.extend(fact(kind, &object));
                Vec::new()
            }
            Event::InitDone => {
                stores.replace_children(kind, self.scope.as_deref(), std::mem::take(&mut fresh))
            }
            Event::Apply(object) => {
                fact(kind, &object).map_or_else(Vec::new, |(id, fact)| stores.put_child(id, fact))
            }
            Event::Delete(object) => fact(kind, &object).map_or_else(Vec::new, |(id, fact)| {
                stores.remove_child(&id, fact.resource_version)
            }),
        })
        .await;
    }

    async fn secrets(self) {
        let client = self.context.cluster.0.clone();
        let api: Api<PartialObjectMeta<Secret>> = match &self.scope {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let config = watcher::Config::default().page_size(PAGE_SIZE);
        let mut listed: HashSet<(String, String)> = HashSet::new();
        let stores = &self.context.stores;
        let set = |meta: &ObjectMeta, version: Option<String>| {
            let key = service_key(meta);
            stores.set_secret(&key.namespace, &key.name, version)
        };
        self.follow(
            watcher(api, config),
            |event: Event<PartialObjectMeta<Secret>>| match event {
                Event::Init => {
                    listed.clear();
                    Vec::new()
                }
                Event::InitApply(object) => {
                    let key = service_key(&object.metadata);
                    listed.insert((key.namespace, key.name));
                    set(&object.metadata, object.metadata.resource_version.clone())
                }
                Event::InitDone => {
                    let gone = stores
                        .secret_names(self.scope.as_deref())
                        .into_iter()
                        .filter(|key| !listed.contains(key));
                    gone.flat_map(|(namespace, name)| stores.set_secret(&namespace, &name, None))
                        .collect()
                }
                Event::Apply(object) => set(&object.metadata, object.metadata.resource_version.clone()),
                Event::Delete(object) => set(&object.metadata, None),
            },
        )
        .await;
    }

    /// Follows a watch for ever. After a failure it waits longer and longer, then goes on where it was.
    async fn follow<K: Debug>(
        &self,
        stream: impl Stream<Item = watcher::Result<Event<K>>> + Send,
        mut take: impl FnMut(Event<K>) -> Vec<ServiceKey>,
    ) {
        futures::pin_mut!(stream);
        let mut pause = PAUSE_FIRST;
        while let Some(event) = stream.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    self.failed(&error);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_LAST);
                    continue;
                }
            };
            // The mere beginning of a list is no success yet.
            let is_start = matches!(event, Event::Init);
            let is_synced = matches!(event, Event::InitDone);
            if !is_start {
                pause = PAUSE_FIRST;
            }
            let keys = take(event);
            if !keys.is_empty() && self.signals.send(Signal::Changed(keys)).await.is_err() {
                return;
            }
            if is_synced {
                self.synced();
                if self
                    .signals
                    .send(Signal::Synced(self.name.clone()))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        }
    }

    fn synced(&self) {
        if self.kind == fuse_crds::KIND {
            self.context.metrics.crd_missing.set(0);
        }
    }

    fn failed(&self, error: &watcher::Error) {
        self.context.metrics.watch_restarted(self.kind);
        let is_missing = matches!(
            error,
            watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404
        );
        if is_missing && self.kind == fuse_crds::KIND {
            self.context.metrics.crd_missing.set(1);
            tracing::warn!(
                watch = self.name,
                "the custom resource definition is not installed; waiting for it"
            );
        } else {
            tracing::warn!(watch = self.name, error = %error, "a watch failed; it goes on");
        }
    }
}

fn service_key(meta: &ObjectMeta) -> ServiceKey {
    ServiceKey {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
    }
}

fn fact(kind: Kind, object: &DynamicObject) -> Option<(ObjectId, ChildFact)> {
    let id = ObjectId {
        kind,
        namespace: object.metadata.namespace.clone()?,
        name: object.metadata.name.clone()?,
    };
    Some((id, ChildFact::of(kind, object)?))
}
