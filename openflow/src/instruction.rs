//! Instructions of a flow (OF1.3.5 §7.2.4).

use smallvec::SmallVec;

use crate::Action;

/// What a flow does: instructions in the order in which they are sent.
///
/// Used as the slice that it derefs to. Up to two, actions and the next table, which is what most flows have, take no
/// memory of their own: a dump has many flows.
///
/// ```
/// use openflow::{Instruction, Instructions};
/// let mut instructions = Instructions::from([Instruction::GotoTable(21)]);
/// instructions.push(Instruction::Meter(1));
/// assert_eq!(instructions.len(), 2);
/// assert!(instructions.iter().any(|instruction| *instruction == Instruction::Meter(1)));
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instructions(SmallVec<[Instruction; 2]>);

impl Instructions {
    /// None at all: drop.
    pub const fn new() -> Self {
        Instructions(SmallVec::new_const())
    }

    /// All of them, in order.
    #[inline]
    pub fn as_slice(&self) -> &[Instruction] {
        &self.0
    }

    /// Adds one behind the others.
    #[inline]
    pub fn push(&mut self, instruction: Instruction) {
        self.0.push(instruction);
    }

    /// Keeps those of which `keep` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&Instruction) -> bool) {
        self.0.retain(|instruction| keep(instruction));
    }

    /// Keeps the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

impl std::ops::Deref for Instructions {
    type Target = [Instruction];
    #[inline]
    fn deref(&self) -> &[Instruction] {
        &self.0
    }
}

impl std::ops::DerefMut for Instructions {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Instruction] {
        &mut self.0
    }
}

impl std::fmt::Debug for Instructions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<const N: usize> From<[Instruction; N]> for Instructions {
    fn from(instructions: [Instruction; N]) -> Self {
        instructions.into_iter().collect()
    }
}

impl From<Vec<Instruction>> for Instructions {
    fn from(instructions: Vec<Instruction>) -> Self {
        instructions.into_iter().collect()
    }
}

impl FromIterator<Instruction> for Instructions {
    fn from_iter<I: IntoIterator<Item = Instruction>>(instructions: I) -> Self {
        Instructions(instructions.into_iter().collect())
    }
}

impl Extend<Instruction> for Instructions {
    fn extend<I: IntoIterator<Item = Instruction>>(&mut self, instructions: I) {
        self.0.extend(instructions);
    }
}

impl IntoIterator for Instructions {
    type Item = Instruction;
    type IntoIter = smallvec::IntoIter<[Instruction; 2]>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Instructions {
    type Item = &'a Instruction;
    type IntoIter = std::slice::Iter<'a, Instruction>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a mut Instructions {
    type Item = &'a mut Instruction;
    type IntoIter = std::slice::IterMut<'a, Instruction>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter_mut()
    }
}

impl<const N: usize> PartialEq<[Instruction; N]> for Instructions {
    fn eq(&self, other: &[Instruction; N]) -> bool {
        self.as_slice() == other
    }
}

/// What a flow does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Instruction {
    /// `OFPIT_METER`.
    Meter(u32),
    /// `OFPIT_APPLY_ACTIONS`.
    ApplyActions(Vec<Action>),
    /// `OFPIT_CLEAR_ACTIONS`.
    ClearActions,
    /// `OFPIT_WRITE_ACTIONS`.
    WriteActions(Vec<Action>),
    /// `OFPIT_WRITE_METADATA`.
    WriteMetadata {
        /// New bits.
        value: u64,
        /// Which bits change.
        mask: u64,
    },
    /// `OFPIT_GOTO_TABLE`.
    GotoTable(u8),
    /// An instruction that we don't know, with its header.
    Unknown {
        /// Type.
        kind: u16,
        /// All of its bytes, header included.
        raw: Vec<u8>,
    },
}
