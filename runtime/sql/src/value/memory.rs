//! How much memory values take.

use super::{Row, Value};

/// What a value takes in its row.
const VALUE_BYTES: u64 = size_of::<Value>() as u64;

/// About how many bytes of memory a row takes.
pub fn row_bytes(row: &Row) -> u64 {
    size_of::<Row>() as u64 + row.values.iter().map(value_bytes).sum::<u64>()
}

/// About how many bytes of memory a value takes, with what it points to.
pub fn value_bytes(value: &Value) -> u64 {
    /// Longest text that a string holds without a block of its own.
    const INLINE_TEXT: usize = 23;
    VALUE_BYTES
        + match value {
            Value::String(text) if text.len() > INLINE_TEXT => text.len() as u64 + 16,
            Value::Bytes(bytes) => bytes.len() as u64,
            Value::Datetime(_) => 64,
            Value::Array(items) => 40 + items.iter().map(value_bytes).sum::<u64>(),
            Value::Object(object) => {
                64 + object.iter().map(|(name, value)| name.len() as u64 + 40 + value_bytes(value)).sum::<u64>()
            }
            Value::Raw(raw) => raw.text().len() as u64 + 64,
            _ => 0,
        }
}
