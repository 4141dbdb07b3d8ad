//! The other nodes: whose tunnels are heard (table 10) and through which tunnel their pods are reached
//! (tables 50 and 90).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use openflow::{Action, Field, Flow, Match, Subfield};

use crate::pipeline::cookie::Owner;
use crate::pipeline::port::VXLAN0;
use crate::pipeline::rule::{Conditions, Rule, rule};
use crate::pipeline::table::Table::{ArpRemote, RemotePod, Routing, VxlanIngress};
use crate::pipeline::vnid::Vnid;

/// Another node of the cluster, or a foreign VTEP that was given a HostSubnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteNode {
    /// Name of its HostSubnet.
    pub name: String,
    /// Its address in the underlay: the far end of the tunnel.
    pub vtep: Ipv4Addr,
    /// Where its pods are.
    pub subnet: Ipv4Net,
    /// All traffic to it carries this VNID (annotation `fixed-vnid-host`), instead of the sender's.
    pub fixed_vnid: Option<Vnid>,
}

impl RemoteNode {
    /// Who the flows belong to.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner::Node(self.name.clone())
    }

    /// The node's flows.
    #[must_use]
    pub fn flows(&self) -> Vec<Flow> {
        let any = Match::new;
        let rules = [
            rule(VxlanIngress, 100).when(any().with(Field::TUN_SRC, u32::from(self.vtep))).goto(Routing),
            self.tunnel(rule(ArpRemote, 100).when(any().arp().arp_tpa(self.subnet))),
            self.tunnel(rule(RemotePod, 100).when(any().ip().nw_dst(self.subnet))),
        ];
        let owner = self.owner();
        rules.into_iter().map(|rule| rule.of(&owner)).collect()
    }

    fn tunnel(&self, rule: Rule) -> Rule {
        let rule = match self.fixed_vnid {
            Some(vnid) => rule.action(Action::Load {
                dst: Subfield { field: Field::TUN_ID, ofs: 0, n_bits: 32 },
                value: vnid.get().into(),
            }),
            None => rule.source_vnid_to_tunnel(),
        };
        rule.action(Action::SetField {
            field: Field::TUN_DST,
            value: u32::from(self.vtep).into(),
            mask: u32::MAX.into(),
        })
        .output(VXLAN0)
    }
}
