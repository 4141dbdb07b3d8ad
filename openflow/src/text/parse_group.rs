//! Parsing groups.

use std::str::FromStr;

use super::error::ParseError;
use super::lexer::{Item, Text, items};
use super::parse_action::{Context, parse_list};
use super::value::{number_u16, number_u32, port};
use crate::group::{Bucket, Group, GroupType};

impl FromStr for Group {
    type Err = ParseError;

    /// Parses what `ovs-ofctl add-group` takes: `group_id=1,type=select,bucket=output:1`.
    fn from_str(s: &str) -> Result<Self, ParseError> {
        group(Text::new(s)).map_err(|error| error.with_input(s))
    }
}

/// `bucket=` outside of any value: at the start or after a separator.
fn find_bucket(text: Text<'_>) -> Option<usize> {
    let s = text.as_str();
    s.match_indices("bucket=").map(|(at, _)| at).find(|&at| {
        s.get(..at)
            .and_then(|before| before.chars().next_back())
            .is_none_or(|c| c == ',' || c.is_whitespace())
    })
}

pub(super) fn group(text: Text<'_>) -> Result<Group, ParseError> {
    let (head, mut rest) = match find_bucket(text) {
        Some(at) => (text.split_at(at).0, Some(text.skip(at))),
        None => (text, None),
    };
    let (mut id, mut kind) = (None, GroupType::All);
    for item in items(head)? {
        match item.key.as_str() {
            "group_id" => id = Some(number_u32(item.required()?)?),
            "type" => {
                let text = item.required()?;
                kind = match text.as_str() {
                    "all" => GroupType::All,
                    "select" => GroupType::Select,
                    "indirect" => GroupType::Indirect,
                    "ff" | "fast_failover" => GroupType::FastFailover,
                    _ => return Err(text.error("expected one of all, select, indirect, ff")),
                };
            }
            other => return Err(item.key.error(format!("unknown property `{other}` of a group"))),
        }
    }
    let id = id.ok_or_else(|| text.error("expected group_id"))?;
    if id >= 0xffff_ff00 {
        return Err(text.error("a group_id goes from 0 to 4294967039"));
    }
    let mut buckets = Vec::new();
    while let Some(text) = rest {
        let body = text.skip("bucket=".len());
        let end = find_bucket(body);
        buckets.push(parse_bucket(end.map_or(body, |at| body.split_at(at).0), kind)?);
        rest = end.map(|at| body.skip(at));
    }
    Ok(Group { id, kind, buckets })
}

/// Properties, then actions after `actions=`; an action may also follow the properties directly.
fn parse_bucket(text: Text<'_>, kind: GroupType) -> Result<Bucket, ParseError> {
    let mut bucket = Bucket { weight: u16::from(kind == GroupType::Select), ..Bucket::default() };
    let (head, mut actions) = match text.split_once_str("actions=") {
        Some((head, actions)) => (head, Some(actions)),
        None => (text, None),
    };
    for item in items(head)? {
        match item.key.as_str() {
            "weight" => bucket.weight = number_u16(item.required()?)?,
            "watch_port" => bucket.watch_port = port(item.required()?)?,
            "watch_group" => bucket.watch_group = number_u32(item.required()?)?,
            // Known from OpenFlow 1.5; 1.3 has no place for it.
            "bucket_id" => {}
            _ if actions.is_none() => {
                actions = Some(from_item(text, &item));
                break;
            }
            other => return Err(item.key.error(format!("unknown property `{other}` of a bucket"))),
        }
    }
    if let Some(actions) = actions {
        bucket.actions = parse_list(actions, Context::new(None))?;
    }
    Ok(bucket)
}

/// The text from an item on.
fn from_item<'a>(text: Text<'a>, item: &Item<'a>) -> Text<'a> {
    text.skip(item.whole.span().start.saturating_sub(text.span().start))
}
