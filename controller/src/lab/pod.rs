//! Pods of a lab: a namespace, wired by the CNI plugin exactly as a container runtime has it done.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::Deserialize;
use serde_json::json;

use super::plan::PlannedPod;
use super::state::{LabState, PodState, Store};
use super::{LabDir, LabError};
use crate::node::netns::{NAMED, NetNs};

/// The name of a pod's interface in its namespace.
const INTERFACE: &str = "eth0";

/// Wires and unwires the pods of a lab.
#[derive(Clone, Debug)]
pub struct Sandboxes {
    /// Where the lab's files are.
    pub dir: LabDir,
    /// The record of what is made.
    pub store: Store,
    /// The CNI plugin.
    pub plugin: PathBuf,
}

/// What ADD has made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Attached {
    /// The pod's address.
    ip: Ipv4Addr,
    /// The name of the node's end of the veth pair.
    port: Option<String>,
}

impl Sandboxes {
    /// Makes the pod's namespace and has it wired.
    ///
    /// # Errors
    /// [`LabError::PodExists`], [`LabError::NetNs`], [`LabError::Cni`]. The namespace is removed again.
    pub async fn add(&self, node: &str, pod: &PlannedPod) -> Result<PodState, LabError> {
        let key = key(&pod.name);
        let netns = self.dir.pod_netns(&pod.name.0, &pod.name.1);
        let sandbox = PodState {
            node: node.to_owned(),
            netns: netns.clone(),
            container_id: random_hex(32)?,
            uid: match &pod.uid {
                Some(uid) => uid.clone(),
                None => random_uid()?,
            },
            ip: None,
            port: None,
        };
        self.store.update(|state| {
            if state.pods.contains_key(&key) {
                return Err(LabError::PodExists { lab: state.name.clone(), pod: key.clone() });
            }
            if Path::new(NAMED).join(&netns).exists() {
                return Err(LabError::NamespaceTaken { netns: netns.clone() });
            }
            state.pods.insert(key.clone(), sandbox.clone());
            state.namespaces.push(netns.clone());
            Ok(())
        })??;
        let attached = match NetNs::create_named(&netns) {
            Ok(_) => self.call(node, "ADD", &pod.name, &sandbox, pod.ip).await.and_then(|stdout| {
                attached(&stdout).map_err(|reason| LabError::Cni { command: "ADD", pod: key.clone(), reason })
            }),
            Err(error) => Err(error.into()),
        };
        match attached {
            Ok(Attached { ip, port }) => {
                let sandbox = PodState { ip: Some(ip), port, ..sandbox };
                self.store.update(|state| state.pods.insert(key, sandbox.clone()))?;
                Ok(sandbox)
            }
            Err(error) => {
                // As a runtime does after a failed ADD; the error to tell is the first one.
                let _ = self.delete(&pod.name).await;
                Err(error)
            }
        }
    }

    /// Has the pod unwired and removes its namespace. Everything is tried; what is left is forgotten only when its
    /// namespace is gone.
    ///
    /// # Errors
    /// [`LabError::NoPod`]; the first of what did not work.
    pub async fn delete(&self, pod: &(String, String)) -> Result<(), LabError> {
        let key = key(pod);
        let state = self.store.read()?;
        let sandbox = find(&state, &key)?;
        let unwired = self.call(&sandbox.node, "DEL", pod, sandbox, None).await;
        NetNs::delete_named(&sandbox.netns)?;
        self.store.update(|state| {
            state.pods.remove(&key);
            state.namespaces.retain(|name| *name != sandbox.netns);
        })?;
        unwired.map(drop)
    }

    /// Runs the plugin (CNI 1.1.0, section 2 "Execution Protocol") and gives back what it printed.
    async fn call(
        &self,
        node: &str,
        verb: &'static str,
        pod: &(String, String),
        sandbox: &PodState,
        ip: Option<Ipv4Addr>,
    ) -> Result<Vec<u8>, LabError> {
        let config = json!({
            "cniVersion": "1.0.0",
            "name": "openshift-sdn",
            "type": "openshift-sdn",
            "socket": self.dir.node(node).cni_socket(),
        });
        let mut arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
            pod.0, pod.1, sandbox.container_id, sandbox.uid
        );
        if let Some(ip) = ip {
            arguments.push_str(&format!(";IP={ip}"));
        }
        let mut command = Command::new(&self.plugin);
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &sandbox.container_id)
            .env("CNI_NETNS", Path::new(NAMED).join(&sandbox.netns))
            .env("CNI_IFNAME", INTERFACE)
            .env("CNI_ARGS", arguments)
            .env("CNI_PATH", self.plugin.parent().unwrap_or(Path::new("")));
        let output = tokio::task::spawn_blocking(move || with_input(command, config.to_string().as_bytes()))
            .await
            .map_err(io::Error::other)
            .and_then(|output| output)
            .map_err(|source| LabError::Spawn { program: self.plugin.clone(), source })?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(LabError::Cni { command: verb, pod: key(pod), reason: reason(&output) })
        }
    }
}

/// The sandbox of a pod.
///
/// # Errors
/// [`LabError::NoPod`].
pub fn find<'a>(state: &'a LabState, key: &str) -> Result<&'a PodState, LabError> {
    state.pods.get(key).ok_or_else(|| LabError::NoPod { lab: state.name.clone(), pod: key.to_owned() })
}

/// `NAMESPACE/NAME`.
pub fn key((namespace, name): &(String, String)) -> String {
    format!("{namespace}/{name}")
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

fn random_hex(bytes: usize) -> Result<String, LabError> {
    let source = Path::new("/dev/urandom");
    let mut buffer = vec![0u8; bytes];
    File::open(source)
        .and_then(|mut file| file.read_exact(&mut buffer))
        .map_err(|error| LabError::io("read", source, error))?;
    Ok(buffer.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A random UUID (RFC 9562 §5.4).
fn random_uid() -> Result<String, LabError> {
    let hex = random_hex(16)?;
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    Ok(format!("{}-{}-4{}-a{}-{}", part(0..8), part(8..12), part(13..16), part(17..20), part(20..32)))
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

    #[test]
    fn uids() {
        let uid = random_uid().unwrap();
        assert_eq!(uid.len(), 36);
        assert_eq!(uid.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_ne!(uid, random_uid().unwrap());
    }
}
