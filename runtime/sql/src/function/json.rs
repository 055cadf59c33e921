//! JSON text and paths into documents.

use serde_json_path::JsonPath;

use super::NullPolicy::Null;
use super::define::{Kept, arg, array_value, ex, expected, gives, text};
use super::{Body, EvalError, Function, Param, StatefulFunction};
use crate::expr::EvalContext;
use crate::value::{Object, Value, json};

/// The functions of this file.
pub(super) fn functions() -> Vec<Function> {
    use Param::{Any, String, StringLiteral};
    const DOC: &str = r#"{"a":{"x":[{"n":1},{"n":2}],"y":3}}"#;
    vec![
        Function::scalar("to_json", &[Any], gives::string, |args, _| {
            let mut out = Vec::new();
            json::write_value(&sorted(arg(args, 0)), &mut out);
            let text = std::string::String::from_utf8_lossy(&out);
            let mut escaped = std::string::String::with_capacity(text.len());
            for c in text.chars() {
                match c {
                    '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => escaped.push_str(&format!("\\u{:04x}", c as u32)),
                    c => escaped.push(c),
                }
            }
            Ok(Value::string(escaped))
        })
        .null(Null)
        .docs("The value as JSON text that may stand in HTML: members sorted by name, `<`, `>` and `&` escaped.", &[ex!("to_json(a)", r#"{"a":{"y":1.5,"x":[true]}}"#, r#""{\"x\":[true],\"y\":1.5}""#)]),
        Function::scalar("parse_json", &[String], gives::any, |args, _| match arg(args, 0) {
            value if value.is_null() => Ok(Value::Null),
            Value::String(text) => parse(text),
            value => Err(expected("a text", value)),
        })
        .docs(
            "The value that a JSON text stands for.",
            &[ex!("parse_json(a)", r#"{"a":"{\"x\":1}"}"#, r#"{"x":1}"#), ex!("parse_json(a)", r#"{"a":"{"}"#, "error")],
        ),
        Function::new("json_path_query", &[Any, StringLiteral], gives::any, Body::Stateful(|| Query::boxed(query)))
            .check(check)
            .docs(
                "What a JSONPath finds in an object, an array or JSON text: the value of a path that names one, an array for \
                 one with wildcards, slices or filters.",
                &[
                    ex!("json_path_query(a, '$.y')", DOC, "3"),
                    ex!("json_path_query(a, '$.x[*].n')", DOC, "[1,2]"),
                    ex!("json_path_query(a, '$.x[? @.n>1]')", DOC, r#"[{"n":2}]"#),
                    ex!("json_path_query(a, '$.z')", DOC, "error"),
                ],
            ),
        Function::new("json_path_query_first", &[Any, StringLiteral], gives::any, Body::Stateful(|| Query::boxed(first)))
            .check(check)
            .docs(
                "The first element of the array that a JSONPath gives; null if it is empty.",
                &[ex!("json_path_query_first(a, '$.x[*].n')", DOC, "1"), ex!("json_path_query_first(a, '$.y')", DOC, "error")],
            ),
        Function::new("json_path_exists", &[Any, StringLiteral], gives::bool, Body::Stateful(|| Query::boxed(exists)))
            .check(check)
            .docs(
                "True if a JSONPath finds something that is not null.",
                &[ex!("json_path_exists(a, '$.y')", DOC, "true"), ex!("json_path_exists(a, '$.q')", DOC, "false")],
            ),
    ]
}

fn parse(text: &str) -> Result<Value, EvalError> {
    json::parse(text.as_bytes())
        .map_err(|_| EvalError(format!("{} is not JSON", crate::value::coerce::shown(&Value::string(text)))))
}

/// The value with the members of all its objects sorted by name.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(elements) => array_value(elements.iter().map(sorted).collect()),
        value => match value.to_object() {
            Some(object) => {
                let mut members: Vec<_> = object.iter().collect();
                members.sort_unstable_by_key(|(name, _)| *name);
                let members: Object = members.into_iter().map(|(name, value)| (name.clone(), sorted(value))).collect();
                Value::Object(members.into())
            }
            None => value.clone(),
        },
    }
}

fn check(literals: &[Option<Value>]) -> Result<(), String> {
    match literals.get(1) {
        Some(Some(Value::String(path))) => Path::new(path).map(|_| ()),
        _ => Ok(()),
    }
}

/// A path, and whether it names one place.
struct Path {
    path: JsonPath,
    definite: bool,
}

impl Path {
    fn new(text: &str) -> Result<Self, String> {
        let path = JsonPath::parse(text).map_err(|error| format!("{text:?} is no JSONPath: {}", error.message()))?;
        // Wildcards, descents, slices, filters and lists; in a quoted name these mean nothing.
        let mut quote = None;
        let mut before = ' ';
        let mut definite = true;
        for c in text.chars() {
            match (c, quote) {
                (c, Some(open)) if c == open && before != '\\' => quote = None,
                ('\'' | '"', None) => quote = Some(c),
                ('*' | '?' | ':' | ',', None) => definite = false,
                ('.', None) if before == '.' => definite = false,
                _ => {}
            }
            before = c;
        }
        Ok(Path { path, definite })
    }

    fn query(&self, value: &Value) -> Result<Value, EvalError> {
        let document = match value {
            Value::String(text) => serde_json::Value::from(&parse(text)?),
            Value::Array(_) | Value::Object(_) | Value::Raw(_) => serde_json::Value::from(value),
            value => return Err(expected("an object, an array or JSON text", value)),
        };
        let mut found = self.path.query(&document).into_iter().map(Value::from);
        match self.definite {
            true => found.next().ok_or_else(|| EvalError::new("there is nothing at this path")),
            false => Ok(array_value(found.collect())),
        }
    }
}

type Answer = fn(&Path, &Value) -> Result<Value, EvalError>;

/// A function whose second argument is a path, kept from row to row.
struct Query {
    answer: Answer,
    path: Kept<Path>,
}

impl Query {
    fn boxed(answer: Answer) -> Box<dyn StatefulFunction> {
        Box::new(Query { answer, path: Kept::default() })
    }
}

impl StatefulFunction for Query {
    fn eval(&mut self, args: &[Value], _ctx: &mut EvalContext<'_>) -> Result<Value, EvalError> {
        (self.answer)(self.path.get(&text(args, 1), Path::new)?, arg(args, 0))
    }
}

fn query(path: &Path, value: &Value) -> Result<Value, EvalError> {
    path.query(value)
}

fn first(path: &Path, value: &Value) -> Result<Value, EvalError> {
    match path.query(value)? {
        Value::Array(elements) => Ok(elements.first().cloned().unwrap_or(Value::Null)),
        value => Err(expected("an array", &value)),
    }
}

fn exists(path: &Path, value: &Value) -> Result<Value, EvalError> {
    let found = path.query(value).is_ok_and(|found| match found {
        Value::Array(elements) => !elements.is_empty(),
        value => !value.is_null(),
    });
    Ok(Value::Bool(found))
}
