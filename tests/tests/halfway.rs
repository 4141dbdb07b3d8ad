//! The way from one set of flows to another: at no point on it does a packet get where neither set sends it.
//!
//! A bundle is applied at once, so nobody should see a point on the way; but a switch that restarts, or one without
//! bundles, does.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller::api::NetNamespace;
use controller::view::{Inputs, View};
use flowtables::flowset::diff::diff;
use flowtables::flowset::{FlowSet, Rendered, groups};
use flowtables::pipeline::cookie::Owner;
use flowtables::walk::{Assumptions, Packet, walk};
use openflow::{Field, Flow, FlowMod, FlowModCommand, Group, GroupMod, GroupModCommand, Match, Modification};
use tests::random::{Packets, Random, RandomCluster, Shape, conntrack, packets, seeded};

const SHAPE: Shape = Shape { nodes: 3, pods: 8, tenants: 3, services: 3 };
const NODE: &str = "node0";

/// What a switch holds, changed one modification at a time.
#[derive(Clone, Default)]
struct Held {
    flows: BTreeMap<(u8, u16, String), Flow>,
    groups: BTreeMap<u32, Group>,
}

impl Held {
    fn of(set: &FlowSet) -> Self {
        let mut held = Self::default();
        for flow in set.iter() {
            held.apply(&FlowMod::add(flow.clone()).into());
        }
        held.groups = set.groups().map(|group| (group.id, group.clone())).collect();
        held
    }

    fn apply(&mut self, modification: &Modification) {
        match modification {
            Modification::Flow(FlowMod { command, flow, .. }) => {
                let key = (flow.table, flow.priority, flow.fields.to_string());
                match *command {
                    FlowModCommand::Add => drop(self.flows.insert(key, flow.clone())),
                    FlowModCommand::DeleteStrict => {
                        assert!(self.flows.remove(&key).is_some(), "{flow} is not there")
                    }
                    other => panic!("{other:?}"),
                }
            }
            Modification::Group(GroupMod { command, group, .. }) => match *command {
                GroupModCommand::Add => assert!(self.groups.insert(group.id, group.clone()).is_none()),
                GroupModCommand::Modify => assert!(self.groups.insert(group.id, group.clone()).is_some()),
                GroupModCommand::Delete => assert!(self.groups.remove(&group.id).is_some()),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn set(&self) -> FlowSet {
        let mut set = FlowSet::new();
        let (flows, groups) =
            (self.flows.values().cloned().collect(), self.groups.values().cloned().collect());
        set.replace(&Owner::Base, Rendered { flows, groups });
        set
    }
}

/// Port, mark, destination MAC, tunnel: all that a packet can come out as.
type Ends = BTreeSet<(u32, u128, u128, u128, u128)>;

fn ends(set: &FlowSet, packet: &Match, assumptions: &Assumptions) -> Ends {
    let walk = walk(set, Packet::from(packet), assumptions);
    let end = |output: &flowtables::walk::Output| {
        let get = |field| output.packet.get(field);
        let (id, dst) = if output.port.0 == 1 { (get(Field::TUN_ID), get(Field::TUN_DST)) } else { (0, 0) };
        (output.port.0, get(Field::PKT_MARK), get(Field::ETH_DST), id, dst)
    };
    walk.outputs.iter().map(end).collect()
}

/// The modifications, in order, that make a switch with the old flows hold the new ones.
fn modifications(old: &FlowSet, new: &FlowSet) -> Vec<Modification> {
    let groups = groups::diff(old.groups(), new);
    let flows = diff(old.iter(), new).modifications();
    let (before, after) = (groups.before_flows(), groups.after_flows());
    let group = Modification::Group;
    before
        .into_iter()
        .map(group)
        .chain(flows.into_iter().map(Modification::Flow))
        .chain(after.into_iter().map(group))
        .collect()
}

/// Something that changes in a cluster.
fn change(cluster: &RandomCluster, random: &mut Random) -> RandomCluster {
    let mut changed = cluster.clone();
    let state = &mut changed.state;
    let other = |random: &mut Random| RandomCluster::new(random, "multitenant", SHAPE).unwrap().state;
    let names: Vec<String> = state.net_namespaces.keys().cloned().collect();
    let name = random.pick(&names).clone();
    let namespace = |state: &mut controller::cluster::ClusterState, change: &dyn Fn(&mut NetNamespace)| {
        change(Arc::make_mut(state.net_namespaces.get_mut(&name).unwrap()));
    };
    match random.below(9) {
        0 => {
            // Another VNID: a new one, or that of another namespace.
            let vnids: Vec<u32> =
                state.net_namespaces.values().map(|object| object.netid).chain([4711]).collect();
            let netid = *random.pick(&vnids);
            namespace(state, &|object| object.netid = netid);
        }
        1 => {
            // A pod starts anew on another leg: it and all after it have other ports.
            let key = random.pick(&state.pods.keys().cloned().collect::<Vec<_>>()).clone();
            state.pods.remove(&key);
        }
        2 => {
            state.net_namespaces.remove(&name);
        }
        3 => state.egress_network_policies = other(random).egress_network_policies,
        4 => namespace(state, &|object| object.egress_ips = Vec::new()),
        5 => {
            // The egress IPs move from one node to another.
            let ips =
                std::mem::take(&mut Arc::make_mut(state.host_subnets.get_mut("node1").unwrap()).egress_ips);
            Arc::make_mut(state.host_subnets.get_mut("node0").unwrap()).egress_ips.extend(ips);
        }
        6 => {
            let two = ["172.17.0.240".to_owned(), "172.17.0.241".to_owned()];
            namespace(state, &|object| object.egress_ips = two.to_vec());
            for (ip, node) in two.iter().zip(["node1", "node2"]) {
                Arc::make_mut(state.host_subnets.get_mut(node).unwrap()).egress_ips.push(ip.clone());
            }
        }
        7 => Arc::make_mut(state.host_subnets.get_mut("node1").unwrap()).host_ip = "172.17.0.77".to_owned(),
        // Nothing stays as it was.
        _ => {
            let plugin = *random.pick(&["multitenant", "subnet"]);
            changed = RandomCluster::new(random, plugin, SHAPE).unwrap();
        }
    }
    changed
}

/// Goes from `old` to `new` in these steps; the first packet that gets where neither sends it.
fn first_wrong(
    old: &(Inputs, View, RandomCluster),
    new: &(Inputs, View, RandomCluster),
    steps: &[Modification],
    random: &mut Random,
) -> Option<String> {
    let (before, after) = (old.1.flows(), new.1.flows());
    let sources = [old, new].map(|(inputs, _, cluster)| Packets::new(&cluster.state, inputs));
    let sent: Vec<(String, Match, Assumptions, Ends)> = (0..60)
        .map(|n| {
            let text = sources[n % 2].random(random);
            let packet: Match = text.parse().unwrap();
            let assumptions = conntrack(&packet, random);
            let either = &ends(before, &packet, &assumptions) | &ends(after, &packet, &assumptions);
            (text, packet, assumptions, either)
        })
        .collect();
    let mut held = Held::of(before);
    for (n, step) in steps.iter().enumerate() {
        held.apply(step);
        let set = held.set();
        for (text, packet, assumptions, either) in &sent {
            let now = ends(&set, packet, assumptions);
            if !now.is_subset(either) {
                return Some(format!("after {n}: {step:?}\n{text}: {now:?} instead of any of {either:?}"));
            }
        }
    }
    None
}

fn pair(random: &mut Random) -> [(Inputs, View, RandomCluster); 2] {
    let old = RandomCluster::new(random, "multitenant", SHAPE).unwrap();
    let mut new = change(&old, random);
    if random.one_in(3) {
        new = change(&new, random);
    }
    [old, new].map(|cluster| {
        let (inputs, view) = cluster.view(NODE).unwrap();
        (inputs, view, cluster)
    })
}

#[test]
fn on_the_way_from_one_set_to_another_nothing_gets_where_neither_sends_it() {
    let mut random = seeded().unwrap();
    for _ in 0..packets(1000).unwrap() / 20 {
        let [old, new] = pair(&mut random);
        let steps = modifications(old.1.flows(), new.1.flows());
        let mut held = Held::of(old.1.flows());
        steps.iter().for_each(|step| held.apply(step));
        let (end, wanted) = (held.set(), new.1.flows());
        assert!(end.iter().eq(wanted.iter()), "applied to the old set it gives the new one");
        assert!(end.groups().eq(wanted.groups()));
        if let Some(wrong) = first_wrong(&old, &new, &steps, &mut random) {
            panic!("{wrong}");
        }
    }
}

/// In the order of nothing but table and priority, packets do go astray: the check above can fail.
#[test]
fn in_another_order_packets_go_astray() {
    let mut random = seeded().unwrap();
    let astray = (0..100).any(|_| {
        let [old, new] = pair(&mut random);
        let difference = diff(old.1.flows().iter(), new.1.flows());
        let groups = groups::diff(old.1.flows().groups(), new.1.flows());
        let extra = difference.extra.iter().map(|flow| Modification::Flow(FlowMod::delete_strict(flow)));
        let changed = difference.changed.iter().map(|change| &change.desired);
        let wanted = difference.missing.iter().chain(changed).cloned();
        let before = groups.before_flows().into_iter().map(Modification::Group);
        let after = groups.after_flows().into_iter().map(Modification::Group);
        let adds = wanted.map(|flow| Modification::Flow(FlowMod::add(flow)));
        let steps: Vec<Modification> = before.chain(extra).chain(adds).chain(after).collect();
        first_wrong(&old, &new, &steps, &mut random).is_some()
    });
    assert!(astray);
}
