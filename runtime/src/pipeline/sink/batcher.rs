//! Collects results until there are enough, or the first has waited long enough.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use sluice_sql::value::{Column, ColumnKind};
use sluice_sql::{Batch, Row, Schema, Type, Value};
use tokio::time::Instant;

/// Collects results.
pub(super) struct Batcher {
    max_results: usize,
    linger: Duration,
    pieces: Vec<(Arc<Batch>, Range<usize>)>,
    n_results: usize,
    due: Option<Instant>,
}

impl Batcher {
    pub(super) fn new(max_results: usize, linger: Duration) -> Self {
        Batcher { max_results, linger, pieces: Vec::new(), n_results: 0, due: None }
    }

    pub(super) fn add(&mut self, batch: &Arc<Batch>, rows: Range<usize>) {
        self.n_results += 1;
        if self.due.is_none() && !self.linger.is_zero() {
            self.due = Some(Instant::now() + self.linger);
        }
        match self.pieces.last_mut() {
            Some((last, last_rows)) if Arc::ptr_eq(last, batch) && last_rows.end == rows.start => {
                last_rows.end = rows.end
            }
            _ => self.pieces.push((Arc::clone(batch), rows)),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.max_results > 0 && self.n_results >= self.max_results
    }

    /// When the first result has waited long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn n_rows(&self) -> u64 {
        self.pieces.iter().map(|(_, rows)| rows.len() as u64).sum()
    }

    /// Everything collected, joined; `None` without any result.
    pub(super) fn take(&mut self) -> Option<(Arc<Batch>, Range<usize>)> {
        self.due = None;
        self.n_results = 0;
        let mut pieces = std::mem::take(&mut self.pieces);
        if pieces.len() <= 1 {
            return pieces.pop();
        }
        let schema = Arc::clone(&pieces.first()?.0.schema);
        let same_schema = pieces.iter().all(|(batch, _)| batch.schema == schema);
        let mut rows = Vec::new();
        for (batch, range) in &pieces {
            let part = batch.rows.get(range.clone()).unwrap_or_default();
            if same_schema {
                rows.extend_from_slice(part);
            } else {
                rows.extend(
                    part.iter().map(|row| Row {
                        ts: row.ts,
                        values: vec![Value::Object(Arc::new(batch.schema.to_object(row)))],
                    }),
                );
            }
        }
        let star = || Schema { columns: vec![Column { name: "row".into(), kind: ColumnKind::Star, ty: Type::Any }] };
        let schema = if same_schema { schema } else { Arc::new(star()) };
        let n_rows = rows.len();
        Some((Arc::new(Batch::per_row(schema, rows)), 0..n_rows))
    }
}
