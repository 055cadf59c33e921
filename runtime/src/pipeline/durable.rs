//! What a rule with `qos` 1 or 2 has beside its operators: how far it has read, what time it is there, and its checkpoints.
//!
//! Such a rule is computed again after a crash, from its last checkpoint, and must come to the same results. So it does not look
//! at the clock: time is what its inputs say, which is in their journals. Rows of several inputs are processed in the order in
//! which they arrived, whatever channel they come through first (`Merge`).
//!
//! A checkpoint is what the operators keep and how far each input has been read, taken between two steps while nothing is on
//! its way through lookup joins. A barrier goes to every sink behind the results so far; once all have taken it, the checkpoint
//! is written, beside the rule, which goes on meanwhile. Only then do the journals let go of what came before it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sluice_sql::Timestamp;
use sluice_sql::expr::RuleContext;
use sluice_sql::operators::{Chain, ChainState, Restored};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::definition::OnStateChange;
use crate::pipeline::channel::Sender;
use crate::pipeline::feed::{Place, Resume, Signal, TimeAsk};
use crate::pipeline::metrics::RuleMetrics;
use crate::pipeline::outlet::{Barrier, ToSink};
use crate::state::checkpoint::{Checkpoint, Checkpoints, InputPlace};
use crate::state::journal::Journal;
use crate::state::{Cause, StateError};
use crate::time::Clock;

/// Pause before a feed is asked for the time again.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// Signals of one input that wait for the other inputs, at most.
const MAX_WAITING: usize = 16;
/// Pause between two checkpoints that a full journal asks for.
const PRESSED_PAUSE: Duration = Duration::from_secs(1);
/// Pause before the store is tried again.
const INSIST_PAUSE: Duration = Duration::from_secs(1);
/// Timers that are rung one by one when time jumps; the rest of the way is one step.
const MAX_TICKS: usize = 10_000;

/// One input of such a rule.
pub struct DurableInput {
    /// Its journal.
    pub journal: Arc<Journal>,
    /// What the rule needs of it at the latest.
    pub offset: u64,
    /// Set when the journal is filling up.
    pub pressed: Arc<AtomicBool>,
    /// Its subscription.
    pub resume: Resume,
}

/// What it is made from.
pub struct DurableParts {
    /// The rule.
    pub rule: String,
    /// Where checkpoints are kept.
    pub store: Arc<Checkpoints>,
    /// One per input of the plan.
    pub inputs: Vec<DurableInput>,
    /// Time between two checkpoints.
    pub interval: Duration,
    /// What happens to state when the rule has changed.
    pub on_change: OnStateChange,
    /// What it counts.
    pub metrics: Arc<RuleMetrics>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// For writing checkpoints.
    pub tracker: TaskTracker,
}

/// What a rule with `qos` 1 or 2 has beside its operators.
pub struct Durable {
    parts: DurableParts,
    /// The journal of each input, and what is set when it is filling up.
    journals: Vec<(Arc<Journal>, Arc<AtomicBool>)>,
    resumes: Vec<Option<Resume>>,
    asks: Vec<TimeAsk>,
    /// How far it has come; its `state` is only filled while it is written.
    at: Checkpoint,
    merge: Merge,
    /// The state of the random numbers, shared with the rule's context.
    random: Arc<AtomicU64>,
    next_checkpoint: Instant,
    /// A checkpoint is being written.
    is_writing: Arc<AtomicBool>,
    /// Something has happened since the newest checkpoint.
    has_changed: bool,
    next_ask: Instant,
    last_cause: Cause,
    next_ordinal: u64,
}

impl Durable {
    /// Ready to [`begin`](Self::begin).
    pub fn new(mut parts: DurableParts) -> Self {
        let inputs = std::mem::take(&mut parts.inputs);
        let n_inputs = inputs.len();
        let (mut resumes, mut asks, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        let mut at = Checkpoint::default();
        for input in inputs {
            asks.push(input.resume.time_ask());
            resumes.push(Some(input.resume));
            at.inputs.push(InputPlace { journal: input.journal.name.as_str().into(), offset: input.offset, part: 0 });
            kept.push((input.journal, input.pressed));
        }
        let now = Instant::now();
        Durable {
            next_checkpoint: now + parts.interval,
            journals: kept,
            parts,
            resumes,
            asks,
            at,
            merge: Merge::new(n_inputs),
            random: Arc::default(),
            is_writing: Arc::default(),
            has_changed: true,
            next_ask: now,
            last_cause: Cause::default(),
            next_ordinal: 0,
        }
    }

    /// Goes on from the newest checkpoint, or begins: fills the operators and has the inputs send what comes next. Called once
    /// the definition before has written its last checkpoint.
    ///
    /// # Errors
    /// Why the rule can't begin.
    pub async fn begin(&mut self, chain: &mut Chain, ctx: &mut RuleContext) -> Result<(), String> {
        let fingerprint = chain.plan().fingerprint();
        let (found, epoch) = self
            .insist("read its checkpoint", |store, rule| match store.latest(rule)? {
                Some(checkpoint) => Ok((Some(checkpoint), 0)),
                None => Ok((None, store.new_epoch(rule)?)),
            })
            .await?;
        let metrics = Arc::clone(&self.parts.metrics);
        let is_new = found.is_none();
        match found {
            None => {
                let now = self.parts.clock.now();
                self.at.epoch = epoch;
                self.at.rule_start = now;
                self.at.time = now;
                self.at.seed = (ctx.random)();
            }
            Some(old) => {
                let is_same = old.fingerprint == fingerprint;
                if !is_same && self.parts.on_change == OnStateChange::Refuse {
                    return Err(
                        "its statement has changed, and with `stateOnChange: refuse` it does not go on with the state \
                                of the one before; change it back, or set `stateOnChange` to keep or reset"
                            .to_owned(),
                    );
                }
                if is_same || self.parts.on_change == OnStateChange::Keep {
                    metrics.checkpoints.restored(&chain.restore(&old.state));
                } else {
                    metrics.checkpoints.restored(&Restored { lost: vec!["all".into()], ..Restored::default() });
                }
                let Checkpoint { id, epoch, rule_start, seed, time, step, .. } = old;
                for (input_idx, place) in self.at.inputs.iter_mut().enumerate() {
                    let same = |old: &&InputPlace| old.journal == place.journal;
                    // A stream may be read twice; then the order tells which is which.
                    let at_its_place = old.inputs.get(input_idx).filter(same);
                    if let Some(old) = at_its_place.or_else(|| old.inputs.iter().find(same)) {
                        *place = old.clone();
                    }
                }
                self.at = Checkpoint {
                    id,
                    epoch,
                    rule_start,
                    seed,
                    time,
                    step,
                    inputs: std::mem::take(&mut self.at.inputs),
                    ..Default::default()
                };
            }
        }
        // The clock may have been set back since then.
        self.parts.clock.not_before(self.at.time);
        self.at.fingerprint = fingerprint;
        ctx.rule_start = self.at.rule_start;
        let random = Arc::clone(&self.random);
        ctx.random = Box::new(move || next_random(&random));
        if is_new {
            // Where it began is part of what it computes: a crash before the first checkpoint must not begin anew.
            self.has_changed = true;
            let first = self.with_state(chain.save());
            let saved =
                self.insist("write its first checkpoint", move |store, rule| store.save(rule, first.clone())).await?;
            metrics.checkpoints.done(self.parts.clock.now(), Duration::ZERO, saved);
        }
        for (place, resume) in self.at.inputs.iter().zip(&mut self.resumes) {
            if let Some(resume) = resume.take() {
                resume.start(place.offset, place.part);
            }
        }
        self.next_checkpoint = Instant::now() + self.parts.interval;
        Ok(())
    }

    /// Does something with the store, however often it takes: a volume that is full has room again some time.
    async fn insist<T: Send + 'static>(
        &self,
        what: &str,
        work: impl Fn(&Checkpoints, &str) -> Result<T, StateError> + Clone + Send + 'static,
    ) -> Result<T, String> {
        loop {
            let (store, rule, work) = (Arc::clone(&self.parts.store), self.parts.rule.clone(), work.clone());
            match blocking(move || work(&store, &rule)).await {
                Ok(done) => return Ok(done),
                Err(error @ (StateError::Frame { .. } | StateError::Format { .. })) => {
                    return Err(format!("can't {what}: {error}"));
                }
                Err(error) => {
                    self.parts.metrics.errors.report(format_args!("can't {what}, and tries again: {error}"));
                    tokio::time::sleep(INSIST_PAUSE).await;
                }
            }
        }
    }

    /// The time that the rule has come to.
    pub fn time(&self) -> Timestamp {
        self.at.time
    }

    /// What came through an input's channel.
    pub fn receive(&mut self, input_idx: usize, signal: Option<Signal>) {
        self.merge.push(input_idx, signal);
    }

    /// True if the input's channel may be read.
    pub fn wants(&self, input_idx: usize) -> bool {
        self.merge.queues.get(input_idx).is_none_or(|queue| queue.len() < MAX_WAITING)
    }

    /// The next signal in the order of arrival, `None` until more is known of the other inputs.
    pub fn next_signal(&mut self) -> Option<(usize, Option<Signal>)> {
        self.merge.pop()
    }

    /// How far time has come over all inputs.
    pub fn known_time(&self) -> Timestamp {
        self.merge.time()
    }

    /// The timers of the chain up to `time`, one by one, as they would have rung. Calls `tick` for each, with its cause.
    pub fn timer_until(&mut self, timer: Option<Timestamp>, time: Timestamp, n_ticks: usize) -> Option<Cause> {
        let due = timer.filter(|timer| *timer <= time)?;
        let due = if n_ticks >= MAX_TICKS { time } else { due.max(self.at.time) };
        self.at.time = self.at.time.max(due);
        self.has_changed = true;
        Some(self.cause())
    }

    /// Something that is neither rows nor a timer is about to be processed: its cause.
    pub fn next_cause(&mut self) -> Cause {
        self.has_changed = true;
        self.cause()
    }

    /// Time has come to `time` without anything happening.
    pub fn pass(&mut self, time: Timestamp) {
        self.at.time = self.at.time.max(time);
    }

    /// A batch is about to be processed: its cause; `None` if it has been processed before.
    pub fn enter(&mut self, input_idx: usize, place: Place) -> Option<Cause> {
        let own = self.at.inputs.get_mut(input_idx)?;
        if (place.offset, place.part) < (own.offset, own.part) {
            return None;
        }
        (own.offset, own.part) = if place.is_last { (place.offset + 1, 0) } else { (place.offset, place.part + 1) };
        self.at.time = self.at.time.max(place.time);
        self.has_changed = true;
        Some(self.cause())
    }

    /// The cause of the next step; its random numbers follow from it.
    fn cause(&mut self) -> Cause {
        let Checkpoint { epoch, time, seed, .. } = self.at;
        let (last_time, last_step) = self.at.step;
        let step = if time > last_time { 0 } else { last_step + 1 };
        self.at.step = (time, step);
        let mixed = [time as u64, step].into_iter().fold(seed, |mixed, part| scramble(mixed ^ part));
        self.random.store(mixed, Ordering::Relaxed);
        Cause { epoch, time, step, ordinal: 0 }
    }

    /// The cause of a result of `n_rows` rows that a step has caused.
    pub fn number(&mut self, cause: Cause, n_rows: u64) -> Cause {
        if self.last_cause != cause {
            self.last_cause = cause;
            self.next_ordinal = 0;
        }
        let numbered = Cause { ordinal: self.next_ordinal, ..cause };
        self.next_ordinal += n_rows.max(1);
        numbered
    }

    /// Asks feeds for the time: those that hold rows of others back, and for a timer all.
    pub fn ask(&mut self, for_timer: bool) {
        if Instant::now() < self.next_ask {
            return;
        }
        let mut has_asked = false;
        for (input_idx, ask) in self.asks.iter().enumerate() {
            if for_timer || self.merge.holds_back(input_idx) {
                ask.ask();
                has_asked = true;
            }
        }
        if has_asked {
            self.next_ask = Instant::now() + ASK_AGAIN;
        }
    }

    /// In how long something is to be done without a signal, at the latest in a minute; `timer` is when the chain's timer is due, by the clock.
    pub fn wait(&self, timer: Option<Duration>, may_checkpoint: bool) -> Option<Duration> {
        let now = Instant::now();
        let until_ask = self.next_ask.saturating_duration_since(now);
        let until_checkpoint = self.next_checkpoint.saturating_duration_since(now);
        let checkpoint = match self.is_writing.load(Ordering::Acquire) {
            true => Some(until_checkpoint.max(PRESSED_PAUSE)),
            false => may_checkpoint.then_some(until_checkpoint),
        };
        let timer = timer.map(|timer| timer.max(until_ask));
        let held_back = self.merge.is_held_back().then_some(until_ask);
        [checkpoint, timer, held_back].into_iter().flatten().min()
    }

    /// True if a checkpoint is to be made, as soon as nothing is on its way through lookups.
    pub fn is_due(&mut self) -> bool {
        if self.is_writing.load(Ordering::Acquire) {
            return false;
        }
        let now = Instant::now();
        if now >= self.next_checkpoint {
            if self.has_changed {
                return true;
            }
            // Nothing has happened: what is there is as good as new.
            self.next_checkpoint = now + self.parts.interval;
            self.parts.metrics.checkpoints.still_good(self.parts.clock.now());
            return false;
        }
        let is_pressed = self.journals.iter().any(|(_, pressed)| pressed.load(Ordering::Relaxed));
        is_pressed && now + self.parts.interval >= self.next_checkpoint + PRESSED_PAUSE.min(self.parts.interval)
    }

    fn with_state(&mut self, state: ChainState) -> Checkpoint {
        self.at.id += 1;
        self.at.made_at = self.parts.clock.now();
        Checkpoint { state, ..self.at.clone() }
    }

    /// Makes a checkpoint of what `chain` keeps. Returns once the barriers are with the sinks; what completes with the answer
    /// runs beside the rule.
    pub async fn checkpoint<'s>(
        &mut self,
        chain: &mut Chain,
        sinks: impl Iterator<Item = &'s Sender<ToSink>>,
    ) -> oneshot::Receiver<bool> {
        let (done, is_done) = oneshot::channel();
        let started = Instant::now();
        self.next_checkpoint = started + self.parts.interval;
        self.has_changed = false;
        self.is_writing.store(true, Ordering::Release);
        let checkpoint = self.with_state(chain.save());
        let mut taken = Vec::new();
        for sink in sinks {
            let (barrier, receiver) = Barrier::new();
            // A sink that has stopped does not answer either.
            let _ = sink.send(ToSink::Barrier(barrier)).await;
            taken.push(receiver);
        }
        let (store, rule) = (Arc::clone(&self.parts.store), self.parts.rule.clone());
        let (metrics, clock) = (Arc::clone(&self.parts.metrics), Arc::clone(&self.parts.clock));
        let journals: Vec<_> = self.journals.iter().map(|(journal, _)| Arc::clone(journal)).collect();
        let is_writing = Arc::clone(&self.is_writing);
        self.parts.tracker.spawn(async move {
            let mut is_taken = true;
            for taken in taken {
                is_taken &= taken.await.is_ok();
            }
            let outcome = if is_taken {
                let (rule, inputs) = (rule.clone(), checkpoint.inputs.clone());
                let saved = blocking(move || {
                    let saved = store.save(&rule, checkpoint)?;
                    for journal in journals {
                        let places = inputs.iter().filter(|place| place.journal == journal.name);
                        if let Some(offset) = places.map(|place| place.offset).min() {
                            journal.release(&rule, offset);
                        }
                    }
                    Ok(saved)
                });
                saved.await.map_err(|error| error.to_string())
            } else {
                Err("a sink has stopped before it had taken what came before".to_owned())
            };
            match &outcome {
                Ok(saved) => metrics.checkpoints.done(clock.now(), started.elapsed(), *saved),
                Err(error) => {
                    metrics.checkpoints.failed();
                    metrics.errors.report(format_args!("checkpoint: {error}"));
                }
            }
            is_writing.store(false, Ordering::Release);
            let _ = done.send(outcome.is_ok());
        });
        is_done
    }

    /// True if something has happened since the newest checkpoint.
    pub fn has_changed(&self) -> bool {
        self.has_changed || self.is_writing.load(Ordering::Acquire)
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        for (journal, _) in &self.journals {
            journal.rest(&self.parts.rule);
        }
    }
}

/// Runs store work beside the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StateError> + Send + 'static,
) -> Result<T, StateError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StateError::io("state volume".as_ref(), std::io::Error::other(error))),
    }
}

/// The next of a row of random numbers.
fn next_random(state: &AtomicU64) -> u64 {
    let next = state.load(Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
    state.store(next, Ordering::Relaxed);
    scramble(next)
}

/// Spreads every bit over all others (the finisher of splitmix64).
fn scramble(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

/// Puts the signals of several inputs into the order of arrival. A row is let out once every other input is known to have
/// nothing older; rows that arrived together come in the order of the inputs.
#[derive(Debug, Default)]
struct Merge {
    queues: Vec<VecDeque<(Timestamp, Option<Signal>)>>,
    /// Nothing older comes through the channel any more.
    passed: Vec<Timestamp>,
}

impl Merge {
    fn new(n_inputs: usize) -> Self {
        Merge { queues: (0..n_inputs).map(|_| VecDeque::new()).collect(), passed: vec![Timestamp::MIN; n_inputs] }
    }

    fn push(&mut self, input_idx: usize, signal: Option<Signal>) {
        let (Some(queue), Some(passed)) = (self.queues.get_mut(input_idx), self.passed.get_mut(input_idx)) else {
            return;
        };
        match &signal {
            Some(Signal::Time(time)) => *passed = (*passed).max(*time),
            Some(Signal::Rows { place, .. }) => {
                *passed = place.map_or(*passed, |place| (*passed).max(place.time));
                queue.push_back((*passed, signal));
            }
            Some(Signal::End | Signal::Failed(_)) | None => {
                // Behind what came before it, and in nobody's way.
                queue.push_back((*passed, signal));
                *passed = Timestamp::MAX;
            }
        }
    }

    /// The input whose first signal is the oldest.
    fn oldest(&self) -> Option<(Timestamp, usize)> {
        let heads = self.queues.iter().enumerate();
        heads.filter_map(|(input_idx, queue)| Some((queue.front()?.0, input_idx))).min()
    }

    fn pop(&mut self) -> Option<(usize, Option<Signal>)> {
        let (_, input_idx) = self.oldest()?;
        if self.is_held_back() {
            return None;
        }
        let (_, signal) = self.queues.get_mut(input_idx)?.pop_front()?;
        Some((input_idx, signal))
    }

    /// True if the input may still bring something that comes before the oldest signal.
    fn holds_back(&self, input_idx: usize) -> bool {
        let Some((time, oldest)) = self.oldest() else { return false };
        let is_empty = self.queues.get(input_idx).is_some_and(VecDeque::is_empty);
        let passed = self.passed.get(input_idx).copied().unwrap_or(Timestamp::MAX);
        is_empty && input_idx != oldest && (passed, input_idx) < (time, oldest)
    }

    fn is_held_back(&self) -> bool {
        self.queues.len() > 1 && (0..self.queues.len()).any(|input_idx| self.holds_back(input_idx))
    }

    /// Nothing older comes any more.
    fn time(&self) -> Timestamp {
        let inputs = self.queues.iter().zip(&self.passed);
        inputs.map(|(queue, passed)| queue.front().map_or(*passed, |(time, _)| *time)).min().unwrap_or(Timestamp::MIN)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn rows(time: Timestamp) -> Option<Signal> {
        let place = Place { time, offset: 0, part: 0, is_last: true };
        Some(Signal::Rows { batch: Arc::default(), arrived: Instant::now(), place: Some(place), receipt: None })
    }

    fn times(merge: &mut Merge) -> Vec<(usize, Timestamp)> {
        std::iter::from_fn(|| merge.pop())
            .map(|(input_idx, signal)| match signal {
                Some(Signal::Rows { place, .. }) => (input_idx, place.unwrap().time),
                _ => (input_idx, -1),
            })
            .collect()
    }

    #[test]
    fn rows_of_several_inputs_come_in_order_of_arrival() {
        let mut merge = Merge::new(2);
        merge.push(0, rows(5));
        assert_eq!(times(&mut merge), [], "the other input may bring something older");
        assert!(merge.holds_back(1) && !merge.holds_back(0));
        merge.push(1, rows(3));
        merge.push(1, rows(5));
        assert_eq!(times(&mut merge), [(1, 3), (0, 5)], "the first input may bring another one of 5");
        merge.push(0, Some(Signal::Time(6)));
        assert_eq!(times(&mut merge), [(1, 5)]);
        assert_eq!(merge.time(), 5);
        merge.push(1, Some(Signal::Time(9)));
        assert_eq!(merge.time(), 6);
        merge.push(1, Some(Signal::End));
        assert_eq!(times(&mut merge), [], "the end counts where it stands");
        merge.push(0, rows(10));
        assert_eq!(times(&mut merge), [(1, -1), (0, 10)]);
    }

    #[test]
    fn one_input_waits_for_nobody() {
        let mut merge = Merge::new(1);
        merge.push(0, rows(5));
        merge.push(0, rows(4));
        assert_eq!(times(&mut merge), [(0, 5), (0, 4)]);
        merge.push(0, Some(Signal::Time(8)));
        assert_eq!(merge.time(), 8);
        merge.push(0, None);
        assert_eq!(times(&mut merge), [(0, -1)]);
    }
}
