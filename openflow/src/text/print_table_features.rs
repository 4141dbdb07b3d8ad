//! What tables can do, in the words of `ovs-ofctl`: of a table like the one before it says only so, and names that begin
//! alike are folded.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use super::names::Out;
use super::print_message::write_hex;
use super::print_stats::ACTIONS;
use crate::field::Field;
use crate::message::{TableFeatures, TableList};

/// `OFPTFPT_*`; the next number is the same for the table-miss flow.
mod ofptfpt {
    pub(super) const INSTRUCTIONS: u16 = 0;
    pub(super) const NEXT_TABLES: u16 = 2;
    pub(super) const WRITE_ACTIONS: u16 = 4;
    pub(super) const APPLY_ACTIONS: u16 = 6;
    pub(super) const MATCH: u16 = 8;
    pub(super) const WILDCARDS: u16 = 10;
    pub(super) const WRITE_SETFIELD: u16 = 12;
    pub(super) const APPLY_SETFIELD: u16 = 14;
}

/// `OFPIT_*`, in the order in which they are told.
const INSTRUCTIONS: &[(u8, &str)] = &[
    (6, "meter"),
    (4, "apply_actions"),
    (5, "clear_actions"),
    (3, "write_actions"),
    (2, "write_metadata"),
    (1, "goto_table"),
];

/// Fields by the names that they have here, in the order in which they are told; `name*n` are `n` of them, from 0 on.
const FIELDS: &str = "dp_hash recirc_id packet_type conj_id tun_id tun_src tun_dst tun_ipv6_src tun_ipv6_dst tun_flags \
    tun_gbp_id tun_gbp_flags tun_erspan_idx tun_erspan_ver tun_erspan_dir tun_erspan_hwid tun_gtpu_flags tun_gtpu_msgtype \
    tun_metadata*64 metadata in_port in_port_oxm actset_output pkt_mark ct_state ct_zone ct_mark ct_label ct_nw_proto \
    ct_nw_src ct_nw_dst ct_ipv6_src ct_ipv6_dst ct_tp_src ct_tp_dst reg*16 xreg*8 xxreg*4 eth_src eth_dst eth_type vlan_tci \
    vlan_vid vlan_pcp mpls_label mpls_tc mpls_bos mpls_ttl ip_src ip_dst ipv6_src ipv6_dst ipv6_label nw_proto nw_tos \
    ip_dscp nw_ecn nw_ttl ip_frag arp_op arp_spa arp_tpa arp_sha arp_tha tcp_src tcp_dst tcp_flags udp_src udp_dst sctp_src \
    sctp_dst icmp_type icmp_code icmpv6_type icmpv6_code nd_target nd_sll nd_tll nd_reserved nd_options_type nsh_flags \
    nsh_mdtype nsh_np nsh_spi nsh_si nsh_c1 nsh_c2 nsh_c3 nsh_c4 nsh_ttl";

/// Names of all fields of [`FIELDS`], with the fields.
fn fields() -> impl Iterator<Item = (Field, String)> {
    let names = FIELDS.split_whitespace().flat_map(|word| match word.split_once('*') {
        Some((stem, n)) => (0..n.parse().unwrap_or(0)).map(|i: u8| format!("{stem}{i}")).collect(),
        None => vec![word.to_owned()],
    });
    names.filter_map(|name| {
        // NXM's has 16 bits and is a field of its own.
        let field = if name == "in_port" { Some(Field::IN_PORT_16) } else { Field::by_name(&name) };
        field.map(|field| (field, name))
    })
}

/// A name and its place among all.
type Word = (usize, String);
type Words = BTreeSet<Word>;

/// What actions of a kind there are, and on which fields.
#[derive(Default, PartialEq, Eq)]
struct Actions {
    kinds: Words,
    set_fields: Words,
}

/// What flows can do.
#[derive(Default, PartialEq, Eq)]
struct Abilities {
    next: BTreeSet<u8>,
    instructions: Words,
    write: Actions,
    apply: Actions,
}

/// A table, taken apart.
struct Table<'a> {
    features: &'a TableFeatures,
    hit: Abilities,
    miss: Abilities,
    matching: Words,
    /// Which of `matching` may have any mask, and which may be left out.
    masked: Words,
    wildcards: Words,
}

impl<'a> Table<'a> {
    fn of(features: &'a TableFeatures, all: &[(Field, String)]) -> Self {
        let list = |kind| features.properties.iter().find(|property| property.kind == kind).map(|p| &p.list);
        let abilities = |is_miss: u16| {
            // What is not said of the table-miss flow is as for others.
            let list = |kind: u16| list(kind + is_miss).or_else(|| list(kind));
            let next = match list(ofptfpt::NEXT_TABLES) {
                Some(TableList::Tables(tables)) => {
                    tables.iter().copied().filter(|table| *table < 255).collect()
                }
                _ => BTreeSet::new(),
            };
            let actions = |kinds, set_fields| Actions {
                kinds: ids(list(kinds), ACTIONS),
                set_fields: headers(list(set_fields), all, |_| true),
            };
            Abilities {
                next,
                instructions: ids(list(ofptfpt::INSTRUCTIONS), INSTRUCTIONS),
                write: actions(ofptfpt::WRITE_ACTIONS, ofptfpt::WRITE_SETFIELD),
                apply: actions(ofptfpt::APPLY_ACTIONS, ofptfpt::APPLY_SETFIELD),
            }
        };
        Table {
            features,
            hit: abilities(0),
            miss: abilities(1),
            matching: headers(list(ofptfpt::MATCH), all, |_| true),
            masked: headers(list(ofptfpt::MATCH), all, |header| header & 0x100 != 0),
            wildcards: headers(list(ofptfpt::WILDCARDS), all, |_| true),
        }
    }

    /// Whether it is like the table before it, for `ovs-ofctl`: how fields are matched does not count.
    fn is_like(&self, before: &Table<'_>) -> bool {
        let numbers = |table: &Table<'_>| {
            let TableFeatures { metadata_match, metadata_write, max_entries, .. } = table.features;
            (*metadata_match, *metadata_write, *max_entries)
        };
        numbers(self) == numbers(before)
            && self.does_like(before)
            && self.matching == before.matching
            && self.others().eq(before.others())
    }

    /// Whether flows in it can do what those in the table before it can.
    fn does_like(&self, before: &Table<'_>) -> bool {
        let (table, last) = (self.features.table, before.features.table);
        let next = |now: &BTreeSet<u8>, before: &BTreeSet<u8>| {
            // The very next table may be among those that follow the one before, but not among those that follow itself.
            let but_itself = || before.iter().filter(|next| **next != table);
            now == before || last.checked_add(1) == Some(table) && now.iter().eq(but_itself())
        };
        [(&self.hit, &before.hit), (&self.miss, &before.miss)].into_iter().all(|(now, before)| {
            next(&now.next, &before.next)
                && now.instructions == before.instructions
                && (&now.write, &now.apply) == (&before.write, &before.apply)
        })
    }

    /// Properties that we do not know.
    fn others(&self) -> impl Iterator<Item = (u16, &[u8])> {
        self.features.properties.iter().filter_map(|property| match &property.list {
            TableList::Unknown(bytes) => Some((property.kind, &bytes[..])),
            _ => None,
        })
    }
}

fn ids(list: Option<&TableList>, names: &[(u8, &str)]) -> Words {
    let Some(TableList::Ids(ids)) = list else { return Words::new() };
    let word = |(id, experimenter): &(u16, Vec<u8>)| match names
        .iter()
        .position(|(known, _)| u16::from(*known) == *id)
    {
        Some(at) => (at, names.get(at).map_or("", |(_, name)| name).to_owned()),
        None => {
            let hex: String = experimenter.iter().map(|byte| format!("{byte:02x}")).collect();
            (usize::MAX, format!("{id:#x}{hex}"))
        }
    };
    ids.iter().map(word).collect()
}

fn headers(list: Option<&TableList>, all: &[(Field, String)], is_wanted: impl Fn(u32) -> bool) -> Words {
    let Some(TableList::Fields(fields)) = list else { return Words::new() };
    let word = |(header, experimenter): &(u32, Option<u32>)| {
        let (class, number) = ((header >> 16) as u16, (header >> 9 & 0x7f) as u8);
        let Some(field) = Field::by_header(class, number, experimenter.unwrap_or(0)) else {
            return (usize::MAX, format!("{header:#x}"));
        };
        match all.iter().position(|(known, _)| *known == field) {
            Some(at) => (at, all.get(at).map_or_else(String::new, |(_, name)| name.clone())),
            // Open vSwitch has no such field.
            None => (usize::MAX, field.to_string()),
        }
    };
    fields.iter().filter(|(header, _)| is_wanted(*header)).map(word).collect()
}

/// What tables can do.
pub(super) fn write_table_features(f: &mut Out<'_>, tables: &[TableFeatures]) -> fmt::Result {
    let all: Vec<_> = fields().collect();
    let mut before: Option<Table<'_>> = None;
    let mut dittos: Option<(u8, u8)> = None;
    for features in tables {
        let table = Table::of(features, &all);
        let is_same = before.as_ref().is_some_and(|before| table.is_like(before));
        if is_same && features.name.is_empty() {
            let first = dittos.map_or(features.table, |(first, _)| first);
            dittos = Some((first, features.table));
            before = Some(table);
            continue;
        }
        write_dittos(f, dittos.take())?;
        write!(f, "\n  table {}", features.table)?;
        if !features.name.is_empty() {
            write!(f, " ({:?})", features.name)?;
        }
        f.write_char(':')?;
        match is_same {
            true => f.write_str(" ditto")?,
            false => write_table(f, &table, before.as_ref())?,
        }
        before = Some(table);
    }
    write_dittos(f, dittos)
}

fn write_dittos(f: &mut Out<'_>, tables: Option<(u8, u8)>) -> fmt::Result {
    match tables {
        None => Ok(()),
        Some((first, last)) if first == last => writeln!(f, "\n  table {first}: ditto"),
        Some((first, last)) => writeln!(f, "\n  tables {first}...{last}: ditto"),
    }
}

fn write_table(f: &mut Out<'_>, table: &Table<'_>, before: Option<&Table<'_>>) -> fmt::Result {
    let TableFeatures { metadata_match, metadata_write, max_entries, .. } = *table.features;
    f.write_char('\n')?;
    if metadata_match != 0 || metadata_write != 0 {
        let hex = |n: u64| if n == 0 { "0".to_owned() } else { format!("{n:#x}") };
        writeln!(f, "    metadata: match={} write={}", hex(metadata_match), hex(metadata_write))?;
    }
    if max_entries != 0 {
        writeln!(f, "    max_entries={max_entries}")?;
    }
    let Table { hit, miss, .. } = table;
    let nothing = Abilities::default();
    if before.is_some_and(|before| table.does_like(before)) {
        if *hit != nothing {
            f.write_str("    (same instructions)\n")?;
        }
    } else if hit != miss {
        f.write_str("    instructions (other than table miss):\n")?;
        write_abilities(f, hit, before.map(|before| &before.hit))?;
        f.write_str("    instructions (table miss):\n")?;
        write_abilities(f, miss, before.map(|before| &before.miss))?;
    } else if *hit != nothing {
        f.write_str("    instructions (table miss and others):\n")?;
        write_abilities(f, hit, before.map(|before| &before.hit))?;
    }
    if before.is_some_and(|before| table.matching == before.matching) {
        if !table.matching.is_empty() {
            f.write_str("    (same matching)\n")?;
        }
    } else if !table.matching.is_empty() {
        f.write_str("    matching:\n")?;
        let of_kind = |is_masked, is_wild| {
            let kind = move |word: &&Word| {
                table.masked.contains(*word) == is_masked
                    && (is_masked || table.wildcards.contains(*word) == is_wild)
            };
            names(table.matching.iter().filter(kind))
        };
        write_line(f, "      arbitrary mask: ", &folded(&of_kind(true, true), ' '))?;
        write_line(f, "      exact match or wildcard: ", &folded(&of_kind(false, true), ' '))?;
        write_line(f, "      must exact match: ", &folded(&of_kind(false, false), ' '))?;
    }
    table.others().try_for_each(|(kind, bytes)| {
        write!(f, "    property {kind}: ")?;
        write_hex(f, bytes)?;
        f.write_char('\n')
    })
}

fn write_abilities(f: &mut Out<'_>, now: &Abilities, before: Option<&Abilities>) -> fmt::Result {
    if !now.next.is_empty() {
        writeln!(f, "      next tables: {}", ranges(&now.next))?;
    }
    let is_same = |same: fn(&Abilities, &Abilities) -> bool| before.is_some_and(|before| same(now, before));
    if !now.instructions.is_empty() && is_same(|a, b| a.instructions == b.instructions) {
        f.write_str("      (same instructions)\n")?;
    } else {
        write_line(f, "      instructions: ", &names(&now.instructions).join(" "))?;
    }
    let nothing = Actions::default();
    // Without fields to set they are told again.
    if !now.write.set_fields.is_empty() && is_same(|a, b| (&a.write, &a.apply) == (&b.write, &b.apply)) {
        f.write_str("      (same actions)\n")?;
    } else if now.write != now.apply {
        f.write_str("      Write-Actions features:\n")?;
        write_actions(f, &now.write)?;
        f.write_str("      Apply-Actions features:\n")?;
        write_actions(f, &now.apply)?;
    } else if now.write != nothing {
        f.write_str("      Write-Actions and Apply-Actions features:\n")?;
        write_actions(f, &now.write)?;
    }
    Ok(())
}

fn write_actions(f: &mut Out<'_>, actions: &Actions) -> fmt::Result {
    write_line(f, "        actions: ", &names(&actions.kinds).join(" "))?;
    write_line(f, "        supported on Set-Field: ", &folded(&names(&actions.set_fields), ' '))
}

fn names<'a>(words: impl IntoIterator<Item = &'a Word>) -> Vec<&'a str> {
    words.into_iter().map(|(_, name)| &name[..]).collect()
}

/// A line of a list, if it has anything.
fn write_line(f: &mut Out<'_>, what: &str, list: &str) -> fmt::Result {
    if list.is_empty() { Ok(()) } else { writeln!(f, "{what}{list}") }
}

/// `1-3,5`
fn ranges(numbers: &BTreeSet<u8>) -> String {
    let mut text = String::new();
    let mut numbers = numbers.iter().copied().peekable();
    while let Some(first) = numbers.next() {
        let mut last = first;
        while let Some(next) = numbers.next_if(|next| Some(*next) == last.checked_add(1)) {
            last = next;
        }
        let comma = if text.is_empty() { "" } else { "," };
        text += &if first == last { format!("{comma}{first}") } else { format!("{comma}{first}-{last}") };
    }
    text
}

/// `eth_{src,dst} reg0...reg15`: names one after the other with a common first word, and three or more that count up.
fn folded(names: &[&str], separator: char) -> String {
    let mut text = String::new();
    let mut rest = names;
    while let Some((first, others)) = rest.split_first() {
        if !text.is_empty() {
            text.push(separator);
        }
        let tail = |name: &'_ str, word: &str| name.strip_prefix(word)?.strip_prefix('_').map(str::len);
        let word = first.split_once('_').map_or("", |(word, _)| word);
        let alike =
            1 + others.iter().take_while(|name| !word.is_empty() && tail(name, word).is_some()).count();
        let counted = counted(rest);
        let n = if counted >= 3 && counted >= alike {
            let last = rest.get(counted - 1).unwrap_or(first);
            text += &format!("{first}...{last}");
            counted
        } else if alike >= 2 {
            let tails: Vec<&str> =
                rest.iter().take(alike).filter_map(|name| name.get(word.len() + 1..)).collect();
            text += &format!("{word}_{{{}}}", folded(&tails, ','));
            alike
        } else {
            text += first;
            1
        };
        rest = rest.get(n..).unwrap_or_default();
    }
    text
}

/// How many names differ from the first by a number only that counts up.
fn counted(names: &[&str]) -> usize {
    let split = |name: &str| {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (stem, number) = name.split_at_checked(stem)?;
        Some((stem.to_owned(), number.parse::<usize>().ok()?))
    };
    let Some((stem, first)) = names.first().and_then(|name| split(name)) else { return 1 };
    let counts = |(i, name): &(usize, &&str)| split(name) == Some((stem.clone(), first + i));
    names.iter().enumerate().take_while(counts).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_that_of_a_field() {
        let all: Vec<_> = fields().collect();
        let told = FIELDS.split_whitespace().map(|word| match word.split_once('*') {
            Some((_, n)) => n.parse().unwrap(),
            None => 1,
        });
        assert_eq!(all.len(), told.sum::<usize>());
        let distinct: BTreeSet<Field> = all.iter().map(|(field, _)| *field).collect();
        let missing: Vec<Field> = Field::all().filter(|field| !distinct.contains(field)).collect();
        assert_eq!(distinct.len(), all.len());
        // Open vSwitch does not know these.
        assert_eq!(missing, [Field::IN_PHY_PORT, Field::PBB_ISID, Field::PBB_UCA, Field::IPV6_EXTHDR]);
    }

    #[test]
    fn names_that_begin_alike_are_folded() {
        let text = |names: &str| folded(&names.split(' ').collect::<Vec<_>>(), ' ');
        assert_eq!(text("eth_src eth_dst eth_type vlan_vid"), "eth_{src,dst,type} vlan_vid");
        assert_eq!(text("in_port in_port_oxm"), "in_{port,port_oxm}");
        assert_eq!(text("reg0 reg1 reg2 reg4 reg5"), "reg0...reg2 reg4 reg5");
        assert_eq!(text("tun_metadata0 tun_metadata1 tun_metadata2"), "tun_metadata0...tun_metadata2");
        assert_eq!(text("tun_metadata0 tun_metadata1"), "tun_{metadata0,metadata1}");
        assert_eq!(
            text("tun_id tun_ipv6_src tun_ipv6_dst tun_metadata0 tun_metadata1 tun_metadata2 metadata"),
            "tun_{id,ipv6_{src,dst},metadata0...metadata2} metadata"
        );
    }
}
