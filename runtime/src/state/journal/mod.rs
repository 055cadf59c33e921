//! The journal of a stream: what it has accepted, until no rule needs it any more.
//!
//! A stream whose source can't be asked for a message a second time writes down what arrives, and only then acknowledges it.
//! All that has arrived is one record: one append and one sync. A record has a number, its offset, and keeps when it arrived;
//! so a rule that goes on from a checkpoint gets the same rows again, at the same times.
//!
//! Records stand in segments, files that are named after their first record. A segment goes when the checkpoints of all rules
//! are past it. The size is bounded: a full journal takes nothing more, which holds the source back, until a rule has come on.
//! So is the age of what is kept for rules that do not run.

mod reader;
mod record;
mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

pub use reader::{Read, Reader};
pub use record::Record;
use sluice_sql::Timestamp;
pub use writer::Writer;

use super::volume::{StateError, StateVolume, file_name};

/// Segments that stay, whoever needs them: the last one may still be empty, and with the one before it is known how far the
/// source was and what it has delivered last.
const KEPT_SEGMENTS: usize = 2;

/// What a journal may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a segment; a new one begins behind it.
    pub segment_bytes: u64,
    /// Bytes of all segments.
    pub max_bytes: u64,
    /// How old the newest record of a segment may be that is kept for rules that do not run, in milliseconds.
    pub max_age_ms: i64,
}

impl Limits {
    /// The least that `max_bytes` may be.
    pub const MIN_BYTES: u64 = 1 << 20;

    /// So many bytes, in segments that are a small part of it, and so many milliseconds.
    pub fn new(max_bytes: u64, max_age_ms: i64) -> Self {
        Limits { segment_bytes: (max_bytes / 8).min(8 << 20), max_bytes, max_age_ms }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits::new(1 << 30, 7 * 24 * 3_600_000)
    }
}

/// A journal, as all of its users see it.
#[derive(Debug)]
pub struct Journal {
    /// The stream, and the rule unless the stream is shared.
    pub name: String,
    dir: PathBuf,
    limits: Limits,
    /// The offset behind the last record that is safe.
    end: AtomicU64,
    /// Bytes of all segments.
    n_bytes: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Oldest first. The last one is written to.
    segments: Vec<Segment>,
    /// By rule, what it still needs.
    holds: HashMap<String, Hold>,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    /// Offset of its first record.
    first: u64,
    n_bytes: u64,
    /// When its last record arrived.
    newest: Timestamp,
}

#[derive(Clone, Debug)]
struct Hold {
    /// The first record that is needed.
    offset: u64,
    /// Runs of the rule: none while it does not run, two while one takes over from another.
    n_live: usize,
    /// Set when the rule is to make a checkpoint soon.
    pressed: Arc<AtomicBool>,
}

impl Journal {
    /// Opens or makes the journal of a stream, and the end that writes to it. `holds` are what rules needed according to their
    /// checkpoints.
    ///
    /// # Errors
    /// The volume.
    pub fn open(
        volume: &Arc<StateVolume>,
        name: &str,
        limits: Limits,
        holds: impl IntoIterator<Item = (String, u64)>,
    ) -> Result<(Arc<Journal>, Writer), StateError> {
        let dir = volume.folder("journal")?.join(file_name(name));
        std::fs::create_dir_all(&dir).map_err(|error| StateError::io(&dir, error))?;
        let mut segments = Vec::new();
        for entry in std::fs::read_dir(&dir).map_err(|error| StateError::io(&dir, error))? {
            let entry = entry.map_err(|error| StateError::io(&dir, error))?;
            let metadata = entry.metadata().map_err(|error| StateError::io(&entry.path(), error))?;
            if let Some(first) = first_offset(&entry.path()) {
                let since_1970 = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                let newest = since_1970.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(i64::MAX);
                segments.push(Segment { first, n_bytes: metadata.len(), newest });
            }
        }
        segments.sort_unstable_by_key(|segment| segment.first);
        let hold = |(rule, offset)| (rule, Hold { offset, n_live: 0, pressed: Arc::default() });
        let journal = Arc::new(Journal {
            name: name.to_owned(),
            dir,
            limits,
            end: AtomicU64::new(0),
            n_bytes: AtomicU64::new(segments.iter().map(|segment| segment.n_bytes).sum()),
            state: Mutex::new(State { segments, holds: holds.into_iter().map(hold).collect() }),
        });
        let writer = Writer::open(Arc::clone(&journal), volume.sync())?;
        Ok((journal, writer))
    }

    /// The offset behind the last record that is safe.
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// The first record that is still there, or the end.
    pub fn begin(&self) -> u64 {
        self.state().segments.first().map_or_else(|| self.end(), |segment| segment.first)
    }

    /// Bytes of all segments.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes.load(Ordering::Relaxed)
    }

    /// True if nothing more is taken until a rule has come on. A few large records alone do not fill it: nothing would go for them.
    pub fn is_full(&self) -> bool {
        self.n_bytes() >= self.limits.max_bytes && self.state().segments.len() > KEPT_SEGMENTS
    }

    /// The rule runs, and needs everything from where it was, or if it is new, from now on. Gives that offset, and a flag that
    /// is set when the rule is to make a checkpoint soon.
    pub fn hold(&self, rule: &str) -> (u64, Arc<AtomicBool>) {
        let mut state = self.state();
        let new = || Hold { offset: self.end(), n_live: 0, pressed: Arc::default() };
        let hold = state.holds.entry(rule.to_owned()).or_insert_with(new);
        hold.n_live += 1;
        (hold.offset, Arc::clone(&hold.pressed))
    }

    /// True if a rule runs that needs what arrives.
    pub fn is_held(&self) -> bool {
        self.state().holds.values().any(|hold| hold.n_live > 0)
    }

    /// The rule needs nothing before `offset` any more.
    pub fn release(&self, rule: &str, offset: u64) {
        let mut state = self.state();
        if let Some(hold) = state.holds.get_mut(rule) {
            hold.offset = hold.offset.max(offset);
            hold.pressed.store(false, Ordering::Relaxed);
        }
        self.trim(&mut state);
    }

    /// One run of the rule has ended. The rule may come back and go on from where it was.
    pub fn rest(&self, rule: &str) {
        if let Some(hold) = self.state().holds.get_mut(rule) {
            hold.n_live = hold.n_live.saturating_sub(1);
        }
    }

    /// The rule is gone for good.
    pub fn forget(&self, rule: &str) {
        let mut state = self.state();
        if state.holds.remove(rule).is_some() {
            self.trim(&mut state);
        }
    }

    /// Asks rules for checkpoints when the journal is half full, and lets go of rules that do not run when it is full.
    pub fn make_room(&self) {
        let n_bytes = self.n_bytes();
        if n_bytes < self.limits.max_bytes / 2 {
            return;
        }
        let mut state = self.state();
        for hold in state.holds.values().filter(|hold| hold.n_live > 0) {
            hold.pressed.store(true, Ordering::Relaxed);
        }
        if n_bytes < self.limits.max_bytes {
            return;
        }
        let resting: Vec<String> =
            state.holds.iter().filter(|(_, hold)| hold.n_live == 0).map(|(rule, _)| rule.clone()).collect();
        for rule in resting {
            state.holds.remove(&rule);
            let n_records = self.end().saturating_sub(state.segments.first().map_or(0, |segment| segment.first));
            tracing::warn!(
                rule,
                stream = self.name,
                n_records,
                "the journal is full: what was kept for this rule, which does not run, is given up"
            );
        }
        self.trim(&mut state);
    }

    /// Lets go of rules that do not run and for which records are kept that are too old.
    pub fn expire(&self, now: Timestamp) {
        let mut state = self.state();
        let too_old =
            |pair: &&[Segment]| matches!(pair, [old, _] if old.newest < now.saturating_sub(self.limits.max_age_ms));
        let Some(begin) = state.segments.windows(2).take_while(too_old).last().map(|pair| pair[1].first) else {
            return;
        };
        state.holds.retain(|rule, hold| {
            let is_kept = hold.n_live > 0 || hold.offset >= begin;
            if !is_kept {
                let n_records = begin - hold.offset;
                tracing::warn!(
                    rule,
                    stream = self.name,
                    n_records,
                    "what the journal has kept for this rule, which does not run, is too old, and is given up"
                );
            }
            is_kept
        });
        self.trim(&mut state);
    }

    /// Removes the segments that nobody needs.
    fn trim(&self, state: &mut State) {
        let needed = state.holds.values().map(|hold| hold.offset).min().unwrap_or(u64::MAX);
        let n_old =
            state.segments.windows(2).take_while(|pair| pair.get(1).is_some_and(|next| next.first <= needed)).count();
        let n_old = n_old.min(state.segments.len().saturating_sub(KEPT_SEGMENTS));
        for Segment { first, n_bytes, .. } in state.segments.drain(..n_old) {
            let path = self.segment(first);
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!("can't remove {}: {error}", path.display());
            }
            self.n_bytes.fetch_sub(n_bytes, Ordering::Relaxed);
        }
    }

    /// The file of a segment.
    fn segment(&self, first: u64) -> PathBuf {
        self.dir.join(format!("{first:020}.log"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn first_offset(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(".log")?.parse().ok()
}

#[cfg(test)]
mod tests;
