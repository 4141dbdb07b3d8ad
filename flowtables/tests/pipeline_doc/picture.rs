//! The picture: tables in columns from left to right, ways between them as elbows.

use std::fmt::Write as _;

use flowtables::flowset::FlowSet;
use flowtables::pipeline::table::{Stage, Table};

use super::{Way, stage_name, ways};

const BOX: (i32, i32) = (172, 62);
const STEP: (i32, i32) = (218, 84);
const MARGIN: (i32, i32) = (24, 58);

/// Column and row of each table. Row 2 is kept free between 0 and 30, row 7 between 30 and 120, for the ways there.
fn place(table: Table) -> (i32, i32) {
    match table {
        Table::Classify => (1, 2),
        Table::VxlanIngress => (2, 0),
        Table::ServiceReturn => (2, 1),
        Table::PodIngress => (2, 3),
        Table::PodEgress => (3, 3),
        Table::EgressRules => (3, 4),
        Table::Routing => (4, 2),
        Table::ArpLocal => (5, 0),
        Table::ArpRemote => (5, 1),
        Table::Service => (5, 2),
        Table::LocalPod => (5, 3),
        Table::RemotePod => (5, 4),
        Table::EgressRouting => (5, 5),
        Table::MulticastOut => (5, 6),
        Table::Isolation => (6, 3),
        Table::EgressPolicy => (6, 5),
        Table::MulticastTunnel => (6, 6),
        Table::MulticastIn => (7, 7),
        Table::Version => (1, 7),
    }
}

fn corner((column, row): (i32, i32)) -> (i32, i32) {
    (MARGIN.0 + column * STEP.0, MARGIN.1 + row * STEP.1)
}

fn colour(stage: Stage) -> &'static str {
    match stage {
        Stage::Ingress => "#cfe3f7",
        Stage::Routing => "#d8f0d3",
        Stage::Policy => "#fbe3c0",
        Stage::Egress => "#e6d9f2",
        Stage::Marker => "#ececec",
    }
}

/// What a box says of the ways that no line shows.
fn exits(flows: &FlowSet, table: Table) -> String {
    let words = ways(flows, table).into_iter().filter_map(|way| match way {
        Way::Table(_) => None,
        Way::Again => Some("↻ more nodes"),
        Way::Conntrack => Some("↻ conntrack"),
        Way::Pod => Some("→ pod"),
        Way::Tunnel => Some("→ tunnel"),
        Way::Host => Some("→ tun0"),
        Way::Drop => Some("✕ drop"),
    });
    words.collect::<Vec<_>>().join("  ·  ")
}

/// From the right side of one box to the left side of another, turning in the gap before the latter's column, or, where
/// the rows between are taken, at once.
fn elbow(from: Table, to: Table) -> String {
    let ((from_column, _), (to_column, _)) = (place(from), place(to));
    let ((x1, y1), (x2, y2)) = (corner(place(from)), corner(place(to)));
    let (x1, y1, x2, y2) = (x1 + BOX.0, y1 + BOX.1 / 2, x2, y2 + BOX.1 / 2);
    let gap = STEP.0 - BOX.0;
    let at_once = to_column - from_column > 1 && from == Table::Routing;
    let turn = if at_once { x1 + gap / 2 } else { x2 - gap / 2 };
    if y1 == y2 {
        return format!("M{x1},{y1} H{}", x2 - 2);
    }
    let bend = 7 * (y2 - y1).signum();
    format!(
        "M{x1},{y1} H{} Q{turn},{y1} {turn},{} V{} Q{turn},{y2} {},{y2} H{}",
        turn - 7,
        y1 + bend,
        y2 - bend,
        turn + 7,
        x2 - 2
    )
}

fn text(svg: &mut String, x: i32, y: i32, class: &str, words: &str) {
    let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{words}</text>");
}

/// The whole picture.
pub(crate) fn svg(flows: &FlowSet) -> String {
    let (width, height) = (MARGIN.0 * 2 + 7 * STEP.0 + BOX.0, MARGIN.1 + 8 * STEP.1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"Helvetica, Arial, DejaVu Sans, sans-serif\">\n\
         <title>The tables of br0 and the ways of packets between them</title>\n\
         <style>.number{{font-size:19px;font-weight:bold}}.name{{font-size:14px}}.exits{{font-size:12px;fill:#444}}\
         .key{{font-size:13px}}.way{{fill:none;stroke:#555;stroke-width:1.5;marker-end:url(#tip)}}</style>\n\
         <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
         <path d=\"M0,0 L8,4 L0,8 z\" fill=\"#555\"/></marker></defs>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let stages = [Stage::Ingress, Stage::Routing, Stage::Policy, Stage::Egress];
    let x = |n: i32| MARGIN.0 + n * 190;
    for (stage, n) in stages.into_iter().zip(0..) {
        key(&mut svg, x(n), colour(stage), "", stage_name(stage));
    }
    key(&mut svg, x(4), "#ffffff", DASHED, "no packet comes here (plugins subnet and multitenant)");
    for table in Table::ALL {
        for way in ways(flows, *table) {
            if let Way::Table(next) = way {
                let (a, b) = (table.number(), next.number());
                let _ = writeln!(
                    svg,
                    "<path id=\"from-{a}-to-{b}\" class=\"way\" d=\"{}\"/>",
                    elbow(*table, next)
                );
            }
        }
    }
    sources(&mut svg);
    for table in Table::ALL {
        let (x, y) = corner(place(*table));
        let dashed = if matches!(table, Table::EgressRules | Table::Version) { DASHED } else { "" };
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"8\" fill=\"{}\" stroke=\"#777\"{dashed}/>",
            BOX.0,
            BOX.1,
            colour(table.stage())
        );
        text(&mut svg, x + 10, y + 27, "number", &table.number().to_string());
        let digits = table.number().to_string().len();
        let indent = 16 + 12 * i32::try_from(digits).unwrap();
        text(&mut svg, x + indent, y + 26, "name", &table.name().replace('_', " "));
        text(&mut svg, x + 10, y + 50, "exits", &exits(flows, *table));
    }
    svg + "</svg>\n"
}

const DASHED: &str = " stroke-dasharray=\"5 4\"";

/// What a colour or line means.
fn key(svg: &mut String, x: i32, colour: &str, line: &str, words: &str) {
    let _ = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"16\" width=\"18\" height=\"18\" rx=\"4\" fill=\"{colour}\" stroke=\"#777\"{line}/>"
    );
    text(svg, x + 25, 30, "key", words);
}

/// Where packets come from.
fn sources(svg: &mut String) {
    let (to_x, to_y) = corner(place(Table::Classify));
    let to_y = to_y + BOX.1 / 2;
    for (row, words) in [(1, "from the tunnel"), (2, "from the node"), (3, "from a pod")] {
        let (x, y) = corner((0, row));
        let y = y + BOX.1 / 2;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{}\" width=\"146\" height=\"34\" rx=\"17\" fill=\"#ffffff\" stroke=\"#777\"/>",
            y - 17
        );
        text(svg, x + 18, y + 5, "name", words);
        let start = x + 146;
        let turn = to_x - 24;
        let path = match row {
            2 => format!("M{start},{y} H{}", to_x - 2),
            _ => {
                let bend = 7 * (to_y - y).signum();
                format!(
                    "M{start},{y} H{} Q{turn},{y} {turn},{} V{} Q{turn},{to_y} {},{to_y} H{}",
                    turn - 7,
                    y + bend,
                    to_y - bend,
                    turn + 7,
                    to_x - 2
                )
            }
        };
        let _ = writeln!(svg, "<path class=\"way\" d=\"{path}\"/>");
    }
}
