//! Match fields: one registry of every OXM and NXM field, and [`Field`], an index into it.

use std::fmt;

mod registry;

use registry::{FIELDS, N_FIELDS, N_TUN_METADATA, TUN_METADATA_BASE};

/// A match field of OpenFlow 1.3 or of Open vSwitch's extensions.
///
/// Ordered as fields go onto the wire: a field comes after those that it requires.
///
/// ```
/// use openflow::Field;
/// assert_eq!(Field::by_name("nw_src"), Some(Field::IPV4_SRC));
/// assert_eq!(Field::REG0.width(), 32);
/// assert_eq!(Field::TUN_ID.to_string(), "tun_id");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Field(u8);

/// What the registry knows of a field.
#[derive(Clone, Copy, Debug)]
pub struct FieldInfo {
    /// Name in `ovs-ofctl` syntax.
    pub name: &'static str,
    /// Other names that the parser accepts.
    pub aliases: &'static [&'static str],
    /// Significant bits. A `tun_metadata` field has the most that a Geneve option can carry.
    pub width: u16,
    /// Bytes of the value on the wire; a `tun_metadata` field may be shorter.
    pub bytes: u8,
    /// How values print.
    pub format: Format,
    /// Whether a mask other than all ones is allowed.
    pub maskable: bool,
    /// Whether actions may set it.
    pub writable: bool,
    /// What else a match must contain (OF1.3.5 §7.2.3.8).
    pub prerequisite: Prerequisite,
    /// OXM and NXM headers; the first is the one sent under OpenFlow 1.3.
    pub headers: &'static [Header],
    /// Names of `headers` in the same order, as `load` and `move` take them.
    pub wire_names: &'static [&'static str],
}

/// Class and number of an OXM header, without mask bit and length (OF1.3.5 §7.2.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// `oxm_class`.
    pub class: u16,
    /// `oxm_field`, 7 bits.
    pub field: u8,
    /// Experimenter id, for class 0xffff; otherwise 0.
    pub experimenter: u32,
}

impl Header {
    /// `OFPXMC_EXPERIMENTER`: the header is followed by an experimenter id.
    pub const EXPERIMENTER_CLASS: u16 = 0xffff;

    const fn basic(class: u16, field: u8) -> Self {
        Header { class, field, experimenter: 0 }
    }

    const fn experimenter(experimenter: u32, field: u8) -> Self {
        Header { class: Self::EXPERIMENTER_CLASS, field, experimenter }
    }
}

/// How the values of a field print and parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Decimal number.
    Decimal,
    /// Hexadecimal number with `0x`.
    Hexadecimal,
    /// `00:00:0a:80:00:02`.
    Ethernet,
    /// `10.128.0.1`, with `/23` or `/255.0.255.0`.
    Ipv4,
    /// `fe80::1`, with `/64` or a mask as an address.
    Ipv6,
    /// Port number or reserved name (`LOCAL`).
    Port,
    /// `+trk-new`, `est|trk`.
    CtState,
    /// `+syn-ack`.
    TcpFlags,
    /// `+oam`.
    TunnelFlags,
    /// `no`, `yes`, `first`, `later`, `not_later`.
    Fragment,
    /// `(1,0x800)`: namespace and type.
    PacketType,
}

/// What a match must contain besides a field, before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prerequisite {
    /// Nothing.
    None,
    /// An Ethernet packet (which is what a match without `packet_type` means).
    Ethernet,
    /// A VLAN tag.
    Vlan,
    /// `eth_type` 0x88e7.
    Pbb,
    /// `eth_type` 0x8847 or 0x8848.
    Mpls,
    /// `eth_type` 0x0806 or 0x8035.
    Arp,
    /// `eth_type` 0x0800.
    Ipv4,
    /// `eth_type` 0x86dd.
    Ipv6,
    /// IPv4 or IPv6.
    Ip,
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
    /// IP protocol 132.
    Sctp,
    /// IPv4 and IP protocol 1.
    Icmp,
    /// IPv6 and IP protocol 58.
    Icmpv6,
    /// ICMPv6 type 135 or 136, code 0.
    Nd,
    /// ICMPv6 type 135, code 0.
    NdSolicit,
    /// ICMPv6 type 136, code 0.
    NdAdvert,
    /// A tracked packet: `ct_state=+trk`.
    Ct,
    /// A Network Service Header.
    Nsh,
}

impl Field {
    /// Register `regN`, for 0 to 15.
    pub fn reg(n: u8) -> Option<Field> {
        (n < 16).then(|| Field(Field::REG0.0 + n))
    }

    /// Extended register `xregN`, for 0 to 7.
    pub fn xreg(n: u8) -> Option<Field> {
        (n < 8).then(|| Field(Field::XREG0.0 + n))
    }

    /// Extended register `xxregN`, for 0 to 3.
    pub fn xxreg(n: u8) -> Option<Field> {
        (n < 4).then(|| Field(Field::XXREG0.0 + n))
    }

    /// Tunnel option `tun_metadataN`, for 0 to 63.
    pub fn tun_metadata(n: u8) -> Option<Field> {
        (usize::from(n) < N_TUN_METADATA).then(|| Field((TUN_METADATA_BASE as u8).wrapping_add(n)))
    }

    /// Everything the registry knows of this field.
    #[allow(clippy::indexing_slicing)] // Every way to make a `Field` yields an index into the registry.
    pub const fn info(self) -> &'static FieldInfo {
        &FIELDS[self.0 as usize]
    }

    /// Name in `ovs-ofctl` syntax.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// Significant bits, 1 to 992.
    #[inline]
    pub fn width(self) -> u16 {
        self.brief().width
    }

    /// The field at a position in the registry.
    pub(crate) const fn from_index(index: u8) -> Option<Field> {
        if (index as usize) < N_FIELDS { Some(Field(index)) } else { None }
    }

    /// Position in the registry.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// Whether this is `tun_metadataN`, whose values may be wider than 128 bits.
    pub fn is_tun_metadata(self) -> bool {
        usize::from(self.0) >= TUN_METADATA_BASE
    }

    /// All ones over the bits that a match may name; of a `tun_metadata` field, over 128.
    #[inline]
    pub const fn full_mask(self) -> u128 {
        self.brief().full_mask
    }

    /// Bytes of the value on the wire, as in [`FieldInfo::bytes`].
    #[inline]
    pub(crate) const fn bytes(self) -> usize {
        self.brief().bytes as usize
    }

    /// What else a match must contain.
    #[inline]
    pub(crate) fn prerequisite(self) -> Prerequisite {
        self.brief().prerequisite
    }

    #[inline]
    #[allow(clippy::indexing_slicing)] // As in `info`.
    const fn brief(self) -> &'static registry::Brief {
        &registry::BRIEFS[self.0 as usize]
    }

    /// Header and name by which Nicira's actions address the field: the NXM one if there is one.
    pub fn nxm(self) -> Option<(Header, &'static str)> {
        let info = self.info();
        let all = || info.headers.iter().copied().zip(info.wire_names.iter().copied());
        all().find(|(header, _)| header.class < 2).or_else(|| all().next())
    }

    /// The field of a name or alias in `ovs-ofctl` syntax, or of an NXM or OXM name (`NXM_NX_REG0`).
    pub fn by_name(name: &str) -> Option<Field> {
        Field::all().find(|field| {
            let info = field.info();
            info.name == name || info.aliases.contains(&name) || info.wire_names.contains(&name)
        })
    }

    /// The field of an OXM header; `experimenter` is only looked at for class 0xffff.
    #[inline]
    pub fn by_header(class: u16, field: u8, experimenter: u32) -> Option<Field> {
        registry::by_header(class, field, experimenter)
    }

    /// Every field, in wire order.
    pub fn all() -> impl Iterator<Item = Field> {
        (0..FIELDS.len()).map(|index| Field(index as u8))
    }
}

/// A mask of the low `width` bits, of 128 where it is wider.
pub(crate) const fn ones(width: u16) -> u128 {
    match width {
        0 => 0,
        1..128 => u128::MAX >> (128 - width),
        _ => u128::MAX,
    }
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
