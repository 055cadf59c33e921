//! The end that appends.

use std::collections::{HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sluice_sql::Timestamp;
use smol_str::SmolStr;

use super::record::{self, Record};
use super::{Journal, KEPT_SEGMENTS, Segment, StateError};
use crate::source::Items;
use crate::state::frame::FrameError;
use crate::state::volume::{SyncPolicy, sync_folder};

/// Marks of messages that are remembered. A broker that delivers again has at most as many on their way.
const MAX_MARKS: usize = 16_384;

/// Appends records to a journal. One per journal.
#[derive(Debug)]
pub struct Writer {
    journal: Arc<Journal>,
    sync: SyncPolicy,
    file: Arc<File>,
    path: PathBuf,
    /// Bytes of the open segment that hold whole records.
    n_bytes: u64,
    next: u64,
    last_arrived: Timestamp,
    last_position: Option<SmolStr>,
    marks: Marks,
    /// Since when something is written that is not synced.
    dirty: Option<Instant>,
    buffer: Vec<u8>,
}

/// The newest marks.
#[derive(Debug, Default)]
struct Marks {
    order: VecDeque<u64>,
    known: HashSet<u64, foldhash::fast::FixedState>,
}

impl Marks {
    fn add(&mut self, mark: u64) {
        if self.known.insert(mark) {
            self.order.push_back(mark);
            if self.order.len() > MAX_MARKS
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
    }
}

impl Writer {
    /// Finds the end of what was written. A record that a crash left half written is cut off: it was never acknowledged.
    pub(super) fn open(journal: Arc<Journal>, sync: SyncPolicy) -> Result<Self, StateError> {
        let segments: Vec<u64> = journal.state().segments.iter().map(|segment| segment.first).collect();
        let first = segments.last().copied().unwrap_or(0);
        let path = journal.segment(first);
        let fail = |error| StateError::io(&path, error);
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(fail)?;
        if segments.is_empty() {
            sync_folder(&journal.dir).map_err(fail)?;
            journal.state().segments.push(Segment { first: 0, n_bytes: 0, newest: 0 });
        }
        let mut writer = Writer {
            journal: Arc::clone(&journal),
            sync,
            file: Arc::new(file),
            path,
            n_bytes: 0,
            next: first,
            last_arrived: Timestamp::MIN,
            last_position: None,
            marks: Marks::default(),
            dirty: None,
            buffer: Vec::new(),
        };
        let recent = segments.len().saturating_sub(KEPT_SEGMENTS);
        for first in segments.get(recent..).unwrap_or_default() {
            writer.n_bytes = writer.scan(*first)?;
        }
        let torn = writer.file.metadata().map_err(|error| StateError::io(&writer.path, error))?.len() - writer.n_bytes;
        if torn > 0 {
            tracing::warn!(
                stream = journal.name,
                "{torn} bytes at the end of the journal are no whole record; cut off"
            );
            writer.file.set_len(writer.n_bytes).map_err(|error| StateError::io(&writer.path, error))?;
            journal.n_bytes.fetch_sub(torn, Ordering::Relaxed);
        }
        if let Some(last) = journal.state().segments.last_mut() {
            last.n_bytes = writer.n_bytes;
        }
        journal.end.store(writer.next, Ordering::Release);
        Ok(writer)
    }

    /// Reads a segment for what must be known of it; gives the bytes of its whole records.
    fn scan(&mut self, first: u64) -> Result<u64, StateError> {
        let path = self.journal.segment(first);
        let bytes = std::fs::read(&path).map_err(|error| StateError::io(&path, error))?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match record::read(rest) {
                Ok((Record { offset, arrived, marks, position, .. }, n_bytes)) => {
                    self.next = offset + 1;
                    self.last_arrived = self.last_arrived.max(arrived);
                    self.last_position = position.or(self.last_position.take());
                    marks.into_iter().for_each(|mark| self.marks.add(mark));
                    rest = rest.get(n_bytes..).unwrap_or_default();
                }
                // Never read as something else: what another version has written stays.
                Err(source @ FrameError::Version(_)) => return Err(StateError::Frame { path, source }),
                Err(_) => break,
            }
        }
        Ok((bytes.len() - rest.len()) as u64)
    }

    /// The journal.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Where the source stood behind the last record.
    pub fn position(&self) -> Option<&str> {
        self.last_position.as_deref()
    }

    /// True if a message with this mark is in the journal, among the newest.
    pub fn knows(&self, mark: u64) -> bool {
        self.marks.known.contains(&mark)
    }

    /// The time at which something counts as arrived: now, but never before what arrived before it.
    pub fn stamp(&self, now: Timestamp) -> Timestamp {
        now.max(self.last_arrived)
    }

    /// Appends a record, and returns its offset when it is safe. After an error nothing was appended; it can be tried again.
    /// Not cancel-safe.
    ///
    /// # Errors
    /// The volume, which may be full.
    pub async fn append(
        &mut self,
        arrived: Timestamp,
        items: &Items,
        marks: &[u64],
        position: Option<&str>,
    ) -> Result<u64, StateError> {
        self.journal.make_room();
        if self.n_bytes >= self.journal.limits.segment_bytes {
            self.next_segment()?;
            self.journal.expire(arrived);
        }
        let offset = self.next;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        record::write(offset, arrived, items, marks, position, &mut buffer);
        let wants_sync = match self.sync {
            SyncPolicy::Always => true,
            SyncPolicy::Interval(interval) => self.dirty.is_some_and(|since| since.elapsed() >= interval),
        };
        let (file, at) = (Arc::clone(&self.file), self.n_bytes);
        let write = move || {
            let written =
                file.write_all_at(&buffer, at).and_then(|()| if wants_sync { file.sync_data() } else { Ok(()) });
            if written.is_err() {
                // Makes room again on a full volume; the next append overwrites it anyway.
                let _ = file.set_len(at);
            }
            (buffer, written)
        };
        let (buffer, written) = blocking(write).await;
        let n_bytes = buffer.len() as u64;
        self.buffer = buffer;
        written.map_err(|error| StateError::io(&self.path, error))?;
        self.dirty = if wants_sync { None } else { self.dirty.or_else(|| Some(Instant::now())) };
        self.n_bytes += n_bytes;
        self.journal.n_bytes.fetch_add(n_bytes, Ordering::Relaxed);
        if let Some(last) = self.journal.state().segments.last_mut() {
            (last.n_bytes, last.newest) = (self.n_bytes, arrived);
        }
        self.next += 1;
        self.last_arrived = arrived;
        marks.iter().for_each(|mark| self.marks.add(*mark));
        if let Some(position) = position {
            self.last_position = Some(position.into());
        }
        self.journal.end.store(self.next, Ordering::Release);
        Ok(offset)
    }

    /// In how long what was written is to be synced; `None` if everything is.
    pub fn sync_due(&self) -> Option<Duration> {
        let SyncPolicy::Interval(interval) = self.sync else { return None };
        Some(interval.saturating_sub(self.dirty?.elapsed()))
    }

    /// Makes safe what was written.
    ///
    /// # Errors
    /// The volume.
    pub async fn sync(&mut self) -> Result<(), StateError> {
        if self.dirty.is_none() {
            return Ok(());
        }
        let file = Arc::clone(&self.file);
        let ((), synced) = blocking(move || ((), file.sync_data())).await;
        synced.map_err(|error| StateError::io(&self.path, error))?;
        self.dirty = None;
        Ok(())
    }

    fn next_segment(&mut self) -> Result<(), StateError> {
        let path = self.journal.segment(self.next);
        let open = || {
            if self.dirty.is_some() {
                self.file.sync_data()?;
            }
            let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path)?;
            sync_folder(&self.journal.dir)?;
            Ok(file)
        };
        let file = open().map_err(|error| StateError::io(&path, error))?;
        self.file = Arc::new(file);
        self.path = path;
        self.n_bytes = 0;
        self.dirty = None;
        let mut state = self.journal.state();
        state.segments.push(Segment { first: self.next, n_bytes: 0, newest: self.last_arrived });
        self.journal.trim(&mut state);
        Ok(())
    }
}

/// Runs file work beside the runtime.
pub(crate) async fn blocking<T: Default + Send + 'static>(
    work: impl FnOnce() -> (T, std::io::Result<()>) + Send + 'static,
) -> (T, std::io::Result<()>) {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => (T::default(), Err(std::io::Error::other(error))),
    }
}
