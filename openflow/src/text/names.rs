//! Names of ports and tables, where text shall have them instead of numbers.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::error::ParseError;
use super::lexer::Text;
use super::parse_action::{Context, parse_instructions};
use super::{parse_flow, parse_group, parse_match};
use crate::flow::{Flow, FlowMod, FlowModCommand};
use crate::flow_match::Match;
use crate::group::Group;
use crate::instruction::Instructions;
use crate::message::{PortDesc, TableFeatures};
use crate::port::OfPort;

/// What the ports and tables of a switch are called, for text with names (`ovs-ofctl --names`).
///
/// A name that two ports share stands for neither. Where a number is written it is taken, names or not.
///
/// ```
/// use openflow::{Names, OfPort};
/// let mut names = Names::default();
/// names.add_port(OfPort(3), "vxlan0");
/// names.add_table(10, "from vxlan");
/// let flow = names.parse_flow("table=10,in_port=vxlan0 actions=resubmit(,\"from vxlan\"),output:4")?;
/// assert_eq!(flow.to_string(), " table=10, in_port=3 actions=resubmit(,10),output:4");
/// assert_eq!(
///     names.show(&flow).to_string(),
///     " table=\"from vxlan\", in_port=vxlan0 actions=resubmit(,\"from vxlan\"),output:4"
/// );
/// # Ok::<(), openflow::ParseError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Names {
    ports: NameMap<u32>,
    tables: NameMap<u8>,
}

/// Numbers and names, each of which stands for one of the other.
#[derive(Clone, Debug)]
struct NameMap<N> {
    names: BTreeMap<N, String>,
    /// `None` for a name that several numbers have.
    numbers: BTreeMap<String, Option<N>>,
}

impl<N> Default for NameMap<N> {
    fn default() -> Self {
        NameMap { names: BTreeMap::new(), numbers: BTreeMap::new() }
    }
}

impl<N: Copy + Ord> NameMap<N> {
    fn add(&mut self, number: N, name: &str) {
        if name.is_empty() {
            return;
        }
        let known = self.numbers.entry(name.to_owned()).or_insert(Some(number));
        if *known != Some(number) {
            *known = None;
        }
        self.names.insert(number, name.to_owned());
    }

    fn name(&self, number: N) -> Option<&str> {
        self.names.get(&number).map(String::as_str).filter(|name| self.number(name) == Some(number))
    }

    fn number(&self, name: &str) -> Option<N> {
        self.numbers.get(name).copied().flatten()
    }
}

impl Names {
    /// The names that a switch reports (`OFPMP_PORT_DESC`, `OFPMP_TABLE_FEATURES`).
    pub fn new(ports: &[PortDesc], tables: &[TableFeatures]) -> Names {
        let mut names = Names::default();
        ports.iter().for_each(|port| names.add_port(port.port, &port.name));
        tables.iter().for_each(|table| names.add_table(table.table, &table.name));
        names
    }

    /// Names a port. Reserved ports keep their own names when they are printed.
    pub fn add_port(&mut self, port: OfPort, name: &str) {
        self.ports.add(port.0, name);
    }

    /// Names a table.
    pub fn add_table(&mut self, table: u8, name: &str) {
        self.tables.add(table, name);
    }

    /// The name of a port.
    pub fn port_name(&self, port: OfPort) -> Option<&str> {
        self.ports.name(port.0)
    }

    /// The port of a name.
    pub fn port(&self, name: &str) -> Option<OfPort> {
        self.ports.number(name).map(OfPort)
    }

    /// The name of a table.
    pub fn table_name(&self, table: u8) -> Option<&str> {
        self.tables.name(table)
    }

    /// The table of a name.
    pub fn table(&self, name: &str) -> Option<u8> {
        self.tables.number(name)
    }

    /// Text with these names: of a [`Flow`], [`FlowMod`], [`Match`], [`Group`], [`crate::Action`] and so on.
    pub fn show<'a, T: Show + ?Sized>(&'a self, what: &'a T) -> impl fmt::Display + 'a {
        Shown { names: self, what }
    }

    /// Parses a flow as [`Flow`]'s `FromStr` does, with names.
    ///
    /// # Errors
    /// Says which word is wrong and what was expected.
    pub fn parse_flow(&self, s: &str) -> Result<Flow, ParseError> {
        parse_flow::flow(self.text(s)).map_err(|error| error.with_input(s))
    }

    /// Parses as [`FlowMod::parse`] does, with names.
    ///
    /// # Errors
    /// Says which word is wrong and what was expected.
    pub fn parse_flow_mod(&self, command: FlowModCommand, s: &str) -> Result<FlowMod, ParseError> {
        parse_flow::flow_mod(command, self.text(s)).map_err(|error| error.with_input(s))
    }

    /// Parses a match as [`Match`]'s `FromStr` does, with names.
    ///
    /// # Errors
    /// Says which word is wrong and what was expected.
    pub fn parse_match(&self, s: &str) -> Result<Match, ParseError> {
        parse_match::fields(self.text(s)).map_err(|error| error.with_input(s))
    }

    /// Parses as [`crate::parse_actions`] does, with names.
    ///
    /// # Errors
    /// Says which word is wrong and what was expected.
    pub fn parse_actions(&self, s: &str) -> Result<Instructions, ParseError> {
        parse_instructions(self.text(s), Context::new(None)).map_err(|error| error.with_input(s))
    }

    /// Parses a group as [`Group`]'s `FromStr` does, with names.
    ///
    /// # Errors
    /// Says which word is wrong and what was expected.
    pub fn parse_group(&self, s: &str) -> Result<Group, ParseError> {
        parse_group::group(self.text(s)).map_err(|error| error.with_input(s))
    }

    fn text<'a>(&'a self, s: &'a str) -> Text<'a> {
        Text::with_names(s, self)
    }
}

/// What [`Names::show`] can show.
pub trait Show: sealed::Write {}

impl<T: sealed::Write + ?Sized> Show for T {}

pub(super) mod sealed {
    /// Writes text, with names if `f` has some.
    pub trait Write {
        fn write(&self, f: &mut super::Out<'_>) -> std::fmt::Result;
    }
}

struct Shown<'a, T: ?Sized> {
    names: &'a Names,
    what: &'a T,
}

impl<T: Show + ?Sized> fmt::Display for Shown<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.what.write(&mut Out { f, names: Some(self.names) })
    }
}

/// `Display` without names for types that can be shown with them.
macro_rules! display {
    ($($(#[$doc:meta])* $type:ty;)*) => {
        $($(#[$doc])*
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $crate::text::names::sealed::Write::write(self, &mut $crate::text::names::Out::new(f))
            }
        })*
    };
}
pub(super) use display;

/// Where text goes, and the names that it shall have.
pub struct Out<'a> {
    f: &'a mut dyn fmt::Write,
    names: Option<&'a Names>,
}

impl fmt::Write for Out<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.f.write_str(s)
    }
}

impl<'a> Out<'a> {
    pub(crate) fn new(f: &'a mut dyn fmt::Write) -> Self {
        Out { f, names: None }
    }

    /// Other text with the same names.
    pub(super) fn over<'b>(&self, f: &'b mut dyn fmt::Write) -> Out<'b>
    where
        'a: 'b,
    {
        Out { f, names: self.names }
    }

    pub(super) fn port(&mut self, port: OfPort) -> fmt::Result {
        let name = self.names.and_then(|names| names.port_name(port));
        match (port.reserved_name(), name) {
            (None, Some(name)) => write_name(self, name),
            _ => write!(self, "{port}"),
        }
    }

    pub(super) fn has_table_name(&self, table: u8) -> bool {
        self.names.is_some_and(|names| names.table_name(table).is_some())
    }

    pub(super) fn table(&mut self, table: u8) -> fmt::Result {
        match self.names.and_then(|names| names.table_name(table)) {
            Some(name) => write_name(self, name),
            None => write!(self, "{table}"),
        }
    }
}

/// In quotes unless it is a plain word, as a JSON string.
fn write_name(f: &mut impl Write, name: &str) -> fmt::Result {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric());
    if is_plain {
        return f.write_str(name);
    }
    f.write_char('"')?;
    for c in name.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_ascii_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

/// The name in a word, without its quotes.
fn unquoted(word: &str) -> Option<String> {
    let Some(inner) = word.strip_prefix('"').and_then(|w| w.strip_suffix('"')) else {
        return Some(word.to_owned());
    };
    let mut name = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                'n' => name.push('\n'),
                'r' => name.push('\r'),
                't' => name.push('\t'),
                'u' => {
                    let digits: String = chars.by_ref().take(4).collect();
                    name.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
                }
                c => name.push(c),
            },
            c => name.push(c),
        }
    }
    Some(name)
}

impl Text<'_> {
    /// The port that this word names.
    pub(super) fn named_port(self) -> Option<OfPort> {
        self.names().and_then(|names| names.port(&unquoted(self.as_str())?))
    }

    /// A table: its number or name.
    pub(super) fn table(self) -> Result<u8, ParseError> {
        let named = self.names().and_then(|names| names.table(&unquoted(self.as_str())?));
        match (named, self.names()) {
            (Some(table), _) if super::value::number_u8(self).is_err() => Ok(table),
            (_, None) => super::value::number_u8(self),
            (_, Some(_)) => super::value::number_u8(self).map_err(|_| {
                self.error(format!("expected the number or name of a table, found `{}`", self.as_str()))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_two_ports_stands_for_neither() {
        let mut names = Names::default();
        names.add_port(OfPort(1), "a");
        names.add_port(OfPort(2), "a");
        names.add_port(OfPort(3), "b");
        assert_eq!((names.port("a"), names.port_name(OfPort(1))), (None, None));
        assert_eq!((names.port("b"), names.port_name(OfPort(3))), (Some(OfPort(3)), Some("b")));
    }

    #[test]
    fn names_that_are_no_words_are_quoted() {
        for (name, text) in [
            ("eth0", "eth0"),
            ("a_b", r#""a_b""#),
            ("a-b", r#""a-b""#),
            ("eth0.5", r#""eth0.5""#),
            ("7up", r#""7up""#),
            ("say \"hi\"\\\n", r#""say \"hi\"\\\n""#),
            ("\u{1}é", r#""\u0001é""#),
        ] {
            let mut printed = String::new();
            write_name(&mut printed, name).unwrap();
            assert_eq!(printed, text);
            assert_eq!(unquoted(&printed).as_deref(), Some(name));
        }
    }

    #[test]
    fn unknown_names_are_pointed_at() {
        let mut names = Names::default();
        names.add_port(OfPort(1), "p1");
        names.add_table(4, "four");
        for (text, at, message) in [
            ("in_port=p2 actions=drop", "p2", "expected a port number or name, found `p2`"),
            ("table=five actions=drop", "five", "expected the number or name of a table, found `five`"),
            ("actions=p2", "p2", "unknown action `p2`"),
            ("actions=resubmit(p1,six)", "six", "expected the number or name of a table, found `six`"),
        ] {
            let error = names.parse_flow(text).unwrap_err();
            assert_eq!((&text[error.span()], error.message()), (at, message));
        }
    }
}
