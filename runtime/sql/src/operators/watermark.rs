//! Event time: rows are held back until the watermark passes them, then let out in the order of their time.

use std::collections::VecDeque;

use crate::value::{Row, Timestamp};

/// How many rows are held back at most. Beyond that the oldest go on, and what is older than they comes late: a stream that
/// is silent must not fill the memory with the rows of another.
const MAX_HELD: usize = 1_000_000;

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
        self.started.get_or_insert(now);
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
        let mut watermark = newest.saturating_sub(self.tolerance);
        let n_over = self.held.len().saturating_sub(MAX_HELD);
        if let Some((_, row)) = n_over.checked_sub(1).and_then(|last_over| self.held.get(last_over)) {
            watermark = watermark.max(row.ts);
        }
        self.move_to(watermark)
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

    /// When the next stream becomes idle; at once as long as nobody has said what time it is.
    pub fn next_timer(&self) -> Option<Timestamp> {
        let timeout = self.idle_timeout?;
        let Some(started) = self.started else { return Some(0) };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ts: Timestamp) -> Row {
        Row { ts, values: Vec::new() }
    }

    fn passed(watermark: &mut Watermark) -> Vec<Timestamp> {
        std::iter::from_fn(|| watermark.pop()).map(|(_, row)| row.ts).collect()
    }

    #[test]
    fn slowest_stream_counts() {
        let mut watermark = Watermark::new(10, None, &[true, true]);
        assert!(watermark.insert(0, row(100), 0));
        assert_eq!(watermark.advance(), None, "the second stream has sent nothing");
        assert!(watermark.insert(1, row(50), 0));
        assert_eq!(watermark.advance(), Some(40));
        assert!(watermark.insert(1, row(115), 0));
        assert_eq!(watermark.advance(), Some(90));
        assert_eq!(passed(&mut watermark), [50]);
        assert!(!watermark.insert(0, row(89), 0), "late");
        assert!(watermark.insert(0, row(90), 0), "a row at the watermark is not late");
        assert_eq!(passed(&mut watermark), [90]);
    }

    #[test]
    fn silent_streams_hold_nothing_back() {
        let mut watermark = Watermark::new(0, Some(1000), &[true, true, false]);
        assert_eq!(watermark.next_timer(), Some(0));
        watermark.check_idle(5000);
        assert!(watermark.insert(0, row(100), 5000));
        assert_eq!(watermark.advance(), None);
        assert_eq!(watermark.next_timer(), Some(6000));
        watermark.insert(0, row(200), 5999);
        watermark.check_idle(6000);
        assert_eq!(watermark.advance(), Some(200), "only the first stream counts");
        assert!(!watermark.insert(1, row(100), 6001));
        assert!(watermark.insert(0, row(300), 6001));
        assert_eq!(watermark.advance(), None, "the second stream is back");
    }

    #[test]
    fn held_rows_are_bounded() {
        let mut watermark = Watermark::new(0, None, &[true, true]);
        for ts in 0..MAX_HELD as i64 + 3 {
            watermark.insert(0, row(ts), 0);
        }
        assert_eq!(watermark.advance(), Some(2));
        assert_eq!(passed(&mut watermark), [0, 1, 2]);
    }
}
