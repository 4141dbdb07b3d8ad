//! Numbers of actions.

/// Types of OpenFlow 1.3 (OF1.3.5 §7.2.5).
pub(crate) mod ofpat {
    pub(crate) const OUTPUT: u16 = 0;
    pub(crate) const COPY_TTL_OUT: u16 = 11;
    pub(crate) const COPY_TTL_IN: u16 = 12;
    pub(crate) const SET_MPLS_TTL: u16 = 15;
    pub(crate) const DEC_MPLS_TTL: u16 = 16;
    pub(crate) const PUSH_VLAN: u16 = 17;
    pub(crate) const POP_VLAN: u16 = 18;
    pub(crate) const PUSH_MPLS: u16 = 19;
    pub(crate) const POP_MPLS: u16 = 20;
    pub(crate) const SET_QUEUE: u16 = 21;
    pub(crate) const GROUP: u16 = 22;
    pub(crate) const SET_NW_TTL: u16 = 23;
    pub(crate) const DEC_NW_TTL: u16 = 24;
    pub(crate) const SET_FIELD: u16 = 25;
    pub(crate) const PUSH_PBB: u16 = 26;
    pub(crate) const POP_PBB: u16 = 27;
    pub(crate) const EXPERIMENTER: u16 = 0xffff;
}

/// Subtypes of Nicira's actions.
pub(crate) mod nxast {
    pub(crate) const RESUBMIT: u16 = 1;
    pub(crate) const SET_TUNNEL: u16 = 2;
    pub(crate) const POP_QUEUE: u16 = 5;
    pub(crate) const REG_MOVE: u16 = 6;
    pub(crate) const REG_LOAD: u16 = 7;
    pub(crate) const NOTE: u16 = 8;
    pub(crate) const SET_TUNNEL64: u16 = 9;
    pub(crate) const MULTIPATH: u16 = 10;
    pub(crate) const BUNDLE: u16 = 12;
    pub(crate) const BUNDLE_LOAD: u16 = 13;
    pub(crate) const RESUBMIT_TABLE: u16 = 14;
    pub(crate) const OUTPUT_REG: u16 = 15;
    pub(crate) const LEARN: u16 = 16;
    pub(crate) const EXIT: u16 = 17;
    pub(crate) const DEC_TTL: u16 = 18;
    pub(crate) const FIN_TIMEOUT: u16 = 19;
    pub(crate) const CONTROLLER: u16 = 20;
    pub(crate) const DEC_TTL_CNT_IDS: u16 = 21;
    pub(crate) const STACK_PUSH: u16 = 27;
    pub(crate) const STACK_POP: u16 = 28;
    pub(crate) const SAMPLE: u16 = 29;
    pub(crate) const OUTPUT_REG2: u16 = 32;
    pub(crate) const REG_LOAD2: u16 = 33;
    pub(crate) const CONJUNCTION: u16 = 34;
    pub(crate) const CT: u16 = 35;
    pub(crate) const NAT: u16 = 36;
    pub(crate) const CONTROLLER2: u16 = 37;
    pub(crate) const SAMPLE2: u16 = 38;
    pub(crate) const OUTPUT_TRUNC: u16 = 39;
    pub(crate) const SAMPLE3: u16 = 41;
    pub(crate) const CLONE: u16 = 42;
    pub(crate) const CT_CLEAR: u16 = 43;
    pub(crate) const RESUBMIT_TABLE_CT: u16 = 44;
    pub(crate) const LEARN2: u16 = 45;
    pub(crate) const ENCAP: u16 = 46;
    pub(crate) const DECAP: u16 = 47;
    pub(crate) const DEC_NSH_TTL: u16 = 48;
    pub(crate) const CHECK_PKT_LARGER: u16 = 49;
    pub(crate) const DELETE_FIELD: u16 = 50;
}

/// The ONF's `ONFAT_COPY_FIELD` (extension 320): what `NXAST_REG_MOVE` does.
pub(crate) const ONF_COPY_FIELD: u16 = 3200;

/// Flags of `NXAST_CT`.
pub(crate) mod ct_flag {
    pub(crate) const COMMIT: u16 = 1;
    pub(crate) const FORCE: u16 = 2;
}

/// "No recirculation" in `NXAST_CT`.
pub(crate) const CT_NO_TABLE: u8 = 0xff;

/// Flags of `NXAST_NAT`.
pub(crate) mod nat_flag {
    pub(crate) const SRC: u16 = 1;
    pub(crate) const DST: u16 = 2;
    pub(crate) const PERSISTENT: u16 = 4;
    pub(crate) const HASH: u16 = 8;
    pub(crate) const RANDOM: u16 = 16;
}

/// Which parts of the range of `NXAST_NAT` are there.
pub(crate) mod nat_range {
    pub(crate) const IPV4_MIN: u16 = 1;
    pub(crate) const IPV4_MAX: u16 = 2;
    pub(crate) const IPV6_MIN: u16 = 4;
    pub(crate) const IPV6_MAX: u16 = 8;
    pub(crate) const PORT_MIN: u16 = 16;
    pub(crate) const PORT_MAX: u16 = 32;
}

/// Properties of `NXAST_CONTROLLER2`.
pub(crate) mod controller_prop {
    pub(crate) const MAX_LEN: u16 = 0;
    pub(crate) const CONTROLLER_ID: u16 = 1;
    pub(crate) const REASON: u16 = 2;
    pub(crate) const USERDATA: u16 = 3;
    pub(crate) const PAUSE: u16 = 4;
    pub(crate) const METER_ID: u16 = 5;
}

/// `decap` without a packet type: "whatever follows" (namespace ONF, `USE_NEXT_PROTO`).
pub(crate) const DECAP_NEXT: u32 = 0x0000_fffe;

/// Class and type of the NSH property that carries a TLV. Its length counts the padding, unlike that of all other
/// properties; how much of it is data, the TLV's own length says.
pub(crate) const ENCAP_NSH_TLV: (u16, u8) = (4, 2);
