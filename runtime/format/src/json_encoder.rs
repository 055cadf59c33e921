//! Rows as JSON text. How a value prints is [`sluice_sql::value::json`]'s matter; decoding has a file of its own.

use std::ops::Range;
use std::sync::Arc;

use sluice_sql::value::ColumnKind;
pub use sluice_sql::value::json::{Rfc3339, write_float, write_object, write_string, write_value};
use sluice_sql::{Batch, Row, Schema, Value};

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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sluice_sql::Object;
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
