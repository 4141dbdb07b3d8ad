//! Random messages of every kind, valid by the rules of the protocol.
#![allow(unreachable_pub)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;
use std::time::Duration;

use openflow::message::*;
use openflow::{
    Action, Bucket, Field, Flow, FlowFlags, FlowMod, FlowModCommand, FlowStats, Group, GroupMod,
    GroupModCommand, GroupType, Instruction, Instructions, Match, OfPort, action,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// A port that OpenFlow 1.3 and the 16 bits of Open vSwitch both know.
pub fn port() -> impl Strategy<Value = OfPort> {
    prop_oneof![
        4 => (1u32..0xff00).prop_map(OfPort),
        1 => select(vec![OfPort::LOCAL, OfPort::IN_PORT, OfPort::NORMAL, OfPort::ALL, OfPort::FLOOD]),
    ]
}

/// The beginnings of a match: protocols and what must hold for the fields that depend on them.
static BASES: LazyLock<Vec<(Match, Vec<Field>)>> = LazyLock::new(|| {
    [
        "",
        "ip",
        "ipv6",
        "arp",
        "rarp",
        "mpls",
        "mplsm",
        "dl_vlan=5",
        "tcp",
        "udp",
        "sctp",
        "icmp",
        "tcp6",
        "udp6",
        "sctp6",
        "icmp6",
        "icmp6,icmp_type=135,icmp_code=0",
        "icmp6,icmp_type=136,icmp_code=0",
        "dl_type=0x894f",
        "dl_type=0x88cc",
        "ct_state=+new,ip,ct_nw_proto=6",
        "ct_state=+est-new,ipv6,ct_nw_proto=17",
    ]
    .iter()
    .map(|text| {
        let base: Match = text.parse().unwrap();
        let free = free_fields(&base);
        (base, free)
    })
    .collect()
});

/// Fields that Open vSwitch understands and that a random value cannot make invalid.
fn free_fields(base: &Match) -> Vec<Field> {
    let proto_of = |field: Field| base.exact(field);
    Field::all()
        .filter(|field| {
            let name = field.name();
            let text = format!("{base},{name}=0");
            let excluded = [
                "packet_type",
                "eth_type",
                "nw_proto",
                "vlan_vid",
                "vlan_pcp",
                "vlan_tci",
                "in_port_16",
                "in_phy_port",
                "pbb_isid",
                "pbb_uca",
                "ipv6_exthdr",
                "ip_frag",
                "ct_state",
                "nw_tos",
                "icmp_type",
                "icmp_code",
                "icmpv6_type",
                "icmpv6_code",
                "in_port",
                "actset_output",
                "tcp_flags",
                "tun_flags",
                "ct_nw_proto",
                "recirc_id",
                "arp_op",
                "nsh_mdtype",
                "nsh_ttl",
                "dp_hash",
                "ct_tp_src",
                "ct_tp_dst",
                "nsh_c1",
                "nsh_c2",
                "nsh_c3",
                "nsh_c4",
            ];
            // Open vSwitch matches connections' addresses by the family that their protocol was given with.
            let is_ct = name.starts_with("ct_nw_") || name.starts_with("ct_ipv6_");
            let family = if proto_of(Field::ETH_TYPE) == Some(0x0800) { "ct_nw_" } else { "ct_ipv6_" };
            let quirk = name.starts_with("tun_erspan")
                || name.starts_with("tun_gtpu")
                || name.starts_with("tun_metadata");
            !excluded.contains(&name) && !quirk && (!is_ct || name.starts_with(family)) && {
                let probe = match field.info().format {
                    openflow::field::Format::Ethernet => text.replace("=0", "=00:00:00:00:00:00"),
                    openflow::field::Format::Ipv4 => format!("{base},{name}=1.1.1.1"),
                    openflow::field::Format::Ipv6 => format!("{base},{name}=::1"),
                    _ => format!("{base},{name}=1"),
                };
                probe.trim_start_matches(',').parse::<Match>().is_ok()
            }
        })
        .collect()
}

/// A match that Open vSwitch accepts.
pub fn fields() -> impl Strategy<Value = Match> {
    select(BASES.as_slice()).prop_flat_map(|(base, free)| {
        vec((select(free), any::<u128>(), any::<u128>(), any::<bool>()), 0..5).prop_map(move |tests| {
            let mut fields = base.clone();
            for (field, value, mask, masked) in tests {
                let full = field.full_mask();
                // A mask of these flags does not show in text.
                let masked = masked && field != Field::TUN_GBP_FLAGS;
                let mask =
                    if masked && field.info().maskable && mask & full != 0 { mask & full } else { full };
                fields.set(field, value & mask, mask);
            }
            fields
        })
    })
}

fn register() -> impl Strategy<Value = Field> {
    (0u8..16).prop_map(|n| Field::reg(n).unwrap())
}

fn subfield(max_bits: u16) -> impl Strategy<Value = action::Subfield> {
    (register(), 0u16..32, 1u16..=32).prop_map(move |(field, first, n)| {
        let last = (first + n.min(max_bits) - 1).min(31);
        action::Subfield::bits(field, first, last).unwrap()
    })
}

fn nat() -> impl Strategy<Value = action::Nat> {
    let ports = option::of((1u16..100, option::of(100u16..200)));
    let addresses = prop_oneof![
        (any::<u16>(), option::of(any::<u16>())).prop_map(|(a, b)| {
            let at = |n: u16| IpAddr::V4(Ipv4Addr::new(10, 0, (n >> 8) as u8, n as u8));
            (at(a), b.filter(|b| *b > a).map(at))
        }),
        (any::<u16>(), option::of(any::<u16>())).prop_map(|(a, b)| {
            let at = |n: u16| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n));
            (at(a), b.filter(|b| *b > a).map(at))
        }),
    ];
    let ranged =
        (select(vec![action::NatKind::Src, action::NatKind::Dst]), addresses, ports, 0..3, any::<bool>())
            .prop_map(|(kind, addresses, ports, choice, persistent)| action::Nat {
                kind: Some(kind),
                addresses: Some(addresses),
                ports,
                persistent,
                hash: choice == 1,
                random: choice == 2,
            });
    prop_oneof![Just(action::Nat::default()), ranged]
}

/// Actions that need nothing of the match.
fn simple_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        port().prop_map(Action::Output),
        any::<u16>()
            .prop_map(|max_len| Action::Controller(action::Controller { max_len, ..Default::default() })),
        (any::<u16>(), 0u8..3, any::<u16>(), vec(any::<u8>(), 0..20), any::<bool>(), option::of(1u32..99))
            .prop_map(|(max_len, reason, controller_id, userdata, pause, meter_id)| Action::Controller(
                action::Controller { max_len, controller_id, reason, userdata, pause, meter_id }
            )),
        subfield(32).prop_map(|src| Action::OutputReg { src, max_len: 0xffff }),
        ((1u32..100).prop_map(OfPort), 14u32..)
            .prop_map(|(port, max_len)| Action::OutputTrunc { port, max_len }),
        (0u32..0xffff_ff00).prop_map(Action::Group),
        (register(), any::<u32>()).prop_map(|(field, value)| Action::SetField {
            field,
            value: value.into(),
            mask: 0xffff_ffff
        }),
        any::<u64>().prop_map(|v| Action::SetField {
            field: Field::TUN_ID,
            value: v.into(),
            mask: u64::MAX.into()
        }),
        any::<u32>().prop_map(|v| Action::SetField {
            field: Field::TUN_DST,
            value: v.into(),
            mask: 0xffff_ffff
        }),
        any::<u64>().prop_map(|v| Action::SetField {
            field: Field::ETH_DST,
            value: u128::from(v) & 0xffff_ffff_ffff,
            mask: 0xffff_ffff_ffff
        }),
        (subfield(32), any::<u64>())
            .prop_map(|(dst, value)| Action::Load { dst, value: value & ((1u64 << dst.n_bits) - 1) }),
        (register(), register(), 0u16..16, 0u16..16, 1u16..16).prop_map(|(a, b, from, to, n)| Action::Move {
            src: action::Subfield { field: a, ofs: from, n_bits: n },
            dst: action::Subfield { field: b, ofs: to, n_bits: n }
        }),
        subfield(32).prop_map(Action::StackPush),
        subfield(32).prop_map(Action::StackPop),
        (option::of((1u32..100).prop_map(OfPort)), 0u8..255).prop_map(|(in_port, table)| Action::Resubmit {
            in_port,
            table: Some(table),
            with_ct: false
        }),
        Just(Action::CtClear),
        vec(any::<u8>(), 0..30).prop_map(|mut bytes| {
            let len = (bytes.len() + 10).max(16).div_ceil(8) * 8 - 10;
            bytes.resize(len, 0);
            Action::Note(bytes)
        }),
        any::<u32>().prop_map(Action::SetQueue),
        Just(Action::PopQueue),
        select(vec![0x8100u16, 0x88a8]).prop_map(Action::PushVlan),
        select(vec![0x8847u16, 0x8848]).prop_map(Action::PushMpls),
        Just(Action::Exit),
        (1u16.., any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(probability, a, b, c)| Action::Sample(
            action::Sample {
                probability,
                collector_set_id: a,
                obs_domain_id: b,
                obs_point_id: c,
                sampling_port: None,
                direction: action::SampleDirection::Unspecified
            }
        )),
        (subfield(1), any::<u16>()).prop_map(|(dst, len)| Action::CheckPktLarger { dst, len }),
        (any::<u16>(), any::<u16>(), 0u16..4, 0u16..1000, any::<u32>(), register()).prop_map(
            |(basis, fields, algorithm, max_link, arg, field)| Action::Multipath(action::Multipath {
                fields: fields % 7,
                basis,
                algorithm,
                max_link,
                arg,
                dst: action::Subfield::whole(field)
            })
        ),
        (0u16..2, 0u16..7, any::<u16>(), vec((1u32..100).prop_map(OfPort), 1..9), option::of(register()))
            .prop_map(|(algorithm, fields, basis, members, dst)| Action::Bundle(Box::new(
                action::BundleAction {
                    algorithm,
                    fields,
                    basis,
                    members,
                    dst: dst.map(action::Subfield::whole)
                }
            ))),
        (any::<u16>(), any::<u64>(), 0u8..255, any::<u32>(), register()).prop_map(
            |(priority, cookie, table, limit, field)| Action::Learn(Box::new(action::Learn {
                priority,
                cookie,
                table,
                limit,
                specs: vec![
                    action::LearnSpec {
                        src: action::LearnSource::Field(action::Subfield::whole(Field::ETH_SRC)),
                        dst: action::LearnDestination::Match(action::Subfield::whole(Field::ETH_DST)),
                        n_bits: 48
                    },
                    action::LearnSpec {
                        src: action::LearnSource::Value(7),
                        dst: action::LearnDestination::Load(action::Subfield::whole(field)),
                        n_bits: 32
                    }
                ],
                ..Default::default()
            }))
        ),
    ]
}

/// Actions that need an IP packet.
fn ip_action() -> impl Strategy<Value = Action> {
    let exec = prop_oneof![
        any::<u32>().prop_map(|v| Action::SetField {
            field: Field::CT_MARK,
            value: v.into(),
            mask: 0xffff_ffff
        }),
        any::<u128>().prop_map(|v| Action::SetField { field: Field::CT_LABEL, value: v, mask: u128::MAX }),
    ];
    prop_oneof![
        Just(Action::DecTtl),
        vec(any::<u16>(), 1..6).prop_map(Action::DecTtlCntIds),
        any::<u8>().prop_map(Action::SetIpTtl),
        (any::<u32>(), 0u8..64, 2u8..=64).prop_map(|(id, k, n)| Action::Conjunction {
            id,
            clause: k % n,
            n_clauses: n
        }),
        (option::of(0u8..255), any::<u16>(), option::of(nat()), vec(exec, 0..3), any::<bool>()).prop_map(
            |(recirc_table, zone, nat, exec, force)| Action::Ct(Box::new(action::Ct {
                commit: true,
                force,
                recirc_table,
                zone: zone.into(),
                alg: 0,
                nat: nat.map(|nat| action::Nat {
                    // An address of one family, since the match is for IPv4.
                    addresses: nat.addresses.filter(|(first, _)| first.is_ipv4()),
                    ports: nat.ports.filter(|_| nat.addresses.is_some_and(|(first, _)| first.is_ipv4())),
                    ..nat
                }),
                exec
            }))
        ),
    ]
}

/// A flow that Open vSwitch accepts.
pub fn flow() -> impl Strategy<Value = Flow> {
    let actions = prop_oneof![
        vec(simple_action(), 0..6).prop_map(|actions| (None, actions)),
        vec(prop_oneof![ip_action(), simple_action()], 1..5)
            .prop_map(|actions| (Some("ip".parse::<Match>().unwrap()), keep_conjunctions_apart(actions))),
        vec(simple_action(), 1..4).prop_map(|nested| (None, vec![Action::Clone(nested)])),
    ];
    let numbers = (0u8..255, any::<u16>(), any::<u64>(), any::<u16>(), any::<u16>(), 0u16..32);
    let rest =
        (option::of(1u32..1000), any::<bool>(), option::of((any::<u64>(), any::<u64>())), any::<bool>());
    (fields(), actions, numbers, rest).prop_map(|(fields, (needs, actions), numbers, rest)| {
        let (table, priority, cookie, idle_timeout, hard_timeout, flags) = numbers;
        let (meter, clear, metadata, goto) = rest;
        let mut instructions = Instructions::new();
        let conjunction = actions.iter().any(|a| matches!(a, Action::Conjunction { .. }));
        instructions.extend(meter.filter(|_| !conjunction).map(Instruction::Meter));
        if !actions.is_empty() {
            instructions.push(Instruction::ApplyActions(actions));
        }
        if !conjunction {
            instructions.extend(clear.then_some(Instruction::ClearActions));
            instructions.extend(
                metadata.map(|(value, mask)| Instruction::WriteMetadata { value: value & mask, mask }),
            );
            instructions.extend((goto && table < 254).then_some(Instruction::GotoTable(254)));
        }
        Flow {
            table,
            priority,
            cookie,
            fields: needs.unwrap_or(fields),
            instructions,
            idle_timeout,
            hard_timeout,
            importance: 0,
            flags: FlowFlags(flags),
        }
    })
}

/// A flow with conjunctions has nothing else, and a packet with an MPLS label is no IP packet any more.
fn keep_conjunctions_apart(mut actions: Vec<Action>) -> Vec<Action> {
    actions.retain(|a| !matches!(a, Action::PushMpls(_)));
    let (conjunctions, others): (Vec<_>, Vec<_>) =
        actions.into_iter().partition(|a| matches!(a, Action::Conjunction { .. }));
    if conjunctions.is_empty() { others } else { conjunctions }
}

pub fn flow_mod() -> impl Strategy<Value = FlowMod> {
    use FlowModCommand::*;
    (select(vec![Add, Modify, ModifyStrict, Delete, DeleteStrict]), flow(), any::<u64>(), option::of(port()))
        .prop_map(|(command, flow, mask, out_port)| {
            let mut change = FlowMod::new(command, flow);
            let deletes = matches!(command, Delete | DeleteStrict);
            if command != Add {
                change.cookie_mask = mask;
            }
            if deletes {
                change.out_port = out_port.unwrap_or(OfPort::ANY);
            }
            change
        })
}

pub fn group() -> impl Strategy<Value = Group> {
    let bucket = (any::<u16>(), vec(simple_action(), 0..3)).prop_map(|(weight, actions)| (weight, actions));
    (0u32..0xffff_ff00, select(vec![GroupType::All, GroupType::Select]), vec(bucket, 0..4)).prop_map(
        |(id, kind, buckets)| Group {
            id,
            kind,
            buckets: buckets
                .into_iter()
                .map(|(weight, actions)| Bucket {
                    weight: if kind == GroupType::Select { weight } else { 0 },
                    actions,
                    ..Bucket::default()
                })
                .collect(),
        },
    )
}

fn text(max: usize) -> impl Strategy<Value = String> {
    vec(select("abcdefghijklmnopqrstuvwxyz0123456789".chars().collect::<Vec<_>>()), 0..max)
        .prop_map(|c| c.into_iter().collect())
}

fn duration() -> impl Strategy<Value = Duration> {
    // Open vSwitch counts most in milliseconds, and prints those with all three digits.
    let nanos = prop_oneof![0u32..1_000_000_000, (0u32..1000).prop_map(|ms| ms * 1_000_000)];
    (any::<u32>(), nanos).prop_map(|(s, n)| Duration::new(s.into(), n))
}

fn port_desc() -> impl Strategy<Value = PortDesc> {
    (port(), any::<[u8; 6]>(), text(15), any::<[u32; 6]>()).prop_map(|(port, mac, name, n)| PortDesc {
        port,
        hw_addr: MacAddr(mac),
        name,
        config: PortConfig(n[0] & 0x65),
        state: PortState(n[1] & 7),
        current: n[2] & 0xffff,
        advertised: n[3] & 0xffff,
        supported: n[4] & 0xffff,
        peer: n[5] & 0xffff,
        current_speed: n[2],
        max_speed: n[3],
    })
}

fn counters() -> impl Strategy<Value = Counters> {
    (any::<u64>(), any::<u64>()).prop_map(|(packets, bytes)| Counters { packets, bytes })
}

fn meter() -> impl Strategy<Value = Meter> {
    let band = prop_oneof![
        (any::<u32>(), any::<u32>()).prop_map(|(rate, burst)| MeterBand::Drop { rate, burst }),
        (any::<u32>(), any::<u32>(), any::<u8>())
            .prop_map(|(rate, burst, precedence)| MeterBand::DscpRemark { rate, burst, precedence }),
    ];
    (1u32..0xffff_0000, 1u16..3, 0u16..4, vec(band, 0..3)).prop_map(|(id, unit, more, bands)| Meter {
        id,
        flags: MeterFlags(unit | more << 2),
        bands,
    })
}

fn stats() -> impl Strategy<Value = FlowStats> {
    (flow(), option::of(0..u64::MAX), option::of(0..u64::MAX), duration())
        .prop_map(|(flow, packets, bytes, duration)| FlowStats { flow, packets, bytes, duration })
}

/// A table with all properties that a table must have, and perhaps what its table-miss flow can do besides.
fn table_features() -> impl Strategy<Value = TableFeatures> {
    let ids = |kinds: &'static [u16]| {
        // `clear_actions` has padding in no list: of an id only type and length count here.
        vec(select(kinds.to_vec()).prop_map(|kind| (kind, Vec::new())), 0..4).prop_map(|mut ids| {
            ids.sort();
            ids.dedup();
            TableList::Ids(ids)
        })
    };
    let instructions = move || ids(&[1, 2, 3, 4, 5, 6]);
    let actions = move || ids(&[0, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25]);
    let tables = || vec(0u8..255, 0..5).prop_map(TableList::Tables);
    let fields = || {
        let known = [Field::IN_PORT, Field::ETH_TYPE, Field::IPV4_DST, Field::TCP_FLAGS, Field::METADATA];
        prop::sample::subsequence(known.to_vec(), 0..5).prop_map(|fields| {
            let header = |field: Field| {
                let header = field.info().headers[0];
                let is_experimenter = header.class == openflow::field::Header::EXPERIMENTER_CLASS;
                let len = u32::from(field.info().bytes) + if is_experimenter { 4 } else { 0 };
                let number = u32::from(header.class) << 16 | u32::from(header.field) << 9 | len;
                (number, is_experimenter.then_some(header.experimenter))
            };
            TableList::Fields(fields.into_iter().map(header).collect())
        })
    };
    let lists = (instructions(), tables(), actions(), actions(), fields(), fields(), fields(), fields());
    let miss = option::of((instructions(), tables(), actions(), fields()));
    ((0u8..255, any::<u64>(), any::<u64>(), any::<u32>()), "[a-z]{0,12}", lists, miss).prop_map(
        |(numbers, name, lists, miss)| {
            let (table, metadata_match, metadata_write, max_entries) = numbers;
            let property = |kind, list| TableProperty { kind, list };
            let mut properties = vec![
                property(0, lists.0),
                property(2, lists.1),
                property(4, lists.2),
                property(6, lists.3),
                property(8, lists.4),
                property(10, lists.5),
                property(12, lists.6),
                property(14, lists.7),
            ];
            if let Some((instructions, tables, actions, fields)) = miss {
                properties.extend([
                    property(1, instructions),
                    property(3, tables),
                    property(5, actions.clone()),
                    property(7, actions),
                    property(13, fields.clone()),
                    property(15, fields),
                ]);
            }
            TableFeatures { table, name, metadata_match, metadata_write, config: 0, max_entries, properties }
        },
    )
}

fn request() -> impl Strategy<Value = MultipartRequest> {
    use MultipartRequest as R;
    let flows = || {
        (any::<u8>(), any::<u64>(), any::<u64>(), fields()).prop_map(
            |(table, cookie, cookie_mask, fields)| FlowStatsRequest {
                table,
                cookie,
                cookie_mask,
                fields,
                ..FlowStatsRequest::default()
            },
        )
    };
    // The flows that are there now without any change after them: Open vSwitch refuses that.
    let flags = (1u16..64).prop_filter("no kind of change", |flags| flags & 0xe != 0);
    let monitor = (any::<u32>(), flags, any::<u8>(), fields()).prop_map(|(id, flags, table, fields)| {
        FlowMonitorRequest { id, flags: MonitorFlags(flags), table, fields, ..Default::default() }
    });
    prop_oneof![
        Just(R::Desc),
        flows().prop_map(R::Flow),
        flows().prop_map(R::Aggregate),
        Just(R::Table),
        port().prop_map(R::PortStats),
        (port(), any::<u32>()).prop_map(|(port, queue)| R::Queue { port, queue }),
        any::<u32>().prop_map(R::Group),
        Just(R::GroupDesc),
        Just(R::GroupFeatures),
        any::<u32>().prop_map(R::Meter),
        any::<u32>().prop_map(R::MeterConfig),
        Just(R::MeterFeatures),
        vec(table_features(), 0..3).prop_map(R::TableFeatures),
        Just(R::PortDesc),
        vec(monitor, 1..3).prop_map(R::FlowMonitor),
    ]
}

fn reply() -> impl Strategy<Value = MultipartReply> {
    use MultipartReply as R;
    let update = (flow(), 0u16..6, 0..4).prop_map(|(flow, reason, kind)| {
        let updated = UpdatedFlow {
            reason: if kind == 1 { reason } else { 0 },
            priority: flow.priority,
            idle_timeout: flow.idle_timeout,
            hard_timeout: flow.hard_timeout,
            table: flow.table,
            cookie: flow.cookie,
            fields: flow.fields,
            instructions: flow.instructions,
        };
        match kind {
            0 => FlowUpdate::Added(updated),
            1 => FlowUpdate::Deleted(updated),
            2 => FlowUpdate::Modified(updated),
            _ => FlowUpdate::Abbreviated { xid: reason.into() },
        }
    });
    prop_oneof![
        (text(40), text(40), text(40), text(31), text(40)).prop_map(|(m, h, s, n, d)| R::Desc(SwitchDesc {
            manufacturer: m,
            hardware: h,
            software: s,
            serial_number: n,
            datapath: d
        })),
        vec(stats(), 0..5).prop_map(R::Flow),
        (any::<u64>(), any::<u64>(), any::<u32>())
            .prop_map(|(packets, bytes, flows)| R::Aggregate(AggregateStats { packets, bytes, flows })),
        vec((any::<u8>(), any::<u32>(), any::<u64>(), any::<u64>()), 0..5).prop_map(|l| R::Table(
            l.into_iter()
                .map(|(table, active, lookups, matched)| TableStats { table, active, lookups, matched })
                .collect()
        )),
        vec((port(), any::<[u64; 12]>(), duration()), 0..4).prop_map(|l| R::PortStats(
            l.into_iter()
                .map(|(port, n, duration)| PortStats {
                    port,
                    rx_packets: n[0],
                    tx_packets: n[1],
                    rx_bytes: n[2],
                    tx_bytes: n[3],
                    rx_dropped: n[4],
                    tx_dropped: n[5],
                    rx_errors: n[6],
                    tx_errors: n[7],
                    rx_frame_errors: n[8],
                    rx_overrun_errors: n[9],
                    rx_crc_errors: n[10],
                    collisions: n[11],
                    duration
                })
                .collect()
        )),
        vec((port(), any::<u32>(), any::<[u64; 3]>(), duration()), 0..4).prop_map(|l| R::Queue(
            l.into_iter()
                .map(|(port, queue, n, duration)| QueueStats {
                    port,
                    queue,
                    tx_bytes: n[0],
                    tx_packets: n[1],
                    tx_errors: n[2],
                    duration
                })
                .collect()
        )),
        vec((any::<u32>(), any::<u32>(), counters(), duration(), vec(counters(), 0..4)), 0..4).prop_map(
            |l| R::Group(
                l.into_iter()
                    .map(|(id, ref_count, total, duration, buckets)| GroupStats {
                        id,
                        ref_count,
                        total,
                        duration,
                        buckets
                    })
                    .collect()
            )
        ),
        vec(group(), 0..4).prop_map(R::GroupDesc),
        (0u32..16, 0u32..16, any::<[u32; 4]>(), any::<[u32; 4]>()).prop_map(
            |(types, capabilities, max_groups, actions)| R::GroupFeatures(GroupFeatures {
                types,
                capabilities,
                max_groups,
                actions
            })
        ),
        vec((any::<u32>(), any::<u32>(), counters(), duration(), vec(counters(), 0..4)), 0..4).prop_map(
            |l| R::Meter(
                l.into_iter()
                    .map(|(id, flow_count, total, duration, bands)| MeterStats {
                        id,
                        flow_count,
                        total,
                        duration,
                        bands
                    })
                    .collect()
            )
        ),
        vec(meter(), 0..4).prop_map(R::MeterConfig),
        any::<(u32, u32, u32, u8, u8)>().prop_map(
            |(max_meters, band_types, capabilities, max_bands, max_color)| {
                R::MeterFeatures(MeterFeatures {
                    max_meters,
                    band_types: band_types & 6,
                    capabilities: capabilities & 15,
                    max_bands,
                    max_color,
                })
            }
        ),
        vec(port_desc(), 0..4).prop_map(R::PortDesc),
        vec(update, 0..4).prop_map(R::FlowMonitor),
        vec(table_features(), 1..3).prop_map(R::TableFeatures),
    ]
}

fn packet_in2() -> impl Strategy<Value = PacketIn2> {
    let numbers =
        (option::of(0u8..255), option::of(any::<u64>()), option::of((0u8..6).prop_map(PacketInReason)));
    let registers = vec((register(), any::<u32>()), 0..4).prop_map(|list| {
        list.into_iter()
            .fold(Match::new().with(Field::IN_PORT, 1u32), |m, (field, value)| m.with(field, value))
    });
    (vec(any::<u8>(), 14..80), numbers, registers, vec(any::<u8>(), 0..20)).prop_map(
        |(packet, (table, cookie, reason), fields, userdata)| PacketIn2 {
            packet,
            table,
            cookie,
            reason,
            fields,
            userdata,
            ..Default::default()
        },
    )
}

fn ct_flush() -> impl Strategy<Value = CtFlush> {
    let address = || option::of(any::<u32>().prop_map(|a| IpAddr::V4(Ipv4Addr::from(a))));
    let tuple = || {
        (address(), address(), option::of(1u16..), option::of(1u16..)).prop_map(
            |(src, dst, src_port, dst_port)| CtTuple { src, dst, src_port, dst_port, ..Default::default() },
        )
    };
    (option::of(any::<u16>()), tuple(), tuple()).prop_map(|(zone, original, reply)| CtFlush {
        ip_proto: 6,
        zone,
        original,
        reply,
    })
}

fn queues() -> impl Strategy<Value = QueueConfig> {
    let properties = (option::of(0u16..=1000), option::of(0u16..=1000)).prop_map(|(min, max)| {
        min.map(QueueProperty::MinRate).into_iter().chain(max.map(QueueProperty::MaxRate)).collect()
    });
    (1u32..0xff00, vec((any::<u32>(), properties), 0..4)).prop_map(|(port, queues)| {
        let port = OfPort(port);
        let queue = |(id, properties)| Queue { id, port, properties };
        QueueConfig { port, queues: queues.into_iter().map(queue).collect() }
    })
}

fn tlv_maps() -> impl Strategy<Value = Vec<TlvMap>> {
    vec((any::<u16>(), any::<u8>(), 1u8..31, 0u16..64), 0..5).prop_map(|l| {
        l.into_iter()
            .map(|(class, kind, words, index)| TlvMap { class, kind, len: words * 4, index })
            .collect()
    })
}

/// Every kind of message that Open vSwitch reads.
pub fn message() -> impl Strategy<Value = Message> {
    let bytes = |max| vec(any::<u8>(), 0..max);
    let code = select(ErrorCode::ALL.to_vec());
    let asynchronous = || {
        any::<[u32; 6]>().prop_map(|n| AsyncConfig {
            packet_in: [n[0] & 7, n[1] & 7],
            port_status: [n[2] & 7, n[3] & 7],
            flow_removed: [n[4] & 15, n[5] & 15],
        })
    };
    let config = || {
        (0u16..4, any::<u16>())
            .prop_map(|(flags, miss_send_len)| SwitchConfig { flags: ConfigFlags(flags), miss_send_len })
    };
    let role = || {
        (0u32..4, any::<u64>()).prop_map(|(role, generation_id)| RoleMsg { role: Role(role), generation_id })
    };
    let bundled = prop_oneof![flow_mod().prop_map(Message::FlowMod), group_mod().prop_map(Message::GroupMod)];
    let first = prop_oneof![
        select(vec![None, Some(vec![0x10u32]), Some(vec![0x72]), Some(vec![0x10, 0])])
            .prop_map(|versions| Message::Hello(Hello { versions })),
        (code, any::<u32>()).prop_map(|(code, xid)| {
            // The message that is wrong, here a barrier request; after a hello that failed, text.
            let mut data = vec![4, 20, 0, 8];
            data.extend(xid.to_be_bytes());
            if code.kind == ErrorCode::HFC_INCOMPATIBLE.kind {
                data = format!("no \"{xid:x}\" \\ \u{1b}[").into_bytes();
            }
            Message::Error(ErrorMsg { code, data })
        }),
        bytes(100).prop_map(Message::EchoRequest),
        bytes(100).prop_map(Message::EchoReply),
        select(vec![
            Message::FeaturesRequest,
            Message::GetConfigRequest,
            Message::BarrierRequest,
            Message::BarrierReply,
            Message::GetAsyncRequest,
            Message::TlvTableRequest,
            Message::FlowMonitorPaused,
            Message::FlowMonitorResumed,
        ]),
        any::<(u64, u32, u8, u8, u32)>().prop_map(|(datapath_id, n_buffers, n_tables, auxiliary_id, c)| {
            Message::FeaturesReply(Features {
                datapath_id,
                n_buffers,
                n_tables,
                auxiliary_id,
                capabilities: Capabilities(c & 0x16f),
            })
        }),
        config().prop_map(Message::GetConfigReply),
        config().prop_map(Message::SetConfig),
        role().prop_map(Message::RoleRequest),
        role().prop_map(Message::RoleReply),
        asynchronous().prop_map(Message::GetAsyncReply),
        asynchronous().prop_map(Message::SetAsync),
        (1u32..0xff00).prop_map(|port| Message::QueueGetConfigRequest(OfPort(port))),
        queues().prop_map(Message::QueueGetConfigReply),
    ];
    let packets = prop_oneof![
        (0u8..3, 0u8..255, any::<u64>(), bytes(60)).prop_map(|(reason, table, cookie, mut data)| {
            data.resize(data.len().max(14), 0);
            Message::PacketIn(PacketIn {
                buffer_id: 0xffff_ffff,
                total_len: data.len() as u16,
                reason: PacketInReason(reason),
                table,
                cookie,
                fields: Match::new().with(Field::IN_PORT, 3u32),
                data,
            })
        }),
        (flow(), 0u8..4, duration(), any::<u64>(), any::<u64>()).prop_map(
            |(flow, reason, duration, packets, bytes)| {
                Message::FlowRemoved(FlowRemoved {
                    cookie: flow.cookie,
                    priority: flow.priority,
                    reason: FlowRemovedReason(reason),
                    table: flow.table,
                    duration,
                    idle_timeout: flow.idle_timeout,
                    hard_timeout: flow.hard_timeout,
                    packets,
                    bytes,
                    fields: flow.fields,
                })
            }
        ),
        (select(vec![PortReason::Add, PortReason::Delete, PortReason::Modify]), port_desc())
            .prop_map(|(reason, desc)| Message::PortStatus(PortStatus { reason, desc })),
        (1u32..100, vec(simple_action(), 0..4), bytes(60)).prop_map(|(port, actions, mut data)| {
            data.resize(data.len().max(14), 0);
            Message::PacketOut(PacketOut::new(OfPort(port), actions, data))
        }),
        packet_in2().prop_map(|packet| {
            // Fields that a packet brings along, in the older format.
            let fields = packet.fields;
            Message::NxPacketIn(PacketIn {
                buffer_id: packet.buffer_id.unwrap_or(0xffff_ffff),
                total_len: packet.packet.len() as u16,
                reason: packet.reason.unwrap_or(PacketInReason::ACTION),
                table: packet.table.unwrap_or(0),
                cookie: packet.cookie.unwrap_or(0),
                fields,
                data: packet.packet,
            })
        }),
        packet_in2().prop_map(Message::PacketIn2),
        packet_in2().prop_map(Message::Resume),
    ];
    let changes = prop_oneof![
        flow_mod().prop_map(Message::FlowMod),
        group_mod().prop_map(Message::GroupMod),
        (port(), any::<[u8; 6]>(), any::<u32>(), any::<u32>(), any::<u32>()).prop_map(
            |(port, mac, config, mask, advertise)| {
                Message::PortMod(PortMod {
                    port,
                    hw_addr: MacAddr(mac),
                    config: config & 0x65,
                    mask: mask & 0x65,
                    advertise: advertise & 0xffff,
                })
            }
        ),
        any::<u8>().prop_map(|table| Message::TableMod(TableMod { table, config: 0 })),
        (select(vec![MeterModCommand::Add, MeterModCommand::Modify, MeterModCommand::Delete]), meter())
            .prop_map(|(command, meter)| Message::MeterMod(MeterMod { command, meter })),
        request().prop_map(|request| Message::MultipartRequest { more: false, request }),
        (any::<bool>(), reply()).prop_map(|(more, reply)| Message::MultipartReply { more, reply }),
        (any::<u32>(), 0u16..8, 0u16..4).prop_map(|(id, kind, flags)| Message::BundleControl(
            BundleControl { id, kind: BundleControlType(kind), flags: BundleFlags(flags) }
        )),
        (any::<u32>(), 0u16..4, bundled).prop_map(|(id, flags, message)| Message::BundleAdd(BundleAdd {
            id,
            flags: BundleFlags(flags),
            xid: 7,
            message: Box::new(message)
        })),
        any::<u32>().prop_map(Message::FlowMonitorCancel),
        (0u32..3).prop_map(Message::SetPacketInFormat),
        asynchronous().prop_map(Message::NxSetAsync),
        vec((select(AsyncEvent::ALL.to_vec()), any::<bool>(), any::<u32>()), 0..6).prop_map(|properties| {
            let property = |(event, slave, mask): (AsyncEvent, bool, u32)| AsyncProperty {
                event,
                slave,
                mask: mask & event.reasons(),
            };
            Message::NxSetAsync2(properties.into_iter().map(property).collect())
        }),
        any::<u16>().prop_map(Message::SetControllerId),
        (select(vec![TlvTableCommand::Add, TlvTableCommand::Delete, TlvTableCommand::Clear]), tlv_maps())
            .prop_map(|(command, maps)| Message::TlvTableMod(TlvTableMod { command, maps })),
        (any::<u32>(), any::<u16>(), tlv_maps()).prop_map(|(max_option_space, max_fields, maps)| {
            Message::TlvTableReply(TlvTable { max_option_space, max_fields, maps })
        }),
        any::<u16>().prop_map(Message::CtFlushZone),
        ct_flush().prop_map(Message::CtFlush),
    ];
    prop_oneof![1 => first, 1 => packets, 3 => changes]
}

pub fn group_mod() -> impl Strategy<Value = GroupMod> {
    use GroupModCommand::*;
    (select(vec![Add, Modify, Delete, AddOrModify]), group()).prop_map(|(command, mut group)| {
        if command == Delete {
            group.buckets.clear();
        }
        GroupMod { command, group }
    })
}
