//! EgressNetworkPolicy (table 101): what a namespace's pods may reach outside the cluster.
//!
//! The policy holds on the node of the sender, also where the packet leaves the cluster on another node that hosts
//! the namespace's egress IP; and once more there.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use openflow::{Action, Flow, Match};

use super::Exit;
use crate::pipeline::cookie::Owner;
use crate::pipeline::register::SOURCE_VNID;
use crate::pipeline::rule::{CT_REPLY, Conditions, rule, tracked};
use crate::pipeline::table::Table::EgressPolicy as PolicyTable;
use crate::pipeline::vnid::Vnid;

/// The most rules that a policy may have: each takes a priority of its own.
pub const MAX_RULES: usize = 0xff00;

/// Whether a destination may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// One rule: the first that matches a packet decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it decides.
    pub verdict: Verdict,
    /// About which destinations. None: about nothing, as long as a name has no addresses.
    pub destinations: Vec<Ipv4Net>,
}

/// What holds for a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rules {
    /// These rules, in order; what none matches is allowed.
    Ordered(Vec<Rule>),
    /// It is not clear what holds: nothing may leave the cluster.
    DropAll,
}

/// The policy of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressPolicy {
    /// The namespace.
    pub namespace: String,
    /// Its VNID, by which its packets are known.
    pub vnid: Vnid,
    /// What holds.
    pub rules: Rules,
    /// How packets leave that may.
    pub exit: Exit,
}

/// The destinations that `cidr` stands for: `0.0.0.0/32` has always meant any.
#[must_use]
pub fn destination(cidr: Ipv4Net) -> Ipv4Net {
    if cidr == Ipv4Net::from(Ipv4Addr::UNSPECIFIED) { Ipv4Net::default() } else { cidr.trunc() }
}

impl EgressPolicy {
    /// Who the flows belong to.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner::EgressPolicy(self.namespace.clone())
    }

    /// The policy's flows.
    #[must_use]
    pub fn flows(&self) -> Vec<Flow> {
        let owner = self.owner();
        let of_vnid = || Match::new().register(&SOURCE_VNID, self.vnid.get());
        let rules = match &self.rules {
            Rules::DropAll => return vec![rule(PolicyTable, 1).when(of_vnid()).of(&owner)],
            Rules::Ordered(rules) => rules,
        };
        // The table's miss leads to the host. Where that is not the way out, what no rule matches needs a rule too.
        let rest = Rule { verdict: Verdict::Allow, destinations: vec![Ipv4Net::default()] };
        let rest = (self.exit != Exit::Host).then_some(&rest);
        let priorities = (1..=u16::MAX).take(rules.len() + usize::from(rest.is_some())).rev();
        let mut flows = Vec::new();
        for (priority, each) in priorities.zip(rules.iter().chain(rest)) {
            for &destination in &each.destinations {
                let to_it = of_vnid().ip().nw_dst(destination);
                let mut push = |fields, action: Option<Action>| {
                    flows.push(rule(PolicyTable, priority).when(fields).actions(action).of(&owner));
                };
                match (each.verdict, self.exit) {
                    (Verdict::Deny, _) => push(to_it, None),
                    (Verdict::Allow, Exit::Host) => push(to_it, Some(Exit::Host.action())),
                    // Table 100 gave a reply no way into the tunnel: it leaves where it was asked for.
                    (Verdict::Allow, exit) => {
                        push(tracked(to_it.clone(), CT_REPLY, true), Some(Exit::Host.action()));
                        push(tracked(to_it, CT_REPLY, false), Some(exit.action()));
                    }
                }
            }
        }
        flows
    }
}
