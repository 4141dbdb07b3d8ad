//! The checks of the fuzz targets on vectors, corpus and damaged forms of both.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test may stop at the first surprise.

#[path = "../fuzz/src.rs"]
#[allow(unreachable_pub)]
mod checks;
mod support;

use std::path::Path;

/// All vectors.
fn vectors() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut all = Vec::new();
    for name in ["messages.hex", "fields.hex", "actions.hex"] {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        all.extend(text.split("\n\n").map(|vector| {
            let hex =
                vector.lines().filter_map(|line| line.split('#').next()).flat_map(str::split_whitespace);
            hex.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
        }));
    }
    all
}

#[test]
fn damaged_messages() {
    for vector in vectors() {
        checks::message(&vector);
        for at in 0..vector.len() {
            for value in [0xff, vector[at].wrapping_add(1), vector[at] ^ 0x80] {
                let mut damaged = vector.clone();
                damaged[at] = value;
                checks::message(&damaged);
            }
        }
    }
}

#[test]
fn damaged_text() {
    for flow in support::corpus_flows() {
        checks::text(&flow);
        for at in (0..flow.len()).step_by(5) {
            let Some((head, tail)) = flow.split_at_checked(at) else { continue };
            checks::text(head);
            checks::text(&format!("{head}({tail}"));
            checks::text(&format!("{head}9{tail}"));
            checks::text(&format!("{head},{}", tail.get(1..).unwrap_or("")));
        }
    }
}

#[test]
fn streams_cut_anywhere() {
    let mut stream = vec![4, 0, 0, 8, 0, 0, 0, 1];
    vectors().iter().take(60).for_each(|vector| stream.extend(vector));
    for size in [1u8, 3, 8, 100, 255] {
        let mut input = Vec::new();
        for chunk in stream.chunks(size.into()) {
            input.extend([chunk.len() as u8, 1]);
            input.extend(chunk);
        }
        checks::session(&input);
    }
}
