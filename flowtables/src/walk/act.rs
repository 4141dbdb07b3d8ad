//! What the actions of a flow do to a packet, as Open vSwitch carries them out.

use std::net::IpAddr;

use openflow::{Action, Bucket, Ct, CtZone, Field, Group, GroupType, Nat, NatKind, OfPort, Subfield};

use super::packet::{Packet, port_of_16_bits};
use super::walker::{Branch, Flowing, MAX_DEPTH, Walker};
use super::{Choice, Output};

impl Walker<'_> {
    /// Carries out a list of actions of a flow in `table`.
    pub(super) fn apply(
        &mut self,
        actions: &[Action],
        table: u8,
        branch: &mut Branch,
        depth: usize,
    ) -> Flowing {
        for action in actions {
            match self.act(action, table, branch, depth) {
                Flowing::On => {}
                ended => return ended,
            }
            if self.has_ended() {
                return Flowing::Exit;
            }
        }
        Flowing::On
    }

    fn act(&mut self, action: &Action, table: u8, branch: &mut Branch, depth: usize) -> Flowing {
        match action {
            Action::Output(port) => self.output(*port, branch),
            Action::OutputReg { src, .. } => self.output_register(*src, branch),
            Action::OutputTrunc { port, max_len } => {
                self.note(format!("cut to {max_len} bytes"));
                self.output(*port, branch);
            }
            Action::Controller(controller) => {
                self.send(OfPort::CONTROLLER, branch);
                if controller.pause {
                    self.stop_walking("the packet waits until a controller lets it go on".to_owned());
                }
            }
            Action::Group(id) => self.group(*id, table, branch, depth),
            Action::Resubmit { in_port, table: to, with_ct } => {
                let to = to.unwrap_or(table);
                // To go forward is no nesting: a table cannot come twice that way.
                let depths = (depth, depth + usize::from(to <= table));
                return self.resubmit(*in_port, to, *with_ct, branch, depths);
            }
            Action::Clone(actions) => {
                let mut copy = branch.clone();
                if depth < MAX_DEPTH {
                    let _ = self.apply(actions, table, &mut copy, depth + 1);
                }
                branch.action_set = copy.action_set;
                branch.stack = copy.stack;
            }
            Action::Exit => return Flowing::Exit,
            Action::Ct(ct) => self.conntrack(ct, branch),
            Action::DecTtl | Action::DecTtlCntIds(_) if branch.packet.is_ip() => {
                return self.dec_ttl(Field::IP_TTL, branch);
            }
            Action::DecMplsTtl if branch.packet.is_mpls() => return self.dec_ttl(Field::MPLS_TTL, branch),
            Action::DecTtl | Action::DecTtlCntIds(_) | Action::DecMplsTtl => {}
            other => self.rewrite(other, branch),
        }
        Flowing::On
    }

    /// Actions that change the packet, or nothing.
    fn rewrite(&mut self, action: &Action, branch: &mut Branch) {
        let packet = &mut branch.packet;
        let done = match action {
            Action::Move { src, dst } => {
                let value = packet.read(*src);
                packet.write(*dst, value)
            }
            Action::Load { dst, value } => packet.write(*dst, u128::from(*value)),
            Action::SetField { field, value, mask } => packet.write_masked(*field, *value, *mask),
            Action::SetFieldWide { field, value, mask } => {
                packet.set_option(*field, value, mask.as_deref());
                true
            }
            Action::DeleteField(field) => {
                packet.delete_option(*field);
                true
            }
            Action::StackPush(src) => {
                branch.stack.push(packet.read(*src));
                true
            }
            Action::StackPop(dst) => match branch.stack.pop() {
                Some(value) => packet.write(*dst, value),
                None => {
                    self.note("takes from an empty stack".to_owned());
                    true
                }
            },
            Action::SetTunnel(id) => packet.write_masked(Field::TUN_ID, (*id).into(), u64::MAX.into()),
            Action::SetIpTtl(ttl) => packet.write_masked(Field::IP_TTL, (*ttl).into(), 0xff),
            Action::SetMplsTtl(ttl) => packet.write_masked(Field::MPLS_TTL, (*ttl).into(), 0xff),
            Action::PushVlan(_) => {
                if !packet.push_vlan() {
                    self.refuse("has as many VLAN tags as a switch keeps".to_owned());
                }
                true
            }
            Action::PopVlan => {
                packet.pop_vlan();
                true
            }
            Action::CtClear => {
                packet.clear_conntrack();
                true
            }
            // These do nothing to the packet.
            Action::Note(_)
            | Action::FinTimeout { .. }
            | Action::SetQueue(_)
            | Action::PopQueue
            | Action::Conjunction { .. } => true,
            Action::Learn(learn) => {
                self.note(format!("learns a flow for table {}, which the walk does not add", learn.table));
                true
            }
            Action::Sample(sample) => {
                self.note(format!("sampled for collectors {}", sample.collector_set_id));
                true
            }
            other => {
                self.stop_walking(not_followed(other));
                true
            }
        };
        if !done {
            self.note(format!("has no such header, left as it is: {action:?}"));
        }
    }

    fn dec_ttl(&mut self, field: Field, branch: &mut Branch) -> Flowing {
        match branch.packet.get(field) {
            0 | 1 => {
                self.refuse("its TTL is used up".to_owned());
                Flowing::Stop
            }
            ttl => {
                branch.packet.set(field, ttl - 1);
                Flowing::On
            }
        }
    }

    fn resubmit(
        &mut self,
        in_port: Option<OfPort>,
        table: u8,
        with_ct: bool,
        branch: &mut Branch,
        depths: (usize, usize),
    ) -> Flowing {
        // Port and connection count for the look-up only: the flow's actions see the packet as it is.
        let mut seen = match with_ct.then(|| branch.packet.with_connection()) {
            Some(None) => {
                self.note("resubmit(ct) of a packet that conntrack has not seen: left out".to_owned());
                return Flowing::On;
            }
            Some(Some(packet)) => packet,
            None if in_port.is_none_or(|port| port == OfPort::IN_PORT) => {
                return self.again(table, None, branch, depths);
            }
            None => branch.packet.clone(),
        };
        if let Some(port) = in_port.filter(|port| *port != OfPort::IN_PORT) {
            seen.set(Field::IN_PORT, port.0.into());
        }
        self.again(table, Some(seen), branch, depths)
    }

    /// One more look-up, from one depth into another.
    fn again(
        &mut self,
        table: u8,
        seen: Option<Packet>,
        branch: &mut Branch,
        (from, into): (usize, usize),
    ) -> Flowing {
        if !self.may_look_up(from) {
            return Flowing::Exit;
        }
        stop_here(self.table(table, seen, branch, into))
    }

    fn conntrack(&mut self, ct: &Ct, branch: &mut Branch) {
        let mut tracked = branch.clone();
        let zone = match ct.zone {
            CtZone::Immediate(zone) => zone.into(),
            CtZone::Field(bits) => branch.packet.read(bits),
        };
        for action in &ct.exec {
            self.rewrite(action, &mut tracked);
        }
        if let Some(nat) = &ct.nat {
            translate(nat, &mut tracked.packet);
        }
        if let Some(table) = ct.recirc_table {
            tracked.packet.set(Field::CT_ZONE, zone);
            self.recirculated.push_back((table, tracked));
        }
        // What conntrack says is known only from the table on that it sends the packet to.
        branch.packet.clear_conntrack();
    }

    fn group(&mut self, id: u32, table: u8, branch: &mut Branch, depth: usize) {
        let Some(group) = self.flows.group(id).cloned() else {
            self.refuse(format!("there is no group {id}: not sent"));
            return;
        };
        if depth >= MAX_DEPTH {
            self.refuse(format!("group {id} leads to itself: not sent"));
            return;
        }
        if group.buckets.is_empty() {
            self.refuse(format!("group {id} has no buckets: not sent"));
        }
        // The switch takes one bucket, by a hash or by what is alive: which one, only it can say.
        let one =
            matches!(group.kind, GroupType::Select | GroupType::FastFailover) && group.buckets.len() > 1;
        if one {
            let n = group.buckets.len();
            self.note(format!("the switch takes one of the {n} buckets of group {id}: each is followed"));
        }
        let Group { buckets, .. } = group;
        for (number, Bucket { actions, .. }) in buckets.into_iter().enumerate() {
            // Each bucket gets a copy; what it does to the packet ends with it.
            let mut copy = Branch { action_set: Vec::new(), ..branch.clone() };
            if one {
                copy.choices.push(Choice { group: id, bucket: number });
            }
            let _ = self.ordered(actions, table, &mut copy, depth + 1);
        }
    }

    /// Carries out an action set at the end of the pipeline.
    pub(super) fn action_set(&mut self, set: Vec<Action>, branch: &mut Branch, depth: usize) -> Flowing {
        let table = self.steps.last().map_or(0, |step| step.table);
        self.ordered(set, table, branch, depth)
    }

    /// Carries out actions in the order of an action set (OF1.3.5 §5.10): changes of the headers first, then one
    /// way out. A set without a way out is not carried out at all.
    fn ordered(&mut self, set: Vec<Action>, table: u8, branch: &mut Branch, depth: usize) -> Flowing {
        let Some(last) = set.iter().map(way_out).max().flatten() else {
            if set.iter().any(|action| !matches!(action, Action::Note(_))) {
                self.refuse("an action set without an output: the packet is dropped".to_owned());
            }
            return Flowing::On;
        };
        let end = set.iter().rev().find(|action| way_out(action) == Some(last)).cloned();
        let mut changes: Vec<Action> = set.into_iter().filter(|action| way_out(action).is_none()).collect();
        // A stable sort: changes of fields stay in the order in which they were written.
        changes.sort_by_key(order);
        changes.extend(end);
        self.apply(&changes, table, branch, depth)
    }

    fn output_register(&mut self, src: Subfield, branch: &mut Branch) {
        let value = branch.packet.read(src);
        match value {
            0..=0xffff => self.output(port_of_16_bits(value), branch),
            _ => self.refuse(format!("{value:#x} is no port: not sent")),
        }
    }

    fn output(&mut self, port: OfPort, branch: &mut Branch) {
        // A switch never sends a packet back out of the port it came in through, unless told so by name.
        match port {
            OfPort::IN_PORT => self.send(branch.packet.in_port(), branch),
            OfPort::ANY | OfPort::UNSET => self.refuse("output to no port".to_owned()),
            port if port == branch.packet.in_port() => {
                self.refuse(format!("it came in through port {port}: not sent back there"));
            }
            port => self.send(port, branch),
        }
    }

    fn send(&mut self, port: OfPort, branch: &Branch) {
        if port == OfPort(0) {
            return self.refuse("there is no port 0: not sent".to_owned());
        }
        self.outputs.push(Output { port, packet: branch.packet.clone(), choices: branch.choices.clone() });
    }
}

/// Why the walk ends at an action.
fn not_followed(action: &Action) -> String {
    let why = match action {
        Action::CheckPktLarger { len, .. } => {
            return format!("whether the packet is longer than {len} bytes is not known");
        }
        Action::Multipath(_) => "the switch chooses by a hash of the packet",
        Action::Bundle(_) => "the switch chooses by what is alive",
        Action::PushMpls(_) | Action::PopMpls(_) => "what is below an MPLS label is not followed",
        Action::PushPbb(_) | Action::PopPbb | Action::CopyTtlIn | Action::CopyTtlOut => {
            "headers below others are not followed"
        }
        Action::Encap(_) | Action::Decap(_) | Action::DecNshTtl => {
            "headers around the packet are not followed"
        }
        _ => "the walk does not know the action",
    };
    format!("{why}: {action:?}")
}

/// The translation that conntrack would give a new connection, with the first address and port of each range, as
/// `ofproto/trace` assumes it. A translation made earlier (`nat` without words) is known to conntrack alone.
fn translate(nat: &Nat, packet: &mut Packet) {
    let Some(kind) = nat.kind else { return };
    let source = kind == NatKind::Src;
    match nat.addresses {
        Some((IpAddr::V4(first), _)) => {
            let field = if source { Field::IPV4_SRC } else { Field::IPV4_DST };
            packet.write_masked(field, u32::from(first).into(), u128::MAX);
        }
        Some((IpAddr::V6(first), _)) => {
            let field = if source { Field::IPV6_SRC } else { Field::IPV6_DST };
            packet.write_masked(field, first.into(), u128::MAX);
        }
        None => {}
    }
    if let Some((port, _)) = nat.ports {
        let fields = match source {
            true => [Field::TCP_SRC, Field::UDP_SRC, Field::SCTP_SRC],
            false => [Field::TCP_DST, Field::UDP_DST, Field::SCTP_DST],
        };
        for field in fields {
            packet.write_masked(field, port.into(), u128::MAX);
        }
    }
}

/// A list of actions that ended early does not end the one that called it.
fn stop_here(flowing: Flowing) -> Flowing {
    if flowing == Flowing::Stop { Flowing::On } else { flowing }
}

/// How an action makes the packet leave; of several in one set, the greatest counts.
fn way_out(action: &Action) -> Option<u8> {
    match action {
        Action::Ct(_) => Some(1),
        Action::Resubmit { .. } => Some(2),
        Action::Output(_) | Action::OutputReg { .. } | Action::OutputTrunc { .. } | Action::Controller(_) => {
            Some(3)
        }
        Action::Group(_) => Some(4),
        _ => None,
    }
}

/// Where an action stands in an action set (OF1.3.5 §5.10).
fn order(action: &Action) -> u8 {
    match action {
        Action::PopVlan => 0,
        Action::PopMpls(_) | Action::Decap(_) => 1,
        Action::PushMpls(_) | Action::Encap(_) => 2,
        Action::PushVlan(_) | Action::PushPbb(_) => 3,
        Action::DecTtl | Action::DecTtlCntIds(_) => 4,
        Action::DecMplsTtl | Action::DecNshTtl => 5,
        Action::SetQueue(_) => 7,
        _ => 6,
    }
}
