//! Splitting text into `key=value`, `key:value` and `key(arguments)` items, each knowing where it stands.

use std::ops::Range;

use nom::branch::alt;
use nom::bytes::complete::{is_not, tag, take_while};
use nom::character::complete::{anychar, char};
use nom::combinator::recognize;
use nom::multi::many0_count;
use nom::sequence::delimited;
use nom::{IResult, Parser};

use super::error::ParseError;
use super::names::Names;

/// How deep parentheses may nest; `ovs-ofctl` has far less use for it than this.
const MAX_DEPTH: usize = 32;

/// A piece of the input, with its offset, and the names that it may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    s: &'a str,
    at: usize,
    names: Option<&'a Names>,
}

impl<'a> Text<'a> {
    pub(super) fn new(s: &'a str) -> Self {
        Text { s, at: 0, names: None }
    }

    pub(super) fn with_names(s: &'a str, names: &'a Names) -> Self {
        Text { s, at: 0, names: Some(names) }
    }

    pub(super) fn names(self) -> Option<&'a Names> {
        self.names
    }

    pub(super) fn as_str(self) -> &'a str {
        self.s
    }

    pub(super) fn is_empty(self) -> bool {
        self.s.is_empty()
    }

    pub(super) fn span(self) -> Range<usize> {
        self.at..self.at + self.s.len()
    }

    pub(super) fn error(self, message: impl Into<String>) -> ParseError {
        ParseError::new(self.span(), message)
    }

    /// Splits after `n` bytes, or at the end if there are fewer.
    pub(super) fn split_at(self, n: usize) -> (Self, Self) {
        let (head, tail) = self.s.split_at_checked(n).unwrap_or((self.s, ""));
        (Text { s: head, ..self }, Text { s: tail, at: self.at + head.len(), ..self })
    }

    pub(super) fn skip(self, n: usize) -> Self {
        self.split_at(n).1
    }

    pub(super) fn split_once(self, separator: char) -> Option<(Self, Self)> {
        self.split_once_str(separator.encode_utf8(&mut [0; 4]))
    }

    pub(super) fn split_once_str(self, separator: &str) -> Option<(Self, Self)> {
        let at = self.find(separator)?;
        Some((self.split_at(at).0, self.skip(at + separator.len())))
    }

    /// Where `separator` is, outside of quotes.
    fn find(self, separator: &str) -> Option<usize> {
        let mut rest = self;
        loop {
            let found = rest.s.find(separator)?;
            match rest.s.find('"').filter(|quote| *quote < found) {
                None => return Some(rest.at + found - self.at),
                Some(quote) => {
                    let name = rest.skip(quote);
                    // A quote that is never closed stands for itself.
                    let len = quoted(name.s).map_or(1, |(_, name)| name.len());
                    rest = name.skip(len);
                }
            }
        }
    }

    pub(super) fn split(self, separator: char) -> impl Iterator<Item = Text<'a>> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let current = rest?;
            match current.split_once(separator) {
                Some((head, tail)) => {
                    rest = Some(tail);
                    Some(head)
                }
                None => {
                    rest = None;
                    Some(current)
                }
            }
        })
    }

    pub(super) fn strip_prefix(self, prefix: &str) -> Option<Self> {
        self.s.starts_with(prefix).then(|| self.skip(prefix.len()))
    }

    pub(super) fn strip_suffix(self, suffix: &str) -> Option<Self> {
        self.s.strip_suffix(suffix).map(|s| Text { s, ..self })
    }

    pub(super) fn trim(self) -> Self {
        let skipped = self.s.len() - self.s.trim_start().len();
        Text { s: self.s.trim(), at: self.at + skipped, ..self }
    }

    /// The rest of the input from where `s`, a tail of this text, begins.
    fn tail(self, s: &'a str) -> Self {
        self.skip(self.s.len().saturating_sub(s.len()))
    }
}

/// What stands between key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delimiter {
    /// Nothing: a word alone.
    None,
    /// `key=value` or `key:value`.
    Value,
    /// `key(arguments)`.
    Parentheses,
}

/// One item of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'a> {
    pub(super) key: Text<'a>,
    pub(super) delimiter: Delimiter,
    /// The value, or what is between the parentheses.
    pub(super) value: Text<'a>,
    /// What follows the closing parenthesis: `->reg0[0]`.
    pub(super) tail: Text<'a>,
    /// All of it.
    pub(super) whole: Text<'a>,
}

impl<'a> Item<'a> {
    /// The value of `key=value`, `key:value` or `key(value)`; an error if there is none.
    pub(super) fn required(&self) -> Result<Text<'a>, ParseError> {
        if self.delimiter == Delimiter::None || (self.value.is_empty() && self.delimiter == Delimiter::Value)
        {
            return Err(self.whole.error(format!("`{}` needs a value", self.key.as_str())));
        }
        Ok(self.value)
    }
}

const SEPARATORS: &str = ", \t\r\n";

fn is_separator(c: char) -> bool {
    SEPARATORS.contains(c)
}

/// `(...)` with whatever is inside, parentheses balanced.
fn parenthesised(depth: usize, input: &str) -> IResult<&str, &str> {
    if depth > MAX_DEPTH {
        return Err(nom::Err::Failure(nom::error::Error::new(input, nom::error::ErrorKind::TooLarge)));
    }
    let nested = |i| parenthesised(depth + 1, i);
    let inner = alt((is_not("()\""), quoted, tag("\""), recognize(nested)));
    delimited(char('('), recognize(many0_count(inner)), char(')')).parse(input)
}

/// `"..."` with `\"` inside.
fn quoted(input: &str) -> IResult<&str, &str> {
    let escaped = recognize((char('\\'), anychar));
    recognize(delimited(char('"'), many0_count(alt((is_not("\"\\"), escaped))), char('"'))).parse(input)
}

/// A value up to the next separator outside parentheses and quotes.
fn value(input: &str) -> IResult<&str, &str> {
    let nested = |i| parenthesised(0, i);
    recognize(many0_count(alt((is_not("(\", \t\r\n"), quoted, tag("\""), recognize(nested))))).parse(input)
}

/// Splits a list into its items.
pub(super) fn items(text: Text<'_>) -> Result<Vec<Item<'_>>, ParseError> {
    let mut list = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.skip(rest.s.len() - rest.s.trim_start_matches(is_separator).len());
        if rest.is_empty() {
            return Ok(list);
        }
        let start = rest;
        let key_end = match quoted(rest.s) {
            Ok((_, name)) => name.len(),
            Err(_) => rest.s.find(|c| ":=(, \t\r\n".contains(c)).unwrap_or(rest.s.len()),
        };
        let (key, after) = rest.split_at(key_end);
        let unbalanced = || start.error("unbalanced parentheses");
        let refused = |error: nom::Err<nom::error::Error<&str>>| match error {
            nom::Err::Failure(_) => start.error("parentheses nest too deep"),
            _ => unbalanced(),
        };
        let none = after.split_at(0).0;
        let (delimiter, value_text, tail) = match after.s.chars().next() {
            Some(':' | '=') => {
                let (left, found) = value(after.skip(1).s).map_err(refused)?;
                if left.starts_with('(') {
                    return Err(unbalanced());
                }
                rest = after.tail(left);
                (Delimiter::Value, after.skip(1).split_at(found.len()).0, none)
            }
            Some('(') => {
                let (left, inner) = parenthesised(0, after.s).map_err(refused)?;
                let (left_over, _) = take_while::<_, _, nom::error::Error<&str>>(|c| !is_separator(c))
                    .parse(left)
                    .map_err(|_| unbalanced())?;
                let after_paren = after.tail(left);
                rest = after.tail(left_over);
                let tail = after_paren.split_at(left.len() - left_over.len()).0;
                (Delimiter::Parentheses, after.skip(1).split_at(inner.len()).0, tail)
            }
            _ => {
                rest = after;
                (Delimiter::None, none, none)
            }
        };
        let consumed = start.s.len() - rest.s.len();
        list.push(Item { key, delimiter, value: value_text, tail, whole: start.split_at(consumed).0 });
    }
}
