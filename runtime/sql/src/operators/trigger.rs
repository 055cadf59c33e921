//! `dedup_trigger`: rows about spans of time wait until their span is over, and then tell which parts of it are new.

use super::aggregate::set;
use super::output::Run;
use crate::expr::{Expr, Failure, Fields};
use crate::function::EvalError;
use crate::plan::stages::TriggerStage;
use crate::value::state::StateIo;
use crate::value::{Object, Row, Timestamp, Value};

/// The rows that wait, and the time that earlier rows have covered.
#[derive(Default)]
pub(super) struct DedupTrigger {
    /// By the end of their span, then by arrival.
    waiting: Vec<Waiting>,
    /// Spans that were released, apart from each other, in order.
    covered: Vec<(i64, i64)>,
}

struct Waiting {
    start: i64,
    end: i64,
    /// When the row said that it was.
    now: i64,
    /// When its span is over, by the clock.
    due: Timestamp,
    row: Row,
}

impl DedupTrigger {
    /// Takes a row; appends the rows that are complete now, with their result in the stage's slot.
    pub fn insert(&mut self, stage: &TriggerStage, row: Row, run: &mut Run<'_>, released: &mut Vec<Row>) {
        let times = times(stage, &row, run);
        let [start, end, now] = match times {
            Ok(times) => times,
            Err(failure) => return run.fail(&failure, Some(&row)),
        };
        let place = self.waiting.partition_point(|waiting| waiting.end <= end);
        let due = run.rule.now.saturating_add(end.saturating_sub(now).max(0));
        self.waiting.insert(place, Waiting { start, end, now, due, row });
        let n_over = self.waiting.partition_point(|waiting| waiting.end <= now);
        self.release(stage, n_over, now, released);
    }

    /// The clock has moved.
    pub fn advance(&mut self, stage: &TriggerStage, clock: Timestamp, released: &mut Vec<Row>) {
        while let Some(place) = self.waiting.iter().position(|waiting| waiting.due <= clock) {
            // Whoever ends before it is over, too.
            self.release(stage, place + 1, i64::MIN, released);
        }
    }

    /// Writes or reads the rows that wait and what was covered.
    pub fn state(&mut self, io: &mut StateIo) {
        let new = || Waiting { start: 0, end: 0, now: 0, due: 0, row: Row::default() };
        io.list(&mut self.waiting, new, |io, waiting| {
            for time in [&mut waiting.start, &mut waiting.end, &mut waiting.now, &mut waiting.due] {
                io.int(time);
            }
            io.row(&mut waiting.row);
        });
        io.list(&mut self.covered, Default::default, |io, (from, to)| {
            io.int(from);
            io.int(to);
        });
    }

    /// When the clock is of interest next.
    pub fn next_timer(&self) -> Option<Timestamp> {
        self.waiting.iter().map(|waiting| waiting.due).min()
    }

    /// Releases everything.
    pub fn flush(&mut self, stage: &TriggerStage, released: &mut Vec<Row>) {
        self.release(stage, self.waiting.len(), i64::MIN, released);
    }

    fn release(&mut self, stage: &TriggerStage, n_rows: usize, now: i64, released: &mut Vec<Row>) {
        let over: Vec<Waiting> = self.waiting.drain(..n_rows).collect();
        for Waiting { start, end, now: own, mut row, .. } in over {
            let first = now.max(own).max(end).saturating_sub(stage.expire);
            let value = if end < first { Value::Null } else { Value::Array(self.cover(start, end, first).into()) };
            set(&mut row.values, stage.slot, value);
            released.push(row);
        }
    }

    /// The parts of the span from `first` on that are not covered yet; then all of it is.
    fn cover(&mut self, start: i64, end: i64, first: i64) -> Vec<Value> {
        let mut parts = Vec::new();
        let mut from = start.max(first);
        for (covered_from, covered_to) in &self.covered {
            if *covered_to <= from || *covered_from >= end {
                continue;
            }
            if *covered_from > from {
                parts.push(part(from, *covered_from));
            }
            from = from.max(*covered_to);
        }
        if from < end {
            parts.push(part(from, end));
        }
        let (mut joined, mut rest) = ((start, end), Vec::new());
        for span in self.covered.drain(..) {
            if span.1 < joined.0 || span.0 > joined.1 {
                rest.push(span);
            } else {
                joined = (joined.0.min(span.0), joined.1.max(span.1));
            }
        }
        rest.push(joined);
        rest.retain(|(_, to)| *to >= first);
        rest.sort_unstable();
        self.covered = rest;
        parts
    }
}

fn part(from: i64, to: i64) -> Value {
    let text = |time: i64| Value::string(time.to_string());
    Value::Object(Object::from_iter([("start_key", text(from)), ("end_key", text(to))]).into())
}

/// Start, end and now of a row.
fn times(stage: &TriggerStage, row: &Row, run: &mut Run<'_>) -> Result<[i64; 3], Box<Failure>> {
    let mut times = [0; 3];
    for (time, (name, expr)) in
        times.iter_mut().zip([("start", &stage.start), ("end", &stage.end), ("now", &stage.now)])
    {
        let fail = |message: String| Box::new(Failure { error: EvalError::new(message), span: expr.span });
        let expr: &Expr = expr;
        *time = match &*expr.eval(Fields::of(row), &mut run.scope(row.ts, None))? {
            Value::Int(time) => *time,
            Value::Float(float) if float.fract() == 0.0 && float.abs() < 9e18 => *float as i64,
            other => return Err(fail(format!("the {name} is a {}, not a whole number", other.kind_name()))),
        };
    }
    let [start, end, _] = times;
    if start >= end {
        let message = format!("the start {start} is not before the end {end}");
        return Err(Box::new(Failure { error: EvalError::new(message), span: stage.span }));
    }
    Ok(times)
}
