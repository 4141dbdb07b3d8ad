//! Every feature's flows against a golden file, in the text that `ovs-ofctl dump-flows` prints.
//! `UPDATE_GOLDEN=1 cargo test -p flowtables` rewrites the files; read the difference before committing it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;

use openflow::{Action, Flow, Instruction, OfPort};

use super::base::Base;
use super::egress_ip::{EgressIp, Route};
use super::egress_policy::{self, EgressPolicy, Rules, Verdict};
use super::multicast::{self, Multicast};
use super::nodes::RemoteNode;
use super::pods::Pod;
use super::services::{Protocol, Service};
use super::{Exit, Plugin, tenants, version};
use crate::flowset::Rendered;
use crate::pipeline::table::{Miss, Table};
use crate::pipeline::vnid::Vnid;

fn base(plugin: Plugin) -> Base {
    Base {
        plugin,
        cluster_networks: vec!["10.128.0.0/14".parse().unwrap()],
        service_network: "172.30.0.0/16".parse().unwrap(),
        local_subnet: "10.130.0.0/23".parse().unwrap(),
        node_ip: Ipv4Addr::new(192, 168, 108, 112),
        vxlan_port: 4789,
    }
}

fn vnid(n: u32) -> Vnid {
    Vnid::try_from(n).unwrap()
}

fn pod() -> Pod {
    Pod {
        namespace: "kube-public".into(),
        name: "web".into(),
        port: OfPort(4),
        ip: Ipv4Addr::new(10, 130, 0, 6),
        vnid: vnid(0x82f8b2),
    }
}

fn node(fixed_vnid: Option<Vnid>) -> RemoteNode {
    RemoteNode {
        name: "node1.ocp.cn".into(),
        vtep: Ipv4Addr::new(192, 168, 108, 111),
        subnet: "10.131.0.0/23".parse().unwrap(),
        fixed_vnid,
    }
}

fn service() -> Service {
    Service {
        namespace: "kube-public".into(),
        name: "tomcat".into(),
        cluster_ip: Ipv4Addr::new(172, 30, 161, 148),
        ports: vec![(Protocol::Tcp, 8080), (Protocol::Udp, 53), (Protocol::Sctp, 9)],
        vnid: vnid(0x82f8b2),
    }
}

fn vtep(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 108, last)
}

fn egress_ip(route: Route, policed: bool) -> EgressIp {
    EgressIp { namespace: "kube-public".into(), vnid: vnid(0x82f8b2), route, policed }
}

fn egress_policy(exit: Exit) -> EgressPolicy {
    let rule = |verdict, destinations: &[&str]| egress_policy::Rule {
        verdict,
        destinations: destinations.iter().map(|text| text.parse().unwrap()).collect(),
    };
    let rules = vec![
        rule(Verdict::Allow, &["192.0.2.0/24"]),
        // A name without addresses keeps its place.
        rule(Verdict::Allow, &[]),
        rule(Verdict::Deny, &["198.51.100.1/32", "198.51.100.7/32"]),
        rule(Verdict::Deny, &["0.0.0.0/0"]),
    ];
    EgressPolicy { namespace: "kube-public".into(), vnid: vnid(0x82f8b2), rules: Rules::Ordered(rules), exit }
}

fn all() -> Vec<(&'static str, Vec<Flow>)> {
    everything().into_iter().map(|(name, rendered)| (name, rendered.flows)).collect()
}

fn everything() -> Vec<(&'static str, Rendered)> {
    let tun0_mac = [0x0a, 0x58, 0x0a, 0x82, 0, 1];
    let drop_all = EgressPolicy { rules: Rules::DropAll, ..egress_policy(Exit::Host) };
    let egress = [
        ("egress-ip-here", egress_ip(Route::Here { tun0_mac }, false).rendered()),
        ("egress-ip-nowhere", egress_ip(Route::Nowhere, true).rendered()),
        ("egress-ip-one-node", egress_ip(Route::Elsewhere(vec![vtep(113)]), false).rendered()),
        ("egress-ip-two-nodes", egress_ip(Route::Elsewhere(vec![vtep(113), vtep(110)]), false).rendered()),
        ("egress-ip-one-node-policed", egress_ip(Route::Elsewhere(vec![vtep(113)]), true).rendered()),
        (
            "egress-ip-two-nodes-policed",
            egress_ip(Route::Elsewhere(vec![vtep(113), vtep(110)]), true).rendered(),
        ),
        ("egress-policy", egress_policy(Exit::Host).flows().into()),
        ("egress-policy-tunnel", egress_policy(Exit::Tunnel).flows().into()),
        ("egress-policy-group", egress_policy(Exit::Group(0x82f8b2)).flows().into()),
        ("egress-policy-drop-all", drop_all.flows().into()),
        ("multicast", Multicast { vnid: vnid(0x82f8b2), ports: vec![OfPort(4), OfPort(10)] }.flows().into()),
        ("multicast-tunnels", multicast::tunnels(&[vtep(110), vtep(111)]).into()),
    ];
    flows().into_iter().map(|(name, flows)| (name, flows.into())).chain(egress).collect()
}

fn flows() -> Vec<(&'static str, Vec<Flow>)> {
    let mut two_networks = base(Plugin::Subnet);
    two_networks.cluster_networks.push("10.132.0.0/16".parse().unwrap());
    two_networks.vxlan_port = 4790;
    vec![
        ("base-subnet", base(Plugin::Subnet).flows()),
        ("base-multitenant", base(Plugin::Multitenant).flows()),
        ("base-two-networks", two_networks.flows()),
        ("pod", pod().flows()),
        ("node", node(None).flows()),
        ("node-fixed-vnid", node(Some(vnid(7))).flows()),
        ("tenant", tenants::flows(vnid(0x82f8b2))),
        ("service", service().flows()),
        ("version-multitenant", version::flows(Plugin::Multitenant)),
    ]
}

#[test]
fn flows_are_as_the_golden_files_say() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut wrong = Vec::new();
    for (name, Rendered { mut flows, groups }) in everything() {
        flows.sort_by_key(|flow| (flow.table, std::cmp::Reverse(flow.priority)));
        let flows = flows.iter().map(|flow| format!("{}\n", flow.to_string().trim()));
        let text: String = flows.chain(groups.iter().map(|group| format!("{group}\n"))).collect();
        let path = dir.join(name).with_extension("flows");
        if update {
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        if golden != text {
            wrong.push(format!("{} is\n{golden}but the flows are\n{text}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn goto(flow: &Flow) -> Option<u8> {
    flow.instructions.iter().find_map(|instruction| match instruction {
        Instruction::GotoTable(table) => Some(*table),
        _ => None,
    })
}

/// What a flow does at once.
fn actions(flow: &Flow) -> Vec<Action> {
    let lists = flow.instructions.iter().filter_map(|instruction| match instruction {
        Instruction::ApplyActions(actions) => Some(actions.clone()),
        _ => None,
    });
    lists.flatten().collect()
}

/// Where a flow may send a packet: by `goto`, by resubmit, or through conntrack.
fn successors(flow: &Flow) -> Vec<u8> {
    actions(flow)
        .iter()
        .filter_map(|action| match action {
            Action::Resubmit { table, .. } => *table,
            Action::Ct(ct) => ct.recirc_table,
            _ => None,
        })
        .chain(goto(flow))
        .collect()
}

#[test]
fn goto_only_goes_forward_into_tables_that_exist() {
    for (name, flows) in all() {
        for flow in flows {
            if let Some(next) = goto(&flow) {
                assert!(next > flow.table, "{name}: {flow}");
                assert!(Table::from_number(next).is_some(), "{name}: {flow}");
            }
        }
    }
}

/// Resubmission and conntrack go forward too, but for two flows that send a packet through their own table once more.
/// Neither can do so for ever: the one takes packets that conntrack has not seen, the other counts.
#[test]
fn nothing_goes_back() {
    let large: Vec<Ipv4Addr> = (0..2500).map(|n| Ipv4Addr::from(0x0a00_0001_u32 + n)).collect();
    let large = ("large", multicast::tunnels(&large));
    let mut again = BTreeSet::new();
    for (name, flows) in all().into_iter().chain([large]) {
        for flow in flows {
            for next in successors(&flow) {
                assert!(next >= flow.table, "{name}: {flow}");
                assert!(Table::from_number(next).is_some(), "{name}: {flow}");
                if next == flow.table {
                    again.insert((next, flow.fields.to_string()));
                }
            }
        }
    }
    let expected = [(0, "ct_state=-trk,ip"), (111, "reg3=0/0xffff"), (111, "reg3=0x1/0xffff")];
    assert_eq!(again, expected.map(|(table, fields)| (table, fields.to_owned())).into());
}

#[test]
fn every_table_ends_somewhere_and_is_reached_from_table_0() {
    let multicast = Multicast { vnid: pod().vnid, ports: vec![pod().port] };
    let flows: Vec<Flow> = [
        base(Plugin::Multitenant).flows(),
        pod().flows(),
        node(None).flows(),
        service().flows(),
        multicast.flows(),
    ]
    .concat();
    for table in Table::ALL.iter().filter(|table| table.miss() != Miss::NotVisited) {
        let misses = flows
            .iter()
            .filter(|flow| flow.table == table.number() && flow.priority == 0 && flow.fields.is_empty());
        assert_eq!(misses.count(), 1, "{table} has one miss");
    }

    let mut reached = BTreeSet::from([0]);
    let mut todo = vec![0];
    while let Some(table) = todo.pop() {
        for next in flows.iter().filter(|flow| flow.table == table).flat_map(successors) {
            if reached.insert(next) {
                todo.push(next);
            }
        }
    }
    // No plugin of this version leads a packet to table 27, which is kept for NetworkPolicy: it holds its miss, which
    // drops, and nothing that could wait there unseen. Table 253 is there for its note. Whoever gives them more must
    // lead packets there, and take them off this list.
    let unreached: BTreeSet<u8> =
        Table::ALL.iter().map(|table| table.number()).filter(|table| !reached.contains(table)).collect();
    assert_eq!(unreached, [Table::EgressRules, Table::Version].map(Table::number).into());
    for (name, flows) in all() {
        for flow in flows.iter().filter(|flow| unreached.contains(&flow.table)) {
            let actions = actions(flow);
            let harmless = actions.iter().all(|action| matches!(action, Action::Note(_)));
            assert!(harmless && flow.fields.is_empty() && goto(flow).is_none(), "{name}: {flow}");
        }
    }
    // And all flows lead out of their table or end there: by an output, or an explicit drop.
    for (name, flows) in all() {
        for flow in flows {
            let outputs = actions(&flow).iter().any(|action| {
                matches!(
                    action,
                    Action::Output(_) | Action::OutputReg { .. } | Action::Group(_) | Action::Note(_)
                )
            });
            let drops = flow.instructions.is_empty();
            assert!(outputs || drops || !successors(&flow).is_empty(), "{name}: {flow} ends nowhere");
        }
    }
}

#[test]
fn the_global_vnid_needs_no_rule_of_its_own() {
    assert_eq!(tenants::flows(Vnid::GLOBAL), []);
}

#[test]
fn multicast_needs_somebody_to_send_or_hear_it() {
    assert_eq!(Multicast { vnid: vnid(7), ports: Vec::new() }.flows(), []);
    assert_eq!(multicast::tunnels(&[]), []);
}

#[test]
fn a_destination_that_looks_like_one_address_means_any() {
    let any: ipnet::Ipv4Net = "0.0.0.0/0".parse().unwrap();
    assert_eq!(egress_policy::destination("0.0.0.0/32".parse().unwrap()), any);
    assert_eq!(egress_policy::destination("10.1.2.3/8".parse().unwrap()), "10.0.0.0/8".parse().unwrap());
    assert_eq!(egress_policy::destination("10.1.2.3/32".parse().unwrap()), "10.1.2.3/32".parse().unwrap());
}
