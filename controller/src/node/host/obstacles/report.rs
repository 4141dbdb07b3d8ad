//! What was found, in words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipnet::Ipv4Subnets;

use super::packet::{Link, Packet};
use super::ranges::Ranges;
use super::remedy::{self, Remedy};
use super::ruleset::{Ruleset, TableId, named};
use super::traffic::{Kind, Traffic};
use super::walk::{Fate, Met, Place, Split, through};
use crate::node::host::firewall::TABLE;

/// Rules for single ports and addresses are named as an example, up to this many.
const EXAMPLES: usize = 3;

/// What becomes of each kind of traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    kinds: Vec<Findings>,
    /// Tables that are not looked at.
    legacy: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Findings {
    what: String,
    stopped: Vec<String>,
    unclear: Vec<String>,
    particular: BTreeSet<String>,
    remedies: Vec<Remedy>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some((_, text)) => write!(f, "`{text}`")?,
            None => f.write_str("`policy drop`")?,
        }
        write!(f, " in chain {} of table {}", named(&self.chain), self.table)
    }
}

impl Report {
    /// Takes packets of each kind through the ruleset.
    pub(super) fn of(ruleset: &Ruleset, traffic: &Traffic) -> Self {
        let kinds = Kind::ALL.into_iter().map(|kind| Findings::of(kind, ruleset, traffic)).collect();
        Self { kinds, legacy: ruleset.legacy.clone() }
    }

    /// What is stopped, a line for each kind and rule.
    #[must_use]
    pub fn obstacles(&self) -> Vec<String> {
        self.kinds
            .iter()
            .flat_map(|kind| kind.stopped.iter().map(|stop| format!("{}{stop}", kind.what)))
            .collect()
    }

    /// What it can't be told of whether it is stopped.
    #[must_use]
    pub fn unclear(&self) -> Vec<String> {
        self.kinds
            .iter()
            .flat_map(|kind| kind.unclear.iter().map(|doubt| format!("{}{doubt}", kind.what)))
            .collect()
    }

    /// How many kinds of traffic are stopped, whole or in part.
    #[must_use]
    pub fn stopped_kinds(&self) -> usize {
        self.kinds.iter().filter(|kind| !kind.stopped.is_empty()).count()
    }

    /// Whether all passes for certain.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.kinds.iter().all(|kind| kind.stopped.is_empty() && kind.unclear.is_empty())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in &self.kinds {
            for line in kind.stopped.iter().chain(&kind.unclear) {
                writeln!(f, "{}{line}", kind.what)?;
            }
            if kind.stopped.is_empty() && kind.unclear.is_empty() {
                writeln!(f, "{}: passes", kind.what)?;
            }
            if !kind.particular.is_empty() {
                let examples: Vec<&str> = kind.particular.iter().take(EXAMPLES).map(String::as_str).collect();
                let number = kind.particular.len();
                writeln!(
                    f,
                    "  rules for single ports, addresses or marks of it, which are not judged: {number}, such as {}",
                    examples.join(", ")
                )?;
            }
        }
        if !self.legacy.is_empty() {
            let tables = self.legacy.join(", ");
            writeln!(
                f,
                "tables of iptables-legacy are not looked at: {tables}; `iptables-legacy-save` shows their rules"
            )?;
        }
        let remedies = || self.kinds.iter().flat_map(|kind| &kind.remedies);
        let mut said = BTreeSet::new();
        let mut say = |f: &mut fmt::Formatter<'_>, title: &str, lines: Vec<&String>| {
            let new: Vec<&String> = lines.into_iter().filter(|line| said.insert((*line).clone())).collect();
            if !new.is_empty() {
                writeln!(f, "\n{title}")?;
            }
            new.into_iter().try_for_each(|line| writeln!(f, "  {line}"))
        };
        let firewalld = remedies().filter_map(|remedy| {
            if let Remedy::Firewalld(commands) = remedy { Some(commands) } else { None }
        });
        say(f, "To let it pass, now and after the next start of firewalld:", firewalld.flatten().collect())?;
        let now = remedies()
            .filter_map(|remedy| if let Remedy::Now(command) = remedy { Some(command) } else { None });
        say(
            f,
            "To let it pass until those rules are loaded anew, and the same where they are kept:",
            now.collect(),
        )?;
        let words = remedies()
            .filter_map(|remedy| if let Remedy::Words(words) = remedy { Some(words) } else { None });
        say(f, "Besides:", words.collect())?;
        if self.is_clear() {
            writeln!(f, "\nNothing stands in the way.")?;
        }
        Ok(())
    }
}

/// Packets with one fate.
#[derive(Default)]
struct Share {
    protocols: BTreeSet<&'static str>,
    pods_or_nodes: Ranges,
}

impl Share {
    fn add(&mut self, kind: Kind, packet: &Packet) {
        let addresses = match kind {
            Kind::VxlanOut | Kind::NodeToPods | Kind::OutsideToPods => &packet.daddr,
            _ => &packet.saddr,
        };
        self.protocols.insert(packet.protocol.name());
        self.pods_or_nodes = self.pods_or_nodes.iter().chain(addresses.ranges.iter()).collect();
    }

    /// What sets it apart from all packets of the kind.
    fn only(&self, all: &Self) -> String {
        let mut only = String::new();
        if self.protocols != all.protocols {
            let protocols: Vec<&str> = self.protocols.iter().copied().collect();
            only = format!(", {} only", protocols.join(" and "));
        }
        if self.pods_or_nodes != all.pods_or_nodes {
            let networks: Vec<String> = self
                .pods_or_nodes
                .iter()
                .flat_map(|(from, to)| Ipv4Subnets::new(from.into(), to.into(), 0))
                .map(|network| network.to_string().trim_end_matches("/32").to_owned())
                .collect();
            only = format!("{only}, {} only", networks.join(" and "));
        }
        only
    }
}

impl Findings {
    fn of(kind: Kind, ruleset: &Ruleset, traffic: &Traffic) -> Self {
        let mut met = Met::default();
        let mut all = Share::default();
        let mut shares: BTreeMap<(bool, Place), (Share, Packet)> = BTreeMap::new();
        let mut open = kind.packets(traffic);
        while let Some(mut packet) = open.pop() {
            let fate = match fate(kind, ruleset, &packet, &mut met) {
                Ok(fate) => fate,
                Err(Split(part)) => {
                    let mut others = packet.clone();
                    if let Some((packet, others)) = packet.each().zip(others.each()) {
                        others.ranges = others.ranges.without(&part);
                        packet.ranges = packet.ranges.intersection(&part);
                    }
                    open.extend([packet, others]);
                    continue;
                }
            };
            all.add(kind, &packet);
            let key = match fate {
                Fate::Passes => continue,
                Fate::Stopped(place) => (true, place),
                Fate::Unclear(place) => (false, place),
            };
            let (share, _) = shares.entry(key).or_insert_with(|| (Share::default(), packet.clone()));
            share.add(kind, &packet);
        }
        let mut findings = Self {
            what: kind.describe(traffic),
            stopped: Vec::new(),
            unclear: Vec::new(),
            particular: met.particular.iter().map(ToString::to_string).collect(),
            remedies: Vec::new(),
        };
        for ((is_certain, place), (share, packet)) in shares {
            let only = share.only(&all);
            if is_certain {
                findings.stopped.push(format!("{only}: stopped by {place}"));
                findings.remedies.push(remedy::against(&place, kind, traffic, &packet, ruleset));
            } else {
                findings.unclear.push(format!("{only}: can't tell, it depends on {place}"));
            }
        }
        findings
    }
}

/// Through one hook after the other.
fn fate(kind: Kind, ruleset: &Ruleset, packet: &Packet, met: &mut Met) -> Result<Fate, Split> {
    let own = TableId { family: "ip".to_owned(), name: TABLE.to_owned() };
    let mut unclear = Fate::Passes;
    met.unmarked();
    for hook in kind.hooks() {
        let mut packet = packet.clone();
        if ["ingress", "prerouting", "input"].contains(hook) {
            packet.oif = Link::None;
        }
        match through(ruleset, &packet, hook, &own, met)? {
            Fate::Passes => {}
            Fate::Stopped(place) => return Ok(Fate::Stopped(place)),
            doubt if unclear == Fate::Passes => unclear = doubt,
            Fate::Unclear(_) => {}
        }
    }
    Ok(unclear)
}
