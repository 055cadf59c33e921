//! Which Secrets a `spec` names.

use serde_json::Value;
use sluice::manifest::Kind;
use sluice_crds::DEFAULT_SECRET;

/// A Secret, or a key of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretNeed {
    /// Its name.
    pub name: String,
    /// The key; `None`: files of configuration.
    pub key: Option<String>,
    /// Where it is named, as `spec.options.password`; empty for the Secret that is used where none is named.
    pub path: String,
}

impl SecretNeed {
    /// It has to be there.
    pub fn is_required(&self) -> bool {
        !self.path.is_empty()
    }
}

/// The Secrets that an object names, or uses unasked.
pub fn secret_needs(kind: Kind, spec: &Value) -> Vec<SecretNeed> {
    let mut needs = Vec::new();
    match kind {
        Kind::Stream | Kind::LookupTable => {
            if let Some(options) = spec.get("options") {
                walk(options, "spec.options", &mut needs);
            }
            let named = spec.pointer("/config/secretRef/name").and_then(Value::as_str);
            let path = if named.is_some() { "spec.config.secretRef.name" } else { "" };
            needs.push(SecretNeed {
                name: named.unwrap_or(DEFAULT_SECRET).to_owned(),
                key: None,
                path: path.to_owned(),
            });
        }
        Kind::Rule => {
            for (sink_idx, sink) in spec.get("sinks").and_then(Value::as_array).into_iter().flatten().enumerate() {
                walk(sink, &format!("spec.sinks[{sink_idx}]"), &mut needs);
            }
            // Late rows and errors may have sinks of their own.
            if let Some(options) = spec.get("options") {
                walk(options, "spec.options", &mut needs);
            }
        }
        // Defaults of rules, which may have sinks.
        Kind::Runtime => {
            if let Some(options) = spec.get("options") {
                walk(options, "spec.options", &mut needs);
            }
        }
        Kind::Secret => {}
    }
    needs
}

fn walk(value: &Value, path: &str, needs: &mut Vec<SecretNeed>) {
    match value {
        Value::Object(map) => {
            if let Some(reference) = map.get("secretKeyRef") {
                let text = |field: &str| reference.get(field).and_then(Value::as_str).map(str::to_owned);
                if let (Some(name), Some(key)) = (text("name"), text("key")) {
                    needs.push(SecretNeed { name, key: Some(key), path: path.to_owned() });
                }
                return;
            }
            for (key, value) in map {
                walk(value, &format!("{path}.{key}"), needs);
            }
        }
        Value::Array(list) => {
            for (item_idx, value) in list.iter().enumerate() {
                walk(value, &format!("{path}[{item_idx}]"), needs);
            }
        }
        _ => {}
    }
}
