//! What commands print.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use serde::Serialize;

/// The option `-o`: output for people unless it is there.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct OutputArgs {
    /// Print for programs
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Format>,
}

/// A format for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl OutputArgs {
    /// Prints `value` in the format asked for, or else what `text` makes of it for people.
    ///
    /// # Errors
    /// Standard output can't be written to, or the value can't be expressed.
    pub fn print<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        match self.output {
            None => print(&text(value)),
            Some(Format::Json) => print(&serde_json::to_string_pretty(value)?),
            Some(Format::Yaml) => print(&serde_saphyr::to_string(value)?),
        }
    }
}

/// Prints text to standard output, ending in one newline. That nobody reads it (any more) is no error: `| head` is
/// content with what it got.
///
/// # Errors
/// Standard output can't be written to.
pub fn print(text: &str) -> anyhow::Result<()> {
    let text = text.trim_end_matches('\n');
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// Columns under headings, for people.
pub fn table<const N: usize>(headings: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings);
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        let rows = [["a", "bcd"], ["efghij", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(table(["ONE", "TWO"], rows), "ONE     TWO\na       bcd\nefghij\n");
    }
}
