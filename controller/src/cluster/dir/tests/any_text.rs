//! Texts and values that nobody chose.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cluster::dir::parse::File;

/// Pieces that mean something to YAML, and some that don't.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("---\n"),
        Just("...\n"),
        Just("apiVersion: v1\n"),
        Just("kind: Pod\n"),
        Just("kind: List\nitems:\n- "),
        Just("metadata: {name: a}\n"),
        Just("  "),
        Just("- "),
        Just("\n"),
        Just("# c\n"),
        Just(": "),
        Just("[{"),
        Just("}]"),
        Just("|\n"),
        Just("&a "),
        Just("*a\n"),
        Just("<<: *a\n"),
        Just("!!binary x\n"),
        Just("%YAML 1.2\n"),
        Just("\t"),
        Just("\"\\u0000\""),
        Just("'"),
        Just("\u{feff}"),
        Just("\u{85}"),
        Just("spec:\n"),
        Just("0x1f\n"),
        Just(".inf\n"),
    ];
    prop::collection::vec(prop_oneof![8 => piece.prop_map(str::to_owned), 1 => any::<String>()], 0..25)
        .prop_map(|pieces| pieces.concat())
}

fn values() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[a-z0-9./:-]{0,12}".prop_map(String::from),
        any::<String>(),
        prop_oneof![
            "~", "null", "yes", "No", "0x1f", "1e3", "-", ".5", "012", "1_000", "# a", "a: b", "- a", "|",
            "'", "<<", "=", "1:30"
        ]
        .prop_map(String::from),
        "[ -~\n]{0,120}".prop_map(String::from),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(text.clone(), inner, 0..5).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    /// Whatever a file says, reading it ends in objects and problems.
    #[test]
    fn no_text_is_too_strange(text in texts()) {
        let file = File::parse("x.yaml".into(), text);
        for problem in &file.problems {
            prop_assert!(problem.document.is_some() && !problem.reason.is_empty());
        }
    }

    /// Whatever a patch says, it is written so that it reads back the same.
    #[test]
    fn what_is_written_reads_back(patch in values()) {
        let dir = dir(&[("a.yaml", NAMESPACE_A)]);
        let patch = json!({"unknown": patch, "metadata": {"annotations": {"x": "y"}}});
        // The writer itself compares the text with the value.
        let patched = DirWriter::new(dir.path()).merge_patch(Kind::Namespace, None, "a", &patch);
        prop_assert!(patched.is_ok(), "{:?}", patched);
        prop_assert_eq!(load(dir.path()).unwrap().namespaces["a"].metadata.clone(), patched.unwrap().metadata().clone());
    }
}
