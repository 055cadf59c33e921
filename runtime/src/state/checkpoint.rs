//! Checkpoints: what a rule needs to go on as if it had never stopped.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use sluice_sql::Timestamp;
use sluice_sql::operators::ChainState;
use sluice_sql::value::state::StateIo;
use smol_str::SmolStr;

use super::frame::{self, Kind};
use super::volume::{StateError, StateVolume};

/// A checkpoint's frame.
const KIND: Kind = Kind { tag: *b"Cp", version: 1 };
/// By rule and number.
const CHECKPOINTS: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("checkpoints");
/// By rule: the newest epoch.
const EPOCHS: TableDefinition<'_, &str, u64> = TableDefinition::new("epochs");
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

/// The checkpoints of all rules. All methods block on the disk.
#[derive(Debug)]
pub struct Checkpoints {
    volume: Arc<StateVolume>,
    /// `None` after an I/O error, a full volume for one: then the store has to be opened anew.
    database: Mutex<Option<Database>>,
    path: PathBuf,
}

impl Checkpoints {
    /// Opens the store of the volume.
    ///
    /// # Errors
    /// The volume.
    pub fn open(volume: &Arc<StateVolume>) -> Result<Arc<Self>, StateError> {
        let database = Mutex::new(Some(volume.store("checkpoints")?));
        let path = volume.dir().join("checkpoints.redb");
        let checkpoints = Checkpoints { volume: Arc::clone(volume), database, path };
        // A table that was never written can't be read.
        checkpoints.write(|transaction| {
            transaction.open_table(CHECKPOINTS)?;
            transaction.open_table(EPOCHS)?;
            Ok(())
        })?;
        Ok(Arc::new(checkpoints))
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StateError> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let open = match database.take() {
            Some(open) => open,
            None => self.volume.store("checkpoints")?,
        };
        let result = work(&open);
        if !matches!(&result, Err(redb::Error::Io(_) | redb::Error::PreviousIo)) {
            *database = Some(open);
        }
        result.map_err(|error| StateError::store(&self.path, error))
    }

    fn write<T>(&self, work: impl FnOnce(&redb::WriteTransaction) -> Result<T, redb::Error>) -> Result<T, StateError> {
        self.with(|database| {
            let transaction = database.begin_write()?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })
    }

    /// Keeps a checkpoint: after a crash it is there, or the one before it is. Older ones go.
    ///
    /// # Errors
    /// The volume; then the one before it is still there.
    pub fn save(&self, rule: &str, id: u64, sealed: &[u8]) -> Result<(), StateError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(CHECKPOINTS)?;
            table.insert((rule, id), sealed)?;
            let ids = ids_of(&table, rule)?;
            for old in ids.iter().rev().skip(KEPT) {
                table.remove((rule, *old))?;
            }
            Ok(())
        })
    }

    /// The newest checkpoint of a rule that is whole. A damaged one is passed over, and said so.
    ///
    /// # Errors
    /// The volume, or a checkpoint that another version has written.
    pub fn latest(&self, rule: &str) -> Result<Option<Checkpoint>, StateError> {
        let found = self.with(|database| {
            let transaction = database.begin_read()?;
            let table = transaction.open_table(CHECKPOINTS)?;
            let mut found = Vec::new();
            for entry in table.range((rule, 0)..=(rule, u64::MAX))?.rev() {
                found.push(entry?.1.value().to_vec());
            }
            Ok(found)
        })?;
        for bytes in found {
            match Checkpoint::open(&bytes) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(source @ frame::FrameError::Version(_)) => {
                    return Err(StateError::Frame { path: self.path.clone(), source });
                }
                Err(error) => tracing::error!(rule, "a checkpoint can't be used, an older one is tried: {error}"),
            }
        }
        Ok(None)
    }

    /// Begins a new epoch of a rule: it starts without its earlier state.
    ///
    /// # Errors
    /// The volume.
    pub fn new_epoch(&self, rule: &str) -> Result<u64, StateError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(EPOCHS)?;
            let epoch = table.get(rule)?.map_or(0, |epoch| epoch.value()) + 1;
            table.insert(rule, epoch)?;
            Ok(epoch)
        })
    }

    /// Removes what is kept of a rule. Its epoch stays, so that the causes of its results go on growing if it comes back.
    ///
    /// # Errors
    /// The volume.
    pub fn remove(&self, rule: &str) -> Result<(), StateError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(CHECKPOINTS)?;
            for id in ids_of(&table, rule)? {
                table.remove((rule, id))?;
            }
            Ok(())
        })
    }

    /// The rules that have a checkpoint.
    ///
    /// # Errors
    /// The volume.
    pub fn rules(&self) -> Result<Vec<String>, StateError> {
        self.with(|database| {
            let transaction = database.begin_read()?;
            let table = transaction.open_table(CHECKPOINTS)?;
            let mut rules: Vec<String> = Vec::new();
            for entry in table.iter()? {
                let (key, _) = entry?;
                let (rule, _) = key.value();
                if rules.last().is_none_or(|last| last != rule) {
                    rules.push(rule.to_owned());
                }
            }
            Ok(rules)
        })
    }
}

fn ids_of(table: &redb::Table<'_, (&'static str, u64), &'static [u8]>, rule: &str) -> Result<Vec<u64>, redb::Error> {
    let mut ids = Vec::new();
    for entry in table.range((rule, 0)..=(rule, u64::MAX))? {
        ids.push(entry?.0.value().1);
    }
    Ok(ids)
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
        store.save("ab", 1, &checkpoint(1).seal()).unwrap();
        assert_eq!(store.latest("a").unwrap(), Some(checkpoint(4)));
        assert_eq!(store.rules().unwrap(), ["a", "ab"]);
        let mut damaged = checkpoint(5).seal();
        *damaged.last_mut().unwrap() ^= 1;
        store.save("a", 5, &damaged).unwrap();
        drop(store);
        let store = Checkpoints::open(&volume).unwrap();
        assert_eq!(store.latest("a").unwrap(), Some(checkpoint(4)));
        store.remove("a").unwrap();
        assert_eq!(store.latest("a").unwrap(), None);
        assert_eq!(store.latest("ab").unwrap(), Some(checkpoint(1)));
        assert_eq!(
            [store.new_epoch("a").unwrap(), store.new_epoch("a").unwrap(), store.new_epoch("b").unwrap()],
            [1, 2, 1]
        );
    }
}
