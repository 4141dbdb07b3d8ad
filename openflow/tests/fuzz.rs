//! The checks of the fuzz targets on their seeds, on what they have found, on vectors, corpus and damaged forms of both.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test may stop at the first surprise.

#[path = "../fuzz/src.rs"]
#[allow(unreachable_pub)]
mod checks;
mod support;

use std::path::{Path, PathBuf};

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

/// The files of a target in `fuzz/seeds` and `fuzz/regressions`.
fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut inputs = Vec::new();
    for folder in ["seeds", "regressions"] {
        // A target that has found nothing has no folder of regressions.
        let Ok(files) = std::fs::read_dir(fuzz.join(folder).join(target)) else { continue };
        inputs.extend(files.map(|file| file.unwrap().path()).map(|path| {
            let content = std::fs::read(&path).unwrap();
            (path, content)
        }));
    }
    inputs
}

#[test]
fn seeds_and_regressions() {
    for target in ["message", "text", "session"] {
        let inputs = inputs(target);
        assert!(inputs.len() >= 20, "{target}: only {} inputs", inputs.len());
        for (path, content) in inputs {
            let check = || match target {
                "message" => checks::message(&content),
                "text" => checks::text(&String::from_utf8_lossy(&content)),
                _ => checks::session(&content),
            };
            assert!(std::panic::catch_unwind(check).is_ok(), "{}", path.display());
        }
    }
}

/// Found by fuzzing: a port's name whose bytes are no UTF-8 grew when it was decoded, and did not fit any more.
#[test]
fn name_that_is_no_text_goes_back_as_it_came() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions/message/port-name-not-utf8");
    let bytes = std::fs::read(path).unwrap();
    let mut again = bytes::BytesMut::new();
    openflow::Envelope::decode(&bytes).unwrap().encode(&mut again).unwrap();
    // After the header, the reason and the first fields of the port.
    let name = 8 + 8 + 16..8 + 8 + 16 + 16;
    assert_eq!(again[name.clone()], bytes[name]);
}
