//! `CONNECTORS.md` says what the registry says. `SLUICE_UPDATE=1 cargo test --test reference` writes it anew.

#![expect(clippy::unwrap_used, reason = "writing to a string can't fail")]

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value as Json;
use sluice::Registry;

const HEADER: &str = "\
# Connectors and formats

Made from the code by `SLUICE_UPDATE=1 cargo test --package sluice-runtime --test reference`; a test keeps it in step.

Option names match without case. Durations are text with a unit (`500ms`, `10s`, `1h30m`); a bare number is milliseconds. Any
option's value may be `{secretKeyRef: {name, key}}`.
";

#[test]
fn connectors_md_is_in_step() {
    let registry = Registry::builtin();
    let mut page = HEADER.to_owned();
    page.push_str("\n## Sources\n");
    section(&mut page, "Options of every source", "", &schemars::schema_for!(sluice::pipeline::decode::SourceOptions));
    for source in registry.sources.values() {
        section(&mut page, source.name, source.docs, &(source.schema)());
    }
    page.push_str("\n## Lookup tables\n");
    for lookup in registry.lookups.values() {
        section(&mut page, lookup.name, lookup.docs, &(lookup.schema)());
    }
    page.push_str("\n## Sinks\n");
    section(&mut page, "Options of every sink", "", &schemars::schema_for!(sluice::pipeline::sink::SinkOptions));
    for sink in registry.sinks.values() {
        section(&mut page, sink.name, sink.docs, &(sink.schema)());
    }
    page.push_str("\n## Formats\n");
    for format in registry.formats.values() {
        writeln!(page, "\n### {}\n\n{}", format.name, format.docs).unwrap();
    }

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("CONNECTORS.md");
    if std::env::var_os("SLUICE_UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "CONNECTORS.md is out of step: run `SLUICE_UPDATE=1 cargo test --package sluice-runtime --test reference`"
    );
}

/// A connector's docs and the table of its options.
fn section(page: &mut String, name: &str, docs: &str, schema: &schemars::Schema) {
    write!(page, "\n### {name}\n").unwrap();
    if !docs.is_empty() {
        write!(page, "\n{docs}\n").unwrap();
    }
    let root = schema.as_value();
    let Some(properties) = root.get("properties").and_then(Json::as_object).filter(|properties| !properties.is_empty())
    else {
        return;
    };
    page.push_str("\n| option | type | default | meaning |\n|---|---|---|---|\n");
    for (option, property) in properties {
        let description = property.get("description").and_then(Json::as_str).unwrap_or_default();
        let required =
            root.get("required").and_then(Json::as_array).is_some_and(|names| names.iter().any(|name| name == option));
        let default = match property.get("default") {
            _ if required => "**required**".to_owned(),
            None | Some(Json::Null) => String::new(),
            Some(Json::String(text)) if text.is_empty() => String::new(),
            Some(default) => format!("`{default}`"),
        };
        writeln!(page, "| `{option}` | {} | {default} | {} |", type_name(property, root), cell(description)).unwrap();
    }
}

/// A word for a property's type.
fn type_name(property: &Json, root: &Json) -> String {
    if let Some(reference) = property.get("$ref").and_then(Json::as_str) {
        return resolved(reference, root).map_or_else(String::new, |target| type_name(target, root));
    }
    for choice in ["anyOf", "oneOf"] {
        if let Some(choices) = property.get(choice).and_then(Json::as_array) {
            let mut names: Vec<String> = choices.iter().map(|choice| type_name(choice, root)).collect();
            names.retain(|name| !name.is_empty() && name != "null");
            names.dedup();
            return names.join(" or ");
        }
    }
    if let Some(word) = property.get("const") {
        return format!("`{}`", word.as_str().map_or_else(|| word.to_string(), str::to_owned));
    }
    if let Some(words) = property.get("enum").and_then(Json::as_array) {
        let words: Vec<String> = words.iter().filter_map(Json::as_str).map(|word| format!("`{word}`")).collect();
        return words.join(", ");
    }
    if property.get("format").and_then(Json::as_str) == Some("duration") {
        return "duration".to_owned();
    }
    match property.get("type") {
        Some(Json::String(name)) if name == "array" => {
            let item = property.get("items").map(|items| type_name(items, root)).unwrap_or_default();
            if item.is_empty() { "list".to_owned() } else { format!("list of {item}") }
        }
        Some(Json::String(name)) if name == "object" => "map".to_owned(),
        Some(Json::String(name)) => name.clone(),
        Some(Json::Array(names)) => {
            let names: Vec<&str> = names.iter().filter_map(Json::as_str).filter(|name| *name != "null").collect();
            names.join(" or ")
        }
        _ => String::new(),
    }
}

fn resolved<'a>(reference: &str, root: &'a Json) -> Option<&'a Json> {
    root.pointer(reference.strip_prefix('#')?)
}

/// Text that stays in its cell.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
