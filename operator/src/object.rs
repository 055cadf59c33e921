//! Our custom resources as the operator keeps them: the parts that it needs, the rest as text. An object whose fields make no
//! sense is kept like any other; planning says what is wrong with it.

use std::sync::Arc;

use kube::api::DynamicObject;
use serde_json::Value;
use sluice::bundle::{BundleObject, Spec};
use sluice::manifest::Kind;

/// One Stream, LookupTable, Rule or Runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its kind.
    pub kind: Kind,
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.generation`
    pub generation: i64,
    /// `metadata.creationTimestamp` in seconds.
    pub created: i64,
    /// It is being deleted.
    pub is_deleting: bool,
    /// `spec`
    pub spec: Spec,
    /// `status`, as JSON text; empty if there is none.
    pub status: Arc<str>,
}

impl Stored {
    /// What matters of an object; `None` if it has no name, uid or namespace, which the API server sees to.
    pub fn new(kind: Kind, object: DynamicObject) -> Option<Self> {
        let DynamicObject { metadata, data, .. } = object;
        let text = |field: &str| data.get(field).map(Value::to_string);
        Some(Stored {
            kind,
            namespace: metadata.namespace?,
            name: metadata.name?,
            uid: metadata.uid?,
            generation: metadata.generation.unwrap_or_default(),
            created: metadata.creation_timestamp.map_or(0, |time| time.0.as_second()),
            is_deleting: metadata.deletion_timestamp.is_some(),
            spec: Spec(text("spec").unwrap_or_else(|| "null".to_owned()).into()),
            status: text("status").unwrap_or_default().into(),
        })
    }

    /// `Rule/demo`
    pub fn resource(&self) -> String {
        format!("{}/{}", self.kind.as_str(), self.name)
    }

    /// As it stands in a bundle.
    pub fn bundle_object(&self) -> BundleObject {
        BundleObject {
            kind: self.kind.as_str().to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            generation: self.generation,
            spec: self.spec.clone(),
        }
    }

    /// `spec` as a value.
    pub fn spec_value(&self) -> Value {
        serde_json::from_str(&self.spec.0).unwrap_or_default()
    }

    /// `status` as a value.
    pub fn status_value(&self) -> Value {
        serde_json::from_str(&self.status).unwrap_or_default()
    }
}
