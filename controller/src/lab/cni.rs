//! Calling the CNI plugin as a container runtime calls it (CNI 1.1.0, section 2 "Execution Protocol").

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::Deserialize;
use serde_json::json;

use super::LabError;

/// The name of a pod's interface in its namespace.
const INTERFACE: &str = "eth0";

/// A sandbox to attach or detach.
#[derive(Clone, Debug)]
pub(super) struct Attachment<'a> {
    /// The plugin.
    pub(super) plugin: &'a Path,
    /// Where the node's agent serves.
    pub(super) socket: PathBuf,
    /// Namespace and name of the pod.
    pub(super) pod: &'a (String, String),
    /// The pod's UID.
    pub(super) uid: &'a str,
    /// The sandbox.
    pub(super) container_id: &'a str,
    /// The path of its network namespace.
    pub(super) netns: PathBuf,
}

/// What ADD has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attached {
    /// The pod's address.
    pub(super) ip: Ipv4Addr,
    /// The name of the node's end of the veth pair.
    pub(super) port: Option<String>,
}

impl Attachment<'_> {
    /// Has the sandbox attached, with the address `ip` if there is one.
    ///
    /// # Errors
    /// [`LabError::Cni`], [`LabError::Spawn`].
    pub(super) async fn add(&self, ip: Option<Ipv4Addr>) -> Result<Attached, LabError> {
        let asked = ip.map(|ip| format!(";IP={ip}")).unwrap_or_default();
        attached(&self.call("ADD", &asked).await?).map_err(|reason| self.failed("ADD", reason))
    }

    /// Has the sandbox detached.
    ///
    /// # Errors
    /// [`LabError::Cni`], [`LabError::Spawn`].
    pub(super) async fn delete(&self) -> Result<(), LabError> {
        self.call("DEL", "").await.map(drop)
    }

    async fn call(&self, verb: &'static str, more: &str) -> Result<Vec<u8>, LabError> {
        let (namespace, name) = self.pod;
        let config = json!({
            "cniVersion": "1.0.0",
            "name": "openshift-sdn",
            "type": "openshift-sdn",
            "socket": self.socket,
        });
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID={};\
             K8S_POD_UID={}{more}",
            self.container_id, self.uid
        );
        let mut command = Command::new(self.plugin);
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", self.container_id)
            .env("CNI_NETNS", &self.netns)
            .env("CNI_IFNAME", INTERFACE)
            .env("CNI_ARGS", args)
            .env("CNI_PATH", self.plugin.parent().unwrap_or(Path::new("")));
        let output = tokio::task::spawn_blocking(move || with_input(command, config.to_string().as_bytes()))
            .await
            .map_err(io::Error::other)
            .and_then(|output| output)
            .map_err(|source| LabError::Spawn { program: self.plugin.to_owned(), source })?;
        if output.status.success() { Ok(output.stdout) } else { Err(self.failed(verb, reason(&output))) }
    }

    fn failed(&self, command: &'static str, reason: String) -> LabError {
        LabError::Cni { command, pod: format!("{}/{}", self.pod.0, self.pod.1), reason }
    }
}

fn with_input(mut command: Command, input: &[u8]) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A plugin that ends without reading has its reasons, which its output tells.
        let _ = stdin.write_all(input);
    }
    child.wait_with_output()
}

/// The part of a CNI result that a lab reads.
#[derive(Deserialize)]
struct CniResult {
    #[serde(default)]
    interfaces: Vec<CniInterface>,
    #[serde(default)]
    ips: Vec<CniIp>,
}

#[derive(Deserialize)]
struct CniInterface {
    name: String,
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct CniIp {
    address: ipnet::Ipv4Net,
}

/// A CNI error.
#[derive(Deserialize)]
struct CniFailure {
    code: u32,
    msg: String,
    #[serde(default)]
    details: String,
}

fn attached(stdout: &[u8]) -> Result<Attached, String> {
    let result: CniResult = serde_json::from_slice(stdout).map_err(|error| {
        format!("the plugin's result is not one ({error}): {}", String::from_utf8_lossy(stdout))
    })?;
    let ip = result.ips.first().ok_or("the plugin's result has no address")?.address.addr();
    let port = result.interfaces.into_iter().find(|interface| interface.sandbox.is_empty());
    Ok(Attached { ip, port: port.map(|interface| interface.name) })
}

/// What a plugin that failed has to say.
fn reason(output: &Output) -> String {
    match serde_json::from_slice::<CniFailure>(&output.stdout) {
        Ok(CniFailure { code, msg, details }) if details.is_empty() => format!("{msg} (code {code})"),
        Ok(CniFailure { code, msg, details }) => format!("{msg}: {details} (code {code})"),
        Err(_) => {
            let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
            format!("{}: {}", output.status, String::from_utf8_lossy(&said).trim())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn results() {
        let text = br#"{"cniVersion":"1.0.0","interfaces":[{"name":"veth1234"},
            {"name":"eth0","mac":"0a:58:0a:80:00:02","sandbox":"/run/netns/x"}],
            "ips":[{"address":"10.128.0.2/23","gateway":"10.128.0.1","interface":1}],"dns":{}}"#;
        let expected = Attached { ip: Ipv4Addr::new(10, 128, 0, 2), port: Some("veth1234".into()) };
        assert_eq!(attached(text), Ok(expected));
        assert!(attached(b"").unwrap_err().contains("is not one"));
        assert!(attached(b"{}").unwrap_err().contains("no address"));
    }

    #[test]
    fn failures() {
        let output = |stdout: &str, stderr: &str| Output {
            status: ExitStatus::from_raw(0x100),
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        let error = r#"{"cniVersion":"1.0.0","code":11,"msg":"not ready","details":"no HostSubnet"}"#;
        assert_eq!(reason(&output(error, "")), "not ready: no HostSubnet (code 11)");
        assert_eq!(reason(&output("", "panic\n")), "exit status: 1: panic");
    }
}
