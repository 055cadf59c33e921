//! Trees to documents: kind, name, and which kinds are ours.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use sluice_crds::{GROUP, VERSION};
use sluice_sql::sql::{Span, nearest};

use super::yaml::{Data, Node};
use crate::diagnostic::{Diagnostic, Excerpt, Severity};

/// A file that documents were read from.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// As it was named by the user, for messages.
    pub name: String,
    /// Where it is; `None` for text that came from elsewhere.
    pub path: Option<PathBuf>,
    /// All of it.
    pub text: String,
}

/// The name only: the text may hold passwords.
impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SourceFile").field(&self.name).finish()
    }
}

/// Kinds of document that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `sluice.dev` Stream
    Stream,
    /// `sluice.dev` LookupTable
    LookupTable,
    /// `sluice.dev` Rule
    Rule,
    /// `sluice.dev` Runtime
    Runtime,
    /// Kubernetes' own
    Secret,
}

impl Kind {
    const OURS: [Kind; 4] = [Kind::Stream, Kind::LookupTable, Kind::Rule, Kind::Runtime];

    /// The kind of ours that `kind:` names.
    pub fn ours(word: &str) -> Option<Kind> {
        Kind::OURS.into_iter().find(|kind| kind.as_str() == word)
    }

    /// The word in `kind:`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Stream => "Stream",
            Kind::LookupTable => "LookupTable",
            Kind::Rule => "Rule",
            Kind::Runtime => "Runtime",
            Kind::Secret => "Secret",
        }
    }
}

/// One document of a kind that is read.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    /// Its file.
    pub file: Arc<SourceFile>,
    /// Its kind.
    pub kind: Kind,
    /// `metadata.name`
    pub name: String,
    /// `metadata.namespace`
    pub namespace: Option<String>,
    /// `metadata.generation`; 0 outside a cluster.
    pub generation: i64,
    /// `metadata.uid`; empty outside a cluster.
    pub uid: String,
    /// The whole document.
    pub node: Node,
}

/// Kind and name only: the fields may hold passwords.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Document").field(&self.resource()).finish()
    }
}

impl Document {
    /// `Rule/demo`
    pub fn resource(&self) -> String {
        format!("{}/{}", self.kind.as_str(), self.name)
    }

    /// An error about the field at `path`, shown on its line. A path that is not there is shown on what is nearest.
    pub fn problem(&self, path: &str, message: impl Into<String>) -> Diagnostic {
        problem(&self.file, &self.node, path, message.into(), self.kind != Kind::Secret).with_resource(self.resource())
    }

    /// An error about the name of the field at `path`, shown on that name.
    pub fn key_problem(&self, path: &str, message: impl Into<String>) -> Diagnostic {
        match self.node.locate(path).key {
            Some(key) => {
                at(&self.file, key, message, self.kind != Kind::Secret).with_path(path).with_resource(self.resource())
            }
            None => self.problem(path, message),
        }
    }
}

/// An error about a place in a file.
pub(super) fn at(file: &SourceFile, span: Span, message: impl Into<String>, excerpt: bool) -> Diagnostic {
    let mut diagnostic = Diagnostic::error(message);
    if file.name.is_empty() {
        return diagnostic;
    }
    diagnostic = diagnostic.in_file(&file.name, span.line, span.column);
    let line = file.text.lines().nth(span.line.saturating_sub(1) as usize);
    if let Some(line) = line.filter(|line| excerpt && !line.trim().is_empty()) {
        let width = if span.end_line == span.line { span.end_column.saturating_sub(span.column) } else { u32::MAX };
        diagnostic.excerpt = Some(Excerpt::new(line, span.column, width));
    }
    diagnostic
}

fn problem(file: &SourceFile, node: &Node, path: &str, message: String, excerpt: bool) -> Diagnostic {
    let located = node.locate(path);
    let about_key = !located.exact || message.starts_with("unknown ") || message.ends_with(" is given twice");
    let short = located.value.line == located.value.end_line && located.value.column < located.value.end_column;
    let span = match located.key {
        Some(key) if about_key || !short => key,
        _ => located.value,
    };
    // A whole map or list has no end worth marking.
    let span = if span.line == span.end_line {
        span
    } else {
        Span { end_line: span.line, end_column: span.column + 1, ..span }
    };
    at(file, span, message, excerpt).with_path(path)
}

/// Sorts a tree into documents of kinds that are read; the items of lists one by one.
pub(super) fn read(
    file: &Arc<SourceFile>,
    node: Node,
    documents: &mut Vec<Document>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let fail = |path: &str, message: String| problem(file, &node, path, message, true);
    let Data::Map(entries) = &node.data else {
        diagnostics.push(fail("", "expected a Kubernetes document: a map with apiVersion, kind and metadata".into()));
        return;
    };
    let text = |path: &[&str]| {
        path.iter().try_fold(&node, |node, step| node.get(step)).and_then(Node::as_str).unwrap_or_default()
    };
    let (api_version, kind, name) = (text(&["apiVersion"]), text(&["kind"]), text(&["metadata", "name"]));
    if kind == "List" || (kind.ends_with("List") && node.get("items").is_some()) {
        if let Some(position) = entries.iter().position(|entry| entry.key == "items") {
            let Data::Map(mut entries) = node.data else { return };
            match entries.swap_remove(position).value.data {
                Data::List(items) => items.into_iter().for_each(|item| read(file, item, documents, diagnostics)),
                Data::Null => {}
                _ => {
                    diagnostics.push(Diagnostic::error("items: expected a list").in_file(&file.name, node.span.line, 1))
                }
            }
        }
        return;
    }
    let ours = Kind::OURS.iter().copied().find(|known| known.as_str() == kind);
    let group = api_version.split('/').next().unwrap_or_default();
    let kind = match (api_version, ours) {
        ("", None) if kind.is_empty() => {
            diagnostics.push(fail("", "expected a Kubernetes document: apiVersion and kind are missing".into()));
            return;
        }
        ("", Some(_)) => {
            diagnostics.push(fail("apiVersion", format!("required, but not given; write {GROUP}/{VERSION}")));
            return;
        }
        (_, Some(kind)) if group == GROUP => {
            if api_version != format!("{GROUP}/{VERSION}") {
                let message = format!("unknown version; this Sluice knows {GROUP}/{VERSION}");
                diagnostics.push(at_value(file, &node, "apiVersion", message));
                return;
            }
            kind
        }
        (_, None) if group == GROUP => {
            let known = Kind::OURS.map(Kind::as_str);
            let hint = match nearest(kind, known) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("known are {}", known.join(", ")),
            };
            diagnostics.push(at_value(file, &node, "kind", format!("unknown kind of {GROUP}, {hint}")));
            return;
        }
        ("v1", None) if kind == "Secret" => Kind::Secret,
        (_, ours) => {
            let mut message = format!("not a document of {GROUP}; skipped");
            if ours.is_some() {
                message = format!("skipped, because its apiVersion is not {GROUP}/{VERSION}");
            }
            let note = Diagnostic::error(message)
                .in_file(&file.name, node.span.line, node.span.column)
                .with_severity(if ours.is_some() { Severity::Warning } else { Severity::Note })
                .with_resource(format!("{kind}/{name}"));
            diagnostics.push(note);
            return;
        }
    };
    if name.is_empty() {
        diagnostics.push(fail("metadata.name", "required, but not given".into()));
        return;
    }
    if !is_object_name(name) {
        let message = "no name for an object: use lower case letters, digits, - and ., at most 253 of them";
        diagnostics.push(at_value(file, &node, "metadata.name", message.into()));
        return;
    }
    let known: &[&str] = match kind {
        Kind::Secret => &["apiVersion", "kind", "metadata", "type", "data", "stringData", "immutable"],
        _ => &["apiVersion", "kind", "metadata", "spec", "status"],
    };
    for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
        let hint = match nearest(&entry.key, known.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("known are {}", known.join(", ")),
        };
        diagnostics.push(
            fail(&entry.key, format!("unknown field, {hint}")).with_resource(format!("{}/{name}", kind.as_str())),
        );
    }
    let namespace = Some(text(&["metadata", "namespace"])).filter(|namespace| !namespace.is_empty());
    let generation = match node.get("metadata").and_then(|metadata| metadata.get("generation")).map(|node| &node.data) {
        Some(Data::Number(generation)) => generation.as_i64().unwrap_or(0),
        _ => 0,
    };
    let (name, namespace) = (name.to_owned(), namespace.map(str::to_owned));
    documents.push(Document { file: Arc::clone(file), kind, name, namespace, generation, uid: String::new(), node });
}

/// About a value that is there, whatever the message begins with.
fn at_value(file: &SourceFile, node: &Node, path: &str, message: String) -> Diagnostic {
    at(file, node.locate(path).value, message, true).with_path(path)
}

/// What Kubernetes takes as a name: a DNS subdomain.
fn is_object_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}
