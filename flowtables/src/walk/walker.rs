//! The walk itself: match, act, go on.

use openflow::{Action, Ct, Field, Flow, Instruction, OfPort};

use super::{Output, Packet, Step, Walk, explain};
use crate::flowset::FlowSet;
use crate::pipeline::cookie::Owner;

/// What the walker cannot know and the caller assumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assumptions {
    /// The connection state that conntrack finds for a packet it has not seen: `ofproto/trace` assumes a new
    /// connection too.
    pub ct_state: u32,
}

impl Default for Assumptions {
    fn default() -> Self {
        Self { ct_state: CT_TRACKED | CT_NEW }
    }
}

const CT_NEW: u32 = 0x01;
const CT_TRACKED: u32 = 0x20;

/// Tables visited in one walk. A pipeline that only goes forward visits each at most once for each branch and
/// each recirculation; more than this is a loop.
const MAX_STEPS: usize = 4096;
/// Nested resubmits, as in Open vSwitch.
const MAX_DEPTH: usize = 64;

pub(super) struct Walker<'a> {
    flows: &'a FlowSet,
    assumptions: &'a Assumptions,
    steps: Vec<Step>,
    outputs: Vec<Output>,
    /// Branches that conntrack sent back into a table, in order.
    recirculated: Vec<(u8, Packet)>,
}

impl<'a> Walker<'a> {
    pub(super) fn new(flows: &'a FlowSet, assumptions: &'a Assumptions) -> Self {
        Self { flows, assumptions, steps: Vec::new(), outputs: Vec::new(), recirculated: Vec::new() }
    }

    pub(super) fn walk(mut self, packet: Packet) -> Walk {
        let mut branch = packet;
        self.table(0, &mut branch, 0);
        let mut done = 0;
        while let Some((table, packet)) = self.recirculated.get(done).cloned() {
            done += 1;
            branch = packet;
            self.table(table, &mut branch, 0);
        }
        let drop_reason = if self.outputs.is_empty() {
            self.steps.last().map(|step| step.why.clone()).unwrap_or_default()
        } else {
            String::new()
        };
        Walk { steps: self.steps, outputs: self.outputs, packet: branch, drop_reason }
    }

    fn table(&mut self, table: u8, packet: &mut Packet, depth: usize) {
        if self.steps.len() >= MAX_STEPS || depth >= MAX_DEPTH {
            self.steps.push(Step {
                table,
                flow: None,
                owner: None,
                why: "the flows run in circles".to_owned(),
            });
            return;
        }
        let flows = self.flows;
        let Some((flow, owner)) = flows.table(table).find(|(flow, _)| packet.hits(flow)) else {
            let why = format!("table {table} has nothing for this packet: it is dropped");
            self.steps.push(Step { table, flow: None, owner: None, why });
            return;
        };
        let place = self.record(table, flow, owner);
        let before = packet.clone();
        let next = self.execute(flow, packet, depth);
        let why = explain::why(flow, owner, &before, packet);
        if let Some(step) = self.steps.get_mut(place) {
            step.why = why;
        }
        if let Some(next) = next {
            self.table(next, packet, depth);
        }
    }

    fn record(&mut self, table: u8, flow: &Flow, owner: &Owner) -> usize {
        self.steps.push(Step {
            table,
            flow: Some(flow.clone()),
            owner: Some(owner.clone()),
            why: String::new(),
        });
        self.steps.len() - 1
    }

    /// Carries out a flow's instructions; the table to go on in, if any.
    fn execute(&mut self, flow: &Flow, packet: &mut Packet, depth: usize) -> Option<u8> {
        let mut next = None;
        for instruction in &flow.instructions {
            match instruction {
                Instruction::ApplyActions(actions) => self.apply(actions, flow.table, packet, depth),
                Instruction::GotoTable(table) => next = Some(*table),
                _ => {}
            }
        }
        next
    }

    fn apply(&mut self, actions: &[Action], table: u8, packet: &mut Packet, depth: usize) {
        for action in actions {
            match action {
                Action::Output(port) => self.output(*port, packet),
                Action::OutputReg { src, .. } => {
                    let port = u32::try_from(packet.read(*src)).unwrap_or(u32::MAX);
                    self.output(OfPort(port), packet);
                }
                Action::Move { src, dst } => {
                    let value = packet.read(*src);
                    packet.write(*dst, value);
                }
                Action::Load { dst, value } => packet.write(*dst, u128::from(*value)),
                Action::SetField { field, value, mask } => {
                    let rest = packet.get(*field) & !mask;
                    packet.set(*field, rest | value & mask);
                }
                Action::Resubmit { in_port, table: to, .. } => {
                    let own = packet.get(Field::IN_PORT);
                    if let Some(port) = in_port {
                        packet.set(Field::IN_PORT, port.0.into());
                    }
                    self.table(to.unwrap_or(table), packet, depth + 1);
                    packet.set(Field::IN_PORT, own);
                }
                Action::Ct(ct) => self.conntrack(ct, packet),
                Action::CtClear => packet.set(Field::CT_STATE, 0),
                _ => {}
            }
        }
    }

    fn conntrack(&mut self, ct: &Ct, packet: &Packet) {
        if let Some(table) = ct.recirc_table {
            let mut tracked = packet.clone();
            if tracked.get(Field::CT_STATE) == 0 {
                tracked.set(Field::CT_STATE, self.assumptions.ct_state.into());
            }
            self.recirculated.push((table, tracked));
        }
    }

    fn output(&mut self, port: OfPort, packet: &Packet) {
        // A switch never sends a packet back out of the port it came in through, unless told so by name.
        let port = match port {
            OfPort::IN_PORT => packet.in_port(),
            port if port == packet.in_port() => return,
            port => port,
        };
        self.outputs.push(Output { port, packet: packet.clone() });
    }
}
