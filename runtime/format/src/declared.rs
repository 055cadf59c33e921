//! Declared column types: what becomes of a decoded value that has to fit one.
//!
//! | declared | number | text | boolean | list | object | null |
//! |---|---|---|---|---|---|---|
//! | bigint | if whole | error | error | error | error | null |
//! | float | yes | error | error | error | error | null |
//! | string | as text | yes | error | error | error | null |
//! | boolean | is it not 0 | `1 t true 0 f false`, in the usual cases | yes | error | error | null |
//! | datetime | kept | kept | error | error | error | null |
//! | bytea | error | base64, else the text's bytes | error | error | error | null |
//! | array(T) | error | error | error | each as T | error | null |
//! | struct(...) | error | error | error | error | members by their types, others dropped | null |

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use sluice_sql::sql::ast::{Field, FieldType};
use sluice_sql::{Object, Value};
use smol_str::{SmolStr, ToSmolStr, format_smolstr};

/// A declared type, ready to convert to.
#[derive(Clone, Debug, PartialEq)]
pub enum Declared {
    /// Nothing declared: everything fits.
    Any,
    /// `BIGINT`
    Bigint,
    /// `FLOAT`
    Float,
    /// `STRING`
    String,
    /// `BOOLEAN`
    Boolean,
    /// `DATETIME`
    Datetime,
    /// `BYTEA`
    Bytea,
    /// `ARRAY(T)`
    Array(Box<Declared>),
    /// `STRUCT(...)`
    Struct(Vec<(SmolStr, Declared)>),
}

impl Declared {
    /// The conversion to `ty`.
    pub fn new(ty: &FieldType) -> Self {
        match ty {
            FieldType::Bigint => Declared::Bigint,
            FieldType::Float => Declared::Float,
            FieldType::String => Declared::String,
            FieldType::Boolean => Declared::Boolean,
            FieldType::Datetime => Declared::Datetime,
            FieldType::Bytea => Declared::Bytea,
            FieldType::Array(element) => Declared::Array(Box::new(Declared::new(element))),
            FieldType::Struct(fields) => Declared::columns(fields),
        }
    }

    /// The conversion to an object with these members.
    pub fn columns(fields: &[Field]) -> Self {
        Declared::Struct(fields.iter().map(|field| (field.name.name.clone(), Declared::new(&field.ty))).collect())
    }

    /// The value as the declared type.
    ///
    /// # Errors
    /// What was expected and what was found, without the value itself.
    #[inline]
    pub fn convert(&self, value: Value) -> Result<Value, String> {
        match (self, value) {
            (Declared::Any, value) | (_, value @ (Value::Null | Value::Missing)) => Ok(value),
            (Declared::Bigint, value @ (Value::Int(_) | Value::Uint(_)))
            | (Declared::Float, value @ Value::Float(_))
            | (Declared::String, value @ Value::String(_))
            | (Declared::Boolean, value @ Value::Bool(_))
            | (Declared::Bytea, value @ Value::Bytes(_))
            | (
                Declared::Datetime,
                value @ (Value::Int(_) | Value::Uint(_) | Value::Float(_) | Value::String(_) | Value::Datetime(_)),
            ) => Ok(value),
            (Declared::Float, Value::Int(number)) => Ok(Value::Float(number as f64)),
            (Declared::Float, Value::Uint(number)) => Ok(Value::Float(number as f64)),
            (declared, value) => declared.convert_slowly(value),
        }
    }

    fn convert_slowly(&self, value: Value) -> Result<Value, String> {
        match (self, value) {
            (Declared::Bigint, Value::Float(number)) => {
                // Both bounds are floats exactly; the upper one is the first that is too large.
                if number.fract() == 0.0 && (-(2f64.powi(63))..2f64.powi(63)).contains(&number) {
                    return Ok(Value::Int(number as i64));
                }
                Err("expected a whole number of 64 bits for bigint, found a fraction or a larger number".to_owned())
            }
            (Declared::String, Value::Int(number)) => Ok(Value::String(number.to_smolstr())),
            (Declared::String, Value::Uint(number)) => Ok(Value::String(number.to_smolstr())),
            (Declared::String, Value::Float(number)) => Ok(Value::String(float_text(number))),
            (Declared::Boolean, Value::Int(number)) => Ok(Value::Bool(number != 0)),
            (Declared::Boolean, Value::Uint(_)) => Ok(Value::Bool(true)),
            (Declared::Boolean, Value::Float(number)) => Ok(Value::Bool(number != 0.0)),
            (Declared::Boolean, Value::String(text)) => match text.as_str() {
                "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Value::Bool(true)),
                "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Value::Bool(false)),
                _ => Err("expected a boolean, found another text".to_owned()),
            },
            (Declared::Bytea, Value::String(text)) => {
                let decoded = base64::engine::general_purpose::STANDARD.decode(text.as_bytes());
                Ok(Value::bytes(decoded.map_or_else(|_| Bytes::copy_from_slice(text.as_bytes()), Bytes::from)))
            }
            (Declared::Array(element), Value::Array(values)) => {
                let values = Arc::unwrap_or_clone(values).into_iter().enumerate();
                let convert = |(idx, value)| element.convert(value).map_err(|message| format!("[{idx}]: {message}"));
                Ok(Value::Array(Arc::new(values.map(convert).collect::<Result<_, _>>()?)))
            }
            (Declared::Struct(members), Value::Object(object)) => {
                let mut converted = Object::with_capacity(members.len());
                for (name, value) in Arc::unwrap_or_clone(object) {
                    if let Some((_, ty)) = members.iter().find(|(member, _)| *member == name) {
                        let value = ty.convert(value).map_err(|message| format!("{name}: {message}"))?;
                        converted.insert(name, value);
                    }
                }
                Ok(Value::Object(Arc::new(converted)))
            }
            (declared, value) => Err(format!("expected {}, found {}", declared.name(), found(&value))),
        }
    }

    /// A text as the declared type, for formats that know nothing but texts. An empty text is null, unless a string or bytea
    /// is declared.
    ///
    /// # Errors
    /// What was expected, without the text itself.
    pub fn convert_text(&self, text: SmolStr) -> Result<Value, String> {
        let expected = || format!("expected {}, found another text", self.name());
        match self {
            Declared::Any | Declared::String => Ok(Value::String(text)),
            Declared::Bytea => self.convert(Value::String(text)),
            _ if text.is_empty() => Ok(Value::Null),
            Declared::Bigint => match text.parse::<i64>() {
                Ok(number) => Ok(Value::Int(number)),
                Err(_) => {
                    text.parse::<f64>().map_err(|_| expected()).and_then(|number| self.convert(Value::Float(number)))
                }
            },
            Declared::Float => text.parse().map(Value::Float).map_err(|_| expected()),
            Declared::Boolean | Declared::Datetime => self.convert(Value::String(text)),
            Declared::Array(_) | Declared::Struct(_) => {
                super::json::parse_value(text.as_bytes()).map_err(|_| expected()).and_then(|value| self.convert(value))
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Declared::Any => "anything",
            Declared::Bigint => "a bigint",
            Declared::Float => "a float",
            Declared::String => "a string",
            Declared::Boolean => "a boolean",
            Declared::Datetime => "a datetime (a number or a text)",
            Declared::Bytea => "a bytea (a text)",
            Declared::Array(_) => "an array",
            Declared::Struct(_) => "a struct (an object)",
        }
    }
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Missing | Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Int(_) | Value::Uint(_) | Value::Float(_) => "a number",
        Value::String(_) => "a text",
        Value::Bytes(_) => "bytes",
        Value::Datetime(_) => "a datetime",
        Value::Array(_) => "a list",
        Value::Object(_) | Value::Raw(_) => "an object",
    }
}

/// The shortest text that reads back as the same float; with an exponent below 1e-4 and from 1e21 on.
fn float_text(number: f64) -> SmolStr {
    let size = number.abs();
    if number == 0.0 || (1e-4..1e21).contains(&size) || !number.is_finite() {
        return format_smolstr!("{number}");
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format_smolstr!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_floats() {
        for (number, expected) in [
            (0.0, "0"),
            (21.5, "21.5"),
            (100.0, "100"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-2.5e30, "-2.5e+30"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
        ] {
            assert_eq!(float_text(number), expected);
        }
    }
}
