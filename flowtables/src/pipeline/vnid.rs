//! The virtual network identifier of a namespace.

use std::fmt;

/// A VNID: the 24-bit number that tells tenants apart, in `reg0`/`reg1` and in the VXLAN header.
///
/// 0 is global: its pods and services talk with everyone. 1 is the control plane's group, 2 to 9 are reserved, the
/// rest are handed out to namespaces. Printed in decimal, as `oc get netnamespaces` does;
/// `{:#x}` gives the form that flow dumps show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vnid(u32);

/// The number does not fit into the 24 bits of a VXLAN network identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no VNID: use 0 to 16777215")]
pub struct InvalidVnid(pub u32);

impl Vnid {
    /// The VNID of global namespaces, of nodes and of host-network pods.
    pub const GLOBAL: Vnid = Vnid(0);
    /// The greatest VNID, 16,777,215.
    pub const MAX: Vnid = Vnid(0xff_ffff);

    /// The lowest VNID that is handed out to a namespace.
    pub const FIRST_ALLOCATABLE: Vnid = Vnid(10);

    /// The next higher VNID, or none after [`Vnid::MAX`].
    #[must_use]
    pub fn next(self) -> Option<Vnid> {
        (self < Self::MAX).then(|| Vnid(self.0 + 1))
    }

    /// The number, 0 to 16,777,215.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }

    /// Whether this is [`Vnid::GLOBAL`].
    #[must_use]
    pub fn is_global(self) -> bool {
        self == Self::GLOBAL
    }
}

impl TryFrom<u32> for Vnid {
    type Error = InvalidVnid;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        if number <= Self::MAX.0 { Ok(Vnid(number)) } else { Err(InvalidVnid(number)) }
    }
}

impl From<Vnid> for u32 {
    fn from(vnid: Vnid) -> u32 {
        vnid.0
    }
}

impl fmt::Display for Vnid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::LowerHex for Vnid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_24_bits() {
        assert_eq!(Vnid::try_from(0xff_ffff), Ok(Vnid::MAX));
        assert_eq!(
            Vnid::try_from(0x100_0000).unwrap_err().to_string(),
            "16777216 is no VNID: use 0 to 16777215"
        );
    }
}
