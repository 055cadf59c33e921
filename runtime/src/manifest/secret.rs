//! Secrets: read from documents and from a directory, asked by name and key. Values leave only into options.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sluice_crds::DEFAULT_SECRET;
use sluice_sql::sql::nearest;

use super::document::Document;
use super::yaml::Data;
use crate::diagnostic::Diagnostic;
use crate::error::ConfigProblem;

/// All Secrets that definitions may refer to: name to key to value.
#[derive(Clone, Default)]
pub struct Secrets {
    values: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// What is not there is taken to be, with a value that means nothing.
    assumed: bool,
}

/// Stands for the value of a Secret that is taken to be there.
const ASSUMED: &str = "assumed";

/// Names of Secrets only.
impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.values.keys()).finish()
    }
}

impl Secrets {
    /// These Secrets, and no others.
    pub fn new(values: BTreeMap<String, BTreeMap<String, Vec<u8>>>) -> Self {
        Secrets { values, assumed: false }
    }

    /// Takes every Secret that is not there to be there: for a verdict on definitions alone. What their options say is then known
    /// only where they say it themselves.
    #[must_use]
    pub fn assumed(mut self) -> Self {
        self.assumed = true;
        self
    }

    /// True if the Secret is not known, but taken to be there.
    pub(super) fn is_assumed(&self, name: &str) -> bool {
        self.assumed && !self.values.contains_key(name)
    }

    /// Adds a Secret document.
    pub(super) fn add(&mut self, document: &Document, diagnostics: &mut Vec<Diagnostic>) {
        let mut values = BTreeMap::new();
        for (field, encoded) in [("data", true), ("stringData", false)] {
            let Some(node) = document.node.get(field) else { continue };
            let entries = match &node.data {
                Data::Map(entries) => entries.as_slice(),
                Data::Null => &[],
                _ => {
                    diagnostics.push(document.problem(field, "expected a map"));
                    continue;
                }
            };
            for entry in entries {
                let path = format!("{field}.{}", entry.key);
                let Some(text) = entry.value.as_str() else {
                    let message = "expected text; put the value in quotes";
                    diagnostics.push(document.problem(&path, message));
                    continue;
                };
                if !encoded {
                    values.insert(entry.key.clone(), text.as_bytes().to_vec());
                    continue;
                }
                let text: String = text.split_whitespace().collect();
                match STANDARD.decode(text) {
                    Ok(value) => _ = values.insert(entry.key.clone(), value),
                    Err(_) => {
                        let message = "not base64; plain text belongs in stringData";
                        diagnostics.push(document.problem(&path, message));
                    }
                }
            }
        }
        self.values.insert(document.name.clone(), values);
    }

    /// Adds the files of a directory as the Secret that is used where none is named.
    pub(super) fn add_dir(&mut self, dir: &Path, diagnostics: &mut Vec<Diagnostic>) {
        let fail = |error: std::io::Error| Diagnostic::error(format!("{}: {error}", dir.display()));
        if self.values.contains_key(DEFAULT_SECRET) {
            let message = format!(
                "{}: the directory stands for Secret \"{DEFAULT_SECRET}\", but that is among the manifests too; leave one away",
                dir.display()
            );
            diagnostics.push(Diagnostic::error(message));
            return;
        }
        let mut values = BTreeMap::new();
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) => return diagnostics.push(fail(error)),
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // Mounted volumes hold `..data` and its kin beside the files.
            if name.starts_with('.') || !entry.path().is_file() {
                continue;
            }
            match fs::read(entry.path()) {
                Ok(value) => _ = values.insert(name, value),
                Err(error) => diagnostics.push(fail(error)),
            }
        }
        self.values.insert(DEFAULT_SECRET.to_owned(), values);
    }

    /// The keys and values of a Secret.
    pub(super) fn get(&self, name: &str) -> Option<&BTreeMap<String, Vec<u8>>> {
        self.values.get(name)
    }

    /// Says that there is no such Secret.
    pub(super) fn missing(&self, name: &str) -> String {
        let near = nearest(name, self.values.keys().map(String::as_str));
        let hint = near.map(|near| format!(", did you mean \"{near}\"?")).unwrap_or_default();
        format!("Secret \"{name}\" is not there{hint}")
    }

    /// Puts values in place of `{secretKeyRef: {name, key}}`, however deep.
    pub(super) fn fill(&self, value: &mut Value, path: &str, problems: &mut Vec<ConfigProblem>) {
        let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match value {
            Value::Object(map) => {
                if let Some(reference) = map.get("secretKeyRef") {
                    let found = if map.len() > 1 {
                        Err((path.to_owned(), "secretKeyRef stands alone, with nothing beside it".to_owned()))
                    } else {
                        self.resolve(reference, &join("secretKeyRef"))
                    };
                    match found {
                        Ok(text) => *value = Value::String(text),
                        Err((path, message)) => problems.push(ConfigProblem { path, message }),
                    }
                    return;
                }
                for (key, value) in map {
                    self.fill(value, &join(key), problems);
                }
            }
            Value::Array(list) => {
                for (item_idx, value) in list.iter_mut().enumerate() {
                    self.fill(value, &format!("{path}[{item_idx}]"), problems);
                }
            }
            _ => {}
        }
    }

    fn resolve(&self, reference: &Value, path: &str) -> Result<String, (String, String)> {
        let empty = serde_json::Map::new();
        let map = reference.as_object().unwrap_or(&empty);
        let reference: sluice_crds::SecretKeyRef = crate::options::read::fields(map).map_err(|error| {
            let problem = error.problems.into_iter().next();
            let (field, message) = problem.map(|problem| (problem.path, problem.message)).unwrap_or_default();
            (if field.is_empty() { path.to_owned() } else { format!("{path}.{field}") }, message)
        })?;
        let is_known = self.get(&reference.name).is_some_and(|values| values.contains_key(&reference.key));
        if self.assumed && !is_known {
            return Ok(ASSUMED.to_owned());
        }
        let values =
            self.get(&reference.name).ok_or_else(|| (format!("{path}.name"), self.missing(&reference.name)))?;
        let value = values.get(&reference.key).ok_or_else(|| {
            let near = nearest(&reference.key, values.keys().map(String::as_str));
            let hint = near.map(|near| format!(", did you mean \"{near}\"?")).unwrap_or_default();
            (format!("{path}.key"), format!("Secret \"{}\" has no key \"{}\"{hint}", reference.name, reference.key))
        })?;
        String::from_utf8(value.clone()).map_err(|_| {
            (path.to_owned(), format!("key \"{}\" of Secret \"{}\" is not UTF-8 text", reference.key, reference.name))
        })
    }
}
