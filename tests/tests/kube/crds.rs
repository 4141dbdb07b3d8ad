//! The definitions: what people see of them, what is refused and in which words.

use anyhow::{Context, ensure};
use tests::checkout;
use tests::kube::ControlPlane;

use super::Test;

pub(crate) const TESTS: &[Test] = &[("crds::columns", columns), ("crds::bad_objects", bad_objects)];

/// A control plane that knows our kinds.
pub(crate) fn installed() -> anyhow::Result<ControlPlane> {
    let plane = ControlPlane::start()?;
    let base = checkout().join("manifests/base");
    plane.ask(&["apply", "-k", &base.to_string_lossy()])?;
    plane.ask(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"])?;
    Ok(plane)
}

fn columns(plane: &ControlPlane) -> anyhow::Result<()> {
    plane.apply(
        "apiVersion: network.openshift.io/v1\nkind: HostSubnet\nmetadata: {name: node1}\nhost: node1\nhostIP: 192.168.1.10\nsubnet: 10.128.0.0/23\n",
    )?;
    let text = plane.ask(&["get", "hostsubnets"])?;
    println!("{text}");
    ensure!(
        text.lines().next().context("nothing")?.split_whitespace().collect::<Vec<_>>().join(" ")
            == "NAME HOST HOST IP SUBNET EGRESS CIDRS EGRESS IPS",
        "{text}"
    );
    Ok(())
}

fn bad_objects(plane: &ControlPlane) -> anyhow::Result<()> {
    for (yaml, words) in [
        (
            "kind: HostSubnet\nmetadata: {name: a}\nhost: b\nhostIP: 192.168.1.10\nsubnet: 10.128.0.0/23\n",
            "host must equal metadata.name",
        ),
        (
            "kind: HostSubnet\nmetadata: {name: a}\nhost: a\nhostIP: 192.168.1\nsubnet: 10.128.0.0/23\n",
            "is no IPv4 address",
        ),
        (
            "kind: HostSubnet\nmetadata: {name: a}\nhost: a\nhostIP: 127.0.0.1\nsubnet: 10.128.0.1/23\n",
            "has host bits set: write the first address",
        ),
    ] {
        let error = plane
            .apply(&format!("apiVersion: network.openshift.io/v1\n{yaml}"))
            .err()
            .context("accepted")?
            .to_string();
        println!("{error}");
        ensure!(error.contains(words), "{error}");
    }
    Ok(())
}
