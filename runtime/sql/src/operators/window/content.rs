//! What a window holds that comes out all at once.

use super::{Fired, Held};
use crate::expr::Fields;
use crate::operators::aggregate::Groups;
use crate::operators::output::Run;
use crate::plan::stages::AggregateCall;
use crate::value::state::StateIo;
use crate::value::{Row, Timestamp, WindowRange};

/// Rows in order of time, or what they amount to.
pub(super) struct Content {
    held: Kept,
    /// Of the first and of the last row.
    times: Option<(Timestamp, Timestamp)>,
}

enum Kept {
    Rows(Vec<Held>),
    Groups(Groups),
}

impl Content {
    /// Nothing yet. With `incremental`, accumulators instead of rows.
    pub fn new(incremental: bool) -> Self {
        let held = if incremental { Kept::Groups(Groups::default()) } else { Kept::Rows(Vec::new()) };
        Content { held, times: None }
    }

    /// When its first row came; none without rows.
    pub fn first(&self) -> Option<Timestamp> {
        self.times.map(|(first, _)| first)
    }

    /// When its last row came; none without rows.
    pub fn last(&self) -> Option<Timestamp> {
        self.times.map(|(_, last)| last)
    }

    /// Takes a row.
    pub fn add(&mut self, input: usize, row: Row, run: &mut Run<'_>) {
        self.times = Some((self.first().unwrap_or(row.ts), row.ts));
        match &mut self.held {
            Kept::Rows(rows) => rows.push((input, row)),
            Kept::Groups(groups) => count(groups, &row, run),
        }
    }

    /// All of it, as a window; afterwards it is empty.
    pub fn take(&mut self, range: WindowRange) -> Fired {
        self.times = None;
        match &mut self.held {
            Kept::Rows(rows) => Fired::Rows(std::mem::take(rows), range),
            Kept::Groups(groups) => Fired::Groups(std::mem::take(groups), range),
        }
    }

    /// Writes or reads all of it.
    pub fn state(&mut self, calls: &[AggregateCall], io: &mut StateIo) {
        io.option(&mut self.times, |io, (first, last)| {
            io.int(first);
            io.int(last);
        });
        match &mut self.held {
            Kept::Rows(rows) => io.list(rows, Default::default, StateIo::held),
            Kept::Groups(groups) => groups.state(calls, io),
        }
    }
}

/// Counts a row that `WHERE` lets through.
fn count(groups: &mut Groups, row: &Row, run: &mut Run<'_>) {
    let stages = run.stages;
    let filter = stages.window.as_ref().and_then(|window| window.row_filter.as_ref());
    if filter.is_some_and(|filter| !run.test(filter, row)) {
        return;
    }
    let tail = &stages.tail;
    let mut scope = run.scope(row.ts, None);
    if let Err(failure) = groups.add(&tail.group_by, &tail.aggregates, Fields::of(row), || row.clone(), &mut scope) {
        run.fail(&failure, Some(row));
    }
}
