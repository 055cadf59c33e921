//! The task of one rule: rows and time into the chain, lookups out and back in order, results to the sinks.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use sluice_sql::expr::{RejectReason, Rejected, RuleContext};
use sluice_sql::operators::{Chain, LookupAnswer, LookupRequest};
use sluice_sql::value::Emissions;
use sluice_sql::{Batch, Timestamp};

use crate::pipeline::channel::{Receiver, Sender, TrySendError};
use crate::pipeline::durable::Durable;
use crate::pipeline::feed::Signal;
use crate::pipeline::held::HeldShare;
use crate::pipeline::inputs::Inputs;
use crate::pipeline::lookup::LookupDriver;
use crate::pipeline::metrics::{DropReason, RuleMetrics};
use crate::pipeline::outlet::{Barrier, Tail, ToSink};
use crate::pipeline::receipt::Receipt;
use crate::pipeline::rejected::{self, SideSinks};
use crate::state::Cause;
use crate::time::Clock;

/// Rows that are taken from the inputs at a time, while more are there, before lookup tables are asked.
const MAX_GATHERED_ROWS: usize = 2048;
/// Batches that wait for lookups at most; the inputs are not read meanwhile.
const MAX_IN_FLIGHT: usize = 8;
/// A timer that is further away is looked at again after this, in case the clock was set or the machine slept.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// How a rule's task came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleEnd {
    /// All sources were finite and have ended.
    Done,
    /// The engine took it off its feeds.
    Stopped,
    /// Something broke that a retry does not mend.
    Failed(String),
}

/// When the step that a rule is computing began; 0 between two steps.
#[derive(Debug, Default)]
pub struct Pulse(AtomicI64);

impl Pulse {
    /// When the step that is being computed began. Steps take microseconds: an old one means that an operator is stuck.
    pub fn busy_since(&self) -> Option<Timestamp> {
        Some(self.0.load(Ordering::Relaxed)).filter(|since| *since != 0)
    }

    fn set(&self, since: Timestamp) {
        self.0.store(since, Ordering::Relaxed);
    }
}

/// What a rule's task is made from.
pub struct RuleParts {
    /// Its operators.
    pub chain: Chain,
    /// Its surroundings.
    pub ctx: RuleContext,
    /// One channel per input of the plan.
    pub inputs: Vec<Receiver<Signal>>,
    /// All inputs are finite: they are read in turn, whoever is first, so that the same input gives the same results.
    pub in_turn: bool,
    /// One driver per lookup of the plan.
    pub lookups: Vec<Arc<LookupDriver>>,
    /// One channel per sink.
    pub sinks: Vec<Sender<ToSink>>,
    /// The channels for rows that are left out.
    pub side_sinks: SideSinks,
    /// It fails with the first row that fails.
    pub fail_on_error: bool,
    /// What it counts.
    pub metrics: Arc<RuleMetrics>,
    /// Live output.
    pub tail: Arc<Tail>,
    /// What it is doing.
    pub pulse: Arc<Pulse>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// For a rule that keeps state.
    pub durable: Option<Durable>,
    /// What its operators keep.
    pub held: HeldShare,
}

/// A rule that runs.
pub struct RuleTask {
    chain: Chain,
    ctx: RuleContext,
    inputs: Inputs,
    lookups: Vec<Arc<LookupDriver>>,
    sinks: Vec<Sender<ToSink>>,
    side_sinks: SideSinks,
    /// Left out, not handed over yet.
    rejected: Vec<Rejected>,
    fail_on_error: bool,
    /// The failure that ends the rule.
    failure: Option<Arc<str>>,
    metrics: Arc<RuleMetrics>,
    tail: Arc<Tail>,
    pulse: Arc<Pulse>,
    clock: Arc<dyn Clock>,
    durable: Option<Durable>,
    held: HeldShare,
    /// Per lookup, the batches that wait for its answers.
    in_flight: Vec<FuturesOrdered<BoxFuture<'static, Answered>>>,
    n_in_flight: usize,
    /// Rows in those batches.
    n_asking: u64,
    moving: VecDeque<Moving>,
    /// Empty between two steps; kept for its room.
    out: Vec<Batch>,
    /// Rows of a slow rule that have been taken from an input and wait for their turn.
    n_pushing: u64,
    /// Rows of the result that is being handed to the sinks.
    n_emitting: u64,
    /// Something was handed to the sinks since a client's barrier went to them.
    has_emitted: bool,
    /// Rows that have been left out, and no sink gets to see.
    n_left_out: u64,
    /// A step may take milliseconds per row.
    is_slow: bool,
}

/// A batch that has come back from a lookup table.
struct Answered {
    lookup_idx: usize,
    batch: Batch,
    request: LookupRequest,
    answers: Vec<LookupAnswer>,
    arrived: Option<Instant>,
    cause: Option<Cause>,
    receipt: Option<Receipt>,
}

/// A batch on its way through the lookup joins: before lookup `lookup_idx`, or final behind the last one.
struct Moving {
    lookup_idx: usize,
    batch: Batch,
    arrived: Option<Instant>,
    cause: Option<Cause>,
    /// For a client that waits until this one and all before it are with the sinks.
    receipt: Option<Receipt>,
}

impl Moving {
    /// Nothing but a receipt.
    fn receipt(lookup_idx: usize, receipt: Receipt) -> Self {
        Moving { lookup_idx, batch: Batch::default(), arrived: None, cause: None, receipt: Some(receipt) }
    }

    /// True if both may ask the lookup table together: rows that are each a result of their own, and no checkpoint or client
    /// that has to tell them apart.
    fn goes_with(&self, next: &Moving) -> bool {
        let is_per_row =
            |moving: &Moving| matches!(moving.batch.emissions, Emissions::PerRow) && moving.cause.is_none();
        self.lookup_idx == next.lookup_idx
            && self.receipt.is_none()
            && is_per_row(self)
            && is_per_row(next)
            && Arc::ptr_eq(&self.batch.schema, &next.batch.schema)
    }
}

enum Event {
    Answer(Answered),
    Signal(usize, Option<Signal>),
    Timer,
}

impl RuleTask {
    /// A rule that is ready to run.
    pub fn new(parts: RuleParts) -> Self {
        let RuleParts {
            chain,
            ctx,
            inputs,
            in_turn,
            lookups,
            sinks,
            side_sinks,
            fail_on_error,
            metrics,
            tail,
            pulse,
            clock,
            durable,
            held,
        } = parts;
        let in_flight = lookups.iter().map(|_| FuturesOrdered::new()).collect();
        RuleTask {
            is_slow: chain.is_slow(),
            chain,
            ctx,
            inputs: Inputs::new(inputs, in_turn && durable.is_none()),
            lookups,
            sinks,
            side_sinks,
            rejected: Vec::new(),
            fail_on_error,
            failure: None,
            metrics,
            tail,
            pulse,
            clock,
            durable,
            held,
            in_flight,
            n_in_flight: 0,
            n_asking: 0,
            moving: VecDeque::new(),
            out: Vec::new(),
            n_pushing: 0,
            n_emitting: 0,
            has_emitted: false,
            n_left_out: 0,
        }
    }

    /// Runs until the inputs have ended or closed and everything that they caused is with the sinks.
    pub async fn run(&mut self) -> RuleEnd {
        if let Some(durable) = &mut self.durable
            && let Err(message) = durable.begin(&mut self.chain, &mut self.ctx).await
        {
            return RuleEnd::Failed(message);
        }
        let end = loop {
            match self.turn().await {
                Ok(true) => {}
                Ok(false) if self.inputs.have_ended() => break RuleEnd::Done,
                Ok(false) => break RuleEnd::Stopped,
                Err(end) => return end,
            }
        };
        self.last_checkpoint().await;
        end
    }

    /// One event and what it causes. False if there can be no more.
    async fn turn(&mut self) -> Result<bool, RuleEnd> {
        if self.n_in_flight == 0
            && let Some(durable) = &mut self.durable
            && durable.is_due()
        {
            let sinks = self.sinks.iter().chain(self.side_sinks.all());
            // It completes beside the rule: nobody has to wait for that.
            drop(durable.checkpoint(&mut self.chain, sinks).await);
        }
        if self.held.is_due() {
            self.metrics.state_bytes.set(self.held.measure(|| self.chain.state_bytes()));
        }
        let over = self.held.over().clone();
        let event = tokio::select! {
            biased;
            () = over.cancelled() => return Err(RuleEnd::Failed(self.held.message())),
            event = self.next_event() => event,
        };
        let Some(event) = event else { return Ok(false) };
        match event {
            Event::Answer(answered) => self.join(answered),
            Event::Timer => match &mut self.durable {
                None => self.tick(),
                Some(durable) => {
                    let timer = self.chain.next_timer();
                    durable.ask(timer.is_some_and(|timer| timer <= self.clock.now()));
                }
            },
            Event::Signal(input_idx, signal) => match &mut self.durable {
                None => {
                    self.signal(input_idx, signal).await?;
                    self.gather().await?;
                }
                Some(durable) => {
                    if matches!(signal, None | Some(Signal::End)) {
                        // Nothing follows, but what came before may have to wait.
                        self.inputs.close(input_idx);
                    }
                    durable.receive(input_idx, signal);
                    self.signals_in_order().await?;
                }
            },
        }
        self.settle().await?;
        Ok(true)
    }

    /// Hands over what a step has given: rows that were left out, results; then the rule may have to end.
    async fn settle(&mut self) -> Result<(), RuleEnd> {
        if !self.rejected.is_empty() {
            self.emit_rejected().await;
        }
        self.advance().await?;
        match self.failure.take() {
            Some(failure) => Err(RuleEnd::Failed(failure.to_string())),
            None => Ok(()),
        }
    }

    async fn signal(&mut self, input_idx: usize, signal: Option<Signal>) -> Result<(), RuleEnd> {
        match signal {
            Some(Signal::Rows { batch, arrived, receipt, .. }) => {
                self.metrics.rows_in.add(batch.rows.len() as u64);
                if self.chain.next_timer().is_some_and(|timer| timer <= self.clock.now()) {
                    self.tick();
                }
                self.push(input_idx, batch, arrived, None, receipt).await?;
            }
            Some(Signal::Time(_)) => {}
            Some(Signal::End) => {
                self.inputs.end(input_idx);
                self.step(0, None, None, |chain, ctx, out| chain.end_input(input_idx, ctx, out));
            }
            Some(Signal::Failed(message)) => return Err(RuleEnd::Failed(message.to_string())),
            None => self.inputs.close(input_idx),
        }
        Ok(())
    }

    /// Rows through the chain; those of a slow rule one by one, so that each result is on its way while the next one is computed.
    async fn push(
        &mut self,
        input_idx: usize,
        batch: Arc<Batch>,
        arrived: Instant,
        cause: Option<Cause>,
        receipt: Option<Receipt>,
    ) -> Result<(), RuleEnd> {
        self.n_left_out = 0;
        if !self.is_slow {
            let n_before = self.moving.len();
            self.step(0, Some(arrived), cause, |chain, ctx, out| chain.push(input_idx, batch, ctx, out));
            self.follow(n_before, 0, receipt);
            return Ok(());
        }
        self.n_pushing = batch.rows.len() as u64;
        for row in &batch.rows {
            self.n_pushing -= 1;
            let batch = Arc::new(Batch::per_row(Arc::clone(&batch.schema), vec![row.clone()]));
            self.step(0, Some(arrived), cause, |chain, ctx, out| chain.push(input_idx, batch, ctx, out));
            self.settle().await?;
        }
        self.follow(self.moving.len(), 0, receipt);
        Ok(())
    }

    /// Sends a receipt along with the last batch that its rows have caused, or behind the others if there is none.
    fn follow(&mut self, n_before: usize, lookup_idx: usize, receipt: Option<Receipt>) {
        let Some(receipt) = receipt else { return };
        let n_left_out = self.n_left_out;
        if n_left_out > 0 {
            let rule = &self.ctx.rule_id;
            receipt.refused(|| format!("rule {rule} has left out {n_left_out} of the rows: see its lastError"));
        }
        let has_caused = self.moving.len() > n_before;
        match self.moving.back_mut().filter(|_| has_caused) {
            Some(last) => last.receipt = Some(receipt),
            None => self.moving.push_back(Moving::receipt(lookup_idx, receipt)),
        }
    }

    /// Processes what has come of all inputs, in order of arrival, as far as it is known what comes next.
    async fn signals_in_order(&mut self) -> Result<(), RuleEnd> {
        while let Some((input_idx, signal)) = self.durable.as_mut().and_then(Durable::next_signal) {
            match signal {
                Some(Signal::Rows { batch, arrived, place: Some(place), receipt }) => {
                    self.ring_until(place.time);
                    let Some(cause) = self.durable.as_mut().and_then(|durable| durable.enter(input_idx, place)) else {
                        // A checkpoint has it.
                        receipt.inspect(Receipt::done);
                        continue;
                    };
                    self.metrics.rows_in.add(batch.rows.len() as u64);
                    self.push(input_idx, batch, arrived, Some(cause), receipt).await?;
                }
                Some(Signal::End) => {
                    self.inputs.end(input_idx);
                    // Its results follow those of the last row.
                    let cause = self.durable.as_mut().map(Durable::next_cause);
                    self.step(0, None, cause, |chain, ctx, out| chain.end_input(input_idx, ctx, out));
                }
                other => self.signal(input_idx, other).await?,
            }
            self.settle().await?;
        }
        let known = self.durable.as_ref().map_or(Timestamp::MIN, Durable::known_time);
        if known < Timestamp::MAX {
            self.ring_until(known);
        }
        if let Some(durable) = &mut self.durable {
            durable.ask(false);
        }
        Ok(())
    }

    /// Rings the timers up to a time, one by one, each at its own time: so a replay rings them alike.
    fn ring_until(&mut self, time: Timestamp) {
        let mut n_ticks = 0;
        loop {
            let timer = self.chain.next_timer();
            let Some(cause) = self.durable.as_mut().and_then(|durable| durable.timer_until(timer, time, n_ticks))
            else {
                break;
            };
            self.step(0, None, Some(cause), |chain, ctx, out| chain.tick(ctx, out));
            n_ticks += 1;
            if self.chain.next_timer() == timer {
                break;
            }
        }
        if let Some(durable) = &mut self.durable {
            durable.pass(time);
        }
    }

    /// Leaves a checkpoint behind, so that whoever comes next goes on from here.
    async fn last_checkpoint(&mut self) {
        let Some(durable) = &mut self.durable else { return };
        if durable.has_changed() {
            // Cut short from outside if a sink does not take what came before.
            let sinks = self.sinks.iter().chain(self.side_sinks.all());
            let _ = durable.checkpoint(&mut self.chain, sinks).await.await;
        }
    }

    /// Counts what a rule that is cut short still held, as rows that nobody will process.
    pub fn count_left_over(&mut self) {
        if self.durable.is_some() {
            // It is in the journals, and is processed after the next start.
            return;
        }
        let in_channels: u64 = self.inputs.drain_rows();
        let moving: usize = self.moving.iter().map(|moving| moving.batch.rows.len()).sum();
        let left_over = in_channels + moving as u64 + self.n_asking + self.n_pushing + self.n_emitting;
        self.metrics.dropped.add(DropReason::Shutdown, left_over);
    }

    /// `None` when no input is open and nothing is in flight.
    async fn next_event(&mut self) -> Option<Event> {
        let is_open = self.inputs.is_open();
        if !is_open && self.n_in_flight == 0 {
            return None;
        }
        let timer = self.chain.next_timer().filter(|_| is_open).map(|timer| {
            let wait_ms = timer.saturating_sub(self.clock.now()).max(0);
            Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0)).min(MAX_SLEEP)
        });
        let RuleTask { inputs, in_flight, n_in_flight, durable, .. } = self;
        let timer = match durable {
            None => timer,
            Some(durable) => durable.wait(timer, *n_in_flight == 0).filter(|_| is_open),
        };
        // A checkpoint waits until nothing is on its way.
        let takes_more =
            *n_in_flight < MAX_IN_FLIGHT && (*n_in_flight == 0 || !durable.as_mut().is_some_and(Durable::is_due));
        let event = tokio::select! {
            biased;
            answered = poll_fn(|cx| poll_in_flight(in_flight, cx)), if *n_in_flight > 0 => {
                *n_in_flight -= 1;
                Event::Answer(answered)
            }
            () = tokio::time::sleep(timer.unwrap_or_default()), if timer.is_some() => Event::Timer,
            (input_idx, signal) = poll_fn(|cx| inputs.poll(durable.as_ref(), cx)), if is_open && takes_more => {
                Event::Signal(input_idx, signal)
            }
        };
        Some(event)
    }

    fn tick(&mut self) {
        self.step(0, None, None, |chain, ctx, out| chain.tick(ctx, out));
    }

    fn join(&mut self, answered: Answered) {
        let Answered { lookup_idx, batch, request, answers, arrived, cause, receipt } = answered;
        self.n_asking -= batch.rows.len() as u64;
        let is_dropped = |key: &Option<u32>| {
            let answer = key.and_then(|key_idx| answers.get(key_idx as usize));
            matches!(answer, Some(LookupAnswer::Drop))
        };
        let n_dropped = request.row_keys.iter().filter(|key| is_dropped(key)).count();
        self.metrics.dropped.add(DropReason::Lookup, n_dropped as u64);
        self.n_left_out = n_dropped as u64;
        let n_before = self.moving.len();
        self.step(lookup_idx + 1, arrived, cause, |chain, ctx, out| {
            chain.lookup_join(lookup_idx, batch, &request, &answers, ctx, out);
        });
        self.follow(n_before, lookup_idx + 1, receipt);
    }

    /// One call into the chain; what comes out stands before lookup `lookup_idx`.
    fn step(
        &mut self,
        lookup_idx: usize,
        arrived: Option<Instant>,
        cause: Option<Cause>,
        call: impl FnOnce(&mut Chain, &mut RuleContext, &mut Vec<Batch>),
    ) {
        self.call(call);
        self.moving.extend(self.out.drain(..).map(|batch| Moving { lookup_idx, batch, arrived, cause, receipt: None }));
    }

    fn call<T>(&mut self, call: impl FnOnce(&mut Chain, &mut RuleContext, &mut Vec<Batch>) -> T) -> T {
        let now = self.clock.now();
        self.ctx.now = self.durable.as_ref().map_or(now, Durable::time);
        self.pulse.set(now);
        let RuleTask { chain, ctx, out, .. } = self;
        let result = if self.is_slow { aside(|| call(chain, ctx, out)) } else { call(chain, ctx, out) };
        self.pulse.set(0);
        let report = &mut self.ctx.report;
        if self.side_sinks.late.is_none() {
            self.n_left_out += report.n_late;
        }
        if self.side_sinks.error.is_none() {
            self.n_left_out += report.n_bad_timestamp + report.n_failed;
        }
        if report.n_late > 0 {
            self.metrics.dropped.add(DropReason::Late, std::mem::take(&mut report.n_late));
        }
        if report.n_bad_timestamp > 0 {
            self.metrics.dropped.add(DropReason::BadTimestamp, std::mem::take(&mut report.n_bad_timestamp));
        }
        if report.n_failed > 0 {
            self.metrics.rows_failed.add(std::mem::take(&mut report.n_failed));
            if self.fail_on_error {
                self.failure = Some(report.last_error.clone().unwrap_or_else(|| "a row failed".into()));
            }
        }
        self.rejected.append(&mut report.rejected);
        if let Some(error) = report.last_error.take() {
            self.metrics.errors.report(error);
        }
        result
    }

    /// Takes along what else has arrived, so that lookup tables are asked for many keys at once: a question costs a round trip
    /// however many keys it holds. A slow rule hands over row by row anyway.
    async fn gather(&mut self) -> Result<(), RuleEnd> {
        let n_moving = |moving: &VecDeque<Moving>| moving.iter().map(|moving| moving.batch.rows.len()).sum::<usize>();
        let gathers = !self.lookups.is_empty() && !self.is_slow;
        while gathers && n_moving(&self.moving) < MAX_GATHERED_ROWS {
            let Some((input_idx, signal)) = self.inputs.take_ready() else { break };
            self.signal(input_idx, Some(signal)).await?;
        }
        Ok(())
    }

    /// Moves what came out of the chain on: to the next lookup, or to the sinks.
    async fn advance(&mut self) -> Result<(), RuleEnd> {
        while let Some(mut moving) = self.moving.pop_front() {
            let driver = self.lookups.get(moving.lookup_idx).map(Arc::clone);
            while let Some(next) = self.moving.pop_front_if(|next| driver.is_some() && moving.goes_with(next)) {
                moving.batch.rows.extend(next.batch.rows);
                moving.receipt = next.receipt;
            }
            let Moving { lookup_idx, batch, arrived, cause, receipt } = moving;
            let Some(driver) = driver else {
                self.emit(batch, arrived, cause).await?;
                if let Some(receipt) = receipt {
                    self.confirm(&receipt).await;
                }
                continue;
            };
            let request = self.call(|chain, ctx, _| chain.lookup_keys(lookup_idx, &batch, ctx));
            let Some(in_flight) = self.in_flight.get_mut(lookup_idx) else { continue };
            self.n_in_flight += 1;
            self.n_asking += batch.rows.len() as u64;
            in_flight.push_back(Box::pin(async move {
                let answers = if request.keys.is_empty() { Vec::new() } else { driver.answer(&request.keys).await };
                Answered { lookup_idx, batch, request, answers, arrived, cause, receipt }
            }));
        }
        Ok(())
    }

    /// Hands the rows that were left out to the sinks for them. One that has stopped taking them ends with the rule.
    async fn emit_rejected(&mut self) {
        let rejected = std::mem::take(&mut self.rejected);
        for reasons in [&[RejectReason::Late][..], &[RejectReason::BadTimestamp, RejectReason::Error]] {
            let Some(sink) = reasons.first().and_then(|reason| self.side_sinks.of(*reason)) else { continue };
            let rows: Vec<&Rejected> = rejected.iter().filter(|row| reasons.contains(&row.reason)).collect();
            if !rows.is_empty() {
                self.has_emitted = true;
                // A closed channel is the sink's failure, which ends the rule.
                let _ = sink.send(ToSink::from(Arc::new(rejected::batch(&self.ctx.rule_id, &rows)))).await;
            }
        }
    }

    async fn emit(&mut self, batch: Batch, arrived: Option<Instant>, cause: Option<Cause>) -> Result<(), RuleEnd> {
        if batch.is_empty() {
            return Ok(());
        }
        self.n_emitting = batch.rows.len() as u64;
        self.has_emitted = true;
        let cause = match &mut self.durable {
            Some(durable) => cause.map(|cause| durable.number(cause, self.n_emitting)),
            None => None,
        };
        let batch = Arc::new(batch);
        for (sink_idx, sink) in self.sinks.iter().enumerate() {
            let is_open = match sink.try_send(ToSink::Results { batch: Arc::clone(&batch), cause }) {
                Ok(()) => true,
                Err(TrySendError::Closed(_)) => false,
                Err(TrySendError::Full(batch)) => {
                    let started = Instant::now();
                    let sent = sink.send(batch).await;
                    self.metrics.blocked_us.add(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
                    sent.is_ok()
                }
            };
            if !is_open {
                return Err(RuleEnd::Failed(format!("sink number {sink_idx} has stopped taking results")));
            }
        }
        let n_rows = std::mem::take(&mut self.n_emitting);
        self.metrics.rows_out.add(n_rows);
        if let Some(arrived) = arrived {
            self.metrics.latency.observe(arrived.elapsed(), n_rows);
        }
        self.tail.send(&batch);
        Ok(())
    }

    /// What the client's rows have caused is with the sinks: they are to tell it when they have taken it.
    async fn confirm(&mut self, receipt: &Receipt) {
        if std::mem::take(&mut self.has_emitted) {
            for sink in self.sinks.iter().chain(self.side_sinks.all()) {
                // A sink that has stopped lets go of it without a word, and that is what the client hears.
                let _ = sink.send(ToSink::Barrier(Barrier::of_client(receipt))).await;
            }
        }
        receipt.done();
    }
}

/// Runs what takes long. The other tasks of this thread go on meanwhile, on a thread of the pool for blocking work.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    let flavor = tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor());
    match flavor {
        Ok(tokio::runtime::RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// The next batch that a lookup table has answered for, later lookups first, so that what is nearly done makes room.
fn poll_in_flight(
    in_flight: &mut [FuturesOrdered<BoxFuture<'static, Answered>>],
    cx: &mut Context<'_>,
) -> Poll<Answered> {
    for stage in in_flight.iter_mut().rev() {
        if let Poll::Ready(Some(answered)) = stage.poll_next_unpin(cx) {
            return Poll::Ready(answered);
        }
    }
    Poll::Pending
}
