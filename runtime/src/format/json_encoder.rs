//! Rows and values as JSON text. Decoding has a file of its own.
//!
//! Numbers print as Go's JSON does (`3`, not `3.0`, for a float without a fraction; an exponent below 1e-6 and from 1e21 on), bytes
//! as base64, instants as RFC 3339 with their offset. What JSON has no text for (NaN, infinities) is `null`.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use base64::engine::general_purpose::STANDARD;
use sluice_sql::value::ColumnKind;
use sluice_sql::{Batch, Object, Row, Schema, Value};

use super::{EncodeArgs, Encoder, FormatError};
use crate::error::ConfigError;

/// Makes the encoder of format `json`.
///
/// # Errors
/// None: `json` has no settings.
pub fn make(_args: &EncodeArgs<'_>) -> Result<Box<dyn Encoder>, ConfigError> {
    Ok(Box::<JsonEncoder>::default())
}

/// Rows as JSON objects. Keys are escaped once per schema.
#[derive(Default)]
pub struct JsonEncoder {
    layout: Option<Layout>,
}

impl Encoder for JsonEncoder {
    fn encode(
        &mut self,
        batch: &Batch,
        rows: Range<usize>,
        single: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        let layout = match &mut self.layout {
            Some(layout) if Arc::ptr_eq(&layout.schema, &batch.schema) => layout,
            layout => layout.insert(Layout::new(&batch.schema)),
        };
        if !single {
            out.push(b'[');
        }
        for (row_idx, row) in batch.rows.get(rows).unwrap_or_default().iter().enumerate() {
            if row_idx > 0 {
                out.push(b',');
            }
            layout.write(row, out);
        }
        if !single {
            out.push(b']');
        }
        Ok(())
    }
}

/// How the rows of one schema are written.
struct Layout {
    schema: Arc<Schema>,
    shape: Shape,
}

enum Shape {
    /// Slot and `"key":` of each column, names all different.
    Fields(Vec<(usize, Box<[u8]>)>),
    /// The one star slot: its object is the row.
    Star(usize),
    /// Members have to be merged first.
    Merged,
}

impl Layout {
    fn new(schema: &Arc<Schema>) -> Self {
        let mut fields = Vec::new();
        let mut stars = Vec::new();
        for (slot, column) in schema.columns.iter().enumerate() {
            match column.kind {
                ColumnKind::Field => fields.push((slot, &column.name)),
                ColumnKind::Star => stars.push(slot),
                ColumnKind::Meta | ColumnKind::Hidden => {}
            }
        }
        let distinct = |fields: &[(usize, &smol_str::SmolStr)]| {
            let mut names: Vec<_> = fields.iter().map(|(_, name)| *name).collect();
            names.sort_unstable();
            names.windows(2).all(|pair| pair.first() != pair.last())
        };
        let shape = match (stars.as_slice(), fields.as_slice()) {
            ([star], []) => Shape::Star(*star),
            ([], fields) if distinct(fields) => Shape::Fields(
                fields
                    .iter()
                    .map(|(slot, name)| {
                        let mut key = Vec::with_capacity(name.len() + 3);
                        write_string(name, &mut key);
                        key.push(b':');
                        (*slot, key.into_boxed_slice())
                    })
                    .collect(),
            ),
            _ => Shape::Merged,
        };
        Layout { schema: Arc::clone(schema), shape }
    }

    fn write(&self, row: &Row, out: &mut Vec<u8>) {
        match &self.shape {
            Shape::Fields(fields) => {
                out.push(b'{');
                let start = out.len();
                for (slot, key) in fields {
                    let value = row.get(*slot);
                    if matches!(value, Value::Missing) {
                        continue;
                    }
                    if out.len() > start {
                        out.push(b',');
                    }
                    out.extend_from_slice(key);
                    write_value(value, out);
                }
                out.push(b'}');
            }
            Shape::Star(slot) => match row.get(*slot) {
                value @ (Value::Object(_) | Value::Raw(_)) => write_value(value, out),
                _ => out.extend_from_slice(b"{}"),
            },
            Shape::Merged => write_object(&self.schema.to_object(row), out),
        }
    }
}

/// Appends a value as JSON.
pub fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Missing | Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(int) => append(out, int),
        Value::Uint(uint) => append(out, uint),
        Value::Float(float) => write_float(*float, out),
        Value::String(text) => write_string(text, out),
        Value::Bytes(bytes) => {
            out.push(b'"');
            append(out, &base64::display::Base64Display::new(bytes, &STANDARD));
            out.push(b'"');
        }
        Value::Datetime(zoned) => {
            out.push(b'"');
            append(out, &Rfc3339(zoned));
            out.push(b'"');
        }
        Value::Array(values) => {
            out.push(b'[');
            for (value_idx, value) in values.iter().enumerate() {
                if value_idx > 0 {
                    out.push(b',');
                }
                write_value(value, out);
            }
            out.push(b']');
        }
        Value::Object(object) => write_object(object, out),
        Value::Raw(raw) => out.extend_from_slice(raw.text()),
    }
}

/// Appends an object as JSON, members in their order; missing ones are left out.
pub fn write_object(object: &Object, out: &mut Vec<u8>) {
    out.push(b'{');
    let start = out.len();
    for (name, value) in object.iter().filter(|(_, value)| !matches!(value, Value::Missing)) {
        if out.len() > start {
            out.push(b',');
        }
        write_string(name, out);
        out.push(b':');
        write_value(value, out);
    }
    out.push(b'}');
}

/// Appends a text in quotes.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    sonic_rs::to_writer(out, text).expect("a text always has a JSON form, and writing to memory does not fail");
}

/// Appends a float in Go's form; `null` if it is not finite.
pub fn write_float(float: f64, out: &mut Vec<u8>) {
    let magnitude = float.abs();
    if !float.is_finite() {
        out.extend_from_slice(b"null");
    } else if magnitude < 1e15 && float.fract() == 0.0 && !(float == 0.0 && float.is_sign_negative()) {
        append(out, &(float as i64));
    } else if magnitude >= 1e21 {
        let text = format!("{float:e}");
        out.extend_from_slice(text.replace('e', "e+").as_bytes());
    } else if magnitude < 1e-6 && float != 0.0 {
        append(out, &format_args!("{float:e}"));
    } else {
        append(out, &float);
    }
}

/// An instant as `2026-01-02T03:04:05.678Z`, or with its offset.
pub struct Rfc3339<'a>(pub &'a jiff::Zoned);

impl std::fmt::Display for Rfc3339<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let offset = self.0.offset();
        if offset.seconds() == 0 {
            self.0.timestamp().fmt(f)
        } else {
            self.0.timestamp().display_with_offset(offset).fmt(f)
        }
    }
}

fn append(out: &mut Vec<u8>, text: &impl std::fmt::Display) {
    write!(out, "{text}").expect("writing to memory does not fail");
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sluice_sql::value::{Column, RawObject};

    use super::*;

    fn schema(columns: &[(&str, ColumnKind)]) -> Arc<Schema> {
        let columns = columns
            .iter()
            .map(|(name, kind)| Column { name: (*name).into(), kind: *kind, ty: sluice_sql::Type::Any })
            .collect();
        Arc::new(Schema { columns })
    }

    fn encoded(columns: &[(&str, ColumnKind)], rows: Vec<Vec<Value>>, single: bool) -> String {
        let n_rows = rows.len();
        let rows = rows.into_iter().map(|values| Row { ts: 0, values }).collect();
        let batch = Batch::per_row(schema(columns), rows);
        let mut out = Vec::new();
        JsonEncoder::default().encode(&batch, 0..n_rows, single, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn object(members: &[(&str, Value)]) -> Value {
        Value::Object(Arc::new(members.iter().map(|(name, value)| (*name, value.clone())).collect()))
    }

    #[test]
    fn values() {
        let zoned = |text: &str| Value::Datetime(Arc::new(text.parse().unwrap()));
        let cases = [
            (Value::Null, "null"),
            (Value::Bool(true), "true"),
            (Value::Int(i64::MIN), "-9223372036854775808"),
            (Value::Uint(u64::MAX), "18446744073709551615"),
            (Value::Float(3.0), "3"),
            (Value::Float(-0.0), "-0"),
            (Value::Float(0.1), "0.1"),
            (Value::Float(1e20), "100000000000000000000"),
            (Value::Float(1e21), "1e+21"),
            (Value::Float(1.5e300), "1.5e+300"),
            (Value::Float(1e-6), "0.000001"),
            (Value::Float(1e-7), "1e-7"),
            (Value::Float(f64::NAN), "null"),
            (Value::Float(f64::NEG_INFINITY), "null"),
            (Value::string("a\"b\\c\n\u{1}é😀</p>"), r#""a\"b\\c\n\u0001é😀</p>""#),
            (Value::Bytes(Bytes::from_static(b"\x00\xff!")), r#""AP8h""#),
            (zoned("2026-01-02T03:04:05.5+00:00[UTC]"), r#""2026-01-02T03:04:05.5Z""#),
            (zoned("2026-07-02T03:04:05+02:00[Europe/Berlin]"), r#""2026-07-02T03:04:05+02:00""#),
            (Value::Array(Arc::new(vec![Value::Int(1), Value::Missing, Value::string("x")])), r#"[1,null,"x"]"#),
            (object(&[("b", Value::Int(1)), ("gone", Value::Missing), ("a", Value::Null)]), r#"{"b":1,"a":null}"#),
        ];
        for (value, expected) in cases {
            let mut out = Vec::new();
            write_value(&value, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{value:?}");
        }
    }

    #[test]
    fn rows() {
        use ColumnKind::{Field, Hidden, Meta, Star};
        let raw = || {
            let text = Bytes::from_static(br#"{ "id" : 7 }"#);
            Value::Raw(Arc::new(RawObject::new(text, |_| Object::from_iter([("id", Value::Int(7))]))))
        };
        let fields = &[("a", Field), ("m", Meta), ("b\"", Field), ("h", Hidden)];
        let row = || vec![Value::Int(1), object(&[]), Value::string("x"), Value::Int(9)];
        assert_eq!(encoded(fields, vec![row()], true), r#"{"a":1,"b\"":"x"}"#);
        assert_eq!(encoded(fields, vec![row(), row()], false), r#"[{"a":1,"b\"":"x"},{"a":1,"b\"":"x"}]"#);
        assert_eq!(encoded(fields, vec![vec![Value::Missing]], true), "{}", "missing and short rows");
        assert_eq!(encoded(fields, vec![], false), "[]");
        assert_eq!(encoded(&[("s", Star)], vec![vec![raw()]], true), r#"{ "id" : 7 }"#, "the bytes that arrived");
        assert_eq!(encoded(&[("s", Star)], vec![vec![Value::Null], vec![raw()]], false), r#"[{},{ "id" : 7 }]"#);
        assert_eq!(
            encoded(&[("s", Star), ("id", Field), ("n", Field)], vec![vec![raw(), Value::Int(8), Value::Int(1)]], true),
            r#"{"id":8,"n":1}"#,
            "a named field wins at the star's place"
        );
        assert_eq!(
            encoded(
                &[("a", Field), ("b", Field), ("a", Field)],
                vec![vec![Value::Int(1), Value::Int(2), Value::Int(3)]],
                true
            ),
            r#"{"a":3,"b":2}"#
        );
    }
}
