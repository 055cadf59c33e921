//! How a rule that keeps state comes to a feed: through the journal, from the place where it was, until it has caught up.
//!
//! A task per rule reads and decodes, so the feed and its other rules do not wait. A rule that can't keep up stays behind in
//! the journal, and holds nobody back until the journal is full.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use sluice_sql::Schema;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Beginning, Command, MakeStreamDecoder, Place, Signal, Subscriber, SubscriberId, parts};
use crate::pipeline::channel::Sender;
use crate::pipeline::metrics::{DropReason, StreamMetrics};
use crate::pipeline::receipt::Receipt;
use crate::source::Ingest;
use crate::state::StateError;
use crate::state::journal::{Journal, Reader, Record};

/// Pause before an unreadable journal is read again, or a feed that is not there yet is asked again.
const PAUSE: Duration = Duration::from_millis(20);
/// Records with senders that wait until a rule has read them and is done, at most.
const MAX_AWAITED: usize = 4096;

/// A subscription that begins in the journal. Nothing comes before [`Resume::start`].
pub struct Resume {
    pub(super) id: SubscriberId,
    pub(super) channel: Sender<Signal>,
    pub(super) journal: Arc<Journal>,
    pub(super) schema: Arc<Schema>,
    pub(super) make_decoder: MakeStreamDecoder,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) outcome: Arc<OnceLock<Signal>>,
    pub(super) metrics: Arc<StreamMetrics>,
    pub(super) left: CancellationToken,
    pub(super) tracker: TaskTracker,
    pub(super) awaited: Arc<Awaited>,
    /// Until the rule has begun.
    pub(super) beginning: Option<Beginning>,
}

/// Records that a rule reads from the journal and whose senders wait until it is done with them. Those that are let go of
/// without a word hear that nothing is known.
#[derive(Debug, Default)]
pub struct Awaited(Mutex<VecDeque<(u64, Receipt)>>);

impl Awaited {
    /// This record is about to be written; the rule reads it later. Of too many the oldest is let go of.
    pub(super) fn add(&self, record: u64, receipt: &Receipt) {
        receipt.given();
        let mut receipts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        receipts.push_back((record, receipt.clone()));
        if receipts.len() > MAX_AWAITED {
            receipts.pop_front();
        }
    }

    /// This record was not written after all.
    pub(super) fn take_back(&self, record: u64) {
        let mut receipts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, receipt)) = receipts.pop_back_if(|(last, _)| *last == record) {
            receipt.done();
        }
    }

    /// This record has been read, and those before it never will be.
    fn take(&self, record: u64) -> Option<Receipt> {
        let mut receipts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while receipts.pop_front_if(|(first, _)| *first < record).is_some() {}
        receipts.pop_front_if(|(first, _)| *first == record).map(|(_, receipt)| receipt)
    }
}

/// Asks a feed how far time has come.
pub struct TimeAsk {
    id: SubscriberId,
    commands: mpsc::UnboundedSender<Command>,
}

impl TimeAsk {
    /// The answer is a [`Signal::Time`], unless there are rows to come first.
    pub fn ask(&self) {
        // A feed that has ended has said so.
        let _ = self.commands.send(Command::Time(self.id));
    }
}

impl Resume {
    /// Whom to ask for the time.
    pub fn time_ask(&self) -> TimeAsk {
        TimeAsk { id: self.id, commands: self.commands.clone() }
    }

    /// Sends everything from record `offset` on, but for its first `n_parts` batches.
    pub fn start(mut self, offset: u64, n_parts: u32) {
        self.beginning = None;
        let tracker = self.tracker.clone();
        tracker.spawn(async move {
            let left = self.left.clone();
            tokio::select! {
                biased;
                () = left.cancelled() => {}
                () = self.catch_up(offset, n_parts) => {}
            }
        });
    }

    async fn catch_up(self, offset: u64, n_parts: u32) {
        let Some(mut decoder) = (self.make_decoder)(Arc::clone(&self.schema)) else { return };
        let mut reader = Reader::new(Arc::clone(&self.journal), offset);
        loop {
            let read = match read(reader).await {
                (back, Ok(read)) => {
                    reader = back;
                    read
                }
                (back, Err(error)) => {
                    reader = back;
                    self.metrics.errors.report(format_args!("can't read the journal: {error}"));
                    tokio::time::sleep(PAUSE * 50).await;
                    continue;
                }
            };
            if read.n_missing > 0 {
                self.metrics.dropped.add(DropReason::Journal, read.n_missing);
                let n_missing = read.n_missing;
                self.metrics.errors.report(format_args!("{n_missing} records of the journal are gone or damaged"));
            }
            if read.records.is_empty() {
                if self.join(reader.next()).await {
                    return;
                }
                continue;
            }
            for Record { offset: record, arrived: time, items, .. } in read.records {
                let awaited = self.awaited.take(record);
                let batch = decoder.decode_again(Ingest { items, ack: None }, time);
                for (batch, part, is_last) in parts(batch) {
                    if record == offset && part < n_parts {
                        continue;
                    }
                    let place = Some(Place { time, offset: record, part, is_last });
                    let receipt = awaited.clone().inspect(Receipt::given);
                    let signal = Signal::Rows { batch: Arc::new(batch), arrived: Instant::now(), place, receipt };
                    if self.channel.send(signal).await.is_err() {
                        return;
                    }
                }
                awaited.inspect(Receipt::done);
            }
        }
    }

    /// Has the feed take over; true if it has, or if there is no more.
    async fn join(&self, next: u64) -> bool {
        let subscriber = Subscriber { id: self.id, channel: self.channel.clone(), n_delivered: 0, next };
        let (answer, refused) = oneshot::channel();
        let join = Command::Join { subscriber, left: self.left.clone(), answer };
        if self.commands.send(join).is_ok() {
            // Taking over answers nothing.
            if refused.await.is_ok() {
                if self.journal.end() == next {
                    tokio::time::sleep(PAUSE).await;
                }
                return false;
            }
            if !self.commands.is_closed() {
                return true;
            }
        }
        // The feed is over. It may have taken this one in its last moment; then it has sent its end too.
        if self.journal.end() > next {
            return false;
        }
        if let Some(signal) = self.outcome.get() {
            let _ = self.channel.send(signal.clone()).await;
        }
        true
    }
}

/// Reads beside the runtime.
async fn read(mut reader: Reader) -> (Reader, Result<crate::state::journal::Read, StateError>) {
    let journal = Arc::clone(reader.journal());
    let next = reader.next();
    let work = tokio::task::spawn_blocking(move || {
        let read = reader.read();
        (reader, read)
    });
    match work.await {
        Ok(done) => done,
        Err(_) => (Reader::new(journal, next), Ok(Default::default())),
    }
}
