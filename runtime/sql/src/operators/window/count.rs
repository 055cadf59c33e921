//! Count windows.

use std::collections::VecDeque;

use super::{Fired, Held};
use crate::value::state::StateIo;
use crate::value::{Row, Timestamp, WindowRange};

/// Sends the last `length` rows after every `interval` rows, as soon as there are so many.
pub(in crate::operators) struct CountWindow {
    length: usize,
    interval: usize,
    rows: VecDeque<Held>,
    n_since: usize,
}

impl CountWindow {
    pub fn new(length: usize, interval: usize) -> Self {
        CountWindow { length, interval, rows: VecDeque::new(), n_since: 0 }
    }

    /// Writes or reads the rows.
    pub fn state(&mut self, io: &mut StateIo) {
        io.queue(&mut self.rows, Default::default, StateIo::held);
        io.size(&mut self.n_since);
    }

    pub fn insert(&mut self, input: usize, row: Row, now: Timestamp, fired: &mut Vec<Fired>) {
        let now = now.max(row.ts);
        self.rows.push_back((input, row));
        self.n_since += 1;
        if self.n_since == self.interval {
            self.n_since = 0;
            if self.rows.len() >= self.length {
                let range = WindowRange { start: now, end: now, trigger: now };
                let n_before = self.rows.len() - self.length;
                if self.interval == self.length {
                    fired.push(Fired::Rows(self.rows.drain(..).skip(n_before).collect(), range));
                } else {
                    fired.push(Fired::Rows(self.rows.range(n_before..).cloned().collect(), range));
                }
            }
        }
        let n_old = self.rows.len().saturating_sub(self.length - 1);
        if self.n_since == 0 {
            self.rows.drain(..n_old);
        }
    }
}
