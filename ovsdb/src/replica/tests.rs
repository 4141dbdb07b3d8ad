use super::*;
use crate::monitor::Monitored;
use crate::schema::DatabaseSchema;

fn layout() -> Arc<Layout> {
    let schema: DatabaseSchema = serde_json::from_str(
        r#"{"name": "T", "version": "1.0.0", "tables": {
          "Bridge": {"columns": {
            "name": {"type": "string"},
            "ports": {"type": {"key": {"type": "uuid", "refTable": "Port"}, "min": 0, "max": "unlimited"}},
            "flood": {"type": {"key": "integer", "min": 0, "max": "unlimited"}},
            "mode": {"type": {"key": "string", "min": 0, "max": 1}}},
            "indexes": [["name"]], "isRoot": true},
          "Port": {"columns": {
            "name": {"type": "string"},
            "unwanted": {"type": "integer"},
            "ids": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}}}}}"#,
    )
    .unwrap();
    let monitored = Monitored::new()
        .all_columns("Bridge")
        .table("Port", ["name", "ids", "of_the_future"])
        .all_columns("Absent");
    Arc::new(Layout::new(&schema, &monitored))
}

fn uuid(n: u8) -> Uuid {
    Uuid([n; 16])
}

fn updates(layout: &Layout, form: Form, text: &str) -> Result<update::Updates, serde_json::Error> {
    use serde::de::DeserializeSeed;
    // @1 stands for a UUID in which every byte is 1.
    let text = (1..10).fold(text.to_owned(), |text, n| text.replace(&format!("@{n}"), &uuid(n).to_string()));
    UpdatesSeed { layout, form }.deserialize(&mut serde_json::Deserializer::from_str(&text))
}

fn start() -> Replica {
    let mut replica = Replica::empty(layout());
    let first = updates(
        &layout(),
        Form::V2,
        r#"{"Bridge": {"@1": {"initial": {"name": "br0", "ports": ["uuid", "@2"], "flood": ["set", [1, 2]], "mode": "secure"}}},
            "Port": {"@2": {"initial": {"name": "p2", "ids": ["map", [["a", "1"], ["b", "2"]]]}}},
            "Unasked": {"@3": {"initial": {}}}}"#,
    );
    let changes = replica.resync(layout(), first.unwrap()).unwrap();
    assert_eq!(changes.iter().map(RowChange::kind).collect::<Vec<_>>(), [Kind::Insert, Kind::Insert]);
    replica
}

fn change(replica: &mut Replica, form: Form, text: &str) -> Result<Vec<RowChange>, ReplicaError> {
    let updates = updates(&layout(), form, text).unwrap();
    replica.apply(updates)
}

#[test]
fn differences_apply_by_the_columns_type() {
    let mut replica = start();
    let before = replica.clone();
    let changes = change(
        &mut replica,
        Form::V2,
        r#"{"Bridge": {"@1": {"modify": {"flood": ["set", [2, 3]], "ports": ["uuid", "@4"], "mode": ["set", []]}}},
            "Port": {"@2": {"modify": {"ids": ["map", [["a", "1"], ["b", "3"], ["c", "4"]]], "unwanted": 1}},
                     "@4": {"insert": {"name": "p4"}}}}"#,
    )
    .unwrap();
    let bridge = replica.named("Bridge", "br0").unwrap();
    assert_eq!(bridge.get("flood"), Some(&Datum::set([1, 3])));
    assert_eq!(bridge.get("ports"), Some(&Datum::set([uuid(2), uuid(4)])));
    assert_eq!(bridge.get("mode"), Some(&Datum::empty_set()));
    assert_eq!(replica.named("Port", "p2").unwrap().get("ids"), Some(&Datum::map([("b", "3"), ("c", "4")])));
    assert_eq!(
        replica.row("Port", uuid(4)).unwrap().get("ids"),
        Some(&Datum::empty_map()),
        "defaults are left out"
    );
    let modified = changes.iter().find(|change| change.table() == "Bridge").unwrap();
    assert_eq!(modified.kind(), Kind::Modify);
    assert_eq!(modified.changed_columns().collect::<Vec<_>>(), ["flood", "mode", "ports"]);
    assert_eq!(
        before.row("Bridge", uuid(1)).unwrap().str("mode"),
        Some("secure"),
        "an older replica never changes"
    );
    assert!(before.row("Port", uuid(4)).is_none());
}

#[test]
fn references_are_followed_both_ways() {
    let mut replica = start();
    let names = |replica: &Replica, to: u8| {
        let names = replica.referrers("Bridge", uuid(to)).map(|row| row.str("name").unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&replica, 2), ["br0"]);
    let bridge = replica.named("Bridge", "br0").unwrap();
    assert_eq!(
        replica.follow(bridge, "ports").map(|row| row.str("name").unwrap()).collect::<Vec<_>>(),
        ["p2"]
    );
    assert_eq!(replica.follow(bridge, "name").count(), 0);
    change(
        &mut replica,
        Form::V2,
        r#"{"Bridge": {"@1": {"modify": {"ports": ["set", [["uuid", "@2"], ["uuid", "@5"]]]}}}}"#,
    )
    .unwrap();
    assert_eq!(names(&replica, 2), [""; 0]);
    assert_eq!(names(&replica, 5), ["br0"]);
    assert_eq!(
        replica.follow(replica.named("Bridge", "br0").unwrap(), "ports").count(),
        0,
        "row 5 is not here"
    );
}

#[test]
fn an_update_of_a_row_never_seen_changes_nothing() {
    for (form, text) in [
        (Form::V2, r#"{"Port": {"@2": {"delete": null}}, "Bridge": {"@9": {"modify": {"name": "x"}}}}"#),
        (Form::V2, r#"{"Port": {"@2": {"delete": null}}, "Bridge": {"@9": {"delete": null}}}"#),
        (Form::V1, r#"{"Port": {"@2": {"old": {"name": "p2"}}}, "Bridge": {"@9": {"old": {"name": "x"}}}}"#),
    ] {
        let mut replica = start();
        change(&mut replica, form, text).unwrap_err();
        assert!(replica.row("Port", uuid(2)).is_some(), "{text}");
    }
}

#[test]
fn the_form_of_the_rfc_replaces_whole_rows() {
    let mut replica = start();
    change(
        &mut replica,
        Form::V1,
        r#"{"Bridge": {"@1": {"old": {"mode": "secure"}, "new": {"name": "br1", "ports": ["set", []], "flood": 7, "mode": ["set", []]}}},
            "Port": {"@2": {"old": {"name": "p2"}}, "@3": {"new": {"name": "p3", "ids": ["map", []]}}}}"#,
    )
    .unwrap();
    assert!(replica.named("Bridge", "br0").is_none());
    assert_eq!(replica.named("Bridge", "br1").unwrap().get("flood"), Some(&Datum::from(7)));
    assert!(replica.row("Port", uuid(2)).is_none() && replica.named("Port", "p3").is_some());
}

#[test]
fn names_can_move_between_rows_in_one_update() {
    let mut replica = start();
    for (a, b) in [("@1", "@2"), ("@2", "@1")] {
        let text = format!(
            r#"{{"Bridge": {{"{a}": {{"insert": {{"name": "x"}}}}, "{b}": {{"insert": {{"name": "y"}}}}}}}}"#
        );
        change(&mut replica, Form::V2, &text).unwrap();
    }
    assert_eq!(replica.named("Bridge", "x").unwrap().uuid(), uuid(2));
    assert_eq!(replica.named("Bridge", "y").unwrap().uuid(), uuid(1));
    assert!(replica.named("Bridge", "br0").is_none());
}

#[test]
fn a_resync_swaps_everything_and_tells_the_difference() {
    let mut replica = start();
    let kept = replica.row("Bridge", uuid(1)).unwrap().clone();
    let next = updates(
        &layout(),
        Form::V2,
        r#"{"Bridge": {"@1": {"initial": {"name": "br0", "ports": ["uuid", "@2"], "flood": ["set", [1, 2]], "mode": "secure"}}},
            "Port": {"@6": {"initial": {"name": "p6"}}}}"#,
    );
    let changes = replica.resync(layout(), next.unwrap()).unwrap();
    let said: Vec<_> = changes.iter().map(|c| (c.kind(), c.row().unwrap().str("name").unwrap())).collect();
    assert_eq!(said, [(Kind::Insert, "p6"), (Kind::Delete, "p2")]);
    assert_eq!(*replica.row("Bridge", uuid(1)).unwrap(), kept);
    assert_eq!(replica.referrers("Bridge", uuid(2)).count(), 1);
}

#[test]
fn malformed_updates_are_refused() {
    for bad in [
        "[]",
        r#"{"Bridge": []}"#,
        r#"{"Bridge": {"not a uuid": {"delete": null}}}"#,
        r#"{"Bridge": {"@1": {}}}"#,
        r#"{"Bridge": {"@1": {"upsert": {}}}}"#,
        r#"{"Bridge": {"@1": {"insert": {"name": 1}}}}"#,
        r#"{"Bridge": {"@1": {"insert": {"ports": ["map", []]}}}}"#,
        r#"{"Bridge": {"@1": {"insert": {"flood": ["set", [1, "x"]]}}}}"#,
        r#"{"Port": {"@1": {"insert": {"ids": "x"}}}}"#,
    ] {
        assert!(updates(&layout(), Form::V2, bad).is_err(), "{bad}");
    }
}

#[test]
fn tables_of_many_columns_keep_every_value() {
    let columns: Vec<String> = (0..140).map(|n| format!(r#""c{n:03}": {{"type": "integer"}}"#)).collect();
    let schema = format!(
        r#"{{"name": "W", "version": "1.0.0", "tables": {{"T": {{"columns": {{{}}}}}}}}}"#,
        columns.join(",")
    );
    let layout = Layout::new(&serde_json::from_str(&schema).unwrap(), &Monitored::new().all_columns("T"));
    let layout = Arc::new(layout);
    let mut replica = Replica::empty(layout.clone());
    let text = r#"{"T": {"@1": {"initial": {"c137": 7, "c003": 3, "c127": 1, "c128": 2, "c004": 0}}}}"#;
    replica.resync(layout.clone(), updates(&layout, Form::V2, text).unwrap()).unwrap();
    let text = r#"{"T": {"@1": {"modify": {"c139": 9, "c003": 0, "c000": 5, "c128": 0}}}}"#;
    replica.apply(updates(&layout, Form::V2, text).unwrap()).unwrap();
    let row = replica.row("T", uuid(1)).unwrap();
    assert_eq!(row.columns().count(), 140);
    let set: Vec<_> = row
        .columns()
        .filter(|(_, value)| value.as_i64() != Some(0))
        .map(|(n, v)| (n, v.as_i64().unwrap()))
        .collect();
    assert_eq!(set, [("c000", 5), ("c127", 1), ("c137", 7), ("c139", 9)]);
}
