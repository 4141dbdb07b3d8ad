#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use super::*;
use crate::node::netns::testing::Namespace;

fn ensured(node: &Namespace, spec: &FirewallSpec) -> Result<Changed, FirewallError> {
    node.block_on(|| ensure(spec))
}

fn spec() -> FirewallSpec {
    FirewallSpec {
        cluster_networks: vec!["10.128.0.0/14".parse().unwrap(), "10.132.7.0/24".parse().unwrap()],
        tun: "tun0".to_owned(),
        vxlan_port: 4789,
        userspace_datapath: false,
        egress_ips: Vec::new(),
    }
}

fn egress_ip(ip: &str, mark: u32) -> EgressSnat {
    EgressSnat { ip: ip.parse().unwrap(), mark, namespace: "shop".to_owned() }
}

const LISTED: &str = r#"table ip openshift-sdn {
	chain input {
		type filter hook input priority filter; policy accept;
		jump OPENSHIFT-FIREWALL-ALLOW comment "firewall overrides"
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		jump OPENSHIFT-BLOCK-OUTPUT comment "firewall overrides"
		jump OPENSHIFT-FIREWALL-FORWARD comment "firewall overrides"
	}

	chain output {
		type filter hook output priority filter; policy accept;
		jump OPENSHIFT-BLOCK-OUTPUT comment "firewall overrides"
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		jump OPENSHIFT-MASQUERADE comment "rules for masquerading OpenShift traffic"
	}

	chain egress-postrouting {
		type nat hook postrouting priority srcnat - 1; policy accept;
		ip saddr 10.128.0.0/14 jump OPENSHIFT-EGRESS-IP comment "pod-to-external traffic"
		ip saddr 10.132.7.0/24 jump OPENSHIFT-EGRESS-IP comment "pod-to-external traffic"
	}

	chain raw-prerouting {
		type filter hook prerouting priority raw; policy accept;
		jump OPENSHIFT-NOTRACK comment "disable conntrack for vxlan"
	}

	chain raw-output {
		type filter hook output priority raw; policy accept;
		jump OPENSHIFT-NOTRACK comment "disable conntrack for vxlan"
	}

	chain OPENSHIFT-FIREWALL-ALLOW {
		udp dport 4789 accept comment "VXLAN incoming"
		iifname "tun0" accept comment "from SDN to localhost"
	}

	chain OPENSHIFT-BLOCK-OUTPUT {
		tcp dport 22623 tcp flags syn / fin,syn,rst,ack reject comment "machine config server"
		tcp dport 22624 tcp flags syn / fin,syn,rst,ack reject comment "machine config server"
	}

	chain OPENSHIFT-FIREWALL-FORWARD {
		ip saddr 10.128.0.0/14 ct state invalid drop comment "attempted resend after connection close"
		ip daddr 10.128.0.0/14 accept comment "forward traffic from SDN"
		ip saddr 10.128.0.0/14 accept comment "forward traffic to SDN"
		ip saddr 10.132.7.0/24 ct state invalid drop comment "attempted resend after connection close"
		ip daddr 10.132.7.0/24 accept comment "forward traffic from SDN"
		ip saddr 10.132.7.0/24 accept comment "forward traffic to SDN"
	}

	chain OPENSHIFT-MASQUERADE {
		meta mark & 0x00004000 == 0x00004000 return comment "masqueraded by kube-proxy"
		ip saddr 10.128.0.0/14 jump OPENSHIFT-MASQUERADE-2 comment "masquerade pod-to-external traffic"
		ip saddr 10.132.7.0/24 jump OPENSHIFT-MASQUERADE-2 comment "masquerade pod-to-external traffic"
	}

	chain OPENSHIFT-MASQUERADE-2 {
		ip daddr 10.128.0.0/14 return comment "masquerade pod-to-external traffic"
		ip daddr 10.132.7.0/24 return comment "masquerade pod-to-external traffic"
		masquerade comment "masquerade pod-to-external traffic"
	}

	chain OPENSHIFT-EGRESS-IP {
	}

	chain OPENSHIFT-NOTRACK {
		udp dport 4789 notrack comment "disable conntrack for vxlan"
	}
}"#;

#[test]
fn as_nft_prints_it() {
    let node = Namespace::new("fw");
    assert_eq!(ensured(&node, &spec()).unwrap(), Changed::Created);
    assert_eq!(node.says("nft list ruleset"), LISTED);
    assert_eq!(ensured(&node, &spec()).unwrap(), Changed::Nothing);
}

/// What an administrator saves, nft can read again: no name is a word of its language.
#[test]
fn a_saved_table_can_be_restored() {
    let [node, other] = ["save", "restore"].map(Namespace::new);
    ensured(&node, &spec()).unwrap();
    let saved = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(saved.path(), node.says("nft list ruleset")).unwrap();
    other.says(&format!("nft -f {}", saved.path().display()));
    assert_eq!(other.says("nft list ruleset"), LISTED);
    assert_eq!(ensured(&other, &spec()).unwrap(), Changed::Nothing);
}

/// Whatever networks and ports there are, what is written is what is listed: nothing is written twice.
#[test]
fn nothing_changes_the_second_time() {
    let node = Namespace::new("again");
    for networks in [vec![], vec!["10.0.0.0/8"], vec!["10.1.2.3/32", "192.0.2.0/31", "0.0.0.0/1"]] {
        let cluster_networks = networks.iter().map(|text| text.parse().unwrap()).collect();
        let spec = FirewallSpec {
            cluster_networks,
            tun: "tun-1.2".to_owned(),
            vxlan_port: 8472,
            userspace_datapath: true,
            egress_ips: vec![egress_ip("192.0.2.77", 0x82_f8b2)],
        };
        assert_ne!(ensured(&node, &spec).unwrap(), Changed::Nothing, "{networks:?}");
        assert_eq!(ensured(&node, &spec).unwrap(), Changed::Nothing, "{networks:?}");
    }
}

#[test]
fn what_others_changed_is_put_right_and_their_tables_are_left_alone() {
    let node = Namespace::new("repair");
    node.says("nft add table ip admin");
    node.says("nft add chain ip admin mine");
    ensured(&node, &spec()).unwrap();
    for tampering in [
        "nft flush chain ip openshift-sdn OPENSHIFT-MASQUERADE-2",
        "nft insert rule ip openshift-sdn OPENSHIFT-FIREWALL-FORWARD drop",
        "nft add chain ip openshift-sdn more",
        "nft add rule ip openshift-sdn OPENSHIFT-NOTRACK udp dport 1 notrack",
        "nft flush ruleset",
    ] {
        node.says(tampering);
        assert_ne!(ensured(&node, &spec()).unwrap(), Changed::Nothing, "{tampering}");
        assert_eq!(node.says("nft list table ip openshift-sdn"), LISTED, "{tampering}");
        if !tampering.contains("ruleset") {
            assert!(node.says("nft list table ip admin").contains("chain mine"));
        }
    }
    let other = FirewallSpec { vxlan_port: 4790, ..spec() };
    assert_eq!(ensured(&node, &other).unwrap(), Changed::Replaced);
    assert_eq!(node.says("nft list table ip openshift-sdn"), LISTED.replace("4789", "4790"));
}

#[test]
fn removed_also_twice() {
    let node = Namespace::new("rm");
    ensured(&node, &spec()).unwrap();
    for _ in 0..2 {
        node.block_on(remove).unwrap();
        assert_eq!(node.says("nft list ruleset"), "");
    }
}

#[test]
fn a_refused_table_is_explained() {
    let node = Namespace::new("bad");
    let long = FirewallSpec { tun: "x".repeat(40), ..spec() };
    ensured(&node, &spec()).unwrap();
    let error = ensured(&node, &long).unwrap_err();
    assert!(matches!(error, FirewallError::Refused { .. }), "{error}");
    assert_eq!(node.says("nft list ruleset"), LISTED);
}

/// A pod, the node between, and a host outside, which stands for another node as well: it knows the way back to pods.
fn surroundings(test: &str) -> [Namespace; 3] {
    let [pod, node, outside] = ["pod", "node", "out"].map(|end| Namespace::new(&format!("{test}-{end}")));
    node.says(&format!("ip link add name tun0 type veth peer name eth0 netns {}", pod.name));
    node.says(&format!("ip link add name eth0 type veth peer name eth0 netns {}", outside.name));
    for (ns, link, address) in [
        (&pod, "eth0", "10.128.2.9/23"),
        (&node, "tun0", "10.128.2.1/23"),
        (&node, "eth0", "192.0.2.1/24"),
        (&outside, "eth0", "192.0.2.2/24"),
        (&outside, "eth0", "10.128.4.9/32"),
    ] {
        ns.says(&format!("ip address add {address} dev {link}"));
        ns.says(&format!("ip link set {link} up"));
    }
    pod.says("ip route add default via 10.128.2.1");
    outside.says("ip route add 10.128.2.0/23 via 192.0.2.1");
    node.says("ip route add 10.128.4.0/23 via 192.0.2.2");
    node.says("sysctl -q -w net.ipv4.ip_forward=1");
    [pod, node, outside]
}

/// A pod, the node and a host outside, with real connections.
#[test]
fn packets() {
    let [pod, node, outside] = surroundings("pk");
    // The refusal of what the node itself sends comes over its loopback.
    node.says("ip link set lo up");
    ensured(&node, &spec()).unwrap();

    // Whose address the listener at `to` sees.
    let seen = |to: &str| -> String {
        let to: SocketAddr = to.parse().unwrap();
        let listener = outside.run(|| TcpListener::bind(to).unwrap());
        let _connection = pod.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap());
        let (_, from) = listener.accept().unwrap();
        from.ip().to_string()
    };
    assert_eq!(seen("192.0.2.2:8080"), "192.0.2.1", "to the outside under the node's address");
    assert_eq!(seen("10.128.4.9:8080"), "10.128.2.9", "to another pod under its own");

    let refused = |from: &Namespace| {
        let to: SocketAddr = "192.0.2.2:22623".parse().unwrap();
        from.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap_err().kind())
    };
    let _listener = outside.run(|| TcpListener::bind("192.0.2.2:22623").unwrap());
    assert_eq!(refused(&pod), ErrorKind::ConnectionRefused);
    assert_eq!(refused(&node), ErrorKind::ConnectionRefused);

    // VXLAN comes in, and conntrack does not know of it.
    let vxlan = node.run(|| UdpSocket::bind("192.0.2.1:4789").unwrap());
    vxlan.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let sender = outside.run(|| UdpSocket::bind("192.0.2.2:0").unwrap());
    sender.send_to(b"x", "192.0.2.1:4789").unwrap();
    assert_eq!(vxlan.recv(&mut [0; 8]).unwrap(), 1);
    let tracked = node.run(|| std::fs::read_to_string("/proc/thread-self/net/nf_conntrack"));
    if let Ok(tracked) = tracked {
        assert!(tracked.contains("dport=8080"), "{tracked}");
        assert!(!tracked.contains("dport=4789"), "{tracked}");
    }
}

/// What a namespace with an egress IP sends, marked as the pipeline marks it, beside a kube-proxy that was there first.
#[test]
fn egress_ips() {
    let [pod, node, outside] = surroundings("eip");
    node.says("ip address add 192.0.2.77/24 dev eth0");
    // Bit 14 of the mark asks kube-proxy for the node's address. Its rules are there before ours.
    let mark = 0x82_f8b2;
    assert_ne!(mark & KUBE_PROXY_MASQUERADE, 0);
    for command in [
        "add table ip kube-proxy",
        "add chain ip kube-proxy postrouting { type nat hook postrouting priority srcnat; }",
        "add rule ip kube-proxy postrouting meta mark & 0x4000 == 0x4000 masquerade",
        "add table ip pipeline",
        "add chain ip pipeline prerouting { type filter hook prerouting priority mangle; }",
    ] {
        node.says(&format!("nft {command}"));
    }
    let marking = |mark: u32| {
        node.says("nft flush chain ip pipeline prerouting");
        node.says(&format!("nft add rule ip pipeline prerouting iifname tun0 meta mark set {mark}"));
    };
    let hosting = FirewallSpec { egress_ips: vec![egress_ip("192.0.2.77", mark)], ..spec() };
    ensured(&node, &hosting).unwrap();
    assert_eq!(ensured(&node, &hosting).unwrap(), Changed::Nothing);

    // Whose address the listener at `to` sees.
    let seen = |to: &str| -> String {
        let to: SocketAddr = to.parse().unwrap();
        let listener = outside.run(|| TcpListener::bind(to).unwrap());
        let _connection = pod.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap());
        let (_, from) = listener.accept().unwrap();
        from.ip().to_string()
    };
    marking(mark);
    assert_eq!(seen("192.0.2.2:8080"), "192.0.2.77", "under the egress IP");
    assert_eq!(seen("10.128.4.9:8080"), "192.0.2.1", "sent back into the cluster: under the node's address");
    marking(0x82_f8b3);
    assert_eq!(seen("192.0.2.2:8081"), "192.0.2.1", "another namespace: under the node's address");
    marking(KUBE_PROXY_MASQUERADE);
    assert_eq!(seen("192.0.2.2:8082"), "192.0.2.1", "as kube-proxy asks");
    marking(mark);
    let _listener = node.run(|| TcpListener::bind("0.0.0.0:8090").unwrap());
    for from in [&outside, &pod] {
        let to: SocketAddr = "192.0.2.77:8090".parse().unwrap();
        let refused =
            from.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap_err().kind());
        assert_eq!(refused, ErrorKind::ConnectionRefused, "nobody connects to an egress IP");
    }

    ensured(&node, &spec()).unwrap();
    assert_eq!(seen("192.0.2.2:8083"), "192.0.2.1", "not hosted any more");
}
