//! OVSDB values: UUIDs, atoms, and the sets and maps made of atoms (RFC 7047 §5.1).

mod datum;
mod json;
mod strings;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

pub use datum::{Datum, Map, Set};
pub(crate) use json::{DatumSeed, NUL, UuidText, has_nul};
pub(crate) use strings::Strings;

/// A row's 128-bit identity (RFC 7047 §5.1 `<uuid>`), in network byte order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

/// The text is not a UUID: 32 hexadecimal digits in groups of 8-4-4-4-12.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID (want 8-4-4-4-12 hexadecimal digits)")]
pub struct ParseUuidError;

impl Uuid {
    /// The all-zero UUID, which `monitor_cond_since` takes as "no transaction known" and which names no row.
    pub const ZERO: Uuid = Uuid([0; 16]);
}

impl FromStr for Uuid {
    type Err = ParseUuidError;

    fn from_str(text: &str) -> Result<Self, ParseUuidError> {
        const DASHES: [usize; 4] = [8, 13, 18, 23];
        if text.len() != 36 {
            return Err(ParseUuidError);
        }
        let mut value = 0u128;
        for (at, digit) in text.bytes().enumerate() {
            if DASHES.contains(&at) {
                if digit != b'-' {
                    return Err(ParseUuidError);
                }
                continue;
            }
            let nibble = char::from(digit).to_digit(16).ok_or(ParseUuidError)?;
            value = (value << 4) | u128::from(nibble);
        }
        Ok(Uuid(value.to_be_bytes()))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        let group = |shift: u32, digits: u32| (bits >> shift) & ((1u128 << (4 * digits)) - 1);
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            group(96, 8),
            group(80, 4),
            group(64, 4),
            group(48, 4),
            group(0, 12)
        )
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One scalar (RFC 7047 §5.1 `<atom>`).
///
/// Equality and order are total, so that atoms can be kept in sorted sets: reals compare by
/// [`f64::total_cmp`], and atoms of different types by the order of the variants.
#[derive(Debug, Clone)]
pub enum Atom {
    /// A signed 64-bit integer.
    Integer(i64),
    /// A double-precision real.
    Real(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// A string of Unicode characters, never containing U+0000 in a real database. Shared, because a replica
    /// holds the same few thousands of times.
    String(Arc<str>),
    /// A reference to a row, or a row's own `_uuid`.
    Uuid(Uuid),
    /// A reference to a row inserted by the same transaction, by the name that its `insert` gave it
    /// (RFC 7047 §5.1 `<named-uuid>`). Only ever sent, never received.
    // A boxed str keeps the atom at 24 bytes, and with it every datum of a replica.
    NamedUuid(Box<str>),
}

impl Atom {
    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Atom::String(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Atom::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// The number as a real; integers are converted (a server may write `1.0` as `1`).
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Atom::Real(value) => Some(*value),
            Atom::Integer(value) => Some(*value as f64),
            _ => None,
        }
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Atom::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// The UUID, if it is one (not a named one).
    pub fn as_uuid(&self) -> Option<Uuid> {
        match self {
            Atom::Uuid(uuid) => Some(*uuid),
            _ => None,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Atom::Integer(_) => 0,
            Atom::Real(_) => 1,
            Atom::Boolean(_) => 2,
            Atom::String(_) => 3,
            Atom::Uuid(_) => 4,
            Atom::NamedUuid(_) => 5,
        }
    }
}

impl Ord for Atom {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Atom::Integer(a), Atom::Integer(b)) => a.cmp(b),
            (Atom::Real(a), Atom::Real(b)) => a.total_cmp(b),
            (Atom::Boolean(a), Atom::Boolean(b)) => a.cmp(b),
            (Atom::String(a), Atom::String(b)) => a.cmp(b),
            (Atom::Uuid(a), Atom::Uuid(b)) => a.cmp(b),
            (Atom::NamedUuid(a), Atom::NamedUuid(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for Atom {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Atom {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Atom {}

impl Hash for Atom {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rank().hash(state);
        match self {
            Atom::Integer(value) => value.hash(state),
            Atom::Real(value) => value.to_bits().hash(state),
            Atom::Boolean(value) => value.hash(state),
            Atom::String(value) => value.hash(state),
            Atom::Uuid(value) => value.hash(state),
            Atom::NamedUuid(value) => value.hash(state),
        }
    }
}

/// As `ovs-vsctl` and `ovsdb-client` print atoms: strings bare if they are plain words, quoted otherwise.
impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Integer(value) => write!(f, "{value}"),
            Atom::Real(value) => write!(f, "{value}"),
            Atom::Boolean(value) => write!(f, "{value}"),
            Atom::String(text) => {
                let mut chars = text.chars();
                let plain = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
                    && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
                    && &**text != "true"
                    && &**text != "false"
                    && text.parse::<Uuid>().is_err();
                if plain { f.write_str(text) } else { write!(f, "{text:?}") }
            }
            Atom::Uuid(uuid) => write!(f, "{uuid}"),
            Atom::NamedUuid(name) => write!(f, "@{name}"),
        }
    }
}

macro_rules! atom_from {
    ($($type:ty => |$value:ident| $make:expr;)*) => {$(
        impl From<$type> for Atom {
            fn from($value: $type) -> Self {
                $make
            }
        }
        impl From<$type> for Datum {
            fn from($value: $type) -> Self {
                Datum::Atom($make)
            }
        }
    )*};
}

atom_from! {
    i64 => |value| Atom::Integer(value);
    i32 => |value| Atom::Integer(value.into());
    u32 => |value| Atom::Integer(value.into());
    u16 => |value| Atom::Integer(value.into());
    f64 => |value| Atom::Real(value);
    bool => |value| Atom::Boolean(value);
    &str => |value| Atom::String(value.into());
    &String => |value| Atom::String(value.as_str().into());
    String => |value| Atom::String(value.into());
    Uuid => |value| Atom::Uuid(value);
}
