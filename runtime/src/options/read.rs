//! Checks a value against a type's JSON schema, brings it into the shape that the type's `Deserialize` takes, and deserializes
//! it.
//!
//! Serde alone stops at the first mistake, quotes the wrong value (which may be a password) and knows no near names.

use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};
use sluice_sql::sql::nearest;

use super::{schema_of, typed};
use crate::error::{ConfigError, ConfigProblem};

/// `format` of [`super::HumanDuration`] in a schema.
pub(super) const DURATION: &str = "sluice-duration";

/// A schema that refers to itself is cut off here.
const MAX_DEPTH: usize = 32;

/// How forgiving the reader is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Options of a connector: names match without case, numbers and booleans may come as text.
    Options,
    /// Fields of a resource: as the API server takes them.
    Fields,
}

/// Reads a connector's options.
pub(super) fn parse<T: DeserializeOwned + JsonSchema>(options: &Map<String, Value>) -> Result<T, ConfigError> {
    read(options, Mode::Options)
}

/// Reads the fields of a resource, as strictly as the API server: names with case, no other types, bounds and patterns kept.
///
/// # Errors
/// Every field that does not fit.
pub fn fields<T: DeserializeOwned + JsonSchema>(fields: &Map<String, Value>) -> Result<T, ConfigError> {
    read(fields, Mode::Fields)
}

fn read<T: DeserializeOwned + JsonSchema>(map: &Map<String, Value>, mode: Mode) -> Result<T, ConfigError> {
    let aliases = if mode == Mode::Options { typed::field_names::<T>() } else { &[] };
    let value = fitted(&schema_of::<T>(), aliases, map, mode)?;
    typed::read(&value).map_err(|problem| ConfigError::new(problem.path, without_values(&problem.message)))
}

/// The map in the shape that the type's `Deserialize` takes.
fn fitted(
    schema: &Schema,
    aliases: &'static [&'static str],
    map: &Map<String, Value>,
    mode: Mode,
) -> Result<Value, ConfigError> {
    let mut reader = Reader { root: schema.as_value(), mode, aliases, problems: Vec::new() };
    let value = reader.object(schema.as_value(), map, "", 0);
    if reader.problems.is_empty() { Ok(value) } else { Err(ConfigError { problems: reader.problems }) }
}

/// The names of a config type's options, aliases included.
pub(super) fn names(schema: &Schema) -> Vec<String> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Vec::new() };
    properties
        .iter()
        .flat_map(|(name, property)| std::iter::once(name.as_str()).chain(aliases(property)))
        .map(str::to_owned)
        .collect()
}

struct Reader<'a> {
    /// The schema's document, which holds the definitions that others refer to.
    root: &'a Value,
    mode: Mode,
    /// Names that the top type's `Deserialize` knows, aliases included.
    aliases: &'static [&'static str],
    problems: Vec<ConfigProblem>,
}

impl<'a> Reader<'a> {
    fn problem(&mut self, path: &str, message: impl Into<String>) {
        self.problems.push(ConfigProblem { path: path.to_owned(), message: message.into() });
    }

    /// The value in the shape that serde takes. What does not fit is reported and left as it is.
    fn value(&mut self, schema: &'a Value, value: &Value, path: &str, depth: usize) -> Value {
        let schema = self.resolve(schema);
        if depth > MAX_DEPTH {
            self.problem(path, "nested too deep");
            return value.clone();
        }
        if let Some(choices) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
            return self.choice(choices, value, path, depth);
        }
        if schema.get("format").and_then(Value::as_str) == Some(DURATION) {
            return self.duration(value, path);
        }
        if let Some(words) = words(schema) {
            return self.word(&words, value, path);
        }
        let types = types(schema);
        let nullable = types.contains(&"null") || schema.get("nullable") == Some(&Value::Bool(true));
        if types.is_empty() || (value.is_null() && nullable) {
            return value.clone();
        }
        let lenient = self.mode == Mode::Options;
        for ty in &types {
            let fitting = match (*ty, value) {
                ("boolean", Value::Bool(_)) | ("string", Value::String(_)) => Some(value.clone()),
                ("boolean", Value::String(text)) if lenient => match text.as_str() {
                    "true" => Some(Value::Bool(true)),
                    "false" => Some(Value::Bool(false)),
                    _ => None,
                },
                ("integer", Value::Number(n)) => integer(n).map(Value::Number),
                ("integer", Value::String(text)) if lenient => text.parse::<i64>().ok().map(Value::from),
                ("number", Value::Number(_)) => Some(value.clone()),
                ("number", Value::String(text)) if lenient => {
                    text.parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number)
                }
                ("object", Value::Object(map)) => return self.object(schema, map, path, depth),
                ("array", Value::Array(list)) => return self.list(schema, list, path, depth),
                _ => None,
            };
            if let Some(fitting) = fitting {
                match &fitting {
                    Value::Number(n) if !in_range(schema, n) => {
                        self.problem(path, format!("expected {}", describe(schema)));
                    }
                    Value::String(text) => self.text(schema, text, path),
                    _ => {}
                }
                return fitting;
            }
        }
        self.mismatch(schema, value, path);
        value.clone()
    }

    fn object(&mut self, schema: &'a Value, map: &Map<String, Value>, path: &str, depth: usize) -> Value {
        let schema = self.resolve(schema);
        let empty = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object);
        let rest = schema.get("additionalProperties").filter(|rest| **rest != Value::Bool(false));
        let mut out = Map::with_capacity(map.len());
        for (key, value) in map {
            let path = join(path, key);
            let known = properties.into_iter().flatten().find(|(name, _)| *name == key).or_else(|| {
                properties.into_iter().flatten().filter(|_| self.mode == Mode::Options).find(|(name, property)| {
                    name.eq_ignore_ascii_case(key) || aliases(property).any(|alias| alias.eq_ignore_ascii_case(key))
                })
            });
            let alias = || self.aliases.iter().find(|alias| depth == 0 && alias.eq_ignore_ascii_case(key));
            if let Some((name, property)) = known {
                let fitting = match value {
                    // An empty entry of a YAML file: as if it were not there.
                    Value::Null => continue,
                    value => self.value(property, value, &path, depth + 1),
                };
                if out.insert(name.clone(), fitting).is_some() {
                    self.problem(&path, format!("\"{name}\" is given twice"));
                }
            } else if let Some(alias) = alias() {
                if !value.is_null() {
                    out.insert((*alias).to_owned(), value.clone());
                }
            } else if let Some(rest) = rest {
                let fitting = self.value(rest, value, &path, depth + 1);
                out.insert(key.clone(), fitting);
            } else if properties.is_some() || schema.get("additionalProperties").is_some() {
                let known: Vec<&str> = properties.unwrap_or(&empty).keys().map(String::as_str).collect();
                let what = if self.mode == Mode::Options { "option" } else { "field" };
                self.problem(&path, unknown(what, key, &known));
            } else {
                out.insert(key.clone(), value.clone());
            }
        }
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            let wrong = self.problems.iter().any(|problem| problem.path.eq_ignore_ascii_case(&join(path, name)));
            if !out.contains_key(name) && !wrong {
                self.problem(&join(path, name), "required, but not given");
            }
        }
        Value::Object(out)
    }

    fn list(&mut self, schema: &'a Value, list: &[Value], path: &str, depth: usize) -> Value {
        let bound = |name: &str| schema.get(name).and_then(Value::as_u64);
        if bound("minItems").is_some_and(|min| (list.len() as u64) < min) {
            self.problem(path, "the list is empty");
        }
        if let Some(max) = bound("maxItems").filter(|max| list.len() as u64 > *max) {
            self.problem(path, format!("the list has more than {max} entries"));
        }
        let Some(items) = schema.get("items") else { return Value::Array(list.to_vec()) };
        let fitting = list
            .iter()
            .enumerate()
            .map(|(item_idx, item)| self.value(items, item, &format!("{path}[{item_idx}]"), depth + 1))
            .collect();
        Value::Array(fitting)
    }

    /// Bounds and pattern of a text.
    fn text(&mut self, schema: &Value, text: &str, path: &str) {
        let bound = |name: &str| schema.get(name).and_then(Value::as_u64);
        let n_chars = text.chars().count() as u64;
        let pattern = schema.get("pattern").and_then(Value::as_str);
        if pattern == Some(sluice_crds::Duration::PATTERN) {
            if let Err(error) = text.parse::<sluice_crds::Duration>() {
                self.problem(path, error.to_string());
            }
        } else if bound("minLength").is_some_and(|min| n_chars < min) {
            self.problem(path, "the text is empty");
        } else if let Some(max) = bound("maxLength").filter(|max| n_chars > *max) {
            self.problem(path, format!("the text has more than {max} characters"));
        } else if let Some(pattern) = pattern
            && regex::Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text))
        {
            self.problem(path, format!("the text does not match {pattern}"));
        }
    }

    /// `anyOf`, `oneOf`: the first that fits. If none does, the one that was probably meant tells what is wrong.
    fn choice(&mut self, choices: &'a [Value], value: &Value, path: &str, depth: usize) -> Value {
        let choices: Vec<&'a Value> = choices.iter().map(|choice| self.resolve(choice)).collect();
        let real: Vec<&'a Value> = choices.iter().copied().filter(|choice| types(choice) != ["null"]).collect();
        if value.is_null() && real.len() < choices.len() {
            return Value::Null;
        }
        if let [only] = real.as_slice() {
            return self.value(only, value, path, depth + 1);
        }
        let lists: Option<Vec<Vec<&str>>> = real.iter().map(|choice| words(choice)).collect();
        if let Some(lists) = lists {
            return self.word(&lists.concat(), value, path);
        }
        let mut nearest: Option<(bool, Vec<ConfigProblem>)> = None;
        for choice in &real {
            let before = std::mem::take(&mut self.problems);
            let fitting = self.value(choice, value, path, depth + 1);
            let problems = std::mem::replace(&mut self.problems, before);
            if problems.is_empty() {
                return fitting;
            }
            // Wrong deeper inside: this is the branch that was meant. One that shares a name with the value comes first, then
            // the one with the fewest mistakes.
            let rank = (!shares_name(choice, value), problems.len());
            if problems.iter().all(|problem| problem.path != path)
                && nearest.as_ref().is_none_or(|(strange, problems)| rank < (*strange, problems.len()))
            {
                nearest = Some((rank.0, problems));
            }
        }
        let tags: Option<Vec<&str>> = real.iter().map(|choice| tag(choice)).collect();
        match (nearest, tags, value) {
            (Some((false, problems)), ..) => self.problems.extend(problems),
            (_, Some(tags), Value::Object(map)) => match map.keys().next() {
                Some(key) => self.problem(&join(path, key), unknown("option", key, &tags)),
                None => self.problem(path, format!("expected a map with one of {}", quoted(&tags))),
            },
            (Some((_, problems)), ..) => self.problems.extend(problems),
            (None, ..) => {
                let expected: Vec<String> = real.iter().map(|choice| describe(choice)).collect();
                self.problem(path, format!("expected {}, found {}", expected.join(" or "), kind(value)));
            }
        }
        value.clone()
    }

    fn word(&mut self, words: &[&str], value: &Value, path: &str) -> Value {
        // YAML reads some words as other things: a version `5`, a bare `true`.
        let lenient = self.mode == Mode::Options;
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(n) if lenient => n.to_string(),
            Value::Bool(word) if lenient => word.to_string(),
            _ => {
                self.problem(path, format!("expected one of {}, found {}", quoted(words), kind(value)));
                return value.clone();
            }
        };
        let found = words.iter().find(|word| **word == text);
        match found.or_else(|| words.iter().find(|word| lenient && word.eq_ignore_ascii_case(&text))) {
            Some(word) => Value::from(*word),
            None => {
                let near = nearest(&text, words.iter().copied());
                let hint = near.map(|near| format!(", did you mean \"{near}\"?")).unwrap_or_default();
                self.problem(path, format!("expected one of {}{hint}", quoted(words)));
                value.clone()
            }
        }
    }

    fn duration(&mut self, value: &Value, path: &str) -> Value {
        match value {
            Value::String(text) => {
                if let Err(error) = text.parse::<sluice_crds::Duration>() {
                    self.problem(path, error.to_string());
                }
            }
            Value::Number(n) if n.is_u64() => {}
            Value::Number(n) if n.is_i64() => self.problem(path, "a duration can't be negative"),
            _ => self.problem(
                path,
                format!(
                    "expected a duration such as 500ms, 10s or 1h30m, or whole milliseconds, found {}",
                    kind(value)
                ),
            ),
        }
        value.clone()
    }

    fn mismatch(&mut self, schema: &Value, value: &Value, path: &str) {
        if schema.get("pattern").and_then(Value::as_str) == Some(sluice_crds::Duration::PATTERN) {
            let message = format!("expected a duration such as 500ms, 10s or 1h30m, found {}", kind(value));
            return self.problem(path, message);
        }
        let quote = types(schema).contains(&"string") && matches!(value, Value::Number(_) | Value::Bool(_));
        let hint = if quote { "; put it in quotes" } else { "" };
        self.problem(path, format!("expected {}, found {}{hint}", describe(schema), kind(value)));
    }

    /// Follows `$ref`, and `allOf` with one member.
    fn resolve(&self, mut schema: &'a Value) -> &'a Value {
        for _ in 0..MAX_DEPTH {
            let target = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#'));
            schema = match (target, schema.get("allOf").and_then(Value::as_array).map(Vec::as_slice)) {
                (Some(pointer), _) => match self.root.pointer(pointer) {
                    Some(schema) => schema,
                    None => return schema,
                },
                (None, Some([only])) => only,
                _ => return schema,
            };
        }
        schema
    }
}

/// `unknown option`, with the nearest known name or the list of all.
fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let short = || {
        known.iter().copied().find(|known| name.len() >= 4 && known.to_lowercase().starts_with(&name.to_lowercase()))
    };
    match nearest(name, known.iter().copied()).or_else(short) {
        Some(near) => format!("unknown {what}, did you mean \"{near}\"?"),
        None if known.is_empty() => format!("unknown {what}; there are none here"),
        None => format!("unknown {what}; known are {}", known.join(", ")),
    }
}

/// Some name of the value is one of the branch's, and where the branch fixes a member's value, it is this one.
fn shares_name(branch: &Value, value: &Value) -> bool {
    let (Some(properties), Some(map)) = (branch.get("properties").and_then(Value::as_object), value.as_object()) else {
        return false;
    };
    let known =
        |key: &str| properties.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, schema)| schema);
    map.keys().any(|key| known(key).is_some())
        && map
            .iter()
            .all(|(key, value)| known(key).and_then(|schema| schema.get("const")).is_none_or(|word| word == value))
}

/// The one name of a branch that is told by its name.
fn tag(branch: &Value) -> Option<&str> {
    let properties = branch.get("properties")?.as_object()?;
    let required = branch.get("required")?.as_array()?;
    properties.keys().next().map(String::as_str).filter(|_| properties.len() == 1 && required.len() == 1)
}

/// The words that an `enum` or `const` allows.
fn words(schema: &Value) -> Option<Vec<&str>> {
    if let Some(word) = schema.get("const") {
        return word.as_str().map(|word| vec![word]);
    }
    schema.get("enum")?.as_array()?.iter().filter(|word| !word.is_null()).map(Value::as_str).collect()
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(ty)) => vec![ty],
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn aliases(property: &Value) -> impl Iterator<Item = &str> {
    let alias = property.get("x-alias");
    let list = alias.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    alias.and_then(Value::as_str).into_iter().chain(list.iter().filter_map(Value::as_str))
}

/// `1.0` counts as a whole number.
fn integer(n: &Number) -> Option<Number> {
    match n.as_f64() {
        _ if n.is_i64() || n.is_u64() => Some(n.clone()),
        Some(float) if float.fract() == 0.0 && float.abs() < 9e15 => Some(Number::from(float as i64)),
        _ => None,
    }
}

fn bounds(schema: &Value) -> (Option<f64>, Option<f64>) {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let (low, high) = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => (Some(0.0), Some(f64::from(u8::MAX))),
        Some("uint16") => (Some(0.0), Some(f64::from(u16::MAX))),
        Some("uint32") => (Some(0.0), Some(f64::from(u32::MAX))),
        Some("int8") => (Some(f64::from(i8::MIN)), Some(f64::from(i8::MAX))),
        Some("int16") => (Some(f64::from(i16::MIN)), Some(f64::from(i16::MAX))),
        Some("int32") => (Some(f64::from(i32::MIN)), Some(f64::from(i32::MAX))),
        Some("uint64" | "uint") => (Some(0.0), None),
        _ => (None, None),
    };
    (bound("minimum").or(low), bound("maximum").or(high))
}

fn in_range(schema: &Value, n: &Number) -> bool {
    let (low, high) = bounds(schema);
    n.as_f64().is_none_or(|n| low.is_none_or(|low| n >= low) && high.is_none_or(|high| n <= high))
}

/// What the schema takes, in words.
fn describe(schema: &Value) -> String {
    if let Some(words) = words(schema) {
        return format!("one of {}", quoted(&words));
    }
    let described: Vec<String> = types(schema)
        .into_iter()
        .filter(|ty| *ty != "null")
        .map(|ty| match ty {
            "boolean" => "true or false".to_owned(),
            "string" => "text".to_owned(),
            "object" => "a map".to_owned(),
            "array" => "a list".to_owned(),
            "integer" | "number" => {
                let what = if ty == "integer" { "a whole number" } else { "a number" };
                match bounds(schema) {
                    (Some(low), Some(high)) => format!("{what} from {low} to {high}"),
                    (Some(low), None) => format!("{what} from {low} up"),
                    (None, Some(high)) => format!("{what} up to {high}"),
                    (None, None) => what.to_owned(),
                }
            }
            other => other.to_owned(),
        })
        .collect();
    if described.is_empty() { "another value".to_owned() } else { described.join(" or ") }
}

/// What kind of value it is; never the value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Serde's own messages quote the value, which may be a password; what was expected is at their end.
fn without_values(message: &str) -> String {
    let generic = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "];
    match message.rsplit_once(", expected ") {
        Some((_, expected)) if generic.iter().any(|start| message.starts_with(start)) => format!("expected {expected}"),
        _ => message.to_owned(),
    }
}
