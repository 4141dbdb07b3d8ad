//! The node's nftables ruleset as `nft` lists it, whoever made it: `iptables` with its nft backend too.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;

use nftables::helper::{DEFAULT_NFT, get_current_ruleset_raw};
use serde_json::Value;

use super::super::firewall::FirewallError;

/// A table: names are unique in a family only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TableId {
    /// `ip`, `inet`, `netdev` and so on.
    pub(super) family: String,
    /// The table's name.
    pub(super) name: String,
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, named(&self.name))
    }
}

/// A name in quotes where it would otherwise not be seen to be one: the kernel takes any.
pub(super) fn named(name: &str) -> String {
    if is_plain(name) { name.to_owned() } else { format!("{name:?}") }
}

/// Whether nft's language, and a shell, take it as it is.
pub(super) fn is_plain(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
}

/// Everything that can have a say about a packet.
#[derive(Debug, Default)]
pub(super) struct Ruleset {
    pub(super) tables: BTreeMap<TableId, Table>,
    /// Tables of `iptables-legacy`, which nft does not know of.
    pub(super) legacy: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    handle: u64,
    pub(super) chains: BTreeMap<String, Chain>,
    /// Elements of sets, and of maps as pairs.
    pub(super) sets: BTreeMap<String, Vec<Value>>,
}

#[derive(Debug, Default)]
pub(super) struct Chain {
    /// Where packets come in from; none: from other chains only.
    pub(super) base: Option<Base>,
    pub(super) rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub(super) struct Base {
    /// `filter`, `nat` or `route`.
    pub(super) kind: String,
    pub(super) hook: String,
    pub(super) priority: i64,
    pub(super) drops: bool,
    /// Links that it is for; none: for all.
    pub(super) links: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) handle: u64,
    /// Matches and statements in their order.
    pub(super) expr: Vec<Value>,
    /// As nft prints it; none if it was made between the two listings.
    pub(super) text: Option<String>,
}

impl Ruleset {
    /// The ruleset of the network namespace that the calling thread is in.
    pub(super) fn list() -> Result<Self, FirewallError> {
        let none: [&str; 0] = [];
        let listed = get_current_ruleset_raw(DEFAULT_NFT, none)?;
        // JSON has no details of iptables' extensions, and people read the text.
        let text = Command::new("nft").args(["-s", "-a", "list", "ruleset"]).output();
        let text = text.map_err(FirewallError::NoNft)?;
        if !text.status.success() {
            let message = String::from_utf8_lossy(&text.stderr).trim().to_owned();
            return Err(FirewallError::Refused { message });
        }
        let mut ruleset = Self::parse(&listed, &String::from_utf8_lossy(&text.stdout))?;
        // There is no such file where the kernel has not loaded any.
        let legacy = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
        ruleset.legacy = legacy.lines().map(str::to_owned).collect();
        Ok(ruleset)
    }

    /// From `nft -j list ruleset` and `nft -s -a list ruleset`.
    pub(super) fn parse(listed: &str, text: &str) -> Result<Self, FirewallError> {
        let mut listed: Value =
            serde_json::from_str(listed).map_err(|error| FirewallError::Output(error.to_string()))?;
        let objects = listed.get_mut("nftables").and_then(Value::as_array_mut).map(std::mem::take);
        let objects = objects.ok_or_else(|| FirewallError::Output("it has no key nftables".to_owned()))?;
        let mut ruleset = Self::default();
        for object in objects {
            let Value::Object(object) = object else { continue };
            for (kind, object) in object {
                if ruleset.add(&kind, object).is_none() {
                    return Err(FirewallError::Output(format!("a {kind} lacks its name, table or family")));
                }
            }
        }
        ruleset.read_texts(text);
        Ok(ruleset)
    }

    /// None if it is not whole.
    fn add(&mut self, kind: &str, mut object: Value) -> Option<()> {
        if !["table", "chain", "rule", "set", "map"].contains(&kind) {
            return Some(());
        }
        let word = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
        let handle = object.get("handle").and_then(Value::as_u64).unwrap_or_default();
        let table = word(if kind == "table" { "name" } else { "table" })?;
        let table = self.tables.entry(TableId { family: word("family")?, name: table }).or_default();
        match kind {
            "table" => table.handle = handle,
            "chain" => {
                let base = word("hook").map(|hook| Base {
                    kind: word("type").unwrap_or_default(),
                    hook,
                    priority: object.get("prio").and_then(Value::as_i64).unwrap_or_default(),
                    drops: word("policy").as_deref() == Some("drop"),
                    links: strings(object.get("dev")),
                });
                table.chains.entry(word("name")?).or_default().base = base;
            }
            "rule" => {
                let chain = word("chain")?;
                let expr = match object.get_mut("expr").map(Value::take) {
                    Some(Value::Array(expr)) => expr,
                    _ => Vec::new(),
                };
                table.chains.entry(chain).or_default().rules.push(Rule { handle, expr, text: None });
            }
            _ => {
                let name = word("name")?;
                let elements = match object.get_mut("elem").map(Value::take) {
                    Some(Value::Array(elements)) => elements,
                    _ => Vec::new(),
                };
                table.sets.insert(name, elements);
            }
        }
        Some(())
    }

    /// Finds each rule's text by its handle and that of its table: names can be anything.
    fn read_texts(&mut self, text: &str) {
        let mut texts: BTreeMap<u64, &str> = BTreeMap::new();
        let mut current: Option<(&str, u64)> = None;
        let mut all = Vec::new();
        for line in text.lines() {
            let Some((line, handle)) = line.rsplit_once(" # handle ") else { continue };
            let Ok(handle) = handle.trim().parse::<u64>() else { continue };
            if let Some(table) = line.strip_prefix("table ") {
                let family = table.split(' ').next().unwrap_or_default();
                if let Some(ended) = current.replace((family, handle)) {
                    all.push((ended, std::mem::take(&mut texts)));
                }
            } else if line.starts_with("\t\t") {
                texts.insert(handle, line.trim());
            }
        }
        all.extend(current.map(|last| (last, texts)));
        for ((family, handle), texts) in all {
            let table =
                self.tables.iter_mut().find(|(id, table)| id.family == family && table.handle == handle);
            let rules = table.into_iter().flat_map(|(_, table)| table.chains.values_mut());
            for rule in rules.flat_map(|chain| &mut chain.rules) {
                rule.text = texts.get(&rule.handle).map(|text| (*text).to_owned());
            }
        }
    }
}

/// One string, or several in an array.
fn strings(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(one)) => vec![one.clone()],
        _ => Vec::new(),
    }
}
