//! The checks of the fuzz targets on their seeds and on damaged forms of them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

#[path = "../fuzz/src.rs"]
#[allow(unreachable_pub, reason = "the fuzz targets use it too")]
mod checks;

use std::path::Path;

fn seeds_and_damage(target: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut seeds = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let seed = std::fs::read(file.unwrap().path()).unwrap();
        seeds += 1;
        check(&seed);
        for at in 0..seed.len() {
            check(&seed[..at]);
            for value in [b'"', b'}', 0xff, seed[at].wrapping_add(1)] {
                let mut damaged = seed.clone();
                damaged[at] = value;
                check(&damaged);
                damaged.insert(at, value);
                check(&damaged);
            }
            let mut shorter = seed.clone();
            shorter.remove(at);
            check(&shorter);
        }
    }
    assert!(seeds > 0, "{target} has no seeds");
}

#[test]
fn framing() {
    seeds_and_damage("framing", checks::framing);
}

#[test]
fn session() {
    seeds_and_damage("session", checks::session);
}

#[test]
fn notification() {
    seeds_and_damage("notification", checks::notification);
}

#[test]
fn values() {
    seeds_and_damage("values", checks::values);
}
