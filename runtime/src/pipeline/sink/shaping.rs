//! Results in, what is to be written out: the shaper with the batcher before it.

use std::ops::Range;
use std::sync::Arc;

use sluice_sql::value::{Column, ColumnKind, Emission, Emissions};
use sluice_sql::{Batch, Row, Schema, Type, Value};
use tokio::time::Instant;

use super::batcher::Batcher;
use super::count_rows;
use super::deliver::Load;
use super::queue::Item;
use super::shape::Shaper;
use crate::pipeline::metrics::SinkMetrics;
use crate::sink::{Message, Takes};

/// Shapes results the way a sink takes them.
pub(super) struct Shaping {
    takes: Takes,
    pub(super) shaper: Shaper,
    batcher: Option<Batcher>,
    pub(super) metrics: Arc<SinkMetrics>,
    rows: Vec<Arc<Batch>>,
    /// Messages that another sink has shaped.
    messages: Vec<Message>,
}

impl Shaping {
    pub(super) fn new(takes: Takes, shaper: Shaper, batcher: Option<Batcher>, metrics: Arc<SinkMetrics>) -> Self {
        Shaping { takes, shaper, batcher, metrics, rows: Vec::new(), messages: Vec::new() }
    }

    /// When what is collected has waited long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.batcher.as_ref().and_then(Batcher::due)
    }

    /// Rows that are collected and not shaped yet.
    pub(super) fn n_held(&self) -> u64 {
        self.batcher.as_ref().map_or(0, Batcher::n_rows)
    }

    /// Items of the load that [`load`](Self::load) would give.
    pub(super) fn n_items(&self) -> usize {
        match self.takes {
            Takes::Messages => self.messages.len() + self.shaper.n_messages(),
            Takes::Rows => self.rows.iter().map(|batch| batch.rows.len()).sum(),
        }
    }

    /// What was shaped since the last call.
    pub(super) fn load(&mut self) -> Load {
        match self.takes {
            Takes::Messages if self.messages.is_empty() => Load::Messages(self.shaper.take_messages()),
            Takes::Messages => {
                let mut messages = std::mem::take(&mut self.messages);
                messages.extend(self.shaper.take_messages());
                Load::Messages(messages)
            }
            Takes::Rows => Load::Rows(std::mem::take(&mut self.rows)),
        }
    }

    /// Takes what another sink has shaped.
    pub(super) fn take_shaped(&mut self, items: Vec<Item>) {
        for item in items {
            self.metrics.rows_in.add(item.n_rows());
            match item {
                Item::Message(message) => self.messages.push(message),
                Item::Rows(batch) => self.rows.push(batch),
            }
        }
    }

    /// Shapes results, or collects them.
    pub(super) fn take(&mut self, batch: &Arc<Batch>, now: i64) {
        self.metrics.rows_in.add(count_rows(batch));
        let has_errors =
            matches!(&batch.emissions, Emissions::Grouped(emissions) if emissions.iter().any(|e| e.error.is_some()));
        if self.takes == Takes::Rows && self.batcher.is_none() && !has_errors && self.shaper.passes_rows() {
            if !batch.rows.is_empty() {
                self.rows.push(Arc::clone(batch));
            }
            return;
        }
        match &batch.emissions {
            Emissions::PerRow => {
                for row_idx in 0..batch.rows.len() {
                    self.result(batch, row_idx..row_idx + 1, now);
                }
            }
            Emissions::Grouped(emissions) => {
                let mut start = 0;
                for Emission { end, error, .. } in emissions {
                    match error {
                        Some(error) => self.error(error, now),
                        None => self.result(batch, start..*end, now),
                    }
                    start = *end;
                }
            }
        }
    }

    fn result(&mut self, batch: &Arc<Batch>, rows: Range<usize>, now: i64) {
        match &mut self.batcher {
            Some(batcher) => {
                batcher.add(batch, rows);
                if batcher.is_full() {
                    self.flush(now);
                }
            }
            None => match self.takes {
                Takes::Messages => self.shaper.add_messages(batch, rows, false, now),
                Takes::Rows => self.rows.extend(self.shaper.add_rows(batch, rows, false, now).map(Arc::new)),
            },
        }
    }

    fn error(&mut self, error: &Arc<str>, now: i64) {
        let batch = Arc::new(error_batch(error, now));
        match (&mut self.batcher, self.takes) {
            (Some(_), _) => self.result(&batch, 0..1, now),
            (None, Takes::Messages) => self.shaper.add_error(&batch, now),
            (None, Takes::Rows) => self.rows.push(batch),
        }
    }

    /// Shapes what is collected.
    pub(super) fn flush(&mut self, now: i64) {
        let Some((batch, rows)) = self.batcher.as_mut().and_then(Batcher::take) else { return };
        match self.takes {
            Takes::Messages => self.shaper.add_messages(&batch, rows, true, now),
            Takes::Rows => self.rows.extend(self.shaper.add_rows(&batch, rows, true, now).map(Arc::new)),
        }
    }
}

/// The row that an error makes.
fn error_batch(error: &Arc<str>, now: i64) -> Batch {
    let column = Column { name: "error".into(), kind: ColumnKind::Field, ty: Type::String };
    let row = Row { ts: now, values: vec![Value::string(&**error)] };
    Batch::per_row(Arc::new(Schema { columns: vec![column] }), vec![row])
}
