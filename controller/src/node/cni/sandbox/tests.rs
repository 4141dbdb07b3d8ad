#![allow(clippy::unwrap_used)]

use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::node::netns::testing::{Namespace, says};

/// A namespace that stands for the node, in which everything runs that acts on the calling process's namespace, and
/// one for a pod.
struct Fixture {
    node: Namespace,
    pod: Namespace,
}

impl Fixture {
    fn new(test: &str) -> Fixture {
        let [node, pod] = ["n", "p"].map(|end| Namespace::new(&format!("{test}-{end}")));
        Fixture { node, pod }
    }

    fn spec(&self) -> SandboxSpec {
        let gateway = Ipv4Addr::new(10, 128, 2, 1);
        let cluster = ["10.128.0.0/14".parse().unwrap(), "10.132.0.0/16".parse().unwrap()];
        SandboxSpec {
            netns: self.pod.ns.clone(),
            ifname: "eth0".into(),
            host_veth: "vethtest".into(),
            mac: pod_mac(Ipv4Addr::new(10, 128, 2, 9)),
            mtu: 1400,
            address: "10.128.2.9/23".parse().unwrap(),
            gateway,
            routes: pod_routes(gateway, "172.30.0.0/16".parse().unwrap(), &cluster, None),
            userspace_datapath: true,
            block_list: None,
            alias: None,
        }
    }

    fn wire(&self, spec: &SandboxSpec) -> Result<Wired, SandboxError> {
        self.node.run(|| wire_blocking(spec))
    }

    /// The pod's routes. That the other end of the pair is up the kernel tells them by way of a queue, a moment after it is:
    /// until then they are shown as `linkdown`, and used all the same.
    fn routes(&self) -> String {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let routes = self.pod.says("ip route");
            if !routes.contains("linkdown") || Instant::now() >= end {
                return routes;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn unwire(&self, name: &str) -> bool {
        self.node.run(|| unwire_blocking(name)).unwrap()
    }
}

/// Who may open no more files does not take a pod for gone. The limit is a process's, so this is done in one of its own.
#[test]
fn what_can_not_be_asked_is_not_absent() {
    const OWN: &str = "OSDN_FEW_FILES";
    if std::env::var_os(OWN).is_none() {
        let name = "node::cni::sandbox::tests::what_can_not_be_asked_is_not_absent";
        let mut again = std::process::Command::new("prlimit");
        again.arg("--nofile=64").arg(std::env::current_exe().unwrap()).args(["--exact", name]).env(OWN, "1");
        let output = again.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(link_exists("lo").unwrap());
    let links = Links::open().unwrap();
    for none in ["no-such-link", "", "lo-and-some-more-letters"] {
        assert!(!link_exists(none).unwrap(), "{none:?}");
        assert!(links.has("lo").unwrap());
        assert!(!links.has(none).unwrap(), "{none:?}");
    }
    assert_eq!(runtime.block_on(link_alias("no-such-link")).unwrap(), None);
    let null = std::fs::File::open("/dev/null").unwrap();
    let mut files = Vec::new();
    while let Ok(file) = null.try_clone() {
        files.push(file);
    }
    assert!(link_exists("lo").unwrap_err().to_string().contains("look for links"));
    assert!(links.has("lo").unwrap());
    assert!(runtime.block_on(link_alias("lo")).is_err());
}

#[test]
fn links_are_asked_for_in_the_namespace_where_that_was_begun() {
    let f = Fixture::new("links");
    let links = f.node.run(Links::open).unwrap();
    for _ in 0..2 {
        assert!(!links.has("vethtest").unwrap());
        f.wire(&f.spec()).unwrap();
        assert!(!link_exists("vethtest").unwrap(), "the test's own namespace");
        // From here on the socket is bound to a link that goes.
        assert!(links.has("vethtest").unwrap());
        assert!(f.unwire("vethtest"));
    }
    assert!(!links.has("vethtest").unwrap());
    assert!(links.has("lo").unwrap());
}

/// A process that was stopped, as by a debugger or a freezer, goes on waiting for the kernel's answers. It is one of its own.
#[test]
fn who_stood_still_goes_on_waiting() {
    const OWN: &str = "OSDN_STOOD_STILL";
    const WAITS: &str = "waits";
    if std::env::var_os(OWN).is_none() {
        let name = "node::cni::sandbox::tests::who_stood_still_goes_on_waiting";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(OWN, "1")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let tasks = format!("/proc/{}/task", child.id());
        // The state of the thread that waits: the first field after its name.
        let is = |state: &str| {
            let tasks = std::fs::read_dir(&tasks).into_iter().flatten();
            let stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
            stats.into_iter().any(|stat| stat.contains(&format!("({WAITS}) {state}")))
        };
        let until_is = |state: &str| {
            let end = Instant::now() + Duration::from_secs(10);
            while !is(state) {
                assert!(Instant::now() < end, "it does not come to state {state}");
                thread::sleep(Duration::from_millis(5));
            }
        };
        until_is("S");
        for (signal, state) in [("-STOP", "T"), ("-CONT", "S")] {
            says(&format!("kill {signal} {}", child.id()));
            until_is(state);
        }
        drop(child.stdin.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
        return;
    }
    let events = Namespace::new("stood").run(|| {
        let socket = netlink::open(NETLINK_ROUTE, netlink::LINK_EVENTS).unwrap();
        thread::scope(|scope| {
            let waits = thread::Builder::new().name(WAITS.to_owned());
            let waits =
                waits.spawn_scoped(scope, || netlink::receive::<RouteNetlinkMessage>(&socket)).unwrap();
            std::io::read_to_string(std::io::stdin()).unwrap();
            says("ip link add name other type veth peer name end");
            waits.join().unwrap().unwrap().len()
        })
    });
    assert!(events > 0);
}

#[test]
fn what_ip_and_ethtool_see() {
    let f = Fixture::new("wire");
    let wired = f.wire(&f.spec()).unwrap();
    assert_eq!(wired.host_veth, "vethtest");
    assert_eq!(wired.pod_mac, [0x0a, 0x58, 10, 128, 2, 9]);

    let host = f.node.says("ip -o link show vethtest");
    let mac = wired.host_mac.map(|byte| format!("{byte:02x}")).join(":");
    assert!(host.starts_with(&format!("{}: vethtest@if", wired.host_ifindex)), "{host}");
    assert!(host.contains(&mac) && host.contains("mtu 1400") && host.contains(",UP"), "{host}");
    assert!(host.contains("PROMISC"), "{host}");
    assert_eq!(f.node.says("sysctl -n net.ipv4.conf.vethtest.arp_ignore"), "8");
    assert_eq!(f.node.says("ip -6 address show vethtest"), "");
    assert_eq!(f.node.says("ip -6 route show table all dev vethtest"), "");

    let pod = f.pod.says("ip -o link show eth0");
    assert!(
        pod.contains("0a:58:0a:80:02:09") && pod.contains("mtu 1400") && pod.contains("LOWER_UP"),
        "{pod}"
    );
    assert!(f.pod.says("ip -o link show lo").contains(",UP"));
    let address = f.pod.says("ip -o -4 address show eth0");
    assert!(address.contains("inet 10.128.2.9/23 brd 10.128.3.255 scope global eth0"), "{address}");
    assert_eq!(
        f.routes(),
        "default via 10.128.2.1 dev eth0\n\
         10.128.0.0/14 dev eth0 scope link\n\
         10.128.2.0/23 dev eth0 proto kernel scope link src 10.128.2.9\n\
         10.132.0.0/16 dev eth0 scope link\n\
         172.30.0.0/16 via 10.128.2.1 dev eth0\n\
         224.0.0.0/4 dev eth0 scope link"
    );
    let features = f.pod.says("ethtool -k eth0");
    assert!(features.contains("tx-checksumming: off"), "{features}");
    assert!(f.node.says("ethtool -k vethtest").contains("tx-checksumming: on"));

    assert!(f.unwire("vethtest"));
    assert!(!f.unwire("vethtest"));
    assert!(!f.pod.says("ip -o link").contains("eth0"));
}

/// Nothing of a pair is in the way of the next of the same names, the moment that it is removed.
#[test]
fn wired_again_at_once() {
    let f = Fixture::new("cycle");
    let spec = f.spec();
    for _ in 0..20 {
        f.wire(&spec).unwrap();
        assert!(f.unwire("vethtest"));
        assert!(!f.unwire("vethtest"));
    }
}

#[test]
fn variations() {
    let f = Fixture::new("vary");
    let route = PodRoute { dst: "10.128.0.0/14".parse().unwrap(), via: None, mtu: Some(1300) };
    let spec =
        SandboxSpec { ifname: "net1".into(), routes: vec![route], userspace_datapath: false, ..f.spec() };
    f.wire(&spec).unwrap();
    assert!(f.routes().contains("10.128.0.0/14 dev net1 scope link mtu 1300"));
    assert!(f.pod.says("ethtool -k net1").contains("tx-checksumming: on"));
    assert!(!f.node.says("ip -o link show vethtest").contains("PROMISC"));
    assert_eq!(f.node.says("sysctl -n net.ipv4.conf.vethtest.arp_ignore"), "0");
}

#[test]
fn names_that_are_taken() {
    let f = Fixture::new("taken");
    f.wire(&f.spec()).unwrap();
    let error = f.wire(&f.spec()).unwrap_err();
    assert!(matches!(&error, SandboxError::HostVethExists { name } if name == "vethtest"), "{error}");
    let other = SandboxSpec { host_veth: "vethother".into(), ..f.spec() };
    let error = f.wire(&other).unwrap_err();
    assert!(matches!(&error, SandboxError::InterfaceExists { name } if name == "eth0"), "{error}");
    // What was there is untouched, nothing was added.
    assert_eq!(f.node.says("ip -o link").lines().count(), 2);
    assert!(f.routes().starts_with("default via 10.128.2.1"));
}

#[test]
fn a_failed_step_is_named_and_everything_undone() {
    let f = Fixture::new("undo");
    let unreachable = PodRoute {
        dst: "192.0.2.0/24".parse().unwrap(),
        via: Some(Ipv4Addr::new(203, 0, 113, 1)),
        mtu: None,
    };
    let mut spec = f.spec();
    spec.routes.insert(1, unreachable);
    let error = f.wire(&spec).unwrap_err().to_string();
    assert!(
        error.starts_with("could not add the route to 192.0.2.0/24 on eth0 via 203.0.113.1: "),
        "{error}"
    );
    let error = f.wire(&SandboxSpec { mtu: 10, ..f.spec() }).unwrap_err().to_string();
    assert!(error.starts_with("could not create the veth pair: "), "{error}");
    let error = f.wire(&SandboxSpec { ifname: "a/b".into(), ..f.spec() }).unwrap_err().to_string();
    assert!(error.starts_with("could not create the veth pair: "), "{error}");
    assert_eq!(f.node.says("ip -o link").lines().count(), 1);
    assert_eq!(f.pod.says("ip -o link").lines().count(), 1);
    let spec = SandboxSpec { gateway: Ipv4Addr::new(10, 128, 4, 1), ..f.spec() };
    let error = f.wire(&spec).unwrap_err().to_string();
    assert_eq!(error, "the gateway 10.128.4.1 is not in the subnet of the pod's address 10.128.2.9/23");
    f.wire(&f.spec()).unwrap();
}

#[test]
fn the_pods_namespace_has_lost_its_name() {
    let f = Fixture::new("gone");
    f.wire(&f.spec()).unwrap();
    NetNs::delete_named(&f.pod.name).unwrap();
    // `f.pod` still holds the namespace, so the pair lives.
    assert!(f.unwire("vethtest"));
    assert!(!f.unwire("vethtest"));
}

#[test]
fn block_list_as_nft_prints_it() {
    let f = Fixture::new("block");
    let spec = SandboxSpec { block_list: Some(BlockList::default()), ..f.spec() };
    f.wire(&spec).unwrap();
    let expected = "table ip openshift-block-output {\n\
         \tchain block {\n\
         \t\ttcp dport 22623-22624 tcp flags syn / fin,syn,rst,ack reject\n\
         \t\tip daddr 169.254.169.254 udp dport != 53 reject\n\
         \t\tip daddr 169.254.169.254 tcp dport != 53 reject\n\
         \t}\n\
         \n\
         \tchain output {\n\
         \t\ttype filter hook output priority filter; policy accept;\n\
         \t\tgoto block\n\
         \t}\n\
         \n\
         \tchain forward {\n\
         \t\ttype filter hook forward priority filter; policy accept;\n\
         \t\tgoto block\n\
         \t}\n\
         }";
    assert_eq!(f.pod.says("nft list ruleset"), expected);
    // What an interrupted ADD has left is replaced, whatever it is.
    f.pod.says("nft add rule ip openshift-block-output block accept");
    f.pod.run(|| install(&BlockList::default())).unwrap();
    assert_eq!(f.pod.says("nft list ruleset"), expected);
    assert_eq!(BlockList::for_platform("AlibabaCloud").metadata, Ipv4Addr::new(100, 100, 100, 200));
    assert_eq!(BlockList::for_platform("AWS"), BlockList::default());
}

/// With real connections: refused at once where blocked, and no answer (the pod's gateway is not there) elsewhere.
#[test]
fn block_list_rejects() {
    use std::io::ErrorKind;
    use std::net::{SocketAddr, TcpStream, UdpSocket};
    let f = Fixture::new("reject");
    f.wire(&SandboxSpec { block_list: Some(BlockList::default()), ..f.spec() }).unwrap();
    f.pod.run(|| {
        let tcp = |address: &str| {
            let address: SocketAddr = address.parse().unwrap();
            TcpStream::connect_timeout(&address, Duration::from_millis(100)).unwrap_err().kind()
        };
        for blocked in ["10.128.2.1:22623", "198.51.100.1:22624", "169.254.169.254:80"] {
            assert_eq!(tcp(blocked), ErrorKind::ConnectionRefused, "{blocked}");
        }
        for open in ["10.128.2.1:22625", "169.254.169.254:53"] {
            assert_eq!(tcp(open), ErrorKind::TimedOut, "{open}");
        }
        let udp = |address| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect(address).unwrap();
            socket.send(b"x")
        };
        assert_eq!(udp("169.254.169.254:123").unwrap_err().kind(), ErrorKind::PermissionDenied);
        udp("169.254.169.254:53").unwrap();
    });
}

#[test]
fn many_at_once() {
    const PODS: u8 = 20;
    let f = Fixture::new("many");
    let pods: Vec<Fixture> = (0..PODS).map(|n| Fixture::new(&format!("many{n}"))).collect();
    let wired: Vec<Wired> = f.node.run(|| {
        thread::scope(|scope| {
            let threads: Vec<_> = pods
                .iter()
                .enumerate()
                .map(|(n, pod)| {
                    let host_veth = host_veth_name(&n.to_string(), "eth0");
                    let spec = SandboxSpec { host_veth, ..pod.spec() };
                    scope.spawn(move || wire_blocking(&spec).unwrap())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    });
    assert_eq!(f.node.says("ip -o link").lines().count(), 1 + usize::from(PODS));
    for one in wired {
        assert!(f.unwire(&one.host_veth));
    }
}

#[tokio::test]
async fn async_forms() {
    let f = Fixture::new("async");
    // Only the calls that act on the pod's namespace: the process is in the root namespace.
    block_list(&f.pod.ns, BlockList::default()).await.unwrap();
    assert!(f.pod.says("nft list ruleset").contains("169.254.169.254"));
    assert!(!unwire("veth-not-there").await.unwrap());
}

#[test]
fn names_and_macs() {
    assert_eq!(pod_mac(Ipv4Addr::new(10, 128, 0, 5)), [0x0a, 0x58, 0x0a, 0x80, 0x00, 0x05]);
    // Stable over versions: links made by an earlier one must be found.
    assert_eq!(host_veth_name("4f1e", "eth0"), "veth7046ca5e");
    assert_ne!(host_veth_name("4f1e", "eth0"), host_veth_name("4f1e", "eth1"));
    assert_ne!(host_veth_name("4f1e", "eth0"), host_veth_name("4f1ee", "th0"));
    assert_eq!(host_veth_name(&"a".repeat(64), "eth0").len(), 12);
}

/// Prints where the time goes: `cargo test -p controller sandbox::tests::times -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn times() {
    let f = Fixture::new("time");
    let mut samples: [Vec<Duration>; 5] = Default::default();
    for n in 0..50 {
        let pod = Fixture::new(&format!("time{n}"));
        let spec = pod.spec();
        f.node.run(|| {
            let start = Instant::now();
            wire_blocking(&spec).unwrap();
            let wired = Instant::now();
            pod.pod.run(|| install(&BlockList::default())).unwrap();
            let listed = Instant::now();
            pod.pod.run(|| ());
            let entered = Instant::now();
            pod.pod.run(|| says("nft add table ip other"));
            let spawned = Instant::now();
            unwire_blocking(&spec.host_veth).unwrap();
            let times =
                [wired - start, listed - wired, entered - listed, spawned - entered, spawned.elapsed()];
            samples.iter_mut().zip(times).for_each(|(samples, time)| samples.push(time));
        });
    }
    let names = ["wire", "block list by netlink", "enter a namespace", "one rule by nft", "unwire"];
    for (name, mut samples) in names.into_iter().zip(samples) {
        samples.sort();
        println!("{name}: median {:?}, worst {:?}", samples[samples.len() / 2], samples[samples.len() - 1]);
    }
}
