//! A session that meets any bytes from its first moment on: an error or not, never a panic.
//!
//! `cargo +nightly fuzz run session` in `ovsdb/`
#![no_main]

use std::sync::Arc;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use ovsdb::session::{Config, Session};
use ovsdb::{Monitored, Transaction};

fuzz_target!(|pieces: Vec<&[u8]>| {
    let now = Instant::now();
    let config = Config::new("D", Monitored::new().all_columns("T"));
    let mut session = Session::new(Arc::new(config), None, now);
    let mut transaction = Transaction::new("D");
    transaction.delete("T", []);
    session.transact(&transaction);
    session.lock("l", false);
    for piece in pieces {
        if session.receive(piece, now).is_err() {
            break;
        }
        while session.poll_event().is_some() {}
    }
    let _ = session.handle_timeout(now + Duration::from_secs(5));
    session.close("the end");
    while session.poll_event().is_some() {}
});
