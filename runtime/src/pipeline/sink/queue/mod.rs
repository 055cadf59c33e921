//! What waits for a sink: in memory while it keeps up, on disk when it does not.
//!
//! In front is what is on disk, behind it what is in memory, so the order is always that of arrival. Rows go to disk as soon as
//! the far side fails, there are more than memory is to hold, something is on disk already, a barrier asks for it, or the rule
//! ends. From then on a crash does not lose them, and they are written before anything newer.

mod item;
mod log;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

pub use item::Item;
use log::{Log, Record};

use crate::definition::Backpressure;
use crate::pipeline::metrics::{DropReason, SinkMetrics};
use crate::state::{Cause, StateError, SyncPolicy};
use crate::time::Clock;

/// What is written at once: messages, or batches of rows.
const LOAD_ITEMS: usize = 1024;
/// Bytes of what is written at once.
const LOAD_BYTES: u64 = 1 << 20;
/// Pause after the disk has failed.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// How much a queue holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Items in memory.
    pub memory_items: usize,
    /// Items on disk.
    pub disk_items: usize,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// What is older is not written any more.
    pub max_age: Option<Duration>,
    /// What happens when there is no room.
    pub overflow: Backpressure,
}

/// Bytes of items in memory, whatever their number.
const MEMORY_BYTES: u64 = 16 << 20;

/// A queue; one half of the driver gives, the other takes.
pub(super) struct Queue(Arc<Shared>);

struct Shared {
    bounds: Bounds,
    clock: Arc<dyn Clock>,
    metrics: Arc<SinkMetrics>,
    /// Held for moments only, never while the disk works.
    state: Mutex<State>,
    /// `None` without a state volume. Held while the disk works, so never taken on an async thread. Taken before `state`.
    log: Mutex<Option<Log>>,
    has_volume: bool,
    /// Something came, or nothing more will.
    arrived: Notify,
    /// Something went.
    room: Notify,
}

#[derive(Default)]
struct State {
    memory: VecDeque<Waiting>,
    memory_bytes: u64,
    /// Items on disk, copied from the log.
    n_disk: usize,
    /// Items at the front of memory that are being written to disk: only who holds the log may take them.
    n_moving: usize,
    /// Items at the front that the taker has.
    n_in_use: usize,
    /// The far side fails.
    is_outage: bool,
    /// Nothing more will come.
    is_closed: bool,
    /// The newest cause of which everything was taken or is on disk.
    cause: Option<Cause>,
}

#[derive(Clone)]
struct Waiting {
    item: Item,
    at: i64,
    cause: Option<Cause>,
    is_last: bool,
}

/// What the taker is to write.
pub(super) struct Taken {
    /// In order.
    pub items: Vec<Item>,
    /// The newest cause that ends in it.
    pub cause: Option<Cause>,
}

impl Queue {
    /// Opens what is on disk, or an empty queue. `dir` is where it may keep things, and how safe.
    ///
    /// # Errors
    /// The state volume.
    pub async fn open(
        dir: Option<(PathBuf, SyncPolicy)>,
        bounds: Bounds,
        metrics: Arc<SinkMetrics>,
        clock: Arc<dyn Clock>,
    ) -> Result<Queue, StateError> {
        let segment_bytes = (bounds.disk_bytes / 8).clamp(64 << 10, 8 << 20);
        let log = match dir {
            Some((dir, sync)) => Some(blocking(move || Log::open(&dir, sync, segment_bytes)).await?),
            None => None,
        };
        let mut state = State::default();
        if let Some(log) = &log {
            for damage in &log.damage {
                metrics.errors.report(format_args!("queue: {damage}"));
            }
            state.cause = log.cause();
            metrics.queue.restored.add(log.n_rows());
        }
        let shared = Shared {
            bounds,
            clock,
            metrics,
            state: Mutex::new(state),
            has_volume: log.is_some(),
            log: Mutex::new(None),
            arrived: Notify::new(),
            room: Notify::new(),
        };
        shared.look_at(log.as_ref());
        *shared.log() = log;
        Ok(Queue(Arc::new(shared)))
    }

    /// The newest cause of which everything was given: what is not newer came before.
    pub fn cause(&self) -> Option<Cause> {
        self.0.state().cause
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        let state = self.0.state();
        state.n_disk == 0 && state.memory.is_empty()
    }

    /// Gives the items that a cause has brought, or the last of them. Waits for room, or drops and counts what the policy says.
    pub async fn push(&self, items: Vec<Item>, cause: Option<Cause>) {
        self.give(items, cause, true).await;
    }

    /// As [`push`](Self::push), but more of what the cause has brought follows: until it is here too, none of it counts as
    /// given.
    pub async fn push_some(&self, items: Vec<Item>, cause: Option<Cause>) {
        self.give(items, cause, false).await;
    }

    async fn give(&self, items: Vec<Item>, cause: Option<Cause>, is_whole: bool) {
        if items.is_empty() {
            return;
        }
        self.put(items, cause, is_whole);
        let shared = &*self.0;
        loop {
            let mut room = std::pin::pin!(shared.room.notified());
            room.as_mut().enable();
            let (is_crowded, must_persist) = {
                let state = shared.state();
                let is_crowded = state.memory.len() > shared.bounds.memory_items || state.memory_bytes > MEMORY_BYTES;
                (is_crowded, is_crowded || state.is_outage || state.n_disk > 0)
            };
            if !must_persist {
                return;
            }
            let persisted = self.work(Shared::persist).await;
            // Without a disk there is still memory, which is bounded all the same.
            if persisted == Persisted::Yes || persisted != Persisted::Full && !is_crowded {
                return;
            }
            if self.work(Shared::drop_for_room).await {
                continue;
            }
            shared.metrics.queue.is_full.set(1);
            tokio::select! {
                () = room => {}
                () = tokio::time::sleep(DISK_PAUSE) => {}
            }
        }
    }

    /// Gives items without waiting for room: for what is left when the time is over.
    pub fn add(&self, items: Vec<Item>, cause: Option<Cause>) {
        self.put(items, cause, true);
    }

    fn put(&self, items: Vec<Item>, cause: Option<Cause>, is_whole: bool) {
        let shared = &*self.0;
        let at = shared.clock.now();
        let n_items = items.len();
        {
            let mut state = shared.state();
            for (item_idx, item) in items.into_iter().enumerate() {
                state.memory_bytes += item.n_bytes();
                let is_last = is_whole && item_idx + 1 == n_items;
                state.memory.push_back(Waiting { item, at, cause, is_last });
            }
        }
        shared.count_memory();
        shared.arrived.notify_one();
    }

    /// Completes when nothing waits, and nothing more will come.
    pub async fn over(&self) {
        loop {
            let mut arrived = std::pin::pin!(self.0.arrived.notified());
            arrived.as_mut().enable();
            if self.0.state().is_over() {
                return;
            }
            arrived.await;
        }
    }

    /// Nothing more will come.
    pub fn close(&self) {
        self.0.state().is_closed = true;
        self.0.arrived.notify_one();
    }

    /// What is to be written next; `None` when nothing more will come. The same again until [`Queue::done`].
    ///
    /// # Errors
    /// The state volume.
    pub async fn next(&self) -> Result<Option<Taken>, StateError> {
        loop {
            let mut arrived = std::pin::pin!(self.0.arrived.notified());
            arrived.as_mut().enable();
            let needs_disk = {
                let state = self.0.state();
                state.n_disk > 0 || state.n_moving > 0 || self.0.bounds.max_age.is_some() && !state.memory.is_empty()
            };
            if needs_disk {
                self.work(Shared::expire).await?;
                if let Some(taken) = self.work(Shared::peek_disk).await? {
                    return Ok(Some(taken));
                }
            }
            if let Some(taken) = self.0.peek_memory() {
                return Ok(Some(taken));
            }
            {
                let state = self.0.state();
                if state.is_over() {
                    return Ok(None);
                }
                if state.n_disk > 0 || !state.memory.is_empty() {
                    continue;
                }
            }
            arrived.await;
        }
    }

    /// What was taken last, with this newest cause, is written, or set aside.
    ///
    /// # Errors
    /// The state volume: then it may be written once more after a crash.
    pub async fn done(&self, cause: Option<Cause>) -> Result<(), StateError> {
        let result = if cause.is_none() && self.0.forget_memory() {
            Ok(())
        } else {
            self.work(move |shared| shared.forget(cause)).await
        };
        self.0.metrics.queue.is_full.set(0);
        self.0.room.notify_waiters();
        result
    }

    /// Only the first `n_items` of what was taken last are written, or set aside.
    ///
    /// # Errors
    /// As for [`Queue::done`].
    pub async fn done_some(&self, n_items: usize) -> Result<(), StateError> {
        self.work(move |shared| {
            shared.state().n_in_use = n_items;
            shared.forget(None)
        })
        .await
    }

    /// The far side fails, or works again. When it fails, everything that waits is brought to safety.
    pub async fn outage(&self, is_outage: bool) {
        let has_memory = {
            let mut state = self.0.state();
            state.is_outage = is_outage;
            !state.memory.is_empty()
        };
        if is_outage && has_memory {
            self.work(Shared::persist).await;
        }
    }

    /// Brings everything to disk, and the disk to safety; true if all that was given is there, or was written.
    pub async fn secure(&self) -> bool {
        self.work(|shared| {
            let is_there = shared.persist() == Persisted::Yes || shared.state().memory.is_empty();
            let is_safe = shared.log().as_ref().is_none_or(|log| log.sync_head().is_ok());
            is_there && is_safe
        })
        .await
    }

    /// True if it has a state volume to keep things on.
    pub fn has_volume(&self) -> bool {
        self.0.has_volume
    }

    /// Rows that wait in memory only.
    pub fn rows_in_memory(&self) -> u64 {
        self.0.state().memory.iter().map(|waiting| waiting.item.n_rows()).sum()
    }

    /// Throws everything away and gives the rows.
    pub async fn clear(&self) -> u64 {
        self.work(Shared::clear).await
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce(&Shared) -> T + Send + 'static) -> T {
        let shared = Arc::clone(&self.0);
        blocking(move || work(&shared)).await
    }
}

/// What the disk is needed for; blocks. Each is done to its end, even if nobody waits for it any more.
impl Shared {
    /// Moves what is in memory to disk, behind what is there.
    fn persist(&self) -> Persisted {
        let mut log = self.log();
        let Some(disk) = log.as_mut() else { return Persisted::NoVolume };
        let (records, newest) = {
            let mut state = self.state();
            if state.memory.is_empty() {
                return Persisted::Yes;
            }
            if disk.len() >= self.bounds.disk_items || disk.n_bytes() >= self.bounds.disk_bytes {
                return Persisted::Full;
            }
            state.n_moving = state.memory.len();
            let newest =
                state.memory.iter().filter(|waiting| waiting.is_last).filter_map(|waiting| waiting.cause).max();
            (state.memory.iter().cloned().collect::<Vec<_>>(), newest)
        };
        let record = |waiting: &Waiting| Record {
            at: waiting.at,
            n_rows: u32::try_from(waiting.item.n_rows()).unwrap_or(u32::MAX),
            cause: waiting.cause,
            is_last: waiting.is_last,
            payload: waiting.item.encode(),
        };
        let records: Vec<Record> = records.iter().map(record).collect();
        let result = disk.append(&records);
        {
            let mut state = self.state();
            state.n_moving = 0;
            if result.is_ok() {
                let moved: Vec<Waiting> = state.memory.drain(..records.len()).collect();
                state.memory_bytes -= moved.iter().map(|waiting| waiting.item.n_bytes()).sum::<u64>();
                state.cause = state.cause.max(newest);
            }
        }
        self.look_at(Some(disk));
        self.count_memory();
        match result {
            Ok(()) => Persisted::Yes,
            Err(error) => {
                self.metrics.errors.report(format_args!("queue: {error}"));
                Persisted::Failed
            }
        }
    }

    /// Drops what the policy says; false if it says to wait.
    fn drop_for_room(&self) -> bool {
        let mut log = self.log();
        let mut n_rows = 0;
        match self.bounds.overflow {
            Backpressure::Block | Backpressure::Spill => return false,
            Backpressure::DropNewest => {
                let mut state = self.state();
                // With a full disk before it, nothing waits in memory; without one, as much as it may hold.
                let n_kept = if state.n_disk > 0 { 0 } else { self.bounds.memory_items.max(state.n_in_use) };
                while state.memory.len() > n_kept {
                    let Some(newest) = state.memory.pop_back() else { break };
                    state.memory_bytes -= newest.item.n_bytes();
                    n_rows += newest.item.n_rows();
                }
            }
            Backpressure::DropOldest => {
                let n_in_use = self.state().n_in_use;
                match log.as_mut().filter(|disk| disk.len() > 0) {
                    Some(disk) => n_rows = disk.drop_oldest(n_in_use).unwrap_or(0),
                    None => {
                        let mut state = self.state();
                        while state.memory.len() > self.bounds.memory_items.max(n_in_use) {
                            let Some(oldest) = state.memory.remove(n_in_use) else { break };
                            state.memory_bytes -= oldest.item.n_bytes();
                            n_rows += oldest.item.n_rows();
                        }
                    }
                }
            }
        }
        self.metrics.dropped.add(DropReason::Overflow, n_rows);
        self.look_at(log.as_ref());
        self.count_memory();
        n_rows > 0
    }

    /// Drops what has waited for too long.
    fn expire(&self) -> Result<(), StateError> {
        let Some(max_age) = self.bounds.max_age else { return Ok(()) };
        let max_age_ms = i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX);
        let oldest = self.clock.now().saturating_sub(max_age_ms);
        let mut log = self.log();
        loop {
            let n_rows = match log.as_mut().filter(|disk| disk.len() > 0) {
                Some(disk) => {
                    let n_old = disk.peek(64, LOAD_BYTES)?.iter().take_while(|record| record.at < oldest).count();
                    if n_old == 0 { 0 } else { disk.take(n_old, None)? }
                }
                None => {
                    let mut state = self.state();
                    let n_old = state.memory.iter().take_while(|waiting| waiting.at < oldest).count();
                    state.forget_memory(n_old)
                }
            };
            if n_rows == 0 {
                return Ok(());
            }
            self.metrics.dropped.add(DropReason::Expired, n_rows);
            self.look_at(log.as_ref());
            self.count_memory();
            self.room.notify_waiters();
        }
    }

    fn peek_disk(&self) -> Result<Option<Taken>, StateError> {
        let log = self.log();
        let Some(disk) = log.as_ref().filter(|disk| disk.len() > 0) else { return Ok(None) };
        let records = disk.peek(LOAD_ITEMS, LOAD_BYTES)?;
        let n_records = records.len();
        let ends = records.iter().filter(|record| record.is_last).filter_map(|record| record.cause);
        let cause = ends.max();
        let items: Vec<Item> = records.into_iter().filter_map(|record| Item::decode(record.payload)).collect();
        if items.len() < n_records {
            self.metrics.errors.report("queue: an item on disk can't be read");
            self.metrics.dropped.add(DropReason::Damaged, (n_records - items.len()) as u64);
        }
        self.state().n_in_use = n_records;
        Ok(Some(Taken { items, cause }))
    }

    /// Takes off what is in use, wherever it is now.
    fn forget(&self, cause: Option<Cause>) -> Result<(), StateError> {
        let mut log = self.log();
        let n_items = {
            let mut state = self.state();
            let n_in_use = std::mem::take(&mut state.n_in_use);
            state.cause = state.cause.max(cause);
            if state.n_disk > 0 {
                n_in_use
            } else {
                state.forget_memory(n_in_use);
                0
            }
        };
        let result = match log.as_mut() {
            Some(disk) if n_items > 0 || cause.is_some() => disk.take(n_items, cause).map(|_| ()),
            _ => Ok(()),
        };
        self.look_at(log.as_ref());
        self.count_memory();
        result
    }

    fn clear(&self) -> u64 {
        let mut log = self.log();
        let mut n_rows = 0;
        if let Some(disk) = log.as_mut() {
            let n_items = disk.len();
            n_rows += disk.take(n_items, None).unwrap_or(0);
        }
        {
            let mut state = self.state();
            let n_memory = state.memory.len();
            n_rows += state.forget_memory(n_memory);
        }
        self.look_at(log.as_ref());
        self.count_memory();
        n_rows
    }

    /// Copies what the log says of itself.
    fn look_at(&self, log: Option<&Log>) {
        let (n_disk, n_bytes, n_rows) = log.map_or((0, 0, 0), |log| (log.len(), log.n_bytes(), log.n_rows()));
        self.state().n_disk = n_disk;
        self.metrics.queue.disk_rows.set(n_rows);
        self.metrics.queue.disk_bytes.set(n_bytes);
    }

    fn log(&self) -> MutexGuard<'_, Option<Log>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What needs no disk.
impl Shared {
    fn peek_memory(&self) -> Option<Taken> {
        let mut state = self.state();
        if state.n_disk > 0 || state.n_moving > 0 || state.memory.is_empty() {
            return None;
        }
        let mut n_bytes = 0;
        let fits = |waiting: &&Waiting| {
            n_bytes += waiting.item.n_bytes();
            n_bytes <= LOAD_BYTES
        };
        let n_items = state.memory.iter().take(LOAD_ITEMS).take_while(fits).count().max(1);
        let taken: Vec<Waiting> = state.memory.iter().take(n_items).cloned().collect();
        state.n_in_use = n_items;
        let cause = taken.iter().filter(|waiting| waiting.is_last).filter_map(|waiting| waiting.cause).max();
        Some(Taken { items: taken.into_iter().map(|waiting| waiting.item).collect(), cause })
    }

    /// Takes off what is in use, if it is in memory.
    fn forget_memory(&self) -> bool {
        {
            let mut state = self.state();
            if state.n_disk > 0 || state.n_moving > 0 {
                return false;
            }
            let n_in_use = std::mem::take(&mut state.n_in_use);
            state.forget_memory(n_in_use);
        }
        self.count_memory();
        true
    }

    fn count_memory(&self) {
        let state = self.state();
        self.metrics.queue.memory_items.set(state.memory.len() as u64);
        self.metrics.queue.memory_bytes.set(state.memory_bytes);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_over(&self) -> bool {
        self.is_closed && self.memory.is_empty() && self.n_disk == 0
    }

    /// Takes the first items off and gives their rows.
    fn forget_memory(&mut self, n_items: usize) -> u64 {
        let n_items = n_items.min(self.memory.len());
        let (mut n_rows, mut n_bytes) = (0, 0);
        for waiting in self.memory.drain(..n_items) {
            n_rows += waiting.item.n_rows();
            n_bytes += waiting.item.n_bytes();
        }
        self.memory_bytes -= n_bytes;
        n_rows
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Persisted {
    Yes,
    /// The bound is reached.
    Full,
    /// The disk says no.
    Failed,
    NoVolume,
}

/// Runs disk work beside the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends: nobody waits for the result.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests;
