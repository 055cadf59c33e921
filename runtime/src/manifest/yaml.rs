//! YAML text to trees whose every node knows its place. Stricter than YAML where that saves people: no duplicate keys, no
//! unknown tags, bounded depth and size (an alias can make a small file huge).

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};
use sluice_sql::sql::Span;

/// Deepest nesting.
const MAX_DEPTH: usize = 64;
/// Most nodes of a file, after its aliases are expanded.
const MAX_NODES: usize = 500_000;

/// A value with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The value.
    pub data: Data,
    /// Where it stands.
    pub span: Span,
    /// Written without quotes, so that its text decides its type.
    plain: bool,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing.
    Null,
    /// `true`, `false`
    Bool(bool),
    /// Whole or not.
    Number(Number),
    /// Text.
    String(String),
    /// In order.
    List(Vec<Node>),
    /// In order, keys distinct.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key's text.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

/// Why a text is no YAML that we take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// Where.
    pub span: Span,
    /// What.
    pub message: String,
}

/// Where a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// The key of the last step; `None` for an item of a list and for the root.
    pub key: Option<Span>,
    /// The value.
    pub value: Span,
    /// The whole path was there; if not, this is the nearest node on the way.
    pub exact: bool,
}

/// The documents of a text, empty ones left out.
///
/// # Errors
/// The first thing that is no YAML.
pub fn parse(text: &str) -> Result<Vec<Node>, YamlError> {
    let mut loader = Loader::default();
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => loader.event(event, convert(span.start, span.end))?,
            Err(error) => {
                return Err(YamlError {
                    span: convert(*error.marker(), *error.marker()),
                    message: format!("not valid YAML: {}", error.info()),
                });
            }
        }
    }
    Ok(loader.documents)
}

impl Node {
    /// A value that was never YAML: it has no places.
    pub fn from_json(value: Value) -> Self {
        let span = Span { line: 0, column: 0, end_line: 0, end_column: 0 };
        let data = match value {
            Value::Null => Data::Null,
            Value::Bool(value) => Data::Bool(value),
            Value::Number(value) => Data::Number(value),
            Value::String(value) => Data::String(value),
            Value::Array(list) => Data::List(list.into_iter().map(Node::from_json).collect()),
            Value::Object(map) => Data::Map(
                map.into_iter()
                    .map(|(key, value)| Entry { key, key_span: span, value: Node::from_json(value) })
                    .collect(),
            ),
        };
        Node { data, span, plain: false }
    }

    /// The member of that name.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The entry of that name.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.data {
            Data::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The text.
    pub fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::String(text) => Some(text),
            _ => None,
        }
    }

    /// The same without places.
    pub fn to_json(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(value) => Value::Bool(*value),
            Data::Number(value) => Value::Number(value.clone()),
            Data::String(value) => Value::String(value.clone()),
            Data::List(list) => Value::Array(list.iter().map(Node::to_json).collect()),
            Data::Map(entries) => Value::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// Follows a path such as `spec.sinks[0].mqtt.tls.caFile`. Keys may hold dots themselves; options match without case.
    pub fn locate(&self, path: &str) -> Located {
        let mut best = Located { key: None, value: self.span, exact: path.is_empty() };
        self.walk(path, best, &mut best, &mut 0, 0);
        best
    }

    fn walk(&self, path: &str, here: Located, best: &mut Located, best_depth: &mut usize, depth: usize) {
        if best.exact {
            return;
        }
        if depth > *best_depth || path.is_empty() {
            (*best, *best_depth) = (Located { exact: path.is_empty(), ..here }, depth);
        }
        match &self.data {
            Data::Map(entries) => {
                for entry in entries {
                    let rest = path
                        .get(..entry.key.len())
                        .filter(|start| start.eq_ignore_ascii_case(&entry.key))
                        .and_then(|_| path.get(entry.key.len()..));
                    let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with(['.', '['])) else {
                        continue;
                    };
                    let here = Located { key: Some(entry.key_span), value: entry.value.span, exact: false };
                    entry.value.walk(rest.trim_start_matches('.'), here, best, best_depth, depth + 1);
                }
            }
            Data::List(list) => {
                let step = path.strip_prefix('[').and_then(|rest| rest.split_once(']'));
                if let Some((item, rest)) = step
                    && let Some(node) = item.parse::<usize>().ok().and_then(|item_idx| list.get(item_idx))
                {
                    let here = Located { key: None, value: node.span, exact: false };
                    node.walk(rest.trim_start_matches('.'), here, best, best_depth, depth + 1);
                }
            }
            _ => {}
        }
    }

    /// Replaces each text by what `change` makes of it; a text without quotes gets its type anew.
    /// Errors of `change` are added to `errors` with the path of the text.
    pub fn map_texts(
        &mut self,
        change: &dyn Fn(&str) -> Result<Option<String>, String>,
        path: &str,
        errors: &mut Vec<(String, String)>,
    ) {
        match &mut self.data {
            Data::String(text) => match change(text) {
                Ok(Some(changed)) => self.data = if self.plain { resolve(&changed) } else { Data::String(changed) },
                Ok(None) => {}
                Err(message) => errors.push((path.to_owned(), message)),
            },
            Data::List(list) => {
                for (item_idx, node) in list.iter_mut().enumerate() {
                    node.map_texts(change, &format!("{path}[{item_idx}]"), errors);
                }
            }
            Data::Map(entries) => {
                for entry in entries {
                    let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
                    entry.value.map_texts(change, &path, errors);
                }
            }
            _ => {}
        }
    }
}

#[derive(Default)]
struct Loader {
    documents: Vec<Node>,
    /// Lists and maps that are not closed yet.
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, usize)>,
    n_nodes: usize,
}

struct Open {
    node: Node,
    anchor: usize,
    /// A map's key that waits for its value.
    key: Option<(String, Span)>,
    /// Nodes before this one.
    n_before: usize,
}

impl Loader {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        match event {
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let core = tag.as_ref().filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str());
                let text = text.into_owned();
                let data = match (&tag, core) {
                    (None, _) if plain => resolve(&text),
                    (None, _) | (Some(_), Some("str")) => Data::String(text.clone()),
                    (Some(_), Some("int" | "float" | "bool" | "null")) => resolve(&text),
                    (Some(tag), _) => return Err(self.bad_tag(&tag.handle, &tag.suffix, span)),
                };
                let key = self.open.last().is_some_and(|open| open.awaits_key());
                if key {
                    // A key is its text, also where that looks like a number; nothing is no key.
                    return match data {
                        Data::Null => Err(YamlError { span, message: "a key is empty".into() }),
                        _ => self.key(text, span),
                    };
                }
                self.value(Node { data, span, plain }, anchor, 1)
            }
            Event::SequenceStart(_, tag) | Event::MappingStart(_, tag)
                if tag.as_ref().is_some_and(|tag| !tag.is_yaml_core_schema()) =>
            {
                let (handle, suffix) = tag.map(|tag| (tag.handle.clone(), tag.suffix.clone())).unwrap_or_default();
                Err(self.bad_tag(&handle, &suffix, span))
            }
            Event::SequenceStart(anchor, _) => self.start(Data::List(Vec::new()), anchor, span),
            Event::MappingStart(anchor, _) => self.start(Data::Map(Vec::new()), anchor, span),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(mut open) = self.open.pop() else { return Ok(()) };
                open.node.span = Span { line: open.node.span.line, column: open.node.span.column, ..span };
                if let Data::Map(entries) = &mut open.node.data {
                    merge_keys(entries)?;
                }
                let n_nodes = self.n_nodes - open.n_before;
                self.value(open.node, open.anchor, n_nodes)
            }
            Event::Alias(id) => {
                if self.open.last().is_some_and(|open| open.awaits_key()) {
                    return Err(YamlError { span, message: "an alias can't be a key".into() });
                }
                let Some((node, n_nodes)) = self.anchors.get(&id).cloned() else {
                    return Err(YamlError { span, message: "the alias refers to itself".into() });
                };
                self.count(n_nodes, span)?;
                self.value(node, 0, 0)
            }
            Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => Ok(()),
        }
    }

    fn start(&mut self, data: Data, anchor: usize, span: Span) -> Result<(), YamlError> {
        if self.open.last().is_some_and(|open| open.awaits_key()) {
            return Err(YamlError { span, message: "a key must be text; a list or map can't be one".into() });
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(YamlError { span, message: format!("nested deeper than {MAX_DEPTH} levels") });
        }
        let n_before = self.n_nodes;
        self.count(1, span)?;
        self.open.push(Open { node: Node { data, span, plain: false }, anchor, key: None, n_before });
        Ok(())
    }

    fn key(&mut self, key: String, span: Span) -> Result<(), YamlError> {
        self.count(1, span)?;
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        if let Data::Map(entries) = &open.node.data
            && let Some(first) = entries.iter().find(|entry| entry.key == key)
        {
            let message = format!("\"{key}\" is given twice, first in line {}", first.key_span.line);
            return Err(YamlError { span, message });
        }
        open.key = Some((key, span));
        Ok(())
    }

    fn value(&mut self, node: Node, anchor: usize, n_nodes: usize) -> Result<(), YamlError> {
        if !matches!(node.data, Data::List(_) | Data::Map(_)) {
            self.count(n_nodes, node.span)?;
        }
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), n_nodes.max(1)));
        }
        match self.open.last_mut() {
            None if node.data == Data::Null => {}
            None => self.documents.push(node),
            Some(open) => match (&mut open.node.data, open.key.take()) {
                (Data::List(list), _) => list.push(node),
                (Data::Map(entries), Some((key, key_span))) => entries.push(Entry { key, key_span, value: node }),
                _ => {}
            },
        }
        Ok(())
    }

    fn count(&mut self, n_nodes: usize, span: Span) -> Result<(), YamlError> {
        self.n_nodes += n_nodes;
        if self.n_nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} values, aliases expanded");
            return Err(YamlError { span, message });
        }
        Ok(())
    }

    fn bad_tag(&self, handle: &str, suffix: &str, span: Span) -> YamlError {
        YamlError { span, message: format!("the tag {handle}{suffix} has no meaning here; remove it") }
    }
}

impl Open {
    fn awaits_key(&self) -> bool {
        matches!(self.node.data, Data::Map(_)) && self.key.is_none()
    }
}

/// `<<: *base` takes over the entries of the map `base` that are not given beside it.
fn merge_keys(entries: &mut Vec<Entry>) -> Result<(), YamlError> {
    let Some(at) = entries.iter().position(|entry| entry.key == "<<") else { return Ok(()) };
    let merge = entries.remove(at);
    let bases = match merge.value.data {
        Data::Map(base) => vec![base],
        Data::List(list) => list
            .into_iter()
            .map(|node| match node.data {
                Data::Map(base) => Ok(base),
                _ => Err(()),
            })
            .collect::<Result<_, _>>()
            .map_err(|()| not_mergeable(merge.key_span))?,
        _ => return Err(not_mergeable(merge.key_span)),
    };
    for entry in bases.into_iter().flatten() {
        if entries.iter().all(|own| own.key != entry.key) {
            entries.push(entry);
        }
    }
    Ok(())
}

fn not_mergeable(span: Span) -> YamlError {
    YamlError { span, message: "<< takes a map, or a list of maps".into() }
}

/// A text without quotes, by the rules of YAML 1.2's core schema. `.inf` and `.nan` stay text: JSON has no such numbers.
fn resolve(text: &str) -> Data {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Data::Null,
        "true" | "True" | "TRUE" => return Data::Bool(true),
        "false" | "False" | "FALSE" => return Data::Bool(false),
        _ => {}
    }
    let digits = text.trim_start_matches(['+', '-']);
    let whole = match digits.get(..2) {
        Some("0x") => i64::from_str_radix(digits.get(2..).unwrap_or_default(), 16).ok().map(Number::from),
        Some("0o") => i64::from_str_radix(digits.get(2..).unwrap_or_default(), 8).ok().map(Number::from),
        _ => text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from)).ok(),
    };
    let looks_numeric = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    whole
        .or_else(|| looks_numeric.then(|| text.parse::<f64>().ok().and_then(Number::from_f64)).flatten())
        .map_or_else(|| Data::String(text.to_owned()), Data::Number)
}

fn convert(start: Marker, end: Marker) -> Span {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Span {
        line: number(start.line()),
        column: number(start.col() + 1),
        end_line: number(end.line()),
        end_column: number(end.col() + 1),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(text: &str) -> Value {
        let documents = parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        assert_eq!(documents.len(), 1, "{text}");
        documents[0].to_json()
    }

    #[test]
    fn values_have_the_types_of_yaml_1_2() {
        for (text, value) in [
            ("a: 1", json!({"a": 1})),
            (
                "[1, -2, 0x1f, 0o17, 1.5, 1e3, .5, 18446744073709551615]",
                json!([1, -2, 31, 15, 1.5, 1000.0, 0.5, u64::MAX]),
            ),
            (
                "[yes, no, on, 1.2.3, 12:30, '1', \"true\", .inf, 1_000]",
                json!(["yes", "no", "on", "1.2.3", "12:30", "1", "true", ".inf", "1_000"]),
            ),
            ("[true, False, null, ~, '']", json!([true, false, null, null, ""])),
            ("{1: a, true: b}", json!({"1": "a", "true": "b"})),
            ("a: |\n  x\n   y\nb: >-\n  x\n  y\n", json!({"a": "x\n y\n", "b": "x y"})),
            (
                "a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: *x",
                json!({"a": {"b": 1, "c": 2}, "d": {"c": 3, "b": 1}, "e": {"b": 1, "c": 2}}),
            ),
            ("!!str 12", json!("12")),
            ("{\"json\": [1, {\"too\": null}]}", json!({"json": [1, {"too": null}]})),
        ] {
            assert_eq!(one(text), value, "{text}");
        }
    }

    #[test]
    fn documents_are_parted_and_empty_ones_left_out() {
        let documents = parse("---\na: 1\n---\n# nothing\n---\nb: 2\n...\n").unwrap();
        assert_eq!(documents.iter().map(Node::to_json).collect::<Vec<_>>(), [json!({"a": 1}), json!({"b": 2})]);
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("# only a comment").unwrap(), []);
    }

    #[test]
    fn traps_are_refused_with_their_place() {
        let bomb = format!(
            "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n{}",
            (1..10)
                .map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", ")))
                .collect::<String>()
        );
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        for (text, line, column, message) in [
            ("a: 1\nb: 2\na: 3", 3, 1, "\"a\" is given twice, first in line 1"),
            ("a: [1", 1, 6, ""),
            ("a:\n\tb: 1", 2, 1, ""),
            ("a: !vault x", 1, 4, "the tag !vault has no meaning here; remove it"),
            ("a: !x {b: 1}", 1, 4, "the tag !x has no meaning here; remove it"),
            ("? [a]\n: b", 1, 3, "a key must be text; a list or map can't be one"),
            ("a: &a [*a]", 1, 8, "the alias refers to itself"),
            ("a: *b", 1, 4, ""),
            ("<<: 1", 1, 1, "<< takes a map, or a list of maps"),
            (&bomb, 6, 25, "more than 500000 values, aliases expanded"),
            (&deep, 1, 65, "nested deeper than 64 levels"),
        ] {
            let error = parse(text).expect_err(text);
            if !message.is_empty() {
                assert_eq!(
                    (error.span.line, error.span.column, error.message.as_str()),
                    (line, column, message),
                    "{text}"
                );
            } else {
                assert!(error.message.starts_with("not valid YAML: "), "{text}: {error:?}");
            }
        }
    }

    #[test]
    fn paths_lead_to_places() {
        let node = &parse("spec:\n  options:\n    tls: {caFile: x}\n    a.b: 1\n  sinks:\n  - mqtt:\n      qos: 5\n")
            .unwrap()[0];
        for (path, line, column, exact) in [
            ("spec.options.tls.caFile", 3, 11, true),
            ("spec.options.TLS.cafile", 3, 11, true),
            ("spec.options.a.b", 4, 5, true),
            ("spec.sinks[0].mqtt.qos", 7, 7, true),
            ("spec.sinks[0].mqtt.topic", 6, 5, false),
            ("spec.nothing", 1, 1, false),
        ] {
            let located = node.locate(path);
            let key = located.key.unwrap();
            assert_eq!((key.line, key.column, located.exact), (line, column, exact), "{path}");
        }
        assert_eq!(node.locate("other").key, None);
    }

    #[test]
    fn texts_are_changed_and_typed_anew() {
        let mut node = parse("a: $x\nb: '$x'\nc: [$x, $bad]").unwrap().remove(0);
        let mut errors = Vec::new();
        let change = |text: &str| match text {
            "$x" => Ok(Some("5".to_owned())),
            "$bad" => Err("bad".to_owned()),
            _ => Ok(None),
        };
        node.map_texts(&change, "", &mut errors);
        assert_eq!(node.to_json(), json!({"a": 5, "b": "5", "c": [5, "$bad"]}));
        assert_eq!(errors, [("c[1]".to_owned(), "bad".to_owned())]);
    }
}
