//! Values as keys: of groups, partitions, lookups.
//!
//! Typed, never by text: `1` and `"1"` are two keys. Numbers are one key if they are equal, whatever their kind. Null is a
//! key of its own, and missing is the same key as null.

use std::hash::{Hash, Hasher};

use super::Value;

impl Value {
    /// True if both are the same key.
    pub fn same_key(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Missing | Value::Null, Value::Missing | Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Uint(a), Value::Uint(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Value::Int(int), Value::Float(float)) | (Value::Float(float), Value::Int(int)) => {
                whole(*float) == Some(i128::from(*int))
            }
            (Value::Uint(uint), Value::Float(float)) | (Value::Float(float), Value::Uint(uint)) => {
                whole(*float) == Some(i128::from(*uint))
            }
            (Value::String(a), Value::String(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Datetime(a), Value::Datetime(b)) => a.timestamp() == b.timestamp(),
            (Value::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.same_key(b))
            }
            (Value::Object(_) | Value::Raw(_), Value::Object(_) | Value::Raw(_)) => {
                let (Some(a), Some(b)) = (self.to_object(), other.to_object()) else { return false };
                a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| a.same_key(b)))
            }
            _ => false,
        }
    }

    /// Feeds a hash so that equal keys hash alike.
    pub fn hash_key<H: Hasher>(&self, state: &mut H) {
        match self {
            Value::Missing | Value::Null => state.write_u8(0),
            Value::Bool(value) => (1u8, value).hash(state),
            Value::Int(value) => (2u8, i128::from(*value)).hash(state),
            Value::Uint(value) => (2u8, i128::from(*value)).hash(state),
            Value::Float(value) => match whole(*value) {
                Some(whole) => (2u8, whole).hash(state),
                None if value.is_nan() => state.write_u8(3),
                None => (4u8, value.to_bits()).hash(state),
            },
            Value::String(value) => {
                state.write(value.as_bytes());
                state.write_u8(5);
            }
            Value::Bytes(value) => (6u8, &value[..]).hash(state),
            Value::Datetime(value) => (7u8, value.timestamp().as_nanosecond()).hash(state),
            Value::Array(values) => {
                (8u8, values.len()).hash(state);
                for value in values.iter() {
                    value.hash_key(state);
                }
            }
            // Members may stand in any order, so only what does not depend on it goes in.
            Value::Object(_) | Value::Raw(_) => (9u8, self.to_object().map_or(0, |object| object.len())).hash(state),
        }
    }
}

/// The integer that a float is, if it is one and is in the range where it can equal an `Int` or a `Uint`.
fn whole(float: f64) -> Option<i128> {
    (float.fract() == 0.0 && float.abs() < 2f64.powi(65)).then_some(float as i128)
}
