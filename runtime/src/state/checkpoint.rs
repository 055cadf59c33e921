//! Checkpoints: what a rule needs to go on as if it had never stopped.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_sql::Timestamp;
use sluice_sql::operators::ChainState;
use sluice_sql::value::state::StateIo;
use smol_str::SmolStr;

use super::frame::{self, Kind};
use super::volume::{StateError, StateVolume, file_name, name_of_file, replace, sync_folder};

/// A checkpoint's frame.
const KIND: Kind = Kind { tag: *b"Cp", version: 1 };
/// The frame of an epoch.
const EPOCH: Kind = Kind { tag: *b"Ep", version: 1 };
/// The file of a rule's newest epoch.
const EPOCH_FILE: &str = "epoch";
/// Checkpoints of a rule that are kept: the newest, and one more in case it is damaged.
const KEPT: usize = 2;

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

    /// As bytes, with version and checksum.
    pub fn seal(&mut self) -> Vec<u8> {
        let mut io = StateIo::writer();
        self.state(&mut io);
        let mut out = Vec::new();
        frame::seal(KIND, &io.into_bytes(), &mut out);
        out
    }

    fn open(bytes: &[u8]) -> Result<Self, frame::FrameError> {
        let (content, _) = frame::open(KIND, bytes)?;
        let mut io = StateIo::reader(content.to_vec());
        let mut checkpoint = Checkpoint::default();
        checkpoint.state(&mut io);
        if io.is_complete() { Ok(checkpoint) } else { Err(frame::FrameError::Damaged) }
    }
}

/// The checkpoints of all rules: a folder for each, with a file for each checkpoint, named by its number, and one for the epoch.
/// All methods block on the disk.
#[derive(Debug)]
pub struct Checkpoints {
    dir: PathBuf,
    /// One change at a time: two runs of a rule may overlap.
    changing: Mutex<()>,
}

impl Checkpoints {
    /// Opens the folder of the volume.
    ///
    /// # Errors
    /// The volume.
    pub fn open(volume: &StateVolume) -> Result<Arc<Self>, StateError> {
        Ok(Arc::new(Checkpoints { dir: volume.folder("checkpoint")?, changing: Mutex::default() }))
    }

    /// Keeps a checkpoint: after a crash it is there, or the one before it is. Older ones go.
    ///
    /// # Errors
    /// The volume; then the one before it is still there.
    pub fn save(&self, rule: &str, id: u64, sealed: &[u8]) -> Result<(), StateError> {
        let _changing = self.changing();
        let dir = self.made(rule)?;
        replace(&dir.join(id.to_string()), sealed)?;
        for old in ids_in(&dir)?.iter().skip(KEPT) {
            delete(&dir.join(old.to_string()))?;
        }
        Ok(())
    }

    /// The newest checkpoint of a rule that is whole. A damaged one is passed over, and said so.
    ///
    /// # Errors
    /// The volume, or a checkpoint that another version has written.
    pub fn latest(&self, rule: &str) -> Result<Option<Checkpoint>, StateError> {
        let dir = self.folder(rule);
        for id in ids_in(&dir)? {
            let path = dir.join(id.to_string());
            let Some(bytes) = read(&path)? else { continue };
            match Checkpoint::open(&bytes) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(source @ frame::FrameError::Version(_)) => return Err(StateError::Frame { path, source }),
                Err(error) => tracing::error!(rule, "a checkpoint can't be used, an older one is tried: {error}"),
            }
        }
        Ok(None)
    }

    /// Begins a new epoch of a rule: it starts without its earlier state.
    ///
    /// # Errors
    /// The volume, or an epoch that can't be read.
    pub fn new_epoch(&self, rule: &str) -> Result<u64, StateError> {
        let _changing = self.changing();
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
        let _changing = self.changing();
        let dir = self.folder(rule);
        ids_in(&dir)?.iter().try_for_each(|id| delete(&dir.join(id.to_string())))
    }

    /// The rules that have a checkpoint.
    ///
    /// # Errors
    /// The volume.
    pub fn rules(&self) -> Result<Vec<String>, StateError> {
        let mut rules = Vec::new();
        for name in names_in(&self.dir)? {
            if let Some(rule) = name_of_file(&name)
                && !ids_in(&self.dir.join(&name))?.is_empty()
            {
                rules.push(rule);
            }
        }
        rules.sort_unstable();
        Ok(rules)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
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

fn epoch_of(bytes: &[u8]) -> Result<u64, frame::FrameError> {
    let (content, _) = frame::open(EPOCH, bytes)?;
    content.try_into().map(u64::from_le_bytes).map_err(|_| frame::FrameError::Damaged)
}

/// Numbers of the checkpoints in a rule's folder, newest first. What a crash left half-written has another name.
fn ids_in(dir: &Path) -> Result<Vec<u64>, StateError> {
    let mut ids: Vec<u64> = names_in(dir)?.iter().filter_map(|name| name.parse().ok()).collect();
    ids.sort_unstable_by(|a, b| b.cmp(a));
    Ok(ids)
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
mod tests {
    use super::*;
    use crate::state::SyncPolicy;

    fn checkpoint(id: u64) -> Checkpoint {
        let inputs = vec![InputPlace { journal: "s".into(), offset: id * 10, part: 3 }];
        Checkpoint {
            id,
            made_at: -5,
            epoch: 2,
            rule_start: 7,
            seed: u64::MAX,
            fingerprint: 9,
            time: 8,
            step: (8, 1),
            inputs,
            ..Default::default()
        }
    }

    #[test]
    fn the_newest_whole_one_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let volume = StateVolume::open(dir.path(), SyncPolicy::Always).unwrap();
        let store = Checkpoints::open(&volume).unwrap();
        assert_eq!(store.latest("a").unwrap(), None);
        for id in 1..5 {
            store.save("a", id, &checkpoint(id).seal()).unwrap();
        }
        store.save("a/b", 1, &checkpoint(1).seal()).unwrap();
        assert_eq!(store.latest("a").unwrap(), Some(checkpoint(4)));
        assert_eq!(store.rules().unwrap(), ["a", "a/b"]);
        assert_eq!(ids_in(&store.folder("a")).unwrap(), [4, 3]);
        let mut damaged = checkpoint(5).seal();
        *damaged.last_mut().unwrap() ^= 1;
        store.save("a", 5, &damaged).unwrap();
        drop(store);
        let store = Checkpoints::open(&volume).unwrap();
        assert_eq!(store.latest("a").unwrap(), Some(checkpoint(4)));
        store.remove("a").unwrap();
        assert_eq!(store.latest("a").unwrap(), None);
        assert_eq!(store.latest("a/b").unwrap(), Some(checkpoint(1)));
        assert_eq!(
            [store.new_epoch("a").unwrap(), store.new_epoch("a").unwrap(), store.new_epoch("b").unwrap()],
            [1, 2, 1]
        );
        assert_eq!(store.rules().unwrap(), ["a/b"]);
    }
}
