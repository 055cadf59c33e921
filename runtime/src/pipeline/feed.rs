//! The task of one source instance: reads, decodes once, hands the rows to every rule that subscribed.
//!
//! A shared stream has one feed, any other has one per rule. A feed waits for the slowest of its rules; while it waits it
//! still obeys the engine, so a rule that is stuck can be replaced or taken away without losing a row of the others.
//!
//! A feed that a rule with `qos` 1 or 2 reads keeps a journal (`recorder`): what arrives is written down, acknowledged, and
//! then handed over. Such a rule subscribes by way of the journal (`resume`): from the place where it was, until it has
//! caught up with the feed.

mod hub;
mod recorder;
mod resume;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use futures::FutureExt;
use sluice_sql::{Batch, ColumnKind, Row, Schema, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::pipeline::backoff::Backoff;
use crate::pipeline::channel::{self, Load, Travels};
use crate::pipeline::decode::StreamDecoder;
use crate::pipeline::memory::shared_bytes;
use crate::pipeline::metrics::StreamMetrics;
use crate::pipeline::panic_message;
use crate::pipeline::receipt::Receipt;
use crate::source::{Source, SourceContext};
use crate::state::OpenJournal;
use crate::state::journal::Journal;

use hub::Hub;
use recorder::Recorder;
use resume::Awaited;
pub use resume::{Resume, TimeAsk};

/// Rows that travel together at most.
const MAX_BATCH_ROWS: usize = 256;
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
