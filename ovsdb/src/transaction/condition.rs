//! Conditions and mutations (RFC 7047 §5.1).

use serde::ser::{Serialize, Serializer};

use crate::value::{Datum, Uuid};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }
        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// The text on the wire.
            pub fn text(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)*
                }
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.text())
            }
        }
    };
}

words! {
    /// How a [`Condition`] compares (RFC 7047 §5.1 `<function>`).
    Function {
        /// Numerically less.
        Less = "<",
        /// Numerically less or equal.
        LessOrEqual = "<=",
        /// Equal.
        Equal = "==",
        /// Not equal.
        NotEqual = "!=",
        /// Numerically greater.
        Greater = ">",
        /// Numerically greater or equal.
        GreaterOrEqual = ">=",
        /// The column holds every element of the value.
        Includes = "includes",
        /// The column holds no element of the value.
        Excludes = "excludes",
    }
}

words! {
    /// How a [`Mutation`] changes a column (RFC 7047 §5.1 `<mutator>`).
    Mutator {
        /// Adds a number to each element.
        Add = "+=",
        /// Subtracts a number from each element.
        Subtract = "-=",
        /// Multiplies each element.
        Multiply = "*=",
        /// Divides each element.
        Divide = "/=",
        /// Takes each element modulo an integer.
        Modulo = "%=",
        /// Adds elements to a set, or pairs to a map where their key is not there yet.
        Insert = "insert",
        /// Removes elements, pairs, or a map's keys (the value is then a set).
        Delete = "delete",
    }
}

/// What a row must be like for an operation to touch it (RFC 7047 §5.1 `<condition>`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// A column compared with a value.
    Column {
        /// The column, also `_uuid`.
        column: String,
        /// The comparison.
        function: Function,
        /// The value.
        value: Datum,
    },
    /// Always or never: only for the conditions of a monitor (ovsdb-server(7), "monitor_cond").
    Always(bool),
}

impl Condition {
    /// A column compared with a value.
    pub fn new(column: impl Into<String>, function: Function, value: impl Into<Datum>) -> Condition {
        Condition::Column { column: column.into(), function, value: value.into() }
    }

    /// A column equals a value.
    pub fn eq(column: impl Into<String>, value: impl Into<Datum>) -> Condition {
        Condition::new(column, Function::Equal, value)
    }

    /// A column includes all elements of a value.
    pub fn includes(column: impl Into<String>, value: impl Into<Datum>) -> Condition {
        Condition::new(column, Function::Includes, value)
    }

    /// The row of this UUID.
    pub fn uuid(uuid: Uuid) -> Condition {
        Condition::eq("_uuid", uuid)
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Condition::Column { column, function, value } => (column, function, value).serialize(serializer),
            Condition::Always(always) => serializer.serialize_bool(*always),
        }
    }
}

/// A change of one column (RFC 7047 §5.1 `<mutation>`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// The column.
    pub column: String,
    /// The kind of change.
    pub mutator: Mutator,
    /// The operand.
    pub value: Datum,
}

impl Mutation {
    /// A change of a column.
    pub fn new(column: impl Into<String>, mutator: Mutator, value: impl Into<Datum>) -> Mutation {
        Mutation { column: column.into(), mutator, value: value.into() }
    }

    /// Adds elements to a set, or pairs to a map where their key is not there yet.
    pub fn insert(column: impl Into<String>, value: impl Into<Datum>) -> Mutation {
        Mutation::new(column, Mutator::Insert, value)
    }

    /// Removes elements of a set, or pairs or keys of a map.
    pub fn delete(column: impl Into<String>, value: impl Into<Datum>) -> Mutation {
        Mutation::new(column, Mutator::Delete, value)
    }

    /// Adds to a number.
    pub fn add(column: impl Into<String>, value: impl Into<Datum>) -> Mutation {
        Mutation::new(column, Mutator::Add, value)
    }
}

impl Serialize for Mutation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.column, &self.mutator, &self.value).serialize(serializer)
    }
}
