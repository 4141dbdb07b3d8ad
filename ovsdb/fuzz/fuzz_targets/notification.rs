//! A session that follows a database and then meets any notification or reply: the replica changes as a whole or
//! not at all.
//!
//! `cargo +nightly fuzz run notification` in `ovsdb/`
#![no_main]

use std::sync::Arc;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use ovsdb::Monitored;
use ovsdb::session::{Config, Session};

const SCHEMA: &str = r#"{"id":0,"error":null,"result":{"name":"D","version":"1.0.0","tables":{"T":{"columns":{
    "name":{"type":"string"},"n":{"type":{"key":"integer","min":0,"max":"unlimited"}},
    "m":{"type":{"key":"string","value":"string","min":0,"max":"unlimited"}},
    "r":{"type":{"key":{"type":"uuid","refTable":"T"},"min":0,"max":"unlimited"}}},"isRoot":true,"indexes":[["name"]]}}}}"#;
const FIRST: &str = r#"{"id":3,"error":null,"result":[false,"550e8400-e29b-41d4-a716-446655440000",{"T":{
    "550e8400-e29b-41d4-a716-446655440001":{"initial":{"name":"a","n":["set",[1,2]]}}}}]}"#;

fuzz_target!(|input: (u8, &str)| {
    let (method, params) = input;
    let method = ["update", "update2", "update3", "locked", "stolen", "monitor_canceled", "echo"][usize::from(method % 7)];
    let now = Instant::now();
    let config = Config::new("D", Monitored::new().all_columns("T"));
    let mut session = Session::new(Arc::new(config), None, now);
    session.receive(SCHEMA.as_bytes(), now).expect("the schema is good");
    session.receive(FIRST.as_bytes(), now).expect("the snapshot is good");
    let before = session.replica().clone();
    let message = format!(r#"{{"id":null,"method":"{method}","params":{params}}}"#);
    if session.receive(message.as_bytes(), now).is_err() {
        assert_eq!(before.generation(), session.replica().generation());
    }
    for row in session.replica().rows("T") {
        // Every index agrees with the rows.
        let name = row.get("name").expect("it is monitored").clone();
        assert!(session.replica().table("T").is_some_and(|table| table.find("name", name).any(|found| found == row)));
        for to in session.replica().follow(row, "r") {
            assert!(session.replica().referrers("T", to.uuid()).any(|from| from == row));
        }
    }
});
