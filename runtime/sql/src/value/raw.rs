//! A row that is still JSON text.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::Object;

/// The text of one JSON object, checked to be well-formed by whoever made it, and parsed at most once, when somebody
/// asks for its members.
#[derive(Debug)]
pub struct RawObject {
    text: Bytes,
    parse: fn(&[u8]) -> Object,
    object: OnceLock<Arc<Object>>,
}

impl RawObject {
    /// Wraps `text`. `parse` turns it into an object with the number and string rules of the format that it came from;
    /// it is called at most once and must accept every text that the caller's own check accepted.
    pub fn new(text: Bytes, parse: fn(&[u8]) -> Object) -> Self {
        RawObject { text, parse, object: OnceLock::new() }
    }

    /// The JSON text as it arrived.
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    /// The members.
    pub fn object(&self) -> Arc<Object> {
        Arc::clone(self.object.get_or_init(|| Arc::new((self.parse)(&self.text))))
    }
}
