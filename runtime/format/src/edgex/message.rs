//! From bytes to the event: what is JSON and what CBOR, what is an envelope and what is in it.

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use sluice_sql::{Object, Value};
use smol_str::SmolStr;

use super::MessageType;
use crate::{FormatError, cbor, json};

/// An event, and what its envelope and request say beside it.
pub struct Message {
    pub event: Arc<Object>,
    envelope: Option<Arc<Object>>,
    request: Option<Arc<Object>>,
}

type Result<T> = std::result::Result<T, FormatError>;

impl Message {
    /// Takes a message apart.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(bytes: &Bytes, wanted: Option<MessageType>) -> Result<Self> {
        let outer = object(bytes)?;
        let (envelope, content) = match any_case(&outer, "payload") {
            Some(payload) => {
                let content = payload_of(&outer, payload)
                    .map_err(|error| FormatError(format!("payload of the envelope: {error}")))?;
                (Some(outer), content)
            }
            None => (None, outer),
        };
        let (request, event) = match content.get("event") {
            Some(Value::Object(event)) => (Some(Arc::clone(&content)), Arc::clone(event)),
            Some(_) => return fault("the event of the request is no object"),
            None if content.get("readings").is_some() => (None, content),
            None => {
                return fault(
                    "neither an EdgeX envelope, nor an event, nor a request: it has no payload, readings, event",
                );
            }
        };
        match (wanted, &request) {
            (Some(MessageType::Event), Some(_)) => fault("a request, but messageType is event"),
            (Some(MessageType::Request), None) => fault("an event, but messageType is request"),
            _ => Ok(Message { event, envelope, request }),
        }
    }

    /// What `meta()` gives: that of the connector, of each reading by its name, and of the event. The event's keys win over
    /// readings of the same name.
    pub fn metadata(&self, connector: Option<&Arc<Object>>, of_readings: Vec<(SmolStr, Value)>) -> Object {
        let mut meta = connector.map(|meta| Object::clone(meta)).unwrap_or_default();
        for (name, reading) in of_readings {
            meta.insert(name, reading);
        }
        for key in ["id", "deviceName", "profileName", "sourceName", "origin", "tags"] {
            if let Some(value) = self.event.get(key) {
                meta.insert(key, value.clone());
            }
        }
        let of_envelope = |key: &str| {
            let value = self.envelope.as_ref().and_then(|envelope| any_case(envelope, key)).cloned();
            value.filter(|value| !matches!(value, Value::String(text) if text.is_empty()))
        };
        if let Some(correlation) = of_envelope("correlationID").or_else(|| header(connector, "X-Correlation-ID")) {
            meta.insert("correlationid", correlation);
        }
        if let Some(topic) = of_envelope("receivedTopic") {
            meta.insert("receivedTopic", topic);
        }
        let request_id = self.request.as_ref().and_then(|request| request.get("requestId").cloned());
        if let Some(id) = request_id {
            meta.insert("requestId", id);
        }
        meta
    }
}

/// What NATS carries beside the body.
fn header(connector: Option<&Arc<Object>>, name: &str) -> Option<Value> {
    connector?.get("headers")?.to_object()?.get(name).cloned()
}

/// A member whose name is written in one case in EdgeX 2 and in another one in 3 and 4.
fn any_case<'a>(object: &'a Object, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

/// What an envelope holds.
fn payload_of(envelope: &Object, payload: &Value) -> Result<Arc<Object>> {
    if let Some(Value::Int(code)) = any_case(envelope, "errorCode")
        && *code != 0
    {
        return fault(&format!("it reports an error (errorCode {code}) instead of an event"));
    }
    let bytes = match payload {
        Value::Object(object) => return Ok(Arc::clone(object)),
        Value::Bytes(bytes) => Bytes::clone(bytes),
        Value::String(text) if text.is_empty() => return fault("is empty"),
        // Some senders leave the base64 out.
        Value::String(text) if text.starts_with('{') => Bytes::copy_from_slice(text.as_bytes()),
        Value::String(text) => match base64::engine::general_purpose::STANDARD.decode(text.as_bytes()) {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) => return fault(&format!("not base64: {error}")),
        },
        Value::Null | Value::Missing => return fault("is null"),
        other => return fault(&format!("expected an object, bytes or base64, found a {}", other.kind_name())),
    };
    match any_case(envelope, "contentType") {
        Some(Value::String(content)) if !matches!(content.as_str(), "" | "application/json" | "application/cbor") => {
            fault(&format!("its content type {content} is neither application/json nor application/cbor"))
        }
        _ => object(&bytes),
    }
}

/// JSON or CBOR: no JSON object begins as a CBOR map does.
fn object(bytes: &Bytes) -> Result<Arc<Object>> {
    match bytes.first() {
        None => fault("it is empty"),
        // A map, or the tag by which CBOR can be known.
        Some(0xa0..=0xbf | 0xd9) => match cbor::parse_value(bytes) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => fault("CBOR, but no map"),
            Err(FormatError(error)) => fault(&format!("CBOR, {error}")),
        },
        Some(b'{' | b' ' | b'\t' | b'\r' | b'\n') => match json::parse_object(bytes) {
            Ok(object) => Ok(Arc::new(object)),
            Err(FormatError(error)) => fault(&format!("JSON, {error}")),
        },
        Some(_) => fault("neither a JSON object nor a CBOR map"),
    }
}

fn fault<T>(what: &str) -> Result<T> {
    Err(FormatError(what.to_owned()))
}
