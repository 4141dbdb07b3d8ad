//! The example, on a real bridge.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test may stop at the first surprise.

#[path = "../examples/learning_switch.rs"]
#[allow(dead_code, unreachable_pub)]
mod example;
mod support;

use std::time::{Duration, Instant};

use openflow::{Endpoint, Switch};

/// A ping from one host to another arrives at a port.
fn receive(ovs: &support::Ovs, port: &str, src: u8, dst: u8) {
    let frame = format!(
        "in_port(1),eth(src=50:54:00:00:00:{src:02x},dst=50:54:00:00:00:{dst:02x}),eth_type(0x0800),\
         ipv4(src=10.0.0.{src},dst=10.0.0.{dst},proto=1,tos=0,ttl=64,frag=no),icmp(type=8,code=0)"
    );
    ovs.appctl(&["netdev-dummy/receive", port, &frame]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn learns_where_hosts_are() {
    let ovs = support::Ovs::start();
    for (name, port) in [("p1", "1"), ("p2", "2")] {
        let request = format!("ofport_request={port}");
        ovs.vsctl(&["add-port", "br0", name, "--", "set", "interface", name, "type=dummy", &request]);
    }
    let switch = Switch::connect(&Endpoint::Unix(ovs.socket())).await.unwrap();
    let task = tokio::spawn(example::run(switch.clone()));

    let deadline = Instant::now() + Duration::from_secs(20);
    let wait_for = async |wanted: &str, act: &dyn Fn()| {
        loop {
            act();
            let flows = switch.dump_flows(Default::default()).await.unwrap();
            let text: Vec<String> = flows.iter().map(|stats| stats.flow.to_string()).collect();
            if text.iter().any(|flow| flow.contains(wanted)) {
                return;
            }
            assert!(Instant::now() < deadline, "no {wanted} in {text:#?}");
        }
    };
    wait_for("priority=0 actions=CONTROLLER:65535", &|| {}).await;
    // The first packet is flooded; the answer meets a known host.
    receive(&ovs, "p1", 1, 2);
    let there = "idle_timeout=60, priority=100,in_port=2,dl_src=50:54:00:00:00:02,dl_dst=50:54:00:00:00:01 actions=output:1";
    wait_for(there, &|| receive(&ovs, "p2", 2, 1)).await;
    let back = "idle_timeout=60, priority=100,in_port=1,dl_src=50:54:00:00:00:01,dl_dst=50:54:00:00:00:02 actions=output:2";
    wait_for(back, &|| receive(&ovs, "p1", 1, 2)).await;
    task.abort();
}
