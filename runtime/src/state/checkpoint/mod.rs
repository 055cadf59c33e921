//! Checkpoints: what a rule needs to go on as if it had never stopped.
//!
//! A file each. Of a large one that has much in common with the last one that was written whole, only the rest is written
//! (`delta`): long windows change little from one checkpoint to the next, and flash wears.

mod delta;

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_sql::Timestamp;
use sluice_sql::operators::ChainState;
use sluice_sql::value::state::StateIo;
use smol_str::SmolStr;

use self::delta::Pieces;
use super::frame::{self, FrameError, Kind};
use super::volume::{StateError, StateVolume, file_name, name_of_file, replace, sync_folder};

/// A whole checkpoint's frame.
const KIND: Kind = Kind { tag: *b"Cp", version: 1 };
/// The frame of one that builds on another: that one's checksum, what the two have in common, and the rest.
const DELTA: Kind = Kind { tag: *b"Cd", version: 1 };
/// The frame of an epoch.
const EPOCH: Kind = Kind { tag: *b"Ep", version: 1 };
/// The file of a rule's newest epoch.
const EPOCH_FILE: &str = "epoch";
/// Checkpoints of a rule that are kept: the newest, and one more in case it is damaged; and what they build on.
const KEPT: usize = 2;
/// Smaller ones are always written whole.
const MIN_DELTA_BYTES: usize = 256 << 10;
/// Checkpoints that build on one and the same, at most: should it be damaged, none of them can be used.
const MAX_ON_BASE: u32 = 100;

/// What a rule needs to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Grows by one.
    pub id: u64,
    /// When it was made.
    pub made_at: Timestamp,
    /// Grows each time that the rule begins without its earlier state.
    pub epoch: u64,
    /// When the rule began in this epoch.
    pub rule_start: Timestamp,
    /// What its random numbers begin with.
    pub seed: u64,
    /// The plan.
    pub fingerprint: u64,
    /// Time that it has come to.
    pub time: Timestamp,
    /// Time and number of its newest step.
    pub step: (Timestamp, u64),
    /// How far it has read each of its inputs.
    pub inputs: Vec<InputPlace>,
    /// What its operators keep.
    pub state: ChainState,
}

/// How far a rule has read an input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputPlace {
    /// The journal.
    pub journal: SmolStr,
    /// The record that comes next.
    pub offset: u64,
    /// Batches of it that have been processed.
    pub part: u32,
}

impl Checkpoint {
    fn state(&mut self, io: &mut StateIo) {
        io.uint(&mut self.id);
        io.int(&mut self.made_at);
        io.uint(&mut self.epoch);
        io.int(&mut self.rule_start);
        io.uint(&mut self.seed);
        io.uint(&mut self.fingerprint);
        io.int(&mut self.time);
        io.int(&mut self.step.0);
        io.uint(&mut self.step.1);
        io.list(&mut self.inputs, InputPlace::default, |io, place| {
            io.text(&mut place.journal);
            io.uint(&mut place.offset);
            let mut part = u64::from(place.part);
            io.uint(&mut part);
            place.part = u32::try_from(part).unwrap_or(u32::MAX);
        });
        self.state.state(io);
    }

    fn bytes(&mut self) -> Vec<u8> {
        let mut io = StateIo::writer();
        self.state(&mut io);
        io.into_bytes()
    }

    fn from_bytes(content: Vec<u8>) -> Result<Self, FrameError> {
        let mut io = StateIo::reader(content);
        let mut checkpoint = Checkpoint::default();
        checkpoint.state(&mut io);
        if io.is_complete() { Ok(checkpoint) } else { Err(FrameError::Damaged) }
    }
}

/// How much it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The checkpoint.
    pub n_bytes: u64,
    /// What had to be written of it.
    pub n_written: u64,
}

/// The checkpoints of all rules: a folder for each, with a file for each checkpoint and one for the epoch. A file is named by the
/// checkpoint's number, and by that of the one it builds on. All methods block on the disk.
#[derive(Debug)]
pub struct Checkpoints {
    dir: PathBuf,
    /// By rule, the newest one that was written whole. One change at a time: two runs of a rule may overlap.
    bases: Mutex<HashMap<String, Base>>,
}

/// What later checkpoints may build on.
#[derive(Debug)]
struct Base {
    id: u64,
    checksum: u32,
    pieces: Pieces,
    /// How many have been built on it.
    n_uses: u32,
}

/// The file of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FileId {
    id: u64,
    /// The one that it builds on.
    base: Option<u64>,
}

impl FileId {
    /// `None` if it is no checkpoint's: what a crash left half-written has another name.
    fn parse(name: &str) -> Option<Self> {
        let (id, base) = name.split_once('-').map_or((name, None), |(id, base)| (id, Some(base)));
        let file = FileId { id: id.parse().ok()?, base: base.map(str::parse).transpose().ok()? };
        (file.to_string() == name).then_some(file)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.base {
            None => write!(f, "{}", self.id),
            Some(base) => write!(f, "{}-{base}", self.id),
        }
    }
}

impl Checkpoints {
    /// Opens the folder of the volume.
    ///
    /// # Errors
    /// The volume.
    pub fn open(volume: &StateVolume) -> Result<Arc<Self>, StateError> {
        Ok(Arc::new(Checkpoints { dir: volume.folder("checkpoint")?, bases: Mutex::default() }))
    }

    /// Keeps a checkpoint: after a crash it is there, or the one before it is. Older ones go.
    ///
    /// # Errors
    /// The volume; then the one before it is still there.
    pub fn save(&self, rule: &str, mut checkpoint: Checkpoint) -> Result<Saved, StateError> {
        let content = checkpoint.bytes();
        let mut bases = self.bases();
        let dir = self.made(rule)?;
        let mut sealed = Vec::new();
        let is_large = content.len() >= MIN_DELTA_BYTES;
        let base = bases.get_mut(rule).filter(|base| is_large && base.n_uses < MAX_ON_BASE).and_then(|base| {
            base.n_uses += 1;
            let mut delta = base.checksum.to_le_bytes().to_vec();
            delta.append(&mut base.pieces.delta(&content));
            // Otherwise it is a better base than that one.
            (delta.len() <= content.len() / 2).then_some((base.id, delta))
        });
        let file = FileId { id: checkpoint.id, base: base.as_ref().map(|(base, _)| *base) };
        match &base {
            Some((_, delta)) => frame::seal(DELTA, delta, &mut sealed),
            None => frame::seal(KIND, &content, &mut sealed),
        }
        replace(&dir.join(file.to_string()), &sealed)?;
        if base.is_none() && is_large {
            let (checksum, pieces) = (frame::checksum(&content), Pieces::of(&content));
            bases.insert(rule.to_owned(), Base { id: file.id, checksum, pieces, n_uses: 0 });
        }
        let files = files_in(&dir)?;
        let kept = files.get(..KEPT).unwrap_or(&files);
        for old in files.get(KEPT..).unwrap_or_default() {
            if kept.iter().any(|file| file.base == Some(old.id)) {
                continue;
            }
            if bases.get(rule).is_some_and(|base| base.id == old.id) {
                bases.remove(rule);
            }
            delete(&dir.join(old.to_string()))?;
        }
        Ok(Saved { n_bytes: content.len() as u64, n_written: sealed.len() as u64 })
    }

    /// The newest checkpoint of a rule that is whole. A damaged one is passed over, and said so.
    ///
    /// # Errors
    /// The volume, or a checkpoint that another version has written.
    pub fn latest(&self, rule: &str) -> Result<Option<Checkpoint>, StateError> {
        let dir = self.folder(rule);
        for file in files_in(&dir)? {
            match checkpoint_in(&dir, file) {
                Ok(None) => {}
                Err(StateError::Frame { source, .. }) if !matches!(source, FrameError::Version(_)) => {
                    tracing::error!(rule, "a checkpoint can't be used, an older one is tried: {source}");
                }
                found => return found,
            }
        }
        Ok(None)
    }

    /// Begins a new epoch of a rule: it starts without its earlier state.
    ///
    /// # Errors
    /// The volume, or an epoch that can't be read.
    pub fn new_epoch(&self, rule: &str) -> Result<u64, StateError> {
        let _bases = self.bases();
        let path = self.made(rule)?.join(EPOCH_FILE);
        let before = match read(&path)? {
            None => 0,
            Some(bytes) => epoch_of(&bytes).map_err(|source| StateError::Frame { path: path.clone(), source })?,
        };
        let epoch = before + 1;
        let mut sealed = Vec::new();
        frame::seal(EPOCH, &epoch.to_le_bytes(), &mut sealed);
        replace(&path, &sealed)?;
        Ok(epoch)
    }

    /// Removes what is kept of a rule. Its epoch stays, so that the causes of its results go on growing if it comes back.
    ///
    /// # Errors
    /// The volume.
    pub fn remove(&self, rule: &str) -> Result<(), StateError> {
        let mut bases = self.bases();
        bases.remove(rule);
        let dir = self.folder(rule);
        // Those that build on others first.
        files_in(&dir)?.iter().try_for_each(|file| delete(&dir.join(file.to_string())))
    }

    /// The rules that have a checkpoint.
    ///
    /// # Errors
    /// The volume.
    pub fn rules(&self) -> Result<Vec<String>, StateError> {
        let mut rules = Vec::new();
        for name in names_in(&self.dir)? {
            if let Some(rule) = name_of_file(&name)
                && !files_in(&self.dir.join(&name))?.is_empty()
            {
                rules.push(rule);
            }
        }
        rules.sort_unstable();
        Ok(rules)
    }

    fn bases(&self) -> MutexGuard<'_, HashMap<String, Base>> {
        self.bases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, rule: &str) -> PathBuf {
        self.dir.join(file_name(rule))
    }

    /// The rule's folder, made if it is not there.
    fn made(&self, rule: &str) -> Result<PathBuf, StateError> {
        let dir = self.folder(rule);
        if !dir.is_dir() {
            fs::create_dir_all(&dir)
                .and_then(|()| sync_folder(&self.dir))
                .map_err(|error| StateError::io(&dir, error))?;
        }
        Ok(dir)
    }
}

/// The checkpoint in a file, put together if it builds on another one; `None` if it has gone.
fn checkpoint_in(dir: &Path, file: FileId) -> Result<Option<Checkpoint>, StateError> {
    let path = dir.join(file.to_string());
    let Some(sealed) = read(&path)? else { return Ok(None) };
    let base = match file.base {
        None => None,
        Some(id) => Some(read(&dir.join(FileId { id, base: None }.to_string()))?.unwrap_or_default()),
    };
    let opened = match &base {
        None => frame::open(KIND, &sealed).map(|(content, _)| content.to_vec()),
        Some(base) => put_together(base, &sealed),
    };
    let checkpoint = opened.and_then(Checkpoint::from_bytes);
    checkpoint.map(Some).map_err(|source| StateError::Frame { path, source })
}

/// The content of a checkpoint that builds on another one; both as they are in their files.
fn put_together(base: &[u8], sealed: &[u8]) -> Result<Vec<u8>, FrameError> {
    let (base, _) = frame::open(KIND, base)?;
    let (delta, _) = frame::open(DELTA, sealed)?;
    let (checksum, delta) = delta.split_first_chunk().ok_or(FrameError::Short)?;
    if u32::from_le_bytes(*checksum) != frame::checksum(base) {
        return Err(FrameError::Damaged);
    }
    delta::apply(base, delta).ok_or(FrameError::Damaged)
}

fn epoch_of(bytes: &[u8]) -> Result<u64, FrameError> {
    let (content, _) = frame::open(EPOCH, bytes)?;
    content.try_into().map(u64::from_le_bytes).map_err(|_| FrameError::Damaged)
}

/// The checkpoints in a rule's folder, newest first.
fn files_in(dir: &Path) -> Result<Vec<FileId>, StateError> {
    let mut files: Vec<FileId> = names_in(dir)?.iter().filter_map(|name| FileId::parse(name)).collect();
    files.sort_unstable_by(|a, b| b.cmp(a));
    Ok(files)
}

/// What a folder holds; nothing if it is not there.
fn names_in(dir: &Path) -> Result<Vec<String>, StateError> {
    let names = |entries: fs::ReadDir| -> io::Result<Vec<String>> {
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    match fs::read_dir(dir).and_then(names) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        names => names.map_err(|error| StateError::io(dir, error)),
    }
}

/// `None` if it is not there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StateError::io(path, error)),
    }
}

fn delete(path: &Path) -> Result<(), StateError> {
    fs::remove_file(path).map_err(|error| StateError::io(path, error))
}

#[cfg(test)]
mod tests;
