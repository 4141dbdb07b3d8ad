//! What must not pass: false senders, and VXLAN from where none may come. Each packet is sent, and the switch's
//! own counter of the flow that must drop it is read; the same tool's honest packet arrives.

use std::time::Duration;

use anyhow::{Context, ensure};
use tests::frames::{self, Arp, Ping};
use tests::{Lab, until};

use super::Test;
use super::packets::{NGINX, TOMCAT, WEB};

const NODE: &str = "node2.ocp.cn";

pub(crate) fn tests() -> Vec<(&'static str, Test)> {
    vec![
        ("an_honest_packet_of_our_own_making_arrives", |lab| {
            let before = received(lab, NGINX.0)?;
            frames::send(&lab.netns(WEB.0)?, "eth0", &Ping { from: WEB.1, to: NGINX.1 }.frame()?)?;
            until(Duration::from_secs(3), || {
                ensure!(received(lab, NGINX.0)? > before, "it does not arrive");
                Ok(())
            })
        }),
        ("a_false_source_address_is_dropped", |lab| {
            let frame = Ping { from: "10.130.0.77", to: NGINX.1 }.frame()?;
            dropped(lab, "table=20,priority=0", || frames::send(&lab.netns(WEB.0)?, "eth0", &frame))
        }),
        ("a_neighbours_source_address_is_dropped", |lab| {
            let frame = Ping { from: TOMCAT.1, to: NGINX.1 }.frame()?;
            dropped(lab, "table=20,priority=0", || frames::send(&lab.netns(WEB.0)?, "eth0", &frame))
        }),
        ("a_false_arp_sender_is_dropped", |lab| {
            let frame =
                Arp { sender: "10.130.0.1", sender_mac: "0a:58:0a:82:00:05", target: NGINX.1 }.frame()?;
            dropped(lab, "table=20,priority=0", || frames::send(&lab.netns(WEB.0)?, "eth0", &frame))
        }),
        ("a_false_arp_hardware_address_is_dropped", |lab| {
            let frame = Arp { sender: WEB.1, sender_mac: "0a:58:0a:82:00:01", target: NGINX.1 }.frame()?;
            dropped(lab, "table=20,priority=0", || frames::send(&lab.netns(WEB.0)?, "eth0", &frame))
        }),
        ("a_pod_cannot_send_vxlan", |lab| {
            let inner = Ping { from: "10.131.0.9", to: NGINX.1 }.frame()?;
            for node in ["192.168.108.111", "10.130.0.1"] {
                dropped(lab, "table=20,priority=300", || {
                    frames::vxlan(&lab.netns(WEB.0)?, None, node, 0, &inner)
                })?;
            }
            Ok(())
        }),
        ("vxlan_from_a_known_node_arrives", |lab| {
            let before = received(lab, NGINX.0)?;
            let inner = Ping { from: "10.131.0.9", to: NGINX.1 }.frame()?;
            frames::vxlan(
                &lab.netns("node/node1.ocp.cn")?,
                Some("192.168.108.111"),
                "192.168.108.112",
                0,
                &inner,
            )?;
            until(Duration::from_secs(3), || {
                ensure!(received(lab, NGINX.0)? > before, "it does not arrive");
                Ok(())
            })
        }),
        ("vxlan_from_a_stranger_is_dropped", |lab| {
            let inner = Ping { from: "10.131.0.9", to: NGINX.1 }.frame()?;
            dropped(lab, "table=10,priority=0", || {
                frames::vxlan(&lab.netns("underlay")?, Some("192.168.108.1"), "192.168.108.112", 0, &inner)
            })
        }),
        ("a_pod_cannot_pass_the_bridge_by", |lab| {
            // The userspace datapath leaves the kernel a copy of each packet. Sent to the host end of the veth
            // itself, the kernel could take it in, past all tables; through the bridge nobody has that address.
            let (pod, node) = (lab.netns(WEB.0)?, lab.netns(&format!("node/{NODE}"))?);
            let answers = |mac, to| -> anyhow::Result<usize> {
                let frame = Ping { from: WEB.1, to }.frame_to(mac)?;
                frames::answers(&pod, "eth0", &frame, to, Duration::from_millis(500))
            };
            let host_end = frames::peer_mac(&pod, &node, "eth0")?;
            let tun0 = frames::mac_of(&node, "tun0")?;
            ensure!(answers(tun0, "10.130.0.1")? == 1, "an honest packet to the gateway has one answer");
            for to in ["10.130.0.1", "192.168.108.112", "192.168.108.1"] {
                let got = answers(host_end, to)?;
                ensure!(got == 0, "{got} answers from {to} past the bridge");
            }
            Ok(())
        }),
    ]
}

/// Sends, and sees that the flow counts it and that the neighbour receives nothing.
fn dropped(lab: &Lab, flow: &str, send: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let (count, seen) = (packets(lab, flow)?, received(lab, NGINX.0)?);
    send()?;
    until(Duration::from_secs(5), || {
        let now = packets(lab, flow)?;
        ensure!(now > count, "{flow} has dropped nothing: {now}");
        Ok(())
    })?;
    let now = received(lab, NGINX.0)?;
    ensure!(now == seen, "{} has received {} packets", NGINX.0, now - seen);
    Ok(())
}

/// How many packets the flow has matched.
fn packets(lab: &Lab, flow: &str) -> anyhow::Result<u64> {
    let (table, priority) = flow.split_once(',').context("TABLE,PRIORITY")?;
    let dump = lab.ovs(NODE, &["ovs-ofctl", "-O", "OpenFlow13", "dump-flows", "br0", table])?;
    let wanted = |line: &&str| {
        let fields = line.split([',', ' ']).map(str::trim);
        fields.clone().any(|field| field == priority)
    };
    let line = dump.lines().find(wanted).with_context(|| format!("no flow {flow} in\n{dump}"))?;
    let count = line.split("n_packets=").nth(1).and_then(|rest| rest.split(',').next());
    Ok(count.with_context(|| line.to_owned())?.parse()?)
}

/// How many packets a pod's interface has received.
fn received(lab: &Lab, pod: &str) -> anyhow::Result<u64> {
    let links = tests::run(&mut lab.inside(pod, &["ip", "-json", "-stats", "link", "show", "eth0"]))?;
    let links: serde_json::Value = serde_json::from_str(&links)?;
    links[0]["stats64"]["rx"]["packets"].as_u64().with_context(|| links.to_string())
}
