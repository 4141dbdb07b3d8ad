//! `sdnctl lab matrix`: who reaches whom, with real packets.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::api::PluginMode;
use crate::lab::matrix::{Cell, Matrix, Party, Role};

/// The matrix for a person: a row for each that asks, a column for each that is asked.
pub(super) fn text(plugin: PluginMode, matrix: &Matrix) -> String {
    let parties = &matrix.parties;
    let suffix = common_domain(parties);
    let short = |name: &str| name.strip_suffix(&suffix).unwrap_or(name).to_owned();
    let rows: Vec<[String; 4]> = parties
        .iter()
        .map(|party| {
            let (name, vnid) = match party.role {
                Role::Pod => (party.name.clone(), party.vnid.to_string()),
                Role::Node => (format!("node {}", short(&party.name)), "0".to_owned()),
                Role::Outside => (party.name.clone(), String::new()),
            };
            [name, short(&party.node), party.ip.to_string(), vnid]
        })
        .collect();
    let headings = ["from", "on", "address", "VNID"];
    let widths: [usize; 4] = std::array::from_fn(|column| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(String::len);
        cells.chain(headings.get(column).map(|heading| heading.len())).max().unwrap_or_default()
    });
    let line = |cells: [&str; 4]| -> String {
        cells.iter().zip(widths).map(|(cell, width)| format!("  {cell:<width$}")).collect()
    };

    let ways = matrix.cells.len();
    let mut text = format!("{}, {ways} pings and {ways} TCP connections:\n\n", rule(plugin));
    let _ = write!(text, "  #{} to", line(headings));
    for (number, party) in (1..).zip(parties) {
        let _ = write!(text, "{}{number:>3}", gap(parties, number - 1, party));
    }
    text.push('\n');
    for (from, (party, row)) in parties.iter().zip(&rows).enumerate() {
        if !gap(parties, from, party).is_empty() {
            text.push('\n');
        }
        let _ = write!(text, "{:>3}{}   ", from + 1, line(row.each_ref().map(String::as_str)));
        for (to, asked) in parties.iter().enumerate().filter(|_| party.role != Role::Outside) {
            let mark = matrix.cell(from, to).map_or(" ", |cell| mark(cell, parties));
            let _ = write!(text, "{}  {mark}", gap(parties, to, asked));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    let faults = matrix.faults();
    text += "\n  ✓ both came through   · neither came through, as it should be   ✗ not as it should be\n";
    let pods = parties.iter().any(|party| party.role == Role::Pod);
    if let Some(outside) =
        parties.iter().find(|party| pods && faults.is_empty() && party.role == Role::Outside)
    {
        let _ = writeln!(text, "  {} sees every pod under its node's address", outside.ip);
    }
    match faults.len() {
        0 => text += "  all as it should be\n",
        count => {
            let _ = writeln!(text, "  {count} of {ways} not as they should be:");
            text.extend(faults.iter().map(|fault| format!("  ✗ {fault}\n")));
        }
    }
    text
}

/// The matrix for programs.
pub(super) fn document(plugin: PluginMode, matrix: &Matrix) -> Value {
    let party = |index: usize| matrix.parties.get(index);
    let parties: Vec<Value> = matrix
        .parties
        .iter()
        .map(|party| {
            let role = match party.role {
                Role::Pod => "pod",
                Role::Node => "node",
                Role::Outside => "outside",
            };
            json!({"role": role, "name": party.name, "node": party.node, "ip": party.ip, "vnid": party.vnid})
        })
        .collect();
    let ways: Vec<Value> = matrix
        .cells
        .iter()
        .map(|cell| {
            json!({
                "from": party(cell.from).map(|party| &party.name),
                "to": party(cell.to).map(|party| &party.name),
                "expected": cell.expected,
                "ping": cell.reach.ping,
                "tcp": cell.reach.tcp.is_some(),
                "seenAs": cell.reach.tcp,
            })
        })
        .collect();
    let faults = matrix.faults();
    json!({"plugin": plugin.plugin_name(), "ok": faults.is_empty(), "faults": faults, "parties": parties, "ways": ways})
}

/// What the plugin promises.
fn rule(plugin: PluginMode) -> String {
    let promise = match plugin {
        PluginMode::Subnet => "every pod reaches every pod",
        PluginMode::Multitenant => {
            "pods of one VNID reach each other, those of VNID 0 reach all and are reached by all"
        }
        PluginMode::NetworkPolicy => "NetworkPolicies decide",
    };
    format!("Plugin {plugin} ({promise})")
}

fn mark(cell: &Cell, parties: &[Party]) -> &'static str {
    match cell.fault(parties) {
        Some(_) => "✗",
        None if cell.expected => "✓",
        None => "·",
    }
}

/// What sets a party apart from the one before it: another kind, or another tenant.
fn gap(parties: &[Party], index: usize, party: &Party) -> &'static str {
    match index.checked_sub(1).and_then(|before| parties.get(before)) {
        Some(before) if (before.role, before.vnid) != (party.role, party.vnid) => "  ",
        _ => "",
    }
}

/// The domain that all nodes' names end in, with its dot; it says nothing in a list of them.
fn common_domain(parties: &[Party]) -> String {
    let mut domains = parties
        .iter()
        .filter(|party| party.role == Role::Node)
        .map(|party| party.name.split_once('.').map_or("", |(_, domain)| domain));
    match domains.next() {
        Some(first) if !first.is_empty() && domains.all(|domain| domain == first) => format!(".{first}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::lab::matrix::Reach;

    #[test]
    fn a_matrix_reads_well() {
        let party = |role, name: &str, node: &str, ip: [u8; 4], vnid| Party {
            role,
            name: name.to_owned(),
            node: node.to_owned(),
            node_ip: Ipv4Addr::new(192, 168, 1, 1),
            netns: String::new(),
            ip: ip.into(),
            vnid,
        };
        let parties = vec![
            party(Role::Pod, "default/a", "n1.example", [10, 128, 0, 2], 0),
            party(Role::Pod, "blue/b", "n1.example", [10, 128, 0, 3], 7),
            party(Role::Node, "n1.example", "n1.example", [192, 168, 1, 1], 0),
            party(Role::Outside, "beyond", "", [203, 0, 113, 1], 0),
        ];
        let reached = Reach { ping: true, tcp: Some(Ipv4Addr::new(192, 168, 1, 1)) };
        let cell = |from, to, reach| Cell { from, to, expected: true, reach };
        let cells = vec![
            cell(0, 1, reached),
            cell(0, 2, reached),
            cell(0, 3, reached),
            cell(1, 0, Reach { ping: true, tcp: None }),
            cell(1, 2, reached),
            Cell { from: 1, to: 3, expected: false, reach: Reach::default() },
            cell(2, 0, reached),
            cell(2, 1, reached),
            cell(2, 3, reached),
        ];
        let shown = text(PluginMode::Multitenant, &Matrix { parties, cells });
        let expected = "\
  #  from       on  address      VNID to  1    2    3    4
  1  default/a  n1  10.128.0.2   0             ✓    ✓    ✓

  2  blue/b     n1  10.128.0.3   7        ✗         ✓    ·

  3  node n1    n1  192.168.1.1  0        ✓    ✓         ✓

  4  beyond         203.0.113.1
";
        assert!(shown.contains(expected), "{shown}");
        assert!(
            shown.contains("1 of 9 not as they should be:\n  ✗ blue/b (10.128.0.3) to default/a"),
            "{shown}"
        );
    }
}
