//! Tables and changes as text: what `ovsdb-client dump` and a readable monitor print.

use std::fmt::Write;

use crate::replica::{Kind, Replica, Row, RowChange, Table};
use crate::schema::AtomicType;
use crate::value::Datum;

/// A replica as `ovsdb-client dump` prints the same tables: all of them in the order of their names, or one.
///
/// Rows are in the order of their columns' values.
pub fn dump(replica: &Replica, table: Option<&str>) -> String {
    let wanted = replica.tables().filter(|candidate| table.is_none_or(|table| table == candidate.name()));
    let tables: Vec<String> = wanted.map(dump_table).collect();
    tables.join("\n")
}

fn dump_table(table: &Table) -> String {
    let mut rows: Vec<&Row> = table.rows().map(|row| &**row).collect();
    // UUIDs are random: rows are ordered by what has a meaning, then by their references, then by themselves.
    rows.sort_by_cached_key(|row| {
        let (references, values): (Vec<_>, Vec<_>) = row
            .columns()
            .zip(table.columns())
            .map(|((_, value), (_, column_type))| (column_type.key.atomic == AtomicType::Uuid, value.clone()))
            .partition(|(reference, _)| *reference);
        (values, references, row.uuid())
    });
    let heading = std::iter::once("_uuid".to_owned()).chain(table.columns().map(|(name, _)| name.to_owned()));
    let cells = |row: &Row| {
        let values = row.columns().zip(table.columns()).map(|((_, value), (_, column_type))| match value {
            // A set that may hold more shows that it is one.
            Datum::Atom(atom) if !column_type.holds_one() => format!("[{atom}]"),
            value => value.to_string(),
        });
        std::iter::once(row.uuid().to_string()).chain(values).collect::<Vec<String>>()
    };
    let mut lines = vec![heading.collect::<Vec<String>>()];
    lines.extend(rows.into_iter().map(cells));
    let columns = lines.first().map_or(0, Vec::len);
    let width = |at: usize| lines.iter().filter_map(|line| line.get(at)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let dashes = widths.iter().map(|width| "-".repeat(*width)).collect();
    lines.insert(1, dashes);
    let mut out = format!("{} table\n", table.name());
    for line in lines {
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let space = if at == 0 { "" } else { " " };
            // The width counts bytes, as in the original; the last column is not padded.
            let padding = if at.saturating_add(1) == columns { 0 } else { width.saturating_sub(cell.len()) };
            let _ = write!(out, "{space}{cell}{:padding$}", "");
        }
        out.push('\n');
    }
    out
}

/// One change in one line: `insert`, `modify` or `delete`, table, UUID, then the columns (of a modification those
/// that changed, with the old value).
pub fn change(change: &RowChange) -> String {
    let Some(row) = change.row() else { return String::new() };
    let kind = match change.kind() {
        Kind::Insert => "insert",
        Kind::Modify => "modify",
        Kind::Delete => "delete",
    };
    let mut out = format!("{kind} {} {}", row.table(), row.uuid());
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            for column in change.changed_columns() {
                if let (Some(before), Some(after)) = (old.get(column), new.get(column)) {
                    let _ = write!(out, " {column}={before}->{after}");
                }
            }
        }
        _ => {
            for (column, value) in row.columns().filter(|(_, value)| !value.is_empty()) {
                let _ = write!(out, " {column}={value}");
            }
        }
    }
    out
}
