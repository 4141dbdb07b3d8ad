//! Tenants that have pods on this node (plugin `multitenant`): who may talk to whom (table 80).

use openflow::{Flow, Match};

use crate::pipeline::cookie::Owner;
use crate::pipeline::register::{DESTINATION_PORT, DESTINATION_VNID, SOURCE_VNID};
use crate::pipeline::rule::{Conditions, rule};
use crate::pipeline::table::Table::Isolation;
use crate::pipeline::vnid::Vnid;

/// The flows of one tenant: its own pods may reach each other. The global VNID needs none, it reaches and is
/// reached by all through the frame's own rules.
#[must_use]
pub fn flows(vnid: Vnid) -> Vec<Flow> {
    if vnid.is_global() {
        return Vec::new();
    }
    let own = Match::new().register(&SOURCE_VNID, vnid.get()).register(&DESTINATION_VNID, vnid.get());
    let rule = rule(Isolation, 100).when(own).output_to_register(&DESTINATION_PORT);
    vec![rule.of(&Owner::Tenant(vnid))]
}
