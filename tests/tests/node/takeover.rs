//! Pods that openshift-sdn has wired: its leases and ports stay, and become ours as they are.

use std::time::Duration;

use anyhow::{Context, ensure};
use tests::cni::{Sandbox, leases, nothing_is_left, socket, write_pod};
use tests::{Lab, run, until};

const SOON: Duration = Duration::from_secs(10);

/// What openshift-sdn leaves of a pod: a lease with nothing but the container id, a veth with a name of no meaning and no
/// alias, and a port with sandbox and address.
fn wire(lab: &Lab, pod: &Sandbox, veth: &str, ip: &str, prefix: &str) -> anyhow::Result<()> {
    let netns = pod.netns_name();
    let gateway = prefix.rsplit_once('.').map(|(net, _)| format!("{net}.1")).context("no prefix")?;
    let octets: Vec<u8> = ip.split('.').map(str::parse).collect::<Result<_, _>>()?;
    let mac = octets.iter().fold("0a:58".to_owned(), |mac, octet| format!("{mac}:{octet:02x}"));
    let node = |command: &str| {
        let words: Vec<&str> = command.split(' ').collect();
        run(&mut lab.inside("node/node1", &words))
    };
    node(&format!(
        "ip link add {veth} mtu 1450 type veth peer name eth0 mtu 1450 address {mac} netns {netns}"
    ))?;
    node(&format!("ip link set {veth} up"))?;
    for command in [
        "link set lo up".to_owned(),
        format!("address add {ip}/23 dev eth0"),
        "link set eth0 up".to_owned(),
        format!("route add default via {gateway} dev eth0"),
        "route add 10.128.0.0/14 dev eth0".to_owned(),
    ] {
        node(&format!("ip -n {netns} {command}"))?;
    }
    let lease = lab.ovs_dir("node1")?.join("../leases/openshift-sdn").join(ip);
    std::fs::write(lease, &pod.container_id)?;
    let ids = [format!("external_ids:sandbox={}", pod.container_id), format!("external_ids:ip={ip}")];
    let port = ["ovs-vsctl", "add-port", "br0", veth, "--", "set", "Interface", veth, &ids[0], &ids[1]];
    lab.ovs("node1", &port).map(|_| ())
}

#[test]
fn pods_of_the_replaced_system_are_taken_over_as_they_run() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let agent = socket(&lab)?;
    let pods = (0..4).map(|n| Sandbox::new(&lab, n)).collect::<anyhow::Result<Vec<_>>>()?;
    let [ours, old, unknown, new] = pods.as_slice() else { anyhow::bail!("four sandboxes") };
    ours.succeed("ADD", &agent)?;
    let prefix = ours.address()?;
    let beside = |n: u8| prefix.rsplit_once('.').map(|(net, _)| format!("{net}.{n}")).context("no address");
    let (old_ip, unknown_ip) = (beside(50)?, beside(51)?);

    lab.kill("node1", "sdn-node")?;
    wire(&lab, old, "veth5e1f0a7c", &old_ip, &prefix)?;
    wire(&lab, unknown, "veth0badcafe", &unknown_ip, &prefix)?;
    lab.ovs("node1", &["ovs-ofctl", "-O", "OpenFlow13", "del-flows", "br0"])?;
    let status = |ip: &str| format!("status:\n  phase: Running\n  podIP: {ip}\n");
    write_pod(&lab, &old.name, "  uid: 7c9e\n", &status(&old_ip))?;
    // One that has ended does not have the address any more.
    write_pod(&lab, "ended", "", &format!("status:\n  phase: Succeeded\n  podIP: {old_ip}\n"))?;
    let get = |veth: &str, column: &str| -> anyhow::Result<String> {
        Ok(lab.ovs("node1", &["ovs-vsctl", "get", "Interface", veth, column])?.trim().to_owned())
    };
    let number = get("veth5e1f0a7c", "ofport")?;
    lab.start("node1", "sdn-node")?;

    until(SOON, || {
        let ids = get("veth5e1f0a7c", "external_ids")?;
        let named = ["name=pod-1", "namespace=default", "uid=\"7c9e\""].iter().all(|id| ids.contains(id));
        ensure!(named, "{ids}");
        Ok(())
    })?;
    ensure!(get("veth5e1f0a7c", "ofport")? == number, "another port number");
    ensure!(
        get("veth5e1f0a7c", "ofport_request")? == number,
        "its number is not kept over a restart of the switch"
    );
    let alias = run(&mut lab.inside("node/node1", &["ip", "link", "show", "veth5e1f0a7c"]))?;
    ensure!(alias.contains("alias pod default/pod-1 7c9e"), "{alias}");
    until(SOON, || lab.ask(&["diff"]).map(|_| ()))?;
    ours.reaches(old)?;
    old.reaches(ours)?;

    // The address of the one that no object speaks of is nobody else's, and its port stays.
    new.succeed("ADD", &agent)?;
    new.reaches(old)?;
    let held = leases(&lab)?;
    ensure!(held.contains(&old_ip) && held.contains(&unknown_ip) && held.len() == 4, "{held:?}");
    ensure!(get("veth0badcafe", "external_ids")?.contains("sandbox"), "the port of an unknown pod is gone");
    // Its object comes late.
    write_pod(&lab, &unknown.name, "", &status(&unknown_ip))?;
    until(SOON, || {
        let ids = get("veth0badcafe", "external_ids")?;
        ensure!(ids.contains("name=pod-2"), "{ids}");
        Ok(())
    })?;
    until(SOON, || unknown.reaches(new))?;

    for pod in &pods {
        pod.succeed("DEL", &agent)?;
    }
    nothing_is_left(&lab)
}
