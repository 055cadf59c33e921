//! Session windows: rows that follow each other closely.

use std::collections::VecDeque;

use super::align::first_boundary;
use super::content::Content;
use super::{Fired, Held};
use crate::operators::output::Run;
use crate::plan::stages::AggregateCall;
use crate::sql::ast::TimeUnit;
use crate::value::state::StateIo;
use crate::value::{Row, Timestamp, WindowRange};

/// A session window: it ends when no row has come for longer than `timeout`, or at an aligned tick (one every `max_length`)
/// if it began at least `max_length` before.
pub(in crate::operators) struct SessionWindow {
    unit: TimeUnit,
    max_length: Timestamp,
    timeout: Timestamp,
    event_time: bool,
    content: Content,
    /// Event time: rows at or behind a tick that the next row may make the session's end.
    behind_tick: Vec<Held>,
    /// Where the next session begins, if a tick cut the one before it.
    cut: Option<Timestamp>,
    /// The next tick; in event time, that of the open session.
    tick: Option<Timestamp>,
}

impl SessionWindow {
    pub fn new(unit: TimeUnit, max_length: Timestamp, timeout: Timestamp, event_time: bool, incremental: bool) -> Self {
        SessionWindow {
            unit,
            max_length,
            timeout,
            event_time,
            content: Content::new(incremental),
            behind_tick: Vec::new(),
            cut: None,
            tick: None,
        }
    }

    pub fn insert(&mut self, input: usize, row: Row, run: &mut Run<'_>, fired: &mut Vec<Fired>) {
        if !self.event_time {
            self.advance_clock(row.ts, run, fired);
            return self.content.add(input, row, run);
        }
        let mut rows = VecDeque::from([(input, row)]);
        while let Some((input, row)) = rows.pop_front() {
            let mut tick = match self.tick {
                Some(tick) if self.first().is_some() => tick,
                _ => first_boundary(self.unit, self.max_length, row.ts, &run.rule.time_zone),
            };
            let end = self.end_before(row.ts, &mut tick);
            self.tick = Some(tick);
            if let Some((end, ticked)) = end {
                rows.push_front((input, row));
                for held in self.fire(end, ticked, run, fired).into_iter().rev() {
                    rows.push_front(held);
                }
            } else if row.ts >= tick && self.may_be_cut_at(tick) {
                self.behind_tick.push((input, row));
            } else {
                self.content.add(input, row, run);
            }
        }
    }

    pub fn advance(&mut self, time: Timestamp, run: &mut Run<'_>, fired: &mut Vec<Fired>) {
        if !self.event_time {
            return self.advance_clock(time, run, fired);
        }
        if let Some(end) = self.last().filter(|last| time.saturating_sub(*last) > self.timeout) {
            self.fire(end + self.timeout, false, run, fired);
        }
    }

    fn first(&self) -> Option<Timestamp> {
        self.content.first().or_else(|| self.behind_tick.first().map(|(_, row)| row.ts))
    }

    fn last(&self) -> Option<Timestamp> {
        self.behind_tick.last().map(|(_, row)| row.ts).or(self.content.last())
    }

    fn may_be_cut_at(&self, tick: Timestamp) -> bool {
        self.first().is_some_and(|first| tick - self.max_length > first)
    }

    /// Where the open session ends if a row comes at `ts`, and if a tick ends it; none if the row belongs to it.
    fn end_before(&self, ts: Timestamp, tick: &mut Timestamp) -> Option<(Timestamp, bool)> {
        let last = self.last()?;
        let mut end = (ts - last > self.timeout).then_some((last + self.timeout, false));
        if ts > *tick {
            if self.may_be_cut_at(*tick) && end.is_none_or(|(end, _)| *tick < end) {
                end = Some((*tick, true));
            }
            *tick += self.max_length;
        }
        end
    }

    fn advance_clock(&mut self, now: Timestamp, run: &mut Run<'_>, fired: &mut Vec<Fired>) {
        let started = if run.rule.rule_start > 0 { run.rule.rule_start.min(now) } else { now };
        let mut tick =
            *self.tick.get_or_insert_with(|| first_boundary(self.unit, self.max_length, started, &run.rule.time_zone));
        loop {
            let times_out = self.content.last().map(|last| last + self.timeout).filter(|end| *end <= now);
            if let Some(end) = times_out
                && (end <= tick || tick > now)
            {
                self.fire(end, false, run, fired);
            } else if tick <= now {
                if self.content.first().is_some_and(|first| tick - first >= self.max_length) {
                    self.fire(tick, true, run, fired);
                }
                // Ticks between which nothing can happen need no visit.
                let n_ticks = if self.content.first().is_none() { (now - tick) / self.max_length + 1 } else { 1 };
                tick = tick.saturating_add(n_ticks.saturating_mul(self.max_length));
            } else {
                break;
            }
        }
        self.tick = Some(tick);
    }

    /// Ends the session. Gives the rows that do not belong to it.
    fn fire(&mut self, end: Timestamp, ticked: bool, run: &mut Run<'_>, fired: &mut Vec<Fired>) -> Vec<Held> {
        let mut behind = std::mem::take(&mut self.behind_tick);
        if !ticked {
            behind.drain(..).for_each(|(input, row)| self.content.add(input, row, run));
        }
        let cut = std::mem::replace(&mut self.cut, ticked.then_some(end));
        if let Some(first) = self.content.first() {
            let start = if self.event_time { cut.unwrap_or(first) } else { first };
            fired.push(self.content.take(WindowRange { start, end, trigger: end }));
        }
        behind
    }

    /// Writes or reads the open session.
    pub fn state(&mut self, calls: &[AggregateCall], io: &mut StateIo) {
        self.content.state(calls, io);
        io.list(&mut self.behind_tick, Default::default, StateIo::held);
        io.time(&mut self.cut);
        io.time(&mut self.tick);
    }

    pub fn next_timer(&self) -> Option<Timestamp> {
        let times_out = self.content.last().map(|last| last + self.timeout)?;
        Some(self.tick.map_or(times_out, |tick| tick.min(times_out)))
    }

    /// Ends the session as it is.
    pub fn flush(&mut self, run: &mut Run<'_>, fired: &mut Vec<Fired>) {
        if let Some(last) = self.last() {
            self.fire(last + self.timeout, false, run, fired);
        }
    }
}
