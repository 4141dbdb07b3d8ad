//! A real API server on loopback: `etcd` and `kube-apiserver` with RBAC, and credentials for whoever the test plays.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::Value;

use crate::{checkout, run, until};

/// How long a component may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who calls itself this may do everything.
const ADMINISTRATORS: &str = "system:masters";

/// What the API server notes: each request that an account of a pod made, and its answer's code.
const AUDIT: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: [system:serviceaccounts]
- level: None
";

/// Service network of the API server, as in `manifests/demo`.
const SERVICE_NETWORK: &str = "172.30.0.0/16";

/// A component of Kubernetes: from `KUBEBUILDER_ASSETS`, from where `make deps` builds it, or from `PATH`.
///
/// # Errors
/// When it is nowhere.
pub fn component(name: &str) -> anyhow::Result<PathBuf> {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout().join("target"), PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = assets.into_iter().chain([target.join("kube/bin")]).chain(std::env::split_paths(&path));
    let mut found = places.map(|dir| dir.join(name)).filter(|path| path.is_file());
    found.next().with_context(|| format!("{name} is missing: `make deps` installs or builds it"))
}

/// An API server with its etcd, gone with all it holds when dropped.
pub struct ControlPlane {
    dir: tempfile::TempDir,
    authority: Mutex<CertifiedIssuer<'static, KeyPair>>,
    etcd: Child,
    api_server: Mutex<Option<Child>>,
    etcd_port: u16,
    port: u16,
}

/// Who calls the API server.
#[derive(Clone, Copy, Debug)]
pub enum Caller<'a> {
    /// May do everything.
    Admin,
    /// The account of a pod: namespace and name.
    ServiceAccount(&'a str, &'a str),
}

impl ControlPlane {
    /// Starts both; returns when the API server is ready.
    ///
    /// # Errors
    /// When one is missing or does not come up: its last words are in the text.
    pub fn start() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("kube-").tempdir()?;
        let authority = authority()?;
        let (etcd_port, peer_port, port) = (free_port()?, free_port()?, free_port()?);
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let etcd = spawn(
            dir.path(),
            Command::new(component("etcd")?)
                .arg(format!("--data-dir={}", dir.path().join("etcd").display()))
                .arg(format!("--listen-client-urls={}", url(etcd_port)))
                .arg(format!("--advertise-client-urls={}", url(etcd_port)))
                .arg(format!("--listen-peer-urls={}", url(peer_port)))
                .arg(format!("--initial-advertise-peer-urls={}", url(peer_port)))
                .arg(format!("--initial-cluster=default={}", url(peer_port)))
                // Nothing here needs to outlive the machine.
                .arg("--unsafe-no-fsync"),
        )?;
        let authority = Mutex::new(authority);
        let plane = Self { dir, authority, etcd, api_server: Mutex::new(None), etcd_port, port };
        let accounts = KeyPair::generate()?;
        plane.write("accounts.key", &accounts.serialize_pem())?;
        plane.write("accounts.pub", &accounts.public_key_pem())?;
        plane.write_certificates()?;
        let path = |name: &str| plane.path(name).display().to_string();
        let admin =
            format!("client-certificate: {}\n    client-key: {}", path("admin.crt"), path("admin.key"));
        plane.write_kubeconfig("admin", &admin)?;
        plane.write("audit.yaml", AUDIT)?;
        plane.start_api_server()?;
        Ok(plane)
    }

    /// What the authority vouches for: itself, the API server, and the administrator.
    fn write_certificates(&self) -> anyhow::Result<()> {
        let pem = self.authority().pem();
        self.write("ca.crt", &pem)?;
        for (name, subject, group) in
            [("server", "kube-apiserver", None), ("admin", "admin", Some(ADMINISTRATORS))]
        {
            let (certificate, key) = self.certificate(subject, group, name == "server")?;
            self.write(&format!("{name}.crt"), &certificate)?;
            self.write(&format!("{name}.key"), &key)?;
        }
        Ok(())
    }

    /// Restarts the API server with certificates of another authority; returns when it is ready. Who knows the old one only
    /// does not trust it.
    ///
    /// # Errors
    /// As [`ControlPlane::start_api_server`].
    pub fn replace_authority(&self) -> anyhow::Result<()> {
        *self.authority() = authority()?;
        self.write_certificates()?;
        self.kill_api_server();
        self.start_api_server()
    }

    fn authority(&self) -> std::sync::MutexGuard<'_, CertifiedIssuer<'static, KeyPair>> {
        self.authority.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Makes etcd forget all that was before: who wants to hear what has happened since gets 410 Gone.
    ///
    /// # Errors
    /// etcd does not answer, or refuses.
    pub fn compact(&self) -> anyhow::Result<()> {
        let here = Path::new("/proc/self/ns/net");
        let post = |path: &str, body: &str| -> anyhow::Result<Value> {
            let (code, answer) = crate::http::ask(here, self.etcd_port, "POST", path, body)?;
            anyhow::ensure!(code == 200, "{path}: {code} {answer}");
            Ok(serde_json::from_str(&answer)?)
        };
        let status = post("/v3/maintenance/status", "{}")?;
        let revision = status["header"]["revision"].as_str().context("no revision")?;
        post("/v3/kv/compaction", &format!(r#"{{"revision": "{revision}", "physical": true}}"#))?;
        Ok(())
    }

    /// Starts the API server again after [`ControlPlane::kill_api_server`]; returns when it is ready.
    ///
    /// # Errors
    /// When it does not come up: its last words are in the text.
    pub fn start_api_server(&self) -> anyhow::Result<()> {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let child = spawn(
            self.dir.path(),
            Command::new(component("kube-apiserver")?)
                .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port))
                .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
                .arg(format!("--secure-port={}", self.port))
                .arg(format!("--cert-dir={}", path("certs")))
                .arg(format!("--tls-cert-file={}", path("server.crt")))
                .arg(format!("--tls-private-key-file={}", path("server.key")))
                .arg(format!("--client-ca-file={}", path("ca.crt")))
                .arg("--service-account-issuer=https://kubernetes.default.svc")
                .arg(format!("--service-account-key-file={}", path("accounts.pub")))
                .arg(format!("--service-account-signing-key-file={}", path("accounts.key")))
                .arg(format!("--service-cluster-ip-range={SERVICE_NETWORK}"))
                .args(["--authorization-mode=RBAC", "--allow-privileged=true"])
                .arg(format!("--audit-policy-file={}", path("audit.yaml")))
                .arg(format!("--audit-log-path={}", path("audit.log")))
                // No loopback address can be an endpoint, and no controller makes the accounts of pods.
                .args(["--endpoint-reconciler-type=none", "--disable-admission-plugins=ServiceAccount"]),
        )?;
        *self.server() = Some(child);
        let ended = until(PATIENCE, || {
            let status = self.server().as_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = status {
                return Ok(Some(status));
            }
            run(self.kubectl(Caller::Admin)?.args(["get", "--raw", "/readyz"])).map(|_| None)
        })
        .with_context(|| self.log("kube-apiserver"))?;
        match ended {
            Some(status) => bail!("kube-apiserver ended with {status}: {}", self.log("kube-apiserver")),
            None => Ok(()),
        }
    }

    /// Ends the API server as a power failure would; etcd stays.
    pub fn kill_api_server(&self) {
        let child = self.server().take();
        if let Some(mut child) = child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops or continues the API server, as a network failure would look to its callers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal_api_server(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.server().as_ref().map(Child::id).context("kube-apiserver does not run")?;
        Ok(kill(Pid::from_raw(i32::try_from(pid)?), signal)?)
    }

    fn server(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.api_server.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The port of the API server on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A kubeconfig for `caller`.
    ///
    /// # Errors
    /// When the account does not exist.
    pub fn kubeconfig(&self, caller: Caller<'_>) -> anyhow::Result<PathBuf> {
        let Caller::ServiceAccount(namespace, name) = caller else {
            return Ok(self.dir.path().join("admin.kubeconfig"));
        };
        self.write_kubeconfig(
            &format!("{namespace}-{name}"),
            &format!("token: {}", self.token(namespace, name)?),
        )
    }

    /// A new token of a pod's account.
    ///
    /// # Errors
    /// When the account does not exist.
    pub fn token(&self, namespace: &str, name: &str) -> anyhow::Result<String> {
        let token = run(self.kubectl(Caller::Admin)?.args(["create", "token", name, "-n", namespace]))?;
        Ok(token.trim().to_owned())
    }

    /// `kubectl` as `caller`, to be given arguments.
    ///
    /// # Errors
    /// When there is no `kubectl`, or no such account.
    pub fn kubectl(&self, caller: Caller<'_>) -> anyhow::Result<Command> {
        let mut command = Command::new(component("kubectl")?);
        command.env("KUBECONFIG", self.kubeconfig(caller)?).env("HOME", self.dir.path());
        Ok(command)
    }

    /// A client as `caller`, for what would take `kubectl` too long.
    ///
    /// # Errors
    /// When there is no such account.
    pub async fn client(&self, caller: Caller<'_>) -> anyhow::Result<Client> {
        let file = Kubeconfig::read_from(self.kubeconfig(caller)?)?;
        Ok(Client::try_from(Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)?)
    }

    /// `kubectl ARGUMENTS` as administrator: its output.
    ///
    /// # Errors
    /// When it ends with another status than 0.
    pub fn ask(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(self.kubectl(Caller::Admin)?.args(arguments))
    }

    /// The same as JSON.
    ///
    /// # Errors
    /// When it ends with another status than 0 or does not print JSON.
    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.ask(&[arguments, &["-o", "json"]].concat())?)?)
    }

    /// `kubectl apply -f -` as administrator.
    ///
    /// # Errors
    /// When an object is refused: the API server's words.
    pub fn apply(&self, yaml: &str) -> anyhow::Result<String> {
        self.feed(&["apply", "-f", "-"], yaml)
    }

    /// `kubectl ARGUMENTS` with `input` as its standard input, as administrator.
    ///
    /// # Errors
    /// When it ends with another status than 0: what it said.
    pub fn feed(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        use std::io::Write;
        let mut command = self.kubectl(Caller::Admin)?;
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().context("no standard input")?.write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("{}", crate::both(&output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What accounts of pods have asked for so far: an `audit.k8s.io/v1` Event each.
    ///
    /// # Errors
    /// When the log can't be read.
    pub fn audit(&self) -> anyhow::Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.path("audit.log")).context("no audit log")?;
        // The last line may be in the making.
        let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
        Ok(whole.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }

    /// A file that goes away with the control plane.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What a component has said last.
    fn log(&self, component: &str) -> String {
        let text = std::fs::read_to_string(self.dir.path().join(component).with_extension("log"))
            .unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    fn write_kubeconfig(&self, name: &str, credentials: &str) -> anyhow::Result<PathBuf> {
        let authority = self.dir.path().join("ca.crt");
        self.write(
            &format!("{name}.kubeconfig"),
            &format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
                 clusters:\n- name: test\n  cluster:\n    server: https://127.0.0.1:{}\n    certificate-authority: {}\n\
                 users:\n- name: test\n  user:\n    {credentials}\n\
                 contexts:\n- name: test\n  context:\n    cluster: test\n    user: test\n",
                self.port,
                authority.display()
            ),
        )
    }

    /// A certificate and its key.
    fn certificate(&self, name: &str, group: Option<&str>, server: bool) -> anyhow::Result<(String, String)> {
        let names = if server {
            vec!["127.0.0.1".to_owned(), "localhost".to_owned(), "kubernetes.default.svc".to_owned()]
        } else {
            Vec::new()
        };
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![if server {
            ExtendedKeyUsagePurpose::ServerAuth
        } else {
            ExtendedKeyUsagePurpose::ClientAuth
        }];
        let key = KeyPair::generate()?;
        let authority = self.authority();
        Ok((params.signed_by(&key, &*authority)?.pem(), key.serialize_pem()))
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.kill_api_server();
        let _ = self.etcd.kill();
        let _ = self.etcd.wait();
    }
}

fn authority() -> anyhow::Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "test");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

/// A port of loopback that nobody listens on now.
///
/// # Errors
/// There is none.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Starts a program whose words go to a file beside its data, and which ends with the test.
fn spawn(dir: &Path, command: &mut Command) -> anyhow::Result<Child> {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default();
    let log = std::fs::File::create(dir.join(name).with_extension("log"))?;
    command.current_dir(dir).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    command.spawn().with_context(|| format!("{command:?}"))
}
