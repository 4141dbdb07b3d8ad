//! Hello: which versions a peer speaks (OF1.3.5 §7.5.1).

use super::VERSION;
use crate::wire::{Reader, Result, Writer};

/// `OFPHET_VERSIONBITMAP`.
const ELEMENT_VERSION_BITMAP: u16 = 1;

/// `OFPT_HELLO`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Versions as a bitmap, bit 0 of the first word being version 0; `None` if the peer did not say, which means
    /// "all up to the version in the header".
    pub versions: Option<Vec<u32>>,
}

impl Hello {
    /// A hello that offers OpenFlow 1.3 and nothing else.
    pub fn openflow13() -> Self {
        Hello { versions: Some(vec![1 << VERSION]) }
    }

    /// Whether a peer that sent this hello under `header_version` speaks `version`.
    pub fn speaks(&self, version: u8, header_version: u8) -> bool {
        match &self.versions {
            None => header_version >= version,
            Some(bitmap) => {
                let word = bitmap.get(usize::from(version / 32)).copied().unwrap_or(0);
                word >> (version % 32) & 1 == 1
            }
        }
    }

    pub(super) fn put(&self, w: &mut Writer<'_>) {
        let Some(versions) = &self.versions else { return };
        let start = w.len();
        w.u16(ELEMENT_VERSION_BITMAP);
        w.u16(0);
        versions.iter().for_each(|word| w.u32(*word));
        w.patch_len(start + 2, start, "ofp_hello_elem_versionbitmap");
        w.pad8(start);
    }

    /// Unknown elements are skipped, as the specification asks.
    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self> {
        let mut hello = Hello::default();
        while r.remaining() >= 4 {
            r.enter("ofp_hello_elem");
            let kind = r.u16()?;
            let len = r.u16()?;
            let mut element = r.sub(r.body_len(len, 4)?, "ofp_hello_elem_versionbitmap")?;
            r.skip_padding(usize::from(len).next_multiple_of(8) - usize::from(len));
            if kind == ELEMENT_VERSION_BITMAP {
                let mut words = Vec::new();
                while element.remaining() >= 4 {
                    words.push(element.u32()?);
                }
                hello.versions = Some(words);
            }
        }
        // A peer of another version may have put anything here.
        r.rest();
        Ok(hello)
    }
}
