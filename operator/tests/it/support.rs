//! The world of a test: a namespace on the shared API server, and an operator that looks after just this namespace.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use fuse_crds::FuseTradingService;
use fuse_harness::apiserver::ApiServer;
use fuse_harness::wait;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use operator::config::ControllerSettings;
use operator::controller;
use operator::facts::Kind;
use operator::metrics::Metrics;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::request_log::RequestLog;

pub const MINIMAL: &str = include_str!("samples/minimal.yaml");
pub const FULL: &str = include_str!("samples/full.yaml");

/// Time within which everything must have happened on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The shared API server, with the definition installed.
pub fn api_server() -> Result<&'static ApiServer> {
    static SERVER: OnceLock<std::result::Result<ApiServer, String>> = OnceLock::new();
    let started = SERVER.get_or_init(|| {
        let server = ApiServer::start().map_err(|error| format!("{error:#}"))?;
        install_definition(&server).map_err(|error| format!("{error:#}"))?;
        Ok(server)
    });
    started.as_ref().map_err(|error| anyhow!("{error}"))
}

/// Installs the definition and waits until it is served.
pub fn install_definition(server: &ApiServer) -> Result<()> {
    server.client().apply(&fuse_crds::crd_yaml()?)?;
    let definition = "customresourcedefinition/fusetradingservices.fuse.trading";
    server.kubectl(&["wait", "--for=condition=Established", definition, "--timeout=20s"])?;
    Ok(())
}

/// A client of the administrator.
pub async fn admin(server: &ApiServer) -> Result<kube::Client> {
    Ok(kube::Client::try_from(config(server.kubeconfig()).await?)?)
}

/// How to reach the cluster of a kubeconfig.
pub async fn config(kubeconfig: &Path) -> Result<kube::Config> {
    fuse_platform::tls::install_provider();
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    Ok(kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}

/// A namespace of its own.
pub struct World {
    pub server: &'static ApiServer,
    pub client: kube::Client,
    pub namespace: String,
}

impl World {
    pub async fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = api_server()?;
        let client = admin(server).await?;
        let namespace = format!("t{}", COUNT.fetch_add(1, Ordering::Relaxed));
        server.kubectl(&["create", "namespace", &namespace])?;
        Ok(Self {
            server,
            client,
            namespace,
        })
    }

    /// An operator for this namespace, quick to react.
    pub async fn operator(&self) -> Result<Operator> {
        Operator::start(self.server.kubeconfig(), self.settings()).await
    }

    pub fn settings(&self) -> ControllerSettings {
        ControllerSettings {
            watch_namespaces: vec![self.namespace.clone()],
            watch_secrets: true,
            resync: Duration::from_secs(600),
            debounce: Duration::from_millis(20),
            concurrency: 4,
        }
    }

    /// `kubectl apply` into this namespace.
    pub fn kubectl_apply(&self, manifest: &str) -> Result<String> {
        let args = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "-n",
            &self.namespace,
            "-f",
            "-",
        ];
        self.server.client().run_with_input(&args, manifest)
    }

    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        let mut all = vec!["-n", self.namespace.as_str()];
        all.extend(args);
        self.server.kubectl(&all)
    }

    pub fn services(&self) -> Api<FuseTradingService> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn api(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind.api_resource())
    }

    pub async fn find(&self, kind: Kind, name: &str) -> Option<DynamicObject> {
        self.api(kind).get_opt(name).await.ok().flatten()
    }

    /// All children in the namespace, as `Kind/name`, sorted.
    pub async fn all(&self) -> Result<BTreeMap<String, DynamicObject>> {
        let mut all = BTreeMap::new();
        for kind in Kind::ALL {
            let labelled = ListParams::default().labels(operator::labels::WATCH_SELECTOR);
            for object in self.api(*kind).list(&labelled).await? {
                let name = object.metadata.name.clone().unwrap_or_default();
                all.insert(format!("{}/{name}", kind.as_str()), object);
            }
        }
        Ok(all)
    }

    /// Resource versions of all children.
    pub async fn versions(&self) -> Result<BTreeMap<String, String>> {
        let all = self.all().await?.into_iter();
        Ok(all
            .map(|(name, object)| (name, object.metadata.resource_version.unwrap_or_default()))
            .collect())
    }

    pub async fn create_secret(&self, name: &str) -> Result<()> {
        self.kubectl(&[
            "create",
            "secret",
            "generic",
            name,
            "--from-literal=url=x",
            "--from-literal=apiKey=x",
        ])?;
        Ok(())
    }

    pub async fn create_secrets(&self) -> Result<()> {
        for name in ["vendor", "database", "database-owner", "redis", "admin", "smtp"] {
            self.create_secret(name).await?;
        }
        Ok(())
    }

    pub async fn merge(&self, kind: Kind, name: &str, patch: Value) -> Result<()> {
        self.api(kind)
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    /// Changes the spec of `trading`.
    pub async fn change(&self, patch: Value) -> Result<()> {
        let patch = json!({"spec": patch});
        self.services()
            .patch("trading", &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    async fn merge_status(&self, kind: Kind, name: &str, status: Value) -> Result<()> {
        let patch = json!({"status": status});
        self.api(kind)
            .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    /// The migration Job of this moment, once it exists.
    pub async fn job(&self) -> Result<String> {
        self.job_but(&[]).await
    }

    /// A migration Job that is none of these.
    pub async fn job_but(&self, known: &[&str]) -> Result<String> {
        self.until("a migration Job", || async {
            let jobs = self.api(Kind::Job).list(&ListParams::default()).await.ok()?;
            jobs.into_iter()
                .filter_map(|job| job.metadata.name)
                .find(|name| !known.contains(&name.as_str()))
        })
        .await
    }

    pub async fn complete_job(&self, name: &str) -> Result<()> {
        let now = now();
        let condition = |type_: &str| json!({"type": type_, "status": "True", "lastTransitionTime": now, "lastProbeTime": now, "reason": "CompletionsReached"});
        let conditions = [condition("SuccessCriteriaMet"), condition("Complete")];
        let status =
            json!({"startTime": now, "completionTime": now, "succeeded": 1, "conditions": conditions});
        self.merge_status(Kind::Job, name, status).await
    }

    pub async fn fail_job(&self, name: &str) -> Result<()> {
        let now = now();
        let condition = |type_: &str| {
            json!({
                "type": type_, "status": "True", "lastTransitionTime": now, "lastProbeTime": now,
                "reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit",
            })
        };
        let conditions = [condition("FailureTarget"), condition("Failed")];
        self.merge_status(
            Kind::Job,
            name,
            json!({"startTime": now, "failed": 1, "conditions": conditions}),
        )
        .await
    }

    /// What the Deployment controller and the kubelet would say once all pods are ready.
    pub async fn roll_out(&self, name: &str) -> Result<()> {
        let object = self
            .find(Kind::Deployment, name)
            .await
            .context("no such Deployment")?;
        let replicas = object.data["spec"]["replicas"].clone();
        let now = now();
        let condition = |type_: &str, reason: &str| json!({"type": type_, "status": "True", "reason": reason, "message": "", "lastTransitionTime": now, "lastUpdateTime": now});
        let status = json!({
            "observedGeneration": object.metadata.generation,
            "replicas": replicas, "readyReplicas": replicas, "updatedReplicas": replicas, "availableReplicas": replicas,
            "conditions": [
                condition("Available", "MinimumReplicasAvailable"),
                condition("Progressing", "NewReplicaSetAvailable"),
            ],
        });
        self.merge_status(Kind::Deployment, name, status).await
    }

    /// Waits until there is this child.
    pub async fn child(&self, kind: Kind, name: &str) -> Result<DynamicObject> {
        let what = format!("{} {name}", kind.as_str());
        self.until(&what, || self.find(kind, name)).await
    }

    /// Waits until the replicas of this Deployment are so.
    pub async fn replicas(&self, name: &str, replicas: i32) -> Result<()> {
        let what = format!("{replicas} replicas of {name}");
        self.until(&what, || async {
            let object = self.find(Kind::Deployment, name).await?;
            (object.data["spec"]["replicas"] == replicas).then_some(())
        })
        .await
    }

    /// Waits until this condition of `trading` has this status and reason.
    pub async fn condition(&self, type_: &str, status: &str, reason: &str) -> Result<String> {
        let what = format!("{type_}={status} {reason}");
        let found = self
            .until(&what, || async {
                let condition = self.find_condition(type_).await?;
                let is_it = condition["status"] == status && condition["reason"] == reason;
                is_it.then(|| condition["message"].as_str().unwrap_or_default().to_owned())
            })
            .await;
        match found {
            Ok(message) => Ok(message),
            Err(error) => bail!("{error}; the status is {:#}", self.status().await),
        }
    }

    pub async fn status(&self) -> Value {
        let service = self.services().get_opt("trading").await.ok().flatten();
        json!(service.and_then(|service| service.status))
    }

    /// The condition, if it is about the current generation.
    async fn find_condition(&self, type_: &str) -> Option<Value> {
        let service = self.services().get_opt("trading").await.ok()??;
        let conditions = json!(service.status?.conditions);
        let condition = conditions
            .as_array()?
            .iter()
            .find(|condition| condition["type"] == type_)?
            .clone();
        (condition["observedGeneration"] == json!(service.metadata.generation)).then_some(condition)
    }

    /// From a manifest to Ready, playing Job controller and kubelet.
    pub async fn bring_up(&self, manifest: &str) -> Result<()> {
        self.create_secrets().await?;
        self.kubectl_apply(manifest)?;
        let job = self.job().await?;
        self.complete_job(&job).await?;
        self.settle().await?;
        self.condition("Ready", "True", "AllAvailable").await?;
        self.condition("Reconciling", "False", "Settled").await?;
        Ok(())
    }

    /// Waits until the rollout has begun, then lets it succeed.
    pub async fn settle(&self) -> Result<()> {
        let minimum = |object: &FuseTradingService| {
            let api = &object.spec.api;
            api.autoscaling
                .as_ref()
                .map_or(api.replicas, |autoscaling| autoscaling.min_replicas)
        };
        let replicas = minimum(&self.services().get("trading").await?);
        self.replicas("trading-api", replicas).await?;
        self.child(Kind::Deployment, "trading-refresher").await?;
        self.roll_out("trading-api").await?;
        self.roll_out("trading-refresher").await
    }

    pub async fn until<T, F>(&self, what: &str, condition: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Option<T>>,
    {
        wait::until_async(what, DEADLINE, condition).await
    }

    /// Reasons of all events about `trading`, in order.
    pub async fn events(&self) -> Result<Vec<String>> {
        let resource = ApiResource {
            group: "events.k8s.io".into(),
            version: "v1".into(),
            api_version: "events.k8s.io/v1".into(),
            kind: "Event".into(),
            plural: "events".into(),
        };
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let mut events: Vec<DynamicObject> = api.list(&ListParams::default()).await?.items;
        events.sort_by_key(|event| event.data["eventTime"].as_str().unwrap_or_default().to_owned());
        Ok(events
            .iter()
            .filter_map(|event| event.data["reason"].as_str().map(str::to_owned))
            .collect())
    }

    pub async fn create(&self, kind: Kind, manifest: Value) -> Result<DynamicObject> {
        let mut object = json!({"apiVersion": kind.api_version(), "kind": kind.as_str()});
        if let (Some(object), Value::Object(rest)) = (object.as_object_mut(), manifest) {
            object.extend(rest);
        }
        let object: DynamicObject = serde_json::from_value(object)?;
        Ok(self.api(kind).create(&PostParams::default(), &object).await?)
    }
}

fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
}

/// A running operator; stops when dropped.
pub struct Operator {
    pub requests: RequestLog,
    pub registry: fuse_platform::Metrics,
    pub readiness: fuse_platform::Readiness,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Operator {
    pub async fn start(kubeconfig: &Path, settings: ControllerSettings) -> Result<Self> {
        let registry = fuse_platform::Metrics::new();
        let metrics = Metrics::new(&registry);
        let readiness = fuse_platform::Readiness::new();
        let synced = readiness.condition("watches", "not asked yet");
        let stop = CancellationToken::new();
        let requests = RequestLog::default();
        let mut config = config(kubeconfig).await?;
        config.default_retry = false;
        let builder = kube::client::ClientBuilder::try_from(config)?;
        let client = builder.with_layer(&requests).with_layer(&metrics.layer()).build();
        let task = tokio::spawn(controller::run(client, settings, metrics, synced, stop.clone()));
        Ok(Self {
            requests,
            registry,
            readiness,
            stop,
            task,
        })
    }

    /// The value of a metric line, such as `fuse_operator_leader`.
    pub fn metric(&self, line: &str) -> f64 {
        let text = String::from_utf8(self.registry.encode()).unwrap_or_default();
        let found = text
            .lines()
            .find_map(|known| known.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
        found.unwrap_or(f64::NAN)
    }

    /// Number of reconciles so far.
    pub fn reconciles(&self) -> f64 {
        let all = ["ok", "error"].map(|result| {
            self.metric(&format!(
                "fuse_operator_reconciles_total{{kind=\"FuseTradingService\",result=\"{result}\"}}"
            ))
        });
        all.into_iter().sum()
    }

    /// Waits until a reconcile has passed since there were `seen`: read before the change that is to cause it, which may be
    /// quicker than the one who waits for it.
    pub async fn reconciled_since(&self, seen: f64) -> Result<()> {
        wait::until_async("a reconcile", DEADLINE, || async {
            (self.reconciles() > seen).then_some(())
        })
        .await
    }

    /// Waits until this many more reconciles have passed; they must come by themselves, as resyncs do.
    pub async fn reconcile_again(&self, times: f64) -> Result<()> {
        let goal = self.reconciles() + times;
        wait::until_async("more reconciles", DEADLINE, || async {
            (self.reconciles() >= goal).then_some(())
        })
        .await
    }

    /// Stops and waits for the end.
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.task.await?;
        Ok(())
    }
}
