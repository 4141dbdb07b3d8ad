//! What a large node costs: 250 pods, 2,000 nodes, 5,000 tenants, 10,000 services; and beside it the old way, in which
//! every change renders everything anew.
#![allow(unsafe_code, missing_docs)] // A counting allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flowtables::feature::base::Base;
use flowtables::feature::egress_policy::{self, EgressPolicy, Rules, Verdict};
use flowtables::feature::nodes::RemoteNode;
use flowtables::feature::pods::Pod;
use flowtables::feature::services::{Protocol, Service};
use flowtables::feature::{Exit, Plugin, tenants, version};
use flowtables::flowset::{FlowSet, diff};
use flowtables::pipeline::cookie::Owner;
use flowtables::pipeline::vnid::Vnid;
use flowtables::walk::{Assumptions, Packet, walk};
use openflow::{Flow, Match, OfPort};

const PODS: u32 = 250;
const NODES: u32 = 2_000;
const TENANTS: u32 = 5_000;
const SERVICES: u32 = 10_000;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What one node of the cluster must know, as the agent's view hands it to the features.
struct Cluster {
    base: Base,
    nodes: Vec<RemoteNode>,
    pods: Vec<Pod>,
    services: Vec<Service>,
    policies: Vec<EgressPolicy>,
}

fn address(base: [u8; 4], n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::from(base)) + n)
}

fn vnid(tenant: u32) -> Vnid {
    Vnid::try_from(10 + tenant % TENANTS).expect("a VNID has 24 bits")
}

fn pod(n: u32) -> Pod {
    Pod {
        namespace: format!("project-{}", n % TENANTS),
        name: format!("web-76c94f7546-{n:05}"),
        port: OfPort(3 + n),
        ip: address([10, 128, 0, 2], n),
        vnid: vnid(n),
    }
}

fn cluster() -> Cluster {
    let subnet = |n: u32| ipnet::Ipv4Net::new(address([10, 128, 0, 0], n << 9), 23).expect("23 bits at most");
    let base = Base {
        plugin: Plugin::Multitenant,
        cluster_networks: vec!["10.128.0.0/12".parse().expect("a network")],
        service_network: "172.30.0.0/16".parse().expect("a network"),
        local_subnet: subnet(0),
        node_ip: address([192, 168, 0, 1], 0),
        vxlan_port: 4789,
    };
    let node = |n| RemoteNode {
        name: format!("node{n}.example.com"),
        vtep: address([192, 168, 0, 1], n),
        subnet: subnet(n),
        fixed_vnid: None,
    };
    let service = |n| Service {
        namespace: format!("project-{}", n % TENANTS),
        name: format!("backend-{n}"),
        cluster_ip: address([172, 30, 0, 1], n),
        ports: [(Protocol::Tcp, 8080), (Protocol::Udp, 53)]
            .into_iter()
            .take(1 + (n % 4 == 0) as usize)
            .collect(),
        vnid: vnid(n),
    };
    let rule = |verdict, destination: &str| egress_policy::Rule {
        verdict,
        destinations: vec![destination.parse().expect("a network")],
    };
    let policy = |n| EgressPolicy {
        namespace: format!("project-{n}"),
        vnid: vnid(n),
        rules: Rules::Ordered(vec![
            rule(Verdict::Allow, "203.0.113.0/24"),
            rule(Verdict::Allow, "198.51.100.7/32"),
            rule(Verdict::Deny, "0.0.0.0/0"),
        ]),
        exit: Exit::Host,
    };
    Cluster {
        base,
        nodes: (1..NODES).map(node).collect(),
        pods: (0..PODS).map(pod).collect(),
        services: (0..SERVICES).map(service).collect(),
        policies: (0..50).map(policy).collect(),
    }
}

impl Cluster {
    fn render(&self) -> FlowSet {
        let mut set = FlowSet::new();
        let mut conflicts = 0;
        let mut add = |owner: &Owner, flows: Vec<Flow>| conflicts += set.replace(owner, flows).len();
        add(&Owner::Base, self.base.flows());
        add(&Owner::Version, version::flows(self.base.plugin));
        self.nodes.iter().for_each(|node| add(&node.owner(), node.flows()));
        self.services.iter().for_each(|service| add(&service.owner(), service.flows()));
        self.policies.iter().for_each(|policy| add(&policy.owner(), policy.flows()));
        for pod in &self.pods {
            add(&pod.owner(), pod.flows());
            add(&Owner::Tenant(pod.vnid), tenants::flows(pod.vnid));
        }
        assert_eq!(conflicts, 0);
        set
    }
}

/// What a piece of work takes.
#[derive(Clone, Copy)]
struct Time {
    median: Duration,
    /// What it takes when the machine does nothing else.
    best: Duration,
}

/// Measures `work`, apart from what `prepare` does.
fn measure<T, R>(runs: usize, mut prepare: impl FnMut() -> T, mut work: impl FnMut(T) -> R) -> Time {
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let input = prepare();
            let start = Instant::now();
            let result = black_box(work(black_box(input)));
            let time = start.elapsed();
            drop(result);
            time
        })
        .collect();
    times.sort();
    let at = |place: usize| times.get(place).copied().unwrap_or_default();
    Time { median: at(runs / 2), best: at(0) }
}

fn report(what: &str, figure: f64, unit: &str, best: Option<f64>, limit: Option<f64>) {
    let best = best.map_or(String::new(), |best| format!("(best {best:.2})"));
    let verdict = limit.map_or(String::new(), |limit| {
        format!("limit {limit} {unit}: {}", if figure < limit { "met" } else { "MISSED" })
    });
    println!("{what:<46} {figure:>10.2} {unit:<6}{best:<16} {verdict}");
}

fn report_ms(what: &str, time: Time, limit: Option<f64>) {
    report(what, ms(time.median), "ms", Some(ms(time.best)), limit);
}

fn report_us(what: &str, time: Time, limit: Option<f64>) {
    report(what, us(time.median), "us", Some(us(time.best)), limit);
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let runs = if std::env::args().any(|arg| arg == "--bench") { 41 } else { 1 };
    let mut cluster = cluster();
    let before = LIVE.load(Ordering::Relaxed);
    let set = cluster.render();
    let bytes = LIVE.load(Ordering::Relaxed) - before;
    println!("{PODS} pods, {NODES} nodes, {TENANTS} tenants, {SERVICES} services: {} flows", set.len());

    report_ms("render the whole node", measure(runs, || (), |()| cluster.render()), Some(50.0));
    let per_flow = bytes as f64 / set.len() as f64;
    report("memory of a flow, with owners and index", per_flow, "bytes", None, Some(600.0));

    let actual: Vec<Flow> = as_dumped(&set);
    let same = measure(runs, || (), |()| diff::diff(&actual, &set));
    assert!(diff::diff(&actual, &set).is_empty());
    report_ms("difference where nothing changed", same, Some(20.0));

    one_pod(&mut cluster, set.clone(), &actual, runs);
    walks(&set, runs);
}

/// The flows in an order that is not ours, as a switch returns them.
fn as_dumped(set: &FlowSet) -> Vec<Flow> {
    let mut flows: Vec<Flow> = set.iter().cloned().collect();
    flows.sort_by_cached_key(|flow| (flow.table, flow.cookie.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    // Once more, as they lie in memory in the order in which they are read.
    flows.to_vec()
}

fn one_pod(cluster: &mut Cluster, mut set: FlowSet, actual: &[Flow], runs: usize) {
    let new = pod(PODS);
    let added = measure(
        runs,
        || set.clone(),
        |mut set| {
            set.replace(&new.owner(), new.flows());
            set
        },
    );
    report_us("one pod added: its flows into the set", added, Some(50.0));
    set.replace(&new.owner(), new.flows());
    let changes = diff::diff(actual, &set).modifications().len();
    println!("{:<46} {changes:>7}    modifications", "  and onto the switch");

    cluster.pods.push(new);
    let anew = measure(runs, || (), |()| cluster.render());
    let compared = measure(runs, || cluster.render(), |set| diff::diff(actual, &set).modifications());
    report_us("the old way: everything rendered anew", anew, None);
    report_us("  and compared with the whole switch", compared, None);
    report("  times slower", us(anew.median) / us(added.median), "", None, None);
    cluster.pods.pop();
}

fn walks(set: &FlowSet, runs: usize) {
    let assumptions = Assumptions::default();
    let packets = [
        ("a pod here", "in_port=4,tcp,nw_src=10.128.0.3,nw_dst=10.128.0.3,ct_state=trk"),
        ("a pod on another node", "in_port=4,tcp,nw_src=10.128.0.3,nw_dst=10.131.64.9,ct_state=trk"),
        ("a service", "in_port=4,tcp,nw_src=10.128.0.3,nw_dst=172.30.19.138,tp_dst=8080,ct_state=trk"),
        (
            "another tenant's service",
            "in_port=4,tcp,nw_src=10.128.0.3,nw_dst=172.30.9.9,tp_dst=8080,ct_state=trk",
        ),
        (
            "the outside, under a policy",
            "in_port=4,tcp,nw_src=10.128.0.3,nw_dst=203.0.113.9,tp_dst=443,ct_state=trk",
        ),
        (
            "a pod here, from the tunnel",
            "in_port=1,tcp,tun_src=192.168.5.5,tun_id=11,nw_src=10.138.0.2,nw_dst=10.128.0.3,ct_state=trk",
        ),
    ];
    for (what, text) in packets {
        let fields: Match = text.parse().expect("the packet parses");
        let packet = Packet::from(&fields);
        let time = measure(runs * 25, || packet.clone(), |packet| walk(set, packet, &assumptions));
        report_us(&format!("a walk to {what}"), time, Some(20.0));
    }
    let searched = measure(
        runs,
        || (),
        |()| {
            let packet = Packet::default();
            set.iter().filter(|flow| packet.hits(flow)).count()
        },
    );
    report_us("the old way: every flow tried", searched, None);
}
