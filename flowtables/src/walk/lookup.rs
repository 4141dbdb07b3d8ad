//! Which flow of a table a packet hits: priorities, overlaps, conjunctions.

use std::cmp::Reverse;

use openflow::{Action, Field, Flow, Instruction, WideEntry, WideField};

use super::Packet;
use crate::flowset::FlowSet;
use crate::pipeline::cookie::Owner;

/// The flow that a packet hits.
pub(super) struct Hit<'a> {
    pub(super) flow: &'a Flow,
    pub(super) owner: &'a Owner,
    /// Other flows of the same priority that match too: which of them a switch takes is not defined.
    pub(super) overlaps: Vec<&'a Flow>,
    /// The conjunction whose clauses all matched and led to the flow.
    pub(super) conjunction: Option<u32>,
    /// A flow that would count instead if it matched: it asks for a field that the walk does not know.
    pub(super) doubtful: Option<&'a Flow>,
}

type Candidate<'a> = (&'a Flow, &'a Owner);

/// Looks a packet up in a table.
///
/// Flows whose action is `conjunction` stand for clauses: they count only where all clauses of one conjunction
/// have a flow of the same priority, and then the packet is looked up again with `conj_id` set (ovs-fields(7),
/// "Conjunctive Match Fields").
pub(super) fn lookup<'a>(flows: &'a FlowSet, table: u8, packet: &Packet) -> Option<Hit<'a>> {
    let (clauses, plain, doubtful) = candidates(flows, table, packet);
    let best = plain.first().map(|(flow, _)| flow.priority);
    let mut rest = clauses.as_slice();
    while let Some((first, _)) = rest.first() {
        let priority = first.priority;
        if best.is_some_and(|best| best >= priority) {
            break;
        }
        let (group, lower) = rest.split_at(rest.partition_point(|(flow, _)| flow.priority == priority));
        rest = lower;
        if let Some(id) = complete(group) {
            let mut with_id = packet.clone();
            with_id.set(Field::CONJ_ID, id.into());
            let (_, plain, doubtful) = candidates(flows, table, &with_id);
            if let Some(hit) = hit(plain, doubtful) {
                return Some(Hit { conjunction: Some(id), ..hit });
            }
        }
    }
    hit(plain, doubtful)
}

fn hit<'a>(plain: Vec<Candidate<'a>>, doubtful: Option<Candidate<'a>>) -> Option<Hit<'a>> {
    let mut plain = plain.into_iter();
    let (flow, owner) = plain.next().or(doubtful)?;
    let overlaps =
        plain.map(|(other, _)| other).take_while(|other| other.priority == flow.priority).collect();
    Some(Hit { flow, owner, overlaps, conjunction: None, doubtful: doubtful.map(|(flow, _)| flow) })
}

/// The flows that match and may count, by descending priority: clauses of conjunctions, and the others, of which
/// only those of the greatest priority; and one that could count if a field were known.
#[allow(clippy::type_complexity, reason = "the three are taken apart at once")]
fn candidates<'a>(
    flows: &'a FlowSet,
    table: u8,
    packet: &Packet,
) -> (Vec<Candidate<'a>>, Vec<Candidate<'a>>, Option<Candidate<'a>>) {
    let mut doubtful: Option<Candidate<'a>> = None;
    let mut clauses: Vec<Candidate<'a>> = Vec::new();
    let mut plain: Vec<Candidate<'a>> = Vec::new();
    let mut best = 0;
    flows.matching(
        table,
        |field| packet.get(field),
        |flow, owner| {
            if !packet.hits_wide(flow) {
                return best;
            }
            let unknown = |entry: &WideEntry| matches!(entry.field, WideField::Unknown { .. });
            if flow.fields.wide().any(unknown) {
                if doubtful.is_none_or(|(other, _)| other.priority < flow.priority) {
                    doubtful = Some((flow, owner));
                }
                return best;
            }
            if is_clause(flow) {
                clauses.push((flow, owner));
            } else {
                best = flow.priority;
                plain.push((flow, owner));
            }
            best
        },
    );
    clauses.retain(|(flow, _)| flow.priority >= best);
    plain.retain(|(flow, _)| flow.priority == best);
    let place = |(flow, _): &Candidate<'a>| (Reverse(flow.priority), &flow.fields);
    clauses.sort_unstable_by(|a, b| place(a).cmp(&place(b)));
    plain.sort_unstable_by(|a, b| place(a).cmp(&place(b)));
    (clauses, plain, doubtful.filter(|(flow, _)| flow.priority >= best))
}

fn conjunctions(flow: &Flow) -> impl Iterator<Item = (u32, u8, u8)> + '_ {
    let actions = flow.instructions.iter().flat_map(|instruction| match instruction {
        Instruction::ApplyActions(actions) => actions.as_slice(),
        _ => &[],
    });
    actions.filter_map(|action| match action {
        Action::Conjunction { id, clause, n_clauses } => Some((*id, *clause, *n_clauses)),
        _ => None,
    })
}

fn is_clause(flow: &Flow) -> bool {
    conjunctions(flow).next().is_some()
}

/// The first conjunction of which these flows hold every clause.
fn complete(flows: &[Candidate<'_>]) -> Option<u32> {
    let all = || flows.iter().flat_map(|(flow, _)| conjunctions(flow));
    all().map(|(id, _, n)| (id, n)).find_map(|(id, n)| {
        let has = |clause| all().any(|(other, found, _)| other == id && found == clause);
        (0..n).all(has).then_some(id)
    })
}
