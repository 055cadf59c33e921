//! Objects of a cluster to definitions. They come as values, one of each kind and name, and have no places in a file: what is
//! wrong with them is told by resource and field.

use std::sync::Arc;

use serde_json::Value;

use super::document::{Document, Kind, SourceFile};
use super::load::Manifests;
use super::resolve;
use super::secret::Secrets;
use super::yaml::{Data, Entry, Node};
use sluice_sql::sql::Span;

/// An object of a cluster.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.generation`
    pub generation: i64,
    /// `spec`
    pub spec: Value,
}

/// Reads objects of one namespace. Kind and name of each are distinct.
pub fn load_objects(objects: impl IntoIterator<Item = Object>, secrets: &Secrets) -> Manifests {
    let file = Arc::new(SourceFile { name: String::new(), path: None, text: String::new() });
    let documents = objects.into_iter().map(|object| {
        let spec = Node::from_json(object.spec);
        let span = Span { line: 0, column: 0, end_line: 0, end_column: 0 };
        let mut node = Node::from_json(Value::Null);
        node.data = Data::Map(vec![Entry { key: "spec".to_owned(), key_span: span, value: spec }]);
        Document {
            file: Arc::clone(&file),
            kind: object.kind,
            name: object.name,
            namespace: None,
            generation: object.generation,
            uid: object.uid,
            node,
        }
    });
    let mut manifests = Manifests::default();
    resolve::resolve(documents.collect(), secrets, &mut manifests);
    manifests
}
