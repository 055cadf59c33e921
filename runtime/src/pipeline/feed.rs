//! The task of one source instance: reads, decodes once, hands the rows to every rule that subscribed.
//!
//! A shared stream has one feed, any other has one per rule. A feed waits for the slowest of its rules; while it waits it
//! still obeys the engine, so a rule that is stuck can be replaced or taken away without losing a row of the others.
//!
//! A feed that a rule with `qos` 1 or 2 reads keeps a journal (`recorder`): what arrives is written down, acknowledged, and
//! then handed over. Such a rule subscribes by way of the journal (`resume`): from the place where it was, until it has
//! caught up with the feed.

mod recorder;
mod resume;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use futures::FutureExt;
use sluice_sql::{Batch, ColumnKind, Row, Schema, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::error::ConnectorError;
use crate::pipeline::backoff::Backoff;
use crate::pipeline::channel::{self, Load, Travels, TrySendError};
use crate::pipeline::decode::StreamDecoder;
use crate::pipeline::memory::shared_bytes;
use crate::pipeline::metrics::{DropReason, StreamMetrics};
use crate::pipeline::panic_message;
use crate::pipeline::receipt::Receipt;
use crate::source::{Ingest, Source, SourceContext};
use crate::state::OpenJournal;
use crate::state::journal::Journal;
use crate::time::Clock;

use recorder::Recorder;
use resume::Awaited;
pub use resume::{Resume, TimeAsk};

/// Rows that travel together at most.
const MAX_BATCH_ROWS: usize = 256;
/// A full journal is looked at again after this.
const FULL_PAUSE: Duration = Duration::from_millis(100);
/// How long a feed waits, before it reads its first row, for the feeds that start with it to connect.
const START_TOGETHER: Duration = Duration::from_secs(1);

/// What travels from a feed to a rule. A channel that closes without `End` or `Failed` means that the engine has taken the
/// rule off the feed.
#[derive(Clone, Debug)]
pub enum Signal {
    /// Rows, all with the feed's schema at that time.
    Rows {
        /// At least one row.
        batch: Arc<Batch>,
        /// When they came from the source.
        arrived: Instant,
        /// Where they stand in the feed's journal, if it keeps one.
        place: Option<Place>,
        /// For senders that wait until they are processed.
        receipt: Option<Receipt>,
    },
    /// In answer to a rule that asked: everything that arrived before this time has been sent.
    Time(Timestamp),
    /// The source is finite and has ended; nothing follows.
    End,
    /// The feed's task has failed; nothing follows.
    Failed(Arc<str>),
}

impl Travels for Signal {
    fn load(&self) -> Option<Load> {
        match self {
            Signal::Rows { batch, .. } => Some(Load { rows: batch.rows.len() as u64, bytes: shared_bytes(batch) }),
            Signal::Time(_) | Signal::End | Signal::Failed(_) => None,
        }
    }
}

/// Where a batch stands in a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// When it arrived, for the rule: the same in a replay.
    pub time: Timestamp,
    /// The record.
    pub offset: u64,
    /// The batch within the record.
    pub part: u32,
    /// It is the record's last batch.
    pub is_last: bool,
}

/// One subscription of a rule to a feed. Unique within the process.
pub type SubscriberId = u64;

struct Subscriber {
    id: SubscriberId,
    channel: channel::Sender<Signal>,
    /// The newest signal that it has got, by the hub's count.
    n_delivered: u64,
    /// The first record that it has not got.
    next: u64,
}

enum Command {
    Subscribe {
        schema: Arc<Schema>,
        subscriber: Subscriber,
        replaces: Option<SubscriberId>,
    },
    Unsubscribe(SubscriberId),
    /// A rule comes by way of the journal; rows are to have its columns too.
    Resume {
        schema: Arc<Schema>,
        id: SubscriberId,
        awaited: Weak<Awaited>,
    },
    /// Keep a journal from now on.
    Record(OpenJournal),
    /// A rule that has read the journal up to the subscriber's next record.
    Join {
        subscriber: Subscriber,
        left: CancellationToken,
        answer: oneshot::Sender<Subscriber>,
    },
    /// The rule wants to know how far time has come.
    Time(SubscriberId),
    Stop,
}

/// The engine's end of a feed.
pub struct FeedHandle {
    commands: mpsc::UnboundedSender<Command>,
    schema: Arc<Schema>,
    wants_meta: Arc<AtomicBool>,
    /// Makes decoders like the feed's own.
    make_decoder: MakeStreamDecoder,
    /// Set when the feed has come to its end by itself.
    outcome: Arc<OnceLock<Signal>>,
    /// Cancelled when the engine stops the feed.
    stopping: CancellationToken,
    /// Rules that come by way of the journal: cancelled when they leave.
    resuming: HashMap<SubscriberId, CancellationToken>,
    journal: Option<Arc<Journal>>,
    /// How many rules have not begun yet.
    n_beginning: Arc<watch::Sender<usize>>,
    /// What the feed counts.
    pub metrics: Arc<StreamMetrics>,
    /// Its source is finite: see [`Source::is_finite`].
    pub is_finite: bool,
}

/// A rule that has not begun yet, its first checkpoint not being written. Until it has, nothing more is acknowledged that it
/// is to read: after a crash it would begin behind that.
pub(super) struct Beginning(Arc<watch::Sender<usize>>);

impl Beginning {
    fn new(n_beginning: &Arc<watch::Sender<usize>>) -> Self {
        n_beginning.send_modify(|n| *n += 1);
        Beginning(Arc::clone(n_beginning))
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

/// Makes a decoder of a stream whose rows have the given slots.
pub type MakeStreamDecoder = Arc<dyn Fn(Arc<Schema>) -> Option<StreamDecoder> + Send + Sync>;

impl FeedHandle {
    /// Sends the feed's rows to `channel` from now on; with `replaces`, from where that subscriber is taken off, without a gap.
    /// Gives the place, in the feed's rows, of each slot of `schema`. A feed that has ended sends its end.
    pub fn subscribe(
        &mut self,
        id: SubscriberId,
        schema: &Schema,
        channel: channel::Sender<Signal>,
        replaces: Option<SubscriberId>,
    ) -> Vec<usize> {
        let slots = self.grow(schema);
        let subscriber = Subscriber { id, channel, n_delivered: 0, next: 0 };
        let command = Command::Subscribe { schema: Arc::clone(&self.schema), subscriber, replaces };
        if let Err(mpsc::error::SendError(Command::Subscribe { subscriber, .. })) = self.commands.send(command) {
            // The channel is new, and has room.
            let _ = subscriber.channel.try_send(Signal::End);
        }
        slots
    }

    /// Makes the feed's rows hold the columns of `schema` too, and gives their places.
    fn grow(&mut self, schema: &Schema) -> Vec<usize> {
        let (union, slots) = append_columns(&self.schema, schema);
        if union.columns.iter().any(|column| column.kind == ColumnKind::Meta) {
            self.wants_meta.store(true, Ordering::Relaxed);
        }
        self.schema = union;
        slots
    }

    /// The feed's journal; it keeps one from now on, if it did not.
    pub fn record(&mut self, open: &OpenJournal) -> Arc<Journal> {
        if self.journal.is_none() {
            // A feed that has ended has its journal, or needs none.
            let _ = self.commands.send(Command::Record(open.clone()));
            self.journal = Some(Arc::clone(&open.journal));
        }
        Arc::clone(&open.journal)
    }

    /// Prepares a subscription that begins in the journal, once the rule knows where; what arrives waits for that if the rule
    /// `is_new`. Gives the place, in the feed's rows, of each slot of `schema`.
    pub fn resume(
        &mut self,
        id: SubscriberId,
        schema: &Schema,
        channel: channel::Sender<Signal>,
        journal: &Arc<Journal>,
        is_new: bool,
        tracker: &TaskTracker,
    ) -> (Vec<usize>, Resume) {
        let slots = self.grow(schema);
        let awaited = Arc::new(Awaited::default());
        let schema = Arc::clone(&self.schema);
        let _ = self.commands.send(Command::Resume { schema, id, awaited: Arc::downgrade(&awaited) });
        let left = self.stopping.child_token();
        self.resuming.insert(id, left.clone());
        let resume = Resume {
            id,
            channel,
            journal: Arc::clone(journal),
            schema: Arc::clone(&self.schema),
            make_decoder: Arc::clone(&self.make_decoder),
            commands: self.commands.clone(),
            outcome: Arc::clone(&self.outcome),
            metrics: Arc::clone(&self.metrics),
            left,
            tracker: tracker.clone(),
            awaited,
            beginning: is_new.then(|| Beginning::new(&self.n_beginning)),
        };
        (slots, resume)
    }

    /// Takes a subscriber off: its channel closes behind the rows that it has got. Not for the last one: see
    /// [`stop`](Self::stop).
    pub fn unsubscribe(&mut self, id: SubscriberId) {
        if let Some(left) = self.resuming.remove(&id) {
            left.cancel();
        }
        // A feed that has ended has no subscribers left.
        let _ = self.commands.send(Command::Unsubscribe(id));
    }

    /// Ends the feed: what it has read is still handed over, then all channels close.
    pub fn stop(&self) {
        self.stopping.cancel();
        let _ = self.commands.send(Command::Stop);
    }

    /// True if the engine has stopped the feed.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// True if the feed's task is over.
    pub fn is_over(&self) -> bool {
        self.commands.is_closed()
    }
}

/// The union of both schemas, which begins with `union` as it is, and the place of each column of `wanted` in it.
fn append_columns(union: &Arc<Schema>, wanted: &Schema) -> (Arc<Schema>, Vec<usize>) {
    let mut grown = Schema::clone(union);
    let slots = wanted
        .columns
        .iter()
        .map(|column| {
            let same = |known: &sluice_sql::Column| known.kind == column.kind && known.name == column.name;
            grown.columns.iter().position(same).unwrap_or_else(|| {
                grown.columns.push(column.clone());
                grown.columns.len() - 1
            })
        })
        .collect();
    let union = if grown.columns.len() == union.columns.len() { Arc::clone(union) } else { Arc::new(grown) };
    (union, slots)
}

/// The running end of a feed.
pub struct Feed {
    source: Box<dyn Source>,
    context: SourceContext,
    hub: Hub,
    outcome: Arc<OnceLock<Signal>>,
}

impl Feed {
    /// A feed that is not running yet. `schema` is what `decoder` was made with, `cut_short` is cancelled when the grace period
    /// of a stop is over.
    pub fn new(
        source: Box<dyn Source>,
        decoder: StreamDecoder,
        make_decoder: MakeStreamDecoder,
        schema: Arc<Schema>,
        context: SourceContext,
        metrics: Arc<StreamMetrics>,
        cut_short: CancellationToken,
    ) -> (Feed, FeedHandle) {
        let (command_tx, command_rx) = mpsc::unbounded_channel();
        let outcome = Arc::new(OnceLock::new());
        let n_beginning = Arc::new(watch::Sender::new(0));
        let handle = FeedHandle {
            commands: command_tx,
            schema,
            wants_meta: Arc::clone(&context.wants_meta),
            make_decoder,
            outcome: Arc::clone(&outcome),
            stopping: CancellationToken::new(),
            resuming: HashMap::new(),
            journal: None,
            n_beginning: Arc::clone(&n_beginning),
            metrics: Arc::clone(&metrics),
            is_finite: source.is_finite(),
        };
        let hub = Hub {
            n_beginning: n_beginning.subscribe(),
            clock: Arc::clone(&context.connector.clock),
            commands: command_rx,
            subscribers: Vec::new(),
            resuming: Vec::new(),
            decoder,
            metrics,
            cut_short,
            n_delivered: 0,
            is_stopping: false,
            recorder: None,
            to_record: None,
            next: 0,
            time_wanted: Vec::new(),
            is_delivering: false,
        };
        (Feed { source, context, hub, outcome }, handle)
    }

    /// Runs until the source has ended or the engine says so. `start` stands for the feeds that start together: none reads its
    /// first row before all have tried to connect, so that what one rule publishes within the process finds its readers.
    pub async fn run(mut self, start: StartTogether) {
        let work = AssertUnwindSafe(self.work(start)).catch_unwind().await;
        match work {
            Ok(Some(signal)) => {
                let _ = self.outcome.set(signal.clone());
                self.hub.deliver(signal).await;
                self.hub.refuse_late();
                self.source.close().await;
            }
            Ok(None) => {
                while let Some(ingest) = self.source.drain() {
                    if self.hub.take(ingest, &mut *self.source, &self.context).await.is_none() {
                        break;
                    }
                }
                self.source.close().await;
            }
            Err(panic) => {
                let message = format!("stream {}: {}", self.hub.metrics.stream, panic_message(panic.as_ref()));
                self.hub.metrics.errors.report(&message);
                let signal = Signal::Failed(message.into());
                let _ = self.outcome.set(signal.clone());
                self.hub.deliver(signal).await;
            }
        }
    }

    /// Gives the last signal, `None` when the engine has stopped the feed.
    async fn work(&mut self, start: StartTogether) -> Option<Signal> {
        let Feed { source, context, hub, .. } = self;
        hub.obey_all();
        if let Some(open) = hub.to_record.take() {
            hub.record(open).await?;
            if let Some(position) = hub.recorder.as_ref().and_then(Recorder::position) {
                source.resume(position);
            }
        }
        let mut start = Some(start);
        let mut backoff = Backoff::default();
        loop {
            let connected = hub.obeying(source.connect(context)).await?;
            let health = &context.connector.health;
            match &connected {
                Ok(()) if !health.state().reports_itself => health.up(),
                Ok(()) => {}
                Err(error) => health.down(&error.message),
            }
            if let Some(start) = start.take() {
                hub.obeying(start.others()).await?;
            }
            let error = match connected {
                Err(error) => error,
                Ok(()) => loop {
                    hub.room().await?;
                    match hub.obeying(source.next()).await? {
                        Ok(Some(ingest)) => {
                            backoff.reset();
                            hub.take(ingest, &mut **source, context).await?;
                        }
                        Ok(None) => return Some(Signal::End),
                        Err(error) => {
                            context.connector.health.down(&error.message);
                            break error;
                        }
                    }
                },
            };
            let pause = hub.note_failure(&error, &mut backoff);
            hub.obeying(tokio::time::sleep(pause)).await?;
        }
    }
}

/// What travels together, at most `MAX_BATCH_ROWS` rows each, with its number and whether it is the last. The same for the
/// same rows: a replay counts alike.
fn parts(batch: Batch) -> impl Iterator<Item = (Batch, u32, bool)> {
    let (whole, large) = if batch.rows.len() <= MAX_BATCH_ROWS { (Some(batch), None) } else { (None, Some(batch)) };
    let (schema, rows) = large.map_or_else(Default::default, |batch| (batch.schema, batch.rows));
    let mut rows = rows.into_iter();
    let mut part = 0;
    let pieces = std::iter::from_fn(move || {
        let some_rows: Vec<Row> = rows.by_ref().take(MAX_BATCH_ROWS).collect();
        part += 1;
        let piece = Batch::per_row(Arc::clone(&schema), some_rows);
        (!piece.rows.is_empty()).then(|| (piece, part - 1, rows.len() == 0))
    });
    whole.filter(|batch| !batch.rows.is_empty()).map(|batch| (batch, 0, true)).into_iter().chain(pieces)
}

/// One of several feeds that wait for each other before they read.
pub struct StartTogether {
    token: TaskTrackerToken,
    all: TaskTracker,
}

impl StartTogether {
    /// One for each of the feeds that `all` stands for; to be made for all of them before the first one runs.
    pub fn new(all: &TaskTracker) -> Self {
        all.close();
        StartTogether { token: all.token(), all: all.clone() }
    }

    /// This one has tried to connect; completes when the others have too, or take too long.
    async fn others(self) {
        drop(self.token);
        // Whoever takes longer connects while others read.
        let _ = tokio::time::timeout(START_TOGETHER, self.all.wait()).await;
    }
}

/// What a feed has besides its source: so that commands are obeyed while the source is waited for.
struct Hub {
    commands: mpsc::UnboundedReceiver<Command>,
    subscribers: Vec<Subscriber>,
    /// Rules that still read the journal.
    resuming: Vec<(SubscriberId, Weak<Awaited>)>,
    decoder: StreamDecoder,
    metrics: Arc<StreamMetrics>,
    cut_short: CancellationToken,
    n_delivered: u64,
    is_stopping: bool,
    clock: Arc<dyn Clock>,
    /// Writes down what arrives.
    recorder: Option<Recorder>,
    /// A journal to be kept from the next step on.
    to_record: Option<OpenJournal>,
    /// How many rules have not begun yet.
    n_beginning: watch::Receiver<usize>,
    /// The record that is delivered next.
    next: u64,
    /// Rules that want to know how far time has come.
    time_wanted: Vec<SubscriberId>,
    is_delivering: bool,
}

impl Hub {
    /// Waits for `work` and obeys commands meanwhile; `None` if the feed is to stop, and then `work` is dropped.
    async fn obeying<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            if self.is_stopping {
                return None;
            }
            let sync_due = self.recorder.as_ref().and_then(Recorder::sync_due);
            tokio::select! {
                biased;
                command = self.commands.recv() => {
                    self.obey(command);
                    self.tell_time();
                }
                result = &mut work => return Some(result),
                () = tokio::time::sleep(sync_due.unwrap_or_default()), if sync_due.is_some() => {
                    if let Some(recorder) = &mut self.recorder {
                        recorder.sync(&self.metrics).await;
                    }
                }
            }
        }
    }

    /// Obeys what has been asked so far.
    fn obey_all(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.obey(Some(command));
        }
    }

    fn obey(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Subscribe { schema, mut subscriber, replaces }) => {
                self.decoder.set_schema(schema);
                let replaced = self.subscribers.iter_mut().find(|old| Some(old.id) == replaces);
                match replaced {
                    Some(old) => {
                        subscriber.n_delivered = old.n_delivered;
                        *old = subscriber;
                    }
                    None => {
                        subscriber.n_delivered = self.n_delivered;
                        self.subscribers.push(subscriber);
                    }
                }
            }
            Some(Command::Resume { schema, id, awaited }) => {
                self.decoder.set_schema(schema);
                self.resuming.push((id, awaited));
            }
            Some(Command::Record(open)) => self.to_record = Some(open),
            Some(Command::Join { subscriber, left, answer }) => self.join(subscriber, &left, answer),
            Some(Command::Time(id)) => self.time_wanted.push(id),
            Some(Command::Unsubscribe(id)) => {
                self.subscribers.retain(|subscriber| subscriber.id != id);
                self.resuming.retain(|(resuming, _)| *resuming != id);
            }
            // Without an engine nobody could stop the feed later.
            Some(Command::Stop) | None => self.is_stopping = true,
        }
    }

    /// Writes down if need be, acknowledges, decodes and hands over; `None` if the feed stopped before it was written down, or
    /// the grace period ended.
    async fn take(&mut self, mut ingest: Ingest, source: &mut dyn Source, context: &SourceContext) -> Option<()> {
        let arrived = Instant::now();
        let ack = ingest.ack;
        if let Some(open) = self.to_record.take() {
            self.record(open).await?;
        }
        if self.recorder.is_some() {
            let mut n_beginning = self.n_beginning.clone();
            // It fails when the engine has let go of the feed, and then nobody begins any more.
            self.obeying(async move { n_beginning.wait_for(|n| *n == 0).await.is_ok() }).await?;
        }
        let receipt = Receipt::of(&ingest.items);
        let recorded = match self.recorder.take() {
            None => None,
            Some(mut recorder) => {
                // Before it is written: a rule may read it at once.
                let record = recorder.journal().end();
                self.await_resuming(|awaited| receipt.iter().for_each(|receipt| awaited.add(record, receipt)));
                let recorded = recorder.take(&mut ingest, source, self, context).await;
                self.recorder = Some(recorder);
                let recorded = recorded?;
                if recorded.is_none() {
                    self.await_resuming(|awaited| awaited.take_back(record));
                }
                recorded
            }
        };
        let now = recorded.map_or_else(|| context.connector.clock.now(), |(time, _)| time);
        let batch = self.decoder.decode(ingest, now, &self.metrics);
        let n_rows = batch.rows.len() as u64;
        // Senders that wait have heard by now how their messages were read.
        if let (Some(_), Some(ack)) = (recorded, ack) {
            source.ack(ack);
            self.metrics.ack_time.observe(arrived.elapsed(), 1);
        }
        if let Some((_, offset)) = recorded {
            self.next = offset + 1;
        }
        self.is_delivering = true;
        let delivered = self.deliver_all(batch, arrived, recorded, receipt).await;
        self.is_delivering = false;
        self.tell_time();
        delivered?;
        match (recorded, ack) {
            (Some(_), _) => {}
            // The rules have failed or left just now: whoever sent it must not take it for done.
            (None, _) if self.subscribers.is_empty() => self.metrics.dropped.add(DropReason::Shutdown, n_rows),
            (None, Some(ack)) => source.ack(ack),
            (None, None) => {}
        }
        Some(())
    }

    /// Tells those that will read from the journal what their senders wait for.
    fn await_resuming(&mut self, tell: impl Fn(&Awaited)) {
        self.resuming.retain(|(_, awaited)| awaited.upgrade().inspect(|awaited| tell(awaited)).is_some());
    }

    async fn deliver_all(
        &mut self,
        batch: Batch,
        arrived: Instant,
        recorded: Option<(Timestamp, u64)>,
        receipt: Option<Receipt>,
    ) -> Option<()> {
        let mut parts = parts(batch);
        while let Some((batch, part, is_last)) = parts.next() {
            let n_rows = batch.rows.len() as u64;
            let place = recorded.map(|(time, offset)| Place { time, offset, part, is_last });
            let receipt = receipt.clone();
            let delivered = self.deliver(Signal::Rows { batch: Arc::new(batch), arrived, place, receipt }).await;
            if delivered.is_none() {
                // What is in a journal is processed after the next start.
                if recorded.is_none() {
                    let n_more: u64 = parts.map(|(batch, ..)| batch.rows.len() as u64).sum();
                    self.metrics.dropped.add(DropReason::Shutdown, n_rows + n_more);
                }
                return None;
            }
        }
        Some(())
    }

    /// Keeps a journal from now on; waits until whoever wrote it before has let go.
    async fn record(&mut self, open: OpenJournal) -> Option<()> {
        let writer = self.obeying(open.writer.lock_owned()).await?;
        // The clock may have been set back since then, also before this start.
        self.clock.not_before(writer.stamp(Timestamp::MIN));
        let recorder = Recorder::new(writer);
        self.next = recorder.journal().end();
        self.recorder = Some(recorder);
        Some(())
    }

    /// Waits while the journal is full.
    async fn room(&mut self) -> Option<()> {
        let mut is_reported = false;
        while let Some(recorder) = self.recorder.as_ref().filter(|recorder| recorder.journal().is_full()) {
            recorder.journal().make_room();
            if !std::mem::replace(&mut is_reported, true) {
                self.metrics.errors.report("the journal is full: waiting for rules to come on");
            }
            self.obeying(tokio::time::sleep(FULL_PAUSE)).await?;
        }
        Some(())
    }

    /// A rule has read the journal up to its next record. If the feed is further, it must read on.
    fn join(&mut self, subscriber: Subscriber, left: &CancellationToken, answer: oneshot::Sender<Subscriber>) {
        if left.is_cancelled() {
            return;
        }
        if subscriber.next >= self.next && self.to_record.is_none() && (self.recorder.is_some() || self.is_delivering) {
            self.add(subscriber);
        } else {
            // If it has left, it needs no answer.
            let _ = answer.send(subscriber);
        }
    }

    fn add(&mut self, mut subscriber: Subscriber) {
        self.resuming.retain(|(resuming, _)| *resuming != subscriber.id);
        subscriber.n_delivered = self.n_delivered;
        self.time_wanted.push(subscriber.id);
        self.subscribers.push(subscriber);
    }

    /// Tells rules that asked how far time has come. Only between two records: nothing older may follow.
    fn tell_time(&mut self) {
        if self.is_delivering || self.time_wanted.is_empty() {
            return;
        }
        let wanted = std::mem::take(&mut self.time_wanted);
        let Some(recorder) = &mut self.recorder else { return };
        let time = recorder.time(self.clock.now());
        for id in wanted {
            if let Some(subscriber) = self.subscribers.iter().find(|subscriber| subscriber.id == id) {
                // A rule whose channel is full has rows to look at first; it asks again.
                let _ = subscriber.channel.try_send(Signal::Time(time));
            }
        }
    }

    /// Puts the signal in every subscriber's channel, waits for room where there is none, and obeys commands while it waits.
    /// A stop is obeyed afterwards; `None` if the grace period ended before that.
    async fn deliver(&mut self, signal: Signal) -> Option<()> {
        self.n_delivered += 1;
        loop {
            let n_delivered = self.n_delivered;
            let behind = self.subscribers.iter_mut().find(|subscriber| subscriber.n_delivered < n_delivered);
            let Some(subscriber) = behind else { return Some(()) };
            let id = subscriber.id;
            if let Signal::Rows { place: Some(place), .. } = &signal
                && place.offset < subscriber.next
            {
                // It has come by way of the journal, and has had it.
                subscriber.n_delivered = n_delivered;
                continue;
            }
            match subscriber.channel.try_send(signal.clone()) {
                Ok(()) => {
                    subscriber.n_delivered = n_delivered;
                    if let Signal::Rows { receipt: Some(receipt), .. } = &signal {
                        receipt.given();
                    }
                }
                Err(TrySendError::Closed(_)) => self.subscribers.retain(|subscriber| subscriber.id != id),
                Err(TrySendError::Full(_)) => {
                    let channel = subscriber.channel.clone();
                    let started = Instant::now();
                    let is_open = tokio::select! {
                        biased;
                        () = self.cut_short.cancelled() => false,
                        command = self.commands.recv(), if !self.is_stopping => { self.obey(command); true }
                        // Room, or a closed channel: both are seen to by the next round.
                        () = channel.room() => true,
                    };
                    self.metrics.blocked_us.add(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
                    if !is_open {
                        return None;
                    }
                }
            }
        }
    }

    /// The source has ended: whoever subscribed in the last moment gets no rows, but must not wait for them.
    fn refuse_late(&mut self) {
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Subscribe { subscriber, .. } = command {
                // The channel is new, and has room.
                let _ = subscriber.channel.try_send(Signal::End);
            }
        }
    }

    fn note_failure(&mut self, error: &ConnectorError, backoff: &mut Backoff) -> Duration {
        let pause = backoff.pause(error.retry);
        self.metrics.errors.report(format_args!("{error}; trying again in {:.1} s", pause.as_secs_f64()));
        pause
    }
}
