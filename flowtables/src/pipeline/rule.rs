//! How features write a flow: table, priority, match, actions, and a `goto` that only goes forward.

use ipnet::Ipv4Net;
use openflow::{Action, Field, Flow, Instruction, Instructions, Match, OfPort, Subfield};

use super::cookie::Owner;
use super::register::{self, Register};
use super::table::Table;
use super::vnid::Vnid;

pub(crate) const ETH_TYPE_IPV4: u16 = 0x0800;
pub(crate) const ETH_TYPE_ARP: u16 = 0x0806;

/// `trk` in the connection state: the packet has been through conntrack.
pub(crate) const CT_TRACKED: u32 = 0x20;
/// `rpl`: the packet runs in the reply direction of its connection.
pub(crate) const CT_REPLY: u32 = 0x08;

/// Adds to a match that the connection has a state, or does not have it.
pub(crate) fn tracked(fields: Match, state: u32, is: bool) -> Match {
    fields.with_masked(Field::CT_STATE, if is { state } else { 0 }, state)
}

/// Conditions in the words of the field, on top of [`Match`].
pub(crate) trait Conditions: Sized {
    fn in_port(self, port: OfPort) -> Self;
    fn ip(self) -> Self;
    fn arp(self) -> Self;
    fn nw_src(self, net: impl Into<Ipv4Net>) -> Self;
    fn nw_dst(self, net: impl Into<Ipv4Net>) -> Self;
    fn arp_spa(self, net: impl Into<Ipv4Net>) -> Self;
    fn arp_tpa(self, net: impl Into<Ipv4Net>) -> Self;
    fn register(self, register: &Register, value: u32) -> Self;
}

impl Conditions for Match {
    fn in_port(self, port: OfPort) -> Self {
        self.with(Field::IN_PORT, port.0)
    }

    fn ip(self) -> Self {
        self.with(Field::ETH_TYPE, ETH_TYPE_IPV4)
    }

    fn arp(self) -> Self {
        self.with(Field::ETH_TYPE, ETH_TYPE_ARP)
    }

    fn nw_src(self, net: impl Into<Ipv4Net>) -> Self {
        prefix(self, Field::IPV4_SRC, net.into())
    }

    fn nw_dst(self, net: impl Into<Ipv4Net>) -> Self {
        prefix(self, Field::IPV4_DST, net.into())
    }

    fn arp_spa(self, net: impl Into<Ipv4Net>) -> Self {
        prefix(self, Field::ARP_SPA, net.into())
    }

    fn arp_tpa(self, net: impl Into<Ipv4Net>) -> Self {
        prefix(self, Field::ARP_TPA, net.into())
    }

    fn register(self, register: &Register, value: u32) -> Self {
        register.matches(self, value)
    }
}

fn prefix(fields: Match, field: Field, net: Ipv4Net) -> Match {
    fields.with_masked(field, u32::from(net.network()), u32::from(net.netmask()))
}

/// The source VNID register into the VXLAN header.
pub(crate) fn source_vnid_to_tunnel() -> Action {
    let dst = Subfield { field: Field::TUN_ID, ofs: 0, n_bits: 32 };
    Action::Move { src: register::SOURCE_VNID.subfield(), dst }
}

/// Writes the whole of a field.
pub(crate) fn set(field: Field, value: u128) -> Action {
    Action::SetField { field, value, mask: field.full_mask() }
}

/// A flow under construction.
pub(crate) struct Rule {
    table: Table,
    priority: u16,
    fields: Match,
    actions: Vec<Action>,
    goto: Option<Table>,
}

/// Starts a flow. Without further words it matches everything and drops it.
pub(crate) fn rule(table: Table, priority: u16) -> Rule {
    Rule { table, priority, fields: Match::new(), actions: Vec::new(), goto: None }
}

impl Rule {
    pub(crate) fn when(mut self, fields: Match) -> Self {
        self.fields = fields;
        self
    }

    pub(crate) fn action(mut self, action: Action) -> Self {
        self.actions.push(action);
        self
    }

    pub(crate) fn actions(mut self, actions: impl IntoIterator<Item = Action>) -> Self {
        self.actions.extend(actions);
        self
    }

    pub(crate) fn output(self, port: OfPort) -> Self {
        self.action(Action::Output(port))
    }

    pub(crate) fn output_to_register(self, register: &Register) -> Self {
        self.action(Action::OutputReg { src: register.subfield(), max_len: 0xffff })
    }

    pub(crate) fn load_source_vnid(self, vnid: Vnid) -> Self {
        self.action(register::SOURCE_VNID.load(vnid.get()))
    }

    /// The VNID from the VXLAN header into the source VNID register.
    pub(crate) fn source_vnid_from_tunnel(self) -> Self {
        let src = Subfield { field: Field::TUN_ID, ofs: 0, n_bits: 32 };
        self.action(Action::Move { src, dst: register::SOURCE_VNID.subfield() })
    }

    /// The source VNID register into the VXLAN header.
    pub(crate) fn source_vnid_to_tunnel(self) -> Self {
        self.action(source_vnid_to_tunnel())
    }

    pub(crate) fn goto(mut self, next: Table) -> Self {
        debug_assert!(next > self.table, "goto {next} from {}", self.table);
        self.goto = Some(next);
        self
    }

    /// The finished flow, with the owner's cookie.
    pub(crate) fn of(mut self, owner: &Owner) -> Flow {
        let mut instructions = Instructions::new();
        if !self.actions.is_empty() {
            self.actions.shrink_to_fit();
            instructions.push(Instruction::ApplyActions(self.actions));
        }
        if let Some(next) = self.goto {
            instructions.push(Instruction::GotoTable(next.number()));
        }
        Flow {
            table: self.table.number(),
            priority: self.priority,
            cookie: owner.cookie().0,
            fields: self.fields,
            instructions,
            ..Flow::default()
        }
    }
}
