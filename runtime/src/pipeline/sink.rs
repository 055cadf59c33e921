//! The task that feeds one sink of a rule: shapes results, collects batches, writes with retry.
//!
//! Everything that has arrived is written together, in order. Without a queue nothing more is taken from the channel while the
//! far side does not answer, so the rule waits; with one (`queue`), results wait there. What can never be written is set
//! aside: counted, and with a dead letter sink sent there with the reason.

mod alternate;
mod aside;
mod batcher;
mod deliver;
mod options;
mod project;
mod queue;
mod shape;
mod shaping;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sluice_sql::value::Emissions;
use sluice_sql::{Batch, Schema};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::connection::ConnectorContext;
use crate::definition::{Backpressure, SinkDef};
use crate::error::{ConfigError, Retry};
use crate::pipeline::backoff::Backoff;
use crate::pipeline::channel::{Limits, Receiver, channel};
use crate::pipeline::metrics::{DropReason, SinkMetrics};
use crate::pipeline::outlet::{Barrier, ToSink};
use crate::registry::Registry;
use crate::sink::{SinkArgs, SinkType};
use crate::state::{Cause, StateError, SyncPolicy};
use crate::template::Surroundings;

use alternate::{Alternate, Switch};
use aside::DeadLetters;
use batcher::Batcher;
use deliver::{Cut, Delivery, Load};
pub use options::SinkOptions;
pub use queue::Item;
use queue::{Bounds, Queue, Taken};

pub use crate::format::compression::Compression;
use shape::Shaper;
use shaping::Shaping;

/// Batches that are taken from the channel at once.
const MAX_BATCHES: usize = 64;
/// Loads that wait for the alternate sink.
const ALTERNATE_LOADS: usize = 4;
/// Dead letters that wait for their sink.
const DEAD_LETTERS: usize = 64;
/// Pause after the state volume has failed.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// Feeds one sink of a rule.
pub struct SinkDriver {
    shaping: Shaping,
    delivery: Delivery,
    /// It is to have a queue.
    has_queue: bool,
    /// How much that holds.
    bounds: Bounds,
    clean_at_stop: bool,
    /// Where a queue keeps what waits, and how safe.
    dir: Option<(PathBuf, SyncPolicy)>,
    /// Where what can't be written goes.
    dead_letters: Option<Box<SinkDriver>>,
    /// Where results go while the far side does not answer.
    alternate: Option<Box<Alternate>>,
}

/// What a driver is made from, beside the sink's definition.
#[derive(Clone)]
pub struct SinkParts<'a> {
    /// The rule's name.
    pub rule: &'a str,
    /// The sink's place in the rule.
    pub index: usize,
    /// The rule's rows.
    pub output: &'a Arc<Schema>,
    /// What there is to make it from.
    pub registry: &'a Registry,
    /// Its surroundings.
    pub ctx: ConnectorContext,
    /// What it counts.
    pub metrics: Arc<SinkMetrics>,
    /// What happens to rows when it is too slow.
    pub backpressure: Backpressure,
}

impl SinkDriver {
    /// Checks a sink's options and makes its driver; no I/O.
    ///
    /// # Errors
    /// Every option that is wrong.
    pub fn new(def: &SinkDef, parts: SinkParts<'_>) -> Result<Self, ConfigError> {
        let sink_type = Arc::clone(parts.registry.sink(&def.connector)?);
        Self::of_type(&sink_type, def, parts)
    }

    fn of_type(sink_type: &SinkType, def: &SinkDef, parts: SinkParts<'_>) -> Result<Self, ConfigError> {
        let beside = parts.clone();
        let SinkParts { rule, index, output, registry, ctx, metrics, backpressure } = parts;
        // Mistakes on both sides are reported together.
        let (common, own) = options::split(def, sink_type);
        let mut problems = ConfigError::default();
        let options = SinkOptions::read(&common).unwrap_or_else(|error| {
            problems.problems.extend(error.problems);
            SinkOptions::default()
        });
        let dead_letters = options.dead_letter.as_ref().map(|letter| aside::driver(letter, beside.clone()));
        let alternate = options.alternate(def).map(|other| {
            let other = other?;
            alternate::build(&other, sink_type, beside)
        });
        let surroundings = Surroundings::at(ctx.clock.now());
        let shaper = Shaper::new(&options, &own, sink_type, registry, surroundings, Arc::clone(&metrics));
        let sink = (sink_type.build)(&SinkArgs {
            rule,
            index,
            output,
            options: &own,
            format: &options.format,
            compression: options.compression,
        });
        let dead_letters = match dead_letters.transpose() {
            Ok(driver) => driver,
            Err(error) => {
                problems.problems.extend(error.problems);
                None
            }
        };
        let alternate = match alternate.transpose() {
            Ok(alternate) => alternate,
            Err(error) => {
                problems.problems.extend(error.problems);
                None
            }
        };
        let (shaper, sink) = match (shaper, sink) {
            (Ok(shaper), Ok(sink)) if problems.problems.is_empty() => (shaper, sink),
            (shaper, sink) => {
                for error in [shaper.err(), sink.err()].into_iter().flatten() {
                    problems.problems.extend(error.problems);
                }
                // A sink may check its templates itself, too.
                let mut seen = Vec::new();
                problems.problems.retain(|problem| {
                    let is_new = !seen.contains(problem);
                    seen.push(problem.clone());
                    is_new
                });
                return Err(problems);
            }
        };
        let batcher = (options.batch_size > 0 || !options.linger_interval.0.is_zero())
            .then(|| Batcher::new(options.batch_size, options.linger_interval.0));
        let bounds = Bounds {
            memory_items: options.memory_cache_threshold.max(1),
            disk_items: options.max_disk_cache.max(1),
            disk_bytes: options.max_disk_size.0.max(1),
            max_age: Some(options.max_cache_age.0).filter(|age| !age.is_zero()),
            overflow: backpressure,
        };
        let delivery = Delivery {
            sink,
            ctx,
            metrics: Arc::clone(&metrics),
            max_attempts: options.max_attempts,
            cut: CancellationToken::new(),
            backoff: Backoff::every(options.resend_interval.0),
            dead_letters: None,
            switch: None,
            refused: Vec::new(),
            has_failed: false,
        };
        let mut shaping = Shaping::new(sink_type.takes, shaper, batcher, metrics);
        shaping.shaper.keeps_failed = dead_letters.is_some();
        Ok(SinkDriver {
            shaping,
            delivery,
            has_queue: options.enable_cache || backpressure == Backpressure::Spill,
            bounds,
            clean_at_stop: options.clean_cache_at_stop,
            dir: None,
            dead_letters,
            alternate: alternate.map(Box::new),
        })
    }

    /// Gives the sink a folder on the state volume. With `is_durable` it gets a queue there also if its options don't ask for
    /// one: a rule whose results are not to get lost does not wait with its checkpoints for a sink that can't be reached.
    pub fn keep_in(&mut self, dir: PathBuf, sync: SyncPolicy, is_durable: bool) {
        if let Some(letters) = &mut self.dead_letters {
            letters.keep_in(dir.join("deadLetter"), sync, is_durable);
        }
        if let Some(alternate) = &mut self.alternate {
            alternate.driver.keep_in(dir.join("alternate"), sync, is_durable);
        }
        self.has_queue |= is_durable;
        self.dir = Some((dir, sync));
    }

    /// What the sinks below this one count.
    pub fn more_metrics(&self) -> Vec<Arc<SinkMetrics>> {
        let letters = self.dead_letters.as_deref();
        let alternate = self.alternate.as_ref().map(|alternate| &alternate.driver);
        letters.into_iter().chain(alternate).map(|driver| Arc::clone(&driver.delivery.metrics)).collect()
    }

    /// Writes what comes through the channel until it is closed and drained, then flushes and closes the sink. When `cut` is
    /// cancelled (the grace period is over), it returns at once; what is not written is kept in the queue, or else counted.
    pub async fn run(mut self, results: Receiver<ToSink>, cut: CancellationToken) {
        let mut beside = Vec::new();
        if let Some(alternate) = self.alternate.take() {
            let Alternate { driver, props } = *alternate;
            let (sender, receiver) = channel(Limits::of_items(ALTERNATE_LOADS), |_| {});
            self.delivery.switch = Some(Switch::new(sender, props));
            beside.push(driver.run_alone(receiver, cut.clone()));
        }
        if let Some(letters) = self.dead_letters.take() {
            let (sender, receiver) = channel(Limits::of_items(DEAD_LETTERS), |_| {});
            let SinkMetrics { rule, sink, .. } = &*self.delivery.metrics;
            self.delivery.dead_letters = Some(DeadLetters {
                sender,
                rule: Arc::clone(rule),
                sink: Arc::clone(sink),
                clock: Arc::clone(&self.delivery.ctx.clock),
            });
            beside.push(letters.run_alone(receiver, cut.clone()));
        }
        // The senders go with the sink that is done; then so are those beside it.
        tokio::join!(self.run_alone(results, cut), futures::future::join_all(beside));
    }

    async fn run_alone(mut self, mut results: Receiver<ToSink>, cut: CancellationToken) {
        self.delivery.cut = cut.clone();
        match self.open_queue().await {
            Some(queue) => self.run_queued(&queue, &mut results).await,
            None => {
                if self.feed(&mut results).await.is_err() {
                    let mut n_waiting = self.shaping.n_held();
                    let mut n_new = 0;
                    while let Some(item) = results.try_recv() {
                        n_new += count_item(&item);
                    }
                    n_waiting += n_new;
                    self.delivery.metrics.rows_in.add(n_new);
                    self.delivery.metrics.dropped.add(DropReason::Shutdown, n_waiting);
                }
            }
        }
        self.delivery.finish().await;
    }

    /// The queue, if the sink is to have one, or something is left from a time when it had.
    async fn open_queue(&mut self) -> Option<Queue> {
        if !self.has_queue && self.dir.as_ref().is_none_or(|(dir, _)| !dir.is_dir()) {
            return None;
        }
        let metrics = &self.delivery.metrics;
        if self.dir.is_none() {
            metrics.errors.report("there is no state volume (--state-dir): the cache holds what fits in memory");
        }
        let clock = Arc::clone(&self.delivery.ctx.clock);
        let opened = Queue::open(self.dir.clone(), self.bounds, Arc::clone(metrics), Arc::clone(&clock)).await;
        let queue = match opened {
            Ok(queue) => queue,
            Err(error) => {
                metrics.errors.report(format_args!("queue: {error}; the cache holds what fits in memory"));
                Queue::open(None, self.bounds, Arc::clone(metrics), clock).await.ok()?
            }
        };
        (self.has_queue || !queue.is_empty()).then_some(queue)
    }

    async fn feed(&mut self, results: &mut Receiver<ToSink>) -> Result<(), Cut> {
        let mut items = Vec::with_capacity(MAX_BATCHES);
        if !self.delivery.try_first().await?
            && self.connect(results, &mut items, None).await? == Connected::NothingToWrite
        {
            return Ok(());
        }
        let cut = self.delivery.cut.clone();
        self.take_all(&mut items).await?;
        self.write().await?;
        loop {
            let due = self.shaping.due();
            let n_received = tokio::select! {
                biased;
                () = cut.cancelled() => return Err(Cut::default()),
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => None,
                n_received = results.recv_many(&mut items, MAX_BATCHES) => Some(n_received),
                () = self.delivery.lost() => match self.connect(results, &mut items, Some(Retry::Backoff)).await? {
                    Connected::NothingToWrite => return Ok(()),
                    Connected::Yes if items.is_empty() => continue,
                    Connected::Yes => Some(items.len()),
                },
            };
            self.take_all(&mut items).await?;
            if matches!(n_received, None | Some(0)) {
                self.shaping.flush(self.delivery.ctx.clock.now());
            }
            self.write().await?;
            if n_received == Some(0) {
                return Ok(());
            }
        }
    }

    /// Connects, however long it takes; after a failure only after a pause. The first results are taken meanwhile, to see whether
    /// there will be any at all: a rule that stops need not wait for a sink that it has nothing for.
    async fn connect(
        &mut self,
        results: &mut Receiver<ToSink>,
        items: &mut Vec<ToSink>,
        mut failed: Option<Retry>,
    ) -> Result<Connected, Cut> {
        loop {
            if let Some(retry) = failed {
                let pause = tokio::time::sleep(self.delivery.backoff.pause(retry));
                tokio::pin!(pause);
                loop {
                    tokio::select! {
                        biased;
                        () = self.delivery.cut.cancelled() => {
                            let n_rows = items.iter().map(count_item).sum();
                            self.delivery.metrics.rows_in.add(n_rows);
                            self.delivery.metrics.dropped.add(DropReason::Shutdown, n_rows);
                            return Err(Cut::default());
                        }
                        n_received = results.recv_many(items, MAX_BATCHES), if items.is_empty() => {
                            if n_received == 0 {
                                return Ok(Connected::NothingToWrite);
                            }
                        }
                        () = &mut pause => break,
                    }
                }
            }
            match self.delivery.connect_once().await? {
                Ok(()) => return Ok(Connected::Yes),
                Err(error) => failed = Some(error.retry),
            }
        }
    }

    /// Shapes what has come; what stands before a barrier is written first, however long that takes. Clients that wait are
    /// told together, each what became of its own.
    async fn take_all(&mut self, items: &mut Vec<ToSink>) -> Result<(), Cut> {
        let mut items = items.drain(..);
        let mut clients: Vec<ClientBarrier> = Vec::new();
        let mut n_failed = self.shaping.shaper.n_failed;
        while let Some(item) = items.next() {
            let now = self.delivery.ctx.clock.now();
            match item {
                ToSink::Results { batch, .. } => self.shaping.take(&batch, now),
                ToSink::Shaped(items) => self.shaping.take_shaped(items),
                ToSink::Barrier(barrier) if barrier.is_of_client() => {
                    self.shaping.flush(now);
                    let has_failed = std::mem::replace(&mut n_failed, self.shaping.shaper.n_failed) != n_failed;
                    clients.push(ClientBarrier { barrier, end: self.shaping.n_items(), has_failed });
                }
                ToSink::Barrier(barrier) => {
                    self.shaping.flush(now);
                    if let Err(cut) = self.write_for(&mut clients).await {
                        let n_rows = items.map(|item| count_item(&item)).sum();
                        self.delivery.metrics.rows_in.add(n_rows);
                        self.delivery.metrics.dropped.add(DropReason::Shutdown, n_rows);
                        return Err(cut);
                    }
                    match self.delivery.flush().await? {
                        Ok(()) => barrier.taken(),
                        // Let go of, it says that the checkpoint has failed.
                        Err(error) => self.delivery.metrics.errors.report(format_args!("flush: {error}")),
                    }
                }
            }
        }
        if clients.is_empty() { Ok(()) } else { self.write_for(&mut clients).await }
    }

    /// Writes what has been shaped, and tells the clients that wait for it.
    async fn write_for(&mut self, clients: &mut Vec<ClientBarrier>) -> Result<(), Cut> {
        self.write().await?;
        if clients.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.delivery.flush().await? {
            // Let go of, they say that nothing is known.
            self.delivery.metrics.errors.report(format_args!("flush: {error}"));
            clients.clear();
        }
        let mut start = 0;
        for ClientBarrier { barrier, end, has_failed } in clients.drain(..) {
            let is_own = |refused: &Range<usize>| refused.start < end && start < refused.end;
            if has_failed || self.delivery.refused.iter().any(is_own) {
                barrier.refused(|| refused_by(&self.delivery.metrics));
            } else {
                barrier.taken();
            }
            start = end;
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), Cut> {
        let load = self.shaping.load();
        self.delivery.set_aside(self.shaping.shaper.take_failed()).await;
        let written = self.delivery.write_all(&load, None).await;
        if let Err(Cut { n_settled }) = written {
            let n_rows = load.n_rows(n_settled..load.n_items());
            self.delivery.metrics.dropped.add(DropReason::Shutdown, n_rows);
        }
        written
    }

    /// Two halves: one puts results into the queue, the other writes what is in it.
    async fn run_queued(&mut self, queue: &Queue, results: &mut Receiver<ToSink>) {
        let cut = self.delivery.cut.clone();
        let dead_letters = self.delivery.dead_letters.clone();
        let SinkDriver { shaping, delivery, .. } = self;
        let clock = Arc::clone(&delivery.ctx.clock);
        let mut pending = Pending::default();
        let give = async {
            give(queue, shaping, results, &mut pending, dead_letters.as_ref(), &*clock).await;
            queue.close();
        };
        let is_cut = {
            let write = write_queued(queue, delivery);
            tokio::select! {
                biased;
                () = cut.cancelled() => true,
                ((), written) = async { tokio::join!(give, write) } => written.is_err(),
            }
        };
        if is_cut {
            self.keep_rest(queue, pending, results).await;
        }
    }

    /// The grace period is over: what is not written goes to disk.
    async fn keep_rest(&mut self, queue: &Queue, pending: Pending, results: &mut Receiver<ToSink>) {
        let now = self.delivery.ctx.clock.now();
        let mut newest = queue.cause();
        let Pending { next, received } = pending;
        let in_channel = std::iter::from_fn(|| results.try_recv());
        for item in next.into_iter().chain(received).chain(in_channel) {
            match item {
                ToSink::Results { batch, cause } if cause.is_none() || cause > newest => {
                    newest = newest.max(cause);
                    self.shaping.take(&batch, now);
                    queue.add(self.shaping.load().into_items(), cause);
                }
                ToSink::Shaped(items) => {
                    self.shaping.take_shaped(items);
                    queue.add(self.shaping.load().into_items(), None);
                }
                // A barrier that is let go says that the checkpoint has failed.
                ToSink::Results { .. } | ToSink::Barrier(_) => {}
            }
        }
        self.shaping.flush(now);
        queue.add(self.shaping.load().into_items(), newest);
        let metrics = &self.delivery.metrics;
        if self.clean_at_stop {
            metrics.dropped.add(DropReason::Shutdown, queue.clear().await);
        } else if !queue.secure().await {
            metrics.dropped.add(DropReason::Shutdown, queue.rows_in_memory());
        }
    }
}

/// A client that waits for what stands before it in a load.
struct ClientBarrier {
    barrier: Barrier,
    /// Items of the load up to it.
    end: usize,
    /// Some of it could not be encoded.
    has_failed: bool,
}

/// What a client hears of results that are set aside. The far side's own words may not be meant for it.
fn refused_by(metrics: &SinkMetrics) -> String {
    format!("sink {} of rule {} does not take what came of it: see its lastError", metrics.sink, metrics.rule)
}

/// What has come out of the channel and is not in the queue yet.
#[derive(Default)]
struct Pending {
    next: VecDeque<ToSink>,
    received: Vec<ToSink>,
}

/// Puts results into the queue until the channel is closed and drained.
async fn give(
    queue: &Queue,
    shaping: &mut Shaping,
    results: &mut Receiver<ToSink>,
    pending: &mut Pending,
    dead_letters: Option<&DeadLetters>,
    clock: &dyn crate::time::Clock,
) {
    let mut newest = queue.cause();
    let mut n_failed = shaping.shaper.n_failed;
    loop {
        let due = shaping.due();
        let n_received = tokio::select! {
            biased;
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => None,
            n_received = results.recv_many(&mut pending.received, MAX_BATCHES) => Some(n_received),
        };
        let mut failed: Vec<Barrier> = Vec::new();
        let mut clients: Vec<Barrier> = Vec::new();
        pending.next.extend(pending.received.drain(..));
        while let Some(item) = pending.next.pop_front() {
            let now = clock.now();
            match item {
                // It came before, and the rule computes it again after a restart.
                ToSink::Results { batch, cause: Some(cause) } if newest.is_some_and(|newest| cause <= newest) => {
                    shaping.metrics.repeated.add(count_rows(&batch));
                }
                ToSink::Results { batch, cause } => {
                    shaping.take(&batch, now);
                    newest = newest.max(cause);
                    // Without causes everything that has come is given at once.
                    if cause.is_some() || pending.next.is_empty() {
                        hand_over(queue, shaping, cause).await;
                    }
                }
                ToSink::Shaped(items) => {
                    shaping.take_shaped(items);
                    hand_over(queue, shaping, None).await;
                }
                ToSink::Barrier(barrier) if barrier.is_of_client() => {
                    shaping.flush(now);
                    hand_over(queue, shaping, newest).await;
                    if std::mem::replace(&mut n_failed, shaping.shaper.n_failed) == n_failed {
                        clients.push(barrier);
                    } else {
                        barrier.refused(|| refused_by(&shaping.metrics));
                    }
                }
                ToSink::Barrier(new) => {
                    shaping.flush(now);
                    hand_over(queue, shaping, newest).await;
                    if queue.secure().await {
                        new.taken();
                    } else {
                        failed.push(new);
                    }
                }
            }
        }
        // Let go of, it says that the checkpoint has failed.
        drop(failed);
        if matches!(n_received, None | Some(0)) {
            shaping.flush(clock.now());
        }
        hand_over(queue, shaping, newest).await;
        // In the queue is taken; without a volume to keep it on, that is all there is.
        if !clients.is_empty() && (queue.secure().await || !queue.has_volume()) {
            clients.drain(..).for_each(Barrier::taken);
        }
        if let Some(dead_letters) = dead_letters {
            dead_letters.send(shaping.shaper.take_failed()).await;
        }
        if n_received == Some(0) {
            return;
        }
    }
}

/// Gives the queue what has been shaped. What is still being collected came last, and is lost in a crash: so that the rule
/// computes it again, its cause does not count as given.
async fn hand_over(queue: &Queue, shaping: &mut Shaping, cause: Option<Cause>) {
    let items = shaping.load().into_items();
    match shaping.n_held() {
        0 => queue.push(items, cause).await,
        _ => queue.push_some(items, cause).await,
    }
}

/// Connects, however long it takes; after a failure only after a pause. False if nothing is to be written any more: a rule that
/// stops need not wait for a sink that it has nothing for.
async fn connect_queued(queue: &Queue, delivery: &mut Delivery, mut failed: Option<Retry>) -> Result<bool, Cut> {
    loop {
        if let Some(retry) = failed {
            queue.outage(true).await;
            let pause = delivery.backoff.pause(retry);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = queue.over() => return Ok(false),
            }
        }
        match delivery.connect_once().await? {
            Ok(()) => break,
            Err(error) => failed = Some(error.retry),
        }
    }
    queue.outage(false).await;
    Ok(true)
}

/// Writes what is in the queue until nothing more will come.
async fn write_queued(queue: &Queue, delivery: &mut Delivery) -> Result<(), Cut> {
    if !delivery.try_first().await? && !connect_queued(queue, delivery, None).await? {
        return Ok(());
    }
    loop {
        let taken = tokio::select! {
            biased;
            taken = queue.next() => taken,
            () = delivery.lost() => {
                if connect_queued(queue, delivery, Some(Retry::Backoff)).await? {
                    continue;
                }
                return Ok(());
            }
        };
        let taken = match taken {
            Ok(None) => return Ok(()),
            Ok(Some(taken)) => taken,
            Err(error) => {
                pause_for_disk(delivery, &error).await;
                continue;
            }
        };
        let Taken { items, cause } = taken;
        let load = Load::from_items(items);
        let written = delivery.write_all(&load, Some(queue)).await;
        let done = match written {
            Ok(()) => queue.done(cause).await,
            Err(Cut { n_settled }) => {
                let done = queue.done_some(load.n_whole(n_settled)).await;
                if let Err(error) = done {
                    delivery.metrics.errors.report(format_args!("queue: {error}"));
                }
                return Err(Cut::default());
            }
        };
        if let Err(error) = done {
            pause_for_disk(delivery, &error).await;
        }
    }
}

async fn pause_for_disk(delivery: &mut Delivery, error: &StateError) {
    delivery.metrics.errors.report(format_args!("queue: {error}"));
    tokio::time::sleep(DISK_PAUSE).await;
}

#[derive(PartialEq, Eq)]
enum Connected {
    Yes,
    /// The channel was closed before anything came through it.
    NothingToWrite,
}

/// Rows of what travels to a sink.
pub(super) fn count_item(item: &ToSink) -> u64 {
    match item {
        ToSink::Results { batch, .. } => count_rows(batch),
        ToSink::Shaped(items) => items.iter().map(Item::n_rows).sum(),
        ToSink::Barrier(_) => 0,
    }
}

/// Rows of a batch; an error in place of rows counts as one.
fn count_rows(batch: &Batch) -> u64 {
    let n_errors = match &batch.emissions {
        Emissions::PerRow => 0,
        Emissions::Grouped(emissions) => emissions.iter().filter(|emission| emission.error.is_some()).count(),
    };
    (batch.rows.len() + n_errors) as u64
}
