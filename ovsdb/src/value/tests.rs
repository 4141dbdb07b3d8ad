use super::*;

fn json(datum: &Datum) -> String {
    serde_json::to_string(datum).unwrap()
}

fn parse(text: &str) -> Result<Datum, serde_json::Error> {
    serde_json::from_str(text)
}

#[test]
fn uuid_text_round_trips_and_bad_text_is_refused() {
    let text = "550e8400-e29b-41d4-a716-446655440000";
    assert_eq!(text.parse::<Uuid>().unwrap().to_string(), text);
    for bad in
        ["", "550e8400", "550e8400e29b-41d4-a716-4466554400000", "550e8400-e29b-41d4-a716-44665544000g", "é"]
    {
        assert_eq!(bad.parse::<Uuid>(), Err(ParseUuidError), "{bad}");
    }
}

#[test]
fn a_datum_stays_small() {
    // 10,000 rows of 45 columns live in a replica; each byte here is half a megabyte there.
    assert_eq!(size_of::<Atom>(), 24);
    assert_eq!(size_of::<Datum>(), 24);
}

#[test]
fn values_have_one_json_form() {
    let uuid: Uuid = "550e8400-e29b-41d4-a716-446655440000".parse().unwrap();
    let cases = [
        (Datum::from("a\u{1F600}\"b"), "\"a\u{1F600}\\\"b\""),
        (Datum::from(-7), "-7"),
        (Datum::from(1.5), "1.5"),
        (Datum::from(true), "true"),
        (Datum::from(uuid), r#"["uuid","550e8400-e29b-41d4-a716-446655440000"]"#),
        (Datum::Atom(Atom::NamedUuid("row1".into())), r#"["named-uuid","row1"]"#),
        (Datum::empty_set(), r#"["set",[]]"#),
        (Datum::set(["b", "a", "b"]), r#"["set",["a","b"]]"#),
        (Datum::set(["only"]), r#""only""#),
        (Datum::map([("k", "1"), ("a", "2"), ("k", "3")]), r#"["map",[["a","2"],["k","3"]]]"#),
    ];
    for (datum, text) in cases {
        assert_eq!(json(&datum), text);
        assert_eq!(parse(text).unwrap(), datum, "{text}");
    }
    assert_eq!(parse(r#"["set",["only"]]"#).unwrap(), Datum::from("only"));
}

#[test]
fn reals_survive_exactly() {
    // Found by fuzzing: read quickly instead of exactly, this one comes back as another number.
    let datum = parse("499999999999999999999999999999").unwrap();
    assert_eq!(parse(&json(&datum)).unwrap(), datum);
}

#[test]
fn malformed_values_are_refused() {
    for bad in [
        "null",
        "{}",
        "[]",
        r#"["uuid"]"#,
        r#"["uuid","x"]"#,
        r#"["uuid","550e8400-e29b-41d4-a716-446655440000",1]"#,
        r#"["set",[["set",[]]]]"#,
        r#"["map",[["k"]]]"#,
        r#"["map",[["k","v","w"]]]"#,
        r#"["bag",[]]"#,
        "9223372036854775808",
        "\"\\ud800\"",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn maps_answer_by_key_and_sets_by_member() {
    let map = Datum::map([("iface-id", "a"), ("attached-mac", "b")]);
    assert_eq!(map.as_map_get("iface-id"), Some("a"));
    assert_eq!(map.as_map_get("other"), None);
    assert_eq!(Datum::from(3).as_map_get("x"), None);
    let set = Datum::set([3, 1, 2]);
    assert!(set.contains(&Atom::Integer(2)) && !set.contains(&Atom::Integer(4)));
    assert_eq!(set.optional(), None);
    assert_eq!(Datum::option(Some(3)).as_i64(), Some(3));
    assert_eq!(Datum::option(None::<i64>).as_i64(), None);
    assert_eq!(set.to_string(), "[1, 2, 3]");
    assert_eq!(map.to_string(), "{attached-mac=b, iface-id=a}");
}
