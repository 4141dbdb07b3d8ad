#![allow(clippy::unwrap_used)]

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use super::*;
use crate::node::host::firewall::{FirewallSpec, ensure};
use crate::node::netns::testing::{Namespace, says};

mod firewalld;

fn traffic() -> Traffic {
    Traffic {
        tun: "tun0".to_owned(),
        uplink: Some("eth0".to_owned()),
        node_ip: "192.0.2.1".parse().unwrap(),
        local_subnet: "10.128.2.0/23".parse().unwrap(),
        cluster_networks: vec!["10.128.0.0/14".parse().unwrap()],
        service_network: "172.30.0.0/16".parse().unwrap(),
        vxlan_port: 4789,
        nodes: vec!["192.0.2.2".parse().unwrap()],
    }
}

fn looked(node: &Namespace, traffic: &Traffic) -> Report {
    node.run(|| Report::of(&Ruleset::list().unwrap(), traffic))
}

/// Rules loaded in place of all others, in a file: they have more lines than a command.
fn load(node: &Namespace, rules: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules).unwrap();
    node.says("nft flush ruleset");
    node.says(&format!("nft -f {}", file.path().display()));
}

/// A pod behind `tun0`, the node, and a host outside, which is another node as well.
struct Surroundings {
    pod: Namespace,
    node: Namespace,
    outside: Namespace,
    listeners: Vec<TcpListener>,
    tunnels: [UdpSocket; 2],
}

/// Where the pod is found from outside, and where everybody listens.
const NODE_PORT: u16 = 30080;
const PORT: u16 = 8080;

impl Surroundings {
    fn new(test: &str) -> Self {
        let [pod, node, outside] = ["pod", "node", "out"].map(|end| Namespace::new(&format!("{test}-{end}")));
        node.says(&format!("ip link add name tun0 type veth peer name eth0 netns {}", pod.name));
        node.says(&format!("ip link add name eth0 type veth peer name eth0 netns {}", outside.name));
        for (ns, link, address) in [
            (&pod, "eth0", "10.128.2.9/23"),
            (&node, "tun0", "10.128.2.1/23"),
            (&node, "eth0", "192.0.2.1/24"),
            (&outside, "eth0", "192.0.2.2/24"),
        ] {
            ns.says(&format!("ip address add {address} dev {link}"));
            ns.says(&format!("ip link set {link} up"));
        }
        pod.says("ip route add default via 10.128.2.1");
        node.says("ip link set lo up");
        node.says("sysctl -q -w net.ipv4.ip_forward=1");
        let listen = |ns: &Namespace| ns.run(|| TcpListener::bind(("0.0.0.0", PORT)).unwrap());
        let listeners = [&pod, &node, &outside].map(listen).into();
        let tunnels = [(&node, "192.0.2.1:4789"), (&outside, "192.0.2.2:4789")]
            .map(|(ns, address)| ns.run(|| UdpSocket::bind(address).unwrap()));
        Self { pod, node, outside, listeners, tunnels }
    }

    /// Our own table, and the node port.
    fn own_tables(&self) {
        let t = traffic();
        let spec = FirewallSpec {
            cluster_networks: t.cluster_networks,
            tun: t.tun,
            vxlan_port: t.vxlan_port,
            userspace_datapath: false,
            egress_ips: Vec::new(),
        };
        self.node.block_on(|| ensure(&spec)).unwrap();
        for command in [
            "nft add table ip ports".to_owned(),
            "nft add chain ip ports pre { type nat hook prerouting priority -100 ; }".to_owned(),
            format!("nft add rule ip ports pre iifname eth0 tcp dport {NODE_PORT} dnat to 10.128.2.9:{PORT}"),
        ] {
            self.node.says(&command);
        }
    }

    /// Whether a real packet of the kind arrives. What shall not is waited for less long.
    fn arrives(&self, kind: Kind, shall: bool) -> bool {
        let patience = if shall { Duration::from_secs(10) } else { Duration::from_millis(300) };
        let connects = |from: &Namespace, to: (&str, u16)| {
            let to: SocketAddr = format!("{}:{}", to.0, to.1).parse().unwrap();
            from.run(|| TcpStream::connect_timeout(&to, patience).is_ok())
        };
        let tunnelled = |from: &UdpSocket, to: &UdpSocket| {
            // What came of an earlier packet.
            to.set_nonblocking(true).unwrap();
            while to.recv(&mut [0; 8]).is_ok() {}
            to.set_nonblocking(false).unwrap();
            to.set_read_timeout(Some(patience)).unwrap();
            // An error that an earlier packet has brought back is given to the next.
            let sent = (0..2).any(|_| from.send_to(b"x", to.local_addr().unwrap()).is_ok());
            sent && to.recv(&mut [0; 8]).is_ok()
        };
        let [node, outside] = &self.tunnels;
        match kind {
            Kind::VxlanIn => tunnelled(outside, node),
            Kind::VxlanOut => tunnelled(node, outside),
            Kind::PodsToNode => connects(&self.pod, ("10.128.2.1", PORT)),
            Kind::NodeToPods => connects(&self.node, ("10.128.2.9", PORT)),
            Kind::PodsToOutside => connects(&self.pod, ("192.0.2.2", PORT)),
            Kind::OutsideToPods => connects(&self.outside, ("192.0.2.1", NODE_PORT)),
            Kind::PodsToServices => panic!("no packet of it is sent here"),
        }
    }

    /// Packets meet what the report says; and what it says of the rest.
    fn agrees(&self, what: &str) -> Report {
        let report = looked(&self.node, &traffic());
        assert_eq!(report.unclear(), Vec::<String>::new(), "{what}");
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::PodsToServices) {
            let name = kind.describe(&traffic());
            let stopped = report.obstacles().iter().any(|line| line.starts_with(&name));
            assert_eq!(self.arrives(kind, !stopped), !stopped, "{what}: {name}\n{report}");
        }
        assert_eq!(self.listeners.len(), 3, "open until here");
        report
    }
}

/// Commands and rules, and the kinds that they stop.
const RULESETS: &[(&str, &str, &[Kind])] = {
    use Kind::{NodeToPods, OutsideToPods, PodsToNode, PodsToOutside, PodsToServices, VxlanIn, VxlanOut};
    &[
        ("nothing", "", &[]),
        (
            "policies",
            "table inet a { chain f { type filter hook forward priority 10; policy drop; }; }
             table ip b { chain o { type filter hook output priority 0; policy drop; ct state established accept; }; }",
            &[VxlanOut, NodeToPods, PodsToOutside, OutsideToPods, PodsToServices],
        ),
        (
            "an accept does not override another table's drop",
            "table inet a { chain i { type filter hook input priority -10; iifname tun0 accept; }
                            chain j { type filter hook input priority 10; ct state established,related accept; iifname tun0 drop; }; }",
            &[PodsToNode],
        ),
        (
            "sets",
            "table inet a { set nodes { type ipv4_addr; flags interval; elements = { 198.51.100.0/24, 192.0.2.2-192.0.2.9 }; }
                            chain i { type filter hook input priority 0; policy drop;
                                      ct state { established, related } accept;
                                      ip saddr @nodes udp dport { 4789, 6081 } accept; }; }",
            &[PodsToNode],
        ),
        (
            "a set without the node",
            "table inet a { set nodes { type ipv4_addr . inet_service; elements = { 192.0.2.3 . 4789 }; }
                            chain i { type filter hook input priority 0; policy drop;
                                      iifname { tun0, lo } accept; ct state vmap { established : accept, invalid : drop };
                                      ip saddr . udp dport @nodes accept; }; }",
            &[VxlanIn],
        ),
        (
            "verdict maps, jump, goto and return",
            "table inet a { chain outer { return; }
                            chain inner { iifname tun0 return; reject; }
                            chain mine { goto outer; drop; }
                            chain i { type filter hook input priority 0; policy accept;
                                      ct state established accept;
                                      jump mine; meta l4proto vmap { tcp : jump inner, udp : jump inner }; iifname tun0 drop; }; }",
            &[VxlanIn, PodsToNode],
        ),
        (
            "not this packet",
            "table inet a { chain f { type filter hook forward priority 0; policy accept;
                                      ct state invalid drop; meta nfproto ipv6 drop; ip protocol gre drop; oifname docker* drop;
                                      ip saddr != { 0.0.0.0/1, 128.0.0.0/1 } drop; meta pkttype broadcast drop;
                                      tcp flags & (fin|syn|rst|ack) != syn ct state new drop; udp dport 4789 drop; }; }",
            &[],
        ),
        (
            "whoever was translated",
            "table ip a { chain f { type filter hook forward priority 0; policy drop; ct status dnat accept; ct state established accept; }; }",
            &[PodsToOutside],
        ),
        (
            "before routing, and on the way out",
            "table ip a { chain p { type filter hook prerouting priority -300; udp dport 4789 iifname eth0 drop; }
                          chain q { type filter hook postrouting priority 300; oifname tun0 ip daddr 10.128.0.0/14 ct state new drop; }; }",
            &[VxlanIn, NodeToPods, OutsideToPods, PodsToServices],
        ),
        (
            "where the link is",
            "table netdev a { chain g { type filter hook ingress device eth0 priority 0; ip saddr 192.0.2.2 udp dport 4789 drop; }; }",
            &[VxlanIn],
        ),
    ]
};

/// What is said to pass passes, and what is said to be stopped is.
#[test]
fn packets_meet_what_is_said() {
    let around = Surroundings::new("obst");
    for (what, rules, stopped) in RULESETS {
        load(&around.node, rules);
        around.own_tables();
        let report = around.agrees(what);
        let kinds = Kind::ALL.into_iter().filter(|kind| {
            let name = kind.describe(&traffic());
            report.obstacles().iter().any(|line| line.starts_with(&name))
        });
        assert_eq!(kinds.collect::<Vec<_>>(), *stopped, "{what}\n{report}");
        assert_eq!(report.is_clear(), stopped.is_empty());
    }
}

/// As Docker does it; then the very command that is printed.
#[test]
fn a_policy_of_iptables_and_its_remedy() {
    let around = Surroundings::new("dock");
    let node = &around.node;
    for rules in [
        "-P FORWARD DROP",
        "-N DOCKER",
        "-N DOCKER-USER",
        "-A DOCKER-USER -j RETURN",
        "-A FORWARD -j DOCKER-USER",
        "-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A FORWARD -o docker0 -j DOCKER",
        "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
        // kube-proxy's.
        "-A FORWARD -m comment --comment kubernetes -m conntrack --ctstate INVALID -j DROP",
        "-A FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT",
        "-A FORWARD -d 198.51.100.7 -p tcp --dport 80 -j REJECT",
        "-A INPUT ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
        "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    ] {
        node.says(&format!("iptables-nft {rules}"));
    }
    around.own_tables();
    let report = around.agrees("as Docker does it").to_string();
    let expected = "\
VXLAN from other nodes (udp port 4789): passes
VXLAN to other nodes (udp port 4789): passes
pods to the node (in by tun0): passes
the node to pods (out by tun0): passes
pods to the outside (forwarded from tun0): stopped by `policy drop` in chain FORWARD of table ip filter
  rules for single ports, addresses or marks of it, which are not judged: 1, such as ";
    assert!(report.starts_with(expected), "{report}");
    let commands: Vec<&str> = report.lines().filter_map(|line| line.strip_prefix("  iptables ")).collect();
    assert_eq!(commands, ["-I FORWARD -i tun0 -j ACCEPT", "-I FORWARD -o tun0 -j ACCEPT"], "{report}");
    for command in commands {
        node.says(&format!("iptables-nft {command}"));
    }
    assert!(around.agrees("mended").is_clear());
}

/// Of some rules it can't be said whether they match. That is told where it matters, and only there.
#[test]
fn what_is_not_understood_is_said() {
    let node = Namespace::new("doubt");
    let traffic = traffic();
    for (rules, unclear) in [
        ("fib saddr . iif oif missing drop", true),
        ("meta length > 1000 drop", true),
        ("meta cpu 0 drop; accept", true),
        ("tcp dport 1024-65535 drop", true),
        ("meta mark set 1; meta mark 1 drop", true),
        ("meta cpu 0 accept; accept", false),
        ("meta cpu 0 jump empty", false),
        ("tcp dport 25 drop; meta mark 7 drop; ip saddr 10.128.2.77 drop", false),
    ] {
        let rules = format!(
            "table inet a {{ chain empty {{ counter; }}
                             chain c {{ {rules}; }}
                             chain i {{ type filter hook input priority 0; iifname tun0 goto c; }}; }}"
        );
        load(&node, &rules);
        let report = looked(&node, &traffic);
        assert_eq!(report.obstacles(), Vec::<String>::new(), "{rules}");
        let expected: &[&str] = if unclear { &["pods to the node (in by tun0)"] } else { &[] };
        let lines = report.unclear();
        let said: Vec<&str> = lines.iter().map(|line| line.split([':', ',']).next().unwrap()).collect();
        assert_eq!(said, expected, "{rules}: {report}");
        assert_eq!(report.is_clear(), !unclear, "{rules}");
    }
    // Whatever it matches, what is behind it decides.
    load(
        &node,
        "table inet a { chain i { type filter hook input priority 0; iifname tun0 meta cpu 0 drop; iifname tun0 reject; }; }",
    );
    let report = looked(&node, &traffic);
    assert_eq!(
        report.obstacles(),
        ["pods to the node (in by tun0): stopped by `iifname \"tun0\" reject` in chain i of table inet a"]
    );
}

/// The kernel takes names that nft's language can't say.
#[test]
fn names_that_need_quotes() {
    let node = Namespace::new("quot");
    let file = tempfile::NamedTempFile::new().unwrap();
    let table = r#""family": "inet", "table": "my \"own\" table""#;
    let json = format!(
        r#"{{"nftables": [{{"add": {{"table": {{"family": "inet", "name": "my \"own\" table"}}}}}},
            {{"add": {{"chain": {{{table}, "name": "in put", "type": "filter", "hook": "input", "prio": 0, "policy": "accept"}}}}}},
            {{"add": {{"rule": {{{table}, "chain": "in put", "expr": [{{"drop": null}}]}}}}}}]}}"#
    );
    std::fs::write(file.path(), json).unwrap();
    node.says(&format!("nft -j -f {}", file.path().display()));
    let report = looked(&node, &traffic()).to_string();
    let place = r#"stopped by `drop` in chain "in put" of table inet "my \"own\" table""#;
    assert!(report.contains(place), "{report}");
    assert!(!report.contains("nft insert"), "no shell and no nft would take it: {report}");
}

/// Each node counts, and so do protocols.
#[test]
fn parts_are_named() {
    let node = Namespace::new("part");
    let nodes = ["192.0.2.2", "192.0.2.3", "198.51.100.7"].map(|node| node.parse().unwrap()).into();
    let traffic = Traffic { nodes, ..traffic() };
    load(
        &node,
        "table inet a { chain i { type filter hook input priority 0;
                                  ip saddr 192.0.2.0/30 udp dport 4789 accept; udp dport 4789 drop;
                                  iifname tun0 icmp type echo-request accept; iifname tun0 meta l4proto { icmp, udp } drop; }; }
         table ip b { chain o { type filter hook output priority 0; ip daddr { 192.0.2.3, 198.51.100.7 } drop; }; }",
    );
    assert_eq!(
        looked(&node, &traffic).obstacles(),
        [
            "VXLAN from other nodes (udp port 4789), 198.51.100.7 only: stopped by `udp dport 4789 drop` in chain i of table inet a",
            "VXLAN to other nodes (udp port 4789), 192.0.2.3 and 198.51.100.7 only: stopped by `ip daddr { 192.0.2.3, \
             198.51.100.7 } drop` in chain o of table ip b",
            "pods to the node (in by tun0), udp only: stopped by `iifname \"tun0\" meta l4proto { icmp, udp } drop` in chain i of \
             table inet a",
        ]
    );
}

/// nft is run where the process is, and has its own words for what is wrong.
#[test]
fn bad_output_is_refused() {
    for listed in ["", "{}", r#"{"nftables": [{"rule": {"family": "ip", "table": "a"}}]}"#] {
        assert!(Ruleset::parse(listed, "").is_err(), "{listed}");
    }
    assert!(says("nft --version").contains("nftables"));
}
