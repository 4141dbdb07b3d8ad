//! The frame of the pipeline: dispatch by origin, routing by destination, and every table's miss.
//!
//! Everything here depends on the cluster's networks and the node's own addresses only.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use openflow::{Action, Ct, Field, Flow, Match, Nat};

use super::Plugin;
use crate::pipeline::cookie::Owner;
use crate::pipeline::port::{TUN0, VXLAN0};
use crate::pipeline::register::{DESTINATION_PORT, DESTINATION_VNID, SOURCE_VNID};
use crate::pipeline::rule::{CT_REPLY, CT_TRACKED, Conditions, Rule, rule, tracked};
use crate::pipeline::table::{Miss, Table};

const DNS: u16 = 53;

/// What the frame depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// How tenants are isolated.
    pub plugin: Plugin,
    /// The networks that hold all pods.
    pub cluster_networks: Vec<Ipv4Net>,
    /// The network of ClusterIPs.
    pub service_network: Ipv4Net,
    /// The part of a cluster network that belongs to this node's pods.
    pub local_subnet: Ipv4Net,
    /// The node's own address in the underlay.
    pub node_ip: Ipv4Addr,
    /// UDP port of the VXLAN tunnels.
    pub vxlan_port: u16,
}

/// The first address of a node's subnet, which its `tun0` has.
#[must_use]
pub fn gateway(subnet: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()) | 1)
}

fn multicast() -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4)
}

impl Base {
    /// The flows of the frame.
    #[must_use]
    pub fn flows(&self) -> Vec<Flow> {
        let mut rules = misses();
        self.classify(&mut rules);
        self.routing(&mut rules);
        self.policy(&mut rules);
        rules.into_iter().map(|rule| rule.of(&Owner::Base)).collect()
    }

    /// Table 0 by the port a packet came in through, table 20 against tunnels inside the tunnel.
    fn classify(&self, rules: &mut Vec<Rule>) {
        use Table::{Classify, PodIngress, Routing, ServiceReturn, VxlanIngress};
        let any = Match::new;
        let gateway = gateway(self.local_subnet);

        // Zone 0 is the host's own: what its service NAT did to a connection is undone by the same entry.
        rules.push(
            rule(Classify, 1000)
                .when(tracked(any().ip(), CT_TRACKED, false))
                .action(Action::Ct(Box::new(Ct { recirc_table: Some(Classify.number()), ..Ct::default() }))),
        );
        rules.push(rule(Classify, 400).when(any().in_port(TUN0).ip().nw_src(gateway)).goto(Routing));
        rules.push(rule(Classify, 250).when(any().in_port(TUN0).ip().nw_dst(multicast())));
        rules.push(rule(Classify, 200).when(any().in_port(TUN0).ip()).goto(Routing));
        rules.push(rule(Classify, 150).when(any().in_port(VXLAN0)));
        rules.push(rule(Classify, 150).when(any().in_port(TUN0)));
        rules.push(rule(Classify, 100).when(any().arp()).goto(PodIngress));
        rules.push(rule(Classify, 100).when(any().ip()).goto(PodIngress));

        for &network in &self.cluster_networks {
            let from_tunnel = |fields: Match| {
                rule(Classify, 200).when(fields.in_port(VXLAN0)).source_vnid_from_tunnel().goto(VxlanIngress)
            };
            rules.push(from_tunnel(any().arp().arp_spa(network).arp_tpa(self.local_subnet)));
            rules.push(from_tunnel(any().ip().nw_src(network)));
            rules.push(from_tunnel(any().ip().nw_dst(network)));
            rules.push(
                rule(Classify, 300)
                    .when(any().in_port(TUN0).ip().nw_src(self.local_subnet).nw_dst(network))
                    .goto(ServiceReturn),
            );
            rules.push(
                rule(Classify, 200)
                    .when(any().in_port(TUN0).arp().arp_spa(gateway).arp_tpa(network))
                    .goto(Routing),
            );
        }

        // A pod that speaks VXLAN to a node could claim any VNID.
        let vxlan = any().ip().with(Field::IP_PROTO, 17u8).with(Field::UDP_DST, self.vxlan_port);
        rules.push(rule(PodIngress, 300).when(vxlan));
    }

    /// Table 30 by destination.
    fn routing(&self, rules: &mut Vec<Rule>) {
        use Table::{
            ArpLocal, ArpRemote, EgressRouting, LocalPod, MulticastIn, MulticastOut, RemotePod, Routing,
            Service,
        };
        let any = Match::new;
        let gateway = gateway(self.local_subnet);

        rules.push(rule(Routing, 300).when(any().arp().arp_tpa(gateway)).output(TUN0));
        rules.push(rule(Routing, 300).when(any().ip().nw_dst(gateway)).output(TUN0));
        // A reply to a connection that the host's service NAT redirected must get its service address back.
        rules.push(
            rule(Routing, 250).when(tracked(any().ip().nw_dst(self.local_subnet), CT_REPLY, true)).action(
                Action::Ct(Box::new(Ct {
                    recirc_table: Some(LocalPod.number()),
                    nat: Some(Nat::default()),
                    ..Ct::default()
                })),
            ),
        );
        rules.push(rule(Routing, 200).when(any().arp().arp_tpa(self.local_subnet)).goto(ArpLocal));
        rules.push(rule(Routing, 200).when(any().ip().nw_dst(self.local_subnet)).goto(LocalPod));
        rules.push(rule(Routing, 100).when(any().ip().nw_dst(self.service_network)).goto(Service));
        for &network in &self.cluster_networks {
            rules.push(rule(Routing, 100).when(any().arp().arp_tpa(network)).goto(ArpRemote));
            rules.push(rule(Routing, 100).when(any().ip().nw_dst(network)).goto(RemotePod));
        }
        rules.push(rule(Routing, 50).when(any().in_port(VXLAN0).ip().nw_dst(multicast())).goto(MulticastIn));
        rules.push(rule(Routing, 25).when(any().ip().nw_dst(multicast())).goto(MulticastOut));
        rules.push(rule(Routing, 10).when(any().ip()).goto(EgressRouting));
    }

    /// Tables 60, 80 and 100: what always may.
    fn policy(&self, rules: &mut Vec<Rule>) {
        use Table::{EgressRouting, Isolation, Service};
        let any = Match::new;
        let deliver = |fields: Match, priority| {
            rule(Isolation, priority).when(fields).output_to_register(&DESTINATION_PORT)
        };

        // The node reaches its own pods whatever isolates them: health probes come from here. What comes through the
        // tunnel with the gateway's address is not the node.
        let from_node = any().in_port(TUN0).ip().nw_src(gateway(self.local_subnet));
        rules.push(deliver(from_node, 300));
        match self.plugin {
            Plugin::Subnet => {
                rules.push(rule(Service, 200).output(TUN0));
                rules.push(deliver(any(), 200));
            }
            Plugin::Multitenant => {
                rules.push(rule(Service, 200).when(any().register(&SOURCE_VNID, 0)).output(TUN0));
                rules.push(deliver(any().register(&SOURCE_VNID, 0), 200));
                rules.push(deliver(any().register(&DESTINATION_VNID, 0), 200));
            }
        }
        // A reply to who called from outside leaves where it was asked for, not under an egress IP; the policy of
        // its namespace still sees it.
        if self.plugin == Plugin::Multitenant {
            let reply = tracked(any().ip(), CT_REPLY, true);
            rules.push(rule(EgressRouting, 150).when(reply).goto(Table::EgressPolicy));
        }
        // Pods of old clusters resolve names through the node's own address: no egress rule may stop that.
        for (protocol, port) in [(6u8, Field::TCP_DST), (17, Field::UDP_DST)] {
            let dns = any().ip().nw_dst(self.node_ip).with(Field::IP_PROTO, protocol).with(port, DNS);
            rules.push(rule(EgressRouting, 200).when(dns).output(TUN0));
        }
    }
}

/// What each table does with what nothing else in it matches.
fn misses() -> Vec<Rule> {
    Table::ALL
        .iter()
        .filter_map(|&table| match table.miss() {
            Miss::Drop => Some(rule(table, 0)),
            Miss::Goto(next) => Some(rule(table, 0).goto(next)),
            Miss::Output(port) => Some(rule(table, 0).output(port)),
            Miss::NotVisited => None,
        })
        .collect()
}
