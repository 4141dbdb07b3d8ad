//! Roles of several controllers (OF1.3.5 §6.3.4, §7.3.9).

use crate::wire::{Reader, Result, Writer};

/// `OFPT_ROLE_REQUEST` and `OFPT_ROLE_REPLY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleMsg {
    /// The role.
    pub role: Role,
    /// Which election this role comes from, so that a late request of an older one is refused.
    pub generation_id: u64,
}

/// `OFPCR_ROLE_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role(pub u32);

impl Role {
    /// Only asks.
    pub const NO_CHANGE: Role = Role(0);
    /// Full access, others may have it too. The default.
    pub const EQUAL: Role = Role(1);
    /// Full access; whoever had it before becomes a slave.
    pub const MASTER: Role = Role(2);
    /// Read-only.
    pub const SLAVE: Role = Role(3);
}

impl RoleMsg {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u32(self.role.0);
        w.zeros(4);
        w.u64(self.generation_id);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        let role = Role(r.u32()?);
        r.skip(4)?;
        Ok(RoleMsg { role, generation_id: r.u64()? })
    }
}
