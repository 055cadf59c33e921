//! Objects of a runtime to the API server: only what differs from what is there.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::Error;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use sluice::bundle::Packed;

use super::api::{Cluster, Native, shown};
use super::store::Child;
use crate::planning::{APPLIED, Problem, Reason, bundle_secret, differs};

/// What was applied last, to tell a write that is needed from one that the API server would fill with its defaults again.
#[derive(Default)]
pub struct Applied(HashMap<(Native, String), (String, String)>);

/// What [`Applied::ensure`] did.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is as it should be.
    Unchanged,
    /// It was applied; this is its uid.
    Written(String),
}

impl Applied {
    /// Applies an object unless it is there as it should be.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn ensure(
        &mut self,
        cluster: &Cluster,
        kind: Native,
        mut object: Value,
        found: Option<&Child>,
    ) -> Result<Outcome, Problem> {
        let hash = hash(&object);
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let key = (kind, name);
        if let Some(found) = found.filter(|found| !found.is_deleting && found.applied == hash) {
            let now = digest(found.text.as_bytes());
            // Known to be what the API server makes of this, or seen to hold all of it.
            let is_known = self.0.get(&key).is_some_and(|known| *known == (hash.clone(), now.clone()));
            let holds = || serde_json::from_str(&found.text).is_ok_and(|text| !differs(&comparable(&object), &text));
            if is_known || holds() {
                self.0.insert(key, (hash, now));
                return Ok(Outcome::Unchanged);
            }
        }
        annotate(&mut object, &hash);
        // The name may be someone else's: then nothing is forced.
        let force = found.is_some();
        let written = cluster.apply(kind, &object, force).await.map_err(|error| not_applied(&error))?;
        tracing::info!(kind = ?kind, name = key.1, "applied");
        if let Some(found) = found.filter(|found| found.applied == hash) {
            // Applied once more to undo what someone else did. Should it look the same again, it is as good as it gets.
            self.0.insert(key, (hash, digest(found.text.as_bytes())));
        }
        Ok(Outcome::Written(written.metadata.uid.unwrap_or_default()))
    }
}

/// Why an object is not as it should be.
pub fn not_applied(error: &Error) -> Problem {
    (Reason::ApplyFailed, shown(error))
}

/// The parts of an object that a [`Child`] keeps.
fn comparable(object: &Value) -> Value {
    let mut object = object.clone();
    if let Value::Object(map) = &mut object {
        map.remove("apiVersion");
        map.remove("kind");
        if let Some(Value::Object(metadata)) = map.get_mut("metadata") {
            metadata.retain(|key, _| key == "labels" || key == "ownerReferences");
        }
    }
    object
}

fn annotate(object: &mut Value, hash: &str) {
    let Some(Value::Object(metadata)) = object.get_mut("metadata") else { return };
    let annotations = metadata.entry("annotations").or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(annotations) = annotations {
        annotations.insert(APPLIED.to_owned(), Value::String(hash.to_owned()));
    }
}

fn hash(object: &Value) -> String {
    digest(object.to_string().as_bytes()).chars().take(16).collect()
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The Secrets of a bundle, the one with the index last: what is read before it is there is not taken.
pub fn bundle_secrets(
    namespace: &str,
    runtime: &str,
    packed: &Packed,
    token: &str,
    owner: &Value,
    labels: &Value,
) -> Vec<Value> {
    let secret = |part_idx: usize, data: Map<String, Value>| {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": bundle_secret(runtime, part_idx),
                "namespace": namespace,
                "labels": labels,
                "ownerReferences": [owner],
            },
            "type": "sluice.dev/bundle",
            "data": data,
        })
    };
    let parts = packed.parts.iter().enumerate().map(|(part_idx, part)| {
        let mut data = Map::new();
        data.insert(format!("part-{part_idx}"), Value::String(STANDARD.encode(part)));
        if part_idx == 0 {
            let index = serde_json::to_vec(&packed.index).unwrap_or_default();
            data.insert("index.json".to_owned(), Value::String(STANDARD.encode(index)));
            data.insert("token".to_owned(), Value::String(STANDARD.encode(token)));
        }
        secret(part_idx, data)
    });
    let mut secrets: Vec<Value> = parts.collect();
    secrets.reverse();
    secrets
}
