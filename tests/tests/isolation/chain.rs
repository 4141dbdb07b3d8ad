//! The nodes of a cluster, and a packet's journey through them: over the tunnel, and back from the host's service NAT.

use std::collections::VecDeque;
use std::fmt;

use controller::view::{Inputs, View};
use flowtables::flowset::{FlowSet, Rendered};
use flowtables::pipeline::port::{TUN0, VXLAN0};
use flowtables::walk::{Assumptions, Packet, Walk, walk};
use openflow::{Field, Match};
use tests::random::{Random, RandomCluster};

/// One node and its flows.
pub(crate) struct Node {
    pub(crate) inputs: Inputs,
    flows: FlowSet,
}

/// All nodes of a cluster.
pub(crate) struct Nodes {
    pub(crate) cluster: RandomCluster,
    nodes: Vec<Node>,
}

/// A packet's way through one node.
pub(crate) struct Hop {
    /// The node's number.
    pub(crate) node: usize,
    /// The packet as it came in.
    pub(crate) packet: Packet,
    pub(crate) walk: Walk,
    /// The host's service NAT sent it back.
    pub(crate) from_service_nat: bool,
}

/// Every node that a packet passed, the first one first.
pub(crate) struct Journey {
    pub(crate) hops: Vec<Hop>,
}

impl Nodes {
    pub(crate) fn of(cluster: RandomCluster) -> Self {
        let names =
            (0u8..).map(RandomCluster::node).take_while(|name| cluster.state.host_subnets.contains_key(name));
        let nodes = names
            .map(|name| {
                let (inputs, view): (Inputs, View) = cluster.view(&name).unwrap();
                Node { inputs, flows: view.flows().clone() }
            })
            .collect();
        Self { cluster, nodes }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    pub(crate) fn inputs(&self, node: usize) -> &Inputs {
        &self.nodes[node].inputs
    }

    /// Rewrites the flows of every node.
    pub(crate) fn change(&mut self, change: fn(&str) -> Option<String>) {
        for node in &mut self.nodes {
            let mut changed = FlowSet::new();
            for owner in node.flows.owners() {
                let of_owner = |table| node.flows.table(table).filter(|(_, of)| *of == owner);
                let flows = (0..=u8::MAX)
                    .flat_map(of_owner)
                    .filter_map(|(flow, _)| change(flow.to_string().trim()))
                    .map(|text| text.parse().unwrap_or_else(|error| panic!("{text}: {error}")))
                    .collect();
                changed.replace(owner, Rendered { flows, groups: Vec::new() });
            }
            let groups = node.flows.groups().cloned().collect();
            changed.replace(
                &flowtables::pipeline::cookie::Owner::Node("groups".to_owned()),
                Rendered { flows: Vec::new(), groups },
            );
            node.flows = changed;
        }
    }

    /// Sends a packet into a node and follows it to the end.
    pub(crate) fn send(
        &self,
        at: usize,
        packet: &Match,
        assumptions: &Assumptions,
        random: &mut Random,
    ) -> Journey {
        let mut todo = VecDeque::from([(at, Packet::from(packet), false)]);
        let mut hops = Vec::new();
        while let Some((node, packet, from_service_nat)) = todo.pop_front() {
            assert!(hops.len() < 16, "{packet:?} goes in circles");
            let walk = walk(&self.nodes[node].flows, packet.clone(), assumptions);
            let own = self.inputs(node).base.node_ip;
            for output in &walk.outputs {
                let sent = &output.packet;
                if output.port == VXLAN0 {
                    let vtep = sent.ipv4(Field::TUN_DST);
                    if let Some(next) = self.nodes.iter().position(|node| node.inputs.base.node_ip == vtep) {
                        let mut arrived = headers(sent);
                        arrived.set(Field::IN_PORT, VXLAN0.0.into());
                        for (field, value) in [
                            (Field::TUN_SRC, u32::from(own).into()),
                            (Field::TUN_DST, u32::from(vtep).into()),
                        ] {
                            arrived.set(field, value);
                        }
                        arrived.set(Field::TUN_ID, sent.get(Field::TUN_ID));
                        todo.push_back((next, arrived, false));
                    }
                }
                // A service's endpoint may be any pod: what a NAT does is not this test's to trust.
                let service = self.inputs(node).base.service_network.contains(&sent.ipv4(Field::IPV4_DST));
                if output.port == TUN0 && service && packet.in_port() > TUN0 {
                    let mut back = headers(sent);
                    back.set(Field::IN_PORT, TUN0.0.into());
                    back.set(Field::IPV4_DST, u32::from(self.some_pod(random)).into());
                    todo.push_back((node, back, true));
                }
            }
            hops.push(Hop { node, packet, walk, from_service_nat });
        }
        Journey { hops }
    }

    fn some_pod(&self, random: &mut Random) -> std::net::Ipv4Addr {
        let pods: Vec<_> = self.nodes.iter().flat_map(|node| &node.inputs.pods).map(|pod| pod.ip).collect();
        *random.pick(&pods)
    }
}

/// What of a packet goes over a wire.
fn headers(packet: &Packet) -> Packet {
    let mut wire = Packet::default();
    let inside = |field: Field| {
        let name = field.name();
        ["reg", "xreg", "xxreg", "ct_", "tun_"].iter().any(|start| name.starts_with(start))
            || [Field::PKT_MARK, Field::METADATA, Field::IN_PORT].contains(&field)
    };
    for (field, value) in packet.fields().filter(|(field, _)| !inside(*field)) {
        wire.set(field, value);
    }
    wire
}

impl fmt::Display for Journey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for hop in &self.hops {
            let nat = if hop.from_service_nat { ", back from the service NAT" } else { "" };
            writeln!(f, "{}{nat}:", RandomCluster::node(hop.node as u8))?;
            for step in &hop.walk.steps {
                let flow = step.flow.as_ref().map(ToString::to_string).unwrap_or_default();
                writeln!(f, "  {}", flow.trim())?;
            }
            for output in &hop.walk.outputs {
                writeln!(f, "  out of {}", output.port)?;
            }
        }
        Ok(())
    }
}
