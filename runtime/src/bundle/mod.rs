//! A bundle: all that a runtime runs, in one piece, as the operator hands it over. Definitions with the secrets that they name,
//! compressed, and cut into parts that fit into a Secret each.
//!
//! The operator encodes ([`Bundle::pack`]), the pod reads the mounted parts ([`read_folder`]): whole, or not at all. Both turn it
//! into definitions by [`Bundle::load`], through the same calls as manifests of files.

mod folder;
mod pack;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::definition::{Definitions, UnreadableRule};
use crate::diagnostic::Diagnostic;
use crate::manifest::{Kind, Manifests, Object, Secrets, load_objects};

pub use folder::{BundleError, read_folder};
pub use pack::{Index, PART_BYTES, Packed, unpack};

/// Layout of bundles that is written, and the newest that is read.
pub const FORMAT: u32 = 1;

/// What a runtime runs.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bundle {
    /// Layout.
    pub format: u32,
    /// Namespace of the runtime.
    pub namespace: String,
    /// Name of the runtime.
    pub runtime: String,
    /// Objects that are good together, of distinct kinds and names.
    pub objects: Vec<BundleObject>,
    /// Rules that are not good with those, each in its last good form and with all that it needs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<HeldRule>,
    /// Names of rules among the objects that do not run yet, because the pod of another runtime still runs them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<String>,
    /// Values of Secrets by name and key, those that the objects name; in base64.
    pub secrets: SecretValues,
}

/// Values of Secrets by name and key, in base64.
pub type SecretValues = BTreeMap<String, BTreeMap<String, String>>;

/// An object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleObject {
    /// `kind`
    pub kind: String,
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.generation`
    pub generation: i64,
    /// `spec`
    pub spec: Spec,
}

/// A rule that does not go with what is defined now, with what it did go with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldRule {
    /// Its name.
    pub rule: String,
    /// The rule and all that it refers to.
    pub objects: Vec<BundleObject>,
    /// Values of Secrets that are no longer there, or other ones by now.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: SecretValues,
}

/// The JSON text of a `spec`; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spec(pub Arc<str>);

impl Serialize for Spec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(&self.0).map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Spec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Spec(Box::<RawValue>::deserialize(deserializer)?.get().into()))
    }
}

/// Names only: values are secret.
impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let held: Vec<&str> = self.held.iter().map(|held| held.rule.as_str()).collect();
        f.debug_struct("Bundle")
            .field("namespace", &self.namespace)
            .field("runtime", &self.runtime)
            .field("objects", &self.objects)
            .field("held", &held)
            .finish_non_exhaustive()
    }
}

impl BundleObject {
    /// The object as manifests take it; `None` for a kind that this Sluice does not know.
    pub fn object(&self) -> Option<Object> {
        Some(Object {
            kind: Kind::ours(&self.kind)?,
            name: self.name.clone(),
            uid: self.uid.clone(),
            generation: self.generation,
            spec: serde_json::from_str(&self.spec.0).ok()?,
        })
    }
}

/// The values of Secrets as manifests take them.
pub fn secrets<'a>(values: impl IntoIterator<Item = &'a SecretValues>) -> Secrets {
    let mut all: BTreeMap<String, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
    for (name, values) in values.into_iter().flatten() {
        let decoded = values.iter().filter_map(|(key, value)| Some((key.clone(), STANDARD.decode(value).ok()?)));
        all.entry(name.clone()).or_default().extend(decoded);
    }
    Secrets::new(all)
}

impl Bundle {
    /// What is to run, and what is wrong with it. A rule that can't be read is among the unreadable ones.
    pub fn load(&self) -> (Definitions, Vec<Diagnostic>) {
        let (mut definitions, diagnostics) = self.load_all();
        definitions.rules.retain(|rule| !self.waiting.contains(&rule.name));
        definitions.unreadable.retain(|rule| !self.waiting.contains(&rule.name));
        (definitions, diagnostics)
    }

    /// As [`load`](Self::load), with the rules that do not run yet.
    pub fn load_all(&self) -> (Definitions, Vec<Diagnostic>) {
        let manifests = load_objects(self.objects.iter().filter_map(BundleObject::object), &secrets([&self.secrets]));
        let mut diagnostics = manifests.diagnostics.clone();
        let mut definitions = with_unreadable(&self.objects, manifests);
        for held in &self.held {
            let values = secrets([&self.secrets, &held.secrets]);
            let manifests = load_objects(held.objects.iter().filter_map(BundleObject::object), &values);
            diagnostics.extend(manifests.diagnostics.iter().cloned());
            let own = with_unreadable(&held.objects, manifests);
            let held_with = Arc::new(Definitions { rules: Vec::new(), unreadable: Vec::new(), ..own.clone() });
            definitions.unreadable.extend(own.unreadable);
            for mut rule in own.rules {
                rule.held_with = Some(Arc::clone(&held_with));
                definitions.rules.push(rule);
            }
        }
        (definitions, diagnostics)
    }
}

fn with_unreadable(objects: &[BundleObject], manifests: Manifests) -> Definitions {
    let Manifests { mut definitions, diagnostics, .. } = manifests;
    let read: HashSet<&str> = definitions.rules.iter().map(|rule| rule.name.as_str()).collect();
    let is_unreadable = |object: &&BundleObject| object.kind == "Rule" && !read.contains(object.name.as_str());
    let unreadable: Vec<UnreadableRule> = objects
        .iter()
        .filter(is_unreadable)
        .map(|object| {
            let resource = format!("Rule/{}", object.name);
            let own = diagnostics.iter().filter(|diagnostic| diagnostic.is_error() && diagnostic.resource == resource);
            let messages: Vec<String> = own.map(ToString::to_string).collect();
            let message = if messages.is_empty() { "can't be read".to_owned() } else { messages.join("\n") };
            UnreadableRule { name: object.name.clone(), generation: object.generation, message }
        })
        .collect();
    definitions.unreadable = unreadable;
    definitions
}

#[cfg(test)]
mod tests;
