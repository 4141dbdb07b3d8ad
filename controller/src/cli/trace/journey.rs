//! `sdnctl trace --from --to`: a packet through every node on its way, and whether it gets there.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, bail};
use flowtables::feature::base::gateway;
use flowtables::pipeline::port::{self, TUN0, VXLAN0};
use flowtables::pipeline::table::Table;
use flowtables::walk::{Assumptions, Packet, Walk, walk};
use openflow::{Field, Match, OfPort};
use serde_json::{Value, json};

use super::ends::{self, Destination, PodPlace, Proto, ServicePlace};
use super::ofproto::SwitchTrace;
use super::{Args, ask_switch, differences, document, live_document, text};
use crate::cli::Exit;
use crate::cli::target::{Node, view};
use crate::cluster::{ClusterState, NamespacedName};
use crate::view::{Inputs, View};

/// Follows a packet from a pod to where it is meant to go.
///
/// # Errors
/// When an end is not known, a node's flows cannot be told, or (live) its Open vSwitch does not answer.
pub(super) async fn run(args: &Args, from: &str, to: &str) -> anyhow::Result<Exit> {
    let state = args.target.state()?;
    let from = ends::sender(&state, from)?;
    let to = ends::destination(&state, to, &from, args.ends.proto, args.ends.port)?;
    let mut journey = Journey { args, state, nodes: BTreeMap::new() };
    let report = journey.report(from, to).await?;
    args.output.print(&report.document(), |_| report.text())?;
    Ok(if report.reached && report.differences().next().is_none() { Exit::Done } else { Exit::No })
}

/// A node that the packet comes by.
struct Stop {
    node: Node,
    inputs: Inputs,
    view: View,
}

struct Journey<'a> {
    args: &'a Args,
    state: Arc<ClusterState>,
    nodes: BTreeMap<String, Stop>,
}

/// The packet on one node.
struct Hop {
    node: String,
    /// As it came in.
    packet: Packet,
    walk: Walk,
    live: Option<(SwitchTrace, String)>,
    differences: Vec<String>,
}

/// From one sender to wherever the flows lead.
struct Leg {
    /// What this part of the way is, in words.
    title: String,
    hops: Vec<Hop>,
    ends: Vec<End>,
}

/// Where a packet ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// At a pod.
    Pod { name: NamespacedName, node: String },
    /// At a node's own network, with this mark.
    Host { node: String, mark: u128 },
    /// Nowhere.
    Dropped { node: String, table: u8, reason: String },
    /// At a far end of a tunnel that is no node of the cluster.
    Foreign { vtep: Ipv4Addr },
    /// At a port where no pod is known to be.
    Port { node: String, port: OfPort },
}

struct Report {
    from: PodPlace,
    to: Destination,
    proto: Proto,
    legs: Vec<Leg>,
    reached: bool,
    conclusion: String,
}

impl Journey<'_> {
    async fn report(&mut self, from: PodPlace, to: Destination) -> anyhow::Result<Report> {
        let (proto, port) = match &to {
            Destination::Service(service) => (service.port.0, Some(service.port.1)),
            _ => (self.args.ends.proto.unwrap_or(Proto::Tcp), self.args.ends.port),
        };
        let mut legs = Vec::new();
        let (source, in_port) = self.leaves(&from).await?;
        let packet = |in_port: OfPort, to: Ipv4Addr, port: Option<u16>| {
            let mut text = format!("in_port={},{},nw_src={source},nw_dst={to}", in_port.0, proto.name());
            if let Some(port) = port.filter(|_| proto != Proto::Icmp) {
                let _ = write!(text, ",tp_dst={port}");
            }
            text.parse::<Match>().map(|fields| Packet::from(&fields)).with_context(|| text)
        };
        let name = |(namespace, name): &NamespacedName| format!("{namespace}/{name}");
        let (reached, conclusion) = match &to {
            Destination::Service(service) => {
                // What the node itself sends never sees a service's address on the bridge.
                let admitted = if from.host_network {
                    None
                } else {
                    let first = packet(in_port, service.cluster_ip, port)?;
                    let title = format!("To the service address of {}", name(&service.name));
                    let leg = self.follow(&from.node, first, title).await?;
                    let refused = leg.ends.iter().find(|end| !matches!(end, End::Host { .. })).cloned();
                    legs.push(leg);
                    refused
                };
                match admitted {
                    Some(end) => (false, end.to_string()),
                    None => {
                        for &(ip, port) in &service.endpoints {
                            let title =
                                format!("Should the node's service proxy pick the endpoint {ip}:{port}");
                            if self.stop(&from.node).await?.has_pods_at(ip) {
                                let packet = packet(TUN0, ip, Some(port))?;
                                legs.push(self.follow(&from.node, packet, title).await?);
                            }
                        }
                        served(service, &from, &legs)
                    }
                }
            }
            Destination::Pod(pod) if !pod.host_network => {
                let title = format!("To pod {}", name(&pod.name));
                let leg = self.follow(&from.node, packet(in_port, pod.ip, port)?, title).await?;
                let there = |end: &End| matches!(end, End::Pod { name, .. } if *name == pod.name);
                let verdict = (leg.ends.iter().all(there), words(&leg.ends));
                legs.push(leg);
                verdict
            }
            Destination::Pod(_) | Destination::Address(_) if from.host_network => {
                let stop = self.stop(&from.node).await?;
                if stop.has_pods_at(to.ip()) {
                    let leg =
                        self.follow(&from.node, packet(in_port, to.ip(), port)?, to.to_string()).await?;
                    let verdict = (false, words(&leg.ends));
                    legs.push(leg);
                    verdict
                } else {
                    (true, format!("node {} sends it through its own network: no table is asked", from.node))
                }
            }
            Destination::Pod(_) | Destination::Address(_) => {
                let title = format!("To {to}");
                let leg = self.follow(&from.node, packet(in_port, to.ip(), port)?, title).await?;
                let out = leg.ends.iter().all(|end| matches!(end, End::Host { .. }));
                let service_network = self.stop(&from.node).await?.inputs.base.service_network;
                let verdict = match service_network.contains(&to.ip()) {
                    true => (false, format!("no service has the address {}", to.ip())),
                    false => (out, words(&leg.ends)),
                };
                legs.push(leg);
                verdict
            }
        };
        Ok(Report { from, to, proto, legs, reached, conclusion })
    }

    /// The address and the port by which a pod's packets come onto the bridge.
    async fn leaves(&mut self, pod: &PodPlace) -> anyhow::Result<(Ipv4Addr, OfPort)> {
        let live = self.args.live;
        let stop = self.stop(&pod.node).await?;
        if pod.host_network {
            return Ok((gateway(stop.inputs.base.local_subnet), TUN0));
        }
        let (namespace, name) = &pod.name;
        let known = stop.inputs.pods.iter().find(|leg| leg.namespace == *namespace && leg.name == *name);
        if let Some(leg) = known {
            return Ok((leg.ip, leg.port));
        }
        let object = format!("Pod {namespace}/{name}");
        match stop.inputs.problems.iter().find(|problem| problem.object == object) {
            Some(problem) => bail!("{problem}"),
            None if live => bail!(
                "pod {namespace}/{name} has no port on the bridge of {}: has it been started there?",
                pod.node
            ),
            None => bail!("pod {namespace}/{name} has no port on node {}", pod.node),
        }
    }

    /// A node's flows, rendered when the packet first comes by.
    async fn stop(&mut self, name: &str) -> anyhow::Result<&Stop> {
        if !self.nodes.contains_key(name) {
            if self.args.live && !self.nodes.is_empty() && !self.args.target.has_every_switch() {
                bail!(
                    "the packet goes on to node {name}, whose Open vSwitch cannot be asked from here: leave --live out to \
                     have its flows worked out"
                );
            }
            let node = self.args.target.place(name.to_owned(), &self.state).with(self.args.tun0);
            let inputs = if self.args.live { node.live().await } else { node.offline() };
            let inputs = inputs.with_context(|| format!("node {name}"))?;
            let view = view(&inputs);
            self.nodes.insert(name.to_owned(), Stop { node, inputs, view });
        }
        self.nodes.get(name).with_context(|| format!("node {name}"))
    }

    /// Follows a packet that comes in on `node`, through tunnels, until it has left every bridge.
    async fn follow(&mut self, node: &str, packet: Packet, title: String) -> anyhow::Result<Leg> {
        let mut leg = Leg { title, hops: Vec::new(), ends: Vec::new() };
        let state = Arc::clone(&self.state);
        let mut arrivals = VecDeque::from([(node.to_owned(), packet)]);
        while let Some((name, packet)) = arrivals.pop_front() {
            let live = self.args.live;
            let stop = self.stop(&name).await?;
            let assumptions = Assumptions::default();
            let walk = walk(stop.view.flows(), packet.clone(), &assumptions);
            if let Some(why) = &walk.not_walked {
                bail!("the packet could not be followed to its end on node {name}: {why}");
            }
            let fields = packet.as_match().to_string();
            let live = match live {
                true => Some(ask_switch(&stop.node, fields.trim(), &assumptions).await?),
                false => None,
            };
            let differences = live.as_ref().map(|(trace, _)| differences(&walk, trace)).unwrap_or_default();
            if walk.is_drop() {
                let table = walk.steps.last().map_or(0, |step| step.table);
                leg.ends.push(End::Dropped { node: name.clone(), table, reason: walk.drop_reason.clone() });
            }
            for output in &walk.outputs {
                match output.port {
                    VXLAN0 => {
                        let vtep = output.packet.ipv4(Field::TUN_DST);
                        let sender = stop.inputs.base.node_ip;
                        match node_at(&state, vtep) {
                            Some(next) => {
                                arrivals.push_back((next, output.packet.through_tunnel(sender, VXLAN0)))
                            }
                            None => leg.ends.push(End::Foreign { vtep }),
                        }
                    }
                    TUN0 => {
                        let mark = output.packet.get(Field::PKT_MARK);
                        leg.ends.push(End::Host { node: name.clone(), mark });
                    }
                    port => leg.ends.push(match stop.inputs.pods.iter().find(|pod| pod.port == port) {
                        Some(pod) => {
                            End::Pod { name: (pod.namespace.clone(), pod.name.clone()), node: name.clone() }
                        }
                        None => End::Port { node: name.clone(), port },
                    }),
                }
            }
            leg.hops.push(Hop { node: name, packet, walk, live, differences });
        }
        Ok(leg)
    }
}

/// The node with that address in the underlay. A HostSubnet without Node is a foreign tunnel end.
fn node_at(state: &ClusterState, vtep: Ipv4Addr) -> Option<String> {
    let text = vtep.to_string();
    let mut subnets = state.host_subnets.iter();
    let (name, _) =
        subnets.find(|(name, subnet)| subnet.host_ip == text && state.nodes.contains_key(*name))?;
    Some(name.clone())
}

/// Whether a service's answer comes: the node's own proxy picks an endpoint, which the flows do not decide.
fn served(service: &ServicePlace, from: &PodPlace, legs: &[Leg]) -> (bool, String) {
    let proxy = format!("node {}'s own service proxy (kube-proxy) picks an endpoint", from.node);
    let legs = legs.get(usize::from(!from.host_network)..).unwrap_or_default();
    let lost: Vec<String> = legs
        .iter()
        .filter(|leg| leg.ends.iter().any(|end| !matches!(end, End::Pod { .. } | End::Host { .. })))
        .map(|leg| words(&leg.ends))
        .collect();
    match (service.endpoints.len(), lost.as_slice()) {
        (0, _) => {
            (false, format!("{proxy}, but the service has no ready endpoint: the node refuses the packet"))
        }
        (1, []) => (true, format!("{proxy}; the one that is ready is reached")),
        (n, []) => (true, format!("{proxy}; each of the {n} that are ready is reached")),
        (n, lost) => {
            (false, format!("{proxy}; {} of the {n} are not reached: {}", lost.len(), lost.join("; ")))
        }
    }
}

fn words(ends: &[End]) -> String {
    ends.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Stop {
    /// Whether an address is of the pods' networks, which the bridge serves.
    fn has_pods_at(&self, ip: Ipv4Addr) -> bool {
        self.inputs.base.cluster_networks.iter().any(|network| network.contains(&ip))
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Pod { name: (namespace, name), node } => {
                write!(f, "delivered to pod {namespace}/{name} on node {node}")
            }
            End::Host { node, mark: 0 } => write!(f, "out of tun0 of node {node}, which sends it on"),
            End::Host { node, mark } => {
                write!(
                    f,
                    "out of tun0 of node {node}, which sends it on under the egress IP of mark {mark:#x}"
                )
            }
            End::Dropped { node, table, reason } => {
                let name = Table::from_number(*table).map_or("", Table::name);
                write!(f, "dropped on node {node} in table {table} ({name}): {reason}")
            }
            End::Foreign { vtep } => {
                write!(
                    f,
                    "into the tunnel to {vtep}, which is no node of this cluster: what it does is not known"
                )
            }
            End::Port { node, port } => {
                write!(f, "out of {} of node {node}, where no pod is known to be", port::name(*port))
            }
        }
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Destination::Pod(pod) => {
                write!(f, "pod {}/{} ({}, node {})", pod.name.0, pod.name.1, pod.ip, pod.node)
            }
            Destination::Service(ServicePlace { name, cluster_ip, port, .. }) => {
                write!(f, "service {}/{} ({cluster_ip}, port {}/{})", name.0, name.1, port.1, port.0.name())
            }
            Destination::Address(ip) => write!(f, "{ip}"),
        }
    }
}

impl Hop {
    /// The packet as it came in, in flow syntax.
    fn flow(&self) -> String {
        self.packet.as_match().to_string().trim().to_owned()
    }

    fn text(&self) -> String {
        let mut out = format!(
            "On node {}, in at {}: {}\n{}",
            self.node,
            port::name(self.packet.in_port()),
            self.flow(),
            text(&self.walk)
        );
        if self.live.is_some() && self.differences.is_empty() {
            let _ = writeln!(out, "✓ the switch of {} says the same", self.node);
        }
        out.extend(
            self.differences.iter().map(|difference| format!("✗ DIFFERENT on {}: {difference}\n", self.node)),
        );
        out
    }

    fn document(&self) -> Value {
        let mut document = document(&self.walk);
        if let Some(object) = document.as_object_mut() {
            object.insert("node".to_owned(), json!(self.node));
            object.insert("flow".to_owned(), json!(self.flow()));
            if let Some((trace, raw)) = &self.live {
                object.insert("live".to_owned(), live_document(trace, raw, &self.differences));
            }
        }
        document
    }
}

impl Report {
    fn hops(&self) -> impl Iterator<Item = &Hop> {
        self.legs.iter().flat_map(|leg| &leg.hops)
    }

    fn differences(&self) -> impl Iterator<Item = &String> {
        self.hops().flat_map(|hop| &hop.differences)
    }

    fn text(&self) -> String {
        let (namespace, name) = &self.from.name;
        let mut text = format!(
            "{} from pod {namespace}/{name} ({}, node {}) to {}\n\n",
            self.proto.name(),
            self.from.ip,
            self.from.node,
            self.to
        );
        for leg in &self.legs {
            if self.legs.len() > 1 {
                let _ = writeln!(text, "{}:\n", leg.title);
            }
            for hop in &leg.hops {
                let _ = writeln!(text, "{}", hop.text());
            }
        }
        let verdict = if self.reached { "REACHED" } else { "NOT REACHED" };
        let _ = writeln!(text, "{verdict}: {}", self.conclusion);
        text
    }

    /// The fields of a trace on one node, over all nodes on the way, and what each node did.
    fn document(&self) -> Value {
        let hops: Vec<Value> = self.hops().map(Hop::document).collect();
        let steps = |hop: &Value| hop.get("steps").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut all_steps = Vec::new();
        for hop in &hops {
            for mut step in steps(hop) {
                if let Some(step) = step.as_object_mut() {
                    step.insert("node".to_owned(), json!(hop.get("node")));
                }
                all_steps.push(step);
            }
        }
        let path: Vec<u8> = self.hops().flat_map(|hop| hop.walk.path()).collect();
        let dropped = |hop: &&Value| hop.pointer("/verdict/drop").is_some();
        let end = hops.iter().find(dropped).or(hops.last());
        let of_end = |field: &str| end.and_then(|hop| hop.get(field)).cloned();
        let tunnel =
            hops.iter().filter(|hop| hop.pointer("/tunnel/dst").is_some()).find_map(|hop| hop.get("tunnel"));
        let (namespace, name) = &self.from.name;
        json!({
            "from": { "pod": format!("{namespace}/{name}"), "node": self.from.node, "ip": self.from.ip },
            "to": self.to.to_string(),
            "reached": self.reached,
            "conclusion": self.conclusion,
            "path": path,
            "steps": all_steps,
            "registers": of_end("registers"),
            "tunnel": tunnel.cloned().unwrap_or_else(|| json!({})),
            "mark": of_end("mark"),
            "verdict": of_end("verdict"),
            "differences": self.differences().collect::<Vec<_>>(),
            "hops": hops,
        })
    }
}
