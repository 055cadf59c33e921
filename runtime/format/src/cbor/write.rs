//! Values as CBOR.

use ciborium_ll::{Encoder, Header, simple};
use sluice_sql::Value;
use sluice_sql::value::json::Rfc3339;

/// Appends a value. Missing members of objects are left out; a missing value by itself is null.
pub fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Missing | Value::Null => header(Header::Simple(simple::NULL), out),
        Value::Bool(bool) => header(Header::Simple(if *bool { simple::TRUE } else { simple::FALSE }), out),
        Value::Int(number) => match u64::try_from(*number) {
            Ok(number) => header(Header::Positive(number), out),
            // `-1 - number`, without going out of range.
            Err(_) => header(Header::Negative(!number as u64), out),
        },
        Value::Uint(number) => header(Header::Positive(*number), out),
        Value::Float(number) => header(Header::Float(*number), out),
        Value::String(text) => write_text(text, out),
        Value::Bytes(bytes) => {
            header(Header::Bytes(Some(bytes.len())), out);
            out.extend_from_slice(bytes);
        }
        Value::Datetime(instant) => {
            header(Header::Tag(0), out);
            write_text(&Rfc3339(instant).to_string(), out);
        }
        Value::Array(values) => {
            header(Header::Array(Some(values.len())), out);
            values.iter().for_each(|value| write_value(value, out));
        }
        Value::Object(object) => {
            let members = || object.iter().filter(|(_, value)| !matches!(value, Value::Missing));
            header(Header::Map(Some(members().count())), out);
            for (name, value) in members() {
                write_text(name, out);
                write_value(value, out);
            }
        }
        Value::Raw(raw) => write_value(&Value::Object(raw.object()), out),
    }
}

/// Appends a text.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    header(Header::Text(Some(text.len())), out);
    out.extend_from_slice(text.as_bytes());
}

/// Appends the head of an item.
pub fn header(header: Header, out: &mut Vec<u8>) {
    Encoder::from(out).push(header).expect("writing to memory does not fail");
}
