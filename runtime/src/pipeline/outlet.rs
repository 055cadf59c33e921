//! What leaves a rule: results and barriers to its sinks, and its live output.

use std::sync::{Arc, OnceLock};

use sluice_sql::Batch;
use tokio::sync::{broadcast, oneshot};
use tokio_util::sync::CancellationToken;

use crate::pipeline::channel::{Load, Travels};
use crate::pipeline::memory::shared_bytes;
use crate::pipeline::metrics::Counter;
use crate::pipeline::receipt::Receipt;
use crate::pipeline::sink::Item;
use crate::state::Cause;

/// Results that a reader of a rule's output may be behind before it misses some.
const TAIL_BATCHES: usize = 64;

/// A rule's live output, for whoever wants to look on. Costs nothing while nobody does.
#[derive(Debug, Default)]
pub struct Tail {
    results: OnceLock<broadcast::Sender<Arc<Batch>>>,
    closed: CancellationToken,
    /// Results that readers missed because they were too slow.
    pub missed: Counter,
}

impl Tail {
    /// The results from now on. A reader that is too slow misses the oldest and is told how many.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Batch>> {
        self.results.get_or_init(|| broadcast::Sender::new(TAIL_BATCHES)).subscribe()
    }

    /// No more results will come.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// Completes when no more results will come.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    pub(super) fn send(&self, batch: &Arc<Batch>) {
        if let Some(results) = self.results.get()
            && results.receiver_count() > 0
        {
            // It fails when the last reader has just gone.
            let _ = results.send(Arc::clone(batch));
        }
    }
}

/// What travels from a rule to one of its sinks. The channel closes behind the last result.
#[derive(Debug)]
pub enum ToSink {
    /// Results, in order.
    Results {
        /// Not empty.
        batch: Arc<Batch>,
        /// What caused them, for rules that keep state (`qos` 1 and 2); grows from one to the next.
        cause: Option<Cause>,
    },
    /// What another sink has shaped and could not write: see the option `alternate`.
    Shaped(Vec<Item>),
    /// Never overtakes results, never dropped to make room.
    Barrier(Barrier),
}

impl From<Arc<Batch>> for ToSink {
    fn from(batch: Arc<Batch>) -> Self {
        ToSink::Results { batch, cause: None }
    }
}

impl Travels for ToSink {
    fn load(&self) -> Option<Load> {
        match self {
            ToSink::Results { batch, .. } => Some(Load { rows: batch.rows.len() as u64, bytes: shared_bytes(batch) }),
            ToSink::Shaped(items) => {
                Some(Load { rows: items.iter().map(Item::n_rows).sum(), bytes: items.iter().map(Item::n_bytes).sum() })
            }
            ToSink::Barrier(_) => None,
        }
    }
}

/// Asks a sink for everything that came before it: once that is with the far side, or on the state volume, the sink calls
/// [`taken`](Self::taken). The rule is not computed again from before that point, or a client is told that its rows are
/// processed. Dropping it says that it did not come to that: the checkpoint fails, and the one before it stays.
#[derive(Debug)]
pub struct Barrier(Asker);

#[derive(Debug)]
enum Asker {
    Checkpoint(oneshot::Sender<()>),
    Client(Receipt),
}

impl Barrier {
    /// A checkpoint's barrier, and what completes when it has been taken.
    pub fn new() -> (Self, oneshot::Receiver<()>) {
        let (taken, receiver) = oneshot::channel();
        (Barrier(Asker::Checkpoint(taken)), receiver)
    }

    /// A barrier behind what a client's rows have caused.
    pub fn of_client(receipt: &Receipt) -> Self {
        receipt.given();
        Barrier(Asker::Client(receipt.clone()))
    }

    /// It is asked for by a client, who also wants to hear of [`refused`](Self::refused) results.
    pub fn is_of_client(&self) -> bool {
        matches!(self.0, Asker::Client(_))
    }

    /// Everything before it is safe.
    pub fn taken(self) {
        match self.0 {
            Asker::Checkpoint(taken) => {
                // Nobody waits any more once the rule has ended.
                let _ = taken.send(());
            }
            Asker::Client(receipt) => receipt.done(),
        }
    }

    /// Some of what came between the barrier before it and this one will never be taken, and has been set aside.
    pub fn refused(self, by: impl FnOnce() -> String) {
        if let Asker::Client(receipt) = &self.0 {
            receipt.refused(by);
        }
        self.taken();
    }
}
