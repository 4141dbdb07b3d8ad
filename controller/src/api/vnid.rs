//! [`Vnid`]: the number of a tenant.

use std::fmt;

use thiserror::Error;

/// A virtual network id (VNI, `NetNamespace.netid`): 24 bits, 0 to 16777215.
///
/// 0 is global (reaches and is reached by everything), 1 the control plane's group, 2 to 9 are reserved, and
/// the rest are handed out to namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vnid(u32);

impl Vnid {
    /// The VNID that reaches, and is reached by, every other.
    pub const GLOBAL: Self = Self(0);
    /// The lowest VNID that the controller hands out.
    pub const FIRST_ALLOCATABLE: Self = Self(10);
    /// The highest VNID.
    pub const MAX: Self = Self(0x00ff_ffff);

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Whether this is [`Vnid::GLOBAL`].
    pub const fn is_global(self) -> bool {
        self.0 == 0
    }

    /// The next higher VNID, or `None` after [`Vnid::MAX`].
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        if self.0 < Self::MAX.0 { Some(Self(self.0 + 1)) } else { None }
    }
}

/// The number does not fit in 24 bits.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{0} is no VNID: use 0 to 16777215")]
pub struct InvalidVnid(pub u32);

impl TryFrom<u32> for Vnid {
    type Error = InvalidVnid;

    fn try_from(number: u32) -> Result<Self, InvalidVnid> {
        if number <= Self::MAX.0 { Ok(Self(number)) } else { Err(InvalidVnid(number)) }
    }
}

impl From<Vnid> for u32 {
    fn from(vnid: Vnid) -> Self {
        vnid.0
    }
}

impl fmt::Display for Vnid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
