//! `docs/pipeline.md` and its picture, made from the typed pipeline and from what the features render for a small
//! cluster. `make docs` (`UPDATE_GOLDEN=1 cargo test -p flowtables --test pipeline_doc`) writes them; the test fails when
//! they are not as the code has it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use flowtables::flowset::FlowSet;
use flowtables::pipeline::port::{TUN0, VXLAN0};
use flowtables::pipeline::register;
use flowtables::pipeline::table::{Miss, Stage, Table};
use flowtables::walk::reading;
use openflow::{Action, Flow, Instruction};

#[path = "pipeline_doc/picture.rs"]
mod picture;
#[path = "pipeline_doc/sample.rs"]
mod sample;

/// Where a packet can go from a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Table(Table),
    /// The same table again.
    Again,
    /// Back to table 0 with the state of its connection.
    Conntrack,
    Pod,
    Tunnel,
    Host,
    Drop,
}

/// The ways out of a table, as its flows have them.
fn ways(flows: &FlowSet, table: Table) -> BTreeSet<Way> {
    let mut ways = BTreeSet::new();
    let to = |number: u8| match Table::from_number(number).unwrap() {
        next if next == table => Way::Again,
        next => Way::Table(next),
    };
    for (flow, _) in flows.table(table.number()) {
        let mut found = BTreeSet::new();
        for instruction in &flow.instructions {
            match instruction {
                Instruction::GotoTable(next) => {
                    found.insert(to(*next));
                }
                Instruction::ApplyActions(actions) => {
                    found.extend(actions.iter().filter_map(|action| match action {
                        Action::Output(VXLAN0) | Action::Group(_) => Some(Way::Tunnel),
                        Action::Output(TUN0) => Some(Way::Host),
                        Action::Output(_) | Action::OutputReg { .. } => Some(Way::Pod),
                        Action::Resubmit { table: Some(next), .. } => Some(to(*next)),
                        Action::Ct(ct) => ct.recirc_table.map(|next| match to(next) {
                            Way::Again => Way::Conntrack,
                            way => way,
                        }),
                        _ => None,
                    }));
                }
                _ => {}
            }
        }
        if found.is_empty() && table.miss() != Miss::NotVisited {
            found.insert(Way::Drop);
        }
        ways.extend(found);
    }
    if table == Table::Isolation {
        // What is let through to a service has tun0 as its destination port.
        ways.insert(Way::Host);
    }
    ways
}

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Ingress => "where it came from",
        Stage::Routing => "where it goes",
        Stage::Policy => "whether it may",
        Stage::Egress => "how it leaves",
        Stage::Marker => "a note",
    }
}

fn mermaid(flows: &FlowSet) -> String {
    let mut text = "```mermaid\nflowchart LR\n".to_owned();
    text += "  tunnel_in([from the tunnel]) --> t0\n  host_in([from the node]) --> t0\n  pod_in([from a pod]) --> t0\n";
    let visited = || Table::ALL.iter().filter(|table| table.miss() != Miss::NotVisited);
    for table in visited() {
        let _ = writeln!(text, "  t{0}[\"{0} {1}\"]", table.number(), table.name());
    }
    text += "  pod_out([to a pod])\n  tunnel_out([into the tunnel])\n  host_out([to the node, tun0])\n";
    for table in visited() {
        for way in ways(flows, *table) {
            let to = match way {
                Way::Table(next) => format!("t{}", next.number()),
                Way::Again => format!("t{}", table.number()),
                Way::Conntrack => format!("|connection tracking| t{}", table.number()),
                Way::Pod => "pod_out".to_owned(),
                Way::Tunnel => "tunnel_out".to_owned(),
                Way::Host => "host_out".to_owned(),
                Way::Drop => continue,
            };
            let _ = writeln!(text, "  t{} -->{to}", table.number());
        }
    }
    text + "```\n"
}

fn miss(table: Table) -> Option<String> {
    match table.miss() {
        Miss::Drop => Some("is dropped".to_owned()),
        Miss::Goto(next) => Some(format!("goes on in table {} ({})", next.number(), next.name())),
        Miss::Output(port) => Some(format!("leaves by {}", flowtables::pipeline::port::name(port))),
        Miss::NotVisited => None,
    }
}

fn section(flows: &FlowSet, table: Table) -> String {
    let mut text = format!("## Table {}: {}\n\n", table.number(), table.name());
    let _ = writeln!(text, "*{}* {}\n", table.decides(), table.about());
    if let Some(miss) = miss(table) {
        let _ = writeln!(text, "What nothing in the table matches {miss}.\n");
    }
    let rows: Vec<(&Flow, String)> =
        flows.table(table.number()).map(|(flow, owner)| (flow, owner.to_string())).collect();
    text += "```console\n";
    for (flow, _) in &rows {
        let _ = writeln!(text, "{}", flow.to_string().trim());
    }
    text += "```\n\n";
    for (flow, owner) in rows {
        let _ = writeln!(text, "- {} *({owner}, priority {})*", reading(flow), flow.priority);
    }
    text + "\n"
}

fn page(flows: &FlowSet) -> String {
    let mut text = include_str!("pipeline_doc/introduction.md").to_owned();
    text += "\n## The registers\n\n| register | holds |\n|---|---|\n";
    for register in register::ALL {
        let _ = writeln!(text, "| `{}` | {} |", register.field(), register.holds);
    }
    text += "\n## The tables\n\n| table | name | part of the way | decides |\n|---|---|---|---|\n";
    for table in Table::ALL {
        let (number, name) = (table.number(), table.name());
        let _ = writeln!(
            text,
            "| [{number}](#table-{number}-{name}) | {name} | {} | {} |",
            stage_name(table.stage()),
            table.decides()
        );
    }
    text += "\n<details><summary>The picture as Mermaid source</summary>\n\n";
    text += &mermaid(flows);
    text += "\n</details>\n\n";
    text.extend(Table::ALL.iter().map(|table| section(flows, *table)));
    text += include_str!("pipeline_doc/limits.md");
    text
}

#[test]
fn the_documentation_is_as_the_code_has_it() {
    let flows = sample::node();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut stale = Vec::new();
    for (name, text) in [("pipeline.md", page(&flows)), ("pipeline.svg", picture::svg(&flows))] {
        let path = docs.join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        if std::fs::read_to_string(&path).unwrap_or_default() != text {
            stale.push(name);
        }
    }
    assert!(stale.is_empty(), "not as the code has it: {stale:?}; run `make docs` and read the difference");
}

/// Every flow of the golden files, which is every kind that the features render.
fn golden() -> Vec<Flow> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files =
        std::fs::read_dir(dir).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    let lines: Vec<String> =
        files.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let flows = lines.iter().filter(|line| !line.starts_with("group_id="));
    flows.map(|line| line.parse().unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

#[test]
fn every_kind_of_flow_is_read_without_the_words_of_the_code() {
    let golden = golden();
    assert!(golden.len() > 100, "{}", golden.len());
    for flow in sample::node().iter().chain(&golden) {
        let words = reading(flow);
        // What the reading has no words for, it quotes; a number in hexadecimal is for who sets marks.
        let numbers = words.replace("mark it 0x", "");
        assert!(!words.contains(['{', '`']), "{flow}: {words}");
        assert!(!numbers.contains("0x"), "{flow}: {words}");
    }
}

#[test]
fn every_way_of_the_sample_is_drawn() {
    let flows = sample::node();
    let svg = picture::svg(&flows);
    for table in Table::ALL {
        assert!(svg.contains(&format!(">{}</text>", table.number())), "{table}");
        for way in ways(&flows, *table) {
            if let Way::Table(next) = way {
                let id = format!("id=\"from-{}-to-{}\"", table.number(), next.number());
                assert!(svg.contains(&id), "{id}");
            }
        }
    }
}
