//! What a switch is and how it is set up (OF1.3.5 §7.3.1, §7.3.2).

use crate::wire::{Reader, Result, Writer};

/// `OFPT_FEATURES_REPLY`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// The lower 48 bits are a MAC address of the switch.
    pub datapath_id: u64,
    /// How many packets the switch can buffer.
    pub n_buffers: u32,
    /// How many flow tables it has.
    pub n_tables: u8,
    /// Which auxiliary connection this is; 0 is the main one.
    pub auxiliary_id: u8,
    /// What it can do.
    pub capabilities: Capabilities,
}

/// `OFPC_*` of the features reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(pub u32);

impl Capabilities {
    /// Flow statistics.
    pub const FLOW_STATS: u32 = 1;
    /// Table statistics.
    pub const TABLE_STATS: u32 = 1 << 1;
    /// Port statistics.
    pub const PORT_STATS: u32 = 1 << 2;
    /// Group statistics.
    pub const GROUP_STATS: u32 = 1 << 3;
    /// Reassembles IP fragments.
    pub const IP_REASM: u32 = 1 << 5;
    /// Queue statistics.
    pub const QUEUE_STATS: u32 = 1 << 6;
    /// Blocks looping ports.
    pub const PORT_BLOCKED: u32 = 1 << 8;
}

impl Features {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u64(self.datapath_id);
        w.u32(self.n_buffers);
        w.u8(self.n_tables);
        w.u8(self.auxiliary_id);
        w.zeros(2);
        w.u32(self.capabilities.0);
        w.zeros(4);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        let (datapath_id, n_buffers) = (r.u64()?, r.u32()?);
        let (n_tables, auxiliary_id) = (r.u8()?, r.u8()?);
        r.skip(2)?;
        let capabilities = Capabilities(r.u32()?);
        r.skip(4)?;
        Ok(Features { datapath_id, n_buffers, n_tables, auxiliary_id, capabilities })
    }
}

/// `OFPT_SET_CONFIG` and `OFPT_GET_CONFIG_REPLY`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwitchConfig {
    /// How to treat IP fragments.
    pub flags: ConfigFlags,
    /// Bytes of a packet that go to the controller when a table miss sends it there.
    pub miss_send_len: u16,
}

/// `OFPC_FRAG_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfigFlags(pub u16);

impl ConfigFlags {
    /// Fragments like any packet.
    pub const FRAG_NORMAL: ConfigFlags = ConfigFlags(0);
    /// Drop fragments.
    pub const FRAG_DROP: ConfigFlags = ConfigFlags(1);
    /// Reassemble.
    pub const FRAG_REASM: ConfigFlags = ConfigFlags(2);
    /// Match on the fragment bits, with no ports in later fragments (Nicira).
    pub const FRAG_NX_MATCH: ConfigFlags = ConfigFlags(3);
}

impl SwitchConfig {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u16(self.flags.0);
        w.u16(self.miss_send_len);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        Ok(SwitchConfig { flags: ConfigFlags(r.u16()?), miss_send_len: r.u16()? })
    }
}
