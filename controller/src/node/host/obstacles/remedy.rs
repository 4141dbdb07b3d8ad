//! What an administrator can do about an obstacle.

use super::packet::{Answer, Packet};
use super::ruleset::{Ruleset, Table, TableId, is_plain};
use super::traffic::{Kind, Traffic};
use super::walk::Place;

/// What lets the traffic pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Commands of firewalld: at once, and after its next start.
    Firewalld(Vec<String>),
    /// A command that holds until the other firewall writes its rules anew.
    Now(String),
    /// There is no one command.
    Words(String),
}

/// What helps against what stops a packet at this place.
pub(super) fn against(
    place: &Place,
    kind: Kind,
    traffic: &Traffic,
    packet: &Packet,
    ruleset: &Ruleset,
) -> Remedy {
    match ruleset.tables.get(&place.table) {
        Some(table) if is_of_firewalld(&place.table, table) => firewalld(place, kind, traffic, packet, table),
        Some(table) => first_rule(place, kind, traffic, table),
        None => Remedy::Words("look again: the table is gone".to_owned()),
    }
}

/// Of its backend nftables, or iptables.
fn is_of_firewalld(id: &TableId, table: &Table) -> bool {
    id.name == "firewalld" || table.chains.contains_key("INPUT_ZONES")
}

/// The zone whose chain it is, and the part of the chain.
fn zone<'a>(chain: &'a str, table: &Table) -> Option<(&'a str, &'a str)> {
    let name = chain.strip_prefix("filter_").unwrap_or(chain);
    let zone = name.strip_prefix("IN_").or_else(|| name.strip_prefix("FWD_"))?;
    let parts = ["_pre", "_log", "_deny", "_allow", "_post"];
    // A zone's name can end like a part, but a part has no parts.
    let is_zone = table.chains.contains_key(&format!("{chain}_allow"));
    let part = parts.into_iter().find(|part| !is_zone && zone.ends_with(part));
    Some(part.map_or((zone, ""), |part| (zone.strip_suffix(part).unwrap_or(zone), part)))
}

/// The source that has brought the packet to a zone's chain: sources go before links.
fn source_of_zone(zone_chain: &str, packet: &Packet, table: &Table) -> Option<String> {
    let dispatch = table.chains.iter().filter(|(name, _)| name.ends_with("_ZONES"));
    let rules = dispatch.flat_map(|(_, chain)| &chain.rules);
    let leads_there = rules.filter(|rule| {
        let mut targets =
            rule.expr.iter().filter_map(|statement| statement.pointer("/goto/target")?.as_str());
        targets.any(|target| target == zone_chain)
    });
    let mut sources = leads_there.filter_map(|rule| {
        let by_source = |statement: &&serde_json::Value| {
            statement.pointer("/match/left/payload/field").is_some_and(|field| field == "saddr")
        };
        let found = rule.expr.iter().find(by_source)?.get("match")?;
        let matches = packet.matches(found, &table.sets, false);
        (!matches!(matches, Answer::No | Answer::Few)).then(|| rule.text.clone().unwrap_or_default())
    });
    sources.next()
}

fn firewalld(place: &Place, kind: Kind, traffic: &Traffic, packet: &Packet, table: &Table) -> Remedy {
    let Some((zone, part)) = zone(&place.chain, table) else {
        return Remedy::Words(
            "firewalld's policies stop it: `firewall-cmd --list-all-policies` shows them".to_owned(),
        );
    };
    if let Some(policy) = zone.strip_prefix("policy_") {
        return Remedy::Words(format!(
            "firewalld's policy {policy} stops it: `firewall-cmd --policy={policy} --list-all` shows why"
        ));
    }
    let both = |options: String| {
        Remedy::Firewalld(vec![
            format!("firewall-cmd {options}"),
            format!("firewall-cmd --permanent {options}"),
        ])
    };
    match kind {
        // Rules that deny go before those that allow.
        Kind::VxlanIn if part.is_empty() => {
            both(format!("--zone={zone} --add-port={}/udp", traffic.vxlan_port))
        }
        Kind::PodsToNode | Kind::PodsToOutside | Kind::PodsToServices if zone != "trusted" => {
            match source_of_zone(place.chain.trim_end_matches(part), packet, table) {
                None => both(format!("--zone=trusted --change-interface={}", traffic.tun)),
                Some(rule) => Remedy::Words(format!(
                    "firewalld's zone {zone} has a source with addresses of pods (`{rule}`), which goes before the zone \
                     of {}: take it out, or give the zone the rest of it (`firewall-cmd --zone={zone} --list-sources`)",
                    traffic.tun
                )),
            }
        }
        Kind::OutsideToPods | Kind::VxlanOut | Kind::NodeToPods => Remedy::Words(format!(
            "firewalld lets nothing through from zone {zone}: a policy with the target ACCEPT from there to the zone of \
             {} does (`firewall-cmd --permanent --new-policy`)",
            traffic.tun
        )),
        _ => Remedy::Words(format!(
            "a rule of firewalld's zone {zone} stops it: `firewall-cmd --zone={zone} --list-all` shows its rich rules"
        )),
    }
}

/// An `accept` in front of the chain's rules.
fn first_rule(place: &Place, kind: Kind, traffic: &Traffic, table: &Table) -> Remedy {
    let Place { table: id, base, .. } = place;
    let is_filter = table
        .chains
        .get(base)
        .and_then(|chain| chain.base.as_ref())
        .is_some_and(|base| base.kind == "filter");
    if !is_filter || ![&id.name, base].into_iter().all(|name| is_plain(name)) {
        return Remedy::Words(format!("accept it in front of the other rules of chain {base} of table {id}"));
    }
    let Traffic { tun, vxlan_port, .. } = traffic;
    let (nft, iptables) = match kind {
        Kind::VxlanIn | Kind::VxlanOut => {
            (format!("udp dport {vxlan_port}"), format!("-p udp --dport {vxlan_port}"))
        }
        Kind::PodsToNode | Kind::PodsToOutside | Kind::PodsToServices => {
            (format!("iifname {tun}"), format!("-i {tun}"))
        }
        Kind::NodeToPods | Kind::OutsideToPods => (format!("oifname {tun}"), format!("-o {tun}")),
    };
    let of_iptables = id.family == "ip"
        && ["filter", "mangle", "raw", "security"].contains(&id.name.as_str())
        && base.chars().all(|c| c.is_ascii_uppercase());
    if of_iptables {
        let option = if id.name == "filter" { String::new() } else { format!("-t {} ", id.name) };
        Remedy::Now(format!("iptables {option}-I {base} {iptables} -j ACCEPT"))
    } else {
        Remedy::Now(format!("nft insert rule {} {} {base} {nft} accept", id.family, id.name))
    }
}
