//! Rows that a rule left out, as records for the sinks that take them (`lateSink`, `errorSink`).

use std::sync::Arc;

use sluice_sql::expr::{RejectReason, Rejected};
use sluice_sql::{Batch, Column, ColumnKind, Row, Schema, Type, Value};

use crate::pipeline::channel::Sender;
use crate::pipeline::outlet::ToSink;

/// The channels of a rule's sinks for rows that it left out.
#[derive(Debug, Default)]
pub struct SideSinks {
    /// For late rows.
    pub late: Option<Sender<ToSink>>,
    /// For rows that failed, and those without a usable timestamp.
    pub error: Option<Sender<ToSink>>,
}

/// The columns of a record.
pub fn schema() -> Arc<Schema> {
    let column = |name: &str, ty| Column { name: name.into(), kind: ColumnKind::Field, ty };
    let columns = vec![
        column("rule", Type::String),
        column("reason", Type::String),
        column("ts", Type::Int),
        column("error", Type::String),
        column("row", Type::Struct(Vec::new())),
    ];
    Arc::new(Schema { columns })
}

/// One record per row. `ts` is the row's event time or, without one, when it arrived; `row` holds the columns that the rule
/// reads, and nothing if it was not one row that failed.
pub fn batch(rule: &str, rejected: &[&Rejected]) -> Batch {
    let record = |rejected: &&Rejected| {
        let error = rejected.error.as_deref().map_or(Value::Missing, Value::string);
        let row = match rejected.row.is_empty() {
            true => Value::Missing,
            false => Value::Object(Arc::new(rejected.row.clone())),
        };
        let reason = Value::string(rejected.reason.as_str());
        Row { ts: rejected.ts, values: vec![Value::string(rule), reason, Value::Int(rejected.ts), error, row] }
    };
    Batch::per_row(schema(), rejected.iter().map(record).collect())
}

impl SideSinks {
    /// All channels.
    pub fn all(&self) -> impl Iterator<Item = &Sender<ToSink>> {
        self.late.iter().chain(&self.error)
    }

    /// The channel for rows that were left out for this reason.
    pub fn of(&self, reason: RejectReason) -> Option<&Sender<ToSink>> {
        match reason {
            RejectReason::Late => self.late.as_ref(),
            RejectReason::BadTimestamp | RejectReason::Error => self.error.as_ref(),
        }
    }
}
