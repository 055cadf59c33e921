//! The task of one source instance: reads, decodes once, hands the rows to every rule that subscribed.
//!
//! A shared stream has one feed, any other has one per rule. A feed waits for the slowest of its rules; while it waits it
//! still obeys the engine, so a rule that is stuck can be replaced or taken away without losing a row of the others.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use sluice_sql::{Batch, ColumnKind, Row, Schema};
use tokio::sync::mpsc;
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
use crate::source::{Ingest, Source, SourceContext};

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
    },
    /// The source is finite and has ended; nothing follows.
    End,
    /// The feed's task has failed; nothing follows.
    Failed(Arc<str>),
}

impl Travels for Signal {
    fn load(&self) -> Option<Load> {
        match self {
            Signal::Rows { batch, .. } => Some(Load { rows: batch.rows.len() as u64, bytes: shared_bytes(batch) }),
            Signal::End | Signal::Failed(_) => None,
        }
    }
}

/// One subscription of a rule to a feed. Unique within the process.
pub type SubscriberId = u64;

struct Subscriber {
    id: SubscriberId,
    channel: channel::Sender<Signal>,
    /// The newest signal that it has got, by the hub's count.
    n_delivered: u64,
}

enum Command {
    Subscribe { schema: Arc<Schema>, subscriber: Subscriber, replaces: Option<SubscriberId> },
    Unsubscribe(SubscriberId),
    Stop,
}

/// The engine's end of a feed.
pub struct FeedHandle {
    commands: mpsc::UnboundedSender<Command>,
    schema: Arc<Schema>,
    wants_meta: Arc<AtomicBool>,
    /// What the feed counts.
    pub metrics: Arc<StreamMetrics>,
}

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
        let (union, slots) = append_columns(&self.schema, schema);
        let subscriber = Subscriber { id, channel, n_delivered: 0 };
        let command = Command::Subscribe { schema: Arc::clone(&union), subscriber, replaces };
        if let Err(mpsc::error::SendError(Command::Subscribe { subscriber, .. })) = self.commands.send(command) {
            // The channel is new, and has room.
            let _ = subscriber.channel.try_send(Signal::End);
        }
        if union.columns.iter().any(|column| column.kind == ColumnKind::Meta) {
            self.wants_meta.store(true, Ordering::Relaxed);
        }
        self.schema = union;
        slots
    }

    /// Takes a subscriber off: its channel closes behind the rows that it has got.
    pub fn unsubscribe(&self, id: SubscriberId) {
        // A feed that has ended has no subscribers left.
        let _ = self.commands.send(Command::Unsubscribe(id));
    }

    /// Ends the feed: what it has read is still handed over, then all channels close.
    pub fn stop(&self) {
        let _ = self.commands.send(Command::Stop);
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
}

impl Feed {
    /// A feed that is not running yet. `schema` is what `decoder` was made with, `cut_short` is cancelled when the grace period
    /// of a stop is over.
    pub fn new(
        source: Box<dyn Source>,
        decoder: StreamDecoder,
        schema: Arc<Schema>,
        context: SourceContext,
        metrics: Arc<StreamMetrics>,
        cut_short: CancellationToken,
    ) -> (Feed, FeedHandle) {
        let (command_tx, command_rx) = mpsc::unbounded_channel();
        let handle = FeedHandle {
            commands: command_tx,
            schema,
            wants_meta: Arc::clone(&context.wants_meta),
            metrics: Arc::clone(&metrics),
        };
        let hub = Hub {
            commands: command_rx,
            subscribers: Vec::new(),
            decoder,
            metrics,
            cut_short,
            n_delivered: 0,
            is_stopping: false,
        };
        (Feed { source, context, hub }, handle)
    }

    /// Runs until the source has ended or the engine says so. `start` stands for the feeds that start together: none reads its
    /// first row before all have tried to connect, so that what one rule publishes within the process finds its readers.
    pub async fn run(mut self, start: StartTogether) {
        let work = AssertUnwindSafe(self.work(start)).catch_unwind().await;
        match work {
            Ok(Some(signal)) => {
                self.hub.deliver(signal).await;
                self.hub.refuse_late();
                self.source.close().await;
            }
            Ok(None) => self.source.close().await,
            Err(panic) => {
                let message = format!("stream {}: {}", self.hub.metrics.stream, panic_message(panic.as_ref()));
                self.hub.metrics.errors.report(&message);
                self.hub.deliver(Signal::Failed(message.into())).await;
            }
        }
    }

    /// Gives the last signal, `None` when the engine has stopped the feed.
    async fn work(&mut self, start: StartTogether) -> Option<Signal> {
        let Feed { source, context, hub } = self;
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
                    match hub.obeying(source.next()).await? {
                        Ok(Some(ingest)) => {
                            backoff.reset();
                            let ack = ingest.ack;
                            hub.take(ingest, context).await?;
                            if let Some(ack) = ack {
                                source.ack(ack);
                            }
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
    decoder: StreamDecoder,
    metrics: Arc<StreamMetrics>,
    cut_short: CancellationToken,
    n_delivered: u64,
    is_stopping: bool,
}

impl Hub {
    /// Waits for `work` and obeys commands meanwhile; `None` if the feed is to stop, and then `work` is dropped.
    async fn obeying<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            if self.is_stopping {
                return None;
            }
            tokio::select! {
                biased;
                command = self.commands.recv() => self.obey(command),
                result = &mut work => return Some(result),
            }
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
            Some(Command::Unsubscribe(id)) => self.subscribers.retain(|subscriber| subscriber.id != id),
            // Without an engine nobody could stop the feed later.
            Some(Command::Stop) | None => self.is_stopping = true,
        }
    }

    /// Decodes and hands over; `None` if the grace period ended meanwhile.
    async fn take(&mut self, ingest: Ingest, context: &SourceContext) -> Option<()> {
        let arrived = Instant::now();
        let now = context.connector.clock.now();
        let Batch { schema, rows, .. } = self.decoder.decode(ingest, now, &self.metrics);
        if rows.len() <= MAX_BATCH_ROWS {
            return self.deliver_rows(schema, rows, arrived).await;
        }
        let mut rows = rows.into_iter();
        while rows.len() > 0 {
            let some_rows = rows.by_ref().take(MAX_BATCH_ROWS).collect();
            if self.deliver_rows(Arc::clone(&schema), some_rows, arrived).await.is_none() {
                self.metrics.dropped.add(DropReason::Shutdown, rows.len() as u64);
                return None;
            }
        }
        Some(())
    }

    async fn deliver_rows(&mut self, schema: Arc<Schema>, rows: Vec<Row>, arrived: Instant) -> Option<()> {
        if rows.is_empty() {
            return Some(());
        }
        let n_rows = rows.len() as u64;
        let batch = Arc::new(Batch::per_row(schema, rows));
        let delivered = self.deliver(Signal::Rows { batch, arrived }).await;
        if delivered.is_none() {
            self.metrics.dropped.add(DropReason::Shutdown, n_rows);
        }
        delivered
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
            match subscriber.channel.try_send(signal.clone()) {
                Ok(()) => subscriber.n_delivered = n_delivered,
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
