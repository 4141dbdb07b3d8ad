//! The walks of the reference documents, typed as they stand there: `ofproto/trace` on the node named.

use std::time::Duration;

use anyhow::{Context, ensure};
use tests::{Lab, until};

use super::Test;

pub(crate) fn tests() -> Vec<(&'static str, Test)> {
    vec![
        ("walk_1_between_pods_of_a_node", |lab| {
            let trace = Trace::of(
                lab,
                "node2.ocp.cn",
                "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=10.130.0.5,ct_state=trk",
            )?;
            trace.path(&[0, 20, 21, 30, 70, 80])?;
            trace.says("-> output port is 3")?;
            trace.registers(&[("reg0", 0), ("reg1", 0), ("reg2", 3)])
        }),
        ("walk_2_to_a_pod_of_another_node", |lab| {
            let trace = Trace::of(
                lab,
                "node2.ocp.cn",
                "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=10.131.0.4,ct_state=trk",
            )?;
            trace.path(&[0, 20, 21, 30, 90])?;
            trace.says("set_field:192.168.108.111->tun_dst")?;
            trace.says("NXM_NX_TUN_ID[0..31] is now 0\n")?;
            trace.says("output:1\n")
        }),
        ("walk_3_from_the_tunnel_to_a_pod", |lab| {
            let trace = Trace::of(
                lab,
                "node1.ocp.cn",
                "in_port=1,tcp,tun_src=192.168.108.112,nw_dst=10.131.0.4,ct_state=trk",
            )?;
            trace.path(&[0, 10, 30, 70, 80])?;
            trace.says("-> output port is 3")
        }),
        ("walk_4_from_the_nodes_own_address", |lab| {
            let trace = Trace::of(
                lab,
                "node1.ocp.cn",
                "in_port=1,tcp,tun_src=192.168.108.111,nw_dst=10.131.0.4,ct_state=trk",
            )?;
            trace.path(&[0, 10])?;
            trace.says("Datapath actions: drop")
        }),
        ("walk_5_to_the_outside", |lab| {
            let trace = Trace::of(
                lab,
                "node2.ocp.cn",
                "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=192.168.108.1,ct_state=trk",
            )?;
            trace.path(&[0, 20, 21, 30, 100, 101])?;
            trace.says("output:2\n")
        }),
        ("walk_6_to_a_service", |lab| {
            let trace = Trace::of(
                lab,
                "node2.ocp.cn",
                "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=172.30.161.148,ct_state=trk",
            )?;
            trace.path(&[0, 20, 21, 30, 60])?;
            trace.says("output:2\n")
        }),
        ("table_10_holds_the_other_nodes_and_the_drop", |lab| {
            let flows = lab.ovs(
                "node1.ocp.cn",
                &["ovs-ofctl", "-O", "OpenFlow13", "--no-stats", "dump-flows", "br0", "table=10"],
            )?;
            let mut ends: Vec<&str> =
                flows.lines().filter_map(|line| line.split("priority=").nth(1)).collect();
            ends.sort_unstable();
            let expected = [
                "0 actions=drop",
                "100,tun_src=192.168.108.110 actions=goto_table:30",
                "100,tun_src=192.168.108.112 actions=goto_table:30",
                "100,tun_src=192.168.108.113 actions=goto_table:30",
            ];
            ensure!(ends == expected, "{flows}");
            Ok(())
        }),
        ("between_two_pods_the_switches_say_what_the_walk_says", |lab| {
            let web = "default/web-76c94f7546-t8pfq";
            for (to, hops) in
                [("default/tomcat-7f646bb995-b8bhr", 2), ("default/tomcat-service", 3), ("192.168.108.1", 1)]
            {
                let answer = lab.json(&["trace", "--live", "-o", "json", "--from", web, "--to", to])?;
                let asked = answer["hops"].as_array().context("no hops")?;
                ensure!(asked.len() == hops && answer["reached"] == true, "{to}: {answer:#}");
                for hop in asked {
                    ensure!(hop["live"]["path"] == hop["path"], "{to}: {hop:#}");
                    ensure!(
                        hop["live"]["differences"].as_array().is_some_and(Vec::is_empty),
                        "{to}: {hop:#}"
                    );
                }
            }
            Ok(())
        }),
        ("our_walker_agrees_with_the_switch", |lab| {
            for (node, flow) in [
                ("node2.ocp.cn", "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=10.130.0.5,ct_state=trk"),
                ("node2.ocp.cn", "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=10.130.0.5"),
                ("node2.ocp.cn", "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=10.131.0.4,ct_state=trk"),
                ("node1.ocp.cn", "in_port=1,tcp,tun_src=192.168.108.112,nw_dst=10.131.0.4,ct_state=trk"),
                ("node1.ocp.cn", "in_port=1,tcp,tun_src=192.168.108.111,nw_dst=10.131.0.4,ct_state=trk"),
                ("node2.ocp.cn", "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=192.168.108.1,ct_state=trk"),
                ("node2.ocp.cn", "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=172.30.161.148,ct_state=trk"),
                ("node2.ocp.cn", "in_port=4,tcp,nw_src=10.130.0.99,nw_dst=10.130.0.5,ct_state=trk"),
                ("node2.ocp.cn", "in_port=2,tcp,nw_src=10.130.0.1,nw_dst=10.130.0.5,ct_state=trk"),
                (
                    "node2.ocp.cn",
                    "in_port=4,udp,nw_src=10.130.0.6,nw_dst=192.168.108.111,udp_dst=4789,ct_state=trk",
                ),
                (
                    "node2.ocp.cn",
                    "in_port=4,arp,arp_spa=10.130.0.6,arp_tpa=10.130.0.5,arp_op=1,arp_sha=0a:58:0a:82:00:06",
                ),
            ] {
                agree(lab, node, flow)?;
            }
            Ok(())
        }),
    ]
}

/// The namespace's egress IP on a node, while this lives.
struct EgressIp<'a>(&'a Lab);

impl<'a> EgressIp<'a> {
    /// Gives kube-public an egress IP on infra, and waits until master's switch knows the way.
    fn given(lab: &'a Lab) -> anyhow::Result<Self> {
        let egress_ip = Self(lab);
        egress_ip.patch(r#"{"egressIPs":["192.168.108.200"]}"#)?;
        for node in ["master.ocp.cn", "infra.ocp.cn"] {
            until(Duration::from_secs(20), || {
                let flows =
                    lab.ovs(node, &["ovs-ofctl", "-O", "OpenFlow13", "dump-flows", "br0", "table=100"])?;
                ensure!(flows.contains("reg0=0x82f8b2"), "{node}: {flows}");
                Ok(())
            })?;
        }
        Ok(egress_ip)
    }

    fn patch(&self, patch: &str) -> anyhow::Result<()> {
        self.0.ask(&["patch", "hostsubnet", "infra.ocp.cn", "--patch", patch])?;
        self.0.ask(&["patch", "netnamespace", "kube-public", "--patch", patch])?;
        Ok(())
    }
}

impl Drop for EgressIp<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.patch(r#"{"egressIPs":null}"#) {
            eprintln!("the egress IP stays: {error:#}");
        }
    }
}

/// The walk and the switch of a node agree on a packet.
fn agree(lab: &Lab, node: &str, flow: &str) -> anyhow::Result<()> {
    let answer = lab.json(&["trace", "--node", node, "--live", "-o", "json", flow])?;
    let differences = &answer["live"]["differences"];
    ensure!(
        differences.as_array().is_some_and(Vec::is_empty),
        "{node} {flow}: {differences}\n{}",
        answer["live"]["text"]
    );
    Ok(())
}

/// The walks that need tenants.
pub(crate) fn tenants() -> Vec<(&'static str, Test)> {
    vec![
        ("walk_7_to_the_node_that_hosts_the_egress_ip", |lab| {
            let _given = EgressIp::given(lab)?;
            let packet = "in_port=4,tcp,nw_src=10.128.0.56,nw_dst=192.168.108.1,ct_state=trk";
            let trace = Trace::of(lab, "master.ocp.cn", packet)?;
            trace.path(&[0, 20, 21, 30, 100])?;
            trace.says("set_field:192.168.108.113->tun_dst")?;
            trace.says("NXM_NX_TUN_ID[0..31] is now 0x82f8b2\n")?;
            trace.says("output:1\n")?;
            trace.registers(&[("reg0", 0x82_f8b2)])?;
            agree(lab, "master.ocp.cn", packet)
        }),
        ("walk_8_on_the_node_that_hosts_the_egress_ip", |lab| {
            let _given = EgressIp::given(lab)?;
            let packet = "in_port=1,tcp,tun_src=192.168.108.110,tun_id=0x82f8b2,nw_src=10.128.0.56,\
                          nw_dst=192.168.108.1,ct_state=trk";
            let trace = Trace::of(lab, "infra.ocp.cn", packet)?;
            trace.path(&[0, 10, 30, 100, 101])?;
            let mac = lab.ovs("infra.ocp.cn", &["ovs-vsctl", "get", "Interface", "tun0", "mac_in_use"])?;
            trace.says(&format!("set_field:{}->eth_dst", mac.trim().trim_matches('"')))?;
            trace.says("0x82f8b2->pkt_mark")?;
            trace.says("output:2\n")?;
            agree(lab, "infra.ocp.cn", packet)
        }),
    ]
}

/// What `ofproto/trace` printed.
struct Trace(String);

impl Trace {
    fn of(lab: &Lab, node: &str, flow: &str) -> anyhow::Result<Self> {
        Ok(Self(lab.ovs(node, &["ovs-appctl", "ofproto/trace", "br0", flow])?))
    }

    /// The numbers that lines of br0's part begin with are exactly these.
    fn path(&self, expected: &[u8]) -> anyhow::Result<()> {
        let ours = self.0.split("bridge(\"").nth(1).context("no bridge in the trace")?;
        let path: Vec<u8> =
            ours.lines().filter_map(|line| line.split_once(". ")?.0.trim().parse().ok()).collect();
        ensure!(path == expected, "path {path:?} instead of {expected:?}\n{}", self.0);
        Ok(())
    }

    fn says(&self, text: &str) -> anyhow::Result<()> {
        ensure!(self.0.contains(text), "{text:?} is not in\n{}", self.0);
        Ok(())
    }

    /// At the end each register has this value; one that is 0 is not listed.
    fn registers(&self, expected: &[(&str, u32)]) -> anyhow::Result<()> {
        let end = self.0.lines().find(|line| line.starts_with("Final flow: ")).context("no final flow")?;
        for (name, value) in expected {
            let listed = end.split(',').find_map(|field| field.strip_prefix(&format!("{name}=")));
            let wanted = (*value != 0).then(|| format!("{value:#x}"));
            ensure!(listed == wanted.as_deref(), "{name} is {listed:?}, not {wanted:?}\n{}", self.0);
        }
        Ok(())
    }
}
