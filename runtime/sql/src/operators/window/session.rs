//! Session windows: rows that follow each other closely.

use std::collections::VecDeque;

use super::align::first_boundary;
use super::{Fired, Held};
use crate::operators::output::Run;
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
    /// By time.
    rows: VecDeque<Held>,
    /// Where the next session begins, if a tick cut the one before it.
    cut: Option<Timestamp>,
    /// Processing time: the next tick.
    tick: Option<Timestamp>,
}

impl SessionWindow {
    pub fn new(unit: TimeUnit, max_length: Timestamp, timeout: Timestamp, event_time: bool) -> Self {
        SessionWindow { unit, max_length, timeout, event_time, rows: VecDeque::new(), cut: None, tick: None }
    }

    pub fn insert(&mut self, input: usize, row: Row, run: &mut Run<'_>, fired: &mut Vec<Fired>) {
        if !self.event_time {
            self.advance(row.ts, run, fired);
        }
        self.rows.push_back((input, row));
    }

    pub fn advance(&mut self, time: Timestamp, run: &mut Run<'_>, fired: &mut Vec<Fired>) {
        if self.event_time { self.advance_watermark(time, run, fired) } else { self.advance_clock(time, run, fired) }
    }

    fn advance_watermark(&mut self, watermark: Timestamp, run: &Run<'_>, fired: &mut Vec<Fired>) {
        while let Some((end, ticked)) = self.session_end(watermark, run) {
            if end > watermark {
                return;
            }
            self.fire(end, ticked, fired);
        }
    }

    /// Where the first session ends, and if a tick ends it; none while it is open.
    fn session_end(&self, watermark: Timestamp, run: &Run<'_>) -> Option<(Timestamp, bool)> {
        let first = self.rows.front()?.1.ts;
        let mut tick = first_boundary(self.unit, self.max_length, first, &run.rule.time_zone);
        let mut previous = first;
        for (_, row) in &self.rows {
            let mut end = (row.ts - previous > self.timeout).then_some((previous + self.timeout, false));
            if row.ts > tick {
                if tick - self.max_length > first && end.is_none_or(|(end, _)| tick < end) {
                    end = Some((tick, true));
                }
                tick += self.max_length;
            }
            if end.is_some() {
                return end;
            }
            previous = row.ts;
        }
        (watermark.saturating_sub(previous) > self.timeout).then_some((previous + self.timeout, false))
    }

    fn advance_clock(&mut self, now: Timestamp, run: &Run<'_>, fired: &mut Vec<Fired>) {
        let started = if run.rule.rule_start > 0 { run.rule.rule_start.min(now) } else { now };
        let mut tick =
            *self.tick.get_or_insert_with(|| first_boundary(self.unit, self.max_length, started, &run.rule.time_zone));
        loop {
            let times_out = self.rows.back().map(|(_, row)| row.ts + self.timeout).filter(|end| *end <= now);
            if let Some(end) = times_out
                && (end <= tick || tick > now)
            {
                self.fire(end, false, fired);
            } else if tick <= now {
                if self.rows.front().is_some_and(|(_, row)| tick - row.ts >= self.max_length) {
                    self.fire(tick, true, fired);
                }
                // Ticks between which nothing can happen need no visit.
                let n_ticks = if self.rows.is_empty() { (now - tick) / self.max_length + 1 } else { 1 };
                tick = tick.saturating_add(n_ticks.saturating_mul(self.max_length));
            } else {
                break;
            }
        }
        self.tick = Some(tick);
    }

    fn fire(&mut self, end: Timestamp, ticked: bool, fired: &mut Vec<Fired>) {
        // In processing time a row may come at the very instant that its session ends: it belongs to it.
        let n_rows = match (self.event_time, ticked) {
            (false, false) => self.rows.len(),
            _ => self.rows.partition_point(|(_, row)| row.ts < end),
        };
        let rows: Vec<Held> = self.rows.drain(..n_rows).collect();
        let cut = std::mem::replace(&mut self.cut, ticked.then_some(end));
        let Some((_, first)) = rows.first() else { return };
        let start = if self.event_time { cut.unwrap_or(first.ts) } else { first.ts };
        fired.push(Fired::Rows(rows, WindowRange { start, end, trigger: end }));
    }

    /// Writes or reads the open session.
    pub fn state(&mut self, io: &mut StateIo) {
        io.queue(&mut self.rows, Default::default, StateIo::held);
        io.time(&mut self.cut);
        io.time(&mut self.tick);
    }

    pub fn next_timer(&self) -> Option<Timestamp> {
        let times_out = self.rows.back().map(|(_, row)| row.ts + self.timeout)?;
        Some(self.tick.map_or(times_out, |tick| tick.min(times_out)))
    }

    /// Ends all sessions.
    pub fn flush(&mut self, run: &mut Run<'_>, fired: &mut Vec<Fired>) {
        if self.event_time {
            self.advance_watermark(Timestamp::MAX, run, fired);
        } else if let Some((_, last)) = self.rows.back() {
            let end = last.ts + self.timeout;
            self.fire(end, false, fired);
        }
    }
}
