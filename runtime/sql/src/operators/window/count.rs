//! Count windows.

use std::collections::VecDeque;

use super::content::Content;
use super::{Fired, Held};
use crate::operators::output::Run;
use crate::plan::stages::AggregateCall;
use crate::value::state::StateIo;
use crate::value::{Row, WindowRange};

/// Sends the last `length` rows after every `interval` rows, as soon as there are so many.
pub(in crate::operators) struct CountWindow {
    length: usize,
    interval: usize,
    /// Windows that do not overlap.
    content: Content,
    /// Of windows that do, or have gaps.
    rows: VecDeque<Held>,
    n_since: usize,
}

impl CountWindow {
    pub fn new(length: usize, interval: usize, incremental: bool) -> Self {
        CountWindow { length, interval, content: Content::new(incremental), rows: VecDeque::new(), n_since: 0 }
    }

    /// Writes or reads what it holds.
    pub fn state(&mut self, calls: &[AggregateCall], io: &mut StateIo) {
        self.content.state(calls, io);
        io.queue(&mut self.rows, Default::default, StateIo::held);
        io.size(&mut self.n_since);
    }

    pub fn insert(&mut self, input: usize, row: Row, run: &mut Run<'_>, fired: &mut Vec<Fired>) {
        let now = run.rule.now.max(row.ts);
        let range = WindowRange { start: now, end: now, trigger: now };
        self.n_since += 1;
        let is_due = self.n_since == self.interval;
        if is_due {
            self.n_since = 0;
        }
        if self.interval == self.length {
            self.content.add(input, row, run);
            if is_due {
                fired.push(self.content.take(range));
            }
            return;
        }
        self.rows.push_back((input, row));
        if is_due {
            if self.rows.len() >= self.length {
                let n_before = self.rows.len() - self.length;
                fired.push(Fired::Rows(self.rows.range(n_before..).cloned().collect(), range));
            }
            let n_old = self.rows.len().saturating_sub(self.length - 1);
            self.rows.drain(..n_old);
        }
    }
}
