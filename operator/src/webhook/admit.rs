//! The verdict on one object that is about to be stored. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use sluice::Registry;
use sluice::bundle::BundleObject;
use sluice::check::Checker;
use sluice::definition::Definitions;
use sluice::diagnostic::Diagnostic;
use sluice::manifest::{Kind, Secrets, load_objects};
use sluice_crds::DEFAULT_RUNTIME;

use crate::object::Stored;
use crate::planning::{Key, runtime_of};

/// What the webhook says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why it is refused.
    pub refused: Option<String>,
    /// What is worth knowing.
    pub warnings: Vec<String>,
}

/// Longest warning: kubectl shows about this much.
const MAX_WARNING: usize = 256;

/// Judges an object beside those that are there. What Secrets hold is not known here: what depends on them is not judged.
pub fn admit(object: &Stored, mut objects: BTreeMap<Key, Arc<Stored>>, registry: &Registry) -> Verdict {
    let mut verdict = Verdict::default();
    let spec = object.spec_value();
    let own = object.bundle_object();
    let secrets = Secrets::default().assumed();
    objects.remove(&(object.kind, object.name.clone()));
    let sources = objects.values().filter(|other| matches!(other.kind, Kind::Stream | Kind::LookupTable));
    let sources: Vec<BundleObject> = sources.map(|other| other.bundle_object()).collect();
    let others = load_objects(sources.iter().filter_map(BundleObject::object), &secrets).definitions;
    let found = load_objects(own.object(), &secrets);
    let mut problems: Vec<Diagnostic> = found.diagnostics.iter().filter(|found| found.is_error()).cloned().collect();
    match object.kind {
        Kind::Stream | Kind::LookupTable => {
            let Definitions { streams, tables, .. } = &found.definitions;
            let mut checker = Checker::new(&Definitions::default(), registry);
            problems.extend(streams.iter().flat_map(|stream| checker.stream_verdict(stream)));
            problems.extend(tables.iter().flat_map(|table| checker.table_verdict(table)));
            let name = streams.first().map(|stream| &stream.name).or(tables.first().map(|table| &table.name));
            let streams = others.streams.iter().map(|stream| (&stream.name, &stream.origin.resource));
            let tables = others.tables.iter().map(|table| (&table.name, &table.origin.resource));
            let twin = streams.chain(tables).find(|(other, _)| Some(*other) == name);
            let twin = twin.map(|(other, resource)| {
                format!("the SQL name \"{other}\" is taken by {resource}, which stays in force")
            });
            verdict.warnings.extend(twin);
        }
        Kind::Rule => {
            let mut checker = Checker::new(&others, registry);
            for rule in &found.definitions.rules {
                let rule = checker.rule_verdict(rule);
                problems.extend(rule.found);
                let missing = rule.missing.iter().map(|missing| missing.message.clone());
                verdict.warnings.extend(missing.map(|missing| format!("{missing} yet; the rule waits for it")));
            }
            let runtime = runtime_of(&spec);
            if runtime != DEFAULT_RUNTIME && !objects.contains_key(&(Kind::Runtime, runtime.clone())) {
                verdict.warnings.push(format!("there is no Runtime \"{runtime}\" yet; the rule waits for it"));
            }
        }
        Kind::Runtime | Kind::Secret => {}
    }
    let certain = problems.iter().filter(|problem| problem.is_error() && is_certain(problem, &spec));
    let mut messages: Vec<String> = Vec::new();
    for problem in certain {
        let message = shown(problem);
        if !messages.contains(&message) {
            messages.push(message);
        }
    }
    verdict.refused = (!messages.is_empty()).then(|| messages.join("\n"));
    for warning in &mut verdict.warnings {
        *warning = warning.chars().take(MAX_WARNING).collect();
    }
    verdict
}

/// Path and message on the first line, then the statement's line with its caret.
fn shown(problem: &Diagnostic) -> String {
    Diagnostic { resource: String::new(), ..problem.clone() }.to_string()
}

/// True if it is wrong whatever the Secrets hold: about the statement, or about a field that is written in the object itself, and
/// not with the value of a Secret.
fn is_certain(problem: &Diagnostic, spec: &Value) -> bool {
    let Some(path) = problem.path.strip_prefix("spec") else { return true };
    let path = path.trim_start_matches('.');
    if path.starts_with("config") || path.contains("secretKeyRef") {
        return false;
    }
    let mut here = spec;
    for step in path.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
        let next = match here {
            Value::Object(map) => map.iter().find(|(key, _)| key.eq_ignore_ascii_case(step)).map(|(_, value)| value),
            Value::Array(list) => step.parse::<usize>().ok().and_then(|item_idx| list.get(item_idx)),
            _ => None,
        };
        let Some(next) = next else {
            // Not written here: a profile may say it, unless it is a field of our own.
            return !path.starts_with("options") && !path.starts_with("sinks");
        };
        if next.get("secretKeyRef").is_some() {
            return false;
        }
        here = next;
    }
    // A whole whose parts are partly secret.
    !has_secret(here)
}

fn has_secret(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.contains_key("secretKeyRef") || map.values().any(has_secret),
        Value::Array(list) => list.iter().any(has_secret),
        _ => false,
    }
}
