//! The folder itself.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::frame::FrameError;

/// What the file `format` holds.
const FORMAT: &str = "sluice state 2\n";

/// When what was written is made safe against a loss of power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Before it counts as accepted.
    #[default]
    Always,
    /// At most so much later: what is younger survives a crash of the process, but not of the machine. Spares flash memory.
    Interval(Duration),
}

/// Why state could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process uses the folder.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The folder was written by another version.
    #[error("{}: {found:?} is not a format that this build reads", path.display())]
    Format {
        /// Where.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// A file of ours does not hold what it should.
    #[error("{}: {source}", path.display())]
    Frame {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: FrameError,
    },
}

impl StateError {
    /// An I/O error of a file.
    pub fn io(path: &Path, source: std::io::Error) -> Self {
        StateError::Io { path: path.to_owned(), source }
    }

    /// True if the volume is full.
    pub fn is_full(&self) -> bool {
        matches!(self, StateError::Io { source, .. } if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
    }
}

/// The folder that a process keeps its state in. Locked while it is open.
#[derive(Debug)]
pub struct StateVolume {
    dir: PathBuf,
    sync: SyncPolicy,
    _lock: File,
}

impl StateVolume {
    /// Opens the folder, makes it if it is not there, and locks it against other processes.
    ///
    /// # Errors
    /// It can't be written, is in use, or was written in another format.
    pub fn open(dir: &Path, sync: SyncPolicy) -> Result<Arc<Self>, StateError> {
        std::fs::create_dir_all(dir).map_err(|error| StateError::io(dir, error))?;
        let path = dir.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| StateError::io(&path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateError::InUse(dir.to_owned())),
            Err(TryLockError::Error(error)) => return Err(StateError::io(&path, error)),
        }
        let path = dir.join("format");
        match std::fs::read_to_string(&path) {
            Ok(found) if found == FORMAT => {}
            Ok(found) => {
                return Err(StateError::Format { path, found: found.trim_end().chars().take(80).collect() });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => replace(&path, FORMAT.as_bytes())?,
            Err(error) => return Err(StateError::io(&path, error)),
        }
        Ok(Arc::new(StateVolume { dir: dir.to_owned(), sync, _lock: lock }))
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// When journals and queues are made safe.
    pub fn sync(&self) -> SyncPolicy {
        self.sync
    }

    /// A folder below it, made if it is not there.
    ///
    /// # Errors
    /// It can't be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf, StateError> {
        let path = self.dir.join(name);
        std::fs::create_dir_all(&path).map_err(|error| StateError::io(&path, error))?;
        Ok(path)
    }
}

/// Puts a whole file in place of another one: after a crash there is the old one or the new one.
///
/// # Errors
/// It can't be written.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), StateError> {
    let fresh = path.with_extension("new");
    let write = || {
        let mut file = File::create(&fresh)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        sync_folder(path.parent().unwrap_or(Path::new(".")))
    };
    write().map_err(|error| StateError::io(path, error))
}

/// Makes safe which files a folder holds.
pub(crate) fn sync_folder(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

/// A name from a definition as the name of a file or folder: letters, digits, `-` and `_` stay, everything else is written
/// as `%` and its bytes in hexadecimal, so that no two names become one.
pub fn file_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02x}"));
        }
    }
    out
}

/// The name that [`file_name`] made a file's name from; `None` if it has made no such name.
pub(super) fn name_of_file(file: &str) -> Option<String> {
    let mut parts = file.split('%');
    let mut name = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (byte, rest) = part.split_at_checked(2)?;
        name.push(u8::from_str_radix(byte, 16).ok()?);
        name.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(name).ok().filter(|name| file_name(name) == file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opened_once() {
        let dir = tempfile::tempdir().unwrap();
        let open = || StateVolume::open(&dir.path().join("a/b"), SyncPolicy::Always);
        let volume = open().unwrap();
        assert!(matches!(open(), Err(StateError::InUse(_))));
        drop(volume);
        let volume = open().unwrap();
        assert!(volume.folder("queue").unwrap().is_dir());
    }

    #[test]
    fn another_format() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("format"), "sluice state 9\n").unwrap();
        let error = StateVolume::open(dir.path(), SyncPolicy::Always).unwrap_err().to_string();
        assert!(error.ends_with("format: \"sluice state 9\" is not a format that this build reads"), "{error}");
    }

    #[test]
    fn names_of_files() {
        for (name, expected) in [("demo_1-x", "demo_1-x"), ("a/b", "a%2fb"), ("..", "%2e%2e"), ("ä%", "%c3%a4%25")] {
            assert_eq!(file_name(name), expected);
            assert_eq!(name_of_file(expected).as_deref(), Some(name));
        }
        for other in ["a.new", "a%2", "a%zz", "%61", "a b"] {
            assert_eq!(name_of_file(other), None, "{other}");
        }
    }
}
