//! [`Node`]: a YAML document that knows where each value stands and keeps the order of keys.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Number;
use serde_saphyr::localizer::Localizer;
use serde_saphyr::{Location, Spanned, UserMessageFormatter};

/// A value and the line that it begins on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// The value.
    pub(super) value: Value,
    /// Line within the document's text, from 1; 0 if unknown.
    pub(super) line: u64,
}

/// A JSON value whose mappings keep their order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Sequence(Vec<Node>),
    Mapping(Vec<(String, Node)>),
}

/// A document is no YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// Line within the document's text, from 1.
    pub(super) line: Option<u64>,
    /// What is wrong.
    pub(super) reason: String,
}

/// Reads a text that holds one document.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let options = serde_saphyr::options! {
        // What kubectl takes for a boolean, and nothing more; octal numbers as Kubernetes reads them.
        strict_booleans: true,
        legacy_octal_numbers: true,
        with_snippet: false,
        // Objects of a cluster need no aliases; a few are harmless, many that refer to each other are a bomb.
        budget: serde_saphyr::budget! { max_aliases: 64, max_anchors: 64, max_nodes: 50_000 },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|err| SyntaxError {
        line: err.location().map(|location| location.line()).filter(|&line| line > 0),
        reason: err.render_with_formatter(&UserMessageFormatter.with_localizer(&ColumnOnly)),
    })
}

/// Leaves the line out of a message: the parser counts from the beginning of the document, people from that of the file.
struct ColumnOnly;

impl Localizer for ColumnOnly {
    fn attach_location<'a>(&self, base: Cow<'a, str>, location: Location) -> Cow<'a, str> {
        if location == Location::UNKNOWN {
            base
        } else {
            format!("{base} (column {})", location.column()).into()
        }
    }

    fn alias_used_at(&self, _: Location) -> String {
        String::new()
    }
}

impl Node {
    /// The value of a key, if this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// As [`Node::get`], to change it.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match &mut self.value {
            Value::Mapping(entries) => entries.iter_mut().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The text, if this is a string.
    pub(super) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value that `field` names, such as `spec.ports[0].port`, or what comes closest to it.
    pub(super) fn nearest(&self, field: &str) -> &Self {
        let mut node = self;
        for step in steps(field) {
            let next = match &node.value {
                Value::Sequence(items) => step.parse().ok().and_then(|index: usize| items.get(index)),
                _ => node.get(step),
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }
}

/// The keys and indices of a path: `a.b[0][c.d/e]` is `a`, `b`, `0`, `c.d/e`.
fn steps(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches('.');
        let (step, remainder) = match rest.strip_prefix('[') {
            Some(inner) => inner.split_once(']').unwrap_or((inner, "")),
            None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        rest = remainder;
        (!step.is_empty()).then_some(step)
    })
}

impl From<&Node> for serde_json::Value {
    fn from(node: &Node) -> Self {
        match &node.value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(value) => Self::Number(value.clone()),
            Value::String(value) => Self::String(value.clone()),
            Value::Sequence(items) => items.iter().map(Self::from).collect(),
            Value::Mapping(entries) => {
                entries.iter().map(|(key, node)| (key.clone(), Self::from(node))).collect()
            }
        }
    }
}

impl From<&serde_json::Value> for Node {
    fn from(value: &serde_json::Value) -> Self {
        let value = match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(value) => Value::Number(value.clone()),
            serde_json::Value::String(value) => Value::String(value.clone()),
            serde_json::Value::Array(items) => Value::Sequence(items.iter().map(Self::from).collect()),
            serde_json::Value::Object(entries) => {
                Value::Mapping(entries.iter().map(|(key, value)| (key.clone(), Self::from(value))).collect())
            }
        };
        Self { value, line: 0 }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::deserialize(deserializer)?;
        Ok(Self { value, line: referenced.line() })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;

        impl<'de> Visitor<'de> for AnyValue {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a YAML value")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_none<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
                deserializer.deserialize_any(self)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(Value::Number(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(Value::Number(value.into()))
            }

            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
                Number::from_f64(value).map(Value::Number).ok_or_else(|| {
                    E::custom("a number that is not finite has no place in a Kubernetes object")
                })
            }

            fn visit_str<E>(self, value: &str) -> Result<Value, E> {
                Ok(Value::String(value.to_owned()))
            }

            fn visit_string<E>(self, value: String) -> Result<Value, E> {
                Ok(Value::String(value))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut nodes = Vec::new();
                while let Some(node) = items.next_element()? {
                    nodes.push(node);
                }
                Ok(Value::Sequence(nodes))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut entries: Vec<(String, Node)> = Vec::new();
                while let Some((key, node)) = map.next_entry::<String, Node>()? {
                    if entries.iter().any(|(other, _)| *other == key) {
                        return Err(A::Error::custom(format_args!("the key \"{key}\" occurs twice")));
                    }
                    entries.push((key, node));
                }
                Ok(Value::Mapping(entries))
            }
        }

        deserializer.deserialize_any(AnyValue)
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Number(value) => value.serialize(serializer),
            Value::String(value) => serializer.serialize_str(value),
            Value::Sequence(items) => {
                let mut sequence = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| sequence.serialize_element(item))?;
                sequence.end()
            }
            Value::Mapping(entries) => {
                let mut mapping = serializer.serialize_map(Some(entries.len()))?;
                entries.iter().try_for_each(|(key, node)| mapping.serialize_entry(key, node))?;
                mapping.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(text: &str) -> serde_json::Value {
        serde_json::Value::from(&parse(text).unwrap())
    }

    #[test]
    fn scalars_are_what_kubernetes_takes_them_for() {
        assert_eq!(
            value(
                "a: yes\nb: true\nc: 0640\nd: 1e3\ne: 2024-01-31T08:00:00Z\nf: ~\ng: '1'\nh: 1.5\ni: 10.128.0.0/14\nj: -5\n"
            ),
            json!({
                "a": "yes", "b": true, "c": 416, "d": 1000.0, "e": "2024-01-31T08:00:00Z", "f": null, "g": "1", "h": 1.5,
                "i": "10.128.0.0/14", "j": -5,
            })
        );
        assert_eq!(value("80: x\n"), json!({"80": "x"}));
        assert_eq!(
            value("a: &x {b: 1}\nc: *x\nd:\n  <<: *x\n  e: 2\n"),
            json!({"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": 2}})
        );
        assert_eq!(value("a: |\n  ---\n  b\n"), json!({"a": "---\nb\n"}));
    }

    #[test]
    fn lines_of_fields() {
        let node = parse("a:\n  b:\n  - c: 1\n  - c: 2\n    d: {e: 3}\nf.g/h: 4\n").unwrap();
        for (field, line) in [
            ("a.b[0].c", 3),
            ("a.b[1].c", 4),
            ("a.b[1].d.e", 5),
            ("[f.g/h]", 6),
            ("a.b[7].c", 3),
            ("zz", 1),
            ("", 1),
        ] {
            assert_eq!(node.nearest(field).line, line, "{field}");
        }
    }
}
