//! Picks columns: `fields`, `excludeFields`, `dataField`.

use std::ops::Range;
use std::sync::Arc;

use sluice_sql::value::{Column, ColumnKind};
use sluice_sql::{Batch, Object, Row, Schema, Type, Value};
use smol_str::SmolStr;

/// Which columns go on.
pub(super) struct Projection {
    names: Vec<SmolStr>,
    /// Keep the names, in their order; else leave them out.
    keep: bool,
    /// What it comes to for the schema seen last.
    layout: Option<Layout>,
}

struct Layout {
    from: Arc<Schema>,
    to: Arc<Schema>,
    /// The slots to take, if no star is in the way; `None` for a column that no row has.
    slots: Option<Vec<Option<usize>>>,
}

impl Projection {
    /// Keeps `names`, in that order.
    pub(super) fn keep(names: &[String]) -> Self {
        Projection { names: names.iter().map(Into::into).collect(), keep: true, layout: None }
    }

    /// Leaves `names` out.
    pub(super) fn exclude(names: &[String]) -> Self {
        Projection { names: names.iter().map(Into::into).collect(), keep: false, layout: None }
    }

    /// The rows with the columns that go on.
    pub(super) fn apply(&mut self, batch: &Batch, rows: Range<usize>) -> Batch {
        if self.layout.as_ref().is_none_or(|layout| !Arc::ptr_eq(&layout.from, &batch.schema)) {
            self.layout = Some(self.layout_for(&batch.schema));
        }
        let Some(layout) = &self.layout else { return Batch::default() };
        let rows = batch.rows.get(rows).unwrap_or_default().iter();
        let project = |row: &Row| {
            let values = match &layout.slots {
                Some(slots) if self.keep => slots.iter().map(|slot| kept(slot.map(|slot| row.get(slot)))).collect(),
                Some(slots) => {
                    slots.iter().map(|slot| slot.map_or(Value::Missing, |slot| row.get(slot).clone())).collect()
                }
                None if self.keep => {
                    self.names.iter().map(|name| kept(member(&batch.schema, row, name).as_ref())).collect()
                }
                None => vec![Value::Object(Arc::new(self.without(batch.schema.to_object(row))))],
            };
            Row { ts: row.ts, values }
        };
        Batch::per_row(Arc::clone(&layout.to), rows.map(project).collect())
    }

    fn without(&self, mut object: Object) -> Object {
        for name in &self.names {
            object.remove(name);
        }
        object
    }

    fn layout_for(&self, from: &Arc<Schema>) -> Layout {
        let has_star = from.columns.iter().any(|column| column.kind == ColumnKind::Star);
        let field = |name: &SmolStr| Column { name: name.clone(), kind: ColumnKind::Field, ty: Type::Any };
        let (columns, slots) = if self.keep {
            // The last one of a repeated name is the one that is written.
            let slot_of = |name: &SmolStr| {
                from.columns.iter().rposition(|column| column.kind == ColumnKind::Field && column.name == *name)
            };
            (self.names.iter().map(field).collect(), (!has_star).then(|| self.names.iter().map(slot_of).collect()))
        } else if has_star {
            (vec![Column { name: "row".into(), kind: ColumnKind::Star, ty: Type::Any }], None)
        } else {
            let kept = from
                .columns
                .iter()
                .enumerate()
                .filter(|(_, column)| column.kind == ColumnKind::Field && !self.names.contains(&column.name));
            let (slots, columns) = kept.map(|(slot, column)| (Some(slot), column.clone())).unzip();
            (columns, Some(slots))
        };
        Layout { from: Arc::clone(from), to: Arc::new(Schema { columns }), slots }
    }
}

/// A column that was asked for is written as null if the row lacks it.
fn kept(value: Option<&Value>) -> Value {
    match value {
        None | Some(Value::Missing) => Value::Null,
        Some(value) => value.clone(),
    }
}

/// The row's member `name`, the way it would be written.
pub(super) fn member(schema: &Schema, row: &Row, name: &str) -> Option<Value> {
    let named = schema.columns.iter().enumerate().rev().find_map(|(slot, column)| {
        let value = row.get(slot);
        (column.kind == ColumnKind::Field && column.name == name && !matches!(value, Value::Missing))
            .then(|| value.clone())
    });
    named.or_else(|| {
        let mut stars = schema.columns.iter().enumerate().filter(|(_, column)| column.kind == ColumnKind::Star);
        stars.find_map(|(slot, _)| row.get(slot).to_object()?.get(name).cloned())
    })
}

/// Appends the object, or the objects of the list, in column `name`.
pub(super) fn unwrap_field(schema: &Schema, row: &Row, name: &str, objects: &mut Vec<Value>) -> Result<(), String> {
    match member(schema, row, name) {
        Some(object @ (Value::Object(_) | Value::Raw(_))) => objects.push(object),
        Some(Value::Array(items)) if items.iter().all(|item| item.to_object().is_some()) => {
            objects.extend(items.iter().cloned());
        }
        Some(other) => {
            return Err(format!(
                "dataField: `{name}` is of type {}, not an object or a list of objects",
                other.kind_name()
            ));
        }
        None => return Err(format!("dataField: the row has no column `{name}`")),
    }
    Ok(())
}
