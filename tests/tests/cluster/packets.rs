//! Real packets: who reaches whom, and under which address.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use tests::{Lab, run, until};

use super::Test;

/// Pods of the demo: `NAMESPACE/NAME` and address.
pub(crate) const WEB: (&str, &str) = ("default/web-76c94f7546-t8pfq", "10.130.0.5");
pub(crate) const NGINX: (&str, &str) = ("default/tomcat-nginx-6cf8c89cd7", "10.130.0.6");
pub(crate) const TOMCAT: (&str, &str) = ("default/tomcat-7f646bb995-b8bhr", "10.131.0.4");
const PUBLIC: (&str, &str) = ("kube-public/tomcat-nginx-6cf8c89cd7-6hhmf", "10.128.0.56");

const OUTSIDE: &str = "192.168.108.1";

/// The plugin `subnet`: everyone reaches everyone.
pub(crate) fn flat() -> Vec<(&'static str, Test)> {
    vec![
        ("pods_of_a_node_reach_each_other", |lab| both_ways(lab, WEB, NGINX)),
        ("pods_of_two_nodes_reach_each_other", |lab| both_ways(lab, WEB, TOMCAT)),
        ("pods_of_two_namespaces_reach_each_other", |lab| both_ways(lab, WEB, PUBLIC)),
        ("large_packets_are_not_lost", large_packets_are_not_lost),
        ("a_node_and_its_pods_reach_each_other", |lab| node_and_pod(lab, "node2.ocp.cn", WEB, "10.130.0.1")),
        ("a_node_reaches_pods_elsewhere_and_they_answer", |lab| {
            // As a NodePort or a host-network router does: from the node's tun0 through the tunnel and back.
            node_and_pod(lab, "node1.ocp.cn", WEB, "10.131.0.1")
        }),
        ("the_outside_sees_a_pod_under_its_nodes_address", the_outside_sees_a_pod_under_its_nodes_address),
        ("the_pods_link_is_as_it_should_be", the_pods_link_is_as_it_should_be),
    ]
}

/// The plugin `multitenant`: each tenant among itself, and with VNID 0.
pub(crate) fn tenants() -> Vec<(&'static str, Test)> {
    vec![
        ("a_tenants_pods_reach_each_other_on_one_node_and_on_two", |lab| {
            let mates = pods_of(lab, "kube-public")?;
            ensure!(mates.len() >= 3, "the demo has {} pods in kube-public", mates.len());
            let nodes: std::collections::BTreeSet<&str> = mates.iter().map(|pod| pod.node.as_str()).collect();
            ensure!(nodes.len() > 1 && nodes.len() < mates.len(), "on one node and on two: {nodes:?}");
            for (from, to) in pairs(&mates, &mates) {
                reaches(lab, &from.place, &to.ip)?;
            }
            Ok(())
        }),
        ("tenants_do_not_reach_each_other", |lab| {
            let (one, other) = (pods_of(lab, "kube-public")?, pods_of(lab, "kube-system")?);
            ensure!(!other.is_empty(), "the demo has no pod in kube-system");
            for (from, to) in pairs(&one, &other) {
                reaches_not(lab, &from.place, &to.ip)?;
                reaches_not(lab, &to.place, &from.ip)?;
            }
            Ok(())
        }),
        ("vnid_0_and_all_tenants_reach_each_other", |lab| {
            let global = pods_of(lab, "default")?;
            let tenants = [pods_of(lab, "kube-public")?, pods_of(lab, "kube-system")?].concat();
            for (from, to) in pairs(&global, &tenants) {
                reaches(lab, &from.place, &to.ip)?;
                reaches(lab, &to.place, &from.ip)?;
            }
            Ok(())
        }),
        ("a_new_vnid_takes_effect_without_a_restart", a_new_vnid_takes_effect_without_a_restart),
    ]
}

#[derive(Clone)]
struct Pod {
    place: String,
    ip: String,
    node: String,
}

fn pods_of(lab: &Lab, namespace: &str) -> anyhow::Result<Vec<Pod>> {
    let status = lab.json(&["lab", "status", "-o", "json"])?;
    let text = |pod: &serde_json::Value, key: &str| pod[key].as_str().unwrap_or_default().to_owned();
    let pods = status["pods"].as_array().context("no pods in the status")?;
    Ok(pods
        .iter()
        .filter(|pod| pod["namespace"] == namespace)
        .map(|pod| Pod {
            place: format!("{namespace}/{}", text(pod, "name")),
            ip: text(pod, "ip"),
            node: text(pod, "node"),
        })
        .collect())
}

fn pairs<'a>(from: &'a [Pod], to: &'a [Pod]) -> impl Iterator<Item = (&'a Pod, &'a Pod)> {
    from.iter()
        .flat_map(move |from| to.iter().map(move |to| (from, to)))
        .filter(|(from, to)| from.ip != to.ip)
}

fn both_ways(lab: &Lab, one: (&str, &str), other: (&str, &str)) -> anyhow::Result<()> {
    reaches(lab, one.0, other.1)?;
    reaches(lab, other.0, one.1)?;
    // The sender's own address arrives: nothing in between hides it.
    let peer = tcp(lab, one.0, other.0, other.1)?;
    ensure!(peer == one.1, "{} sees {peer} instead of {}", other.0, one.1);
    Ok(())
}

fn reaches(lab: &Lab, from: &str, to: &str) -> anyhow::Result<()> {
    run(&mut lab.inside(from, &["ping", "-c", "2", "-i", "0.05", "-W", "2", to])).map(|_| ())
}

fn reaches_not(lab: &Lab, from: &str, to: &str) -> anyhow::Result<()> {
    let output = lab.inside(from, &["ping", "-c", "2", "-i", "0.05", "-W", "0.3", to]).output()?;
    ensure!(!output.status.success(), "{from} reaches {to}");
    Ok(())
}

/// Sends half a megabyte over TCP from one place to a listener in another; the address that the listener sees.
fn tcp(lab: &Lab, from: &str, to: &str, address: &str) -> anyhow::Result<String> {
    const BYTES: &str = "500000";
    let port = "7001";
    let listener = lab
        .inside(to, &["sh", "-c", &format!("nc -nlv -w 10 {port} | wc -c")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    until(Duration::from_secs(5), || {
        let listening = run(&mut lab.inside(to, &["sh", "-c", "ss -Hltn || cat /proc/net/tcp"]))?;
        ensure!(listening.contains(&format!(":{port}")), "nobody listens");
        Ok(())
    })?;
    run(&mut lab.inside(
        from,
        &["sh", "-c", &format!("head -c {BYTES} /dev/zero | nc -n -N -w 10 {address} {port}")],
    ))?;
    let output = listener.wait_with_output()?;
    let received = String::from_utf8_lossy(&output.stdout);
    ensure!(received.trim() == BYTES, "{received} of {BYTES} bytes arrived\n{}", tests::both(&output));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let peer = said.split("Connection received on ").nth(1).and_then(|rest| rest.split_whitespace().next());
    Ok(peer.with_context(|| format!("no peer in {said}"))?.to_owned())
}

fn large_packets_are_not_lost(lab: &Lab) -> anyhow::Result<()> {
    // The largest that fits the overlay's MTU of 1450 whole, and one in fragments.
    for (size, whole) in [("1422", "do"), ("3000", "dont")] {
        for to in [NGINX.1, TOMCAT.1] {
            let ping = ["ping", "-c", "2", "-i", "0.05", "-W", "2", "-s", size, "-M", whole, to];
            run(&mut lab.inside(WEB.0, &ping))?;
        }
    }
    let output =
        lab.inside(WEB.0, &["ping", "-c", "1", "-W", "1", "-s", "1423", "-M", "do", NGINX.1]).output()?;
    ensure!(!output.status.success(), "a packet of 1451 bytes must not pass whole");
    Ok(())
}

fn node_and_pod(lab: &Lab, node: &str, pod: (&str, &str), tun0: &str) -> anyhow::Result<()> {
    let node = format!("node/{node}");
    reaches(lab, &node, pod.1)?;
    let peer = tcp(lab, &node, pod.0, pod.1)?;
    ensure!(peer == tun0, "{} sees {peer} instead of {tun0}", pod.0);
    reaches(lab, pod.0, tun0)?;
    let peer = tcp(lab, pod.0, &node, tun0)?;
    ensure!(peer == pod.1, "{node} sees {peer} instead of {}", pod.1);
    Ok(())
}

fn the_outside_sees_a_pod_under_its_nodes_address(lab: &Lab) -> anyhow::Result<()> {
    for (pod, node_ip) in [(WEB, "192.168.108.112"), (TOMCAT, "192.168.108.111")] {
        reaches(lab, pod.0, OUTSIDE)?;
        let peer = tcp(lab, pod.0, "underlay", OUTSIDE)?;
        ensure!(peer == node_ip, "the outside sees {peer} instead of {node_ip}");
    }
    // And another node, which is outside of the pod network as well.
    let peer = tcp(lab, WEB.0, "node/node1.ocp.cn", "192.168.108.111")?;
    ensure!(peer == "192.168.108.112", "node1 sees {peer}");
    Ok(())
}

fn the_pods_link_is_as_it_should_be(lab: &Lab) -> anyhow::Result<()> {
    let link = run(&mut lab.inside(WEB.0, &["ip", "-d", "address", "show", "eth0"]))?;
    for fact in ["mtu 1450", "link/ether 0a:58:0a:82:00:05", "inet 10.130.0.5/23"] {
        ensure!(link.contains(fact), "{fact} is not in\n{link}");
    }
    let routes = run(&mut lab.inside(WEB.0, &["ip", "route"]))?;
    for fact in [
        "default via 10.130.0.1 dev eth0",
        "10.128.0.0/14 dev eth0",
        "172.30.0.0/16 via 10.130.0.1 dev eth0",
        "224.0.0.0/4 dev eth0",
    ] {
        ensure!(routes.contains(fact), "{fact} is not in\n{routes}");
    }
    Ok(())
}

fn a_new_vnid_takes_effect_without_a_restart(lab: &Lab) -> anyhow::Result<()> {
    let public = pods_of(lab, "kube-public")?;
    let system = pods_of(lab, "kube-system")?;
    let (from, to) = (public.first().context("no pod")?, system.first().context("no pod")?);
    let set = |namespace: &str, vnid: u32| -> anyhow::Result<()> {
        let patch = format!("{{\"netid\":{vnid}}}");
        lab.ask(&["patch", "netnamespace", namespace, "-p", &patch]).map(|_| ())
    };
    set("kube-system", 8_583_346)?;
    until(Duration::from_secs(5), || reaches(lab, &from.place, &to.ip))?;
    set("kube-system", 272_037)?;
    until(Duration::from_secs(5), || reaches_not(lab, &from.place, &to.ip))
}

/// A ping that runs while something happens.
pub(crate) struct Pinging(std::process::Child);

impl Pinging {
    /// `rate` packets a second for `seconds`. Late is not lost.
    pub(crate) fn start(lab: &Lab, from: &str, to: &str, rate: u32, seconds: u32) -> anyhow::Result<Self> {
        let (count, interval) = ((seconds * rate).to_string(), (1.0 / f64::from(rate)).to_string());
        let mut ping: Command =
            lab.inside(from, &["ping", "-q", "-i", &interval, "-c", &count, "-W", "5", to]);
        Ok(Self(ping.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?))
    }

    /// How many were sent and how many came back.
    pub(crate) fn finish(self) -> anyhow::Result<(u32, u32)> {
        let output = self.0.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = |word: &str| -> Option<u32> {
            text.split(word)
                .next()?
                .split(|c: char| !c.is_ascii_digit())
                .rfind(|n| !n.is_empty())?
                .parse()
                .ok()
        };
        let sent = number(" packets transmitted").with_context(|| text.clone())?;
        let received = number(" received").with_context(|| text.clone())?;
        Ok((sent, received))
    }
}
