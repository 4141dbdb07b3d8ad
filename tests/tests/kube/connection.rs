//! Credentials that are replaced, a history that is forgotten, and an API server that refuses: agent and controllers go on
//! without being started again.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::kube::{Caller, ControlPlane};
use tests::{both, until};

use super::Test;
use super::agents::{Agents, flows};
use super::allocation::{Controller, DEADLINE, NETWORK, add_nodes, fields, leader};

pub(crate) const TESTS: &[Test] = &[
    ("connection::credentials_are_replaced", credentials_are_replaced),
    ("connection::a_forgotten_history_and_a_broken_server", a_forgotten_history_and_a_broken_server),
];

const NAMESPACE: &str = "openshift-sdn";

/// A pod's files are read again after a minute.
const NOTICED: Duration = Duration::from_secs(100);

/// The volume with a pod's account, as a kubelet keeps it: what is behind `..data` is replaced whole.
struct Account {
    dir: PathBuf,
    name: &'static str,
    writes: u32,
}

impl Account {
    fn new(plane: &ControlPlane, name: &'static str) -> anyhow::Result<Self> {
        let dir = plane.path(&format!("account-{name}"));
        std::fs::create_dir(&dir)?;
        for file in ["token", "ca.crt", "namespace"] {
            symlink(Path::new("..data").join(file), dir.join(file))?;
        }
        let mut account = Self { dir, name, writes: 0 };
        account.write(plane)?;
        Ok(account)
    }

    /// A new token, and the authority as it is now.
    fn write(&mut self, plane: &ControlPlane) -> anyhow::Result<()> {
        self.writes += 1;
        let version = format!("..{}", self.writes);
        let dir = self.dir.join(&version);
        std::fs::create_dir(&dir)?;
        std::fs::write(dir.join("token"), plane.token(NAMESPACE, self.name)?)?;
        std::fs::copy(plane.path("ca.crt"), dir.join("ca.crt"))?;
        std::fs::write(dir.join("namespace"), NAMESPACE)?;
        symlink(version, self.dir.join("..data_tmp"))?;
        Ok(std::fs::rename(self.dir.join("..data_tmp"), self.dir.join("..data"))?)
    }

    /// `program` as in a pod with this account: the volume is where it is in every pod, in a mount namespace of its own.
    fn in_a_pod(&self, plane: &ControlPlane, program: &Path) -> Command {
        const MOUNT: &str = "at=/var/run/secrets/kubernetes.io/serviceaccount; mkdir -p $at && mount --bind \"$1\" $at && \
                             shift && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", MOUNT, "sh"]).arg(&self.dir).arg(program);
        command.env("KUBERNETES_SERVICE_HOST", "127.0.0.1");
        command.env("KUBERNETES_SERVICE_PORT", plane.port().to_string());
        // No kubeconfig of whoever runs the tests.
        command.env_remove("KUBECONFIG").env("HOME", &self.dir);
        command
    }

    /// A kubeconfig that names the files of the volume.
    fn kubeconfig(&self, plane: &ControlPlane) -> anyhow::Result<PathBuf> {
        let path = self.dir.with_extension("kubeconfig");
        let dir = self.dir.display();
        std::fs::write(
            &path,
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: x\n\
                 clusters: [{{name: x, cluster: {{server: 'https://127.0.0.1:{}', certificate-authority: {dir}/ca.crt}}}}]\n\
                 users: [{{name: x, user: {{tokenFile: {dir}/token}}}}]\n\
                 contexts: [{{name: x, context: {{cluster: x, user: x}}}}]\n",
                plane.port()
            ),
        )?;
        Ok(path)
    }
}

/// Waits until the agent has flows to a node that is new: the controller has given it a subnet, the agent has heard of it.
fn a_node_arrives(
    plane: &ControlPlane,
    agents: &Agents,
    n: u8,
    patience: Duration,
) -> anyhow::Result<Duration> {
    let ip = format!("192.168.9.{n}");
    let began = Instant::now();
    add_nodes(plane, &[(format!("arrival-{n}"), ip.clone())])?;
    until(patience, || {
        let flows = flows(agents, 0)?;
        ensure!(flows.iter().any(|flow| flow.contains(&ip)), "no flow to {ip}");
        Ok(())
    })?;
    Ok(began.elapsed())
}

fn credentials_are_replaced(_: &ControlPlane) -> anyhow::Result<()> {
    // One of its own: the others' clients don't expect this.
    let plane = &super::install::installed()?;
    plane.apply(NETWORK)?;
    let mut accounts = [Account::new(plane, "sdn-controller")?, Account::new(plane, "sdn")?];
    let [controllers, agent] = &accounts;
    let in_a_pod = Controller::start_as(plane, "pod", |program| Ok(controllers.in_a_pod(plane, program)))?;
    ensure!(leader(plane)? == "pod");
    let kubeconfig = controllers.kubeconfig(plane)?;
    let by_a_file = Controller::start_as(plane, "file", |program| {
        let mut command = Command::new(program);
        command.env("KUBECONFIG", &kubeconfig);
        Ok(command)
    })?;
    let agents = Agents::started_as(plane, 1, |program| Ok(agent.in_a_pod(plane, program)))?;
    a_node_arrives(plane, &agents, 1, DEADLINE)?;

    // The accounts are made anew, by which the API server forgets their tokens; and it gets another authority.
    let old = std::fs::read_to_string(controllers.dir.join("token"))?;
    let old_authority = plane.path("old-ca.crt");
    std::fs::copy(plane.path("ca.crt"), &old_authority)?;
    for account in &accounts {
        plane.ask(&["delete", "serviceaccount", "-n", NAMESPACE, account.name])?;
        plane.ask(&["create", "serviceaccount", "-n", NAMESPACE, account.name])?;
    }
    plane.replace_authority()?;
    let refused = |authority: &Path, token: &str| -> anyhow::Result<String> {
        let mut command = plane.kubectl(Caller::Admin)?;
        command.env("KUBECONFIG", "/dev/null").args(["get", "nodes", "--server"]);
        command
            .arg(format!("https://127.0.0.1:{}", plane.port()))
            .arg("--certificate-authority")
            .arg(authority);
        let output = command.args(["--token", token]).output()?;
        ensure!(!output.status.success(), "still accepted");
        Ok(both(&output))
    };
    until(DEADLINE, || {
        let answer = refused(&plane.path("ca.crt"), &old)?;
        ensure!(answer.contains("Unauthorized") || answer.contains("must be logged in"), "{answer}");
        Ok(())
    })?;
    let new = plane.token(NAMESPACE, "sdn-controller")?;
    let answer = refused(&old_authority, &new)?;
    ensure!(answer.contains("x509"), "{answer}");
    for account in &mut accounts {
        account.write(plane)?;
    }

    let took = a_node_arrives(plane, &agents, 2, NOTICED)?;
    // Whoever leads by now, the other one can take over.
    let (victim, survivor) = match leader(plane)?.as_str() {
        "pod" => (in_a_pod, by_a_file),
        _ => (by_a_file, in_a_pod),
    };
    victim.kill();
    let took_over = a_node_arrives(plane, &agents, 3, NOTICED)?;
    println!(
        "token and authority replaced: a new node is known {:.0} s later; the other controller takes over within {:.0} s",
        took.as_secs_f64(),
        took_over.as_secs_f64()
    );
    survivor.stop()
}

/// Stops a process, does something, and lets it go on.
fn while_it_sleeps(pid: u32, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?);
    kill(pid, Signal::SIGSTOP)?;
    let done = work();
    kill(pid, Signal::SIGCONT)?;
    done
}

fn a_forgotten_history_and_a_broken_server(plane: &ControlPlane) -> anyhow::Result<()> {
    plane.apply(NETWORK)?;
    let controller = Controller::start(plane, "historian")?;
    let agents = Agents::of(plane, 1)?;
    a_node_arrives(plane, &agents, 11, DEADLINE)?;

    // While the agent hears nothing a node comes, one goes, and the API server forgets that it did.
    let path = "/apis/network.openshift.io/v1/hostsubnets";
    let list: Value = serde_json::from_str(&plane.ask(&["get", "--raw", path])?)?;
    let version = list["metadata"]["resourceVersion"].as_str().context("no version")?.to_owned();
    while_it_sleeps(agents.process(0)?.id(), || {
        add_nodes(plane, &[("arrival-12".into(), "192.168.9.12".into())])?;
        plane.ask(&["delete", "node", "arrival-11"])?;
        until(DEADLINE, || {
            let subnets = fields(plane, "hostsubnets", "subnet")?;
            ensure!(subnets.contains_key("arrival-12") && !subnets.contains_key("arrival-11"), "{subnets:?}");
            Ok(())
        })?;
        plane.kill_api_server();
        plane.compact()?;
        plane.start_api_server()?;
        let watch = format!("{path}?watch=1&resourceVersion={version}&timeoutSeconds=5");
        let mut command = plane.kubectl(Caller::Admin)?;
        let answer = both(&command.args(["get", "--raw", &watch]).output()?);
        ensure!(answer.contains("\"code\":410") || answer.contains("too old"), "still remembered: {answer}");
        Ok(())
    })?;
    until(DEADLINE, || {
        let text = flows(&agents, 0)?.join("\n");
        ensure!(text.contains("192.168.9.12") && !text.contains("192.168.9.11"), "{text}");
        Ok(())
    })?;

    // An error to every write of a HostSubnet.
    let refused = || -> anyhow::Result<usize> {
        let user = format!("system:serviceaccount:{NAMESPACE}:sdn-controller");
        let events = plane.audit()?;
        let ours = events.iter().filter(|event| {
            event["responseStatus"]["code"] == 500 && event["user"]["username"] == user.as_str()
        });
        Ok(ours.count())
    };
    let before = refused()?;
    plane.apply(BROKEN)?;
    // The API server hears of its own configuration a moment later.
    until(DEADLINE, || {
        let probe =
            plane.kubectl(Caller::Admin)?.args(["annotate", "hostsubnet", "arrival-12", "a=b"]).output()?;
        ensure!(!probe.status.success(), "the webhook is not asked yet");
        Ok(())
    })?;
    add_nodes(plane, &[("arrival-14".into(), "192.168.9.14".into())])?;
    plane.ask(&["create", "namespace", "unaffected"])?;
    until(DEADLINE, || {
        ensure!(refused()? > before + 2, "the refused write is not tried again");
        // What is not refused is done meanwhile.
        ensure!(fields(plane, "netnamespaces", "netid")?.contains_key("unaffected"));
        Ok(())
    })?;
    plane.feed(&["delete", "-f", "-"], BROKEN)?;
    until(DEADLINE, || {
        ensure!(flows(&agents, 0)?.iter().any(|flow| flow.contains("192.168.9.14")), "no flow to it");
        Ok(())
    })?;
    plane.ask(&["delete", "node", "--all", "--wait=false"])?;
    plane.ask(&["delete", "namespace", "unaffected", "--wait=false"])?;
    until(DEADLINE, || {
        ensure!(fields(plane, "hostsubnets", "subnet")?.is_empty());
        Ok(())
    })?;
    controller.stop()
}

/// Each write of a HostSubnet ends in an internal error.
const BROKEN: &str = "\
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: broken}
webhooks:
- name: broken.example.com
  clientConfig: {url: 'https://127.0.0.1:1/'}
  failurePolicy: Fail
  sideEffects: None
  timeoutSeconds: 1
  admissionReviewVersions: [v1]
  rules: [{operations: [CREATE, UPDATE], apiGroups: [network.openshift.io], apiVersions: [v1], resources: [hostsubnets]}]
";
