//! A reading to a column: its value by its `valueType`.
//!
//! EdgeX writes values as text: floats with an exponent, arrays as `[1, 2]`, arrays of strings as JSON in release 4 but
//! without quotes before. Release 4 may also write the value itself.

use std::sync::Arc;

use base64::Engine as _;
use sluice_sql::{Object, Value};
use smol_str::{SmolStr, format_smolstr};

use crate::json;

/// Members that are the value, or that are the name it goes by.
const NO_METADATA: [&str; 4] = ["value", "binaryValue", "objectValue", "resourceName"];

/// The name and value of a reading's column.
///
/// # Errors
/// What is wrong with the reading, without its value.
pub fn column(reading: &Value) -> Result<(SmolStr, Value), String> {
    let Value::Object(reading) = reading else { return Err("a reading is no object".to_owned()) };
    let name = match reading.get("resourceName") {
        Some(Value::String(name)) if !name.is_empty() => name,
        _ => return Err("a reading has no resourceName".to_owned()),
    };
    let value = value(reading).map_err(|message| format!("reading {name}: {message}"))?;
    Ok((name.clone(), value))
}

/// What else a reading says. Media type and unit are there, if empty, whatever the sender left out.
pub fn metadata(reading: &Value) -> Object {
    let Value::Object(reading) = reading else { return Object::default() };
    let mut meta = Object::with_capacity(8);
    for (key, value) in reading.iter().filter(|(key, _)| !NO_METADATA.contains(&key.as_str())) {
        meta.insert(key.clone(), value.clone());
    }
    for key in ["mediaType", "units"] {
        if meta.get(key).is_none() {
            meta.insert(key, Value::string(""));
        }
    }
    meta
}

fn value(reading: &Object) -> Result<Value, String> {
    let get = |name: &str| reading.get(name).filter(|value| !value.is_null());
    let Some(Value::String(value_type)) = get("valueType") else { return Err("it has no valueType".to_owned()) };
    if value_type == "Binary" {
        return get("binaryValue").map_or(Ok(Value::Null), binary);
    }
    if matches!(value_type.as_str(), "Object" | "ObjectArray")
        && let Some(object) = get("objectValue")
    {
        return Ok(object.clone());
    }
    let Some(value) = get("value") else { return Ok(Value::Null) };
    if let Some(element) = value_type.strip_suffix("Array") {
        if let Some(scalar) = Scalar::called(element) {
            return array(scalar, value).map(|values| Value::Array(Arc::new(values)));
        }
    } else if let Some(scalar) = Scalar::called(value_type) {
        return scalar.read(value);
    }
    match value {
        Value::String(text) if value_type.starts_with("Object") => {
            json::parse_value(text.as_bytes()).map_err(|error| format!("{value_type}: {error}"))
        }
        // A type of a later release.
        other => Ok(other.clone()),
    }
}

fn binary(value: &Value) -> Result<Value, String> {
    match value {
        Value::Bytes(_) => Ok(value.clone()),
        Value::String(text) => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(text.as_bytes());
            decoded.map(Value::bytes).map_err(|error| format!("binaryValue is not base64: {error}"))
        }
        other => Err(format!("binaryValue is a {}, neither bytes nor base64", other.kind_name())),
    }
}

/// The simple types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scalar {
    Bool,
    Int,
    Float,
    String,
}

impl Scalar {
    fn called(name: &str) -> Option<Self> {
        Some(match name {
            "Bool" => Scalar::Bool,
            "Int8" | "Int16" | "Int32" | "Int64" | "Uint8" | "Uint16" | "Uint32" | "Uint64" => Scalar::Int,
            "Float32" | "Float64" => Scalar::Float,
            "String" => Scalar::String,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Scalar::Bool => "a boolean",
            Scalar::Int => "a whole number of 64 bits",
            Scalar::Float => "a number",
            Scalar::String => "a text",
        }
    }

    fn read(self, value: &Value) -> Result<Value, String> {
        let read = match (self, value) {
            (_, Value::Null | Value::Missing) => Some(Value::Null),
            (_, Value::String(text)) => self.of_text(text),
            (Scalar::Bool, Value::Bool(_))
            | (Scalar::Int, Value::Int(_) | Value::Uint(_))
            | (Scalar::Float, Value::Float(_)) => Some(value.clone()),
            (Scalar::Float, Value::Int(number)) => Some(Value::Float(*number as f64)),
            (Scalar::Float, Value::Uint(number)) => Some(Value::Float(*number as f64)),
            (Scalar::Int, Value::Float(number)) if number.fract() == 0.0 && number.abs() < 2f64.powi(63) => {
                Some(Value::Int(*number as i64))
            }
            (Scalar::String, Value::Bool(bool)) => Some(Value::String(format_smolstr!("{bool}"))),
            (Scalar::String, Value::Int(number)) => Some(Value::String(format_smolstr!("{number}"))),
            (Scalar::String, Value::Uint(number)) => Some(Value::String(format_smolstr!("{number}"))),
            (Scalar::String, Value::Float(number)) => Some(Value::String(format_smolstr!("{number}"))),
            _ => None,
        };
        read.ok_or_else(|| format!("expected {}, found another {}", self.name(), found(value)))
    }

    fn of_text(self, text: &SmolStr) -> Option<Value> {
        let trimmed = text.trim();
        match self {
            Scalar::String => Some(Value::String(text.clone())),
            Scalar::Bool => match trimmed {
                "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(Value::Bool(true)),
                "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(Value::Bool(false)),
                _ => None,
            },
            Scalar::Int => match trimmed.parse::<i64>() {
                Ok(number) => Some(Value::Int(number)),
                Err(_) => trimmed.parse().ok().map(Value::from_u64),
            },
            Scalar::Float => trimmed.parse().ok().map(Value::Float),
        }
    }
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        other => other.kind_name(),
    }
}

/// An array, as a list or as its text.
fn array(element: Scalar, value: &Value) -> Result<Vec<Value>, String> {
    let text = match value {
        Value::Array(values) => return values.iter().map(|value| element.read(value)).collect(),
        Value::String(text) => text.trim(),
        other => return Err(format!("expected an array, found a {}", other.kind_name())),
    };
    let Some(inside) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) else {
        return Err("expected an array in brackets, found another text".to_owned());
    };
    if element == Scalar::String {
        if let Ok(Value::Array(values)) = json::parse_value(text.as_bytes())
            && values.iter().all(|value| matches!(value, Value::String(_)))
        {
            return Ok(Arc::unwrap_or_clone(values));
        }
        // Before release 4 there are no quotes, and nothing tells a comma in a member from one between two.
        let members = inside.split(", ").filter(|_| !inside.is_empty());
        return Ok(members.map(Value::string).collect());
    }
    let members = inside.split(',').map(|member| member.trim().trim_matches('"')).filter(|_| !inside.trim().is_empty());
    let read = |(idx, member): (usize, &str)| {
        element
            .of_text(&member.into())
            .ok_or_else(|| format!("[{idx}]: expected {}, found another text", element.name()))
    };
    members.enumerate().map(read).collect()
}
