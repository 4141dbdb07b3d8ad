use super::*;

fn schema() -> DatabaseSchema {
    serde_json::from_str(
        r#"{"name": "T", "version": "1.2.3", "tables": {"A": {
            "columns": {
              "name": {"type": "string", "mutable": false},
              "mode": {"type": {"key": {"type": "string", "enum": ["set", ["secure", "standalone"]]}, "min": 0}},
              "port": {"type": {"key": {"type": "integer", "minInteger": 1, "maxInteger": 65279}, "min": 0, "max": 1}},
              "load": {"type": {"key": {"type": "real", "minReal": 0.5}}},
              "short": {"type": {"key": {"type": "string", "minLength": 1, "maxLength": 3}}},
              "ids": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
              "peers": {"type": {"key": {"type": "uuid", "refTable": "A", "refType": "weak"}, "min": 0, "max": 2},
                        "ephemeral": true}},
            "indexes": [["name"]], "isRoot": true, "maxRows": 5}}}"#,
    )
    .unwrap()
}

fn check(column: &str, datum: impl Into<Datum>) -> Result<Datum, String> {
    schema().column_type("A", column).unwrap().check(datum.into())
}

#[test]
fn a_schema_is_read_with_all_its_constraints() {
    let schema = schema();
    let table = &schema.tables["A"];
    assert!(table.is_root && table.max_rows == Some(5) && table.indexes == [["name"]]);
    assert!(!table.columns["name"].mutable && table.columns["peers"].ephemeral);
    let peers = &table.columns["peers"].column_type;
    assert_eq!(peers.key.reference, Some(Reference { table: "A".into(), strong: false }));
    assert_eq!((peers.min, peers.max), (0, Some(2)));
    assert_eq!(table.columns["ids"].column_type.max, None);
    assert_eq!(schema.column_type("A", "_uuid"), Some(ColumnType::scalar(AtomicType::Uuid)));
}

#[test]
fn defaults_follow_the_type() {
    let default = |column| schema().column_type("A", column).unwrap().default_datum();
    assert_eq!(default("name"), Datum::from(""));
    assert_eq!(default("mode"), Datum::empty_set());
    assert_eq!(default("load"), Datum::from(0.0));
    assert_eq!(default("ids"), Datum::empty_map());
}

#[test]
fn constraints_are_checked_and_said() {
    assert_eq!(check("mode", "secure"), Ok("secure".into()));
    assert_eq!(check("mode", "open").unwrap_err(), "is not one of secure, standalone");
    assert_eq!(check("port", 0).unwrap_err(), "is below the minimum 1");
    assert_eq!(check("port", 65280).unwrap_err(), "is above the maximum 65279");
    assert_eq!(check("port", "1").unwrap_err(), "is not of type integer");
    assert_eq!(check("load", 2), Ok(2.0.into()), "a server may write reals as integers");
    assert_eq!(check("load", 0.25).unwrap_err(), "is below the minimum 0.5");
    assert_eq!(check("short", "äöüß").unwrap_err(), "has a length above the maximum 3");
    assert_eq!(check("ids", Datum::empty_set()), Ok(Datum::empty_map()));
    assert_eq!(check("ids", "x").unwrap_err(), "is not a map");
    assert_eq!(check("name", Datum::empty_set()).unwrap_err(), "has 0 elements, fewer than 1");
    assert_eq!(check("name", Datum::empty_map()).unwrap_err(), "is a map");
    assert_eq!(
        check("peers", Datum::set([Uuid([1; 16]), Uuid([2; 16]), Uuid([3; 16])])).unwrap_err(),
        "has 3 elements, more than 2"
    );
}

#[test]
fn malformed_schemas_are_refused() {
    for bad in [
        r#"{"name": "T", "tables": {}}"#,
        r#"{"name": "T", "version": "1.0.0", "tables": {"A": {"columns": {"c": {"type": "blob"}}}}}"#,
        r#"{"name": "T", "version": "1.0.0", "tables": {"A": {"columns": {"c": {"type": {"key": "string", "max": "many"}}}}}}"#,
    ] {
        assert!(serde_json::from_str::<DatabaseSchema>(bad).is_err(), "{bad}");
    }
}
