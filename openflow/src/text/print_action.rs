//! Printing actions.

use std::fmt::{self, Write};
use std::net::IpAddr;

use super::names::{Out, display, sealed};
use super::value::{AltHex, write_value, write_wide};
use crate::action::{
    Action, BundleAction, Controller, Ct, CtZone, Encap, Learn, LearnDestination, LearnSource, LearnSpec,
    Multipath, Nat, NatKind, Sample, SampleDirection, Subfield,
};
use crate::field::Field;
use crate::flow::Flow;
use crate::port::OfPort;

/// `OFPR_*` by number (OF1.3.5 §7.4.1, and those that Open vSwitch knows from later versions).
pub(super) const REASONS: &[&str] =
    &["no_match", "action", "invalid_ttl", "action_set", "group", "packet_out"];
/// `NX_HASH_FIELDS_*` by number.
pub(super) const HASH_FIELDS: &[&str] =
    &["eth_src", "symmetric_l4", "symmetric_l3l4", "symmetric_l3l4+udp", "nw_src", "nw_dst", "symmetric_l3"];
/// `NX_MP_ALG_*` by number.
pub(super) const MULTIPATH_ALGORITHMS: &[&str] = &["modulo_n", "hash_threshold", "hrw", "iter_hash"];
/// `NX_BD_ALG_*` by number.
pub(super) const BUNDLE_ALGORITHMS: &[&str] = &["active_backup", "hrw"];
/// Headers that `encap` can push: name, namespace, type.
pub(super) const ENCAPS: &[(&str, u16, u16)] =
    &[("ethernet", 0, 0), ("nsh", 1, 0x894f), ("mpls", 1, 0x8847), ("mpls_mc", 1, 0x8848)];
/// Property class of NSH (`OFPPPC_NSH`).
pub(super) const ENCAP_CLASS_NSH: u16 = 4;

display! {
    /// As `ovs-ofctl` prints it.
    Action;
}

impl sealed::Write for Action {
    fn write(&self, f: &mut Out<'_>) -> fmt::Result {
        write_action(f, self)
    }
}

impl fmt::Display for Subfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field.nxm().map_or(self.field.name(), |(_, name)| name))?;
        match (self.ofs, self.n_bits) {
            _ if self.is_whole() => f.write_str("[]"),
            (ofs, 1) => write!(f, "[{ofs}]"),
            (ofs, n) => write!(f, "[{ofs}..{}]", u32::from(ofs) + u32::from(n) - 1),
        }
    }
}

/// Actions with commas between.
pub(crate) fn write_actions(f: &mut Out<'_>, actions: &[Action]) -> fmt::Result {
    for (n, action) in actions.iter().enumerate() {
        if n > 0 {
            f.write_char(',')?;
        }
        write_action(f, action)?;
    }
    Ok(())
}

fn bytes_in_dots(f: &mut impl Write, bytes: &[u8]) -> fmt::Result {
    for (n, byte) in bytes.iter().enumerate() {
        write!(f, "{}{byte:02x}", if n > 0 { "." } else { "" })?;
    }
    Ok(())
}

fn write_action(f: &mut Out<'_>, action: &Action) -> fmt::Result {
    match action {
        Action::Output(OfPort::CONTROLLER) => f.write_str("CONTROLLER:65535"),
        Action::Output(port) if port.reserved_name().is_some() => write!(f, "{port}"),
        Action::Output(port) => {
            f.write_str("output:")?;
            f.port(*port)
        }
        Action::Controller(controller) => write_controller(f, controller),
        Action::OutputReg { src, .. } => write!(f, "output:{src}"),
        Action::OutputTrunc { port, max_len } => {
            f.write_str("output(port=")?;
            f.port(*port)?;
            write!(f, ",max_len={max_len})")
        }
        Action::Group(id) => write!(f, "group:{id}"),
        Action::SetField { field, value, mask } => {
            f.write_str("set_field:")?;
            write_value(f, *field, *value)?;
            if *mask != field.full_mask() {
                f.write_char('/')?;
                write_value(f, *field, *mask)?;
            }
            write!(f, "->{}", set_field_name(*field))
        }
        Action::SetFieldWide { field, value, mask } => {
            f.write_str("set_field:")?;
            write_wide(f, value)?;
            if let Some(mask) = mask {
                f.write_char('/')?;
                write_wide(f, mask)?;
            }
            write!(f, "->{field}")
        }
        Action::Move { src, dst } => write!(f, "move:{src}->{dst}"),
        Action::Load { dst, value } => write!(f, "load:{}->{dst}", AltHex((*value).into())),
        Action::StackPush(subfield) => write!(f, "push:{subfield}"),
        Action::StackPop(subfield) => write!(f, "pop:{subfield}"),
        Action::Resubmit { in_port: Some(port), table: None, with_ct: false } => {
            f.write_str("resubmit:")?;
            f.port(*port)
        }
        Action::Resubmit { in_port, table, with_ct } => {
            f.write_str("resubmit(")?;
            if let Some(port) = in_port {
                f.port(*port)?;
            }
            f.write_char(',')?;
            if let Some(table) = table {
                f.table(*table)?;
            }
            f.write_str(if *with_ct { ",ct)" } else { ")" })
        }
        Action::Ct(ct) => write_ct(f, ct),
        Action::CtClear => f.write_str("ct_clear"),
        Action::Nat(nat) => write_nat(f, nat),
        Action::Conjunction { id, clause, n_clauses } => {
            write!(f, "conjunction({id},{}/{n_clauses})", u16::from(*clause) + 1)
        }
        Action::Learn(learn) => write_learn(f, learn),
        Action::Note(bytes) => {
            f.write_str("note:")?;
            let mut padded = bytes.clone();
            padded.resize(note_len(bytes.len()), 0);
            bytes_in_dots(f, &padded)
        }
        Action::Multipath(multipath) => write_multipath(f, multipath),
        Action::Bundle(bundle) => write_bundle(f, bundle),
        Action::FinTimeout { idle, hard } => {
            let mut args = Vec::new();
            args.extend((*idle != 0).then(|| format!("idle_timeout={idle}")));
            args.extend((*hard != 0).then(|| format!("hard_timeout={hard}")));
            write!(f, "fin_timeout({})", args.join(","))
        }
        Action::SetQueue(id) => write!(f, "set_queue:{id}"),
        Action::PopQueue => f.write_str("pop_queue"),
        Action::SetTunnel(id) if *id > u64::from(u32::MAX) => write!(f, "set_tunnel64:{id:#x}"),
        Action::SetTunnel(id) => write!(f, "set_tunnel:{}", AltHex((*id).into())),
        Action::DecTtl => f.write_str("dec_ttl"),
        Action::DecTtlCntIds(ids) => {
            let ids: Vec<String> = ids.iter().map(u16::to_string).collect();
            write!(f, "dec_ttl({})", ids.join(","))
        }
        Action::SetIpTtl(ttl) => write!(f, "mod_nw_ttl:{ttl}"),
        Action::SetMplsTtl(ttl) => write!(f, "set_mpls_ttl({ttl})"),
        Action::DecMplsTtl => f.write_str("dec_mpls_ttl"),
        Action::CopyTtlOut => f.write_str("copy_ttl_out"),
        Action::CopyTtlIn => f.write_str("copy_ttl_in"),
        Action::PushVlan(ethertype) => write!(f, "push_vlan:{ethertype:#06x}"),
        Action::PopVlan => f.write_str("pop_vlan"),
        Action::PushMpls(ethertype) => write!(f, "push_mpls:{ethertype:#06x}"),
        Action::PopMpls(ethertype) => write!(f, "pop_mpls:{ethertype:#06x}"),
        Action::PushPbb(ethertype) => write!(f, "push_pbb:{ethertype:#06x}"),
        Action::PopPbb => f.write_str("pop_pbb"),
        Action::Sample(sample) => write_sample(f, sample),
        Action::Clone(actions) => {
            f.write_str("clone(")?;
            match actions.is_empty() {
                true => f.write_str("drop")?,
                false => write_actions(f, actions)?,
            }
            f.write_char(')')
        }
        Action::CheckPktLarger { dst, len } => write!(f, "check_pkt_larger({len})->{dst}"),
        Action::Encap(encap) => write_encap(f, encap),
        Action::Decap(None) => f.write_str("decap()"),
        Action::Decap(Some(kind)) => {
            write!(f, "decap(packet_type(ns={},type={}))", kind.namespace, AltHex(kind.kind.into()))
        }
        Action::DecNshTtl => f.write_str("dec_nsh_ttl"),
        Action::DeleteField(field) => write!(f, "delete_field:{field}"),
        Action::Exit => f.write_str("exit"),
        Action::Unknown { kind, raw } => {
            write!(f, "unknown_action({kind:#x},")?;
            raw.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
            f.write_char(')')
        }
    }
}

/// `in_port` in a `set_field` is the 16-bit one; the other has a name of its own.
pub(super) fn set_field_name(field: Field) -> &'static str {
    match field {
        Field::IN_PORT_16 => "in_port",
        Field::IN_PORT => "in_port_oxm",
        _ => field.name(),
    }
}

/// Bytes of a note on the wire: the action is a multiple of 8 bytes long, 10 of them header.
pub(crate) fn note_len(len: usize) -> usize {
    len.saturating_add(10).max(16).div_ceil(8) * 8 - 10
}

fn write_controller(f: &mut impl Write, c: &Controller) -> fmt::Result {
    if c.is_plain() {
        return write!(f, "CONTROLLER:{}", c.max_len);
    }
    let mut args = Vec::new();
    if c.reason != 1 {
        args.push(match REASONS.get(usize::from(c.reason)) {
            Some(name) => format!("reason={name}"),
            None => format!("reason={}", c.reason),
        });
    }
    if c.max_len != 0xffff {
        args.push(format!("max_len={}", c.max_len));
    }
    if c.controller_id != 0 {
        args.push(format!("id={}", c.controller_id));
    }
    if !c.userdata.is_empty() {
        let mut arg = "userdata=".to_owned();
        bytes_in_dots(&mut arg, &c.userdata)?;
        args.push(arg);
    }
    if c.pause {
        args.push("pause".to_owned());
    }
    args.extend(c.meter_id.map(|id| format!("meter_id={id}")));
    write!(f, "controller({})", args.join(","))
}

fn write_ct(f: &mut Out<'_>, ct: &Ct) -> fmt::Result {
    let mut args = Vec::new();
    if ct.commit {
        args.push("commit".to_owned());
    }
    if ct.force {
        args.push("force".to_owned());
    }
    if let Some(table) = ct.recirc_table {
        let mut arg = "table=".to_owned();
        f.over(&mut arg).table(table)?;
        args.push(arg);
    }
    match ct.zone {
        CtZone::Immediate(0) => {}
        CtZone::Immediate(zone) => args.push(format!("zone={zone}")),
        CtZone::Field(subfield) => args.push(format!("zone={subfield}")),
    }
    if let Some(nat) = &ct.nat {
        let mut arg = String::new();
        write_nat(&mut arg, nat)?;
        args.push(arg);
    }
    if !ct.exec.is_empty() {
        let mut arg = "exec(".to_owned();
        write_actions(&mut f.over(&mut arg), &ct.exec)?;
        arg.push(')');
        args.push(arg);
    }
    match ct.alg {
        0 => {}
        21 => args.push("alg=ftp".to_owned()),
        69 => args.push("alg=tftp".to_owned()),
        port => args.push(format!("alg={port}")),
    }
    write!(f, "ct({})", args.join(","))
}

fn write_nat(f: &mut impl Write, nat: &Nat) -> fmt::Result {
    f.write_str("nat")?;
    let Some(kind) = nat.kind else { return Ok(()) };
    f.write_str(match kind {
        NatKind::Src => "(src",
        NatKind::Dst => "(dst",
    })?;
    if let Some((first, last)) = nat.addresses {
        // Ports after an IPv6 address need brackets to be told from it.
        let bracketed = nat.ports.is_some();
        f.write_char('=')?;
        write_nat_address(f, first, bracketed)?;
        if let Some(last) = last {
            f.write_char('-')?;
            write_nat_address(f, last, bracketed)?;
        }
        if let Some((first, last)) = nat.ports {
            write!(f, ":{first}")?;
            if let Some(last) = last {
                write!(f, "-{last}")?;
            }
        }
        for (flag, name) in [(nat.persistent, ",persistent"), (nat.hash, ",hash"), (nat.random, ",random")] {
            if flag {
                f.write_str(name)?;
            }
        }
    }
    f.write_char(')')
}

fn write_nat_address(f: &mut impl Write, address: IpAddr, bracketed: bool) -> fmt::Result {
    match address {
        IpAddr::V6(v6) if bracketed => write!(f, "[{}]", super::value::Ip6(u128::from(v6))),
        IpAddr::V6(v6) => write!(f, "{}", super::value::Ip6(u128::from(v6))),
        IpAddr::V4(v4) => write!(f, "{v4}"),
    }
}

fn write_learn(f: &mut Out<'_>, learn: &Learn) -> fmt::Result {
    f.write_str("learn(table=")?;
    f.table(learn.table)?;
    for (name, value) in [
        ("idle_timeout", learn.idle_timeout),
        ("hard_timeout", learn.hard_timeout),
        ("fin_idle_timeout", learn.fin_idle_timeout),
        ("fin_hard_timeout", learn.fin_hard_timeout),
    ] {
        if value != 0 {
            write!(f, ",{name}={value}")?;
        }
    }
    if learn.priority != Flow::DEFAULT_PRIORITY {
        write!(f, ",priority={}", learn.priority)?;
    }
    if learn.send_flow_rem {
        f.write_str(",send_flow_rem")?;
    }
    if learn.delete_learned {
        f.write_str(",delete_learned")?;
    }
    if learn.cookie != 0 {
        write!(f, ",cookie={:#x}", learn.cookie)?;
    }
    if learn.limit != 0 {
        write!(f, ",limit={}", learn.limit)?;
    }
    if let Some(dst) = learn.result_dst {
        write!(f, ",result_dst={dst}")?;
    }
    for spec in &learn.specs {
        f.write_char(',')?;
        write_learn_spec(f, spec)?;
    }
    f.write_char(')')
}

fn write_learn_spec(f: &mut Out<'_>, spec: &LearnSpec) -> fmt::Result {
    match (&spec.src, spec.dst) {
        (LearnSource::Field(src), LearnDestination::Match(dst)) if *src == dst => write!(f, "{dst}"),
        (LearnSource::Field(src), LearnDestination::Match(dst)) => write!(f, "{dst}={src}"),
        (LearnSource::Value(value), LearnDestination::Match(dst)) if dst.is_whole() => {
            write!(f, "{}=", set_field_name(dst.field))?;
            write_value(f, dst.field, *value)
        }
        (LearnSource::Value(value), LearnDestination::Match(dst)) => write!(f, "{dst}={}", AltHex(*value)),
        (LearnSource::Field(src), LearnDestination::Load(dst)) => write!(f, "load:{src}->{dst}"),
        (LearnSource::Value(value), LearnDestination::Load(dst)) => {
            write!(f, "load:{}->{dst}", AltHex(*value))
        }
        (LearnSource::Field(src), LearnDestination::Output) => write!(f, "output:{src}"),
        (LearnSource::Value(value), LearnDestination::Output) => write!(f, "output:{}", AltHex(*value)),
    }
}

/// A name from a table, or the number.
fn named(names: &[&str], number: u16) -> String {
    names.get(usize::from(number)).map_or_else(|| format!("<{number}>"), |name| (*name).to_owned())
}

fn write_multipath(f: &mut impl Write, m: &Multipath) -> fmt::Result {
    write!(
        f,
        "multipath({},{},{},{},{},{})",
        named(HASH_FIELDS, m.fields),
        m.basis,
        named(MULTIPATH_ALGORITHMS, m.algorithm),
        u32::from(m.max_link) + 1,
        m.arg,
        m.dst
    )
}

fn write_bundle(f: &mut Out<'_>, b: &BundleAction) -> fmt::Result {
    let algorithm = named(BUNDLE_ALGORITHMS, b.algorithm);
    let fields = named(HASH_FIELDS, b.fields);
    match b.dst {
        None => write!(f, "bundle({fields},{},{algorithm},ofport,members:", b.basis)?,
        Some(dst) => write!(f, "bundle_load({fields},{},{algorithm},ofport,{dst},members:", b.basis)?,
    }
    for (n, port) in b.members.iter().enumerate() {
        if n > 0 {
            f.write_char(',')?;
        }
        f.port(*port)?;
    }
    f.write_char(')')
}

fn write_sample(f: &mut Out<'_>, s: &Sample) -> fmt::Result {
    write!(
        f,
        "sample(probability={},collector_set_id={},obs_domain_id={},obs_point_id={}",
        s.probability, s.collector_set_id, s.obs_domain_id, s.obs_point_id
    )?;
    if let Some(port) = s.sampling_port {
        f.write_str(",sampling_port=")?;
        f.port(port)?;
    }
    f.write_str(match s.direction {
        SampleDirection::Unspecified => ")",
        SampleDirection::Ingress => ",ingress)",
        SampleDirection::Egress => ",egress)",
    })
}

fn write_encap(f: &mut impl Write, encap: &Encap) -> fmt::Result {
    let kind = encap.packet_type;
    let Some((name, ..)) = ENCAPS.iter().find(|(_, ns, t)| (*ns, *t) == (kind.namespace, kind.kind)) else {
        return write!(f, "encap(packet_type(ns={},type={}))", kind.namespace, AltHex(kind.kind.into()));
    };
    write!(f, "encap({name}")?;
    let mut args = Vec::new();
    for property in &encap.properties {
        match (property.class, property.kind, property.value.as_slice()) {
            (ENCAP_CLASS_NSH, 1, [md_type]) => args.push(format!("md_type={md_type}")),
            (ENCAP_CLASS_NSH, 2, [class_hi, class_lo, kind, len, data @ ..]) => {
                let data = data.get(..usize::from(*len)).unwrap_or(data);
                let mut hex = String::new();
                data.iter().try_for_each(|b| write!(hex, "{b:02x}"))?;
                let class = u16::from_be_bytes([*class_hi, *class_lo]);
                args.push(format!("tlv({class:#x},{kind},0x{hex})"));
            }
            (class, kind, _) => args.push(format!("property({class},{kind})")),
        }
    }
    if !args.is_empty() {
        write!(f, "({})", args.join(","))?;
    }
    f.write_char(')')
}
