//! [`Matrix`]: who reaches whom in a lab, measured with real packets, against who should.

use std::net::Ipv4Addr;

use futures::future::try_join_all;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

use super::probe::{self, Server};
use super::state::{LabState, Store};
use super::{LabDir, LabError, preflight};
use crate::api::PluginMode;
use crate::cluster::{ClusterLocation, ClusterSource, ClusterState};
use crate::node::netns::NetNs;

/// How many ways are measured at a time. Most of the time of those that nothing comes through is waiting.
const AT_ONCE: usize = 64;

/// How many of them send data at a time. A user space datapath takes packets from sockets, and what is more than one
/// buffer holds is lost while the switch waits for a processor.
const SENDING: usize = 4;

/// What kind of thing a [`Party`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A pod.
    Pod,
    /// A process of a node itself, under the node's address.
    Node,
    /// The host beyond the nodes' router. It only answers: it has no way to pods.
    Outside,
}

/// Somebody who reaches others or is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// What it is.
    pub role: Role,
    /// `NAMESPACE/NAME` of a pod, the name of a node.
    pub name: String,
    /// The node's name; empty for the outside.
    pub node: String,
    /// The node's address, under which the outside must see it.
    pub node_ip: Ipv4Addr,
    /// Its network namespace.
    pub netns: String,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its VNID as far as the plugin knows VNIDs: 0 under `subnet`, and for nodes.
    pub vnid: u32,
}

/// What came through from one party to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// A ping was answered.
    pub ping: bool,
    /// Data came through a TCP connection and back: the address under which the other side saw this one.
    pub tcp: Option<Ipv4Addr>,
}

/// One measured way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Index of the party that asks.
    pub from: usize,
    /// Index of the party that is asked.
    pub to: usize,
    /// Whether it should be reached.
    pub expected: bool,
    /// What came through.
    pub reach: Reach,
}

/// Who reaches whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// Pods, sorted by VNID and name, then nodes, then the outside.
    pub parties: Vec<Party>,
    /// Every way from a pod or node to any other party, in order.
    pub cells: Vec<Cell>,
}

impl Cell {
    /// Whether it should be reached, and something did not come through.
    fn is_lost(&self) -> bool {
        self.expected && !(self.reach.ping && self.reach.tcp.is_some())
    }

    /// What is wrong, in words, if it is not as it should be.
    pub fn fault(&self, parties: &[Party]) -> Option<String> {
        let (from, to) = (parties.get(self.from)?, parties.get(self.to)?);
        let Reach { ping, tcp } = self.reach;
        let what = if ping != self.expected || tcp.is_some() != self.expected {
            let wanted = if self.expected { "should be reached" } else { "should not be reached" };
            let yes = |yes: bool| if yes { "yes" } else { "no" };
            format!("{wanted}; ping {}, TCP {}", yes(ping), yes(tcp.is_some()))
        } else {
            let seen = tcp.filter(|seen| to.role == Role::Outside && *seen != from.node_ip)?;
            format!("sees {seen}, and should see the node's address {}", from.node_ip)
        };
        Some(format!("{} ({}) to {} ({}): {what}", from.name, from.ip, to.name, to.ip))
    }
}

impl Matrix {
    /// Everything that is not as it should be, in words.
    pub fn faults(&self) -> Vec<String> {
        self.cells.iter().filter_map(|cell| cell.fault(&self.parties)).collect()
    }

    /// The way from one party to another.
    pub fn cell(&self, from: usize, to: usize) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.from == from && cell.to == to)
    }
}

/// Measures every way of a lab, under the plugin that its cluster names.
///
/// # Errors
/// [`LabError::NoLab`], [`LabError::MissingTools`]; whatever keeps packets from being sent at all. That they don't
/// come through is no error.
pub async fn measure(dir: &LabDir) -> Result<(PluginMode, Matrix), LabError> {
    preflight::root()?;
    preflight::tools(&["ping"])?;
    let (_, state) = Store::open(dir)?;
    let cluster = ClusterSource::load(&ClusterLocation::Dir(dir.cluster()))?;
    if let Some(namespace) = unknown_tenant(&state, &cluster) {
        return Err(LabError::NoVnid { namespace, log: dir.controller_log() });
    }
    let plugin = plugin(&cluster);
    let parties = parties(dir, &state, &cluster, plugin);
    neighbours_fit(&parties)?;
    let planned = ways(&parties, plugin);

    let stations = try_join_all(parties.iter().map(Station::start)).await?;
    let mut cells = measure_all(&stations, &planned, AT_ONCE).await?;
    // On a busy machine a packet can be late: what seems lost is tried once more, with less at the same time.
    let lost: Vec<Cell> = cells.iter().copied().filter(Cell::is_lost).collect();
    for again in measure_all(&stations, &lost, AT_ONCE / 4).await? {
        if let Some(cell) = cells.iter_mut().find(|cell| (cell.from, cell.to) == (again.from, again.to)) {
            *cell = again;
        }
    }
    Ok((plugin, Matrix { parties, cells }))
}

/// Checks that the kernel can remember as many Ethernet addresses as the measurement makes it: those of every pod in
/// every pod. All namespaces of a machine share one limit (arp(7), `gc_thresh3`).
fn neighbours_fit(parties: &[Party]) -> Result<(), LabError> {
    const LIMIT: &str = "/proc/sys/net/ipv4/neigh/default/gc_thresh3";
    let pods = parties.iter().filter(|party| party.role == Role::Pod).count();
    let limit = std::fs::read_to_string(LIMIT).ok().and_then(|text| text.trim().parse::<usize>().ok());
    match limit {
        Some(limit) if pods * pods > limit => Err(LabError::TooManyPods { pods, needed: pods * pods, limit }),
        _ => Ok(()),
    }
}

/// A party's namespace and its server.
struct Station {
    ns: NetNs,
    name: String,
    ip: Ipv4Addr,
    server: Server,
}

impl Station {
    async fn start(party: &Party) -> Result<Self, LabError> {
        let ns = NetNs::open_named(&party.netns)?;
        let server = Server::start(&ns, &party.netns, &party.name).await?;
        Ok(Self { ns, name: party.name.clone(), ip: party.ip, server })
    }
}

/// Measures ways, `at_once` at a time.
async fn measure_all(stations: &[Station], cells: &[Cell], at_once: usize) -> Result<Vec<Cell>, LabError> {
    let turns = Semaphore::new(SENDING);
    let measured = cells.iter().filter_map(|cell| {
        let turns = &turns;
        let (from, to) = (stations.get(cell.from)?, stations.get(cell.to)?);
        Some(async move {
            let tcp = probe::connect(&from.ns, to.ip, to.server.port(), &to.name, turns);
            let (ping, tcp) = tokio::join!(probe::ping(&from.ns, to.ip), tcp);
            Ok(Cell { reach: Reach { ping: ping?, tcp: tcp? }, ..*cell })
        })
    });
    stream::iter(measured).buffered(at_once).try_collect().await
}

/// Whether every pod's namespace has the VNID that the plugin tells tenants apart by; the cluster controller gives
/// them out.
///
/// # Errors
/// [`LabError::NoLab`], [`LabError::Source`].
pub fn tenants_are_known(dir: &LabDir) -> Result<bool, LabError> {
    let (_, state) = Store::open(dir)?;
    let cluster = ClusterSource::load(&ClusterLocation::Dir(dir.cluster()))?;
    Ok(unknown_tenant(&state, &cluster).is_none())
}

fn unknown_tenant(state: &LabState, cluster: &ClusterState) -> Option<String> {
    if !plugin(cluster).has_vnids() {
        return None;
    }
    let mut namespaces = state.pods.keys().filter_map(|pod| pod.split('/').next());
    namespaces.find(|namespace| !cluster.net_namespaces.contains_key(*namespace)).map(str::to_owned)
}

fn plugin(cluster: &ClusterState) -> PluginMode {
    let named = cluster.cluster_network.as_ref().and_then(|network| network.plugin_name.parse().ok());
    named.unwrap_or(PluginMode::Subnet)
}

fn parties(dir: &LabDir, state: &LabState, cluster: &ClusterState, plugin: PluginMode) -> Vec<Party> {
    let vnid = |namespace: &str| {
        let network = cluster.net_namespaces.get(namespace).filter(|_| plugin.has_vnids());
        network.map_or(0, |network| network.netid)
    };
    let mut parties: Vec<Party> = state
        .pods
        .iter()
        .filter_map(|(name, pod)| {
            Some(Party {
                role: Role::Pod,
                name: name.clone(),
                node: pod.node.clone(),
                node_ip: state.nodes.get(&pod.node)?.ip,
                netns: pod.netns.clone(),
                ip: pod.ip?,
                vnid: vnid(name.split('/').next()?),
            })
        })
        .collect();
    parties.extend(state.nodes.iter().map(|(name, node)| Party {
        role: Role::Node,
        name: name.clone(),
        node: name.clone(),
        node_ip: node.ip,
        netns: node.netns.clone(),
        ip: node.ip,
        vnid: 0,
    }));
    parties.push(Party {
        role: Role::Outside,
        name: "beyond the router".to_owned(),
        node: String::new(),
        node_ip: state.underlay.outside,
        netns: dir.underlay_netns(),
        ip: state.underlay.outside,
        vnid: 0,
    });
    parties.sort_by(|a, b| (a.role, a.vnid, &a.name).cmp(&(b.role, b.vnid, &b.name)));
    parties
}

/// Every way that is measured, with nothing measured yet.
fn ways(parties: &[Party], plugin: PluginMode) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (from, asks) in parties.iter().enumerate().filter(|(_, party)| party.role != Role::Outside) {
        for (to, asked) in parties.iter().enumerate().filter(|(to, _)| *to != from) {
            cells.push(Cell { from, to, expected: expected(plugin, asks, asked), reach: Reach::default() });
        }
    }
    cells
}

/// Whether `to` should be reached: tenants are kept apart from each other, VNID 0 and whatever is no pod from nobody.
fn expected(plugin: PluginMode, from: &Party, to: &Party) -> bool {
    let pods = from.role == Role::Pod && to.role == Role::Pod;
    let apart = from.vnid != to.vnid && from.vnid != 0 && to.vnid != 0;
    !(plugin.has_vnids() && pods && apart)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(role: Role, name: &str, vnid: u32) -> Party {
        Party {
            role,
            name: name.to_owned(),
            node: "n".to_owned(),
            node_ip: Ipv4Addr::new(192, 168, 1, 1),
            netns: name.to_owned(),
            ip: Ipv4Addr::new(10, 128, 0, 2),
            vnid,
        }
    }

    #[test]
    fn tenants_are_apart_and_vnid_0_is_not() {
        let blue = party(Role::Pod, "blue/a", 7);
        let red = party(Role::Pod, "red/a", 8);
        let global = party(Role::Pod, "default/a", 0);
        let node = party(Role::Node, "n", 0);
        let reach = |from, to| expected(PluginMode::Multitenant, from, to);
        assert!(reach(&blue, &blue) && !reach(&blue, &red) && !reach(&red, &blue));
        assert!(reach(&blue, &global) && reach(&global, &blue));
        assert!(reach(&blue, &node) && reach(&node, &blue));
        assert!(expected(PluginMode::Subnet, &blue, &red));
    }

    #[test]
    fn faults_are_told() {
        let mut outside = party(Role::Outside, "beyond", 0);
        outside.ip = Ipv4Addr::new(203, 0, 113, 1);
        let parties = [party(Role::Pod, "blue/a", 7), party(Role::Pod, "red/a", 8), outside];
        let cell = |to, expected, ping, tcp| Cell { from: 0, to, expected, reach: Reach { ping, tcp } };
        let fault = |cell: Cell| cell.fault(&parties);
        let (pod, node) = (Ipv4Addr::new(10, 128, 0, 2), Ipv4Addr::new(192, 168, 1, 1));

        assert_eq!(fault(cell(1, true, true, Some(pod))), None);
        assert_eq!(fault(cell(1, false, false, None)), None);
        let told = fault(cell(1, false, true, None)).unwrap();
        assert!(told.ends_with("should not be reached; ping yes, TCP no"), "{told}");
        let told = fault(cell(1, true, true, None)).unwrap();
        assert!(told.ends_with("should be reached; ping yes, TCP no"), "{told}");
        assert_eq!(fault(cell(2, true, true, Some(node))), None);
        let told = fault(cell(2, true, true, Some(pod))).unwrap();
        assert!(told.ends_with("sees 10.128.0.2, and should see the node's address 192.168.1.1"), "{told}");
    }

    #[test]
    fn the_outside_only_answers() {
        let parties = [party(Role::Pod, "a/a", 0), party(Role::Node, "n", 0), party(Role::Outside, "o", 0)];
        let ways: Vec<_> =
            ways(&parties, PluginMode::Subnet).iter().map(|cell| (cell.from, cell.to)).collect();
        assert_eq!(ways, [(0, 1), (0, 2), (1, 0), (1, 2)]);
    }
}
