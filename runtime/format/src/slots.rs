//! Named values into the slots of a schema.

use std::sync::Arc;

use sluice_sql::sql::ast::Field;
use sluice_sql::{ColumnKind, Object, Row, Schema, Timestamp, Value};
use smol_str::SmolStr;

use super::declared::Declared;

/// Where a stream's columns go in the rows of a schema, and as which type.
pub struct Slots {
    /// Named slots, in no order.
    pub fields: Vec<Slot>,
    /// The star slot, if there is one.
    pub star: Option<usize>,
    /// A star of declared columns holds those only, converted.
    pub star_declared: Option<Declared>,
    meta: Option<usize>,
    n_slots: usize,
}

/// A slot for one column.
pub struct Slot {
    /// The column.
    pub name: SmolStr,
    /// Its place in the row.
    pub idx: usize,
    /// Its declared type.
    pub ty: Declared,
}

impl Slots {
    /// The slots of `schema`. Columns that are not among the declared `fields` stay `Missing`, unless none are declared.
    pub fn new(schema: &Schema, fields: &[Field]) -> Self {
        let slot_of = |kind| schema.columns.iter().position(|column| column.kind == kind);
        let mut slots = Slots {
            fields: Vec::new(),
            star: slot_of(ColumnKind::Star),
            star_declared: (!fields.is_empty()).then(|| Declared::columns(fields)),
            meta: slot_of(ColumnKind::Meta),
            n_slots: schema.columns.len(),
        };
        for (idx, column) in schema.columns.iter().enumerate() {
            if !matches!(column.kind, ColumnKind::Field | ColumnKind::Hidden) {
                continue;
            }
            let declared = fields.iter().find(|field| field.name.name == column.name);
            let ty = match declared {
                Some(field) => Declared::new(&field.ty),
                None if fields.is_empty() => Declared::Any,
                None => continue,
            };
            slots.fields.push(Slot { name: column.name.clone(), idx, ty });
        }
        slots
    }

    /// A row without columns, but with its metadata.
    #[inline]
    pub fn empty(&self, ts: Timestamp, meta: Option<&Arc<Object>>) -> Row {
        let mut row = Row { ts, values: vec![Value::Missing; self.n_slots] };
        if let (Some(slot), Some(meta)) = (self.meta, meta) {
            set(&mut row, slot, Value::Object(Arc::clone(meta)));
        }
        row
    }

    /// The row that holds the members of `object`.
    ///
    /// # Errors
    /// Which member does not fit its declared type.
    pub fn row(&self, object: Arc<Object>, ts: Timestamp, meta: Option<&Arc<Object>>) -> Result<Row, String> {
        let mut row = self.empty(ts, meta);
        for Slot { name, idx, ty } in &self.fields {
            if let Some(value) = object.get(name) {
                let value = ty.convert(value.clone()).map_err(|message| format!("column {name}: {message}"))?;
                set(&mut row, *idx, value);
            }
        }
        if let Some(star) = self.star {
            let value = match &self.star_declared {
                Some(declared) => {
                    declared.convert(Value::Object(object)).map_err(|message| format!("column {message}"))?
                }
                None => Value::Object(object),
            };
            set(&mut row, star, value);
        }
        Ok(row)
    }
}

/// Sets a slot that the row has.
#[inline]
pub fn set(row: &mut Row, slot: usize, value: Value) {
    if let Some(place) = row.values.get_mut(slot) {
        *place = value;
    }
}
