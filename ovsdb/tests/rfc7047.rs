//! RFC 7047 section by section, on both sides of the wire.
//!
//! The RFC prints no whole exchange: it gives each message, operation and value as a shape. Here is one of each shape,
//! with the section it is from: what we send has to be exactly it, and what a server may send has to be read.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::sync::Arc;
use std::time::Instant;

use ovsdb::session::{Config, Event, Session};
use ovsdb::{
    Atom, CallError, Columns, Condition, DatabaseSchema, Datum, ErrorKind, Function, Monitored, Mutation,
    Mutator, OperationError, Reply, TransactError, Transaction, Until, Uuid,
};
use serde_json::{Value, json};

const ROW: &str = "550e8400-e29b-41d4-a716-446655440000";

fn row() -> Uuid {
    ROW.parse().unwrap()
}

fn schema() -> Value {
    // §3.2, with every member that it names.
    json!({
        "name": "D", "version": "1.2.3", "cksum": "12345678 9",
        "tables": {"T": {
            "columns": {
                "name": {"type": "string", "mutable": false},
                "n": {"type": {"key": {"type": "integer", "minInteger": 0, "maxInteger": 9}, "min": 0, "max": 1}},
                "x": {"type": {"key": {"type": "real", "minReal": 0.5, "maxReal": 1.5}}, "ephemeral": true},
                "text": {"type": {"key": {"type": "string", "minLength": 1, "maxLength": 3}, "min": 0, "max": "unlimited"}},
                "mode": {"type": {"key": {"type": "string", "enum": ["set", ["a", "b"]]}}},
                "ids": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
                "peers": {"type": {"key": {"type": "uuid", "refTable": "T", "refType": "weak"}, "min": 0, "max": "unlimited"}},
                "owner": {"type": {"key": {"type": "uuid", "refTable": "T"}, "min": 0, "max": 1}}
            },
            "maxRows": 7, "isRoot": true, "indexes": [["name"], ["n", "mode"]]
        }}
    })
}

/// A session, what it has sent, and the server's side of it.
struct Exchange {
    session: Session,
    now: Instant,
}

impl Exchange {
    /// Up to a monitor of RFC 7047 itself: the server knows none of the later methods.
    fn new() -> (Exchange, Value) {
        let now = Instant::now();
        let config = Config::new("D", Monitored::new().table("T", ["name", "n"]));
        let mut it = Exchange { session: Session::new(Arc::new(config), None, now), now };
        loop {
            for request in it.sent() {
                match request["method"].as_str().unwrap() {
                    // §4.1.2
                    "get_schema" => {
                        assert_eq!(request["params"], json!(["D"]));
                        it.answer(&request, &schema());
                    }
                    // §4.1.5
                    "monitor" => return (it, request),
                    // §4: a method that the peer does not know.
                    _ => it.receive(&json!({"id": request["id"], "result": null, "error": "unknown method"})),
                }
            }
        }
    }

    /// With the monitor running on one row.
    fn running() -> Exchange {
        let (mut it, monitor) = Exchange::new();
        it.answer(&monitor, &json!({"T": {ROW: {"new": {"name": "a", "n": 1}}}}));
        assert!(matches!(it.session.poll_event(), Some(Event::Synced { .. })));
        it
    }

    fn sent(&mut self) -> Vec<Value> {
        let bytes = self.session.outgoing().to_vec();
        self.session.sent(bytes.len());
        serde_json::Deserializer::from_slice(&bytes).into_iter().map(Result::unwrap).collect()
    }

    fn receive(&mut self, message: &Value) {
        self.session.receive(message.to_string().as_bytes(), self.now).unwrap();
    }

    fn answer(&mut self, request: &Value, result: &Value) {
        self.receive(&json!({"id": request["id"], "result": result, "error": null}));
    }

    /// Sends a transaction, checks how it looks on the wire, answers it.
    fn transact(
        &mut self,
        tx: &Transaction,
        operations: &Value,
        result: &Value,
    ) -> Result<Reply, TransactError> {
        self.session.transact(tx);
        let request = self.sent().remove(0);
        assert_eq!(request["method"], "transact");
        let mut params = vec![json!("D")];
        params.extend(operations.as_array().unwrap().iter().cloned());
        assert_eq!(request["params"], Value::Array(params));
        self.answer(&request, result);
        match self.session.poll_event() {
            Some(Event::Transacted(_, outcome)) => outcome,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn section_3_2_schemas() {
    let schema: DatabaseSchema = serde_json::from_value(schema()).unwrap();
    let table = &schema.tables["T"];
    assert_eq!((schema.name.as_str(), schema.version.as_str()), ("D", "1.2.3"));
    assert_eq!(schema.cksum.as_deref(), Some("12345678 9"));
    assert_eq!((table.max_rows, table.is_root, table.indexes.len()), (Some(7), true, 2));
    assert!(table.columns["x"].ephemeral && !table.columns["name"].mutable && table.columns["n"].mutable);
    assert!(!table.columns["peers"].column_type.key.reference.as_ref().unwrap().strong);
    assert!(table.columns["owner"].column_type.key.reference.as_ref().unwrap().strong, "the default");
    for (column, good, bad) in [
        ("n", Datum::from(9), Datum::from(10)),
        ("n", Datum::empty_set(), Datum::set([1, 2])),
        ("x", Datum::from(1.5), Datum::from(0.25)),
        ("text", Datum::set(["abc", "d"]), Datum::from("abcd")),
        ("text", Datum::empty_set(), Datum::from("")),
        ("mode", Datum::from("b"), Datum::from("c")),
        ("ids", Datum::map([("k", "v")]), Datum::from("k")),
        ("peers", Datum::from(row()), Datum::from("k")),
    ] {
        let column_type = schema.column_type("T", column).unwrap();
        assert!(column_type.check(good.clone()).is_ok(), "{column}: {good}");
        assert!(column_type.check(bad.clone()).is_err(), "{column}: {bad}");
    }
}

#[test]
fn section_5_1_values() {
    let text = |value: Value| serde_json::from_value::<Datum>(value).unwrap();
    for (json, datum) in [
        (json!("a"), Datum::from("a")),
        (json!(-1), Datum::from(-1)),
        (json!(1.5), Datum::from(1.5)),
        (json!(true), Datum::from(true)),
        (json!(["uuid", ROW]), Datum::from(row())),
        (json!(["named-uuid", "row1"]), Datum::Atom(Atom::NamedUuid("row1".into()))),
        (json!(["set", []]), Datum::empty_set()),
        (json!(["set", [1, 2]]), Datum::set([1, 2])),
        (json!(["map", []]), Datum::empty_map()),
        (json!(["map", [["k", 1], ["l", 2]]]), Datum::map([("k", 1), ("l", 2)])),
    ] {
        assert_eq!(text(json.clone()), datum, "{json}");
        assert_eq!(serde_json::to_value(&datum).unwrap(), json);
    }
    // A set of one may be written as its element, and means the same.
    assert_eq!(text(json!(["set", ["a"]])), text(json!("a")));
}

#[test]
fn section_5_1_conditions_and_mutations() {
    let functions = ["<", "<=", "==", "!=", ">", ">=", "includes", "excludes"];
    assert_eq!(Function::ALL.iter().map(|function| function.text()).collect::<Vec<_>>(), functions);
    for function in Function::ALL {
        let condition = Condition::new("n", *function, 1);
        assert_eq!(serde_json::to_value(&condition).unwrap(), json!(["n", function.text(), 1]));
    }
    let mutators = ["+=", "-=", "*=", "/=", "%=", "insert", "delete"];
    assert_eq!(Mutator::ALL.iter().map(|mutator| mutator.text()).collect::<Vec<_>>(), mutators);
    for mutator in Mutator::ALL {
        let mutation = Mutation::new("n", *mutator, 1);
        assert_eq!(serde_json::to_value(&mutation).unwrap(), json!(["n", mutator.text(), 1]));
    }
}

#[test]
fn section_4_1_5_and_4_1_6_monitor_and_update() {
    let (mut it, request) = Exchange::new();
    assert_eq!(request["params"][0], "D");
    assert_eq!(request["params"][2], json!({"T": [{"columns": ["n", "name"]}]}));
    it.answer(&request, &json!({"T": {ROW: {"new": {"name": "a", "n": ["set", []]}}}}));
    let other = ROW.replace('5', "6");
    let id = &request["params"][1];
    for (update, names) in [
        // Insert, modify (the old value of what changed, the whole new row), delete.
        (json!({"T": {&other: {"new": {"name": "b", "n": 2}}}}), vec!["a", "b"]),
        (json!({"T": {ROW: {"old": {"n": ["set", []]}, "new": {"name": "a", "n": 3}}}}), vec!["a", "b"]),
        (json!({"T": {&other: {"old": {"name": "b", "n": 2}}}}), vec!["a"]),
    ] {
        it.receive(&json!({"id": null, "method": "update", "params": [id, update]}));
        let replica = it.session.replica();
        let mut have: Vec<&str> = replica.rows("T").filter_map(|row| row.str("name")).collect();
        have.sort_unstable();
        assert_eq!(have, names);
    }
    assert_eq!(it.session.replica().row("T", row()).unwrap().i64("n"), Some(3));
}

#[test]
fn section_4_1_calls() {
    let mut it = Exchange::running();
    for (method, params, result) in [
        ("list_dbs", json!([]), json!(["D", "_server"])),
        ("get_schema", json!(["D"]), schema()),
        ("monitor_cancel", json!(["m"]), json!({})),
        ("echo", json!(["anything", 1]), json!(["anything", 1])),
    ] {
        it.session.call(method, &params);
        let request = it.sent().remove(0);
        assert_eq!((&request["method"], &request["params"]), (&json!(method), &params));
        it.answer(&request, &result);
        match it.session.poll_event() {
            Some(Event::Called(_, Ok(answer))) => {
                assert_eq!(serde_json::from_str::<Value>(answer.get()).unwrap(), result);
            }
            other => panic!("{other:?}"),
        }
    }
    // §4.1.7: the error of a monitor that is not there.
    it.session.call("monitor_cancel", &json!(["m"]));
    let request = it.sent().remove(0);
    let error = json!({"error": "unknown monitor", "details": "m"});
    it.receive(&json!({"id": request["id"], "result": null, "error": error}));
    assert!(matches!(it.session.poll_event(), Some(Event::Called(_, Err(CallError::Refused(_))))));
    // §4.1.11: the server asks, we answer with what it sent and its own id.
    it.receive(&json!({"id": "echo", "method": "echo", "params": ["x"]}));
    assert_eq!(it.sent(), [json!({"id": "echo", "result": ["x"], "error": null})]);
}

#[test]
fn sections_4_1_8_to_4_1_10_locks() {
    let mut it = Exchange::running();
    let held = |it: &mut Exchange| match it.session.poll_event() {
        Some(Event::Lock { lock, held }) if lock == "l" => held,
        other => panic!("{other:?}"),
    };
    it.session.lock("l", false);
    let request = it.sent().remove(0);
    assert_eq!((&request["method"], &request["params"]), (&json!("lock"), &json!(["l"])));
    it.answer(&request, &json!({"locked": false}));
    assert!(!held(&mut it));
    it.receive(&json!({"id": null, "method": "locked", "params": ["l"]}));
    assert!(held(&mut it));
    it.receive(&json!({"id": null, "method": "stolen", "params": ["l"]}));
    assert!(!held(&mut it));
    it.session.unlock("l");
    let request = it.sent().remove(0);
    assert_eq!((&request["method"], &request["params"]), (&json!("unlock"), &json!(["l"])));
    it.answer(&request, &json!({}));
    it.session.lock("l", true);
    let request = it.sent().remove(0);
    assert_eq!((&request["method"], &request["params"]), (&json!("steal"), &json!(["l"])));
    it.answer(&request, &json!({"locked": true}));
    assert!(held(&mut it));
}

#[test]
fn section_5_2_operations_and_their_results() {
    let mut it = Exchange::running();
    let mut tx = Transaction::new("D");
    let new = tx.insert("T", Columns::new().with("name", "x"));
    let found = tx.select("T", [Condition::eq("name", "x")], ["name", "n"]);
    let updated = tx.update("T", [Condition::uuid(row())], Columns::new().with("peers", &new));
    let mutated = tx.mutate("T", [], [Mutation::add("n", 1), Mutation::delete("ids", Datum::set(["k"]))]);
    let deleted = tx.delete("T", [Condition::new("n", Function::Greater, 3)]);
    tx.wait("T", [], ["name"], Until::NotEqual, [Columns::new().with("name", "y")], Some(10));
    tx.wait("T", [], ["n"], Until::Equal, [], None);
    tx.commit_durably();
    tx.comment("why");
    tx.assert_lock("l");
    let operations = json!([
        {"op": "insert", "table": "T", "row": {"name": "x"}, "uuid-name": "row0"},
        {"op": "select", "table": "T", "where": [["name", "==", "x"]], "columns": ["name", "n"]},
        {"op": "update", "table": "T", "where": [["_uuid", "==", ["uuid", ROW]]], "row": {"peers": ["named-uuid", "row0"]}},
        {"op": "mutate", "table": "T", "where": [], "mutations": [["n", "+=", 1], ["ids", "delete", "k"]]},
        {"op": "delete", "table": "T", "where": [["n", ">", 3]]},
        {"op": "wait", "table": "T", "where": [], "columns": ["name"], "until": "!=", "rows": [{"name": "y"}], "timeout": 10},
        {"op": "wait", "table": "T", "where": [], "columns": ["n"], "until": "==", "rows": []},
        {"op": "commit", "durable": true},
        {"op": "comment", "comment": "why"},
        {"op": "assert", "lock": "l"},
    ]);
    let results = json!([
        {"uuid": ["uuid", ROW]}, {"rows": [{"name": "x", "n": ["set", []]}]}, {"count": 1}, {"count": 2},
        {"count": 0}, {}, {}, {}, {}, {},
    ]);
    let reply = it.transact(&tx, &operations, &results).unwrap();
    assert_eq!(reply.inserted(&new), Some(row()));
    assert_eq!(reply.rows(found)[0].get("n"), Some(&Datum::empty_set()));
    assert_eq!([updated, mutated, deleted].map(|op| reply.count(op)), [1, 2, 0]);
    assert_eq!(reply.results().len(), 10);
}

/// §3.1 `<error>`, §4.1.3 and §5.2: every error string, of an operation and after all of them.
#[test]
fn errors_by_name_and_place() {
    let mut it = Exchange::running();
    let mut tx = Transaction::new("D");
    tx.comment("first");
    tx.abort();
    tx.comment("never");
    let operations = json!([{"op": "comment", "comment": "first"}, {"op": "abort"}, {"op": "comment", "comment": "never"}]);
    let refused = |outcome: Result<Reply, TransactError>| -> OperationError {
        match outcome {
            Err(TransactError::Refused(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    for (text, kind) in [
        ("aborted", ErrorKind::Aborted),
        ("constraint violation", ErrorKind::ConstraintViolation),
        ("domain error", ErrorKind::DomainError),
        ("duplicate uuid-name", ErrorKind::DuplicateUuidName),
        ("I/O error", ErrorKind::IoError),
        ("not owner", ErrorKind::NotOwner),
        ("range error", ErrorKind::RangeError),
        ("referential integrity violation", ErrorKind::ReferentialIntegrityViolation),
        ("resources exhausted", ErrorKind::ResourcesExhausted),
        ("timed out", ErrorKind::TimedOut),
        ("not supported", ErrorKind::NotSupported),
    ] {
        // Those after the one that failed were not tried: null.
        let results = json!([{}, {"error": text, "details": "why"}, null]);
        let error = refused(it.transact(&tx, &operations, &results));
        assert_eq!((error.op.map(|op| op.0), &error.kind, error.details.as_str()), (Some(1), &kind, "why"));
        // `details` may be absent; an error after all results is the commit's.
        let error = refused(it.transact(&tx, &operations, &json!([{}, {}, {}, {"error": text}])));
        assert_eq!(
            (error.op, error.operation.as_str(), &error.kind, error.details.as_str()),
            (None, "commit", &kind, "")
        );
    }
    // §4.1.2, §4.1.3: the request itself is refused; §4.1.4: it was cancelled.
    for (error, kind) in [
        (json!("unknown database"), ErrorKind::UnknownDatabase),
        (json!({"error": "unknown database", "details": "D"}), ErrorKind::UnknownDatabase),
        (json!("canceled"), ErrorKind::Canceled),
    ] {
        it.session.transact(&tx);
        let request = it.sent().remove(0);
        it.receive(&json!({"id": request["id"], "result": null, "error": error}));
        let Some(Event::Transacted(_, outcome)) = it.session.poll_event() else { panic!("no outcome") };
        assert_eq!(refused(outcome).kind, kind);
    }
}
