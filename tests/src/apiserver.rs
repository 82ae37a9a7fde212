//! etcd and kube-apiserver alone, on loopback: what the operator's tests need. Ready in seconds, no root, many at a time.
//!
//! As close to a real cluster as the operator can see: RBAC is on, and so is the admission of owner references, which most
//! test set-ups forget. There is no controller: Deployments make no pods and garbage is not collected.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::Signal;
use serde_json::Value;

use self::flags::{common_server_args, etcd_args, etcd_identity};
use crate::{
    certs::{Authority, Identity, Subject, kubeconfig, write_private},
    kubectl::Kubectl,
    packages,
    ports::Port,
    proc::Proc,
    progress::Progress,
    rundir,
    tools::{Tool, Tools},
};

pub(crate) mod flags;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const READY_DEADLINE: Duration = Duration::from_secs(60);
const STOP_GRACE: Duration = Duration::from_secs(10);
/// Requests are written when they are answered; a watch when it begins, because it may never end.
const AUDIT_POLICY: &str =
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n";

/// One request that the API server has answered, from its audit log.
#[derive(Clone, Debug)]
pub struct AuditedRequest {
    /// `get`, `list`, `watch`, `patch`, ...
    pub verb: String,
    /// Who asked, for example `system:admin` or `system:serviceaccount:ns:name`.
    pub user: String,
    /// What the client calls itself.
    pub user_agent: String,
    /// Path and query.
    pub uri: String,
    /// `ResponseStarted` (of a watch) or `ResponseComplete`.
    pub stage: String,
    /// HTTP status.
    pub code: u64,
}

/// How an API server is to be started.
#[derive(Clone, Debug)]
pub struct ApiServerBuilder {
    audit: bool,
    progress: Progress,
    extra_args: Vec<String>,
}

impl ApiServerBuilder {
    /// Writes every request to an audit log, see [`ApiServer::requests`].
    #[must_use]
    pub fn audit(mut self) -> Self {
        self.audit = true;
        self
    }

    /// Where to tell about long builds.
    #[must_use]
    pub fn progress(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }

    /// One more flag for kube-apiserver.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.extra_args.push(arg.into());
        self
    }

    /// Starts etcd and the API server and waits until both are ready.
    ///
    /// # Errors
    /// When a binary is missing or a process does not get ready; the message holds the end of its log.
    pub fn start(self) -> Result<ApiServer> {
        packages::ensure(packages::APISERVER, &self.progress)?;
        let tools = Tools::ensure(Tool::APISERVER, &self.progress)?;
        let dir = rundir::unique_path("apiserver", "")?;
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let layout = Layout::create(&dir, self.audit, &self.extra_args, &tools)?;
        let etcd = layout.start_etcd()?;
        let server = layout.start_apiserver()?;
        let kubectl = Kubectl::new(
            tools.path(Tool::Kubectl)?,
            &layout.kubeconfig,
            &dir.join("kubectl-cache"),
        );
        let api_server = ApiServer {
            layout,
            kubectl,
            server: Some(server),
            _etcd: etcd,
        };
        api_server.wait_ready()?;
        Ok(api_server)
    }
}

/// Everything that stays the same over restarts.
#[derive(Debug)]
struct Layout {
    dir: PathBuf,
    authority: Authority,
    admin: Identity,
    kubeconfig: PathBuf,
    url: String,
    etcd_binary: PathBuf,
    etcd_args: Vec<String>,
    server_binary: PathBuf,
    server_args: Vec<String>,
    audit_log: Option<PathBuf>,
    /// Held over restarts.
    _ports: [Port; 3],
}

impl Layout {
    fn create(dir: &Path, audit: bool, extra_args: &[String], tools: &Tools) -> Result<Self> {
        let authority = Authority::create(&dir.join("pki"))?;
        let ports = [Port::reserve()?, Port::reserve()?, Port::reserve()?];
        let [etcd_port, peer_port, port] = ports.each_ref().map(Port::number);
        let url = format!("https://127.0.0.1:{port}");
        let admin = authority.issue(
            "admin",
            Subject {
                user: "admin",
                group: Some("system:masters"),
                ..Subject::default()
            },
        )?;
        let kubeconfig_path = dir.join("admin.kubeconfig");
        write_private(&kubeconfig_path, &kubeconfig(&url, authority.ca_pem(), &admin))?;
        let etcd_identity = etcd_identity(&authority, LOOPBACK)?;
        let mut server_args = server_args(&authority, &etcd_identity, etcd_port, port)?;
        let audit_log = audit.then(|| dir.join("audit.log"));
        if let Some(log) = &audit_log {
            let policy = dir.join("audit-policy.yaml");
            write_private(&policy, AUDIT_POLICY)?;
            server_args.push(format!("--audit-policy-file={}", policy.display()));
            server_args.push(format!("--audit-log-path={}", log.display()));
        }
        server_args.extend(extra_args.iter().cloned());
        let etcd_binary = packages::find_on_path_or_assets("etcd")
            .ok_or_else(|| anyhow!("etcd is not there (package etcd-server)"))?;
        Ok(Self {
            dir: dir.to_path_buf(),
            etcd_args: etcd_args(dir, &authority, &etcd_identity, LOOPBACK, etcd_port, peer_port),
            etcd_binary,
            server_binary: tools.path(Tool::KubeApiserver)?.to_path_buf(),
            server_args,
            authority,
            admin,
            kubeconfig: kubeconfig_path,
            url,
            audit_log,
            _ports: ports,
        })
    }

    fn start_etcd(&self) -> Result<Proc> {
        Proc::build("etcd", &self.etcd_binary)
            .args(&self.etcd_args)
            .log_file(self.dir.join("etcd.log"))
            .start()
    }

    fn start_apiserver(&self) -> Result<Proc> {
        Proc::build("kube-apiserver", &self.server_binary)
            .args(&self.server_args)
            .log_file(self.dir.join("kube-apiserver.log"))
            .start()
    }
}

/// A running API server. Stops with everything it started when dropped.
#[derive(Debug)]
pub struct ApiServer {
    layout: Layout,
    kubectl: Kubectl,
    // Dropped before etcd, which it talks to until its end.
    server: Option<Proc>,
    _etcd: Proc,
}

impl ApiServer {
    /// What may be set before the start.
    #[must_use]
    pub fn builder() -> ApiServerBuilder {
        ApiServerBuilder {
            audit: false,
            progress: Progress::stderr(),
            extra_args: Vec::new(),
        }
    }

    /// Starts one without an audit log.
    ///
    /// # Errors
    /// As [`ApiServerBuilder::start`].
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// Kubeconfig of a member of system:masters, with all certificates inside.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.layout.kubeconfig
    }

    /// `https://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.layout.url
    }

    /// Certificate of the authority that signed everything, as PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.layout.authority.ca_pem()
    }

    /// Client certificate and key of the administrator.
    #[must_use]
    pub fn admin(&self) -> &Identity {
        &self.layout.admin
    }

    /// Kubeconfig of any other user, for tests of permissions.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn kubeconfig_for(&self, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let file: String = user
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        self.layout.authority.kubeconfig(
            &file,
            &self.layout.url,
            Subject {
                user,
                group,
                ..Subject::default()
            },
        )
    }

    /// A kubectl for this server, as administrator.
    #[must_use]
    pub fn client(&self) -> &Kubectl {
        &self.kubectl
    }

    /// Runs `kubectl args...` as administrator and returns what it printed.
    ///
    /// # Errors
    /// When kubectl fails; the message holds what it said.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl.run(args)
    }

    /// Whether it answers `/readyz` now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.kubectl
            .run(&["get", "--raw=/readyz", "--request-timeout=2s"])
            .is_ok()
    }

    fn wait_ready(&self) -> Result<()> {
        let server = self
            .server
            .as_ref()
            .ok_or_else(|| anyhow!("the API server is stopped"))?;
        let address: SocketAddr = self
            .layout
            .url
            .trim_start_matches("https://")
            .parse()
            .context("address of the API server")?;
        server.wait_for_port(address, READY_DEADLINE)?;
        server.wait_until("ready", READY_DEADLINE, || self.is_ready().then_some(()))?;
        // Created by the server itself a moment after it is ready.
        server.wait_until("namespace default", READY_DEADLINE, || {
            self.kubectl.run(&["get", "namespace", "default"]).ok()
        })?;
        Ok(())
    }

    /// Stops the API server; etcd and all objects stay.
    ///
    /// # Errors
    /// When it survives SIGKILL.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(server) = self.server.take() {
            server.terminate(STOP_GRACE)?;
        }
        Ok(())
    }

    /// Kills the API server without a chance to say goodbye.
    ///
    /// # Errors
    /// When it survives SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(server) = self.server.take() {
            server.kill()?;
        }
        Ok(())
    }

    /// Starts the API server again at the same address with the same objects.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.server = Some(self.layout.start_apiserver()?);
        self.wait_ready()
    }

    /// Freezes the API server: connections are accepted by the kernel, nothing answers.
    ///
    /// # Errors
    /// When it is stopped.
    pub fn pause(&self) -> Result<()> {
        self.server
            .as_ref()
            .ok_or_else(|| anyhow!("the API server is stopped"))?
            .signal(Signal::SIGSTOP)
    }

    /// Lets a frozen API server go on.
    ///
    /// # Errors
    /// When it is stopped.
    pub fn resume(&self) -> Result<()> {
        self.server
            .as_ref()
            .ok_or_else(|| anyhow!("the API server is stopped"))?
            .signal(Signal::SIGCONT)
    }

    /// All requests answered so far, oldest first.
    ///
    /// # Errors
    /// When it was started without `audit()`.
    pub fn requests(&self) -> Result<Vec<AuditedRequest>> {
        let log = self
            .layout
            .audit_log
            .as_ref()
            .ok_or_else(|| anyhow!("started without audit()"))?;
        let text = match fs::read_to_string(log) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).context("read the audit log"),
        };
        // The last line may be half-written.
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        complete.lines().map(parse_audit_line).collect()
    }
}

fn parse_audit_line(line: &str) -> Result<AuditedRequest> {
    let event: Value = serde_json::from_str(line).context("a line of the audit log")?;
    let text = |pointer: &str| {
        event
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    Ok(AuditedRequest {
        verb: text("/verb"),
        user: text("/user/username"),
        user_agent: text("/userAgent"),
        uri: text("/requestURI"),
        stage: text("/stage"),
        code: event
            .pointer("/responseStatus/code")
            .and_then(Value::as_u64)
            .unwrap_or_default(),
    })
}

fn server_args(authority: &Authority, etcd: &Identity, etcd_port: u16, port: u16) -> Result<Vec<String>> {
    let serving = authority.issue(
        "apiserver",
        Subject {
            user: "kube-apiserver",
            group: None,
            names: &["localhost"],
            addresses: &[LOOPBACK],
        },
    )?;
    let mut args = common_server_args(
        authority,
        etcd,
        &format!("https://127.0.0.1:{etcd_port}"),
        &serving,
    )?;
    args.extend([
        "--bind-address=127.0.0.1".into(),
        "--advertise-address=127.0.0.1".into(),
        // A loopback address cannot be an endpoint of the Service `kubernetes`.
        "--endpoint-reconciler-type=none".into(),
        format!("--secure-port={port}"),
        "--service-cluster-ip-range=10.96.0.0/16".into(),
        "--authorization-mode=RBAC".into(),
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement".into(),
        // No controller makes the default service accounts that this one wants to see.
        "--disable-admission-plugins=ServiceAccount".into(),
    ]);
    Ok(args)
}
