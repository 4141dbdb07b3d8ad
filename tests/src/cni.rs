//! The CNI plugin, called as a container runtime calls it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, ensure};
use controller::node::netns::NetNs;
use serde_json::Value;

use crate::{Lab, binary, both};

/// A pod's sandbox: a network namespace and a container id. The namespace goes away with this.
pub struct Sandbox {
    /// `K8S_POD_NAME`; the namespace is `default`.
    pub name: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    netns: String,
}

impl Sandbox {
    /// The sandbox number `n` of a lab.
    ///
    /// # Errors
    /// The namespace can't be made.
    pub fn new(lab: &Lab, n: usize) -> anyhow::Result<Self> {
        let netns = format!("{}.sandbox.{n}", lab.name());
        NetNs::create_named(&netns)?;
        Ok(Self { name: format!("pod-{n}"), container_id: format!("{:064x}", n + 1), netns })
    }

    /// The path of its namespace.
    #[must_use]
    pub fn netns(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.netns)
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
        let config = serde_json::json!({
            "cniVersion": "1.0.0", "name": "openshift-sdn", "type": "openshift-sdn", "socket": socket,
        });
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
        child.stdin.take().context("no stdin")?.write_all(config.to_string().as_bytes())?;
        Ok(child.wait_with_output()?)
    }

    /// `CNI_ARGS` with `more` at the end.
    #[must_use]
    pub fn args(&self, more: &str) -> String {
        format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={}{more}", self.name)
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
