//! Event time: rows are held back until the watermark passes them, then let out in the order of their time.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::value::state::StateIo;
use crate::value::{Batch, Row, Timestamp, Value};

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
    /// Something has happened since [`advance`](Self::advance) that may move it.
    may_move: bool,
    /// By event time, then by arrival.
    held: VecDeque<Held>,
    /// The batches that held rows are still in, with the number of them; the newest one may have none.
    batches: VecDeque<(Arc<Batch>, usize)>,
    /// The number of the first one; they are counted in a circle.
    first_batch: u32,
}

/// A row that waits. Small: there may be many, and each is looked at twice.
struct Held {
    ts: Timestamp,
    row: HeldRow,
}

/// Where it is.
enum HeldRow {
    /// Here, with its input.
    Own(Box<(usize, Row)>),
    /// Where it came: the batch's number and the row's place. Only rows of the first input.
    In(u32, u32),
}

/// A row that the watermark has passed.
pub(super) enum Passed {
    /// With its input.
    Own(usize, Row),
    /// Its time and its place in the batch that was let out last.
    In(Timestamp, usize),
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
            may_move: true,
            held: VecDeque::new(),
            batches: VecDeque::new(),
            first_batch: 0,
        }
    }

    /// Takes a row. It comes back if it is late.
    pub fn insert(&mut self, input: usize, row: Row, now: Timestamp) -> Option<Row> {
        let ts = row.ts;
        if !self.sees(input, ts, now) {
            return Some(row);
        }
        self.hold(Held { ts, row: HeldRow::Own(Box::new((input, row))) });
        None
    }

    /// The rows of [`insert_in_place`](Self::insert_in_place) are in this batch from now on.
    pub fn begin_batch(&mut self, batch: &Arc<Batch>) {
        self.forget_batches(0);
        self.batches.push_back((Arc::clone(batch), 0));
    }

    /// Takes a row of the batch, which is of the first input. False if it is late.
    pub fn insert_in_place(&mut self, row_idx: usize, ts: Timestamp, now: Timestamp) -> bool {
        let Some((_, n_held)) = self.batches.back_mut().filter(|_| ts >= self.current) else {
            self.sees(0, ts, now);
            return false;
        };
        *n_held += 1;
        let batch = self.first_batch.wrapping_add(self.batches.len() as u32 - 1);
        self.sees(0, ts, now);
        self.hold(Held { ts, row: HeldRow::In(batch, u32::try_from(row_idx).unwrap_or(u32::MAX)) });
        true
    }

    /// Notes a row's time. False if it is late.
    fn sees(&mut self, input: usize, ts: Timestamp, now: Timestamp) -> bool {
        self.started.get_or_insert(now);
        if let Some(time) = self.inputs.get_mut(input) {
            self.may_move |= ts > time.newest || time.idle != time.ended;
            time.newest = time.newest.max(ts);
            time.seen = Some(now);
            time.idle = time.ended;
        }
        ts >= self.current
    }

    fn hold(&mut self, new: Held) {
        match self.held.back() {
            Some(last) if last.ts > new.ts => {
                let place = self.held.partition_point(|held| held.ts <= new.ts);
                self.held.insert(place, new);
            }
            _ => self.held.push_back(new),
        }
    }

    /// Lets go of batches that no row is held in, but for the last `n_kept`.
    fn forget_batches(&mut self, n_kept: usize) {
        while self.batches.len() > n_kept && self.batches.front().is_some_and(|(_, n_held)| *n_held == 0) {
            self.batches.pop_front();
            self.first_batch = self.first_batch.wrapping_add(1);
        }
    }

    /// The next row that the watermark has passed. `batch` is the batch of the row before, and becomes that of this one.
    pub fn pop(&mut self, batch: &mut Option<(u32, Arc<Batch>)>) -> Option<Passed> {
        if self.held.front()?.ts > self.current {
            return None;
        }
        let Held { ts, row } = self.held.pop_front()?;
        match row {
            HeldRow::Own(own) => Some(Passed::Own(own.0, own.1)),
            HeldRow::In(number, row_idx) => {
                let (held_in, n_held) = self.batches.get_mut(number.wrapping_sub(self.first_batch) as usize)?;
                *n_held -= 1;
                let is_last = *n_held == 0;
                if batch.as_ref().is_none_or(|(known, _)| *known != number) {
                    *batch = Some((number, Arc::clone(held_in)));
                }
                if is_last {
                    self.forget_batches(1);
                }
                Some(Passed::In(ts, row_idx as usize))
            }
        }
    }

    /// Moves the watermark on as far as the rows so far allow. The new one, if it has moved.
    pub fn advance(&mut self) -> Option<Timestamp> {
        if !std::mem::take(&mut self.may_move) && self.held.len() <= MAX_HELD {
            return None;
        }
        let newest = self.inputs.iter().filter(|input| !input.idle).map(|input| input.newest).min()?;
        let mut watermark = newest.saturating_sub(self.tolerance);
        let n_over = self.held.len().saturating_sub(MAX_HELD);
        if let Some(held) = n_over.checked_sub(1).and_then(|last_over| self.held.get(last_over)) {
            watermark = watermark.max(held.ts);
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
        self.may_move = true;
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
            self.may_move = true;
        }
    }

    /// Writes or reads how far each stream has come, and the rows that are held back. They are written with the slots of the
    /// plan; `places` tells where these are in batches, if rows wait there.
    pub fn state(&mut self, places: Option<&[usize]>, io: &mut StateIo) {
        io.time(&mut self.started);
        io.int(&mut self.current);
        let new = || InputTime { newest: Timestamp::MIN, seen: None, idle: false, ended: false };
        let n_inputs = self.inputs.len();
        let counts: Vec<bool> = self.inputs.iter().map(|input| !input.ended).collect();
        io.list(&mut self.inputs, new, |io, input| {
            io.int(&mut input.newest);
            io.time(&mut input.seen);
            io.bool(&mut input.idle);
        });
        if io.is_reader() {
            if self.inputs.len() != n_inputs {
                io.fail();
            }
            // A stream that had ended begins again where it stood.
            for (input, counts) in self.inputs.iter_mut().zip(counts) {
                input.ended = !counts;
                input.idle |= input.ended;
            }
        }
        if io.is_reader() {
            let mut rows = Vec::new();
            io.list(&mut rows, Default::default, StateIo::held);
            self.hold_again(rows, places);
        } else {
            let mut rows = self.held.iter().filter_map(|held| self.held_row(held, places)).collect();
            io.list(&mut rows, Default::default, StateIo::held);
        }
    }

    /// A row that waits, with the slots of the plan.
    fn held_row(&self, held: &Held, places: Option<&[usize]>) -> Option<(usize, Row)> {
        match &held.row {
            HeldRow::Own(own) => Some(own.as_ref().clone()),
            HeldRow::In(number, row_idx) => {
                let (batch, _) = self.batches.get(number.wrapping_sub(self.first_batch) as usize)?;
                let row = batch.rows.get(*row_idx as usize)?;
                let values = places.unwrap_or_default().iter().map(|place| row.get(*place).clone()).collect();
                Some((0, Row { ts: held.ts, values }))
            }
        }
    }

    fn hold_again(&mut self, rows: Vec<(usize, Row)>, places: Option<&[usize]>) {
        let Some(places) = places else {
            self.held = rows.into_iter().map(|own| Held { ts: own.1.ts, row: HeldRow::Own(Box::new(own)) }).collect();
            return;
        };
        let n_slots = places.iter().max().map_or(0, |last| last + 1);
        let mut batch = Vec::with_capacity(rows.len());
        for (row_idx, (_, row)) in rows.into_iter().enumerate() {
            let place = HeldRow::In(self.first_batch, u32::try_from(row_idx).unwrap_or(u32::MAX));
            self.held.push_back(Held { ts: row.ts, row: place });
            let mut values = vec![Value::Missing; n_slots];
            for (value, place) in row.values.into_iter().zip(places) {
                values[*place] = value;
            }
            batch.push(Row { ts: row.ts, values });
        }
        let n_held = batch.len();
        self.batches.push_back((Arc::new(Batch::per_row(Arc::default(), batch)), n_held));
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
        let mut batch = None;
        let passed = std::iter::from_fn(|| watermark.pop(&mut batch));
        passed
            .map(|passed| match passed {
                Passed::Own(_, row) => row.ts,
                Passed::In(ts, _) => ts,
            })
            .collect()
    }

    #[test]
    fn slowest_stream_counts() {
        let mut watermark = Watermark::new(10, None, &[true, true]);
        assert!(watermark.insert(0, row(100), 0).is_none());
        assert_eq!(watermark.advance(), None, "the second stream has sent nothing");
        assert!(watermark.insert(1, row(50), 0).is_none());
        assert_eq!(watermark.advance(), Some(40));
        assert!(watermark.insert(1, row(115), 0).is_none());
        assert_eq!(watermark.advance(), Some(90));
        assert_eq!(passed(&mut watermark), [50]);
        assert!(watermark.insert(0, row(89), 0).is_some(), "late");
        assert!(watermark.insert(0, row(90), 0).is_none(), "a row at the watermark is not late");
        assert_eq!(passed(&mut watermark), [90]);
    }

    #[test]
    fn silent_streams_hold_nothing_back() {
        let mut watermark = Watermark::new(0, Some(1000), &[true, true, false]);
        assert_eq!(watermark.next_timer(), Some(0));
        watermark.check_idle(5000);
        assert!(watermark.insert(0, row(100), 5000).is_none());
        assert_eq!(watermark.advance(), None);
        assert_eq!(watermark.next_timer(), Some(6000));
        watermark.insert(0, row(200), 5999);
        watermark.check_idle(6000);
        assert_eq!(watermark.advance(), Some(200), "only the first stream counts");
        assert!(watermark.insert(1, row(100), 6001).is_some());
        assert!(watermark.insert(0, row(300), 6001).is_none());
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

    /// Rows are let out by time wherever they are, and a batch is let go of with its last row.
    #[test]
    fn rows_stay_in_their_batches() {
        let mut watermark = Watermark::new(10, None, &[true]);
        let batches = [Arc::new(Batch::default()), Arc::new(Batch::default())];
        watermark.begin_batch(&batches[0]);
        assert!(watermark.insert_in_place(0, 100, 0));
        assert!(watermark.insert_in_place(1, 104, 0));
        watermark.begin_batch(&batches[1]);
        assert!(watermark.insert_in_place(0, 102, 0));
        assert_eq!(watermark.advance(), Some(94));
        assert!(!watermark.insert_in_place(1, 93, 0), "late");
        assert!(watermark.insert_in_place(2, 113, 0));
        assert_eq!(watermark.advance(), Some(103));
        assert_eq!(passed(&mut watermark), [100, 102]);
        assert_eq!(Arc::strong_count(&batches[0]), 2, "a row of it waits");
        assert!(watermark.insert_in_place(3, 120, 0));
        assert_eq!(watermark.advance(), Some(110));
        assert_eq!(passed(&mut watermark), [104]);
        assert_eq!(Arc::strong_count(&batches[0]), 1);
        watermark.finish();
        assert_eq!(passed(&mut watermark), [113, 120]);
    }
}
