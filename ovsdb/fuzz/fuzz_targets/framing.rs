//! The splitter: any stream, cut anywhere, gives the same messages as in one piece, and holds no more than its limits.
//!
//! `cargo +nightly fuzz run framing` in `ovsdb/`
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovsdb::framing::{Limits, Splitter};

const LIMITS: Limits = Limits { message: 256, string: 64, depth: 8, answers: 0 };

fuzz_target!(|input: (u8, &[u8])| {
    let (size, stream) = input;
    let split = |pieces: Vec<&[u8]>| {
        let mut splitter = Splitter::new(LIMITS);
        let mut messages = Vec::new();
        let broken = pieces.into_iter().any(|piece| {
            let failed = splitter.push(piece, |message| messages.push(message.to_vec())).is_err();
            assert!(splitter.buffered() <= LIMITS.message);
            failed
        });
        (messages, broken)
    };
    let whole = split(vec![stream]);
    let cut = split(stream.chunks(usize::from(size).max(1)).collect());
    assert_eq!(whole, cut);
});
