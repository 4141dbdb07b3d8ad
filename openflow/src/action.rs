//! Actions of OpenFlow 1.3 and Nicira's.

use std::net::IpAddr;

use crate::{Field, OfPort};

/// A range of bits of a field: `NXM_NX_REG0[0..15]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subfield {
    /// The field.
    pub field: Field,
    /// Lowest bit, 0 being the least significant.
    pub ofs: u16,
    /// Number of bits, at least 1.
    pub n_bits: u16,
}

impl Subfield {
    /// All bits of a field.
    pub fn whole(field: Field) -> Self {
        Subfield { field, ofs: 0, n_bits: field.width() }
    }

    /// Bits `first` to `last`, both included; `None` if the field has no such bits.
    pub fn bits(field: Field, first: u16, last: u16) -> Option<Self> {
        (first <= last && last < field.width()).then(|| Subfield {
            field,
            ofs: first,
            n_bits: last - first + 1,
        })
    }

    /// Whether it covers the whole field.
    pub fn is_whole(&self) -> bool {
        self.ofs == 0 && self.n_bits == self.field.width()
    }
}

/// What to do with a packet.
///
/// Sections name where an action is defined: OF1.3.5 §7.2.5, or `NXAST_*` for Nicira's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Action {
    /// `OFPAT_OUTPUT` to a port. To the controller use [`Action::Controller`].
    Output(OfPort),
    /// `OFPAT_OUTPUT` to the controller, or `NXAST_CONTROLLER`/`NXAST_CONTROLLER2` where it needs to say more.
    Controller(Controller),
    /// `NXAST_OUTPUT_REG2`: to the port that a field holds.
    OutputReg {
        /// The bits that hold the port.
        src: Subfield,
        /// Bytes of the packet to send if that port is the controller.
        max_len: u16,
    },
    /// `NXAST_OUTPUT_TRUNC`: to a port, cut to a length.
    OutputTrunc {
        /// The port.
        port: OfPort,
        /// Bytes to keep, at least 14.
        max_len: u32,
    },
    /// `OFPAT_GROUP`.
    Group(u32),
    /// `OFPAT_SET_FIELD`, or `NXAST_REG_LOAD2` where the mask is not all ones.
    SetField {
        /// The field.
        field: Field,
        /// Its new value.
        value: u128,
        /// The bits to change.
        mask: u128,
    },
    /// [`Action::SetField`] of a tunnel option.
    SetFieldWide {
        /// A `tun_metadata` field.
        field: Field,
        /// Its new value, big-endian.
        value: Box<[u8]>,
        /// The bits to change, of the same length; `None` for all.
        mask: Option<Box<[u8]>>,
    },
    /// `NXAST_REG_MOVE`: copy bits from one field to another of the same width. The ONF's copy-field is read as this too.
    Move {
        /// From here.
        src: Subfield,
        /// To here.
        dst: Subfield,
    },
    /// `NXAST_REG_LOAD`: put a constant into up to 64 bits.
    Load {
        /// Where to.
        dst: Subfield,
        /// The value, within the width of `dst`.
        value: u64,
    },
    /// `NXAST_STACK_PUSH`.
    StackPush(Subfield),
    /// `NXAST_STACK_POP`.
    StackPop(Subfield),
    /// `NXAST_RESUBMIT`, `NXAST_RESUBMIT_TABLE` or `NXAST_RESUBMIT_TABLE_CT`: look the packet up again.
    Resubmit {
        /// Ingress port for the look-up; `None` keeps the packet's own.
        in_port: Option<OfPort>,
        /// Table; `None` is the current one.
        table: Option<u8>,
        /// Look up with the fields of the connection's original direction.
        with_ct: bool,
    },
    /// `NXAST_CT`: connection tracking.
    Ct(Box<Ct>),
    /// `NXAST_CT_CLEAR`.
    CtClear,
    /// `NXAST_NAT` that is not the first action within a [`Ct`]; the first one is its `nat`.
    Nat(Box<Nat>),
    /// `NXAST_CONJUNCTION`.
    Conjunction {
        /// Value of `conj_id` once every clause has matched.
        id: u32,
        /// Which clause this flow is part of, from 0 (the text counts from 1).
        clause: u8,
        /// How many clauses there are, 2 to 64.
        n_clauses: u8,
    },
    /// `NXAST_LEARN`, `NXAST_LEARN2`.
    Learn(Box<Learn>),
    /// `NXAST_NOTE`: bytes that do nothing. The wire pads with zeros to 6, 14, 22, ... bytes.
    Note(Vec<u8>),
    /// `NXAST_MULTIPATH`.
    Multipath(Multipath),
    /// `NXAST_BUNDLE` or `NXAST_BUNDLE_LOAD`.
    Bundle(Box<BundleAction>),
    /// `NXAST_FIN_TIMEOUT`: shorter timeouts once TCP has seen FIN or RST.
    FinTimeout {
        /// Idle timeout in seconds; 0 leaves it.
        idle: u16,
        /// Hard timeout in seconds; 0 leaves it.
        hard: u16,
    },
    /// `OFPAT_SET_QUEUE`.
    SetQueue(u32),
    /// `NXAST_POP_QUEUE`.
    PopQueue,
    /// `NXAST_SET_TUNNEL` or, above 32 bits, `NXAST_SET_TUNNEL64`.
    SetTunnel(u64),
    /// `OFPAT_DEC_NW_TTL`.
    DecTtl,
    /// `NXAST_DEC_TTL_CNT_IDS`: tell these controllers when the TTL is exceeded.
    DecTtlCntIds(Vec<u16>),
    /// `OFPAT_SET_NW_TTL`.
    SetIpTtl(u8),
    /// `OFPAT_SET_MPLS_TTL`.
    SetMplsTtl(u8),
    /// `OFPAT_DEC_MPLS_TTL`.
    DecMplsTtl,
    /// `OFPAT_COPY_TTL_OUT`.
    CopyTtlOut,
    /// `OFPAT_COPY_TTL_IN`.
    CopyTtlIn,
    /// `OFPAT_PUSH_VLAN` with an Ethernet type, 0x8100 or 0x88a8.
    PushVlan(u16),
    /// `OFPAT_POP_VLAN`.
    PopVlan,
    /// `OFPAT_PUSH_MPLS` with an Ethernet type, 0x8847 or 0x8848.
    PushMpls(u16),
    /// `OFPAT_POP_MPLS` with the Ethernet type of what is below.
    PopMpls(u16),
    /// `OFPAT_PUSH_PBB` with an Ethernet type.
    PushPbb(u16),
    /// `OFPAT_POP_PBB`.
    PopPbb,
    /// `NXAST_SAMPLE` to `NXAST_SAMPLE3`: IPFIX.
    Sample(Sample),
    /// `NXAST_CLONE`: do these, then go on with the packet as it was.
    Clone(Vec<Action>),
    /// `NXAST_CHECK_PKT_LARGER`.
    CheckPktLarger {
        /// One bit, set if the packet is longer than `len`.
        dst: Subfield,
        /// Bytes.
        len: u16,
    },
    /// `NXAST_ENCAP`.
    Encap(Encap),
    /// `NXAST_DECAP`.
    Decap(Option<PacketType>),
    /// `NXAST_DEC_NSH_TTL`.
    DecNshTtl,
    /// `NXAST_DELETE_FIELD` of a tunnel option.
    DeleteField(Field),
    /// `NXAST_EXIT`: no further actions, not even those of callers.
    Exit,
    /// An action that we don't know, with its header.
    Unknown {
        /// Type; 0xffff for an experimenter's.
        kind: u16,
        /// All of its bytes, header included.
        raw: Vec<u8>,
    },
}

// A node keeps tens of thousands of flows: what is large and rare goes into a box.
const _: () = assert!(size_of::<Action>() <= 48);

/// A packet to the controller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Controller {
    /// Bytes of the packet to send; 0xffff (`OFPCML_NO_BUFFER`) is all of them.
    pub max_len: u16,
    /// Which controller, see `NXT_SET_CONTROLLER_ID`; 0 is the default one.
    pub controller_id: u16,
    /// `OFPR_*` to give as the reason; 1 is "action".
    pub reason: u8,
    /// Bytes to hand back in the packet-in.
    pub userdata: Vec<u8>,
    /// Whether the pipeline pauses until the controller resumes it.
    pub pause: bool,
    /// Meter to limit the rate with.
    pub meter_id: Option<u32>,
}

impl Controller {
    /// Whether OpenFlow's own output action can say all of it.
    pub fn is_plain(&self) -> bool {
        *self == Controller { max_len: self.max_len, ..Controller::default() }
    }
}

impl Default for Controller {
    fn default() -> Self {
        Controller {
            max_len: 0xffff,
            controller_id: 0,
            reason: 1,
            userdata: Vec::new(),
            pause: false,
            meter_id: None,
        }
    }
}

/// `NXAST_CT`: send the packet through connection tracking.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ct {
    /// Commit the connection.
    pub commit: bool,
    /// Commit it in this direction even if the other was first.
    pub force: bool,
    /// Go on in this table with the connection's state in the `ct_*` fields.
    pub recirc_table: Option<u8>,
    /// The zone.
    pub zone: CtZone,
    /// Application layer gateway by port: 0 none, 21 FTP, 69 TFTP.
    pub alg: u16,
    /// Address translation.
    pub nat: Option<Nat>,
    /// Actions on the connection: set-field and move to `ct_mark` and `ct_label`.
    pub exec: Vec<Action>,
}

/// The connection tracking zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CtZone {
    /// A number.
    Immediate(u16),
    /// 16 bits of a field.
    Field(Subfield),
}

impl Default for CtZone {
    fn default() -> Self {
        CtZone::Immediate(0)
    }
}

impl From<u16> for CtZone {
    fn from(zone: u16) -> Self {
        CtZone::Immediate(zone)
    }
}

/// `NXAST_NAT`, within a [`Ct`].
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nat {
    /// What to translate; `None` follows the connection's existing translation.
    pub kind: Option<NatKind>,
    /// First and last address.
    pub addresses: Option<(IpAddr, Option<IpAddr>)>,
    /// First and last port.
    pub ports: Option<(u16, Option<u16>)>,
    /// Keep the mapping over restarts.
    pub persistent: bool,
    /// Choose the port by a hash.
    pub hash: bool,
    /// Choose the port at random.
    pub random: bool,
}

/// Direction of a [`Nat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NatKind {
    /// Source address.
    Src,
    /// Destination address.
    Dst,
}

/// `NXAST_LEARN`: add a flow that is made from the packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Learn {
    /// Idle timeout in seconds.
    pub idle_timeout: u16,
    /// Hard timeout in seconds.
    pub hard_timeout: u16,
    /// Priority of the learned flow.
    pub priority: u16,
    /// Cookie of the learned flow.
    pub cookie: u64,
    /// Table of the learned flow.
    pub table: u8,
    /// `fin_timeout` of the learned flow: idle.
    pub fin_idle_timeout: u16,
    /// `fin_timeout` of the learned flow: hard.
    pub fin_hard_timeout: u16,
    /// `NX_LEARN_F_SEND_FLOW_REM`.
    pub send_flow_rem: bool,
    /// `NX_LEARN_F_DELETE_LEARNED`: learned flows go with this one.
    pub delete_learned: bool,
    /// At most so many learned flows; 0 is no limit.
    pub limit: u32,
    /// Where to write 1 if the flow was learned, 0 if the limit forbade it.
    pub result_dst: Option<Subfield>,
    /// How the flow is made.
    pub specs: Vec<LearnSpec>,
}

impl Default for Learn {
    /// What `learn()` means in text: table 1, the default priority.
    fn default() -> Self {
        Learn {
            idle_timeout: 0,
            hard_timeout: 0,
            priority: crate::Flow::DEFAULT_PRIORITY,
            cookie: 0,
            table: 1,
            fin_idle_timeout: 0,
            fin_hard_timeout: 0,
            send_flow_rem: false,
            delete_learned: false,
            limit: 0,
            result_dst: None,
            specs: Vec::new(),
        }
    }
}

/// One step in making a learned flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LearnSpec {
    /// Where the bits come from.
    pub src: LearnSource,
    /// What becomes of them.
    pub dst: LearnDestination,
    /// How many bits.
    pub n_bits: u16,
}

/// Where a [`LearnSpec`] takes bits from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LearnSource {
    /// The packet.
    Field(Subfield),
    /// A constant.
    Value(u128),
}

/// What a [`LearnSpec`] does with the bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LearnDestination {
    /// The learned flow matches them.
    Match(Subfield),
    /// The learned flow loads them.
    Load(Subfield),
    /// The learned flow outputs to the port that they name.
    Output,
}

/// `NXAST_MULTIPATH`: hash fields to choose a link, store its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Multipath {
    /// `NX_HASH_FIELDS_*`.
    pub fields: u16,
    /// Mixed into the hash.
    pub basis: u16,
    /// `NX_MP_ALG_*`.
    pub algorithm: u16,
    /// Number of links less one.
    pub max_link: u16,
    /// Parameter of the algorithm.
    pub arg: u32,
    /// Where the link number goes.
    pub dst: Subfield,
}

/// `NXAST_BUNDLE`: hash fields to choose a live member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundleAction {
    /// `NX_BD_ALG_*`: 0 active-backup, 1 highest random weight.
    pub algorithm: u16,
    /// `NX_HASH_FIELDS_*`.
    pub fields: u16,
    /// Mixed into the hash.
    pub basis: u16,
    /// Candidate ports.
    pub members: Vec<OfPort>,
    /// Where to store the port; `None` outputs to it.
    pub dst: Option<Subfield>,
}

/// `NXAST_SAMPLE`: sample into an IPFIX collector set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sample {
    /// Fraction of packets, of 65535.
    pub probability: u16,
    /// Which collectors.
    pub collector_set_id: u32,
    /// Observation domain.
    pub obs_domain_id: u32,
    /// Observation point.
    pub obs_point_id: u32,
    /// Egress port that stands for tunnels; `None` for plain `NXAST_SAMPLE`.
    pub sampling_port: Option<OfPort>,
    /// Direction (`NXAST_SAMPLE3`).
    pub direction: SampleDirection,
}

/// Direction of a [`Sample`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SampleDirection {
    /// Not said.
    #[default]
    Unspecified,
    /// On the way in.
    Ingress,
    /// On the way out.
    Egress,
}

/// `NXAST_ENCAP`: push a header.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Encap {
    /// What to push.
    pub packet_type: PacketType,
    /// `hdr_size` of the message, in bytes; 0 is the default.
    pub header_size: u16,
    /// Properties, as they stand on the wire.
    pub properties: Vec<EncapProperty>,
}

/// A property of an [`Encap`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EncapProperty {
    /// `OFPPPC_*`: 4 is NSH.
    pub class: u16,
    /// Type within the class.
    pub kind: u8,
    /// Value.
    pub value: Vec<u8>,
}

/// Namespace and type of a header (OF1.5 §7.2.3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketType {
    /// 0 ONF, 1 Ethernet type.
    pub namespace: u16,
    /// Type in that namespace.
    pub kind: u16,
}
