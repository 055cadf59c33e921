//! Notices that files have changed, by looking at them: notifications miss the way in which Kubernetes swaps the files of a
//! mounted Secret.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_millis(500);
/// A change must be this old: whoever writes may not be done.
const SETTLED: Duration = Duration::from_millis(50);
/// Deepest folder.
const MAX_DEPTH: usize = 16;

/// Watches files and folders.
pub struct Watch {
    paths: Vec<PathBuf>,
    interval: Duration,
    seen: Seen,
    content: u64,
}

/// What a file system says of a file without reading it: inode, length, time of change.
type Seen = BTreeMap<PathBuf, (u64, u64, i64, i64)>;

impl Watch {
    /// Changes are counted from now on.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let seen = look(&paths);
        let content = content(&seen);
        Watch { paths, interval: INTERVAL, seen, content }
    }

    /// The same, looking at the files at another interval.
    pub fn every(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Completes when the content of some file has changed, or a file has come or gone. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            tokio::time::sleep(self.interval).await;
            let mut seen = look(&self.paths);
            if seen == self.seen {
                continue;
            }
            loop {
                tokio::time::sleep(SETTLED).await;
                let later = look(&self.paths);
                if later == seen {
                    break;
                }
                seen = later;
            }
            let content = content(&seen);
            self.seen = seen;
            if content != self.content {
                self.content = content;
                return;
            }
        }
    }
}

fn look(paths: &[PathBuf]) -> Seen {
    let mut seen = Seen::new();
    for path in paths {
        look_at(path, 0, &mut seen);
    }
    seen
}

/// What can't be read is not there.
fn look_at(path: &Path, depth: usize, seen: &mut Seen) {
    let Ok(metadata) = std::fs::metadata(path) else { return };
    if !metadata.is_dir() {
        let facts = (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        seen.insert(path.to_owned(), facts);
        return;
    }
    let Ok(entries) = std::fs::read_dir(path) else { return };
    if depth > MAX_DEPTH {
        return;
    }
    for entry in entries.flatten() {
        // The versions of a mounted Secret are in folders that begin with a dot; its files link to the current one.
        if !entry.file_name().to_string_lossy().starts_with('.') {
            look_at(&entry.path(), depth + 1, seen);
        }
    }
}

fn content(seen: &Seen) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in seen.keys() {
        (path, std::fs::read(path).ok()).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    async fn is_noticed(watch: &mut Watch) -> bool {
        tokio::time::timeout(INTERVAL * 4, watch.changed()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn content_counts_and_not_the_time_of_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rule.yaml");
        fs::write(&file, "a").unwrap();
        let mut watch = Watch::new(vec![folder.path().to_owned()]);
        assert!(!is_noticed(&mut watch).await);
        fs::write(&file, "b").unwrap();
        assert!(is_noticed(&mut watch).await, "other content");
        fs::remove_file(&file).unwrap();
        fs::write(&file, "b").unwrap();
        assert!(!is_noticed(&mut watch).await, "same content in a new file");
        fs::create_dir(folder.path().join("more")).unwrap();
        fs::write(folder.path().join("more/stream.yaml"), "c").unwrap();
        assert!(is_noticed(&mut watch).await, "a new file");
        fs::remove_file(&file).unwrap();
        assert!(is_noticed(&mut watch).await, "a file less");
    }

    #[tokio::test(start_paused = true)]
    async fn the_files_of_a_mounted_secret_are_swapped_by_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("..1", "old"), ("..2", "new")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("rule.yaml"), text).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/rule.yaml", at("rule.yaml")).unwrap();
        let mut watch = Watch::new(vec![folder.path().to_owned()]);
        assert!(!is_noticed(&mut watch).await);
        symlink("..2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert!(is_noticed(&mut watch).await);
    }
}
