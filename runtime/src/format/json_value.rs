//! JSON text to a value, without a schema.

use std::sync::Arc;

use sluice_sql::Value;

/// Reads one JSON value. Whole numbers that fit are integers, all others floats; members keep their order.
///
/// # Errors
/// What is wrong with the text, and where.
pub fn parse(text: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice::<serde_json::Value>(text).map(|json| from_json(&json))
}

/// A JSON value of the `serde_json` crate as one of ours.
pub fn from_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(int), _, _) => Value::Int(int),
            (None, Some(uint), _) => Value::from_u64(uint),
            (None, None, float) => Value::Float(float.unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::string(text.as_str()),
        serde_json::Value::Array(items) => Value::Array(Arc::new(items.iter().map(from_json).collect())),
        serde_json::Value::Object(members) => {
            Value::Object(Arc::new(members.iter().map(|(name, value)| (name.as_str(), from_json(value))).collect()))
        }
    }
}
