//! Event time: rows are held back until the watermark passes them, then let out in the order of their time.

use std::collections::VecDeque;

use crate::value::{Row, Timestamp};

/// The watermark and the rows that it has not passed yet.
///
/// It is the smallest "newest event time" over all streams, less the late tolerance. A row that is older than the watermark
/// is late. A stream that has sent nothing yet holds the watermark back, until it has been silent for longer than the idle
/// timeout, if there is one; it counts again with its next row.
pub(super) struct Watermark {
    tolerance: Timestamp,
    idle_timeout: Option<Timestamp>,
    /// When the rule began, by the clock; streams are silent since then.
    started: Option<Timestamp>,
    inputs: Vec<InputTime>,
    current: Timestamp,
    /// By event time, then by arrival.
    held: VecDeque<(usize, Row)>,
}

struct InputTime {
    newest: Timestamp,
    /// When its last row arrived, by the clock.
    seen: Option<Timestamp>,
    /// Out of consideration: ended, idle, or a table.
    idle: bool,
    ended: bool,
}

impl Watermark {
    /// A watermark over inputs; `counts[i]` says if input `i` moves it.
    pub fn new(tolerance: Timestamp, idle_timeout: Option<Timestamp>, counts: &[bool]) -> Self {
        let input = |counts: &bool| InputTime { newest: Timestamp::MIN, seen: None, idle: !counts, ended: !counts };
        Watermark {
            tolerance,
            idle_timeout,
            started: None,
            inputs: counts.iter().map(input).collect(),
            current: Timestamp::MIN,
            held: VecDeque::new(),
        }
    }

    /// Takes a row. False if it is late.
    pub fn insert(&mut self, input: usize, row: Row, now: Timestamp) -> bool {
        let ts = row.ts;
        if let Some(time) = self.inputs.get_mut(input) {
            time.newest = time.newest.max(ts);
            time.seen = Some(now);
            time.idle = time.ended;
        }
        if ts < self.current {
            return false;
        }
        let place = match self.held.back() {
            Some((_, last)) if last.ts > ts => self.held.partition_point(|(_, held)| held.ts <= ts),
            _ => self.held.len(),
        };
        self.held.insert(place, (input, row));
        true
    }

    /// The next row that the watermark has passed.
    pub fn pop(&mut self) -> Option<(usize, Row)> {
        if self.held.front()?.1.ts <= self.current { self.held.pop_front() } else { None }
    }

    /// Moves the watermark on as far as the rows so far allow. The new one, if it has moved.
    pub fn advance(&mut self) -> Option<Timestamp> {
        let newest = self.inputs.iter().filter(|input| !input.idle).map(|input| input.newest).min()?;
        self.move_to(newest.saturating_sub(self.tolerance))
    }

    /// Moves the watermark to a time. The new one, if it has moved.
    pub fn move_to(&mut self, watermark: Timestamp) -> Option<Timestamp> {
        (watermark > self.current).then(|| {
            self.current = watermark;
            watermark
        })
    }

    /// Takes streams that are silent for too long out of consideration.
    pub fn check_idle(&mut self, now: Timestamp) {
        let started = *self.started.get_or_insert(now);
        let Some(timeout) = self.idle_timeout else { return };
        for input in &mut self.inputs {
            input.idle |= now.saturating_sub(input.seen.unwrap_or(started)) >= timeout;
        }
    }

    /// When the next stream becomes idle.
    pub fn next_timer(&self) -> Option<Timestamp> {
        let (timeout, started) = (self.idle_timeout?, self.started?);
        let busy = self.inputs.iter().filter(|input| !input.idle);
        busy.map(|input| input.seen.unwrap_or(started).saturating_add(timeout)).min()
    }

    /// The input holds the watermark back no longer.
    pub fn end_input(&mut self, input: usize) {
        if let Some(input) = self.inputs.get_mut(input) {
            input.idle = true;
            input.ended = true;
        }
    }

    /// Lets everything out.
    pub fn finish(&mut self) {
        self.current = Timestamp::MAX;
    }
}
