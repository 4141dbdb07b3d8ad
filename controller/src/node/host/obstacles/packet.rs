//! A packet of a kind of traffic, and whether a rule's match is true of it.
//!
//! What every packet of the kind has is known: links, protocol, networks. What differs from one to the next (a port, a mark) is
//! taken to be something that no rule names: a rule for one port is true of a few of them, and not what decides about the kind.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::Value;

use super::ranges::Ranges;

/// How much of a kind of traffic a match is true of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Of none of it.
    No,
    /// Of single ports, addresses or marks.
    Few,
    /// Of these addresses: the others must be looked at for themselves.
    Part(Ranges),
    /// That can't be said.
    Unknown,
    /// Of all but single ports, addresses or marks.
    Most,
    /// Of all of it.
    Yes,
}

impl Answer {
    pub(super) fn of(is_so: bool) -> Self {
        if is_so { Self::Yes } else { Self::No }
    }

    /// Both are true.
    pub(super) fn and(self, other: Self) -> Self {
        use Answer::{Few, Most, No, Part, Unknown, Yes};
        match (self, other) {
            (No, _) | (_, No) => No,
            (Few, _) | (_, Few) => Few,
            (Part(a), Part(b)) => {
                let both = a.intersection(&b);
                if both.is_empty() { No } else { Part(both) }
            }
            (Part(part), _) | (_, Part(part)) => Part(part),
            (Unknown, _) | (_, Unknown) => Unknown,
            (Most, _) | (_, Most) => Most,
            (Yes, Yes) => Yes,
        }
    }

    /// One of them is true.
    fn or(self, other: Self) -> Self {
        use Answer::{Few, Most, No, Part, Unknown, Yes};
        match (self, other) {
            (Yes, _) | (_, Yes) => Yes,
            (Most, _) | (_, Most) => Most,
            (Part(a), Part(b)) => Part(a.iter().chain(b.iter()).collect()),
            (Part(part), _) | (_, Part(part)) => Part(part),
            (Unknown, _) | (_, Unknown) => Unknown,
            (Few, _) | (_, Few) => Few,
            (No, No) => No,
        }
    }
}

/// The protocol in an IPv4 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

impl Protocol {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }

    /// Its number at IANA.
    fn number(self) -> u64 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Icmp => 1,
        }
    }
}

/// The link by which a packet comes or goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// There is none, as for what the node itself sends: its name is empty.
    None,
    Named(String),
    Unknown,
}

/// The addresses that a packet of the kind can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) ranges: Ranges,
    /// Each of them counts, as those of nodes do; else a rule for some of them is no rule for the kind.
    pub(super) each: bool,
}

impl Addresses {
    pub(super) fn one(address: Ipv4Addr) -> Self {
        Self { ranges: [(address.to_bits(), address.to_bits())].into_iter().collect(), each: false }
    }
}

/// A packet of a kind of traffic, the first of its connection.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) iif: Link,
    pub(super) oif: Link,
    pub(super) saddr: Addresses,
    pub(super) daddr: Addresses,
    pub(super) protocol: Protocol,
    /// None: any.
    pub(super) dport: Option<u16>,
    /// It passes conntrack by.
    pub(super) untracked: bool,
    /// Its destination has been translated, from a service or a node port.
    pub(super) translated: bool,
    /// It is for the node itself.
    pub(super) to_node: bool,
}

/// What a match looks at, as far as the packet has it.
enum Field<'a> {
    /// It has not: then neither `==` nor `!=` is true.
    Absent,
    Unknown,
    Addresses(&'a Addresses),
    Link(&'a Link),
    Words(&'static [&'static str]),
    Protocol(Protocol),
    Flags(Vec<&'static str>),
    Port(Option<u16>),
    Mark,
    Several(Vec<Field<'a>>),
}

/// Sets of a table by name.
pub(super) type Sets = BTreeMap<String, Vec<Value>>;

/// Rules for this many ports or more are not for single ones.
const MANY_PORTS: u64 = 1 << 15;

impl Packet {
    /// Whether a `match` of nft's JSON is true. `marked`: a rule that the packet has come by may have marked it.
    pub(super) fn matches(&self, found: &Value, sets: &Sets, marked: bool) -> Answer {
        let (Some(op), Some(left), Some(right)) =
            (found.get("op").and_then(Value::as_str), found.get("left"), found.get("right"))
        else {
            return Answer::Unknown;
        };
        let field = self.field(left, marked);
        match op {
            _ if matches!(field, Field::Absent) => Answer::No,
            "==" | "in" => among(&field, right, sets, op == "in"),
            // Several flags: none of them; or, of what a mask leaves, another combination.
            "!=" => self.opposite(among(&field, right, sets, left.get("&").is_none())),
            _ => match (field, right.as_u64()) {
                (Field::Port(Some(port)), Some(limit)) => compare(port.into(), op, limit),
                _ => Answer::Unknown,
            },
        }
    }

    /// Whether the key of a verdict map has this element.
    pub(super) fn is_element(&self, key: &Value, element: &Value, marked: bool) -> Answer {
        match self.field(key, marked) {
            Field::Absent => Answer::No,
            field => one(&field, element, true),
        }
    }

    /// The addresses each of which counts.
    pub(super) fn each(&mut self) -> Option<&mut Addresses> {
        [&mut self.saddr, &mut self.daddr].into_iter().find(|addresses| addresses.each)
    }

    fn opposite(&self, answer: Answer) -> Answer {
        match answer {
            Answer::No => Answer::Yes,
            Answer::Few => Answer::Most,
            Answer::Part(part) => {
                let all = if self.saddr.each { &self.saddr } else { &self.daddr };
                Answer::Part(all.ranges.without(&part))
            }
            Answer::Unknown => Answer::Unknown,
            Answer::Most => Answer::Few,
            Answer::Yes => Answer::No,
        }
    }

    fn field(&self, left: &Value, marked: bool) -> Field<'_> {
        let Some((kind, inner)) = left.as_object().and_then(|object| object.iter().next()) else {
            return Field::Unknown;
        };
        let word = |key: &str| inner.get(key).and_then(Value::as_str).unwrap_or_default();
        let mark = if marked { Field::Unknown } else { Field::Mark };
        match kind.as_str() {
            "meta" => match word("key") {
                "iifname" | "iif" => Field::Link(&self.iif),
                "oifname" | "oif" => Field::Link(&self.oif),
                "nfproto" => Field::Words(&["ipv4"]),
                "protocol" => Field::Words(&["ip"]),
                "l4proto" => Field::Protocol(self.protocol),
                "pkttype" => Field::Words(&["host", "unicast"]),
                "mark" => mark,
                _ => Field::Unknown,
            },
            "payload" => self.payload(word("protocol"), word("field")),
            "ct" if inner.get("dir").is_some() => Field::Unknown,
            "ct" => match word("key") {
                "state" if self.untracked => Field::Flags(vec!["untracked"]),
                "state" => Field::Flags(vec!["new"]),
                _ if self.untracked => Field::Absent,
                "status" => Field::Flags(if self.translated { vec!["dnat"] } else { Vec::new() }),
                "direction" => Field::Words(&["original"]),
                "mark" => mark,
                _ => Field::Unknown,
            },
            "fib" => match (word("result"), inner.get("flags")) {
                ("type", Some(Value::Array(flags))) if matches!(flags.as_slice(), [Value::String(flag)] if flag == "daddr") => {
                    Field::Words(if self.to_node { &["local"] } else { &["unicast"] })
                }
                _ => Field::Unknown,
            },
            "&" => match inner.as_array().map(Vec::as_slice) {
                Some([inner, mask]) => match self.field(inner, marked) {
                    // A part of no mark is none.
                    Field::Mark => Field::Mark,
                    Field::Flags(flags) => match words(mask) {
                        Some(mask) => {
                            Field::Flags(flags.into_iter().filter(|flag| mask.contains(flag)).collect())
                        }
                        None => Field::Unknown,
                    },
                    Field::Absent => Field::Absent,
                    _ => Field::Unknown,
                },
                _ => Field::Unknown,
            },
            "concat" => {
                let parts = inner.as_array().map(Vec::as_slice).unwrap_or_default();
                let parts: Vec<Field<'_>> = parts.iter().map(|part| self.field(part, marked)).collect();
                if parts.iter().any(|part| matches!(part, Field::Absent)) {
                    Field::Absent
                } else {
                    Field::Several(parts)
                }
            }
            _ => Field::Unknown,
        }
    }

    fn payload(&self, protocol: &str, field: &str) -> Field<'_> {
        let own = self.protocol.name();
        let has_ports = self.protocol != Protocol::Icmp;
        match (protocol, field) {
            ("ip", "saddr") => Field::Addresses(&self.saddr),
            ("ip", "daddr") => Field::Addresses(&self.daddr),
            ("ip", "protocol") => Field::Protocol(self.protocol),
            ("ip" | "ether" | "vlan", _) => Field::Unknown,
            ("th", "dport") if has_ports => Field::Port(self.dport),
            ("th", "sport") if has_ports => Field::Port(None),
            ("tcp" | "udp" | "icmp", _) if protocol != own => Field::Absent,
            ("tcp" | "udp", "dport") => Field::Port(self.dport),
            ("tcp" | "udp", "sport") => Field::Port(None),
            ("tcp", "flags") => Field::Flags(vec!["syn"]),
            ("icmp", "type") => Field::Words(&["echo-request"]),
            ("tcp" | "udp" | "icmp" | "th", _) => Field::Unknown,
            ("ip6" | "icmpv6" | "arp" | "igmp" | "sctp" | "dccp" | "udplite" | "ah" | "esp" | "comp", _) => {
                Field::Absent
            }
            // Raw bytes, and what is not known here.
            _ => Field::Unknown,
        }
    }
}

fn compare(port: u64, op: &str, limit: u64) -> Answer {
    match op {
        "<" => Answer::of(port < limit),
        "<=" => Answer::of(port <= limit),
        ">" => Answer::of(port > limit),
        ">=" => Answer::of(port >= limit),
        _ => Answer::Unknown,
    }
}

/// Whether the field is `right`, or one of the elements of a set. `any`: one of several flags is enough.
fn among(field: &Field<'_>, right: &Value, sets: &Sets, any: bool) -> Answer {
    let named = right.as_str().and_then(|name| name.strip_prefix('@'));
    let elements = match (named, right.get("set")) {
        (Some(name), _) => match sets.get(name) {
            Some(elements) => elements.as_slice(),
            None => return Answer::Unknown,
        },
        (None, Some(Value::Array(elements))) => elements.as_slice(),
        (None, Some(element)) => std::slice::from_ref(element),
        (None, None) => std::slice::from_ref(right),
    };
    if let Field::Addresses(addresses) = field {
        // At once: together they can be all.
        return match elements.iter().map(range).collect::<Option<Ranges>>() {
            Some(ranges) => within(addresses, &ranges),
            None => Answer::Unknown,
        };
    }
    elements.iter().fold(Answer::No, |answer, element| answer.or(one(field, element, any)))
}

/// Whether the field is this one element.
fn one(field: &Field<'_>, element: &Value, any: bool) -> Answer {
    // Elements with a timeout, a counter or a comment are wrapped.
    if let Some(inner) = element.get("elem").and_then(|elem| elem.get("val")) {
        return one(field, inner, any);
    }
    let text = element.as_str();
    if text == Some("*") {
        return Answer::Yes;
    }
    match field {
        Field::Absent => Answer::No,
        Field::Unknown => Answer::Unknown,
        Field::Addresses(addresses) => match range(element) {
            Some(range) => within(addresses, &[range].into_iter().collect()),
            None => Answer::Unknown,
        },
        Field::Link(Link::Unknown) => Answer::Unknown,
        // By its number nft names only what is not there any more.
        Field::Link(_) if element.is_number() => Answer::No,
        Field::Link(link) => text.map_or(Answer::Unknown, |pattern| {
            let name = if let Link::Named(name) = link { name.as_str() } else { "" };
            Answer::of(is_link(name, pattern))
        }),
        Field::Words(own) => text.map_or(Answer::Unknown, |text| Answer::of(own.contains(&text))),
        Field::Protocol(own) => match (text, element.as_u64()) {
            (Some(text), _) => Answer::of(own.name() == text),
            (None, Some(number)) => Answer::of(own.number() == number),
            (None, None) => Answer::Unknown,
        },
        Field::Flags(own) => match words(element) {
            Some(words) if any => Answer::of(words.iter().any(|word| own.contains(word))),
            Some(words) => {
                Answer::of(words.len() == own.len() && own.iter().all(|flag| words.contains(flag)))
            }
            None => Answer::Unknown,
        },
        Field::Port(port) => ports(*port, element),
        // Packets have none but by a rule.
        Field::Mark => match element.as_u64() {
            Some(0) => Answer::Most,
            Some(_) => Answer::Few,
            None => Answer::Unknown,
        },
        Field::Several(fields) => match element.get("concat").and_then(Value::as_array) {
            Some(parts) if parts.len() == fields.len() => {
                let parts = fields.iter().zip(parts).map(|(field, part)| one(field, part, any));
                parts.fold(Answer::Yes, Answer::and)
            }
            _ => Answer::Unknown,
        },
    }
}

fn within(addresses: &Addresses, ranges: &Ranges) -> Answer {
    let both = addresses.ranges.intersection(ranges);
    match both {
        both if both == addresses.ranges => Answer::Yes,
        both if both.is_empty() => Answer::No,
        both if addresses.each => Answer::Part(both),
        _ => Answer::Few,
    }
}

fn ports(port: Option<u16>, element: &Value) -> Answer {
    let bounds = element.get("range").and_then(Value::as_array).map(Vec::as_slice);
    let (from, to) = match (element.as_u64(), bounds) {
        (Some(one), _) => (one, one),
        (None, Some([from, to])) => match (from.as_u64(), to.as_u64()) {
            (Some(from), Some(to)) => (from, to),
            _ => return Answer::Unknown,
        },
        _ => return Answer::Unknown,
    };
    match port.map(u64::from) {
        Some(port) => Answer::of(from <= port && port <= to),
        None if (from, to) == (0, u16::MAX.into()) => Answer::Yes,
        None if to.saturating_sub(from) >= MANY_PORTS => Answer::Unknown,
        None => Answer::Few,
    }
}

/// Whether a link has a name that can end in `*`.
fn is_link(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        // A star of the name itself.
        Some(start) if start.ends_with('\\') => {
            start.strip_suffix('\\').is_some_and(|start| name.strip_suffix('*') == Some(start))
        }
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

/// Flags: one, or several in an array or joined by `|`.
fn words(value: &Value) -> Option<Vec<&str>> {
    let value = value.get("|").unwrap_or(value);
    match value {
        Value::Array(values) => values.iter().map(Value::as_str).collect(),
        Value::String(one) => Some(vec![one]),
        Value::Number(number) if number.as_u64() == Some(0) => Some(Vec::new()),
        _ => None,
    }
}

/// An address, a prefix or a range, from its first to its last.
fn range(value: &Value) -> Option<(u32, u32)> {
    let address = |value: &Value| Some(value.as_str()?.parse::<Ipv4Addr>().ok()?.to_bits());
    if let Some(inner) = value.get("elem").and_then(|elem| elem.get("val")) {
        return range(inner);
    }
    if let Some(prefix) = value.get("prefix") {
        let length = u32::try_from(prefix.get("len")?.as_u64()?).ok().filter(|length| *length <= 32)?;
        let mask = u32::MAX.checked_shl(32 - length).unwrap_or_default();
        let first = address(prefix.get("addr")?)? & mask;
        return Some((first, first | !mask));
    }
    if let Some([from, to]) = value.get("range").and_then(Value::as_array).map(Vec::as_slice) {
        return Some((address(from)?, address(to)?));
    }
    if value.as_str() == Some("*") {
        return Some((0, u32::MAX));
    }
    let one = address(value)?;
    Some((one, one))
}
