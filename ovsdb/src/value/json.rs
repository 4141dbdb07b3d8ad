//! Atoms and datums to and from JSON (RFC 7047 §5.1), straight from the bytes without an intermediate tree.

use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};

use super::{Atom, Datum, Strings, Uuid};

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
        Some(_) => Err(de::Error::custom("an array has more than two elements")),
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
            let text = match self.0.strings {
                Some(strings) if self.0.share_scalars => strings.share(value),
                _ => value.into(),
            };
            Ok($wrap(Atom::String(text)))
        }
    };
}

/// Reads a datum, sharing strings that come again and again.
#[derive(Default)]
pub(crate) struct DatumSeed<'s> {
    /// Where shared strings are; a map's keys always are.
    pub(crate) strings: Option<&'s mut Strings>,
    /// Whether scalars and a set's elements are shared too: those of an enum.
    pub(crate) share_scalars: bool,
}

impl DatumSeed<'_> {
    fn reborrow(&mut self, share_scalars: bool) -> DatumSeed<'_> {
        DatumSeed { strings: self.strings.as_deref_mut(), share_scalars }
    }
}

/// A position within a datum.
struct AtomSeed<'s>(DatumSeed<'s>);
struct AtomsSeed<'s>(DatumSeed<'s>);
struct PairSeed<'s>(DatumSeed<'s>);
struct PairsSeed<'s>(DatumSeed<'s>);

macro_rules! seed {
    ($seed:ident -> $value:ty, $how:ident, $expecting:literal, { $($visits:tt)* }) => {
        impl<'de> DeserializeSeed<'de> for $seed<'_> {
            type Value = $value;
            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<$value, D::Error> {
                deserializer.$how(self)
            }
        }
        impl<'de> Visitor<'de> for $seed<'_> {
            type Value = $value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($expecting)
            }
            $($visits)*
        }
    };
}

seed!(AtomSeed -> Atom, deserialize_any, "an OVSDB atom", {
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
});

seed!(AtomsSeed -> Vec<Atom>, deserialize_seq, "a set's elements", {
    fn visit_seq<S: SeqAccess<'de>>(mut self, mut seq: S) -> Result<Vec<Atom>, S::Error> {
        let mut atoms = Vec::new();
        let share = self.0.share_scalars;
        while let Some(atom) = seq.next_element_seed(AtomSeed(self.0.reborrow(share)))? {
            atoms.push(atom);
        }
        Ok(atoms)
    }
});

seed!(PairSeed -> (Atom, Atom), deserialize_seq, "a pair of key and value", {
    fn visit_seq<S: SeqAccess<'de>>(mut self, mut seq: S) -> Result<(Atom, Atom), S::Error> {
        let short = || de::Error::custom("a pair ends early");
        let key = seq.next_element_seed(AtomSeed(self.0.reborrow(true)))?.ok_or_else(short)?;
        let value = seq.next_element_seed(AtomSeed(self.0.reborrow(false)))?.ok_or_else(short)?;
        end(&mut seq)?;
        Ok((key, value))
    }
});

seed!(PairsSeed -> Vec<(Atom, Atom)>, deserialize_seq, "a map's pairs", {
    fn visit_seq<S: SeqAccess<'de>>(mut self, mut seq: S) -> Result<Vec<(Atom, Atom)>, S::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = seq.next_element_seed(PairSeed(self.0.reborrow(false)))? {
            pairs.push(pair);
        }
        Ok(pairs)
    }
});

/// The visitor of a whole datum.
struct WholeSeed<'s>(DatumSeed<'s>);

seed!(WholeSeed -> Datum, deserialize_any, "an OVSDB value", {
    visit_scalars!(Datum::Atom);
    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Datum, S::Error> {
        let short = || de::Error::custom("the array ends after its tag");
        let datum = match next(&mut seq, "its tag")? {
            Tag::Uuid => Datum::Atom(Atom::Uuid(next::<UuidText, _>(&mut seq, "the UUID")?.0)),
            Tag::NamedUuid => Datum::Atom(Atom::NamedUuid(next(&mut seq, "the name")?)),
            Tag::Set => Datum::set(seq.next_element_seed(AtomsSeed(self.0))?.ok_or_else(short)?),
            Tag::Map => Datum::map(seq.next_element_seed(PairsSeed(self.0))?.ok_or_else(short)?),
        };
        end(&mut seq)?;
        Ok(datum)
    }
});

impl<'de> DeserializeSeed<'de> for DatumSeed<'_> {
    type Value = Datum;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Datum, D::Error> {
        WholeSeed(self).deserialize(deserializer)
    }
}

impl<'de> Deserialize<'de> for Atom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        AtomSeed(DatumSeed::default()).deserialize(deserializer)
    }
}

impl<'de> Deserialize<'de> for Datum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DatumSeed::default().deserialize(deserializer)
    }
}

/// What ovsdb-server makes of a string with a NUL character: RFC 7047 §3.1 lets implementations disallow it.
pub(crate) const NUL: &str = "a string has a NUL character, which ovsdb-server does not take";

/// Whether JSON has a string with a NUL character, which can only be written as an escape.
pub(crate) fn has_nul(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        rest = rest.get(at.saturating_add(1)..).unwrap_or_default();
        if rest.starts_with(b"u0000") {
            return true;
        }
        // What is escaped may be a backslash itself.
        rest = rest.get(1..).unwrap_or_default();
    }
    false
}
