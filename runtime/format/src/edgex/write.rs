//! Rows to events, requests and envelopes, as EdgeX 2, 3 or 4 write them.

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::{Object, Value};
use smol_str::{SmolStr, format_smolstr};

use super::MessageType;
use crate::{cbor, json_encoder};

/// Whose field names, encodings and types are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    /// EdgeX 2
    V2,
    /// EdgeX 3, which EdgeX 4 reads too.
    V3,
    /// EdgeX 4
    V4,
}

/// How the event is encoded within the envelope, and by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum ContentType {
    /// JSON
    #[default]
    #[serde(rename = "application/json")]
    Json,
    /// CBOR
    #[serde(rename = "application/cbor")]
    Cbor,
}

impl ContentType {
    /// The media type.
    pub fn as_str(self) -> &'static str {
        match self {
            ContentType::Json => "application/json",
            ContentType::Cbor => "application/cbor",
        }
    }
}

/// What the sink says about its events where their metadata say nothing.
#[derive(Clone, Debug)]
pub struct Names {
    /// The device.
    pub device: String,
    /// Its profile.
    pub profile: String,
    /// What of the device is read.
    pub source: String,
}

/// Makes the messages of one sink.
#[derive(Clone, Debug)]
pub struct Writer {
    /// Whose messages they are to be.
    pub release: Release,
    /// Events or requests.
    pub message_type: MessageType,
    /// How events are encoded.
    pub content_type: ContentType,
    /// Where the metadata say nothing.
    pub names: Names,
    /// The column that holds `meta(*)`.
    pub metadata: Option<String>,
}

/// An event, and where it belongs.
pub struct Event {
    /// The device.
    pub device: String,
    /// Its profile.
    pub profile: String,
    /// What of the device was read.
    pub source: String,
    content: Value,
    correlation: SmolStr,
}

/// Time and randomness of an event.
pub struct Stamp<'a> {
    /// Nanoseconds since the epoch.
    pub origin: i64,
    /// Makes identifiers that nobody else has.
    pub new_id: &'a mut dyn FnMut() -> String,
}

impl Writer {
    /// An event with the columns of `rows` as its readings. Null columns are left out, but that release 4 keeps those whose
    /// type the metadata tell.
    ///
    /// # Errors
    /// Rows without a column that can be a reading, and values that no EdgeX type fits.
    pub fn event(&self, rows: &[Object], stamp: &mut Stamp<'_>) -> Result<Event, String> {
        let meta = self.metadata.as_ref().and_then(|column| rows.iter().find_map(|row| row.get(column)?.to_object()));
        let of_event = |key: &str| meta.as_ref().and_then(|meta| meta.get(key)).filter(|value| !value.is_null());
        let text = |key: &str, fallback: &str| match of_event(key) {
            Some(Value::String(text)) if !text.is_empty() => text.to_string(),
            _ => fallback.to_owned(),
        };
        let device = text("deviceName", &self.names.device);
        let profile = text("profileName", &self.names.profile);
        let source = text("sourceName", &self.names.source);
        let origin = of_event("origin").and_then(whole).unwrap_or(stamp.origin);
        let mut readings = Vec::new();
        for (name, value) in rows.iter().flat_map(Object::iter) {
            if self.metadata.as_deref() == Some(name.as_str()) {
                continue;
            }
            let hints = of_event(name).and_then(Value::to_object).unwrap_or_default();
            let hint = |key: &str| match hints.get(key) {
                Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
                _ => None,
            };
            let Some(value) = self.reading_value(value, hint("valueType").as_deref(), hint("mediaType")) else {
                continue;
            };
            let value = value.map_err(|message| format!("column {name}: {message}"))?;
            let mut reading = Object::with_capacity(9);
            reading.insert("id", Value::string(hint("id").map_or_else(&mut *stamp.new_id, |id| id.to_string())));
            reading.insert("origin", Value::Int(hints.get("origin").and_then(whole).unwrap_or(origin)));
            reading.insert("deviceName", Value::string(hint("deviceName").unwrap_or_else(|| device.as_str().into())));
            reading.insert("resourceName", Value::String(name.clone()));
            reading
                .insert("profileName", Value::string(hint("profileName").unwrap_or_else(|| profile.as_str().into())));
            for key in ["units", "tags"] {
                if let Some(value) = hints.get(key).filter(|value| is_filled(value)) {
                    reading.insert(key, value.clone());
                }
            }
            value.into_iter().for_each(|(key, value)| reading.insert(key, value));
            readings.push(Value::Object(Arc::new(reading)));
        }
        if readings.is_empty() {
            return Err("the row has no column that could be a reading".to_owned());
        }
        let api = self.release.api_version();
        let mut event = Object::with_capacity(8);
        event.insert("apiVersion", Value::string(api));
        event.insert("id", Value::string(text("id", "")));
        if !matches!(event.get("id"), Some(Value::String(id)) if !id.is_empty()) {
            event.insert("id", Value::string((stamp.new_id)()));
        }
        event.insert("deviceName", Value::string(device.as_str()));
        event.insert("profileName", Value::string(profile.as_str()));
        event.insert("sourceName", Value::string(source.as_str()));
        event.insert("origin", Value::Int(origin));
        event.insert("readings", Value::Array(Arc::new(readings)));
        if let Some(tags) = of_event("tags").filter(|value| is_filled(value)) {
            event.insert("tags", tags.clone());
        }
        let event = Value::Object(Arc::new(event));
        let content = match self.message_type {
            MessageType::Event => event,
            MessageType::Request => Value::Object(Arc::new(Object::from_iter([
                ("apiVersion", Value::string(api)),
                ("requestId", Value::string((stamp.new_id)())),
                ("event", event),
            ]))),
        };
        let correlation = match of_event("correlationid") {
            Some(Value::String(id)) => id.clone(),
            _ => (stamp.new_id)().into(),
        };
        Ok(Event { device, profile, source, content, correlation })
    }

    /// The members of a reading that say its value; `None` for a null that is left out.
    fn reading_value(
        &self,
        value: &Value,
        value_type: Option<&str>,
        media_type: Option<SmolStr>,
    ) -> Option<Result<Vec<(&'static str, Value)>, String>> {
        if value.is_null() {
            // Only release 4 knows null.
            let value_type = value_type.filter(|_| self.release >= Release::V4)?;
            return Some(Ok(vec![
                ("valueType", Value::string(value_type)),
                ("value", Value::Null),
                ("binaryValue", Value::Null),
                ("objectValue", Value::Null),
            ]));
        }
        let type_of = || value_type.map_or_else(|| self.type_of(value).map(SmolStr::new_static), |ty| Ok(ty.into()));
        Some(type_of().and_then(|value_type| {
            let mut members = vec![("valueType", Value::String(value_type.clone()))];
            match value_type.as_str() {
                "Binary" => {
                    let bytes = bytes_of(value)?;
                    let media_type = media_type.unwrap_or_else(|| media_type_of(&bytes).into());
                    members.push(("binaryValue", Value::bytes(bytes)));
                    members.push(("mediaType", Value::String(media_type)));
                }
                "Object" | "ObjectArray" => members.push(("objectValue", value.clone())),
                _ => members.push(("value", Value::string(self.text_of(&value_type, value)?))),
            }
            Ok(members)
        }))
    }

    /// The EdgeX type of a value that nobody has given one.
    fn type_of(&self, value: &Value) -> Result<&'static str, String> {
        Ok(match value {
            Value::Bool(_) => "Bool",
            Value::Int(_) => "Int64",
            Value::Uint(_) => "Uint64",
            Value::Float(_) => "Float64",
            Value::Bytes(_) => "Binary",
            Value::Array(values) => {
                let kinds = |kind: fn(&Value) -> bool| values.iter().all(kind);
                if kinds(|value| matches!(value, Value::String(_) | Value::Datetime(_))) {
                    "StringArray"
                } else if kinds(|value| matches!(value, Value::Bool(_))) {
                    "BoolArray"
                } else if kinds(|value| matches!(value, Value::Int(_))) {
                    "Int64Array"
                } else if kinds(|value| matches!(value, Value::Int(0..) | Value::Uint(_))) {
                    "Uint64Array"
                } else if kinds(|value| matches!(value, Value::Int(_) | Value::Uint(_) | Value::Float(_))) {
                    "Float64Array"
                } else if kinds(|value| matches!(value, Value::Object(_))) && self.release >= Release::V4 {
                    "ObjectArray"
                } else {
                    return Err("an EdgeX array holds values of one kind: booleans, numbers or texts".to_owned());
                }
            }
            Value::Object(_) | Value::Raw(_) => "Object",
            Value::String(_) | Value::Datetime(_) | Value::Null | Value::Missing => "String",
        })
    }

    /// A simple value or an array of them as EdgeX writes it.
    fn text_of(&self, value_type: &str, value: &Value) -> Result<String, String> {
        let Some(element) = value_type.strip_suffix("Array") else { return scalar_text(value_type, value) };
        let Value::Array(values) = value else {
            return Err(format!("a {} can't be written as {value_type}", value.kind_name()));
        };
        if element == "String" && self.release >= Release::V4 {
            let mut text = Vec::new();
            let texts = values.iter().map(|value| scalar_text(element, value).map(Value::string));
            json_encoder::write_value(&Value::Array(Arc::new(texts.collect::<Result<_, _>>()?)), &mut text);
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
        let texts: Vec<String> = values.iter().map(|value| scalar_text(element, value)).collect::<Result<_, _>>()?;
        Ok(format!("[{}]", texts.join(", ")))
    }

    /// The event by itself.
    pub fn bare(&self, event: &Event) -> Vec<u8> {
        encode(&event.content, self.content_type)
    }

    /// Names and values of what goes beside a bare event.
    pub fn headers(&self, event: &Event) -> Vec<(String, String)> {
        [
            ("ApiVersion", self.release.api_version()),
            ("Content-Type", self.content_type.as_str()),
            ("X-Correlation-ID", &event.correlation),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// The event in its envelope, which is JSON; within it, the event is base64, or the object itself where release 4 is to
    /// read JSON.
    pub fn envelope(&self, event: &Event, topic: &str) -> Vec<u8> {
        let payload = if self.release >= Release::V4 && self.content_type == ContentType::Json {
            event.content.clone()
        } else {
            let bytes = encode(&event.content, self.content_type);
            Value::string(base64::engine::general_purpose::STANDARD.encode(bytes))
        };
        let text = |text: &str| Value::string(text);
        let members = [
            ("apiVersion", text(self.release.api_version())),
            ("receivedTopic", text(topic)),
            ("correlationID", Value::String(event.correlation.clone())),
            ("requestID", text("")),
            ("errorCode", Value::Int(0)),
            ("payload", payload),
            ("contentType", text(self.content_type.as_str())),
        ];
        let mut envelope = Object::with_capacity(8);
        for (name, value) in members {
            match self.release {
                // Go's own names.
                Release::V2 => {
                    let (first, rest) = name.split_at(1);
                    envelope.insert(format_smolstr!("{}{rest}", first.to_ascii_uppercase()), value);
                }
                Release::V3 | Release::V4 => envelope.insert(name, value),
            }
        }
        if self.release == Release::V2 {
            envelope.insert("QueryParams", Value::Object(Arc::default()));
        }
        let mut out = Vec::new();
        json_encoder::write_object(&envelope, &mut out);
        out
    }
}

impl Release {
    /// Release 4 still speaks version 3 of the API.
    fn api_version(self) -> &'static str {
        match self {
            Release::V2 => "v2",
            Release::V3 | Release::V4 => "v3",
        }
    }
}

fn encode(value: &Value, content_type: ContentType) -> Vec<u8> {
    let mut out = Vec::new();
    match content_type {
        ContentType::Json => json_encoder::write_value(value, &mut out),
        ContentType::Cbor => cbor::write_value(value, &mut out),
    }
    out
}

fn scalar_text(value_type: &str, value: &Value) -> Result<String, String> {
    use sluice_sql::value::coerce::{Strictness, text, to_bool, to_float, to_int};
    let written = match value_type {
        "Bool" => to_bool(value, Strictness::All).map(|bool| bool.to_string()),
        "Float32" | "Float64" => to_float(value, Strictness::All).map(float_text),
        "Uint64" if matches!(value, Value::Uint(_)) => Some(text(value).into_owned()),
        ty if ty.starts_with("Int") || ty.starts_with("Uint") => {
            let number = to_int(value, Strictness::All);
            number.filter(|number| fits(ty, *number)).map(|number| number.to_string())
        }
        "String" => Some(text(value).into_owned()),
        _ => return Err(format!("{value_type} is no EdgeX type")),
    };
    written.ok_or_else(|| format!("this {} can't be written as {value_type}", value.kind_name()))
}

fn fits(value_type: &str, number: i64) -> bool {
    match value_type {
        "Int8" => i8::try_from(number).is_ok(),
        "Int16" => i16::try_from(number).is_ok(),
        "Int32" => i32::try_from(number).is_ok(),
        "Uint8" => u8::try_from(number).is_ok(),
        "Uint16" => u16::try_from(number).is_ok(),
        "Uint32" => u32::try_from(number).is_ok(),
        "Uint64" => number >= 0,
        _ => true,
    }
}

/// With an exponent of two digits and its sign: `2.3513052e+01`.
fn float_text(number: f64) -> String {
    if !number.is_finite() {
        return if number.is_nan() { "NaN".to_owned() } else { format!("{}Inf", if number > 0.0 { '+' } else { '-' }) };
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

fn bytes_of(value: &Value) -> Result<Bytes, String> {
    match value {
        Value::Bytes(bytes) => Ok(Bytes::clone(bytes)),
        Value::String(text) => base64::engine::general_purpose::STANDARD
            .decode(text.as_bytes())
            .map(Bytes::from)
            .map_err(|_| "a text can be written as Binary if it is base64; this one is not".to_owned()),
        other => Err(format!("a {} can't be written as Binary", other.kind_name())),
    }
}

/// By the first bytes.
fn media_type_of(bytes: &[u8]) -> &'static str {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
        _ => "application/octet-stream",
    }
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 2f64.powi(63) => Some(*number as i64),
        _ => None,
    }
}

fn is_filled(value: &Value) -> bool {
    match value {
        Value::Missing | Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(object) => !object.is_empty(),
        _ => true,
    }
}
