//! Everything of a process that is on the volume, opened.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::checkpoint::Checkpoints;
use super::journal::{Journal, Limits, Writer};
use super::volume::{StateError, StateVolume, SyncPolicy};

/// The state volume of a process with what is open on it.
#[derive(Debug)]
pub struct StateStore {
    volume: Arc<StateVolume>,
    checkpoints: Arc<Checkpoints>,
    limits: Limits,
    journals: Mutex<HashMap<String, OpenJournal>>,
    /// By journal, what rules needed when the process started.
    holds: HashMap<String, Vec<(String, u64)>>,
}

/// A journal, and the end that writes to it. Whoever reads the stream holds the lock; who comes next waits for it.
#[derive(Clone, Debug)]
pub struct OpenJournal {
    /// For readers and rules.
    pub journal: Arc<Journal>,
    /// For the one who writes.
    pub writer: Arc<tokio::sync::Mutex<Writer>>,
}

impl StateStore {
    /// Opens the folder `dir`, which no other process may use.
    ///
    /// # Errors
    /// It can't be used.
    pub fn open(dir: &Path, sync: SyncPolicy, limits: Limits) -> Result<Arc<Self>, StateError> {
        let volume = StateVolume::open(dir, sync)?;
        let checkpoints = Checkpoints::open(&volume)?;
        let mut holds: HashMap<String, Vec<(String, u64)>> = HashMap::new();
        for rule in checkpoints.rules()? {
            for place in checkpoints.latest(&rule)?.map(|checkpoint| checkpoint.inputs).unwrap_or_default() {
                holds.entry(place.journal.into()).or_default().push((rule.clone(), place.offset));
            }
        }
        Ok(Arc::new(StateStore { volume, checkpoints, limits, journals: Mutex::default(), holds }))
    }

    /// The folder.
    pub fn volume(&self) -> &Arc<StateVolume> {
        &self.volume
    }

    /// The checkpoints of all rules.
    pub fn checkpoints(&self) -> &Arc<Checkpoints> {
        &self.checkpoints
    }

    /// The journal called `name`, opened if it is not open yet.
    ///
    /// # Errors
    /// The volume.
    pub fn journal(&self, name: &str) -> Result<OpenJournal, StateError> {
        let mut journals = self.journals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = journals.get(name) {
            return Ok(open.clone());
        }
        let holds = self.holds.get(name).cloned().unwrap_or_default();
        let (journal, writer) = Journal::open(&self.volume, name, self.limits, holds)?;
        let open = OpenJournal { journal, writer: Arc::new(tokio::sync::Mutex::new(writer)) };
        journals.insert(name.to_owned(), open.clone());
        Ok(open)
    }

    /// The journals that are open.
    pub fn open_journals(&self) -> Vec<Arc<Journal>> {
        let journals = self.journals.lock().unwrap_or_else(PoisonError::into_inner);
        journals.values().map(|open| Arc::clone(&open.journal)).collect()
    }

    /// The rule is gone for good: nothing is kept for it any more. Blocks on the disk.
    ///
    /// # Errors
    /// The volume.
    pub fn forget(&self, rule: &str) -> Result<(), StateError> {
        self.checkpoints.remove(rule)?;
        self.open_journals().iter().for_each(|journal| journal.forget(rule));
        Ok(())
    }
}
