//! The traffic that a cluster's network rests on, as packets of each kind.

use std::net::Ipv4Addr;

use flowtables::feature::base::gateway;
use ipnet::Ipv4Net;

use super::packet::{Addresses, Link, Packet, Protocol};
use super::ranges::Ranges;
use crate::view::Inputs;

/// What of a node the cluster's traffic depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The link between node and pods, `tun0`.
    pub tun: String,
    /// The link by which other nodes and the world are reached; none: not known.
    pub uplink: Option<String>,
    /// The node's own address.
    pub node_ip: Ipv4Addr,
    /// Addresses of the node's pods.
    pub local_subnet: Ipv4Net,
    /// The networks of all pods.
    pub cluster_networks: Vec<Ipv4Net>,
    /// The network of ClusterIPs.
    pub service_network: Ipv4Net,
    /// The UDP port of VXLAN.
    pub vxlan_port: u16,
    /// The addresses of the other nodes.
    pub nodes: Vec<Ipv4Addr>,
}

/// A kind of traffic that must pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// From the other nodes' VTEPs.
    VxlanIn,
    /// To them.
    VxlanOut,
    /// Out of `tun0`, for the node itself.
    PodsToNode,
    /// Into `tun0`, from the node itself.
    NodeToPods,
    /// Forwarded from `tun0`.
    PodsToOutside,
    /// Forwarded to `tun0`, after the translation of a node port, host port or external address.
    OutsideToPods,
    /// Forwarded from `tun0` to `tun0`, after the translation of a service's address.
    PodsToServices,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::VxlanIn,
        Self::VxlanOut,
        Self::PodsToNode,
        Self::NodeToPods,
        Self::PodsToOutside,
        Self::OutsideToPods,
        Self::PodsToServices,
    ];

    /// The hooks that its packets come by, in their order. Where a destination was translated, those behind that.
    pub(super) fn hooks(self) -> &'static [&'static str] {
        match self {
            Self::VxlanIn | Self::PodsToNode => &["ingress", "prerouting", "input"],
            Self::VxlanOut | Self::NodeToPods => &["output", "postrouting"],
            Self::PodsToOutside => &["ingress", "prerouting", "forward", "postrouting"],
            Self::OutsideToPods | Self::PodsToServices => &["forward", "postrouting"],
        }
    }

    pub(super) fn describe(self, traffic: &Traffic) -> String {
        let Traffic { tun, vxlan_port, .. } = traffic;
        match self {
            Self::VxlanIn => format!("VXLAN from other nodes (udp port {vxlan_port})"),
            Self::VxlanOut => format!("VXLAN to other nodes (udp port {vxlan_port})"),
            Self::PodsToNode => format!("pods to the node (in by {tun})"),
            Self::NodeToPods => format!("the node to pods (out by {tun})"),
            Self::PodsToOutside => format!("pods to the outside (forwarded from {tun})"),
            Self::OutsideToPods => format!("the outside to pods by node ports (forwarded to {tun})"),
            Self::PodsToServices => {
                format!("pods to pods by service addresses (forwarded from {tun} to {tun})")
            }
        }
    }

    /// Packets that stand for it.
    pub(super) fn packets(self, traffic: &Traffic) -> Vec<Packet> {
        let tun = || Link::Named(traffic.tun.clone());
        let uplink = || traffic.uplink.clone().map_or(Link::Unknown, Link::Named);
        let node = Addresses::one(traffic.node_ip);
        let gateway = Addresses::one(gateway(traffic.local_subnet));
        let outside = traffic.outside();
        // A rule for the node's own pods alone would not show in a network that holds them and others.
        let networks = [traffic.local_subnet].into_iter().chain(traffic.cluster_networks.iter().copied());
        let pods: Vec<Addresses> = networks
            .map(|network| Addresses { ranges: [network].into_iter().collect(), each: false })
            .collect();
        let nodes = Addresses {
            ranges: traffic.nodes.iter().map(|node| (node.to_bits(), node.to_bits())).collect(),
            each: true,
        };
        // Before there is a second node, any address can become one.
        let nodes = if nodes.ranges.is_empty() { outside.clone() } else { nodes };
        let vxlan = |iif: Link, oif: Link, saddr: Addresses, daddr: Addresses, to_node: bool| Packet {
            iif,
            oif,
            saddr,
            daddr,
            protocol: Protocol::Udp,
            dport: Some(traffic.vxlan_port),
            // By the table `openshift-sdn`.
            untracked: true,
            translated: false,
            to_node,
        };
        let of_each = |ends: Vec<(Addresses, Addresses)>, iif: Link, oif: Link, translated: bool| {
            let of_protocols = |(saddr, daddr): (Addresses, Addresses)| {
                let (iif, oif) = (iif.clone(), oif.clone());
                [Protocol::Tcp, Protocol::Udp, Protocol::Icmp].into_iter().map(move |protocol| Packet {
                    iif: iif.clone(),
                    oif: oif.clone(),
                    saddr: saddr.clone(),
                    daddr: daddr.clone(),
                    protocol,
                    dport: None,
                    untracked: false,
                    translated,
                    to_node: self == Self::PodsToNode,
                })
            };
            // Nobody translates ICMP.
            let all = ends.into_iter().flat_map(of_protocols);
            all.filter(|packet| !translated || packet.protocol != Protocol::Icmp).collect()
        };
        let from = |to: &[Addresses]| -> Vec<_> {
            pods.iter().flat_map(|pods| to.iter().map(|to| (pods.clone(), to.clone()))).collect()
        };
        let to =
            |from: Addresses| -> Vec<_> { pods.iter().map(|pods| (from.clone(), pods.clone())).collect() };
        match self {
            Self::VxlanIn => vec![vxlan(uplink(), Link::None, nodes, node, true)],
            Self::VxlanOut => vec![vxlan(Link::None, uplink(), node, nodes, false)],
            Self::PodsToNode => of_each(from(&[node, gateway]), tun(), Link::None, false),
            Self::NodeToPods => of_each(to(gateway), Link::None, tun(), false),
            Self::PodsToOutside => of_each(from(&[outside]), tun(), uplink(), false),
            Self::OutsideToPods => of_each(to(outside), uplink(), tun(), true),
            Self::PodsToServices => of_each(from(&pods), tun(), tun(), true),
        }
    }
}

impl Traffic {
    /// Of a node with these inputs.
    #[must_use]
    pub fn of(inputs: &Inputs, tun: &str, uplink: Option<String>) -> Self {
        Self {
            tun: tun.to_owned(),
            uplink,
            node_ip: inputs.base.node_ip,
            local_subnet: inputs.base.local_subnet,
            cluster_networks: inputs.base.cluster_networks.clone(),
            service_network: inputs.base.service_network,
            vxlan_port: inputs.base.vxlan_port,
            nodes: inputs.nodes.iter().map(|node| node.vtep).collect(),
        }
    }

    /// Addresses that are neither the cluster's nor for other uses than to reach somebody (RFC 6890).
    fn outside(&self) -> Addresses {
        let special = [(0, 8), (127 << 24, 8), (224 << 24, 3)];
        let special = special.map(|(first, length)| (first, first | (u32::MAX >> length)));
        let cluster = self.cluster_networks.iter().chain([&self.service_network]);
        let cluster = cluster.map(|network| (network.network().to_bits(), network.broadcast().to_bits()));
        let node = (self.node_ip.to_bits(), self.node_ip.to_bits());
        let not: Ranges = special.into_iter().chain(cluster).chain([node]).collect();
        Addresses { ranges: Ranges::all().without(&not), each: false }
    }
}
