//! A packet's way through the chains of a ruleset, as nft(8) describes it: base chains by hook and priority, from each to
//! those that its rules name, until a verdict ends it; an `accept` ends that base chain only.

use std::collections::BTreeMap;

use serde_json::Value;

use super::packet::{Answer, Packet, Protocol};
use super::ranges::Ranges;
use super::ruleset::{Base, Chain, Rule, Ruleset, Table, TableId};

/// How deep chains can be in each other (`NFT_JUMP_STACK_SIZE`).
const DEPTH: usize = 16;

/// A rule, or the policy of a chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) table: TableId,
    pub(super) chain: String,
    /// The base chain that led there.
    pub(super) base: String,
    /// The rule's handle, and the rule as nft prints it; none: the policy.
    pub(super) rule: Option<(u64, String)>,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Passes,
    Stopped(Place),
    /// That depends on a rule that is not understood.
    Unclear(Place),
}

impl Met {
    /// For the next packet.
    pub(super) fn unmarked(&mut self) {
        self.marked = false;
    }
}

/// The rules treat some of the addresses in another way than the others: these.
#[derive(Debug)]
pub(super) struct Split(pub(super) Ranges);

/// What a packet has met on its way.
#[derive(Debug, Default)]
pub(super) struct Met {
    /// Rules that stop single ports, addresses or marks.
    pub(super) particular: Vec<Place>,
    /// A rule may have marked the packet.
    marked: bool,
}

/// What can come of a chain, or of a rule.
#[derive(Clone, Debug, Default)]
struct Outcomes {
    accepted: bool,
    stops: Vec<Place>,
    /// Whoever has led there goes on: the end was reached, or `return`.
    returns: bool,
    /// Rules that hand the packet to somebody else.
    elsewhere: Vec<Place>,
    /// Rules that it is not known of whether they match.
    doubts: Vec<Place>,
    /// The packet may be marked on the way.
    marks: bool,
}

impl Outcomes {
    fn add(&mut self, other: Self) {
        self.accepted |= other.accepted;
        self.stops.extend(other.stops);
        self.returns |= other.returns;
        self.elsewhere.extend(other.elsewhere);
        self.doubts.extend(other.doubts);
        self.marks |= other.marks;
    }

    /// Whether anything else can come of it than that the next rule is looked at.
    fn decides(&self) -> bool {
        self.accepted || self.returns || !self.stops.is_empty() || !self.elsewhere.is_empty()
    }

    /// Of all of a base chain.
    fn fate(self) -> Fate {
        let Self { accepted, mut stops, elsewhere, doubts, .. } = self;
        // What is certain comes last.
        let Some(stop) = stops.pop() else {
            return elsewhere.into_iter().next().map_or(Fate::Passes, Fate::Unclear);
        };
        if !accepted && elsewhere.is_empty() {
            return Fate::Stopped(stop);
        }
        Fate::Unclear(doubts.into_iter().chain(elsewhere).next().unwrap_or(stop))
    }
}

enum Verdict<'a> {
    Accept,
    Stop,
    Return,
    Jump(&'a str),
    Goto(&'a str),
    /// Somebody else decides: a queue, or another destination.
    Elsewhere,
}

/// Takes a packet through all base chains of a hook.
pub(super) fn through(
    ruleset: &Ruleset,
    packet: &Packet,
    hook: &str,
    but: &TableId,
    met: &mut Met,
) -> Result<Fate, Split> {
    let mut bases: Vec<(&Base, &TableId, &Table, &str)> = Vec::new();
    for (id, table) in &ruleset.tables {
        // Others do not see IPv4 packets of the node; `netdev` has the hook ingress only.
        if !["ip", "inet", "netdev"].contains(&id.family.as_str()) || id == but {
            continue;
        }
        for (name, chain) in &table.chains {
            bases.extend(
                chain
                    .base
                    .as_ref()
                    .filter(|base| base.hook == hook)
                    .map(|base| (base, id, table, name.as_str())),
            );
        }
    }
    bases.sort_by_key(|(base, ..)| base.priority);
    let mut unclear = None;
    for (base, id, table, name) in bases {
        let Some(chain) = table.chains.get(name) else { continue };
        let here = on_link(packet, base);
        if here == Answer::No {
            continue;
        }
        let mut walk = Walk { packet, id, table, base: name, met, known: BTreeMap::new() };
        let mut came = walk.chain(name, chain, 0)?;
        if std::mem::take(&mut came.returns) {
            if base.drops {
                came.stops.push(walk.place(name, None));
            } else {
                came.accepted = true;
            }
        }
        if here == Answer::Unknown {
            came.accepted = true;
        }
        match came.fate() {
            Fate::Passes => {}
            Fate::Stopped(stop) => return Ok(Fate::Stopped(stop)),
            Fate::Unclear(doubt) => unclear = unclear.or(Some(doubt)),
        }
    }
    Ok(unclear.map_or(Fate::Passes, Fate::Unclear))
}

/// Whether the chain is for the link that the packet comes in by.
fn on_link(packet: &Packet, base: &Base) -> Answer {
    use super::packet::Link;
    match &packet.iif {
        _ if base.links.is_empty() => Answer::Yes,
        Link::Named(name) => Answer::of(base.links.contains(name)),
        Link::None => Answer::No,
        Link::Unknown => Answer::Unknown,
    }
}

struct Walk<'a, 'met> {
    packet: &'a Packet,
    id: &'a TableId,
    table: &'a Table,
    base: &'a str,
    met: &'met mut Met,
    /// Chains that it has been through, marked or not: many rules can lead to one.
    known: BTreeMap<(&'a str, bool), Outcomes>,
}

impl<'a> Walk<'a, '_> {
    fn place(&self, chain: &str, rule: Option<&Rule>) -> Place {
        let rule = rule.map(|rule| {
            let text = rule.text.clone().unwrap_or_else(|| Value::from(rule.expr.clone()).to_string());
            (rule.handle, text)
        });
        Place { table: self.id.clone(), chain: chain.to_owned(), base: self.base.to_owned(), rule }
    }

    fn chain(&mut self, name: &'a str, chain: &'a Chain, depth: usize) -> Result<Outcomes, Split> {
        let entered = self.met.marked;
        if let Some(known) = self.known.get(&(name, entered)) {
            self.met.marked |= known.marks;
            return Ok(known.clone());
        }
        let mut outcomes = Outcomes::default();
        let mut ended = false;
        'rules: for rule in &chain.rules {
            let (verdicts, marks) = self.rule(rule);
            outcomes.marks |= marks;
            for (answer, verdict) in verdicts {
                match &answer {
                    Answer::No => continue,
                    Answer::Part(part) => return Err(Split(part.clone())),
                    Answer::Few | Answer::Unknown | Answer::Most | Answer::Yes => {}
                }
                let marked = self.met.marked;
                let (came, goes_on) = self.follow(&verdict, name, rule, depth)?;
                match answer {
                    Answer::Few => {
                        // What becomes of those few becomes of no others.
                        self.met.marked = marked;
                        if !came.stops.is_empty() {
                            let place = self.place(name, Some(rule));
                            self.met.particular.push(place);
                        }
                    }
                    Answer::Unknown => {
                        if came.decides() {
                            outcomes.doubts.push(self.place(name, Some(rule)));
                        }
                        outcomes.add(came);
                    }
                    _ => {
                        outcomes.add(came);
                        if !goes_on {
                            ended = true;
                            break 'rules;
                        }
                    }
                }
            }
        }
        outcomes.returns |= !ended;
        self.known.insert((name, entered), outcomes.clone());
        Ok(outcomes)
    }

    /// What comes of a verdict, and whether the next rule is looked at then.
    fn follow(
        &mut self,
        verdict: &Verdict<'a>,
        chain: &str,
        rule: &Rule,
        depth: usize,
    ) -> Result<(Outcomes, bool), Split> {
        let mut came = Outcomes::default();
        let (Verdict::Jump(target) | Verdict::Goto(target)) = *verdict else {
            match verdict {
                Verdict::Accept => came.accepted = true,
                Verdict::Stop => came.stops.push(self.place(chain, Some(rule))),
                Verdict::Return => came.returns = true,
                _ => came.elsewhere.push(self.place(chain, Some(rule))),
            }
            return Ok((came, false));
        };
        let found = self.table.chains.get_key_value(target).filter(|_| depth < DEPTH);
        let Some((name, chain_there)) = found else {
            came.elsewhere.push(self.place(chain, Some(rule)));
            return Ok((came, false));
        };
        came = self.chain(name, chain_there, depth + 1)?;
        let jumps = matches!(verdict, Verdict::Jump(_));
        let goes_on = jumps && std::mem::take(&mut came.returns);
        Ok((came, goes_on))
    }

    /// The verdicts of a rule, each with what it is for, and whether it may mark the packet. One that has no verdict only
    /// counts, logs or marks.
    fn rule(&mut self, rule: &'a Rule) -> (Vec<(Answer, Verdict<'a>)>, bool) {
        let mut answer = Answer::Yes;
        let mut marks = false;
        for statement in &rule.expr {
            let Some((kind, value)) = statement.as_object().and_then(|object| object.iter().next()) else {
                answer = answer.and(Answer::Unknown);
                continue;
            };
            if let Some(verdict) = verdict(kind, value) {
                return (vec![(answer, verdict)], marks);
            }
            let (packet, sets, marked) = (self.packet, &self.table.sets, self.met.marked);
            let limited = value.get("stmt").is_some();
            answer = match kind.as_str() {
                "match" => answer.and(packet.matches(value, sets, marked)),
                "vmap" => return (self.verdict_map(&answer, value), marks),
                "xt" => match extension(value, packet, rule) {
                    Extension::Match(matches) => answer.and(matches),
                    Extension::Verdict(verdict) => return (vec![(answer, verdict)], marks),
                    Extension::Marks => {
                        marks |= self.mark(&answer);
                        answer
                    }
                    Extension::Neutral => answer,
                },
                "mangle" => {
                    let key = value.pointer("/key/meta/key").or(value.pointer("/key/ct/key"));
                    marks |= key.is_some_and(|key| key == "mark") && self.mark(&answer);
                    answer
                }
                // So many in a time; what is more is another matter.
                "limit" | "quota" | "ct count" | "meter" => answer.and(Answer::Few),
                "set" | "map" if limited => answer.and(Answer::Few),
                "set" | "map" | "counter" | "log" | "notrack" | "flow" | "dup" | "last" | "secmark"
                | "ct helper" | "ct timeout" | "ct expectation" | "continue" => answer,
                _ => answer.and(Answer::Unknown),
            };
            if answer == Answer::No {
                break;
            }
        }
        (Vec::new(), marks)
    }

    /// Whether packets for which a rule is so far true get a mark by it.
    fn mark(&mut self, answer: &Answer) -> bool {
        let marks = !matches!(answer, Answer::No | Answer::Few);
        self.met.marked |= marks;
        marks
    }

    fn verdict_map(&self, before: &Answer, value: &'a Value) -> Vec<(Answer, Verdict<'a>)> {
        let (key, data) =
            (value.get("key").unwrap_or(&Value::Null), value.get("data").unwrap_or(&Value::Null));
        let named = data.as_str().and_then(|name| name.strip_prefix('@'));
        let elements = match named {
            Some(name) => self.table.sets.get(name).map(Vec::as_slice),
            None => data.get("set").and_then(Value::as_array).map(Vec::as_slice),
        };
        let Some(elements) = elements else {
            return vec![(before.clone().and(Answer::Unknown), Verdict::Elsewhere)];
        };
        let mut verdicts = Vec::new();
        let mut others = None;
        for element in elements {
            let pair = element.as_array().map(Vec::as_slice);
            let Some([element, to]) = pair else { continue };
            let Some((kind, value)) = to.as_object().and_then(|to| to.iter().next()) else { continue };
            let Some(verdict) = verdict(kind, value) else { continue };
            if element == "*" {
                others = Some(verdict);
                continue;
            }
            let is_it = self.packet.is_element(key, element, self.met.marked);
            let certain = is_it == Answer::Yes;
            verdicts.push((before.clone().and(is_it), verdict));
            if certain {
                // Elements do not overlap.
                return verdicts;
            }
        }
        verdicts.extend(others.map(|verdict| (before.clone(), verdict)));
        verdicts
    }
}

fn verdict<'a>(kind: &str, value: &'a Value) -> Option<Verdict<'a>> {
    let target = || value.get("target").and_then(Value::as_str).unwrap_or_default();
    match kind {
        // Another source is no obstacle, and ends the chain as `accept` does.
        "accept" | "snat" | "masquerade" => Some(Verdict::Accept),
        "drop" | "reject" => Some(Verdict::Stop),
        "return" => Some(Verdict::Return),
        "jump" => Some(Verdict::Jump(target())),
        "goto" => Some(Verdict::Goto(target())),
        "dnat" | "redirect" | "queue" | "tproxy" | "synproxy" | "fwd" => Some(Verdict::Elsewhere),
        _ => None,
    }
}

enum Extension<'a> {
    Match(Answer),
    Verdict(Verdict<'a>),
    Marks,
    Neutral,
}

/// An extension of iptables that nft has no words for; JSON has its name only.
fn extension<'a>(value: &Value, packet: &Packet, rule: &Rule) -> Extension<'a> {
    let word = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    match (word("type"), word("name")) {
        ("match", "comment") => Extension::Neutral,
        ("match", "conntrack" | "state") => Extension::Match(connection_state(packet, rule)),
        ("match", "limit" | "hashlimit" | "quota" | "connlimit") => Extension::Match(Answer::Few),
        ("match", "multiport") if packet.dport.is_none() => Extension::Match(Answer::Few),
        ("match", "tcp") if packet.protocol != Protocol::Tcp => Extension::Match(Answer::No),
        ("match", "udp") if packet.protocol != Protocol::Udp => Extension::Match(Answer::No),
        ("match", "icmp") if packet.protocol != Protocol::Icmp => Extension::Match(Answer::No),
        ("target", "REJECT" | "DROP") => Extension::Verdict(Verdict::Stop),
        ("target", "ACCEPT" | "SNAT" | "MASQUERADE") => Extension::Verdict(Verdict::Accept),
        ("target", "MARK" | "CONNMARK") => Extension::Marks,
        (
            "target",
            "LOG" | "NFLOG" | "TRACE" | "CT" | "NOTRACK" | "TCPMSS" | "CHECKSUM" | "CLASSIFY" | "DSCP"
            | "TOS" | "TTL" | "AUDIT" | "SET" | "TEE",
        ) => Extension::Neutral,
        ("target", _) => Extension::Verdict(Verdict::Elsewhere),
        _ => Extension::Match(Answer::Unknown),
    }
}

/// `-m conntrack --ctstate STATES`, as nft prints it: `ct state STATES`. What it prints for other options, and for states
/// together with `SNAT` or `DNAT`, is not what they are.
fn connection_state(packet: &Packet, rule: &Rule) -> Answer {
    let text = rule.text.as_deref().unwrap_or_default();
    let mut words = text.split(' ').skip_while(|word| *word != "ct");
    let (Some("ct"), Some("state"), Some(first)) = (words.next(), words.next(), words.next()) else {
        return Answer::Unknown;
    };
    let (negated, states) = match first {
        "!" | "!=" => (true, words.next().unwrap_or_default()),
        states => (false, states),
    };
    let state = if packet.untracked { "untracked" } else { "new" };
    let known = ["new", "established", "related", "invalid", "untracked"];
    if words.any(|word| word == "ct") || states.split(',').any(|state| !known.contains(&state)) {
        return Answer::Unknown;
    }
    Answer::of(states.split(',').any(|one| one == state) != negated)
}
