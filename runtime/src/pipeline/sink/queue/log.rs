//! A queue on disk: records in segments, oldest first, and how far they have been taken.
//!
//! ```text
//! DIR/00000000000000000000.log   records, each a frame; the number is that of the first one
//! DIR/head                       what has been taken: two slots that are written in turn
//! ```
//!
//! Blocking: callers keep it off the async threads. After a crash it holds everything that was appended and synced and not
//! taken; what was taken in the last moment may come again.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::state::{Cause, StateError, SyncPolicy, frame, sync_folder};

const RECORD: frame::Kind = frame::Kind { tag: *b"SQ", version: 1 };
const HEAD: frame::Kind = frame::Kind { tag: *b"SH", version: 1 };
/// Bytes of a slot in the head file.
const HEAD_SLOT: usize = 128;

/// One record, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// When it was given to the queue.
    pub at: i64,
    /// Rows that it carries.
    pub n_rows: u32,
    /// What caused it.
    pub cause: Option<Cause>,
    /// No more records of this cause follow.
    pub is_last: bool,
    /// The item.
    pub payload: Vec<u8>,
}

/// What is known of a record without reading it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    n_bytes: u32,
    n_rows: u32,
}

#[derive(Debug)]
struct Segment {
    /// Number of the first record.
    first: u64,
    /// Bytes of its records.
    n_bytes: u64,
}

/// The head: how far records have been taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Head {
    /// Goes up with every write.
    version: u64,
    /// The first record that has not been taken.
    next: u64,
    /// The newest cause of which everything has been taken.
    cause: Option<Cause>,
}

/// A queue on disk.
#[derive(Debug)]
pub(super) struct Log {
    dir: PathBuf,
    sync: SyncPolicy,
    segment_bytes: u64,
    segments: VecDeque<Segment>,
    /// The records that have not been taken.
    entries: VecDeque<Entry>,
    /// Where the first of them is in the first segment.
    offset: u64,
    /// Number of the next record to be appended.
    next_number: u64,
    head: Head,
    head_file: Option<File>,
    writer: Option<File>,
    n_bytes: u64,
    n_rows: u64,
    /// The newest cause of which everything has been given to the queue.
    cause: Option<Cause>,
    synced: Option<Instant>,
    /// What could not be read when it was opened.
    pub damage: Vec<String>,
}

impl Log {
    /// Opens what is there, or an empty queue; the folder is made when something is written.
    ///
    /// # Errors
    /// The volume.
    pub fn open(dir: &Path, sync: SyncPolicy, segment_bytes: u64) -> Result<Self, StateError> {
        let mut log = Log {
            dir: dir.to_owned(),
            sync,
            segment_bytes,
            segments: VecDeque::new(),
            entries: VecDeque::new(),
            offset: 0,
            next_number: 0,
            head: Head::default(),
            head_file: None,
            writer: None,
            n_bytes: 0,
            n_rows: 0,
            cause: None,
            synced: None,
            damage: Vec::new(),
        };
        if dir.is_dir() {
            log.read_head()?;
            log.read_segments()?;
        }
        log.cause = log.cause.max(log.head.cause);
        Ok(log)
    }

    /// Records that have not been taken.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of them.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Rows of them.
    pub fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// The newest cause of which everything has been given to the queue.
    pub fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// Appends records and makes them safe. If it fails, none of them is there.
    ///
    /// # Errors
    /// The volume.
    pub fn append(&mut self, records: &[Record]) -> Result<(), StateError> {
        if records.is_empty() {
            return Ok(());
        }
        let is_full = self.segments.back().is_none_or(|segment| segment.n_bytes >= self.segment_bytes);
        if self.writer.is_none() || is_full {
            self.begin_segment()?;
        }
        let mut bytes = Vec::new();
        let mut entries = Vec::with_capacity(records.len());
        for record in records {
            let start = frame::begin(RECORD, &mut bytes);
            record.encode(&mut bytes);
            frame::finish(start, &mut bytes);
            let n_bytes = u32::try_from(bytes.len() - start).unwrap_or(u32::MAX);
            entries.push(Entry { n_bytes, n_rows: record.n_rows });
        }
        let is_due = match self.sync {
            SyncPolicy::Always => true,
            SyncPolicy::Interval(interval) => self.synced.is_none_or(|synced| synced.elapsed() >= interval),
        };
        let (Some(file), Some(segment)) = (&mut self.writer, self.segments.back_mut()) else { return Ok(()) };
        let written = file.write_all(&bytes).and_then(|()| if is_due { file.sync_data() } else { Ok(()) });
        if let Err(error) = written {
            // What got there must not be read later: whoever gave it keeps it.
            let _ = file.set_len(segment.n_bytes);
            let _ = file.seek(SeekFrom::Start(segment.n_bytes));
            return Err(StateError::io(&segment_path(&self.dir, segment.first), error));
        }
        if is_due {
            self.synced = Some(Instant::now());
        }
        segment.n_bytes += bytes.len() as u64;
        self.n_bytes += bytes.len() as u64;
        self.n_rows += entries.iter().map(|entry| u64::from(entry.n_rows)).sum::<u64>();
        self.next_number += entries.len() as u64;
        self.entries.extend(entries);
        let ends = records.iter().filter(|record| record.is_last).filter_map(|record| record.cause);
        self.cause = self.cause.max(ends.max());
        Ok(())
    }

    /// Reads the first records, without taking them: up to `max_items`, and after the first one up to `max_bytes`.
    ///
    /// # Errors
    /// The volume, or bits have changed.
    pub fn peek(&self, max_items: usize, max_bytes: u64) -> Result<Vec<Record>, StateError> {
        let mut n_items = 0;
        let mut n_bytes = 0;
        for entry in self.entries.iter().take(max_items) {
            if n_items > 0 && n_bytes + u64::from(entry.n_bytes) > max_bytes {
                break;
            }
            n_items += 1;
            n_bytes += u64::from(entry.n_bytes);
        }
        let mut records = Vec::with_capacity(n_items);
        let mut offset = self.offset;
        let mut segments = self.segments.iter();
        let mut bytes = Vec::new();
        while records.len() < n_items {
            let Some(segment) = segments.next() else { break };
            let path = segment_path(&self.dir, segment.first);
            let n_left = usize::try_from(n_bytes.min(segment.n_bytes.saturating_sub(offset))).unwrap_or(usize::MAX);
            bytes.resize(n_left, 0);
            let file = File::open(&path).map_err(|error| StateError::io(&path, error))?;
            file.read_exact_at(&mut bytes, offset).map_err(|error| StateError::io(&path, error))?;
            let mut rest = bytes.as_slice();
            while records.len() < n_items && !rest.is_empty() {
                let (content, behind) =
                    frame::open(RECORD, rest).map_err(|source| StateError::Frame { path: path.clone(), source })?;
                n_bytes -= (rest.len() - behind.len()) as u64;
                rest = behind;
                records.push(
                    Record::decode(content)
                        .ok_or_else(|| StateError::Frame { path: path.clone(), source: frame::FrameError::Damaged })?,
                );
            }
            offset = 0;
        }
        Ok(records)
    }

    /// Takes the first `n_items` records, and notes that everything of `cause` has been taken. Gives the rows in them.
    ///
    /// # Errors
    /// The volume: then they are taken all the same, but may come again after a crash.
    pub fn take(&mut self, n_items: usize, cause: Option<Cause>) -> Result<u64, StateError> {
        let mut n_rows = 0;
        for _ in 0..n_items {
            let Some(entry) = self.entries.pop_front() else { break };
            self.head.next += 1;
            self.n_bytes -= u64::from(entry.n_bytes);
            n_rows += u64::from(entry.n_rows);
            self.offset += u64::from(entry.n_bytes);
            if self.segments.len() > 1 && self.segments.front().is_some_and(|first| self.offset >= first.n_bytes) {
                self.remove_first();
            }
        }
        self.n_rows -= n_rows;
        self.cause = self.cause.max(cause);
        if self.entries.is_empty() {
            self.writer = None;
            while !self.segments.is_empty() {
                self.remove_first();
            }
            self.head.next = self.next_number;
        }
        self.write_head(cause)?;
        Ok(n_rows)
    }

    /// Drops the oldest segment of which nothing is in use, to make room; the first `n_in_use` records are. Gives the rows that
    /// were in it, `None` if there is no such segment.
    pub fn drop_oldest(&mut self, n_in_use: usize) -> Option<u64> {
        let in_use: u64 = self.entries.iter().take(n_in_use).map(|entry| u64::from(entry.n_bytes)).sum();
        let mut before = 0;
        let mut victim = None;
        for (segment_idx, segment) in self.segments.iter().enumerate() {
            let n_left = if segment_idx == 0 { segment.n_bytes - self.offset } else { segment.n_bytes };
            if before >= in_use && n_left > 0 {
                victim = Some((segment_idx, n_left));
                break;
            }
            before += n_left;
        }
        let (segment_idx, n_bytes) = victim?;
        if segment_idx + 1 == self.segments.len() {
            // New records go to a new one.
            self.writer = None;
        }
        let mut at = 0;
        let mut range = 0..0;
        for (entry_idx, entry) in self.entries.iter().enumerate() {
            if at == before {
                range.start = entry_idx;
            }
            at += u64::from(entry.n_bytes);
            if at == before + n_bytes {
                range.end = entry_idx + 1;
                break;
            }
        }
        let n_rows = self.entries.drain(range).map(|entry| u64::from(entry.n_rows)).sum::<u64>();
        self.n_bytes -= n_bytes;
        self.n_rows -= n_rows;
        if segment_idx == 0 {
            self.remove_first();
            // If it fails, what was dropped may come again after a crash.
            let _ = self.write_head(None);
        } else if let Some(victim) = self.segments.remove(segment_idx) {
            let _ = std::fs::remove_file(segment_path(&self.dir, victim.first));
        }
        Some(n_rows)
    }

    fn remove_first(&mut self) {
        if let Some(first) = self.segments.pop_front() {
            // A file that stays is recognised by the head when the queue is opened again.
            let _ = std::fs::remove_file(segment_path(&self.dir, first.first));
        }
        self.offset = 0;
        // Where a segment was dropped, the numbers have a gap.
        if let Some(first) = self.segments.front() {
            self.head.next = self.head.next.max(first.first);
        }
    }

    fn begin_segment(&mut self) -> Result<(), StateError> {
        std::fs::create_dir_all(&self.dir).map_err(|error| StateError::io(&self.dir, error))?;
        let first = self.next_number;
        let path = segment_path(&self.dir, first);
        let open = || {
            let file = OpenOptions::new().create(true).write(true).truncate(true).open(&path)?;
            sync_folder(&self.dir)?;
            Ok(file)
        };
        let file = open().map_err(|error| StateError::io(&path, error))?;
        self.writer = Some(file);
        self.segments.push_back(Segment { first, n_bytes: 0 });
        Ok(())
    }

    fn write_head(&mut self, cause: Option<Cause>) -> Result<(), StateError> {
        self.head.version += 1;
        self.head.cause = self.head.cause.max(cause);
        let path = self.dir.join("head");
        let mut bytes = Vec::with_capacity(HEAD_SLOT);
        frame::seal(HEAD, &self.head.encode(), &mut bytes);
        bytes.resize(HEAD_SLOT, 0);
        let mut write = || {
            if self.head_file.is_none() {
                std::fs::create_dir_all(&self.dir)?;
                let open = OpenOptions::new().create(true).read(true).write(true).truncate(false).open(&path)?;
                self.head_file = Some(open);
            }
            match &self.head_file {
                Some(file) => file.write_all_at(&bytes, (self.head.version % 2) * HEAD_SLOT as u64),
                None => Ok(()),
            }
        };
        write().map_err(|error| StateError::io(&path, error))
    }

    /// Makes the head safe against a loss of power, too.
    ///
    /// # Errors
    /// The volume.
    pub fn sync_head(&self) -> Result<(), StateError> {
        match &self.head_file {
            Some(file) => file.sync_data().map_err(|error| StateError::io(&self.dir.join("head"), error)),
            None => Ok(()),
        }
    }

    fn read_head(&mut self) -> Result<(), StateError> {
        let path = self.dir.join("head");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(StateError::io(&path, error)),
        };
        let heads = bytes.chunks(HEAD_SLOT).filter_map(|slot| frame::open(HEAD, slot).ok());
        let newest = heads.filter_map(|(content, _)| Head::decode(content)).max_by_key(|head| head.version);
        self.head = newest.unwrap_or_default();
        Ok(())
    }

    /// Finds what has not been taken. What is damaged ends its segment; what is behind the last whole cause goes, since it
    /// comes again.
    fn read_segments(&mut self) -> Result<(), StateError> {
        let mut firsts = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(|error| StateError::io(&self.dir, error))?.flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse::<u64>().ok());
            firsts.extend(number);
        }
        firsts.sort_unstable();
        let mut next = self.head.next;
        for (idx, first) in firsts.iter().enumerate() {
            let path = segment_path(&self.dir, *first);
            // Whole segments that have been taken: the next one begins before or at the head.
            if firsts.get(idx + 1).is_some_and(|second| *second <= self.head.next) {
                let _ = std::fs::remove_file(&path);
                continue;
            }
            let mut bytes = Vec::new();
            File::open(&path)
                .and_then(|mut file| file.read_to_end(&mut bytes))
                .map_err(|error| StateError::io(&path, error))?;
            let mut rest = bytes.as_slice();
            let mut number = *first;
            // The end of the last record that stays.
            let mut end = 0;
            let mut open_cause = Vec::new();
            while !rest.is_empty() {
                let damage = match frame::open(RECORD, rest) {
                    Ok((content, behind)) => Record::decode(content).map(|record| (record, behind)).ok_or(true),
                    // A crash in the middle of an append.
                    Err(frame::FrameError::Short) => Err(idx + 1 < firsts.len()),
                    Err(frame::FrameError::Damaged) => Err(true),
                    // Of another version: not ours to cut.
                    Err(source) => return Err(StateError::Frame { path, source }),
                };
                let (record, behind) = match damage {
                    Ok(found) => found,
                    Err(is_damage) => {
                        if is_damage {
                            self.damage.push(format!("{}: {} bytes can't be read", path.display(), rest.len()));
                        }
                        break;
                    }
                };
                let n_bytes = (rest.len() - behind.len()) as u64;
                rest = behind;
                if number >= self.head.next {
                    open_cause
                        .push(Entry { n_bytes: u32::try_from(n_bytes).unwrap_or(u32::MAX), n_rows: record.n_rows });
                    if record.cause.is_none() || record.is_last {
                        end = (bytes.len() - rest.len()) as u64;
                        for entry in open_cause.drain(..) {
                            self.n_bytes += u64::from(entry.n_bytes);
                            self.n_rows += u64::from(entry.n_rows);
                            self.entries.push_back(entry);
                        }
                        self.cause = self.cause.max(record.cause);
                    }
                } else {
                    self.offset += n_bytes;
                    end = (bytes.len() - rest.len()) as u64;
                }
                number += 1;
            }
            if end < bytes.len() as u64 {
                let file = OpenOptions::new().write(true).open(&path).map_err(|error| StateError::io(&path, error))?;
                file.set_len(end).map_err(|error| StateError::io(&path, error))?;
            }
            next = next.max(number);
            if end == 0 {
                let _ = std::fs::remove_file(&path);
                continue;
            }
            self.segments.push_back(Segment { first: *first, n_bytes: end });
        }
        self.next_number = next;
        if self.entries.is_empty() {
            while !self.segments.is_empty() {
                self.remove_first();
            }
            self.head.next = next;
        } else if let Some(first) = self.segments.front() {
            // Where a segment was dropped, the numbers have a gap.
            self.head.next = self.head.next.max(first.first);
        }
        Ok(())
    }
}

impl Record {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.at.to_le_bytes());
        out.extend_from_slice(&self.n_rows.to_le_bytes());
        out.push(u8::from(self.cause.is_some()) | u8::from(self.is_last) << 1);
        if let Some(cause) = &self.cause {
            encode_cause(cause, out);
        }
        out.extend_from_slice(&self.payload);
    }

    fn decode(content: &[u8]) -> Option<Record> {
        let mut rest = content;
        let at = i64::from_le_bytes(take(&mut rest)?);
        let n_rows = u32::from_le_bytes(take(&mut rest)?);
        let [flags] = take(&mut rest)?;
        let cause = if flags & 1 == 1 { Some(decode_cause(&mut rest)?) } else { None };
        Some(Record { at, n_rows, cause, is_last: flags & 2 == 2, payload: rest.to_vec() })
    }
}

impl Head {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.next.to_le_bytes());
        if let Some(cause) = &self.cause {
            encode_cause(cause, &mut out);
        }
        out
    }

    fn decode(content: &[u8]) -> Option<Head> {
        let mut rest = content;
        let version = u64::from_le_bytes(take(&mut rest)?);
        let next = u64::from_le_bytes(take(&mut rest)?);
        let cause = if rest.is_empty() { None } else { Some(decode_cause(&mut rest)?) };
        Some(Head { version, next, cause })
    }
}

fn encode_cause(cause: &Cause, out: &mut Vec<u8>) {
    let Cause { epoch, time, step, ordinal } = *cause;
    out.extend_from_slice(&epoch.to_le_bytes());
    out.extend_from_slice(&time.to_le_bytes());
    out.extend_from_slice(&step.to_le_bytes());
    out.extend_from_slice(&ordinal.to_le_bytes());
}

fn decode_cause(rest: &mut &[u8]) -> Option<Cause> {
    Some(Cause {
        epoch: u64::from_le_bytes(take(rest)?),
        time: i64::from_le_bytes(take(rest)?),
        step: u64::from_le_bytes(take(rest)?),
        ordinal: u64::from_le_bytes(take(rest)?),
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*first)
}

fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u64) -> Record {
        Record { at: 5, n_rows: 2, payload: format!("record {n}").into_bytes(), ..Record::default() }
    }

    fn caused(n: u64, is_last: bool) -> Record {
        Record { cause: Some(Cause { step: n, ..Cause::default() }), is_last, ..record(n) }
    }

    fn cause(n: u64) -> Option<Cause> {
        caused(n, true).cause
    }

    fn open(dir: &Path) -> Log {
        Log::open(dir, SyncPolicy::Always, 140).unwrap()
    }

    fn numbers(log: &Log) -> Vec<u64> {
        let records = log.peek(usize::MAX, u64::MAX).unwrap();
        records.iter().map(|record| String::from_utf8_lossy(&record.payload)[7..].parse().unwrap()).collect()
    }

    fn files(dir: &Path) -> usize {
        std::fs::read_dir(dir).map_or(0, |entries| {
            entries.flatten().filter(|entry| entry.path().extension().is_some_and(|ext| ext == "log")).count()
        })
    }

    #[test]
    fn records_come_out_in_order_also_after_it_was_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("sink");
        let mut log = open(&dir);
        for first in (0..30).step_by(3) {
            log.append(&[record(first), record(first + 1), record(first + 2)]).unwrap();
        }
        assert_eq!(numbers(&log), (0..30).collect::<Vec<_>>());
        assert!(files(&dir) > 3, "in segments");
        assert_eq!((log.len(), log.n_rows()), (30, 60));
        let mut n_taken = 0;
        for n in [1, 4, 0, 7] {
            assert_eq!(log.take(n, None).unwrap(), 2 * n as u64);
            n_taken += n as u64;
            assert_eq!(numbers(&log), (n_taken..30).collect::<Vec<_>>());
            let n_bytes = log.n_bytes();
            log = open(&dir);
            assert_eq!(numbers(&log), (n_taken..30).collect::<Vec<_>>());
            assert_eq!((log.n_bytes(), log.damage.len()), (n_bytes, 0));
        }
        log.append(&[record(30)]).unwrap();
        assert_eq!(log.peek(2, 1).unwrap().len(), 1, "one record always comes");
        log.take(100, None).unwrap();
        assert_eq!((log.len(), log.n_bytes(), files(&dir)), (0, 0, 0));
        log = open(&dir);
        log.append(&[record(40)]).unwrap();
        assert_eq!(numbers(&open(&dir)), [40]);
    }

    #[test]
    fn a_crash_in_the_middle_of_an_append_costs_that_append_only() {
        let whole = tempfile::tempdir().unwrap();
        let mut log = Log::open(whole.path(), SyncPolicy::Always, 1 << 20).unwrap();
        log.append(&[record(0), record(1)]).unwrap();
        let path = segment_path(whole.path(), 0);
        let n_before = std::fs::metadata(&path).unwrap().len();
        log.append(&[record(2)]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for n_bytes in n_before..bytes.len() as u64 {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(segment_path(dir.path(), 0), &bytes[..n_bytes as usize]).unwrap();
            let mut log = open(dir.path());
            assert_eq!((numbers(&log), log.damage.len()), (vec![0, 1], 0), "{n_bytes} bytes");
            log.append(&[record(9)]).unwrap();
            assert_eq!(numbers(&open(dir.path())), [0, 1, 9]);
        }
        let mut damaged = bytes.clone();
        damaged[n_before as usize - 1] ^= 1;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(segment_path(dir.path(), 0), &damaged).unwrap();
        let log = open(dir.path());
        assert_eq!((numbers(&log), log.damage.len()), (vec![0], 1), "what is behind damage can't be trusted");
    }

    #[test]
    fn a_cause_counts_when_all_of_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path());
        log.append(&[caused(1, true), caused(2, false), caused(2, true)]).unwrap();
        assert_eq!(log.cause(), cause(2));
        // A crash before the rest of the third.
        log.append(&[caused(3, false)]).unwrap();
        let mut log = open(dir.path());
        assert_eq!((numbers(&log), log.cause()), (vec![1, 2, 2], cause(2)), "the third comes again, whole");
        log.append(&[caused(3, false), caused(3, true)]).unwrap();
        log.take(5, cause(7)).unwrap();
        let mut log = open(dir.path());
        assert_eq!((log.len(), log.cause()), (0, cause(7)), "what went past the disk counts, too");
        log.take(0, cause(8)).unwrap();
        assert_eq!(open(dir.path()).cause(), cause(8));
    }

    #[test]
    fn the_oldest_segment_that_is_not_in_use_goes_first() {
        for (n_in_use, expected) in [(0, vec![4, 5, 6, 7, 8, 9, 10, 11]), (1, vec![0, 1, 2, 3, 8, 9, 10, 11])] {
            let dir = tempfile::tempdir().unwrap();
            let mut log = open(dir.path());
            for n in 0..12 {
                log.append(&[record(n)]).unwrap();
            }
            let n_bytes = log.n_bytes();
            assert_eq!(log.drop_oldest(n_in_use), Some(8), "four records of two rows each");
            assert_eq!(numbers(&log), expected);
            assert!(log.n_bytes() < n_bytes);
            assert_eq!(numbers(&open(dir.path())), expected);
            log.take(5, None).unwrap();
            log.append(&[record(12)]).unwrap();
            let rest: Vec<u64> = expected[5..].iter().copied().chain([12]).collect();
            assert_eq!(numbers(&log), rest);
            assert_eq!(numbers(&open(dir.path())), rest, "numbers with a gap");
        }
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path());
        log.append(&[record(0)]).unwrap();
        assert_eq!(log.drop_oldest(1), None);
        assert_eq!(log.drop_oldest(0), Some(2));
        log.append(&[record(1)]).unwrap();
        assert_eq!(numbers(&open(dir.path())), [1]);
    }
}
