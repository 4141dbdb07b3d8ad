//! Turns the text of one file into objects and problems.

use std::path::{Path, PathBuf};

use tracing::debug;

use super::check;
use super::defaults;
use super::document::{self, Document};
use super::error::Problem;
use super::yaml::{self, Node, Value};
use crate::api::{GLOBAL_NAMESPACE, Invalid, Kind, ObjectRef, validate};
use crate::cluster::{Object, ObjectError};

/// One file, read.
#[derive(Debug)]
pub(super) struct File {
    /// Its name in the directory.
    pub(super) name: PathBuf,
    /// Its text, as it is on disk.
    pub(super) text: String,
    /// The objects in it, in order.
    pub(super) objects: Vec<Placed>,
    /// What is wrong with it, in order.
    pub(super) problems: Vec<Problem>,
}

/// An object and where it stands.
#[derive(Debug)]
pub(super) struct Placed {
    /// The object, with the defaults that the directory gives (namespace, UID).
    pub(super) object: Object,
    /// Where it stands.
    pub(super) place: Place,
}

/// Where an object stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of the document, from 0.
    pub(super) document: usize,
    /// For an object in a list, its index in `items`; for a list in a list, an index each.
    pub(super) items: Vec<usize>,
    /// Line of the file, from 1.
    pub(super) line: u64,
}

impl File {
    pub(super) fn parse(name: PathBuf, text: String) -> Self {
        let mut parser = Parser { file: &name, objects: Vec::new(), problems: Vec::new() };
        for (index, document) in document::split(&text).into_iter().enumerate() {
            parser.document(index, &document);
        }
        let Parser { objects, problems, .. } = parser;
        Self { name, text, objects, problems }
    }
}

struct Parser<'a> {
    file: &'a Path,
    objects: Vec<Placed>,
    problems: Vec<Problem>,
}

impl Parser<'_> {
    fn document(&mut self, index: usize, document: &Document<'_>) {
        let context = Context { document: index, before: document.first_line.saturating_sub(1) };
        match yaml::parse(document.text) {
            Ok(Node { value: Value::Null, .. }) => {}
            Ok(node) => self.node(&context, &node, None, &mut Vec::new()),
            Err(err) => {
                let line = err.line.map(|line| context.before.saturating_add(line));
                let reason = format!("this is no valid YAML: {}", err.reason);
                self.problem(&context, line, None, None, reason);
            }
        }
    }

    /// Reads an object, or a list and all in it. `list_type` is what the items of a typed list are.
    fn node(
        &mut self,
        context: &Context,
        node: &Node,
        list_type: Option<(&str, &str)>,
        items: &mut Vec<usize>,
    ) {
        let line = context.line(node.line);
        if !matches!(node.value, Value::Mapping(_)) {
            let reason = "this is no Kubernetes object: write a mapping with apiVersion, kind and metadata";
            return self.problem(context, line, None, None, reason.to_owned());
        }
        let (default_version, default_kind) = list_type.unzip();
        let mut type_field = |field: &str, default: Option<&str>| {
            let value = node.get(field).and_then(Node::as_str).or(default).map(str::to_owned);
            if value.is_none() {
                let reason =
                    "is missing: every object needs apiVersion and kind, such as v1 and Pod".to_owned();
                self.problem(context, line, None, Some(field), reason);
            }
            value
        };
        let (api_version, kind) =
            (type_field("apiVersion", default_version), type_field("kind", default_kind));
        let (Some(api_version), Some(kind)) = (api_version, kind) else { return };

        if let (Some(item_kind), Some(list)) = (kind.strip_suffix("List"), node.get("items")) {
            let item_type = (!item_kind.is_empty()).then_some((api_version.as_str(), item_kind));
            return self.list(context, list, item_type, items);
        }
        match Kind::from_type(&api_version, &kind) {
            Some(kind) => self.object(context, node, kind, items),
            None => self.unknown_kind(context, node, &api_version, &kind),
        }
    }

    fn list(
        &mut self,
        context: &Context,
        list: &Node,
        item_type: Option<(&str, &str)>,
        items: &mut Vec<usize>,
    ) {
        match &list.value {
            Value::Null => {}
            Value::Sequence(nodes) => {
                for (index, node) in nodes.iter().enumerate() {
                    items.push(index);
                    self.node(context, node, item_type, items);
                    items.pop();
                }
            }
            _ => {
                let reason = "is no sequence: write the list's objects under it, each with a dash".to_owned();
                self.problem(context, context.line(list.line), None, Some("items"), reason);
            }
        }
    }

    fn unknown_kind(&mut self, context: &Context, node: &Node, api_version: &str, kind: &str) {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let same = Kind::ALL.into_iter().find(|known| known.as_str() == kind && known.group() == group);
        if let Some(known) = same {
            let expected = known.api_version();
            let reason = format!("{kind} {api_version} is not supported: use {expected}");
            self.problem(context, context.line(node.line), None, Some("apiVersion"), reason);
        } else {
            debug!(file = %self.file.display(), line = node.line, api_version, kind, "object ignored: nothing uses its kind");
        }
    }

    fn object(&mut self, context: &Context, node: &Node, kind: Kind, items: &[usize]) {
        let line = context.line(node.line);
        let mut object = match Object::from_value(kind, serde_json::Value::from(node)) {
            Ok(object) => object,
            Err(err) => {
                let field = Some(err.field.as_str()).filter(|&field| field != ".");
                let nearest = field.map_or(node, |field| node.nearest(field));
                let (at, reason) = (context.line(nearest.line), in_our_words(&err, nearest));
                return self.problem(context, at, Some(named(node, kind)), field, reason);
            }
        };
        defaults::set(&mut object);
        let reference = object.reference();
        for (field, reason) in faults(&object) {
            let at = context.line(node.nearest(&field).line);
            self.problem(context, at, Some(reference.clone()), Some(&field), reason);
        }
        let place = Place {
            document: context.document,
            items: items.to_vec(),
            line: line.unwrap_or(context.before + 1),
        };
        self.objects.push(Placed { object, place });
    }

    fn problem(
        &mut self,
        context: &Context,
        line: Option<u64>,
        object: Option<ObjectRef>,
        field: Option<&str>,
        reason: String,
    ) {
        self.problems.push(Problem {
            file: Some(self.file.to_owned()),
            document: Some(context.document + 1),
            line,
            object,
            field: field.map(str::to_owned),
            reason,
        });
    }
}

/// Which document is being read.
struct Context {
    /// Its number in the file, from 0.
    document: usize,
    /// Lines of the file before it.
    before: u64,
}

impl Context {
    /// The line of the file for a line of the document; `None` if that is unknown.
    fn line(&self, line: u64) -> Option<u64> {
        (line > 0).then(|| self.before.saturating_add(line))
    }
}

/// Says what to do about the commonest faults of form: YAML takes `0`, `1.2` or `true` for no string, and times.
fn in_our_words(err: &ObjectError, node: &Node) -> String {
    if let (true, Some(text)) = (err.field.ends_with("Timestamp"), node.as_str()) {
        return format!("\"{text}\" is no time: write one such as 2024-01-31T08:00:00Z");
    }
    let is_plain = matches!(node.value, Value::Number(_) | Value::Bool(_));
    if is_plain && err.reason.ends_with("expected a string") {
        return format!("{}: put it in quotes", err.reason);
    }
    err.reason.clone()
}

/// The name of an object that could not be read.
fn named(node: &Node, kind: Kind) -> ObjectRef {
    let meta = |field| node.get("metadata").and_then(|meta| meta.get(field)).and_then(Node::as_str);
    ObjectRef {
        kind,
        namespace: kind.is_namespaced().then(|| meta("namespace").unwrap_or(GLOBAL_NAMESPACE).to_owned()),
        name: meta("name").unwrap_or("(no name)").to_owned(),
    }
}

/// What an API server would refuse, as field and reason.
fn faults(object: &Object) -> Vec<(String, String)> {
    let stated = |result: Result<(), validate::InvalidObject>| {
        result
            .err()
            .into_iter()
            .flat_map(|err| err.faults)
            .map(|Invalid { field, reason, .. }| (field, reason.to_string()))
    };
    let mut faults: Vec<_> = stated(validate::metadata(object.kind(), object.metadata())).collect();
    faults.extend(stated(check::network_object(object)));
    faults.extend(check::kubernetes_object(object));
    faults
}
