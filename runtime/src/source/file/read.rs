//! A file in pieces that end where a line or record does.

use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::error::ConnectorError;

/// Bytes that are asked for at once.
const CHUNK_BYTES: usize = 64 << 10;

/// A single line or record, and a file that is taken whole, may not be larger than this.
const MAX_BYTES: usize = 64 << 20;

/// Where a piece may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Only at the end of the file.
    Whole,
    /// Behind a line.
    Lines,
    /// Behind a line that does not end within quotes; the byte stands between two cells.
    Records(u8),
}

/// Where the scan for the end of a record stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Scan {
    /// At the start of a cell: only here does a quote open.
    #[default]
    Start,
    Plain,
    Quoted,
    /// Behind a quote within quotes, which closes them unless another one follows.
    Closed,
}

impl Scan {
    fn step(self, byte: u8, delimiter: u8) -> Self {
        match (self, byte) {
            (Scan::Start | Scan::Closed, b'"') => Scan::Quoted,
            (Scan::Quoted, b'"') => Scan::Closed,
            (Scan::Quoted, _) => Scan::Quoted,
            (_, byte) if byte == delimiter || byte == b'\n' => Scan::Start,
            _ => Scan::Plain,
        }
    }
}

/// Reads a file piece by piece; follows it over rotation and truncation.
pub struct Chunks {
    path: PathBuf,
    file: File,
    cut: Cut,
    follow: bool,
    /// Read, but not given out: the beginning of a line.
    buffer: BytesMut,
    /// Bytes of `buffer` that hold no place to cut.
    n_scanned: usize,
    /// How the scan stands behind them.
    scan: Scan,
    /// Bytes read from the file.
    offset: u64,
    begins_anew: bool,
}

impl Chunks {
    /// Opens the file.
    pub async fn open(path: &Path, cut: Cut, follow: bool) -> Result<Self, ConnectorError> {
        let file = File::open(path).await.map_err(|error| cannot(path, &error))?;
        Ok(Chunks {
            path: path.to_owned(),
            file,
            cut,
            follow,
            buffer: BytesMut::new(),
            n_scanned: 0,
            scan: Scan::Start,
            offset: 0,
            begins_anew: false,
        })
    }

    /// True once after a followed file turned out to be another one, or to have been cut short.
    pub fn begins_anew(&mut self) -> bool {
        std::mem::take(&mut self.begins_anew)
    }

    /// The next piece; `None` at the end of the file, for now if it is followed. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ConnectorError> {
        loop {
            if let Some(end) = self.last_cut() {
                self.n_scanned = 0;
                return Ok(Some(self.buffer.split_to(end).freeze()));
            }
            if self.buffer.len() > MAX_BYTES {
                let what = if self.cut == Cut::Whole { "is itself" } else { "has a line of" };
                let path = self.path.display();
                return Err(ConnectorError::user(format!("{path} {what} more than {} MiB", MAX_BYTES >> 20)));
            }
            self.buffer.reserve(CHUNK_BYTES);
            let n_read = self.file.read_buf(&mut self.buffer).await.map_err(|error| cannot(&self.path, &error))?;
            self.offset += n_read as u64;
            if n_read > 0 {
                continue;
            }
            if !self.follow || self.has_moved_on().await? {
                // What is left is a last line without an end.
                let rest = self.buffer.split().freeze();
                self.n_scanned = 0;
                self.scan = Scan::Start;
                return Ok((!rest.is_empty()).then_some(rest));
            }
            return Ok(None);
        }
    }

    /// The end of the last whole line or record in the buffer.
    fn last_cut(&mut self) -> Option<usize> {
        let fresh = self.buffer.get(self.n_scanned..).unwrap_or_default();
        let cut = match self.cut {
            Cut::Whole => None,
            Cut::Lines => fresh.iter().rposition(|byte| *byte == b'\n'),
            Cut::Records(delimiter) => {
                let mut cut = None;
                for (idx, byte) in fresh.iter().enumerate() {
                    if *byte == b'\n' && self.scan != Scan::Quoted {
                        cut = Some(idx);
                    }
                    self.scan = self.scan.step(*byte, delimiter);
                }
                if cut.is_some() {
                    // What follows is scanned again.
                    self.scan = Scan::Start;
                }
                cut
            }
        };
        let end = cut.map(|newline| self.n_scanned + newline + 1);
        if end.is_none() {
            self.n_scanned = self.buffer.len();
        }
        end
    }

    /// At the end of a followed file: is there another one under its name, or is it shorter than what was read? Then reading
    /// goes on from its start.
    async fn has_moved_on(&mut self) -> Result<bool, ConnectorError> {
        // While a file is being rotated there may be none for a moment.
        let Ok(now) = tokio::fs::metadata(&self.path).await else { return Ok(false) };
        let open = self.file.metadata().await.map_err(|error| cannot(&self.path, &error))?;
        if !is_same(&now, &open) {
            let Ok(file) = File::open(&self.path).await else { return Ok(false) };
            self.file = file;
        } else if open.len() < self.offset {
            self.file.rewind().await.map_err(|error| cannot(&self.path, &error))?;
        } else {
            return Ok(false);
        }
        self.offset = 0;
        self.begins_anew = true;
        Ok(true)
    }
}

/// Tells a file from another one of its name; 0 if there is none.
pub async fn file_id(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    tokio::fs::metadata(path).await.map_or(0, |metadata| metadata.ino())
}

#[cfg(unix)]
fn is_same(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn is_same(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    a.created().ok() == b.created().ok()
}

fn cannot(path: &Path, error: &std::io::Error) -> ConnectorError {
    ConnectorError::user(format!("can't read {}: {error}", path.display()))
}
