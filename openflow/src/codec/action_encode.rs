//! Writing actions.

use std::net::IpAddr;

use super::action_kind::{
    CT_NO_TABLE, DECAP_NEXT, ENCAP_NSH_TLV, controller_prop, ct_flag, nat_flag, nat_range, nxast, ofpat,
};
use super::learn::put_learn;
use super::oxm::{field_len, is_settable, put_field, put_header, sent_header};
use crate::action::{
    Action, BundleAction, Controller, Ct, CtZone, Encap, Multipath, Nat, NatKind, Sample, SampleDirection,
    Subfield,
};
use crate::field::Field;
use crate::message::NICIRA;
use crate::port::OfPort;
use crate::text::{canonical_set_field, note_len};
use crate::wire::Writer;

pub(crate) fn put_actions(w: &mut Writer<'_>, actions: &[Action]) {
    for action in actions {
        put_action(w, action);
    }
}

/// Type, length, and then whatever `body` writes, padded to 8 bytes.
fn standard(w: &mut Writer<'_>, kind: u16, body: impl FnOnce(&mut Writer<'_>)) {
    let start = w.len();
    w.u16(kind);
    w.u16(0);
    body(w);
    w.pad8(start);
    w.patch_len(start + 2, start, "ofp_action");
}

/// The same with Nicira's header: 10 bytes are written when `body` begins.
fn nicira(w: &mut Writer<'_>, subtype: u16, body: impl FnOnce(&mut Writer<'_>)) {
    standard(w, ofpat::EXPERIMENTER, |w| {
        w.u32(NICIRA);
        w.u16(subtype);
        body(w);
    });
}

/// Offset and size of a range of bits in 16 bits.
fn ofs_nbits(subfield: &Subfield) -> u16 {
    subfield.ofs << 6 | (subfield.n_bits.wrapping_sub(1) & 0x3f)
}

/// A port in the 16 bits that Nicira's actions have.
pub(crate) fn port16(port: OfPort) -> u16 {
    port.0 as u16
}

fn put_action(w: &mut Writer<'_>, action: &Action) {
    match action {
        Action::Output(port) => {
            put_output(w, *port, if *port == OfPort::CONTROLLER { 0xffff } else { 0 });
        }
        Action::Controller(controller) => put_controller(w, controller),
        Action::OutputReg { src, max_len } => put_output_reg(w, src, *max_len),
        Action::OutputTrunc { port, max_len } => nicira(w, nxast::OUTPUT_TRUNC, |w| {
            w.u16(port16(*port));
            w.u32(*max_len);
        }),
        Action::Group(id) => standard(w, ofpat::GROUP, |w| w.u32(*id)),
        Action::SetField { field, value, mask } => put_set_field(w, *field, *value, *mask),
        Action::SetFieldWide { field, value, mask } => put_set_field_wide(w, *field, value, mask.as_deref()),
        Action::Move { src, dst } => nicira(w, nxast::REG_MOVE, |w| {
            w.u16(src.n_bits);
            w.u16(src.ofs);
            w.u16(dst.ofs);
            put_field(w, src.field);
            put_field(w, dst.field);
        }),
        Action::Load { dst, value } => put_load(w, dst, *value),
        Action::StackPush(subfield) => put_stack(w, nxast::STACK_PUSH, subfield),
        Action::StackPop(subfield) => put_stack(w, nxast::STACK_POP, subfield),
        Action::Resubmit { in_port, table, with_ct } => put_resubmit(w, *in_port, *table, *with_ct),
        Action::Ct(ct) => put_ct(w, ct),
        Action::CtClear => nicira(w, nxast::CT_CLEAR, |_| {}),
        Action::Nat(nat) => put_nat(w, nat),
        Action::Conjunction { id, clause, n_clauses } => nicira(w, nxast::CONJUNCTION, |w| {
            w.u8(*clause);
            w.u8(*n_clauses);
            w.u32(*id);
        }),
        Action::Learn(learn) => {
            let subtype =
                if learn.limit != 0 || learn.result_dst.is_some() { nxast::LEARN2 } else { nxast::LEARN };
            nicira(w, subtype, |w| put_learn(w, learn, subtype == nxast::LEARN2));
        }
        Action::Note(bytes) => nicira(w, nxast::NOTE, |w| {
            w.bytes(bytes);
            w.zeros(note_len(bytes.len()) - bytes.len());
        }),
        Action::Multipath(multipath) => put_multipath(w, multipath),
        Action::Bundle(bundle) => put_bundle(w, bundle),
        Action::FinTimeout { idle, hard } => nicira(w, nxast::FIN_TIMEOUT, |w| {
            w.u16(*idle);
            w.u16(*hard);
        }),
        Action::SetQueue(id) => standard(w, ofpat::SET_QUEUE, |w| w.u32(*id)),
        Action::PopQueue => nicira(w, nxast::POP_QUEUE, |_| {}),
        Action::SetTunnel(id) => match u32::try_from(*id) {
            Ok(id) => nicira(w, nxast::SET_TUNNEL, |w| {
                w.zeros(2);
                w.u32(id);
            }),
            Err(_) => nicira(w, nxast::SET_TUNNEL64, |w| {
                w.zeros(6);
                w.u64(*id);
            }),
        },
        Action::DecTtl => standard(w, ofpat::DEC_NW_TTL, |w| w.zeros(4)),
        Action::DecTtlCntIds(ids) => nicira(w, nxast::DEC_TTL_CNT_IDS, |w| {
            w.u16(ids.len() as u16);
            w.zeros(4);
            ids.iter().for_each(|id| w.u16(*id));
        }),
        Action::SetIpTtl(ttl) => standard(w, ofpat::SET_NW_TTL, |w| w.u8(*ttl)),
        Action::SetMplsTtl(ttl) => standard(w, ofpat::SET_MPLS_TTL, |w| w.u8(*ttl)),
        Action::DecMplsTtl => standard(w, ofpat::DEC_MPLS_TTL, |w| w.zeros(4)),
        Action::CopyTtlOut => standard(w, ofpat::COPY_TTL_OUT, |w| w.zeros(4)),
        Action::CopyTtlIn => standard(w, ofpat::COPY_TTL_IN, |w| w.zeros(4)),
        Action::PushVlan(ethertype) => standard(w, ofpat::PUSH_VLAN, |w| w.u16(*ethertype)),
        Action::PopVlan => standard(w, ofpat::POP_VLAN, |w| w.zeros(4)),
        Action::PushMpls(ethertype) => standard(w, ofpat::PUSH_MPLS, |w| w.u16(*ethertype)),
        Action::PopMpls(ethertype) => standard(w, ofpat::POP_MPLS, |w| w.u16(*ethertype)),
        Action::PushPbb(ethertype) => standard(w, ofpat::PUSH_PBB, |w| w.u16(*ethertype)),
        Action::PopPbb => standard(w, ofpat::POP_PBB, |w| w.zeros(4)),
        Action::Sample(sample) => put_sample(w, sample),
        Action::Clone(actions) => nicira(w, nxast::CLONE, |w| {
            w.zeros(6);
            put_actions(w, actions);
        }),
        Action::CheckPktLarger { dst, len } => nicira(w, nxast::CHECK_PKT_LARGER, |w| {
            w.u16(*len);
            w.u16(dst.ofs);
            put_field(w, dst.field);
            w.zeros(10 - field_len(dst.field));
        }),
        Action::Encap(encap) => put_encap(w, encap),
        Action::Decap(kind) => nicira(w, nxast::DECAP, |w| {
            w.zeros(2);
            w.u32(kind.map_or(DECAP_NEXT, |k| u32::from(k.namespace) << 16 | u32::from(k.kind)));
        }),
        Action::DecNshTtl => nicira(w, nxast::DEC_NSH_TTL, |_| {}),
        Action::DeleteField(field) => nicira(w, nxast::DELETE_FIELD, |w| {
            put_field(w, *field);
            w.zeros(14 - field_len(*field));
        }),
        Action::Exit => nicira(w, nxast::EXIT, |_| {}),
        Action::Unknown { raw, .. } => w.bytes(raw),
    }
}

fn put_output(w: &mut Writer<'_>, port: OfPort, max_len: u16) {
    standard(w, ofpat::OUTPUT, |w| {
        w.u32(port.0);
        w.u16(max_len);
        w.zeros(6);
    });
}

fn put_controller(w: &mut Writer<'_>, c: &Controller) {
    if c.is_plain() {
        put_output(w, OfPort::CONTROLLER, c.max_len);
    } else if c.userdata.is_empty() && !c.pause && c.meter_id.is_none() {
        nicira(w, nxast::CONTROLLER, |w| {
            w.u16(c.max_len);
            w.u16(c.controller_id);
            w.u8(c.reason);
        });
    } else {
        nicira(w, nxast::CONTROLLER2, |w| {
            w.zeros(6);
            let mut property = |kind: u16, value: &[u8]| {
                w.u16(kind);
                let len = value.len() + 4;
                let at = w.len();
                w.u16(0);
                w.patch_u16(at, len, "nx_action_controller2_prop");
                w.bytes(value);
                w.zeros(len.next_multiple_of(8) - len);
            };
            if c.max_len != 0xffff {
                property(controller_prop::MAX_LEN, &c.max_len.to_be_bytes());
            }
            if c.controller_id != 0 {
                property(controller_prop::CONTROLLER_ID, &c.controller_id.to_be_bytes());
            }
            if c.reason != 1 {
                property(controller_prop::REASON, &[c.reason]);
            }
            if !c.userdata.is_empty() {
                property(controller_prop::USERDATA, &c.userdata);
            }
            if c.pause {
                property(controller_prop::PAUSE, &[]);
            }
            if let Some(id) = c.meter_id {
                property(controller_prop::METER_ID, &id.to_be_bytes());
            }
        });
    }
}

fn put_output_reg(w: &mut Writer<'_>, src: &Subfield, max_len: u16) {
    if field_len(src.field) == 4 {
        nicira(w, nxast::OUTPUT_REG, |w| {
            w.u16(ofs_nbits(src));
            put_field(w, src.field);
            w.u16(max_len);
            w.zeros(6);
        });
    } else {
        nicira(w, nxast::OUTPUT_REG2, |w| {
            w.u16(ofs_nbits(src));
            w.u16(max_len);
            put_field(w, src.field);
            w.zeros(2);
        });
    }
}

fn put_set_field(w: &mut Writer<'_>, field: Field, value: u128, mask: u128) {
    if mask & field.full_mask() != field.full_mask() {
        // OpenFlow 1.3 has no mask here; Open vSwitch writes a load for each run of ones.
        return put_actions(w, &canonical_set_field(field, value, mask));
    }
    let bytes = field.bytes();
    let put = |w: &mut Writer<'_>| {
        put_header(w, sent_header(field), false, bytes);
        w.number(value, bytes);
    };
    match is_settable(field, value) {
        true => standard(w, ofpat::SET_FIELD, put),
        false => nicira(w, nxast::REG_LOAD2, put),
    }
}

fn put_set_field_wide(w: &mut Writer<'_>, field: Field, value: &[u8], mask: Option<&[u8]>) {
    match mask {
        None => standard(w, ofpat::SET_FIELD, |w| {
            put_header(w, sent_header(field), false, value.len());
            w.bytes(value);
        }),
        Some(mask) => nicira(w, nxast::REG_LOAD2, |w| {
            put_header(w, sent_header(field), true, value.len() + mask.len());
            w.bytes(value);
            w.bytes(mask);
        }),
    }
}

fn put_load(w: &mut Writer<'_>, dst: &Subfield, value: u64) {
    if field_len(dst.field) == 4 {
        return nicira(w, nxast::REG_LOAD, |w| {
            w.u16(ofs_nbits(dst));
            put_field(w, dst.field);
            w.u64(value);
        });
    }
    // A field with an experimenter header does not fit into `NXAST_REG_LOAD`.
    let (value, mask) = (u128::from(value) << dst.ofs, crate::field::ones(dst.n_bits) << dst.ofs);
    let bytes = dst.field.bytes();
    nicira(w, nxast::REG_LOAD2, |w| {
        let masked = mask != dst.field.full_mask();
        put_header(w, sent_header(dst.field), masked, if masked { bytes * 2 } else { bytes });
        w.number(value, bytes);
        if masked {
            w.number(mask, bytes);
        }
    });
}

fn put_stack(w: &mut Writer<'_>, subtype: u16, subfield: &Subfield) {
    nicira(w, subtype, |w| {
        w.u16(subfield.ofs);
        put_field(w, subfield.field);
        w.u16(subfield.n_bits);
        w.zeros(if field_len(subfield.field) == 4 { 6 } else { 2 });
    });
}

fn put_resubmit(w: &mut Writer<'_>, in_port: Option<OfPort>, table: Option<u8>, with_ct: bool) {
    let port = port16(in_port.unwrap_or(OfPort::IN_PORT));
    // `NXAST_RESUBMIT` says no more than `NXAST_RESUBMIT_TABLE` with table 255.
    let subtype = if with_ct { nxast::RESUBMIT_TABLE_CT } else { nxast::RESUBMIT_TABLE };
    nicira(w, subtype, |w| {
        w.u16(port);
        w.u8(table.unwrap_or(0xff));
        w.zeros(3);
    });
}

fn put_ct(w: &mut Writer<'_>, ct: &Ct) {
    nicira(w, nxast::CT, |w| {
        let mut flags = 0;
        if ct.commit {
            flags |= ct_flag::COMMIT;
        }
        if ct.force {
            flags |= ct_flag::FORCE;
        }
        w.u16(flags);
        match &ct.zone {
            CtZone::Immediate(zone) => {
                w.u32(0);
                w.u16(*zone);
            }
            CtZone::Field(subfield) => {
                put_field(w, subfield.field);
                w.u16(ofs_nbits(subfield));
            }
        }
        w.u8(ct.recirc_table.unwrap_or(CT_NO_TABLE));
        w.zeros(3);
        w.u16(ct.alg);
        if let Some(nat) = &ct.nat {
            put_nat(w, nat);
        }
        put_actions(w, &ct.exec);
    });
}

fn put_nat(w: &mut Writer<'_>, nat: &Nat) {
    nicira(w, nxast::NAT, |w| {
        let kind = match nat.kind {
            None => 0,
            Some(NatKind::Src) => nat_flag::SRC,
            Some(NatKind::Dst) => nat_flag::DST,
        };
        let flags = [
            (nat.persistent, nat_flag::PERSISTENT),
            (nat.hash, nat_flag::HASH),
            (nat.random, nat_flag::RANDOM),
        ];
        w.zeros(2);
        w.u16(flags.into_iter().filter(|(on, _)| *on).fold(kind, |all, (_, flag)| all | flag));
        let addresses: [Option<IpAddr>; 2] = match nat.addresses {
            None => [None, None],
            Some((first, last)) => [Some(first), last],
        };
        let ports = nat.ports.map_or([None, None], |(first, last)| [Some(first), last]);
        let mut present = 0;
        for (address, v4, v6) in [
            (addresses[0], nat_range::IPV4_MIN, nat_range::IPV6_MIN),
            (addresses[1], nat_range::IPV4_MAX, nat_range::IPV6_MAX),
        ] {
            present |= address.map_or(0, |a| if a.is_ipv4() { v4 } else { v6 });
        }
        for (port, bit) in ports.into_iter().zip([nat_range::PORT_MIN, nat_range::PORT_MAX]) {
            present |= port.map_or(0, |_| bit);
        }
        w.u16(present);
        for address in addresses.into_iter().flatten() {
            match address {
                IpAddr::V4(v4) => w.bytes(&v4.octets()),
                IpAddr::V6(v6) => w.bytes(&v6.octets()),
            }
        }
        ports.into_iter().flatten().for_each(|port| w.u16(port));
    });
}

fn put_multipath(w: &mut Writer<'_>, m: &Multipath) {
    nicira(w, nxast::MULTIPATH, |w| {
        w.u16(m.fields);
        w.u16(m.basis);
        w.zeros(2);
        w.u16(m.algorithm);
        w.u16(m.max_link);
        w.u32(m.arg);
        w.zeros(2);
        w.u16(ofs_nbits(&m.dst));
        put_field(w, m.dst.field);
    });
}

/// NXM header of `in_port`, which stands for "ports" as the kind of a bundle's members.
pub(crate) const BUNDLE_MEMBER_PORT: u32 = 0x0000_0002;

fn put_bundle(w: &mut Writer<'_>, b: &BundleAction) {
    let subtype = if b.dst.is_some() { nxast::BUNDLE_LOAD } else { nxast::BUNDLE };
    nicira(w, subtype, |w| {
        w.u16(b.algorithm);
        w.u16(b.fields);
        w.u16(b.basis);
        w.u32(BUNDLE_MEMBER_PORT);
        w.u16(b.members.len() as u16);
        match &b.dst {
            None => w.zeros(6),
            Some(dst) => {
                w.u16(ofs_nbits(dst));
                put_field(w, dst.field);
            }
        }
        w.zeros(4);
        b.members.iter().for_each(|port| w.u16(port16(*port)));
    });
}

fn put_sample(w: &mut Writer<'_>, s: &Sample) {
    let subtype = match (s.sampling_port, s.direction) {
        (None, SampleDirection::Unspecified) => nxast::SAMPLE,
        (Some(_), SampleDirection::Unspecified) => nxast::SAMPLE2,
        _ => nxast::SAMPLE3,
    };
    nicira(w, subtype, |w| {
        w.u16(s.probability);
        w.u32(s.collector_set_id);
        w.u32(s.obs_domain_id);
        w.u32(s.obs_point_id);
        if subtype == nxast::SAMPLE {
            return;
        }
        w.u16(port16(s.sampling_port.unwrap_or(OfPort::ANY)));
        w.u8(match s.direction {
            SampleDirection::Unspecified => 0,
            SampleDirection::Ingress => 1,
            SampleDirection::Egress => 2,
        });
        w.zeros(5);
    });
}

fn put_encap(w: &mut Writer<'_>, encap: &Encap) {
    nicira(w, nxast::ENCAP, |w| {
        w.u16(encap.header_size);
        w.u16(encap.packet_type.namespace);
        w.u16(encap.packet_type.kind);
        for property in &encap.properties {
            let len = property.value.len() + 4;
            // See `ENCAP_NSH_TLV`.
            let is_tlv = (property.class, property.kind) == ENCAP_NSH_TLV;
            let shown = if is_tlv { len.next_multiple_of(8) } else { len };
            w.u16(property.class);
            w.u8(property.kind);
            w.u8(u8::try_from(shown).unwrap_or(u8::MAX));
            w.bytes(&property.value);
            w.zeros(len.next_multiple_of(8) - len);
        }
    });
}
