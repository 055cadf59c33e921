//! Where the stages put their results, and what they all work with.

use std::sync::Arc;

use crate::expr::{EvalContext, Failure, Fields, RejectReason, Rejected, RuleContext, Scope};
use crate::function::{MultiColumnFunction, StatefulFunction};
use crate::plan::stages::Stages;
use crate::value::{Batch, Emission, Emissions, Object, Row, Schema, Timestamp, WindowRange};

/// Results in the making: rows, and how they fall into emissions.
#[derive(Default)]
pub(super) struct Output {
    rows: Vec<Row>,
    /// Rows of emissions that are closed.
    n_closed: usize,
    /// None: each row so far is an emission of its own.
    emissions: Option<Vec<Emission>>,
}

impl Output {
    /// Makes room for so many rows.
    pub fn reserve(&mut self, n_rows: usize) {
        self.rows.reserve_exact(n_rows);
    }

    /// Adds a row to the open emission.
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Rows so far.
    pub fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// Closes the open emission, also without rows.
    pub fn close(&mut self, window: Option<WindowRange>) {
        let end = self.rows.len();
        let is_row = end == self.n_closed + 1 && window.is_none();
        if !is_row || self.emissions.is_some() {
            self.emission(Emission { end, window, error: None });
        }
        self.n_closed = end;
    }

    /// Adds an error. It stands before the rows of the open emission, if there is one.
    pub fn error(&mut self, error: Arc<str>) {
        self.emission(Emission { end: self.n_closed, window: None, error: Some(error) });
    }

    fn emission(&mut self, emission: Emission) {
        let rows = 1..=self.n_closed;
        let each = || rows.map(|end| Emission { end, window: None, error: None }).collect();
        self.emissions.get_or_insert_with(each).push(emission);
    }

    /// The results as a batch; nothing if there are none.
    pub fn finish(self, schema: &Arc<Schema>) -> Option<Batch> {
        let emissions = self.emissions.map_or(Emissions::PerRow, Emissions::Grouped);
        let batch = Batch { schema: Arc::clone(schema), rows: self.rows, emissions };
        (!batch.is_empty()).then_some(batch)
    }
}

/// What every stage works with while rows go through.
pub(super) struct Run<'a> {
    /// The plan.
    pub stages: &'a Stages,
    /// State of stateful functions.
    pub states: &'a mut [Box<dyn StatefulFunction>],
    /// State of multi-column functions.
    pub multi_columns: &'a mut [Box<dyn MultiColumnFunction>],
    /// The rule's surroundings.
    pub rule: &'a mut RuleContext,
    /// Where results go.
    pub out: &'a mut Output,
    /// What the slots of rows are, for rows that are left out.
    pub layout: Layout<'a>,
}

/// What the slots of rows are.
#[derive(Clone, Copy)]
pub(super) struct Layout<'a> {
    /// The columns of all inputs, in the order of their slots.
    pub columns: &'a Schema,
    /// Where they are in rows that are looked at as they come; none for rows of the plan's own layout.
    pub places: Option<&'a [usize]>,
}

impl Layout<'_> {
    fn object(self, row: &Row) -> Object {
        match self.places {
            None => self.columns.to_object(row),
            Some(places) => {
                let values = places.iter().map(|place| row.get(*place).clone()).collect();
                self.columns.to_object(&Row { ts: row.ts, values })
            }
        }
    }
}

impl Run<'_> {
    /// The scope of an expression over a row.
    pub fn scope(&mut self, event_time: Timestamp, window: Option<WindowRange>) -> Scope<'_> {
        Scope { ctx: EvalContext { rule: self.rule, event_time, window }, states: self.states, peeking: false }
    }

    /// Tests a condition on a row. A failure is reported and counts as false.
    pub fn test(&mut self, condition: &crate::expr::Expr, row: &Row) -> bool {
        self.test_at(condition, row, row.ts)
    }

    /// As [`test`](Self::test), for a row whose event time is not the one that it carries.
    pub fn test_at(&mut self, condition: &crate::expr::Expr, row: &Row, ts: Timestamp) -> bool {
        match condition.test(Fields::of(row), &mut self.scope(ts, None)) {
            Ok(holds) => holds,
            Err(failure) => {
                self.fail(&failure, Some(row));
                false
            }
        }
    }

    /// As [`test`](Self::test), for conditions whose failures only count as false: they drop nothing.
    pub fn test_quietly(&mut self, condition: &crate::expr::Expr, row: &Row) -> bool {
        let holds = condition.test(Fields::of(row), &mut self.scope(row.ts, None));
        holds.unwrap_or_else(|failure| {
            self.rule.report.last_error = Some(failure.to_string().into());
            false
        })
    }

    /// Counts and reports a row that an expression failed on; no row if it was about more than one.
    pub fn fail(&mut self, failure: &Failure, row: Option<&Row>) {
        self.fail_with(failure.to_string().into(), row);
    }

    /// As [`fail`](Self::fail), with a text.
    pub fn fail_with(&mut self, text: Arc<str>, row: Option<&Row>) {
        self.rule.report.n_failed += 1;
        let ts = row.map_or(self.rule.now, |row| row.ts);
        self.reject(RejectReason::Error, ts, Some(&text), row);
        self.error(text);
    }

    /// Counts a row without a usable timestamp.
    pub fn bad_timestamp(&mut self, text: Arc<str>, row: &Row) {
        self.rule.report.n_bad_timestamp += 1;
        self.reject(RejectReason::BadTimestamp, row.ts, Some(&text), Some(row));
        self.error(text);
    }

    /// Counts a late row of time `ts`.
    pub fn late(&mut self, row: &Row, ts: Timestamp) {
        self.rule.report.n_late += 1;
        self.reject(RejectReason::Late, ts, None, Some(row));
    }

    fn reject(&mut self, reason: RejectReason, ts: Timestamp, error: Option<&Arc<str>>, row: Option<&Row>) {
        if self.stages.options.keep_rejected {
            let row = row.map(|row| self.layout.object(row)).unwrap_or_default();
            self.rule.report.rejected.push(Rejected { reason, ts, error: error.cloned(), row });
        }
    }

    fn error(&mut self, text: Arc<str>) {
        self.rule.report.last_error = Some(Arc::clone(&text));
        if self.stages.options.send_error {
            self.out.error(text);
        }
    }
}
