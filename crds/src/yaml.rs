//! Writes the definitions as YAML. Only what a definition holds: no anchors, no tags.

use std::fmt::Write;

use serde_json::Value;

/// The definitions of all kinds as (file name, YAML).
pub fn yaml_files() -> Vec<(String, String)> {
    crate::definitions()
        .iter()
        .map(|definition| {
            let value = serde_json::to_value(definition).expect("a definition is plain data");
            let mut yaml = String::from("# Written by `cargo crdgen` from crds/src; do not edit.\n");
            block(&value, 0, &mut yaml);
            let name = format!("{}_{}.yaml", definition.spec.group, definition.spec.names.plural);
            (name, yaml)
        })
        .collect()
}

/// A map or list over several lines, each indented by `indent` and ended.
fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let _ = write!(out, "{:indent$}{}:", "", scalar_text(key));
                entry(value, indent, out);
            }
        }
        Value::Array(list) => {
            for value in list {
                let _ = write!(out, "{:indent$}-", "");
                match value {
                    Value::Object(map) if !map.is_empty() => {
                        // The first key stands on the dash's line.
                        let mut nested = String::new();
                        block(value, indent + 2, &mut nested);
                        out.push(' ');
                        out.push_str(nested.trim_start_matches(' '));
                    }
                    _ => entry(value, indent, out),
                }
            }
        }
        _ => out.push_str(&inline(value)),
    }
}

/// What follows a key or a dash.
fn entry(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            block(value, indent + 2, out);
        }
        Value::Array(list) if !list.is_empty() => {
            out.push('\n');
            block(value, indent, out);
        }
        Value::String(text)
            if text.contains('\n') && !text.ends_with(['\n', ' ']) && !text.starts_with([' ', '\n']) =>
        {
            out.push_str(" |-\n");
            for line in text.lines() {
                if line.is_empty() {
                    out.push('\n');
                } else {
                    let _ = writeln!(out, "{:indent$}  {line}", "");
                }
            }
        }
        _ => {
            let _ = writeln!(out, " {}", inline(value));
        }
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => scalar_text(text),
        // Numbers, booleans, null, `{}` and `[]` are the same in JSON.
        value => value.to_string(),
    }
}

/// Plain where that reads back as the same text, else quoted as in JSON, which YAML takes.
fn scalar_text(text: &str) -> String {
    let plain = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || matches!(c, '.' | '/'))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || " _-./()<=".contains(c))
        && !text.ends_with(' ')
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { Value::from(text).to_string() }
}
