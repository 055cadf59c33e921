//! Rows in batches, and the schema that says what each slot holds.

use std::sync::Arc;

use smol_str::SmolStr;

use super::{Object, Timestamp, Type, Value};

/// What a slot of a row holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnKind {
    /// One named column.
    Field,
    /// All columns of a source, as one object (`Value::Object` or `Value::Raw`): `*` of a schemaless stream, the result of
    /// `unnest` over objects. When a row is written, the members stand at this place, each under its own name.
    Star,
    /// The metadata of the message that the row came from (an object; which keys depends on the connector). Never written.
    Meta,
    /// A slot that the plan needs but the result does not show (`INVISIBLE`, sort keys). Never written.
    Hidden,
}

/// One slot of a schema.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Column {
    /// The name in results; for `Star` and `Meta` the source's name.
    pub name: SmolStr,
    /// What the slot holds.
    pub kind: ColumnKind,
    /// What the planner knows of its values.
    pub ty: Type,
}

/// The slots of the rows of a batch, in order.
///
/// A source's schema only ever grows at its end while the source runs: a rule that joins a shared stream later may add
/// columns, and rows already on their way are then shorter. Reading past the end of a row gives `Missing`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Schema {
    /// Slot `i` of every row is described by `columns[i]`.
    pub columns: Vec<Column>,
}

impl Schema {
    /// The slot of the field `name`.
    pub fn field(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.kind == ColumnKind::Field && column.name == name)
    }

    /// True if writing a row needs no merging: no star slot, or nothing but one star slot.
    pub fn is_plain(&self) -> bool {
        let mut n_star = 0;
        let mut n_field = 0;
        for column in &self.columns {
            match column.kind {
                ColumnKind::Star => n_star += 1,
                ColumnKind::Field => n_field += 1,
                ColumnKind::Meta | ColumnKind::Hidden => {}
            }
        }
        n_star == 0 || (n_star == 1 && n_field == 0)
    }

    /// The row as an object, the way it is written: missing columns left out, stars spread at their place. Between two stars
    /// the first source's value wins; a named field wins over a star.
    pub fn to_object(&self, row: &Row) -> Object {
        let mut object = Object::with_capacity(self.columns.len());
        let mut named: Vec<(&SmolStr, &Value)> = Vec::new();
        for (column, value) in self.columns.iter().zip(&row.values) {
            match column.kind {
                ColumnKind::Star => {
                    if let Some(members) = value.to_object() {
                        for (name, value) in members.iter() {
                            if object.get(name).is_none() {
                                object.insert(name.clone(), value.clone());
                            }
                        }
                    }
                }
                ColumnKind::Field if !matches!(value, Value::Missing) => {
                    object.insert(column.name.clone(), value.clone());
                    named.push((&column.name, value));
                }
                ColumnKind::Field | ColumnKind::Meta | ColumnKind::Hidden => {}
            }
        }
        for (name, value) in named {
            object.insert(name.clone(), value.clone());
        }
        object
    }
}

/// One row: a time and one value per slot of the batch's schema.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Event time, or in processing time the time of arrival.
    pub ts: Timestamp,
    /// One value per slot; may be shorter than the schema, what is not there is `Missing`.
    pub values: Vec<Value>,
}

impl Row {
    /// The value in slot `slot`, `Missing` past the end.
    #[inline]
    pub fn get(&self, slot: usize) -> &Value {
        static MISSING: Value = Value::Missing;
        self.values.get(slot).unwrap_or(&MISSING)
    }
}

/// The time span that a window covers and what made it fire, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowRange {
    /// First instant that belongs to the window.
    pub start: Timestamp,
    /// End of the window; exclusive but for sliding windows.
    pub end: Timestamp,
    /// `window_trigger()`: the end, except for sliding windows that are sent in two parts.
    pub trigger: Timestamp,
}

/// One result that leaves the rule together: the rows of a window, of a join, or the failure that took their place.
#[derive(Clone, Debug)]
pub struct Emission {
    /// Index behind the emission's last row in [`Batch::rows`]; it begins where the one before it ended.
    pub end: usize,
    /// The window that the rows come from.
    pub window: Option<WindowRange>,
    /// An error that travels to the sinks in place of rows (rule option `sendError`); such an emission has no rows.
    pub error: Option<Arc<str>>,
}

/// How the rows of a batch fall into results.
#[derive(Clone, Debug, Default)]
pub enum Emissions {
    /// Each row is a result of its own (a query without window, join and set-returning function).
    #[default]
    PerRow,
    /// Explicit results, in order; empty ones are possible.
    Grouped(Vec<Emission>),
}

/// Rows that travel together, one or many.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Names the slots.
    pub schema: Arc<Schema>,
    /// In order of arrival, or as the query orders them.
    pub rows: Vec<Row>,
    /// How they fall into results.
    pub emissions: Emissions,
}

impl Batch {
    /// Rows that are each a result of their own.
    pub fn per_row(schema: Arc<Schema>, rows: Vec<Row>) -> Self {
        Batch { schema, rows, emissions: Emissions::PerRow }
    }

    /// True without rows and without emissions.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && matches!(&self.emissions, Emissions::PerRow)
            || matches!(&self.emissions, Emissions::Grouped(emissions) if emissions.is_empty())
    }
}
