//! The CNI plugin, called as a container runtime calls it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

use anyhow::{Context, ensure};
use controller::node::netns::NetNs;
use serde_json::Value;

use crate::{Lab, binary, both, run};

/// A pod's sandbox: a network namespace and a container id. The namespace goes away with this.
pub struct Sandbox {
    /// `K8S_POD_NAME`.
    pub name: String,
    /// `K8S_POD_NAMESPACE`.
    pub namespace: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    netns: String,
    /// What its last ADD gave.
    result: Mutex<Value>,
}

impl Sandbox {
    /// The sandbox number `n` of a lab, of a pod of namespace `default`.
    ///
    /// # Errors
    /// The namespace can't be made.
    pub fn new(lab: &Lab, n: usize) -> anyhow::Result<Self> {
        let netns = format!("{}.sandbox.{n}", lab.name());
        NetNs::create_named(&netns)?;
        Ok(Self {
            name: format!("pod-{n}"),
            namespace: "default".to_owned(),
            container_id: format!("{:064x}", n + 1),
            netns,
            result: Mutex::default(),
        })
    }

    /// The path of its namespace.
    #[must_use]
    pub fn netns(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.netns)
    }

    /// The name of its namespace.
    #[must_use]
    pub fn netns_name(&self) -> &str {
        &self.netns
    }

    /// The address that it has.
    ///
    /// # Errors
    /// It has none.
    pub fn address(&self) -> anyhow::Result<String> {
        let shown = run(Command::new("ip").args(["-n", &self.netns, "-o", "-4", "addr", "show", "eth0"]))?;
        let address = shown.split_whitespace().nth(3).and_then(|net| net.split('/').next());
        Ok(address.with_context(|| shown.clone())?.to_owned())
    }

    /// Pings another one until an answer comes, for some seconds.
    ///
    /// # Errors
    /// There is no answer.
    pub fn reaches(&self, other: &Self) -> anyhow::Result<()> {
        let address = other.address()?;
        let mut ping = Command::new("ip");
        ping.args(["netns", "exec", &self.netns, "ping", "-c", "1", "-i", "0.2", "-w", "10", &address]);
        run(&mut ping).map(|_| ())
    }

    /// Pings another one once, within its network: no answer may come.
    ///
    /// # Errors
    /// One does.
    pub fn is_isolated_from(&self, other: &Self) -> anyhow::Result<()> {
        let address = other.address()?;
        let ping = Command::new("ip")
            .args(["netns", "exec", &self.netns, "ping", "-c", "1", "-W", "1", &address])
            .output()?;
        let said = both(&ping);
        ensure!(said.contains("100% packet loss"), "{} and {}: {said}", self.name, other.name);
        Ok(())
    }

    /// Runs the plugin to its end. `change` may alter the environment before.
    ///
    /// # Errors
    /// The plugin can't be started.
    pub fn call(
        &self,
        command: &str,
        socket: &Path,
        change: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Output> {
        let mut config = serde_json::json!({ "cniVersion": "1.0.0", "socket": socket });
        if command == "CHECK" {
            config["prevResult"] = self.result.lock().map(|result| result.clone()).unwrap_or_default();
        }
        let output = self.call_with(command, &config, change)?;
        if command == "ADD" && output.status.success() {
            let result = serde_json::from_slice(&output.stdout)?;
            if let Ok(mut last) = self.result.lock() {
                *last = result;
            }
        }
        Ok(output)
    }

    /// The same with a network configuration; its name and type are added.
    ///
    /// # Errors
    /// The plugin can't be started.
    pub fn call_with(
        &self,
        command: &str,
        config: &Value,
        change: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Output> {
        let mut config = config.clone();
        config["name"] = "openshift-sdn".into();
        config["type"] = "openshift-sdn".into();
        let mut plugin = Command::new(binary("openshift-sdn")?);
        plugin
            .env_clear()
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &self.container_id)
            .env("CNI_NETNS", self.netns())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/opt/cni/bin")
            .env("CNI_ARGS", self.args(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        change(&mut plugin);
        let mut child = plugin.spawn()?;
        // One that refuses the call need not read its input.
        let _ = child.stdin.take().context("no stdin")?.write_all(config.to_string().as_bytes());
        Ok(child.wait_with_output()?)
    }

    /// `CNI_ARGS` with `more` at the end.
    #[must_use]
    pub fn args(&self, more: &str) -> String {
        let Self { name, namespace, .. } = self;
        format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}{more}")
    }

    /// Runs the plugin, which must succeed.
    ///
    /// # Errors
    /// It does not.
    pub fn succeed(&self, command: &str, socket: &Path) -> anyhow::Result<String> {
        let output = self.call(command, socket, |_| {})?;
        ensure!(output.status.success(), "{command} of {}: {}", self.name, both(&output));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Puts a pod of namespace `default` into the lab's cluster: `metadata` and `rest` are lines of YAML below
/// `metadata:` and beside it.
///
/// # Errors
/// The lab has no directory of objects, or it can't be written.
pub fn write_pod(lab: &Lab, name: &str, metadata: &str, rest: &str) -> anyhow::Result<()> {
    let directory = lab.cluster_dir("node1")?;
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: default\n{metadata}spec:\n  nodeName: node1\n  \
         containers:\n  - name: c\n    image: i\n{rest}"
    );
    // Whole or not at all, for whoever watches the directory.
    let temporary = directory.join(format!(".{name}.tmp"));
    std::fs::write(&temporary, text)?;
    std::fs::rename(&temporary, directory.join(format!("{name}.yaml")))?;
    Ok(())
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Err(error) = NetNs::delete_named(&self.netns) {
            eprintln!("{error}");
        }
    }
}

/// Where the agent of a lab's first node is asked.
///
/// # Errors
/// The lab has no node.
pub fn socket(lab: &Lab) -> anyhow::Result<PathBuf> {
    let status = lab.status()?;
    Ok(PathBuf::from(status["nodes"][0]["cniSocket"].as_str().context("no cniSocket in the status")?))
}

/// Code and text of a CNI error.
///
/// # Errors
/// The plugin succeeded, or did not print an error.
pub fn error_of(output: &Output) -> anyhow::Result<(u64, String)> {
    ensure!(!output.status.success(), "it succeeded: {}", both(output));
    let error: Value = serde_json::from_slice(&output.stdout).with_context(|| both(output))?;
    let code = error["code"].as_u64().context("no code")?;
    Ok((code, format!("{} {}", error["msg"], error["details"])))
}

/// The addresses that a lab's first node has leased.
///
/// # Errors
/// The lease directory can't be read.
pub fn leases(lab: &Lab) -> anyhow::Result<Vec<String>> {
    let status = lab.status()?;
    let name = status["nodes"][0]["name"].as_str().context("no node in the status")?.to_owned();
    let leases = lab.ovs_dir(&name)?.join("../leases/openshift-sdn");
    Ok(std::fs::read_dir(&leases)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.parse::<std::net::Ipv4Addr>().is_ok())
        .collect())
}

/// No port, no queue, no flow, no lease, no veth of a pod on `node1`.
///
/// # Errors
/// Something is.
pub fn nothing_is_left(lab: &Lab) -> anyhow::Result<()> {
    lab.ask(&["diff"])?;
    let interfaces = lab.ovs("node1", &["ovs-vsctl", "list", "Interface"])?;
    ensure!(!interfaces.contains("sandbox"), "{interfaces}");
    let queues = lab.ovs("node1", &["ovs-vsctl", "list", "QoS"])?;
    ensure!(queues.trim().is_empty(), "{queues}");
    let flows = lab.ovs("node1", &["ovs-ofctl", "-O", "OpenFlow13", "dump-flows", "br0", "table=70"])?;
    ensure!(!flows.contains("priority=100"), "{flows}");
    let links = lab.inside("node/node1", &["ip", "-brief", "link"]).output()?;
    ensure!(!both(&links).contains("veth"), "{}", both(&links));
    let leases = leases(lab)?;
    ensure!(leases.is_empty(), "leases {leases:?}");
    Ok(())
}
