//! Typed views of rows, and typed columns to write, for the database `Open_vSwitch`.
//!
//! [`open_vswitch`] is generated from the schema that Open vSwitch installs (`cargo run -p ovsdb --example
//! generate_rows`). A view reads from a [`Row`] without copying. A column that is unset, not monitored, or unknown to
//! an older server reads as `None` or as nothing, so one program works with several versions.
//!
//! ```
//! use ovsdb::rows::open_vswitch::{Interface, InterfaceColumns};
//!
//! # fn example(replica: &ovsdb::Replica) {
//! for interface in replica.typed::<Interface>() {
//!     println!("{:?} is port {:?}", interface.name(), interface.ofport());
//! }
//! # }
//! let mut tx = ovsdb::Transaction::new("Open_vSwitch");
//! tx.insert("Interface", InterfaceColumns::new().name("tun0").type_("internal").ofport_request(Some(2)));
//! ```

pub mod open_vswitch;

use crate::replica::{Replica, Row};
use crate::transaction::NewRow;
use crate::value::{Atom, Uuid};

/// A view of the rows of one table.
pub trait TypedRow<'r>: Sized {
    /// The table.
    const TABLE: &'static str;

    /// Views a row; `None` if it is of another table.
    fn view(row: &'r Row) -> Option<Self>;

    /// The row behind the view.
    fn row(&self) -> &'r Row;

    /// The row's UUID.
    fn uuid(&self) -> Uuid {
        self.row().uuid()
    }
}

impl Replica {
    /// The rows of a table as typed views, in no particular order.
    pub fn typed<'r, T: TypedRow<'r>>(&'r self) -> impl Iterator<Item = T> {
        self.rows(T::TABLE).filter_map(|row| T::view(row))
    }

    /// One row as a typed view.
    pub fn typed_row<'r, T: TypedRow<'r>>(&'r self, uuid: Uuid) -> Option<T> {
        T::view(self.row(T::TABLE, uuid)?)
    }
}

/// A kind of atom, as a marker of a column's type.
pub trait Kind {
    /// What reading gives.
    type Read<'r>;

    /// Reads an atom; `None` if it is of another kind.
    fn read(atom: &Atom) -> Option<Self::Read<'_>>;
}

/// That a type can be written to columns of a kind.
pub trait WriteAs<K>: Into<Atom> {}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident<$life:lifetime>: $read:ty = $accessor:ident, written from $($from:ty)|+;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub enum $kind {}
        impl Kind for $kind {
            type Read<$life> = $read;
            fn read(atom: &Atom) -> Option<Self::Read<'_>> {
                atom.$accessor()
            }
        }
        $(impl WriteAs<$kind> for $from {})+
    )*};
}

kinds! {
    /// Strings.
    Text<'r>: &'r str = as_str, written from &str | String | &String;
    /// Integers.
    Integer<'r>: i64 = as_i64, written from i64 | i32 | u32 | u16;
    /// Reals.
    Real<'r>: f64 = as_f64, written from f64;
    /// Booleans.
    Boolean<'r>: bool = as_bool, written from bool;
    /// References to rows, and other UUIDs.
    Reference<'r>: Uuid = as_uuid, written from Uuid | NewRow | &NewRow;
}

/// Makes the view and the columns of one table. Each column has a way of holding its kind (`one`, `optional`,
/// `set`, `map`), then its name on the wire, its documentation and, if it refers to rows, the view of those.
macro_rules! table {
    ($view:ident, $columns:ident, $table:literal, $($how:ident $(<$($kind:ident),+>)? $name:ident = $column:literal, $doc:literal
        $(, $refers:ident as $rows:ident)?;)*) => {
        #[doc = concat!("A row of the table `", $table, "`.")]
        #[derive(Debug, Clone, Copy)]
        pub struct $view<'r>(&'r $crate::replica::Row);

        impl<'r> $crate::rows::TypedRow<'r> for $view<'r> {
            const TABLE: &'static str = $table;
            fn view(row: &'r $crate::replica::Row) -> Option<Self> {
                (row.table() == $table).then_some($view(row))
            }
            fn row(&self) -> &'r $crate::replica::Row {
                self.0
            }
        }

        impl<'r> $view<'r> {
            /// The table's columns by their names on the wire.
            pub const COLUMNS: &'static [&'static str] = &[$($column),*];

            $($crate::rows::table!(@read $how $(<$($kind),+>)? $name = $column, $doc);
            $(
                #[doc = concat!("The rows that `", $column, "` refers to, as far as the replica has them.")]
                pub fn $rows(&self, replica: &'r $crate::replica::Replica) -> impl Iterator<Item = $refers<'r>> + 'r {
                    replica.follow(self.0, $column).filter_map(|row| <$refers<'r> as $crate::rows::TypedRow<'r>>::view(row))
                }
            )?)*
        }

        #[doc = concat!("Columns of the table `", $table, "` to insert, update or compare with.")]
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct $columns($crate::transaction::Columns);

        impl $columns {
            /// No columns.
            pub fn new() -> Self {
                Self::default()
            }

            $($crate::rows::table!(@write $how $(<$($kind),+>)? $name = $column, $doc);)*
        }

        impl From<$columns> for $crate::transaction::Columns {
            fn from(columns: $columns) -> Self {
                columns.0
            }
        }
    };

    (@read one<$kind:ident> $name:ident = $column:literal, $doc:literal) => {
        $crate::rows::table!(@read optional<$kind> $name = $column, $doc);
    };
    (@read optional<$kind:ident> $name:ident = $column:literal, $doc:literal) => {
        #[doc = $doc]
        pub fn $name(&self) -> Option<<$crate::rows::$kind as $crate::rows::Kind>::Read<'r>> {
            <$crate::rows::$kind as $crate::rows::Kind>::read(self.0.get($column)?.optional()?)
        }
    };
    (@read set<$kind:ident> $name:ident = $column:literal, $doc:literal) => {
        #[doc = $doc]
        pub fn $name(&self) -> impl Iterator<Item = <$crate::rows::$kind as $crate::rows::Kind>::Read<'r>> + 'r {
            let atoms = self.0.get($column).into_iter().flat_map(|datum| datum.atoms());
            atoms.filter_map(|atom| <$crate::rows::$kind as $crate::rows::Kind>::read(atom))
        }
    };
    (@read map<$key:ident, $value:ident> $name:ident = $column:literal, $doc:literal) => {
        #[doc = $doc]
        pub fn $name(
            &self,
        ) -> impl Iterator<
            Item = (
                <$crate::rows::$key as $crate::rows::Kind>::Read<'r>,
                <$crate::rows::$value as $crate::rows::Kind>::Read<'r>,
            ),
        > + 'r {
            let pairs = self.0.get($column).into_iter().flat_map(|datum| datum.pairs());
            pairs.filter_map(|(key, value)| {
                let key = <$crate::rows::$key as $crate::rows::Kind>::read(key)?;
                Some((key, <$crate::rows::$value as $crate::rows::Kind>::read(value)?))
            })
        }
    };

    (@write one<$kind:ident> $name:ident = $column:literal, $doc:literal) => {
        #[doc = $doc]
        pub fn $name(mut self, value: impl $crate::rows::WriteAs<$crate::rows::$kind>) -> Self {
            self.0.set($column, $crate::value::Datum::Atom(value.into()));
            self
        }
    };
    (@write optional<$kind:ident> $name:ident = $column:literal, $doc:literal) => {
        #[doc = $doc]
        pub fn $name(mut self, value: Option<impl $crate::rows::WriteAs<$crate::rows::$kind>>) -> Self {
            self.0.set($column, $crate::value::Datum::option(value));
            self
        }
    };
    (@write set<$kind:ident> $name:ident = $column:literal, $doc:literal) => {
        #[doc = $doc]
        pub fn $name<W: $crate::rows::WriteAs<$crate::rows::$kind>>(
            mut self,
            values: impl IntoIterator<Item = W>,
        ) -> Self {
            self.0.set($column, $crate::value::Datum::set(values));
            self
        }
    };
    (@write map<$key:ident, $value:ident> $name:ident = $column:literal, $doc:literal) => {
        #[doc = $doc]
        pub fn $name<K: $crate::rows::WriteAs<$crate::rows::$key>, V: $crate::rows::WriteAs<$crate::rows::$value>>(
            mut self,
            pairs: impl IntoIterator<Item = (K, V)>,
        ) -> Self {
            self.0.set($column, $crate::value::Datum::map(pairs));
            self
        }
    };
}
pub(crate) use table;
