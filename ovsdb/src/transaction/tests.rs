use super::*;

fn reply(tx: &Transaction, text: &str) -> Result<Reply, TransactError> {
    parse_reply(&Asked::of(tx), text)
}

#[test]
fn operations_have_the_wire_form_of_the_rfc() {
    let mut tx = Transaction::new("D");
    let row = tx.insert("T", Columns::new().with("name", "x"));
    tx.select("T", [Condition::eq("name", "x")], ["_uuid"]);
    tx.update("T", [Condition::uuid(Uuid::ZERO)], Columns::new().with("peer", &row));
    tx.mutate("T", [], [Mutation::add("n", 1), Mutation::insert("peers", &row)]);
    tx.delete("T", [Condition::new("n", Function::GreaterOrEqual, 3)]);
    tx.wait("T", [], ["name"], Until::NotEqual, [Columns::new().with("name", "y")], Some(10));
    tx.guard("T", Uuid::ZERO, Columns::new().with("n", 1));
    tx.commit_durably();
    tx.comment("why");
    tx.assert_lock("l");
    tx.abort();
    let zero = r#"["uuid","00000000-0000-0000-0000-000000000000"]"#;
    let want = [
        r#""D""#.to_owned(),
        r#"{"op":"insert","table":"T","row":{"name":"x"},"uuid-name":"row0"}"#.to_owned(),
        r#"{"op":"select","table":"T","where":[["name","==","x"]],"columns":["_uuid"]}"#.to_owned(),
        format!(r#"{{"op":"update","table":"T","where":[["_uuid","==",{zero}]],"row":{{"peer":["named-uuid","row0"]}}}}"#),
        r#"{"op":"mutate","table":"T","where":[],"mutations":[["n","+=",1],["peers","insert",["named-uuid","row0"]]]}"#.to_owned(),
        r#"{"op":"delete","table":"T","where":[["n",">=",3]]}"#.to_owned(),
        r#"{"op":"wait","table":"T","where":[],"columns":["name"],"until":"!=","rows":[{"name":"y"}],"timeout":10}"#.to_owned(),
        format!(r#"{{"op":"wait","table":"T","where":[["_uuid","==",{zero}]],"columns":["n"],"until":"==","rows":[{{"n":1}}],"timeout":0}}"#),
        r#"{"op":"commit","durable":true}"#.to_owned(),
        r#"{"op":"comment","comment":"why"}"#.to_owned(),
        r#"{"op":"assert","lock":"l"}"#.to_owned(),
        r#"{"op":"abort"}"#.to_owned(),
    ];
    assert_eq!(serde_json::to_string(&tx).unwrap(), format!("[{}]", want.join(",")));
}

#[test]
fn results_are_typed_by_operation() {
    let mut tx = Transaction::new("D");
    let row = tx.insert("T", Columns::new());
    let select = tx.select("T", [], Vec::<String>::new());
    let delete = tx.delete("T", []);
    tx.comment("c");
    let text = r#"[{"uuid":["uuid","550e8400-e29b-41d4-a716-446655440000"]},
        {"rows":[{"_uuid":["uuid","550e8400-e29b-41d4-a716-446655440000"],"name":"x"}]},{"count":2},{}]"#;
    let reply = reply(&tx, text).unwrap();
    let uuid = "550e8400-e29b-41d4-a716-446655440000".parse().unwrap();
    assert_eq!(reply.inserted(&row), Some(uuid));
    assert_eq!(reply.rows(select)[0].uuid(), Some(uuid));
    assert_eq!(reply.rows(select)[0].get("name").unwrap().as_str(), Some("x"));
    assert_eq!(reply.count(delete), 2);
    assert_eq!(reply.results()[3], OperationResult::Done);
}

#[test]
fn errors_name_the_operation_that_failed() {
    let mut tx = Transaction::new("D");
    tx.insert("Port", Columns::new());
    tx.comment("c");
    let error = reply(
        &tx,
        r#"[{"uuid":["uuid","550e8400-e29b-41d4-a716-446655440000"]},{},
        {"error":"constraint violation","details":"duplicate name"}]"#,
    )
    .unwrap_err();
    let refused = error.refused().unwrap();
    assert_eq!((refused.op, &refused.kind), (None, &ErrorKind::ConstraintViolation));
    assert_eq!(refused.to_string(), "commit: constraint violation: duplicate name");
    let error = reply(&tx, r#"[{"error":"made up"},null]"#).unwrap_err();
    let refused = error.refused().unwrap();
    assert_eq!((refused.op, &refused.kind), (Some(OpIndex(0)), &ErrorKind::Other("made up".into())));
    assert_eq!(refused.to_string(), "insert into Port: made up");
}

#[test]
fn answers_that_make_no_sense_are_errors() {
    let mut tx = Transaction::new("D");
    tx.delete("T", []);
    for bad in ["", "null", "{}", "[]", "[null]", "[{},{}]", r#"[{"count":-1}]"#, r#"[{"uuid":"x"}]"#] {
        assert!(matches!(reply(&tx, bad), Err(TransactError::Malformed(_))), "{bad}");
    }
}
