//! [`Matrix`]: who reaches whom in a lab, measured with real packets, against who should.

use std::net::Ipv4Addr;
use std::sync::Arc;

use futures::future::try_join_all;
use tokio::sync::Semaphore;

use super::probe::{self, Server};
use super::state::{LabState, Store};
use super::{LabDir, LabError, preflight};
use crate::api::PluginMode;
use crate::cluster::{ClusterLocation, ClusterSource, ClusterState};

/// How many pings are under way at a time: each is a process, and a process that waits for its turn would be taken
/// for a packet that was lost.
const PINGS: usize = 16;

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
    let cells = ways(&parties, plugin);

    let servers = try_join_all(parties.iter().map(|party| Server::start(&party.netns, &party.name))).await?;
    let pings = Arc::new(Semaphore::new(PINGS));
    let rows = parties.iter().enumerate().map(|(from, party)| {
        let ways: Vec<&Cell> = cells.iter().filter(|cell| cell.from == from).collect();
        let (parties, servers, pings) = (&parties, &servers, &pings);
        async move {
            let sockets = probe::sockets(&party.netns, ways.len()).await?;
            let measured = ways.into_iter().zip(sockets).filter_map(|(cell, socket)| {
                let (to, server) = (parties.get(cell.to)?, servers.get(cell.to)?);
                Some(async move {
                    let ping = async {
                        let _turn = pings.acquire().await;
                        probe::ping(&party.netns, to.ip).await
                    };
                    let (ping, tcp) =
                        tokio::join!(ping, probe::connect(socket, to.ip, server.port(), &to.name));
                    Ok::<_, LabError>(Cell { reach: Reach { ping: ping?, tcp }, ..*cell })
                })
            });
            try_join_all(measured).await
        }
    });
    let cells = try_join_all(rows).await?.concat();
    Ok((plugin, Matrix { parties, cells }))
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
