//! The walk itself: tables, instructions, recirculation. What single actions do is in [`super::act`].

use std::collections::VecDeque;

use openflow::{Action, Field, Flow, Instruction};

use super::lookup::{Hit, lookup};
use super::{Assumptions, Choice, Output, Packet, Step, Walk, explain};
use crate::flowset::FlowSet;

/// Look-ups in one pass through the pipeline after the first, as in Open vSwitch (`MAX_RESUBMITS`).
const MAX_LOOKUPS: usize = MAX_DEPTH * MAX_DEPTH;
/// Nested resubmits that do not go forward, groups and clones, as in Open vSwitch.
pub(super) const MAX_DEPTH: usize = 64;
/// How often conntrack may send a packet, or copies of it, back into the pipeline. The switch itself has no limit but in
/// the kernel; a pipeline that makes sense needs two or three.
const MAX_RECIRCULATIONS: usize = 1024;

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
    /// Look-ups in this pass after the first.
    lookups: usize,
    /// Branches that conntrack sent back into a table, in order.
    pub(super) recirculated: VecDeque<(u8, Branch)>,
    /// Notes of the step under way.
    notes: Vec<String>,
    /// Why something that would have been sent was not.
    refused: Option<String>,
    /// Why the walk has ended early.
    not_walked: Option<String>,
    /// Why the switch gives the packet up in this pass through the pipeline.
    failed: Option<String>,
}

impl<'a> Walker<'a> {
    pub(super) fn new(flows: &'a FlowSet, assumptions: &'a Assumptions) -> Self {
        Self {
            flows,
            assumptions,
            steps: Vec::new(),
            outputs: Vec::new(),
            lookups: 0,
            recirculated: VecDeque::new(),
            notes: Vec::new(),
            refused: None,
            not_walked: None,
            failed: None,
        }
    }

    pub(super) fn walk(mut self, packet: Packet) -> Walk {
        let mut branch = Branch { packet, ..Branch::default() };
        self.pipeline(0, &mut branch);
        let mut recirculations = 0;
        let mut states = self.assumptions.ct_next.iter();
        while let Some((table, mut next)) = self.recirculated.pop_front() {
            if self.not_walked.is_some() {
                break;
            }
            if recirculations >= MAX_RECIRCULATIONS {
                self.stop_walking("conntrack sends the packet round in circles".to_owned());
                break;
            }
            recirculations += 1;
            let state = states.next().unwrap_or(&self.assumptions.ct_state);
            next.packet.set(Field::CT_STATE, u128::from(*state));
            self.pipeline(table, &mut next);
            branch = next;
        }
        let drop_reason = if self.outputs.is_empty() && self.not_walked.is_none() {
            self.refused.or_else(|| self.steps.last().map(|step| step.why.clone())).unwrap_or_default()
        } else {
            String::new()
        };
        Walk {
            steps: self.steps,
            outputs: self.outputs,
            packet: branch.packet,
            drop_reason,
            not_walked: self.not_walked,
        }
    }

    /// From a table to the end of the pipeline, where the action set is carried out.
    fn pipeline(&mut self, table: u8, branch: &mut Branch) {
        let (sent, queued) = (self.outputs.len(), self.recirculated.len());
        self.lookups = 0;
        // The action set runs after an `exit` too: that ends action lists only.
        let _ = self.table(table, None, branch, 0);
        let set = std::mem::take(&mut branch.action_set);
        if !set.is_empty() && !self.has_ended() {
            let own = std::mem::take(&mut self.notes);
            let _ = self.action_set(set, branch, 0);
            self.add_notes(own);
        }
        // A switch that gives up sends nothing of what this pass has come by.
        if let Some(why) = self.failed.take() {
            self.outputs.truncate(sent);
            self.recirculated.truncate(queued);
            self.refused = Some(why);
        }
    }

    /// Whether nothing further is to be done in this pass.
    pub(super) fn has_ended(&self) -> bool {
        self.not_walked.is_some() || self.failed.is_some()
    }

    /// Looks the packet up in a table and follows `goto` from there. The first look-up may see another packet than the
    /// flows then work on (`resubmit` with a port or `ct`).
    pub(super) fn table(
        &mut self,
        mut table: u8,
        mut seen: Option<Packet>,
        branch: &mut Branch,
        depth: usize,
    ) -> Flowing {
        loop {
            match self.one_table(table, branch, seen.take(), depth) {
                (Some(next), Flowing::On) if self.may_look_up(depth) => table = next,
                (Some(_), Flowing::On) => return Flowing::Exit,
                (_, flowing) => return flowing,
            }
        }
    }

    /// Whether a switch looks the packet up once more. If not, it drops the packet and all its copies.
    pub(super) fn may_look_up(&mut self, depth: usize) -> bool {
        self.lookups += 1;
        if self.lookups > MAX_LOOKUPS || depth >= MAX_DEPTH {
            let why = "the flows run in circles: a switch gives up and drops the packet";
            self.refuse(why.to_owned());
            self.failed = Some(why.to_owned());
        }
        !self.has_ended()
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
        if let Some(doubtful) = hit.doubtful {
            let flow = doubtful.to_string();
            self.stop_walking(format!("whether the packet matches a flow is not known: {}", flow.trim()));
            let notes = std::mem::replace(&mut self.notes, outer);
            if let Some(step) = self.steps.last_mut() {
                (step.why, step.notes) = ("not walked".to_owned(), notes);
            }
            return (None, Flowing::Exit);
        }
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
                other => {
                    self.stop_walking(format!("an instruction that the walk does not know: {other:?}"));
                    return (None, Flowing::Exit);
                }
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

    /// Ends the walk: what comes next is not known.
    pub(super) fn stop_walking(&mut self, why: String) {
        self.note(format!("not walked: {why}"));
        self.not_walked.get_or_insert(why);
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
