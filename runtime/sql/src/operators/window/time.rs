//! Tumbling and hopping windows.
//!
//! Boundaries follow each other at the distance of a hop; at each of them the window that ends there fires. Rows come in order
//! of time, so whatever ends at or before a row's time is complete when the row comes.

use std::collections::VecDeque;

use super::align::first_boundary;
use super::{Fired, Held};
use crate::expr::Fields;
use crate::operators::aggregate::Groups;
use crate::operators::output::Run;
use crate::plan::stages::AggregateCall;
use crate::sql::ast::TimeUnit;
use crate::value::state::StateIo;
use crate::value::{Row, Timestamp, WindowRange};

/// How many empty windows in a row are sent. A clock or a timestamp that jumps ahead must not flood the sinks.
const MAX_EMPTY: i64 = 10_000;

/// A tumbling (`hop == length`) or hopping window.
pub(in crate::operators) struct TimeWindow {
    unit: TimeUnit,
    length: Timestamp,
    hop: Timestamp,
    event_time: bool,
    /// The next boundary; none before the first row (event time) or the start of the rule.
    boundary: Option<Timestamp>,
    /// Where the window before this one ended; first of all, where the rule or its first row began.
    previous: Timestamp,
    content: Content,
}

/// What the window holds.
enum Content {
    /// Rows, by time.
    Rows(VecDeque<Held>),
    /// Accumulators of the current pane, and of the panes before it that later windows need.
    Panes(Box<Panes>),
}

/// Panes of one hop each, put together as two stacks: `front[i]` holds what the panes from the `i`th oldest on have counted
/// together, `back` the panes since then and their sum. So a window costs a constant number of merges per group, however many
/// panes it has.
#[derive(Default)]
struct Panes {
    current: Groups,
    /// Sums, the one over most panes at the end.
    front: Vec<Groups>,
    back: Vec<Groups>,
    back_sum: Groups,
    n_panes: usize,
}

impl TimeWindow {
    pub fn new(unit: TimeUnit, length: Timestamp, hop: Timestamp, event_time: bool, incremental: bool) -> Self {
        let content = if incremental {
            let n_panes = usize::try_from(length / hop).unwrap_or(1);
            Content::Panes(Box::new(Panes { n_panes, ..Panes::default() }))
        } else {
            Content::Rows(VecDeque::new())
        };
        TimeWindow { unit, length, hop, event_time, boundary: None, previous: 0, content }
    }

    /// Begins with the first row, or with the rule.
    fn start(&mut self, now: Timestamp, run: &Run<'_>) -> Timestamp {
        if let Some(boundary) = self.boundary {
            return boundary;
        }
        let boundary = first_boundary(self.unit, self.hop, now, &run.rule.time_zone);
        self.boundary = Some(boundary);
        self.previous = if now > 0 { now } else { boundary - self.length };
        boundary
    }

    /// Fires what is complete before a row of this time. The first row in event time starts the boundaries.
    pub fn advance_to_row(&mut self, ts: Timestamp, run: &mut Run<'_>, fired: &mut Vec<Fired>) {
        if self.boundary.is_some_and(|boundary| ts < boundary) {
            return;
        }
        if self.event_time {
            self.start(ts, run);
        }
        self.advance(ts, run, fired);
    }

    /// Fires every boundary up to `time`.
    pub fn advance(&mut self, time: Timestamp, run: &mut Run<'_>, fired: &mut Vec<Fired>) {
        let mut boundary = match self.boundary {
            Some(boundary) => boundary,
            None if self.event_time => return,
            None => {
                let started = if run.rule.rule_start > 0 { run.rule.rule_start.min(time) } else { time };
                self.start(started, run)
            }
        };
        while boundary <= time {
            let ahead = (time - boundary) / self.hop;
            if ahead > MAX_EMPTY && self.is_empty() {
                boundary += (ahead - MAX_EMPTY) * self.hop;
                self.previous = boundary - self.hop;
            }
            self.fire(boundary, fired);
            boundary = boundary.saturating_add(self.hop);
            self.boundary = Some(boundary);
            if boundary == Timestamp::MAX {
                return;
            }
        }
    }

    fn fire(&mut self, boundary: Timestamp, fired: &mut Vec<Fired>) {
        let start = if self.hop == self.length { self.previous } else { boundary - self.length };
        let range = WindowRange { start, end: boundary, trigger: boundary };
        self.previous = boundary;
        match &mut self.content {
            Content::Panes(panes) => fired.push(Fired::Groups(panes.close(), range)),
            Content::Rows(rows) => {
                let n_ended = rows.partition_point(|(_, row)| row.ts < boundary);
                if self.hop >= self.length {
                    let first = rows.partition_point(|(_, row)| row.ts < boundary - self.length);
                    let content = rows.drain(..n_ended).skip(if self.hop > self.length { first } else { 0 }).collect();
                    fired.push(Fired::Rows(content, range));
                    return;
                }
                let first = rows.partition_point(|(_, row)| row.ts < boundary - self.length);
                fired.push(Fired::Rows(rows.range(first..n_ended).cloned().collect(), range));
                let next_start = boundary + self.hop - self.length;
                let n_old = rows.partition_point(|(_, row)| row.ts < next_start);
                rows.drain(..n_old);
            }
        }
    }

    /// Keeps a row.
    pub fn insert(&mut self, input: usize, row: Row, run: &mut Run<'_>) {
        match &mut self.content {
            Content::Panes(_) => self.accumulate(&row, row.ts, || row.clone(), run),
            Content::Rows(rows) => {
                // Processing time may step back.
                let place = match rows.back() {
                    Some((_, last)) if last.ts > row.ts => rows.partition_point(|(_, held)| held.ts <= row.ts),
                    _ => rows.len(),
                };
                rows.insert(place, (input, row));
            }
        }
    }

    /// Counts a row of this time.
    pub fn accumulate(&mut self, row: &Row, ts: Timestamp, first: impl FnOnce() -> Row, run: &mut Run<'_>) {
        let Content::Panes(panes) = &mut self.content else { return };
        let stages = run.stages;
        if let Some(filter) = stages.window.as_ref().and_then(|window| window.row_filter.as_ref())
            && !run.test_at(filter, row, ts)
        {
            return;
        }
        let window = self.boundary.map(|boundary| {
            let start = if self.hop == self.length { self.previous } else { boundary - self.length };
            WindowRange { start, end: boundary, trigger: boundary }
        });
        let tail = &stages.tail;
        let outcome =
            panes.current.add(&tail.group_by, &tail.aggregates, Fields::of(row), first, &mut run.scope(ts, window));
        if let Err(failure) = outcome {
            run.fail(&failure, Some(row));
        }
    }

    /// Writes or reads the boundaries and what is held.
    pub fn state(&mut self, calls: &[AggregateCall], io: &mut StateIo) {
        io.time(&mut self.boundary);
        io.int(&mut self.previous);
        match &mut self.content {
            Content::Rows(rows) => io.queue(rows, Default::default, StateIo::held),
            Content::Panes(panes) => {
                let Panes { current, front, back, back_sum, .. } = &mut **panes;
                current.state(calls, io);
                io.list(front, Groups::default, |io, groups| groups.state(calls, io));
                io.list(back, Groups::default, |io, groups| groups.state(calls, io));
                back_sum.state(calls, io);
            }
        }
    }

    fn is_empty(&self) -> bool {
        match &self.content {
            Content::Rows(rows) => rows.is_empty(),
            Content::Panes(panes) => panes.is_empty(),
        }
    }

    /// The next boundary. Over the clock, windows begin with the rule: as long as nobody has said what time it is, that is
    /// wanted at once.
    pub fn next_timer(&self) -> Option<Timestamp> {
        self.boundary.or((!self.event_time).then_some(0))
    }

    /// Fires until nothing is held.
    pub fn flush(&mut self, _run: &mut Run<'_>, fired: &mut Vec<Fired>) {
        while let Some(boundary) = self.boundary
            && !self.is_empty()
        {
            self.fire(boundary, fired);
            self.boundary = Some(boundary.saturating_add(self.hop));
        }
    }
}

impl Panes {
    fn is_empty(&self) -> bool {
        let Panes { current, front, back_sum, .. } = self;
        current.is_empty() && back_sum.is_empty() && front.iter().all(Groups::is_empty)
    }

    /// Closes the current pane; what the window that ends with it has counted. Then forgets the oldest pane, which no later
    /// window has.
    fn close(&mut self) -> Groups {
        let pane = std::mem::take(&mut self.current);
        if self.n_panes == 1 {
            return pane;
        }
        self.back_sum.merge(&pane);
        self.back.push(pane);
        let mut sum = self.front.last().cloned().unwrap_or_default();
        sum.merge(&self.back_sum);
        if self.front.len() + self.back.len() == self.n_panes {
            if self.front.is_empty() {
                self.turn_over();
            }
            self.front.pop();
        }
        sum
    }

    /// Makes the panes of `back` to sums of `front`.
    fn turn_over(&mut self) {
        let mut sum = Groups::default();
        for mut pane in std::mem::take(&mut self.back).into_iter().rev() {
            pane.merge(&sum);
            sum = pane;
            self.front.push(sum.clone());
        }
        self.back_sum = Groups::default();
    }
}
