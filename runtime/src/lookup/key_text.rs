//! Keys as text, for tables whose keys have no types: Redis keys, URLs.

use sluice_sql::Value;
use sluice_sql::operators::LookupKey;
use smol_str::SmolStr;

use crate::error::ConfigError;
use crate::format::json_encoder::write_value;

/// Text with key columns in it: `site:{{.id}}`.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyTemplate(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    /// Which of the key's values.
    Value(usize),
}

impl KeyTemplate {
    /// Reads a template and checks that each key column stands in it, and nothing else.
    ///
    /// # Errors
    /// What is wrong with it; `option` is where it was written.
    pub fn parse(option: &str, text: &str, key_columns: &[SmolStr]) -> Result<Self, ConfigError> {
        let fail = |message: String| Err(ConfigError::new(option, message));
        let known = || key_columns.iter().map(|column| format!("{{{{.{column}}}}}")).collect::<Vec<_>>().join(", ");
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, from)) = rest.split_once("{{") {
            let Some((action, after)) = from.split_once("}}") else {
                return fail("`{{` without `}}`".to_owned());
            };
            let Some(name) = action.trim().strip_prefix('.') else {
                return fail(format!("only key columns can stand in it: {}", known()));
            };
            let Some(place) = key_columns.iter().position(|column| column == name) else {
                return fail(format!("{name} is no key column of the join; known: {}", known()));
            };
            parts.extend([Part::Text(before.to_owned()), Part::Value(place)]);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        let unused = (0..key_columns.len()).find(|place| !parts.contains(&Part::Value(*place)));
        if let Some(column) = unused.and_then(|place| key_columns.get(place)) {
            return fail(format!("the join asks by {column}, so {{{{.{column}}}}} must stand in it"));
        }
        Ok(KeyTemplate(parts))
    }

    /// The text for a key, each value passed through `escape`.
    pub fn render(&self, key: &LookupKey, escape: impl Fn(&str, &mut String)) -> String {
        let mut out = String::new();
        let mut scratch = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value(place) => {
                    scratch.clear();
                    match key.0.get(*place) {
                        Some(Value::String(text)) => escape(text, &mut out),
                        Some(value) => {
                            write_text(value, &mut scratch);
                            escape(&String::from_utf8_lossy(&scratch), &mut out);
                        }
                        None => {}
                    }
                }
            }
        }
        out
    }
}

/// Whole numbers without point or exponent, whatever their kind; bytes as text; else as in JSON, without quotes.
fn write_text(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 1e18 => {
            out.extend_from_slice((*number as i64).to_string().as_bytes());
        }
        Value::Bytes(bytes) => out.extend_from_slice(bytes),
        Value::Datetime(zoned) => out.extend_from_slice(zoned.timestamp().to_string().as_bytes()),
        other => write_value(other, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, columns: &[&str], values: &[Value]) -> Result<String, String> {
        let columns: Vec<SmolStr> = columns.iter().map(|column| SmolStr::from(*column)).collect();
        let template = KeyTemplate::parse("key", template, &columns).map_err(|error| error.to_string())?;
        Ok(template.render(&LookupKey(values.into()), |text, out| out.push_str(text)))
    }

    #[test]
    fn numbers_are_plain() {
        for (value, expected) in [
            (Value::Int(5), "5"),
            (Value::Float(5.0), "5"),
            (Value::Float(1e6), "1000000"),
            (Value::Float(0.1), "0.1"),
            (Value::Uint(u64::MAX), "18446744073709551615"),
            (Value::string("d-1"), "d-1"),
            (Value::Bool(true), "true"),
            (Value::bytes(vec![b'x']), "x"),
        ] {
            assert_eq!(render("{{.id}}", &["id"], &[value]).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn columns_stand_where_they_are_named() {
        let values = [Value::Int(1), Value::string("x")];
        assert_eq!(render("m:{{ .b }}:{{.a}}:{{.b}}!", &["a", "b"], &values).as_deref(), Ok("m:x:1:x!"));
        let errors: Vec<String> = ["{{.a}}", "{{.a}}{{.b}}{{.c}}", "{{a}}", "{{.a"]
            .map(|template| render(template, &["a", "b"], &values).unwrap_err())
            .into();
        insta::assert_snapshot!(errors.join("\n"), @r"
        key: the join asks by b, so {{.b}} must stand in it
        key: c is no key column of the join; known: {{.a}}, {{.b}}
        key: only key columns can stand in it: {{.a}}, {{.b}}
        key: `{{` without `}}`
        ");
    }
}
