//! `Datum`: what one column of one row holds.

use std::collections::BTreeMap;
use std::fmt;

use super::{Atom, Uuid};

/// A set of atoms, sorted, without duplicates; never of exactly one element, which is [`Datum::Atom`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Set(Box<[Atom]>);

impl Set {
    /// The atoms in order.
    pub fn as_slice(&self) -> &[Atom] {
        &self.0
    }
}

/// A map from atoms to atoms, sorted by key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Map(Box<[(Atom, Atom)]>);

impl Map {
    /// The pairs in the order of their keys.
    pub fn as_slice(&self) -> &[(Atom, Atom)] {
        &self.0
    }

    /// The value of a key.
    pub fn get(&self, key: &Atom) -> Option<&Atom> {
        let at = self.0.binary_search_by(|(candidate, _)| candidate.cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }
}

/// What one column of one row holds (RFC 7047 §5.1 `<value>`).
///
/// The wire does not distinguish a scalar from a set of one, so neither does this type: a set of exactly one
/// atom is always [`Datum::Atom`], and [`Datum::atoms`] walks scalars and sets alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Datum {
    /// A scalar, or a set of one.
    Atom(Atom),
    /// A set of none, or of two and more.
    Set(Set),
    /// A map.
    Map(Map),
}

impl Default for Datum {
    fn default() -> Self {
        Datum::empty_set()
    }
}

impl Datum {
    /// The empty set: an optional column without a value.
    pub fn empty_set() -> Datum {
        Datum::Set(Set::default())
    }

    /// The empty map.
    pub fn empty_map() -> Datum {
        Datum::Map(Map::default())
    }

    /// A set; duplicates collapse.
    pub fn set<A: Into<Atom>>(atoms: impl IntoIterator<Item = A>) -> Datum {
        let mut atoms: Vec<Atom> = atoms.into_iter().map(Into::into).collect();
        atoms.sort_unstable();
        atoms.dedup();
        Datum::from_sorted_set(atoms)
    }

    /// A map; of two pairs with the same key the last one counts.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Datum {
        let mut pairs: Vec<(Atom, Atom)> = pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        if !pairs.is_sorted_by(|(a, _), (b, _)| a < b) {
            pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
            pairs.reverse();
            pairs.dedup_by(|(a, _), (b, _)| a == b);
            pairs.reverse();
        }
        Datum::Map(Map(pairs.into_boxed_slice()))
    }

    /// An optional scalar: the atom or the empty set.
    pub fn option<A: Into<Atom>>(atom: Option<A>) -> Datum {
        atom.map_or_else(Datum::empty_set, |atom| Datum::Atom(atom.into()))
    }

    pub(crate) fn from_sorted_set(mut atoms: Vec<Atom>) -> Datum {
        match atoms.len() {
            1 => atoms.pop().map_or_else(Datum::empty_set, Datum::Atom),
            _ => Datum::Set(Set(atoms.into_boxed_slice())),
        }
    }

    pub(crate) fn from_sorted_map(pairs: Vec<(Atom, Atom)>) -> Datum {
        Datum::Map(Map(pairs.into_boxed_slice()))
    }

    /// How many atoms (or pairs) it holds.
    pub fn len(&self) -> usize {
        match self {
            Datum::Atom(_) => 1,
            Datum::Set(set) => set.0.len(),
            Datum::Map(map) => map.0.len(),
        }
    }

    /// Whether it holds nothing: an unset optional column, an empty set or map.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The only atom, or `None` if it holds none or several, or is a map.
    pub fn optional(&self) -> Option<&Atom> {
        match self {
            Datum::Atom(atom) => Some(atom),
            _ => None,
        }
    }

    /// The only atom as a string.
    pub fn as_str(&self) -> Option<&str> {
        self.optional()?.as_str()
    }

    /// The only atom as an integer.
    pub fn as_i64(&self) -> Option<i64> {
        self.optional()?.as_i64()
    }

    /// The only atom as a real.
    pub fn as_f64(&self) -> Option<f64> {
        self.optional()?.as_f64()
    }

    /// The only atom as a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        self.optional()?.as_bool()
    }

    /// The only atom as a UUID.
    pub fn as_uuid(&self) -> Option<Uuid> {
        self.optional()?.as_uuid()
    }

    /// The atoms of a scalar or a set, in order; nothing for a map.
    pub fn atoms(&self) -> std::slice::Iter<'_, Atom> {
        match self {
            Datum::Atom(atom) => std::slice::from_ref(atom),
            Datum::Set(set) => &set.0,
            Datum::Map(_) => &[],
        }
        .iter()
    }

    /// The pairs of a map, in the order of the keys; nothing for a scalar or a set.
    pub fn pairs(&self) -> std::slice::Iter<'_, (Atom, Atom)> {
        match self {
            Datum::Map(map) => map.as_slice(),
            _ => &[],
        }
        .iter()
    }

    /// The strings of a scalar or set of strings.
    pub fn strings(&self) -> impl Iterator<Item = &str> {
        self.atoms().filter_map(Atom::as_str)
    }

    /// The UUIDs of a reference or a set of references.
    pub fn uuids(&self) -> impl Iterator<Item = Uuid> + '_ {
        self.atoms().filter_map(Atom::as_uuid)
    }

    /// Every UUID that it refers to, also as a key or a value of a map.
    pub fn references(&self) -> impl Iterator<Item = Uuid> + '_ {
        self.uuids().chain(self.pairs().flat_map(|(k, v)| k.as_uuid().into_iter().chain(v.as_uuid())))
    }

    /// Whether a scalar or set holds the atom, or a map has it as a key.
    pub fn contains(&self, atom: &Atom) -> bool {
        match self {
            Datum::Atom(own) => own == atom,
            Datum::Set(set) => set.0.binary_search(atom).is_ok(),
            Datum::Map(map) => map.get(atom).is_some(),
        }
    }

    /// The map, if it is one.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Datum::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The string that a map of strings has under a key.
    pub fn as_map_get(&self, key: &str) -> Option<&str> {
        let map = self.as_map()?;
        let at = map.0.binary_search_by(|(k, _)| k.as_str().map_or(std::cmp::Ordering::Less, |k| k.cmp(key)));
        map.0.get(at.ok()?)?.1.as_str()
    }

    /// A map of strings, copied into the standard type.
    pub fn to_string_map(&self) -> BTreeMap<String, String> {
        let text = |(k, v): &(Atom, Atom)| Some((k.as_str()?.to_owned(), v.as_str()?.to_owned()));
        self.pairs().filter_map(text).collect()
    }
}

impl From<Atom> for Datum {
    fn from(atom: Atom) -> Self {
        Datum::Atom(atom)
    }
}

impl<A: Into<Atom>> From<Option<A>> for Datum {
    fn from(atom: Option<A>) -> Self {
        Datum::option(atom)
    }
}

impl<A: Into<Atom>> From<Vec<A>> for Datum {
    fn from(atoms: Vec<A>) -> Self {
        Datum::set(atoms)
    }
}

impl<K: Into<Atom>, V: Into<Atom>> From<BTreeMap<K, V>> for Datum {
    fn from(pairs: BTreeMap<K, V>) -> Self {
        Datum::map(pairs)
    }
}

impl<'a, K, V> From<&'a BTreeMap<K, V>> for Datum
where
    &'a K: Into<Atom>,
    &'a V: Into<Atom>,
{
    fn from(pairs: &'a BTreeMap<K, V>) -> Self {
        Datum::map(pairs)
    }
}

/// As `ovs-vsctl` prints: `[a, b]` for sets, `{k=v, k=v}` for maps, atoms as they are.
impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Datum::Atom(atom) => write!(f, "{atom}"),
            Datum::Set(set) => {
                f.write_str("[")?;
                for (at, atom) in set.0.iter().enumerate() {
                    write!(f, "{}{atom}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Datum::Map(map) => {
                f.write_str("{")?;
                for (at, (key, value)) in map.0.iter().enumerate() {
                    write!(f, "{}{key}={value}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
        }
    }
}
