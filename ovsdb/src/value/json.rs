//! Atoms and datums to and from JSON (RFC 7047 §5.1), straight from the bytes without an intermediate tree.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};

use super::{Atom, Datum, Uuid};

impl Serialize for Uuid {
    /// As `["uuid", "..."]`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ("uuid", format_args!("{self}")).serialize(serializer)
    }
}

impl Serialize for Atom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Atom::Integer(value) => serializer.serialize_i64(*value),
            Atom::Real(value) => serializer.serialize_f64(*value),
            Atom::Boolean(value) => serializer.serialize_bool(*value),
            Atom::String(text) => serializer.serialize_str(text),
            Atom::Uuid(uuid) => uuid.serialize(serializer),
            Atom::NamedUuid(name) => ("named-uuid", name).serialize(serializer),
        }
    }
}

impl Serialize for Datum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Datum::Atom(atom) => atom.serialize(serializer),
            Datum::Set(set) => tagged(serializer, "set", set.as_slice()),
            Datum::Map(map) => tagged(serializer, "map", map.as_slice()),
        }
    }
}

fn tagged<S: Serializer>(serializer: S, tag: &str, content: impl Serialize) -> Result<S::Ok, S::Error> {
    let mut seq = serializer.serialize_seq(Some(2))?;
    seq.serialize_element(tag)?;
    seq.serialize_element(&content)?;
    seq.end()
}

/// The first element of an array that stands for a value.
enum Tag {
    Uuid,
    NamedUuid,
    Set,
    Map,
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TagVisitor;
        impl Visitor<'_> for TagVisitor {
            type Value = Tag;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"uuid\", \"named-uuid\", \"set\" or \"map\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Tag, E> {
                match text {
                    "uuid" => Ok(Tag::Uuid),
                    "named-uuid" => Ok(Tag::NamedUuid),
                    "set" => Ok(Tag::Set),
                    "map" => Ok(Tag::Map),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_str(TagVisitor)
    }
}

/// A UUID's bare text, as in `["uuid", TEXT]` or as the key of a table update.
pub(crate) struct UuidText(pub(crate) Uuid);

impl<'de> Deserialize<'de> for UuidText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl Visitor<'_> for TextVisitor {
            type Value = UuidText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a UUID")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<UuidText, E> {
                text.parse().map(UuidText).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

fn next<'de, T: Deserialize<'de>, S: SeqAccess<'de>>(seq: &mut S, what: &str) -> Result<T, S::Error> {
    seq.next_element()?.ok_or_else(|| de::Error::custom(format_args!("the array ends before {what}")))
}

fn end<'de, S: SeqAccess<'de>>(seq: &mut S) -> Result<(), S::Error> {
    match seq.next_element::<IgnoredAny>()? {
        None => Ok(()),
        Some(_) => Err(de::Error::custom("the array has more than two elements")),
    }
}

macro_rules! visit_scalars {
    ($wrap:expr) => {
        fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
            Ok($wrap(Atom::Boolean(value)))
        }
        fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
            Ok($wrap(Atom::Integer(value)))
        }
        fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
            match i64::try_from(value) {
                Ok(value) => Ok($wrap(Atom::Integer(value))),
                Err(_) => Err(E::custom("an integer beyond 64 bits with sign")),
            }
        }
        fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
            Ok($wrap(Atom::Real(value)))
        }
        fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
            Ok($wrap(Atom::String(value.to_owned())))
        }
        fn visit_string<E: de::Error>(self, value: String) -> Result<Self::Value, E> {
            Ok($wrap(Atom::String(value)))
        }
    };
}

impl<'de> Deserialize<'de> for Atom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AtomVisitor;
        impl<'de> Visitor<'de> for AtomVisitor {
            type Value = Atom;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an OVSDB atom")
            }
            visit_scalars!(|atom| atom);
            fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Atom, S::Error> {
                let atom = match next(&mut seq, "its tag")? {
                    Tag::Uuid => Atom::Uuid(next::<UuidText, _>(&mut seq, "the UUID")?.0),
                    Tag::NamedUuid => Atom::NamedUuid(next(&mut seq, "the name")?),
                    Tag::Set | Tag::Map => return Err(de::Error::custom("a set or map within another")),
                };
                end(&mut seq)?;
                Ok(atom)
            }
        }
        deserializer.deserialize_any(AtomVisitor)
    }
}

impl<'de> Deserialize<'de> for Datum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DatumVisitor;
        impl<'de> Visitor<'de> for DatumVisitor {
            type Value = Datum;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an OVSDB value")
            }
            visit_scalars!(Datum::Atom);
            fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Datum, S::Error> {
                let datum = match next(&mut seq, "its tag")? {
                    Tag::Uuid => Datum::Atom(Atom::Uuid(next::<UuidText, _>(&mut seq, "the UUID")?.0)),
                    Tag::NamedUuid => Datum::Atom(Atom::NamedUuid(next(&mut seq, "the name")?)),
                    Tag::Set => {
                        let atoms: Vec<Atom> = next(&mut seq, "the set's elements")?;
                        Datum::set(atoms)
                    }
                    Tag::Map => {
                        let pairs: Vec<(Atom, Atom)> = next(&mut seq, "the map's pairs")?;
                        Datum::map(pairs)
                    }
                };
                end(&mut seq)?;
                Ok(datum)
            }
        }
        deserializer.deserialize_any(DatumVisitor)
    }
}
