//! The end that reads again.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::record::{self, Record};
use super::{Journal, StateError};
use crate::state::frame::FrameError;

/// Bytes that are read at once.
const READ_BYTES: usize = 256 << 10;

/// Reads the records of a journal from an offset on, while others are appended.
#[derive(Debug)]
pub struct Reader {
    journal: Arc<Journal>,
    next: u64,
    /// The open segment: its first offset, its file, where to read on.
    segment: Option<(u64, File, u64)>,
    /// Read from the file, and not used up.
    buffer: Vec<u8>,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Read {
    /// In order; none if there is no more for now.
    pub records: Vec<Record>,
    /// Records that should have come before these and are not there any more, or damaged.
    pub n_missing: u64,
}

impl Reader {
    /// Reads from `offset` on.
    pub fn new(journal: Arc<Journal>, offset: u64) -> Self {
        Reader { journal, next: offset, segment: None, buffer: Vec::new() }
    }

    /// The journal.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// The offset of the record that comes next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The next records. Blocks on the file.
    ///
    /// # Errors
    /// The volume. Damaged records are no error: they are passed over and counted.
    pub fn read(&mut self) -> Result<Read, StateError> {
        let mut read = Read::default();
        while read.records.is_empty() && self.next < self.journal.end() {
            if self.segment.is_none() && !self.open(&mut read)? {
                break;
            }
            self.fill()?;
            let is_last = self.take(&mut read)?;
            if is_last {
                self.segment = None;
                self.buffer.clear();
            }
        }
        Ok(read)
    }

    /// Opens the segment that holds the next record, or the first one behind it.
    fn open(&mut self, read: &mut Read) -> Result<bool, StateError> {
        let segments: Vec<u64> = self.journal.state().segments.iter().map(|segment| segment.first).collect();
        let place = segments.partition_point(|first| *first <= self.next);
        let first = match place.checked_sub(1).and_then(|place| segments.get(place)) {
            Some(first) => *first,
            None => {
                // Everything up to the first segment is gone.
                let Some(first) = segments.first() else { return Ok(false) };
                read.n_missing += first - self.next;
                self.next = *first;
                *first
            }
        };
        let path = self.journal.segment(first);
        let file = File::open(&path).map_err(|error| StateError::io(&path, error))?;
        self.segment = Some((first, file, 0));
        self.buffer.clear();
        Ok(true)
    }

    fn fill(&mut self) -> Result<(), StateError> {
        let Some((first, file, at)) = &mut self.segment else { return Ok(()) };
        let n_before = self.buffer.len();
        self.buffer.resize(n_before + READ_BYTES, 0);
        let n_read = file
            .read_at(self.buffer.get_mut(n_before..).unwrap_or_default(), *at)
            .map_err(|error| StateError::io(&self.journal.segment(*first), error))?;
        self.buffer.truncate(n_before + n_read);
        *at += n_read as u64;
        Ok(())
    }

    /// Takes the whole records out of the buffer. True if the segment holds no more.
    fn take(&mut self, read: &mut Read) -> Result<bool, StateError> {
        let end = self.journal.end();
        let mut n_used = 0;
        let mut is_last = false;
        while self.next < end {
            let rest = self.buffer.get(n_used..).unwrap_or_default();
            match record::read(rest) {
                Ok((record, n_bytes)) => {
                    n_used += n_bytes;
                    if record.offset >= self.next {
                        read.n_missing += record.offset - self.next;
                        self.next = record.offset + 1;
                        read.records.push(record);
                    }
                }
                Err(FrameError::Short) => {
                    // More of it may be in the file; if not, the next segment goes on.
                    is_last = self.is_at_end(rest.len())?;
                    break;
                }
                Err(error) => {
                    tracing::error!(
                        stream = self.journal.name,
                        offset = self.next,
                        "a record of the journal is lost: {error}"
                    );
                    is_last = true;
                    break;
                }
            }
        }
        self.buffer.drain(..n_used);
        if is_last && self.next < end {
            self.skip_to_next_segment(read);
        }
        Ok(is_last)
    }

    /// True if the file holds nothing behind what is in the buffer.
    fn is_at_end(&self, _n_rest: usize) -> Result<bool, StateError> {
        let Some((first, file, at)) = &self.segment else { return Ok(true) };
        let n_bytes = file.metadata().map_err(|error| StateError::io(&self.journal.segment(*first), error))?.len();
        Ok(*at >= n_bytes)
    }

    /// What is missing between here and the next segment can't be read.
    fn skip_to_next_segment(&mut self, read: &mut Read) {
        let Some((first, ..)) = &self.segment else { return };
        let following = self.journal.state().segments.iter().map(|segment| segment.first).find(|next| next > first);
        let next = following.unwrap_or_else(|| self.journal.end());
        if next > self.next {
            read.n_missing += next - self.next;
            self.next = next;
        }
    }
}
