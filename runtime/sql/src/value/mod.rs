//! What flows: values, rows, batches and the schema that names their slots.
//!
//! Start at [`Batch`]. Coercion rules, datetimes and JSON have a file each.

mod batch;
pub mod coerce;
pub mod datetime;
pub mod json;
mod key;
pub mod memory;
mod object;
mod raw;
pub mod state;

pub use batch::{Batch, Column, ColumnKind, Emission, Emissions, Row, Schema, WindowRange};
pub use object::Object;
pub use raw::RawObject;

use std::sync::Arc;

use bytes::Bytes;
use smol_str::SmolStr;

/// Milliseconds since the epoch, UTC.
pub type Timestamp = i64;

/// One value of a row.
///
/// `Missing` and `Null` evaluate alike; they differ only when a row is written: a missing column is left out, a null one
/// is printed as `null`.
///
/// Rows are vectors of these, so it is kept at 24 bytes: what is larger is behind a pointer.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// The row has no such column.
    #[default]
    Missing,
    /// The column is there and holds null.
    Null,
    /// `boolean`
    Bool(bool),
    /// `bigint`, and whole JSON numbers of schemaless streams (see [`Type::Number`]).
    Int(i64),
    /// An unsigned integer that `Int` can't hold; always above `i64::MAX`. Arithmetic wraps it to `Int` first.
    Uint(u64),
    /// `float`
    Float(f64),
    /// `string`
    String(SmolStr),
    /// `bytea`
    Bytes(Arc<Bytes>),
    /// `datetime`: an instant with its zone.
    Datetime(Arc<jiff::Zoned>),
    /// `array`
    Array(Arc<Vec<Value>>),
    /// `struct`
    Object(Arc<Object>),
    /// A whole row that arrived as a JSON object and is still text. Only ever in a [`ColumnKind::Star`] slot: it lets
    /// `SELECT *` pass the bytes on unparsed. [`Value::to_object`] parses it.
    Raw(Arc<RawObject>),
}

impl Value {
    /// True for both null and missing.
    #[inline]
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null | Value::Missing)
    }

    /// A string value.
    pub fn string(text: impl Into<SmolStr>) -> Self {
        Value::String(text.into())
    }

    /// A `bytea` value.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Value::Bytes(Arc::new(bytes.into()))
    }

    /// An unsigned number in the smallest variant that holds it exactly.
    pub fn from_u64(number: u64) -> Self {
        i64::try_from(number).map_or(Value::Uint(number), Value::Int)
    }

    /// The object behind `Object` or `Raw`; `None` for any other kind, and for raw text that is no object.
    pub fn to_object(&self) -> Option<Arc<Object>> {
        match self {
            Value::Object(object) => Some(Arc::clone(object)),
            Value::Raw(raw) => Some(raw.object()),
            _ => None,
        }
    }

    /// The name of the value's kind in messages and docs: `bigint`, `string`, ...
    pub fn kind_name(&self) -> &'static str {
        match self {
            Value::Missing | Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Int(_) | Value::Uint(_) => "bigint",
            Value::Float(_) => "float",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytea",
            Value::Datetime(_) => "datetime",
            Value::Array(_) => "array",
            Value::Object(_) | Value::Raw(_) => "struct",
        }
    }
}

/// What the planner knows of a value before any row has been seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub enum Type {
    /// Nothing is known. Numbers follow the rules of [`Type::Number`].
    #[default]
    Any,
    /// A JSON number of a schemaless stream. Whole ones are held as `Int` and keep all 64 bits, but follow the rules of
    /// floats wherever the result would differ: `7 / 2` is 3.5.
    Number,
    /// `bigint`
    Int,
    /// `float`
    Float,
    /// `string`
    String,
    /// `boolean`
    Bool,
    /// `bytea`
    Bytes,
    /// `datetime`
    Datetime,
    /// `array(T)`
    Array(Box<Type>),
    /// `struct(...)`; an empty list means that the members are not known.
    Struct(Vec<(SmolStr, Type)>),
}

#[cfg(test)]
mod tests {
    use super::Value;

    #[test]
    fn values_are_small() {
        assert_eq!(std::mem::size_of::<Value>(), 24);
    }
}
