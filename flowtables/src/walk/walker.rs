//! The walk itself: tables, instructions, recirculation. What single actions do is in [`super::act`].

use std::collections::VecDeque;

use openflow::{Action, Field, Flow, Instruction};

use super::lookup::{Hit, lookup};
use super::{Choice, Output, Packet, Step, Walk, explain};
use crate::flowset::FlowSet;

/// What the walker cannot know and the caller assumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assumptions {
    /// The connection state that conntrack finds for a packet. `ofproto/trace` assumes a new connection too.
    pub ct_state: u32,
    /// States for the first visits to conntrack, in order, instead of `ct_state`: `--ct-next` of `ofproto/trace`.
    pub ct_next: Vec<u32>,
}

impl Default for Assumptions {
    fn default() -> Self {
        Self { ct_state: CT_TRACKED | CT_NEW, ct_next: Vec::new() }
    }
}

const CT_NEW: u32 = 0x01;
const CT_TRACKED: u32 = 0x20;

/// Tables visited in one walk. A pipeline that only goes forward visits each at most once for each branch and
/// each recirculation; more than this is a loop.
const MAX_STEPS: usize = 4096;
/// Nested resubmits, groups and clones, as in Open vSwitch.
pub(super) const MAX_DEPTH: usize = 64;

/// Whether the actions after one are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Flowing {
    /// They are.
    On,
    /// The rest of this list is not; those that called it go on.
    Stop,
    /// Nothing further is done.
    Exit,
}

/// A packet on its way, with all that goes with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Branch {
    pub(super) packet: Packet,
    /// OpenFlow's action set, carried out at the end of the pipeline.
    pub(super) action_set: Vec<Action>,
    pub(super) stack: Vec<u128>,
    /// The buckets that the switch must have chosen for the packet to be here.
    pub(super) choices: Vec<Choice>,
}

pub(super) struct Walker<'a> {
    pub(super) flows: &'a FlowSet,
    assumptions: &'a Assumptions,
    pub(super) steps: Vec<Step>,
    pub(super) outputs: Vec<Output>,
    /// Branches that conntrack sent back into a table, in order.
    pub(super) recirculated: VecDeque<(u8, Branch)>,
    /// Notes of the step under way.
    notes: Vec<String>,
    /// Why something that would have been sent was not.
    refused: Option<String>,
}

impl<'a> Walker<'a> {
    pub(super) fn new(flows: &'a FlowSet, assumptions: &'a Assumptions) -> Self {
        Self {
            flows,
            assumptions,
            steps: Vec::new(),
            outputs: Vec::new(),
            recirculated: VecDeque::new(),
            notes: Vec::new(),
            refused: None,
        }
    }

    pub(super) fn walk(mut self, packet: Packet) -> Walk {
        let mut branch = Branch { packet, ..Branch::default() };
        self.pipeline(0, &mut branch);
        let mut states = self.assumptions.ct_next.iter();
        while let Some((table, mut next)) = self.recirculated.pop_front() {
            if self.steps.len() >= MAX_STEPS {
                break;
            }
            let state = states.next().unwrap_or(&self.assumptions.ct_state);
            next.packet.set(Field::CT_STATE, u128::from(*state));
            self.pipeline(table, &mut next);
            branch = next;
        }
        let drop_reason = if self.outputs.is_empty() {
            self.refused.or_else(|| self.steps.last().map(|step| step.why.clone())).unwrap_or_default()
        } else {
            String::new()
        };
        Walk { steps: self.steps, outputs: self.outputs, packet: branch.packet, drop_reason }
    }

    /// From a table to the end of the pipeline, where the action set is carried out.
    fn pipeline(&mut self, table: u8, branch: &mut Branch) {
        // The action set runs after an `exit` too: that ends action lists only.
        let _ = self.table(table, branch, 0);
        let set = std::mem::take(&mut branch.action_set);
        if !set.is_empty() {
            let own = std::mem::take(&mut self.notes);
            let _ = self.action_set(set, branch, 0);
            self.add_notes(own);
        }
    }

    /// Looks the packet up in a table and follows `goto` from there.
    pub(super) fn table(&mut self, mut table: u8, branch: &mut Branch, depth: usize) -> Flowing {
        let mut as_seen = None;
        loop {
            if self.steps.len() >= MAX_STEPS || depth >= MAX_DEPTH {
                self.end(table, "the flows run in circles".to_owned());
                return Flowing::Exit;
            }
            let (next, flowing) = self.one_table(table, branch, as_seen.take(), depth);
            match next {
                Some(next) if flowing == Flowing::On => table = next,
                _ => return flowing,
            }
        }
    }

    /// Like [`Walker::table`], but the first look-up sees another packet (`resubmit` with a port or `ct`).
    pub(super) fn table_as(&mut self, table: u8, seen: Packet, branch: &mut Branch, depth: usize) -> Flowing {
        if self.steps.len() >= MAX_STEPS || depth >= MAX_DEPTH {
            self.end(table, "the flows run in circles".to_owned());
            return Flowing::Exit;
        }
        match self.one_table(table, branch, Some(seen), depth) {
            (Some(next), Flowing::On) => self.table(next, branch, depth),
            (_, flowing) => flowing,
        }
    }

    fn one_table(
        &mut self,
        table: u8,
        branch: &mut Branch,
        seen: Option<Packet>,
        depth: usize,
    ) -> (Option<u8>, Flowing) {
        let Some(hit) = lookup(self.flows, table, seen.as_ref().unwrap_or(&branch.packet)) else {
            self.end(table, format!("table {table} has nothing for this packet: it is dropped"));
            return (None, Flowing::On);
        };
        let place = self.steps.len();
        let outer = std::mem::replace(&mut self.notes, notes_of(&hit));
        self.steps.push(Step {
            table,
            flow: Some(hit.flow.clone()),
            owner: Some(hit.owner.clone()),
            why: String::new(),
            notes: Vec::new(),
        });
        let before = branch.packet.clone();
        let (next, flowing) = self.execute(hit.flow, branch, depth);
        let why = explain::why(hit.flow, hit.owner, &before, &branch.packet);
        let notes = std::mem::replace(&mut self.notes, outer);
        if let Some(step) = self.steps.get_mut(place) {
            step.why = why;
            step.notes = notes;
        }
        (next, flowing)
    }

    fn end(&mut self, table: u8, why: String) {
        self.steps.push(Step { table, flow: None, owner: None, why, notes: Vec::new() });
    }

    /// Carries out a flow's instructions in the order of OF1.3.5 §5.9; the table to go on in, if any.
    fn execute(&mut self, flow: &Flow, branch: &mut Branch, depth: usize) -> (Option<u8>, Flowing) {
        let mut next = None;
        for instruction in &flow.instructions {
            match instruction {
                Instruction::Meter(id) => self.note(format!("meter {id} may drop it")),
                Instruction::ApplyActions(actions) => match self.apply(actions, flow.table, branch, depth) {
                    Flowing::On => {}
                    ended => return (None, ended),
                },
                Instruction::ClearActions => branch.action_set.clear(),
                Instruction::WriteActions(actions) => branch.action_set.extend(actions.iter().cloned()),
                Instruction::WriteMetadata { value, mask } => {
                    branch.packet.write_masked(Field::METADATA, (*value).into(), (*mask).into());
                }
                Instruction::GotoTable(table) => next = Some(*table),
                other => self.note(format!("an instruction that the walker does not know: {other:?}")),
            }
        }
        (next, Flowing::On)
    }

    /// Adds a remark to the step under way.
    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Notes that something which would have been sent was not.
    pub(super) fn refuse(&mut self, why: String) {
        self.refused = Some(why.clone());
        self.note(why);
    }

    /// Gives the notes of the action set to the last step, and takes up `outer` again.
    fn add_notes(&mut self, outer: Vec<String>) {
        let notes = std::mem::replace(&mut self.notes, outer);
        if let Some(step) = self.steps.last_mut() {
            step.notes.extend(notes);
        }
    }
}

fn notes_of(hit: &Hit<'_>) -> Vec<String> {
    let conjunction = hit.conjunction.map(|id| format!("all clauses of conjunction {id} match"));
    // Which of two flows that do the same is taken makes no difference to the packet.
    let others = hit.overlaps.iter().filter(|other| other.instructions != hit.flow.instructions);
    let overlaps = others.map(|other| {
        format!(
            "of the same priority matches too, and the switch may take either: {}",
            other.to_string().trim()
        )
    });
    conjunction.into_iter().chain(overlaps).collect()
}
