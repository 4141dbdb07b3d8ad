//! The normal form of flows: what a switch makes of them.

use crate::action::Action;
use crate::flow::Flow;
use crate::group::Group;
use crate::instruction::Instruction;
use crate::text::{canonical_set_field, note_len};

impl Flow {
    /// Rewrites instructions into the form in which Open vSwitch reports them under OpenFlow 1.3, so that a flow
    /// compares equal to itself after a dump: a `set_field` with a mask becomes loads, notes are padded, empty
    /// instructions go, instructions stand in the order of their execution, flags that only matter when a flow is
    /// added (`check_overlap`, `reset_counts`) stay.
    ///
    /// A flow parsed from text or decoded from a switch is normal already, but for an empty list of actions where those that
    /// the switch has set no bits at all.
    ///
    /// ```
    /// use openflow::{Action, Field, Flow, Instruction};
    /// let set = Action::SetField { field: Field::REG0, value: 5, mask: 7 };
    /// let flow = Flow { instructions: [Instruction::ApplyActions(vec![set])].into(), ..Flow::default() };
    /// assert_eq!(flow.normalized().to_string(), " actions=load:0x5->NXM_NX_REG0[0..2]");
    /// ```
    #[must_use]
    pub fn normalized(mut self) -> Flow {
        self.normalize();
        self
    }

    /// [`Flow::normalized`] in place.
    pub fn normalize(&mut self) {
        for instruction in &mut self.instructions {
            if let Instruction::ApplyActions(actions) | Instruction::WriteActions(actions) = instruction {
                normalize_actions(actions);
            }
        }
        self.instructions.retain(|instruction| {
            !matches!(instruction, Instruction::ApplyActions(a) | Instruction::WriteActions(a) if a.is_empty())
        });
        self.instructions.sort_by_key(order);
    }
}

impl Group {
    /// [`Flow::normalized`] for the actions of the buckets.
    #[must_use]
    pub fn normalized(mut self) -> Group {
        self.buckets.iter_mut().for_each(|bucket| normalize_actions(&mut bucket.actions));
        self
    }
}

/// Instructions execute in this order whatever their order on the wire (OF1.3.5 §5.9).
fn order(instruction: &Instruction) -> u8 {
    match instruction {
        Instruction::Meter(_) => 0,
        Instruction::ApplyActions(_) => 1,
        Instruction::ClearActions => 2,
        Instruction::WriteActions(_) => 3,
        Instruction::WriteMetadata { .. } => 4,
        Instruction::GotoTable(_) => 5,
        Instruction::Unknown { .. } => 6,
    }
}

fn is_normal(action: &Action) -> bool {
    match action {
        Action::SetField { field, mask, value } => *mask == field.full_mask() && *value & !*mask == 0,
        Action::Note(bytes) => bytes.len() == note_len(bytes.len()),
        Action::Clone(actions) => actions.iter().all(is_normal),
        Action::Ct(ct) => ct.exec.iter().all(is_normal),
        Action::SetTunnel(_) => false,
        Action::Output(port) => *port != crate::OfPort::CONTROLLER,
        _ => true,
    }
}

fn normalize_actions(actions: &mut Vec<Action>) {
    if actions.iter().all(is_normal) {
        return;
    }
    let old = std::mem::take(actions);
    for action in old {
        match action {
            Action::SetField { field, value, mask } => {
                actions.extend(canonical_set_field(field, value, mask))
            }
            Action::SetTunnel(id) => actions.extend(canonical_set_field(
                crate::Field::TUN_ID,
                id.into(),
                crate::Field::TUN_ID.full_mask(),
            )),
            Action::Output(crate::OfPort::CONTROLLER) => {
                actions.push(Action::Controller(crate::Controller::default()));
            }
            Action::Note(mut bytes) => {
                bytes.resize(note_len(bytes.len()), 0);
                actions.push(Action::Note(bytes));
            }
            Action::Clone(mut nested) => {
                normalize_actions(&mut nested);
                actions.push(Action::Clone(nested));
            }
            Action::Ct(mut ct) => {
                normalize_actions(&mut ct.exec);
                actions.push(Action::Ct(ct));
            }
            other => actions.push(other),
        }
    }
}
