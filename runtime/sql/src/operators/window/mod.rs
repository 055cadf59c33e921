//! Windows: rows go in, collections come out.
//!
//! Each kind has a file. They know two things only: rows, in order, and how far time has come: the watermark in event time,
//! the clock in processing time.

mod align;
mod content;
mod count;
mod session;
mod sliding;
mod state;
mod time;

use super::aggregate::Groups;
use super::output::Run;
use crate::plan::RuleOptions;
use crate::plan::stages::{Stages, WindowKind, WindowStage};
use crate::value::state::StateIo;
use crate::value::{Row, Timestamp, WindowRange};

/// A row of an input.
pub(super) type Held = (usize, Row);

/// What a window sends on.
pub(super) enum Fired {
    /// Its rows.
    Rows(Vec<Held>, WindowRange),
    /// What it has counted.
    Groups(Groups, WindowRange),
}

/// A window with its state.
pub(super) enum Window {
    /// Tumbling and hopping.
    Time(time::TimeWindow),
    /// Sliding.
    Sliding(sliding::SlidingWindow),
    /// Session.
    Session(session::SessionWindow),
    /// Count.
    Count(count::CountWindow),
    /// State.
    State(state::StateWindow),
}

impl Window {
    /// An empty window.
    pub fn new(stage: &WindowStage, options: &RuleOptions) -> Self {
        let event_time = options.event_time;
        match &stage.kind {
            WindowKind::Time { unit, length, hop } => {
                Window::Time(time::TimeWindow::new(*unit, *length, *hop, event_time, stage.incremental))
            }
            WindowKind::Sliding { length, delay } => {
                let variant = sliding::Variant { second: options.sliding_v2, twice: options.sliding_twice };
                Window::Sliding(sliding::SlidingWindow::new(*length, *delay, event_time, variant))
            }
            WindowKind::Session { unit, max_length, timeout } => Window::Session(session::SessionWindow::new(
                *unit,
                *max_length,
                *timeout,
                event_time,
                stage.incremental,
            )),
            WindowKind::Count { length, interval } => {
                Window::Count(count::CountWindow::new(*length, *interval, stage.incremental))
            }
            WindowKind::State { .. } => Window::State(state::StateWindow::new(stage.incremental)),
        }
    }

    /// Takes a row, if the window's filter lets it in.
    pub fn insert(&mut self, input: usize, row: Row, run: &mut Run<'_>, fired: &mut Vec<Fired>) {
        let Some(stage) = &run.stages.window else { return };
        if !matches!(self, Window::Time(_)) && !enters(stage, &row, run) {
            return;
        }
        match self {
            Window::Time(window) => {
                window.advance_to_row(row.ts, run, fired);
                if enters(stage, &row, run) {
                    window.insert(input, row, run);
                }
            }
            Window::Sliding(window) => {
                let triggers = stage.when.as_ref().is_none_or(|when| run.test_quietly(when, &row));
                window.insert(input, row, triggers, fired);
            }
            Window::Session(window) => window.insert(input, row, run, fired),
            Window::Count(window) => window.insert(input, row, run, fired),
            Window::State(window) => window.insert(input, row, run, fired),
        }
    }

    /// Counts a row where it is, as one of time `ts`. Only for windows over time that the planner made incremental;
    /// [`advance_to_row`](Self::advance_to_row) has been called with that time.
    pub fn accumulate(&mut self, row: &Row, ts: Timestamp, first: impl FnOnce() -> Row, run: &mut Run<'_>) {
        let Some(stage) = &run.stages.window else { return };
        if let Window::Time(window) = self
            && stage.filter.as_ref().is_none_or(|filter| run.test_at(filter, row, ts))
        {
            window.accumulate(row, ts, first, run);
        }
    }

    /// Sends what is complete before a row of this time. Only for windows over time that the planner made
    /// incremental.
    pub fn advance_to_row(&mut self, ts: Timestamp, run: &mut Run<'_>, fired: &mut Vec<Fired>) {
        if let Window::Time(window) = self {
            window.advance_to_row(ts, run, fired);
        }
    }

    /// Time has come to `time`.
    pub fn advance(&mut self, time: Timestamp, run: &mut Run<'_>, fired: &mut Vec<Fired>) {
        match self {
            Window::Time(window) => window.advance(time, run, fired),
            Window::Sliding(window) => window.advance(time, fired),
            Window::Session(window) => window.advance(time, run, fired),
            Window::Count(_) | Window::State(_) => {}
        }
    }

    /// Writes or reads what it holds.
    pub fn state(&mut self, stages: &Stages, io: &mut StateIo) {
        match self {
            Window::Time(window) => window.state(&stages.tail.aggregates, io),
            Window::Sliding(window) => window.state(io),
            Window::Session(window) => window.state(&stages.tail.aggregates, io),
            Window::Count(window) => window.state(&stages.tail.aggregates, io),
            Window::State(window) => window.state(&stages.tail.aggregates, io),
        }
    }

    /// When the clock is of interest next, in processing time.
    pub fn next_timer(&self) -> Option<Timestamp> {
        match self {
            Window::Time(window) => window.next_timer(),
            Window::Sliding(window) => window.next_timer(),
            Window::Session(window) => window.next_timer(),
            Window::Count(_) | Window::State(_) => None,
        }
    }

    /// The end of all input: windows over time come out as they are. A count window that is not full and a state window that
    /// has not closed were never windows.
    pub fn flush(&mut self, run: &mut Run<'_>, fired: &mut Vec<Fired>) {
        match self {
            Window::Time(window) => window.flush(run, fired),
            Window::Sliding(window) => window.flush(fired),
            Window::Session(window) => window.flush(run, fired),
            Window::Count(_) | Window::State(_) => {}
        }
    }
}

/// `FILTER (WHERE ...)`
fn enters(stage: &WindowStage, row: &Row, run: &mut Run<'_>) -> bool {
    stage.filter.as_ref().is_none_or(|filter| run.test(filter, row))
}
