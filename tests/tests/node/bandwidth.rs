//! Bandwidth annotations, as the database has them and as an ADD that is refused names them.

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::cni::{Sandbox, error_of, nothing_is_left, socket};
use tests::{Lab, until};

/// A pod of that name with annotations, in the lab's cluster.
fn pod(lab: &Lab, name: &str, annotations: &str) -> anyhow::Result<()> {
    let directory = lab.ovs_dir("node1")?.join("../../../cluster");
    let directory = if directory.exists() { directory } else { lab.ovs_dir("node1")?.join("../../cluster") };
    ensure!(directory.is_dir(), "no directory {}", directory.display());
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: default\n  annotations:\n{annotations}spec:\n  \
         nodeName: node1\n  containers:\n  - name: c\n    image: i\n"
    );
    let path = directory.join(format!("{name}.yaml"));
    let temporary = directory.join(format!(".{name}.tmp"));
    std::fs::write(&temporary, text)?;
    std::fs::rename(&temporary, &path)?;
    Ok(())
}

#[test]
fn limits_come_and_go_with_the_pod() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let agent = socket(&lab)?;
    let (limited, refused) = (Sandbox::new(&lab, 1)?, Sandbox::new(&lab, 2)?);
    pod(&lab, "pod-1", "    kubernetes.io/ingress-bandwidth: 10M\n    kubernetes.io/egress-bandwidth: 5M\n")?;
    pod(&lab, "pod-2", "    kubernetes.io/egress-bandwidth: 12bananas\n")?;
    // The agent has to have read the files.
    let (code, text) = until(std::time::Duration::from_secs(10), || {
        let output = refused.call("ADD", &agent, |_| {})?;
        if output.status.success() {
            refused.succeed("DEL", &agent)?;
        }
        error_of(&output)
    })?;
    ensure!(
        code == 7 && text.contains("kubernetes.io/egress-bandwidth") && text.contains("12bananas"),
        "{code}: {text}"
    );

    let result: Value = serde_json::from_str(&limited.succeed("ADD", &agent)?)?;
    let veth = result["interfaces"][0]["name"].as_str().context("no name")?;
    let get =
        |row: &str| lab.ovs("node1", &[&["ovs-vsctl"][..], &row.split(' ').collect::<Vec<_>>()].concat());
    ensure!(get(&format!("get Interface {veth} ingress_policing_rate"))?.trim() == "5000", "policing");
    ensure!(get(&format!("get Interface {veth} ingress_policing_burst"))?.trim() == "5000", "burst");
    let queue = get("--columns=type,other_config list QoS")?;
    ensure!(queue.contains("linux-htb") && queue.contains("max-rate=\"10000000\""), "{queue}");
    ensure!(get(&format!("get Port {veth} qos"))?.trim() != "[]", "the port has no queue");
    limited.succeed("DEL", &agent)?;
    nothing_is_left(&lab)
}
