//! Values against their column's type and constraints.

use super::{AtomicType, BaseType, ColumnType};
use crate::value::{Atom, Datum};

/// A value that its column can't hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table {table}, column {column}: {value} {reason}")]
pub struct ValueError {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// The value, as `ovs-vsctl` would print it, shortened if long.
    pub value: String,
    /// What is wrong with it.
    pub reason: String,
}

impl ValueError {
    pub(crate) fn new(table: &str, column: &str, value: &Datum, reason: String) -> ValueError {
        let mut value = value.to_string();
        if value.chars().count() > 80 {
            value = value.chars().take(79).chain(['…']).collect();
        }
        ValueError { table: table.to_owned(), column: column.to_owned(), value, reason }
    }
}

impl AtomicType {
    fn fits(self, atom: &Atom) -> bool {
        matches!(
            (self, atom),
            (AtomicType::Integer, Atom::Integer(_))
                | (AtomicType::Real, Atom::Real(_))
                | (AtomicType::Boolean, Atom::Boolean(_))
                | (AtomicType::String, Atom::String(_))
                | (AtomicType::Uuid, Atom::Uuid(_) | Atom::NamedUuid(_))
        )
    }
}

impl BaseType {
    /// Checks the constraints; the reason says which one is violated.
    fn check(&self, atom: &Atom) -> Result<(), String> {
        if !self.atomic.fits(atom) {
            return Err(format!("is not of type {}", self.atomic.name()));
        }
        if let Some(choices) = &self.choices
            && !choices.contains(atom)
        {
            let choices: Vec<String> = choices.iter().map(Atom::to_string).collect();
            return Err(format!("is not one of {}", choices.join(", ")));
        }
        fn within<T: PartialOrd + std::fmt::Display + Copy>(
            value: T,
            (min, max): (Option<T>, Option<T>),
            what: &str,
        ) -> Result<(), String> {
            match (min, max) {
                (Some(min), _) if value < min => Err(format!("{what} below the minimum {min}")),
                (_, Some(max)) if value > max => Err(format!("{what} above the maximum {max}")),
                _ => Ok(()),
            }
        }
        match atom {
            Atom::Integer(value) => within(*value, self.integer_range, "is"),
            Atom::Real(value) => within(*value, self.real_range, "is"),
            Atom::String(text) => match self.length_range {
                (None, None) => Ok(()),
                range => within(text.chars().count() as u64, range, "has a length"),
            },
            _ => Ok(()),
        }
    }
}

impl ColumnType {
    /// Fits a value that came from a server or a caller to the column: integers become reals where the column
    /// holds reals, and an empty set becomes an empty map (either is written for "nothing"). Types are checked;
    /// constraints are not, see [`ColumnType::check`].
    ///
    /// # Errors
    /// The reason, when an atom is of the wrong type or a map stands for a set or the other way round.
    pub(crate) fn fit(&self, datum: Datum) -> Result<Datum, String> {
        let real = |base: &BaseType, atom: &Atom| match (base.atomic, atom) {
            (AtomicType::Real, Atom::Integer(value)) => Atom::Real(*value as f64),
            _ => atom.clone(),
        };
        match (&datum, &self.value) {
            (Datum::Map(_), None) => return Err("is a map".into()),
            (Datum::Set(set), Some(_)) if set.as_slice().is_empty() => return Ok(Datum::empty_map()),
            (Datum::Atom(_) | Datum::Set(_), Some(_)) => return Err("is not a map".into()),
            _ => {}
        }
        let datum = match &self.value {
            None if self.key.atomic == AtomicType::Real => {
                Datum::set(datum.atoms().map(|atom| real(&self.key, atom)))
            }
            Some(value) if self.key.atomic == AtomicType::Real || value.atomic == AtomicType::Real => {
                Datum::map(datum.pairs().map(|(k, v)| (real(&self.key, k), real(value, v))))
            }
            _ => datum,
        };
        let wrong = |base: &BaseType| format!("is not of type {}", base.atomic.name());
        if datum.atoms().any(|atom| !self.key.atomic.fits(atom)) {
            return Err(wrong(&self.key));
        }
        if let Some(value) = &self.value {
            for (k, v) in datum.pairs() {
                if !self.key.atomic.fits(k) {
                    return Err(wrong(&self.key));
                }
                if !value.atomic.fits(v) {
                    return Err(wrong(value));
                }
            }
        }
        Ok(datum)
    }

    /// Fits a value to the column and checks every constraint that needs no look at other rows: enum, ranges,
    /// lengths, the number of elements.
    ///
    /// # Errors
    /// The reason, without the names of table and column.
    pub fn check(&self, datum: Datum) -> Result<Datum, String> {
        let datum = self.fit(datum)?;
        let count = datum.len();
        if count < self.min as usize {
            return Err(format!("has {count} elements, fewer than {}", self.min));
        }
        if let Some(max) = self.max
            && count > max as usize
        {
            return Err(format!("has {count} elements, more than {max}"));
        }
        datum.atoms().try_for_each(|atom| self.key.check(atom))?;
        if let Some(value) = &self.value {
            datum.pairs().try_for_each(|(k, v)| self.key.check(k).and_then(|()| value.check(v)))?;
        }
        Ok(datum)
    }
}
