//! Whose a veth is, written on the veth itself.
//!
//! The kernel keeps a link's alias (`ip link show`, "alias") as long as the link. It is set when the pod's end is
//! configured whole: a veth with it is a wired pod, even if Open vSwitch's database is lost with all that it said about
//! ports; a veth of ours without it is what an interrupted ADD has left.

use std::fmt;
use std::str::FromStr;

/// The longest alias, bytes: `IFALIASZ` of linux/if.h less the final zero.
const LONGEST: usize = 255;

/// The pod that a veth belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// Namespace of the Pod object.
    pub namespace: String,
    /// Name of the Pod object.
    pub name: String,
    /// UID of the Pod object; empty where the runtime did not say it, or there was no room for it.
    pub uid: String,
}

impl Alias {
    /// The text, if it fits. Names of pods have up to 253 bytes, of namespaces 63: of the longest no alias is kept, and
    /// after a loss of OVSDB such a pod is not attached again by itself.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let whole = self.to_string();
        if whole.len() <= LONGEST {
            return Some(whole);
        }
        let short = Self { uid: String::new(), ..self.clone() }.to_string();
        (short.len() <= LONGEST).then_some(short)
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pod {}/{}", self.namespace, self.name)?;
        if self.uid.is_empty() { Ok(()) } else { write!(f, " {}", self.uid) }
    }
}

/// The text is not an alias of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not of the form `pod NAMESPACE/NAME UID`")]
pub struct NotAnAlias;

impl FromStr for Alias {
    type Err = NotAnAlias;

    fn from_str(text: &str) -> Result<Self, NotAnAlias> {
        let rest = text.strip_prefix("pod ").ok_or(NotAnAlias)?;
        let (pod, uid) = rest.split_once(' ').unwrap_or((rest, ""));
        let (namespace, name) = pod.split_once('/').ok_or(NotAnAlias)?;
        if namespace.is_empty() || name.is_empty() || name.contains('/') || uid.contains(' ') {
            return Err(NotAnAlias);
        }
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned(), uid: uid.to_owned() })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let alias = Alias { namespace: "blue".into(), name: "web-0".into(), uid: "7b0a".into() };
        assert_eq!(alias.text().unwrap(), "pod blue/web-0 7b0a");
        assert_eq!("pod blue/web-0 7b0a".parse(), Ok(alias.clone()));
        let long = Alias { name: "n".repeat(220), uid: "u".repeat(36), ..alias.clone() };
        assert_eq!(long.text().unwrap().parse(), Ok(Alias { uid: String::new(), ..long }));
        assert_eq!(Alias { name: "n".repeat(253), ..alias }.text(), None);
        for other in ["", "uplink", "pod", "pod x", "pod /x", "pod x/", "pod a/b/c", "pod a/b c d"] {
            assert_eq!(other.parse::<Alias>(), Err(NotAnAlias), "{other}");
        }
    }
}
