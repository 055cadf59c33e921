//! Sliding windows: each row that triggers looks back over a length of time, and ahead if there is a delay.

use std::collections::VecDeque;

use super::{Fired, Held};
use crate::value::state::StateIo;
use crate::value::{Row, Timestamp, WindowRange};

/// A sliding window.
pub(in crate::operators) struct SlidingWindow {
    length: Timestamp,
    delay: Timestamp,
    event_time: bool,
    variant: Variant,
    /// By time.
    rows: VecDeque<Held>,
    /// Times of triggers that wait for the watermark or for their delay.
    pending: VecDeque<Pending>,
}

/// How a sliding window differs from the usual one.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::operators) struct Variant {
    /// Version 2: the instant at which the window begins is outside, its end inside; without a delay it is sent as soon as
    /// its trigger is let out, with one it ends with the watermark that sends it.
    pub second: bool,
    /// With a delay it is sent in two parts: up to the trigger, and from there on.
    pub twice: bool,
}

struct Pending {
    trigger: Timestamp,
    /// The watermark has moved since the trigger was let out.
    settled: bool,
}

/// Which part of a window is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    UpToTrigger,
    BehindTrigger,
}

impl SlidingWindow {
    pub fn new(length: Timestamp, delay: Timestamp, event_time: bool, variant: Variant) -> Self {
        let variant = Variant { twice: variant.twice && delay > 0, ..variant };
        SlidingWindow { length, delay, event_time, variant, rows: VecDeque::new(), pending: VecDeque::new() }
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
            if self.variant.twice {
                self.fire(ts, ts, Part::UpToTrigger, fired);
            }
            let waits = self.event_time && !self.variant.second;
            if waits || self.delay > 0 {
                self.pending.push_back(Pending { trigger: ts, settled: self.delay == 0 || !self.event_time });
            } else {
                self.fire(ts, ts, Part::Whole, fired);
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
            self.fire_last(trigger, time, fired);
        }
        self.pending.iter_mut().for_each(|pending| pending.settled = true);
        if self.event_time {
            self.forget(time);
        }
    }

    /// Sends what waited for its delay or for the watermark `time`.
    fn fire_last(&mut self, trigger: Timestamp, time: Timestamp, fired: &mut Vec<Fired>) {
        let part = if self.variant.twice { Part::BehindTrigger } else { Part::Whole };
        let end = trigger.saturating_add(self.delay);
        let shown = if self.variant.second && self.event_time { time.max(end) } else { end };
        self.fire(trigger, shown, part, fired);
    }

    /// Sends a window or a part of it; `shown` is its end as `window_end()` tells it.
    fn fire(&mut self, trigger: Timestamp, shown: Timestamp, part: Part, fired: &mut Vec<Fired>) {
        let begin = trigger.saturating_sub(self.length);
        let end = trigger.saturating_add(self.delay);
        let Variant { second, twice } = self.variant;
        let below = |time: Timestamp| self.rows.partition_point(|(_, row)| row.ts < time);
        let up_to = |time: Timestamp| self.rows.partition_point(|(_, row)| row.ts <= time);
        let first = match part {
            Part::BehindTrigger => up_to(trigger),
            _ if second || twice => up_to(begin),
            _ => below(begin),
        };
        // Without a delay the trigger's own instant belongs to the window, with one its end doesn't.
        let last = match part {
            Part::UpToTrigger => up_to(trigger),
            _ if self.delay == 0 || second || twice => up_to(end),
            _ => below(end),
        };
        let start = if part == Part::BehindTrigger { trigger } else { begin };
        let range = WindowRange { start, end: shown, trigger: if twice { trigger } else { shown } };
        fired.push(Fired::Rows(self.rows.range(first..last.max(first)).cloned().collect(), range));
    }

    /// Drops rows that no pending and no later trigger can reach.
    fn forget(&mut self, time: Timestamp) {
        let oldest = self.pending.front().map_or(time, |pending| pending.trigger.min(time));
        let start = oldest.saturating_sub(self.length);
        let n_old = self.rows.partition_point(|(_, row)| row.ts < start);
        self.rows.drain(..n_old);
    }

    /// Writes or reads the rows and the triggers that wait.
    pub fn state(&mut self, io: &mut StateIo) {
        io.queue(&mut self.rows, Default::default, StateIo::held);
        io.queue(
            &mut self.pending,
            || Pending { trigger: 0, settled: false },
            |io, pending| {
                io.int(&mut pending.trigger);
                io.bool(&mut pending.settled);
            },
        );
    }

    pub fn next_timer(&self) -> Option<Timestamp> {
        self.pending.front().map(|pending| pending.trigger.saturating_add(self.delay))
    }

    /// Sends the windows that are still waiting.
    pub fn flush(&mut self, fired: &mut Vec<Fired>) {
        while let Some(Pending { trigger, .. }) = self.pending.pop_front() {
            self.fire_last(trigger, Timestamp::MIN, fired);
        }
        self.rows.clear();
    }
}
