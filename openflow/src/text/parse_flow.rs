//! Parsing flows and flow-mods.

use std::str::FromStr;

use super::error::ParseError;
use super::lexer::{Delimiter, Item, Text, items};
use super::parse_action::{Context, parse_instructions};
use super::parse_match::MatchBuilder;
use super::print_flow::FLAG_NAMES;
use super::value::{number_u16, number_u32, number_u64, port};
use crate::flow::{Flow, FlowFlags, FlowMod, FlowModCommand, GROUP_ANY, TABLE_ALL};
use crate::port::OfPort;

/// Everything that the text of a flow can say.
struct ParsedFlow<'a> {
    flow: Flow,
    table: Option<u8>,
    cookie_mask: Option<u64>,
    out_port: OfPort,
    out_group: u32,
    /// The word that says one of these.
    out: Option<Text<'a>>,
    has_actions: bool,
}

/// Where the actions begin: at the word `actions=` (or `action=`), outside of any value.
fn split_actions(text: Text<'_>) -> (Text<'_>, Option<Text<'_>>) {
    for word in ["actions=", "action="] {
        let mut from = 0;
        while let Some(found) = text.as_str().get(from..).and_then(|s| s.find(word)) {
            let at = from + found;
            let before = text.as_str().get(..at).and_then(|s| s.chars().next_back());
            if before.is_none_or(|c| c == ',' || c.is_whitespace()) {
                return (text.split_at(at).0, Some(text.skip(at + word.len())));
            }
            from = at + word.len();
        }
    }
    (text, None)
}

fn parse(text: Text<'_>) -> Result<ParsedFlow<'_>, ParseError> {
    let (head, actions) = split_actions(text);
    let mut parsed = ParsedFlow {
        flow: Flow::default(),
        table: None,
        cookie_mask: None,
        out_port: OfPort::ANY,
        out_group: GROUP_ANY,
        out: None,
        has_actions: actions.is_some(),
    };
    let mut builder = MatchBuilder::default();
    for item in items(head)? {
        if !(parsed.take(&item)? || builder.take(&item)?) {
            return Err(item.key.error(format!("unknown field `{}`", item.key.as_str())));
        }
    }
    parsed.flow.fields = builder.finish()?;
    if let Some(actions) = actions {
        parsed.flow.instructions = parse_instructions(actions, Context::new(Some(&parsed.flow.fields)))?;
    }
    Ok(parsed)
}

impl<'a> ParsedFlow<'a> {
    fn take(&mut self, item: &Item<'a>) -> Result<bool, ParseError> {
        let flow = &mut self.flow;
        if item.delimiter == Delimiter::None {
            let Some(&(flag, _)) = FLAG_NAMES.iter().find(|(_, name)| *name == item.key.as_str()) else {
                return Ok(false);
            };
            flow.flags = FlowFlags(flow.flags.0 | flag.0);
            return Ok(true);
        }
        match item.key.as_str() {
            "table" => self.table = Some(item.required()?.table()?),
            "priority" => flow.priority = number_u16(item.required()?)?,
            "idle_timeout" => flow.idle_timeout = number_u16(item.required()?)?,
            "hard_timeout" => flow.hard_timeout = number_u16(item.required()?)?,
            "importance" => flow.importance = number_u16(item.required()?)?,
            "cookie" => {
                let text = item.required()?;
                match text.split_once('/') {
                    None => flow.cookie = number_u64(text)?,
                    Some((value, mask)) => {
                        flow.cookie = number_u64(value)?;
                        self.cookie_mask =
                            Some(if mask.as_str() == "-1" { u64::MAX } else { number_u64(mask)? });
                    }
                }
            }
            "out_port" => (self.out_port, self.out) = (port(item.required()?)?, Some(item.whole)),
            "out_group" => (self.out_group, self.out) = (number_u32(item.required()?)?, Some(item.whole)),
            // What a dump says of a flow besides, so that a dump can be read back.
            "duration" | "n_packets" | "n_bytes" | "idle_age" | "hard_age" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn selects_by_no_output(&self) -> Result<(), ParseError> {
        match self.out {
            None => Ok(()),
            Some(word) => Err(word.error("only what deletes flows selects them by their output")),
        }
    }
}

impl FromStr for Flow {
    type Err = ParseError;

    /// Parses what `ovs-ofctl add-flow` takes, and what `ovs-ofctl dump-flows` prints.
    fn from_str(s: &str) -> Result<Self, ParseError> {
        flow(Text::new(s)).map_err(|error| error.with_input(s))
    }
}

pub(super) fn flow(text: Text<'_>) -> Result<Flow, ParseError> {
    let parsed = parse(text)?;
    if !parsed.has_actions {
        return Err(text.skip(usize::MAX).error("expected `actions=` and what to do"));
    }
    parsed.selects_by_no_output()?;
    if parsed.cookie_mask.is_some() {
        return Err(text.error("a cookie with a mask selects flows; a flow has a plain one"));
    }
    Ok(Flow { table: parsed.table.unwrap_or(0), ..parsed.flow })
}

impl FlowMod {
    /// Parses the argument of `ovs-ofctl add-flow`, `mod-flows` or `del-flows` for a command.
    ///
    /// # Errors
    /// Says which word is wrong and what was expected.
    pub fn parse(command: FlowModCommand, s: &str) -> Result<FlowMod, ParseError> {
        flow_mod(command, Text::new(s)).map_err(|error| error.with_input(s))
    }
}

pub(super) fn flow_mod(command: FlowModCommand, text: Text<'_>) -> Result<FlowMod, ParseError> {
    let is_delete = matches!(command, FlowModCommand::Delete | FlowModCommand::DeleteStrict);
    let parsed = parse(text)?;
    if !is_delete && !parsed.has_actions {
        return Err(text.skip(usize::MAX).error("expected `actions=` and what to do"));
    }
    if !is_delete {
        parsed.selects_by_no_output()?;
    }
    if command == FlowModCommand::Add && parsed.cookie_mask.is_some() {
        return Err(text.error("a flow that is added has a plain cookie, without a mask"));
    }
    let mut flow = parsed.flow;
    flow.table = parsed.table.unwrap_or(if is_delete { TABLE_ALL } else { 0 });
    let mut change = FlowMod::new(command, flow);
    change.cookie_mask = parsed.cookie_mask.unwrap_or(0);
    change.out_port = parsed.out_port;
    change.out_group = parsed.out_group;
    Ok(change)
}
