//! Sliding windows: each row that triggers looks back over a length of time, and ahead if there is a delay.

use std::collections::VecDeque;

use super::{Fired, Held};
use crate::value::{Row, Timestamp, WindowRange};

/// A sliding window.
pub(in crate::operators) struct SlidingWindow {
    length: Timestamp,
    delay: Timestamp,
    event_time: bool,
    /// By time.
    rows: VecDeque<Held>,
    /// Times of triggers that wait for the watermark or for their delay.
    pending: VecDeque<Pending>,
}

struct Pending {
    trigger: Timestamp,
    /// The watermark has moved since the trigger was let out.
    settled: bool,
}

impl SlidingWindow {
    pub fn new(length: Timestamp, delay: Timestamp, event_time: bool) -> Self {
        SlidingWindow { length, delay, event_time, rows: VecDeque::new(), pending: VecDeque::new() }
    }

    pub fn insert(&mut self, input: usize, row: Row, triggers: bool, fired: &mut Vec<Fired>) {
        let ts = row.ts;
        if !self.event_time {
            self.advance(ts, fired);
        }
        let place = match self.rows.back() {
            Some((_, last)) if last.ts > ts => self.rows.partition_point(|(_, held)| held.ts <= ts),
            _ => self.rows.len(),
        };
        self.rows.insert(place, (input, row));
        if triggers {
            if self.event_time || self.delay > 0 {
                self.pending.push_back(Pending { trigger: ts, settled: self.delay == 0 || !self.event_time });
            } else {
                self.fire(ts, fired);
            }
        }
        if !self.event_time {
            self.forget(ts);
        }
    }

    /// Sends the windows that are due at `time`.
    pub fn advance(&mut self, time: Timestamp, fired: &mut Vec<Fired>) {
        while let Some(Pending { trigger, settled: true }) = self.pending.front()
            && trigger.saturating_add(self.delay) <= time
        {
            let trigger = *trigger;
            self.pending.pop_front();
            self.fire(trigger, fired);
        }
        self.pending.iter_mut().for_each(|pending| pending.settled = true);
        if self.event_time {
            self.forget(time);
        }
    }

    fn fire(&mut self, trigger: Timestamp, fired: &mut Vec<Fired>) {
        let start = trigger.saturating_sub(self.length);
        let end = trigger.saturating_add(self.delay);
        let first = self.rows.partition_point(|(_, row)| row.ts < start);
        // Without a delay the trigger's own instant belongs to the window, with one its end doesn't.
        let last = match self.delay {
            0 => self.rows.partition_point(|(_, row)| row.ts <= end),
            _ => self.rows.partition_point(|(_, row)| row.ts < end),
        };
        let range = WindowRange { start, end, trigger: end };
        fired.push(Fired::Rows(self.rows.range(first..last).cloned().collect(), range));
    }

    /// Drops rows that no pending and no later trigger can reach.
    fn forget(&mut self, time: Timestamp) {
        let oldest = self.pending.front().map_or(time, |pending| pending.trigger.min(time));
        let start = oldest.saturating_sub(self.length);
        let n_old = self.rows.partition_point(|(_, row)| row.ts < start);
        self.rows.drain(..n_old);
    }

    pub fn next_timer(&self) -> Option<Timestamp> {
        self.pending.front().map(|pending| pending.trigger.saturating_add(self.delay))
    }

    /// Sends the windows that are still waiting.
    pub fn flush(&mut self, fired: &mut Vec<Fired>) {
        while let Some(Pending { trigger, .. }) = self.pending.pop_front() {
            self.fire(trigger, fired);
        }
        self.rows.clear();
    }
}
