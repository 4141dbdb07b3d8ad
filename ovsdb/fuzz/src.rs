//! What the fuzz targets check. `tests/fuzz.rs` runs the same on the seeds and on damaged forms of them in `make test`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ovsdb::framing::{Limits, Splitter};
use ovsdb::session::{Config, Session};
use ovsdb::{DatabaseSchema, Datum, Endpoint, Monitored, Transaction, Uuid};

const LIMITS: Limits = Limits { message: 256, string: 64, depth: 8, answers: 0 };

/// The splitter on any stream (after a byte that says how it is cut): cut anywhere it gives the same messages as in one
/// piece, and holds no more than its limits.
pub fn framing(input: &[u8]) {
    let Some((&size, stream)) = input.split_first() else { return };
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
}

/// A session that meets any stream (after a byte that says how it is cut) from its first moment on: an error or not,
/// never a panic.
pub fn session(input: &[u8]) {
    let Some((&size, stream)) = input.split_first() else { return };
    let now = Instant::now();
    let config = Config::new("D", Monitored::new().all_columns("T"));
    let mut session = Session::new(Arc::new(config), None, now);
    let mut transaction = Transaction::new("D");
    transaction.delete("T", []);
    session.transact(&transaction);
    session.lock("l", false);
    for piece in stream.chunks(usize::from(size).max(1)) {
        if session.receive(piece, now).is_err() {
            break;
        }
        while session.poll_event().is_some() {}
    }
    let _ = session.handle_timeout(now + Duration::from_secs(5));
    session.close("the end");
    while session.poll_event().is_some() {}
}

const SCHEMA: &str = r#"{"id":0,"error":null,"result":{"name":"D","version":"1.0.0","tables":{"T":{"columns":{
    "name":{"type":"string"},"n":{"type":{"key":"integer","min":0,"max":"unlimited"}},
    "m":{"type":{"key":"string","value":"string","min":0,"max":"unlimited"}},
    "r":{"type":{"key":{"type":"uuid","refTable":"T"},"min":0,"max":"unlimited"}}},"isRoot":true,"indexes":[["name"]]}}}}"#;
const FIRST: &str = r#"{"id":3,"error":null,"result":[false,"550e8400-e29b-41d4-a716-446655440000",{"T":{
    "550e8400-e29b-41d4-a716-446655440001":{"initial":{"name":"a","n":["set",[1,2]]}}}}]}"#;
const METHODS: [&str; 7] = ["update", "update2", "update3", "locked", "stolen", "monitor_canceled", "echo"];

/// A session that follows a database and then meets any notification (a byte for its method, then its params): the
/// replica changes as a whole or not at all.
pub fn notification(input: &[u8]) {
    let Some((&method, params)) = input.split_first() else { return };
    let Some(method) = METHODS.get(usize::from(method) % METHODS.len()) else { return };
    let now = Instant::now();
    let config = Config::new("D", Monitored::new().all_columns("T"));
    let mut session = Session::new(Arc::new(config), None, now);
    session.receive(SCHEMA.as_bytes(), now).expect("the schema is good");
    session.receive(FIRST.as_bytes(), now).expect("the snapshot is good");
    let before = session.replica().clone();
    let message = [format!(r#"{{"id":null,"method":"{method}","params":"#).as_bytes(), params, b"}"].concat();
    // Params that close the message and begin another make several of it, of which the first may be good.
    let mut one = Splitter::new(Limits::default());
    let mut messages = 0;
    let whole = one.push(&message, |_| messages += 1).is_ok() && messages == 1;
    if session.receive(&message, now).is_err() && whole {
        assert_eq!(before.generation(), session.replica().generation());
    }
    for row in session.replica().rows("T") {
        // Every index agrees with the rows.
        let name = row.get("name").expect("it is monitored").clone();
        assert!(
            session
                .replica()
                .table("T")
                .is_some_and(|table| table.find("name", name).any(|found| found == row))
        );
        for to in session.replica().follow(row, "r") {
            assert!(session.replica().referrers("T", to.uuid()).any(|from| from == row));
        }
    }
}

/// Values, schemas, endpoints and UUIDs from any text; what is accepted survives a round trip.
pub fn values(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(datum) = serde_json::from_str::<Datum>(text) {
        let written = serde_json::to_string(&datum).expect("values can be written");
        assert_eq!(serde_json::from_str::<Datum>(&written).expect("what we write we read"), datum);
        let _ = datum.to_string();
    }
    if let Ok(schema) = serde_json::from_str::<DatabaseSchema>(text) {
        for table in schema.tables.values() {
            for column in table.columns.values() {
                let _ = column.column_type.check(column.column_type.default_datum());
            }
        }
    }
    if let Ok(uuid) = text.parse::<Uuid>() {
        assert_eq!(uuid.to_string(), text.to_lowercase());
    }
    if let Ok(endpoint) = text.parse::<Endpoint>() {
        assert_eq!(endpoint.to_string().parse::<Endpoint>().expect("what we print we parse"), endpoint);
    }
    if let Ok(endpoints) = Endpoint::parse_list(text) {
        assert!(!endpoints.is_empty());
    }
}
