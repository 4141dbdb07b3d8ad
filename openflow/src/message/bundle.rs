//! Bundles: changes that take effect together or not at all (ONF extension 230; OF1.4 §7.3.9).

use super::{Envelope, ErrorCode, Message, put_message, take_message};
use crate::wire::{Reader, Result, Writer};

/// `ONFT_BUNDLE_CONTROL`.
pub(super) const CONTROL: u32 = 2300;
/// `ONFT_BUNDLE_ADD_MESSAGE`.
pub(super) const ADD_MESSAGE: u32 = 2301;

/// Opens, closes, commits or discards a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BundleControl {
    /// Number of the bundle, chosen by the controller.
    pub id: u32,
    /// What to do, or that it was done.
    pub kind: BundleControlType,
    /// How it takes effect; the same in all messages of a bundle.
    pub flags: BundleFlags,
}

/// `ONF_BCT_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundleControlType(pub u16);

impl BundleControlType {
    /// Start a bundle.
    pub const OPEN_REQUEST: BundleControlType = BundleControlType(0);
    /// It is started.
    pub const OPEN_REPLY: BundleControlType = BundleControlType(1);
    /// Nothing more will be added.
    pub const CLOSE_REQUEST: BundleControlType = BundleControlType(2);
    /// It is closed.
    pub const CLOSE_REPLY: BundleControlType = BundleControlType(3);
    /// Apply it.
    pub const COMMIT_REQUEST: BundleControlType = BundleControlType(4);
    /// It is applied.
    pub const COMMIT_REPLY: BundleControlType = BundleControlType(5);
    /// Forget it.
    pub const DISCARD_REQUEST: BundleControlType = BundleControlType(6);
    /// It is forgotten.
    pub const DISCARD_REPLY: BundleControlType = BundleControlType(7);
}

/// `ONF_BF_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundleFlags(pub u16);

impl BundleFlags {
    /// All of it or nothing.
    pub const ATOMIC: BundleFlags = BundleFlags(1);
    /// In the order in which it was added.
    pub const ORDERED: BundleFlags = BundleFlags(2);
    /// Both, as `ovs-ofctl --bundle` asks for.
    pub const ATOMIC_ORDERED: BundleFlags = BundleFlags(3);
}

impl BundleControl {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        w.u32(self.id);
        w.u16(self.kind.0);
        w.u16(self.flags.0);
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        r.enter("onf_bundle_control");
        let control =
            BundleControl { id: r.u32()?, kind: BundleControlType(r.u16()?), flags: BundleFlags(r.u16()?) };
        // Properties: none is defined.
        r.rest();
        Ok(control)
    }
}

/// A message that waits for its bundle to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleAdd {
    /// Number of the bundle.
    pub id: u32,
    /// As when the bundle was opened.
    pub flags: BundleFlags,
    /// Transaction id of the message; the same as that of the message around it.
    pub xid: u32,
    /// A flow-mod, group-mod, port-mod or packet-out.
    pub message: Box<Message>,
}

impl BundleAdd {
    pub(super) fn put(&self, w: &mut Writer<'_>) {
        put_header(w, self.id, self.flags);
        put_message(w, super::VERSION, self.xid, &self.message);
    }

    pub(super) fn take(r: &mut Reader<'_>, depth: u8) -> Result<Self> {
        r.enter("onf_bundle_add");
        let id = r.u32()?;
        r.skip(2)?;
        let flags = BundleFlags(r.u16()?);
        let at = *r;
        let Envelope { version, xid, message } = take_message(r, depth)?;
        if version != super::VERSION {
            return Err(at.invalid(ErrorCode::BRC_BAD_VERSION));
        }
        r.rest();
        Ok(BundleAdd { id, flags, xid, message: Box::new(message) })
    }
}

fn put_header(w: &mut Writer<'_>, id: u32, flags: BundleFlags) {
    w.u32(id);
    w.zeros(2);
    w.u16(flags.0);
}

/// Encodes a bundle-add around a change, without making a [`Message`] of it first.
#[cfg(feature = "tokio")]
pub(crate) fn encode_bundle_add(
    buffer: &mut bytes::BytesMut,
    id: u32,
    flags: BundleFlags,
    xid: u32,
    modification: &crate::Modification,
) -> std::result::Result<(), crate::EncodeError> {
    use super::{HEADER_LEN, MessageType, ONF, VERSION};
    use crate::Modification;
    use crate::codec::{flow::put_flow_mod, group::put_group_mod};

    let start = buffer.len();
    let mut w = Writer::new(buffer);
    let header = |w: &mut Writer<'_>, kind: MessageType| {
        w.u8(VERSION);
        w.u8(kind.0);
        w.u16(0);
        w.u32(xid);
    };
    header(&mut w, MessageType::EXPERIMENTER);
    w.u32(ONF);
    w.u32(ADD_MESSAGE);
    put_header(&mut w, id, flags);
    let inner = w.len();
    debug_assert_eq!(inner, start + HEADER_LEN + 16);
    match modification {
        Modification::Flow(flow_mod) => {
            header(&mut w, MessageType::FLOW_MOD);
            put_flow_mod(&mut w, flow_mod);
        }
        Modification::Group(group_mod) => {
            header(&mut w, MessageType::GROUP_MOD);
            put_group_mod(&mut w, group_mod);
        }
    }
    w.patch_len(inner + 2, inner, "ofp_header");
    w.patch_len(start + 2, start, "onf_bundle_add");
    let result = w.finish();
    if result.is_err() {
        buffer.truncate(start);
    }
    result
}
