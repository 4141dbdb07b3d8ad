//! Changes one object in the text of a file and leaves the rest as it is.

use super::document;
use super::parse::{File, Place};
use super::yaml::{self, Node, Value};

/// What is to become of an object.
pub(super) enum Edit<'a> {
    /// It is replaced.
    Replace(Node),
    /// It is changed by an RFC 7386 merge patch.
    Merge(&'a serde_json::Value),
    /// It is removed, and its document with it if nothing else is in that.
    Remove,
}

/// Why a text can't be changed. Neither happens with a text that was read before by [`File::parse`].
#[derive(Debug)]
pub(super) enum EditError {
    /// The object doesn't stand where it should.
    Moved,
    /// The result, written as YAML or JSON, would not read back the same.
    Unwritable(String),
}

/// The file's text after the edit; `None` if no document is left.
pub(super) fn edit(file: &File, place: &Place, edit: Edit<'_>) -> Result<Option<String>, EditError> {
    let documents = document::split(&file.text);
    let document = documents.get(place.document).ok_or(EditError::Moved)?;
    let mut root = yaml::parse(document.text).map_err(|_| EditError::Moved)?;
    let is_removed = match edit {
        Edit::Remove => remove(&mut root, &place.items)?,
        Edit::Replace(node) => {
            *item(&mut root, &place.items)? = node;
            false
        }
        Edit::Merge(patch) => {
            merge(item(&mut root, &place.items)?, patch);
            false
        }
    };

    let (lead, tail) = document::frame(document.text);
    let mut text = String::with_capacity(file.text.len());
    let mut left = 0_usize;
    for (index, other) in documents.iter().enumerate() {
        if index != place.document {
            left += usize::from(!document::is_empty(other.text));
            text.push_str(other.text);
        } else if is_removed {
            // What stands before the marker may speak of the whole file.
            text.push_str(document::prelude(lead));
        } else {
            left += 1;
            text.push_str(lead);
            text.push_str(&write(&root, is_json(file))?);
            text.push_str(tail);
        }
    }
    Ok((left > 0).then_some(text))
}

/// The text of a file with one more document.
pub(super) fn append(text: &str, node: &Node) -> Result<String, EditError> {
    let document = write(node, false)?;
    if text.trim().is_empty() {
        return Ok(document);
    }
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    Ok(format!("{text}{newline}---\n{document}"))
}

fn is_json(file: &File) -> bool {
    file.name.extension().is_some_and(|extension| extension == "json")
}

fn write(node: &Node, json: bool) -> Result<String, EditError> {
    let text = if json {
        serde_json::to_string_pretty(node).map(|text| text + "\n").map_err(|err| err.to_string())
    } else {
        // Lists as kubectl writes them, and long lines left long.
        let options = serde_saphyr::ser_options! { compact_list_indent: true, folded_wrap_chars: 65_535 };
        serde_saphyr::to_string_with_options(node, options).map_err(|err| err.to_string())
    };
    let text = text.map_err(EditError::Unwritable)?;
    let again = yaml::parse(&text).map_err(|err| EditError::Unwritable(err.reason))?;
    if serde_json::Value::from(&again) == serde_json::Value::from(node) {
        Ok(text)
    } else {
        Err(EditError::Unwritable("a value would change its type".to_owned()))
    }
}

fn items_of(list: &mut Node) -> Option<&mut Vec<Node>> {
    match &mut list.get_mut("items")?.value {
        Value::Sequence(items) => Some(items),
        _ => None,
    }
}

fn item<'a>(root: &'a mut Node, items: &[usize]) -> Result<&'a mut Node, EditError> {
    items.iter().try_fold(root, |node, &index| items_of(node)?.get_mut(index)).ok_or(EditError::Moved)
}

/// Removes an item of a list; true if nothing is left.
fn remove(root: &mut Node, items: &[usize]) -> Result<bool, EditError> {
    let Some((&last, path)) = items.split_last() else { return Ok(true) };
    let list = items_of(item(root, path)?).filter(|list| last < list.len()).ok_or(EditError::Moved)?;
    list.remove(last);
    if list.is_empty() { remove(root, path) } else { Ok(false) }
}

/// RFC 7386 §2, keeping the order of keys.
fn merge(target: &mut Node, patch: &serde_json::Value) {
    let serde_json::Value::Object(changes) = patch else {
        *target = Node::from(patch);
        return;
    };
    if !matches!(target.value, Value::Mapping(_)) {
        target.value = Value::Mapping(Vec::new());
    }
    let Value::Mapping(entries) = &mut target.value else { return };
    for (key, change) in changes {
        let position = entries.iter().position(|(name, _)| name == key);
        match (change, position.and_then(|position| entries.get_mut(position))) {
            (serde_json::Value::Null, _) => entries.retain(|(name, _)| name != key),
            (_, Some((_, node))) => merge(node, change),
            (_, None) => {
                let mut node = Node { value: Value::Null, line: 0 };
                merge(&mut node, change);
                entries.push((key.clone(), node));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file(name: &str, text: &str) -> File {
        File::parse(name.into(), text.to_owned())
    }

    fn edited(text: &str, index: usize, edit: Edit<'_>) -> Option<String> {
        let file = file("a.yaml", text);
        assert_eq!(file.problems, []);
        super::edit(&file, &file.objects[index].place, edit).unwrap()
    }

    const TWO: &str = "\
# Of the whole file.
---
# Of the first.
apiVersion: v1
kind: Namespace
metadata: {name: one}   # inside
# After the first.
--- # Of the second.
kind: Namespace
apiVersion: v1
metadata:
  name: two
";

    #[test]
    fn an_edit_touches_one_document() {
        let patch = json!({"metadata": {"labels": {"b": "0", "a": "yes"}}});
        assert_eq!(
            edited(TWO, 1, Edit::Merge(&patch)).unwrap(),
            TWO.to_owned() + "  labels:\n    a: \"yes\"\n    b: \"0\"\n"
        );
        let first = edited(TWO, 0, Edit::Merge(&patch)).unwrap();
        assert_eq!(
            first,
            TWO.replace(
                "metadata: {name: one}   # inside\n",
                "metadata:\n  name: one\n  labels:\n    a: \"yes\"\n    b: \"0\"\n"
            )
        );
    }

    #[test]
    fn removing_leaves_the_others() {
        let rest = edited(TWO, 0, Edit::Remove).unwrap();
        assert_eq!(rest, TWO.replace(&TWO[TWO.find("---").unwrap()..TWO.find("--- #").unwrap()], ""));
        assert_eq!(edited(&rest, 0, Edit::Remove), None);
    }

    #[test]
    fn lists_are_edited_in_place() {
        let list = "kind: List\napiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata:\n    name: a\n\
                    - apiVersion: v1\n  kind: Namespace\n  metadata:\n    name: b\n";
        let one = edited(list, 0, Edit::Remove).unwrap();
        assert_eq!(
            one,
            "kind: List\napiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata:\n    name: b\n"
        );
        assert_eq!(edited(&one, 0, Edit::Remove), None);
    }

    #[test]
    fn json_stays_json() {
        let file =
            file("a.json", "{\"kind\":\"Namespace\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"a\"}}");
        let patch = json!({"metadata": {"uid": "1"}});
        let text = super::edit(&file, &file.objects[0].place, Edit::Merge(&patch)).unwrap().unwrap();
        assert_eq!(
            text,
            "{\n  \"kind\": \"Namespace\",\n  \"apiVersion\": \"v1\",\n  \"metadata\": {\n    \"name\": \"a\",\n    \"uid\": \"1\"\n  }\n}\n"
        );
    }

    /// The examples of RFC 7386, appendix A.
    #[test]
    fn merge_patch_vectors() {
        for (target, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut node = Node::from(&target);
            merge(&mut node, &patch);
            assert_eq!(serde_json::Value::from(&node), result, "{target} patched by {patch}");
        }
    }
}
