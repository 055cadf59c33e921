//! Files: JSON, lines, CSV; once, again at an interval, or followed as they grow.

mod read;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_sql::{Object, Value};
use smol_str::{SmolStr, format_smolstr};

use self::read::{Chunks, Cut};
use super::{Gives, Ingest, Items, Payload, Source, SourceArgs, SourceContext, SourceRow, SourceType};
use crate::error::{ConfigError, ConnectorError};
use crate::format::delimited::delimiter_byte;
use crate::options::HumanDuration;

/// The `file` source.
pub const TYPE: SourceType = SourceType {
    name: "file",
    docs: "Reads a file, or all files of a folder in order of their names (`DATASOURCE`, below `path` if that is set; relative to \
           where the process was started). `fileType` says how it is cut: `json` takes it whole, `lines` line by line, both \
           through `FORMAT`; `csv` record by record. The input ends when all is read, unless `interval` has it read again (of a folder \
           only new and changed files) or `follow` waits for a single file to grow; a followed file may be rotated or cut short. \
           Files are read piece by piece, whatever their size, but for `json`. Metadata: `file`.",
    schema: crate::options::schema_of::<FileOptions>,
    gives: Gives::Payloads,
    build,
};

/// How often a followed file is looked at.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct FileOptions {
    /// The folder that `DATASOURCE` is in.
    path: PathBuf,
    /// How a file is cut into messages; by default as its name says: `.csv` is csv, `.jsonl`, `.ndjson` and `.log` are lines,
    /// others are `json`.
    file_type: Option<FileType>,
    /// Time between two readings; 0 = read once.
    interval: HumanDuration,
    /// Pause between two rows.
    send_interval: HumanDuration,
    /// Wait at the end of the file for more.
    follow: bool,
    /// What becomes of a file that has been read: 0 it stays, 1 it is deleted, 2 it is moved to `moveTo`.
    action_after_read: u8,
    /// The folder for `actionAfterRead: 2`; made if it is not there.
    move_to: Option<PathBuf>,
    /// Lines at the start of each file that are left out.
    ignore_start_lines: usize,
    /// Lines (csv: records) at the end of each file that are left out.
    ignore_end_lines: usize,
    /// csv: the first record names the columns.
    has_header: bool,
    /// csv: the names of the columns; by default `cols0`, `cols1`...
    columns: Vec<String>,
    /// csv: what stands between two columns.
    delimiter: Option<String>,
}

/// How a file is cut into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum FileType {
    /// One message.
    Json,
    /// A message per line.
    Lines,
    /// A row per record.
    Csv,
}

struct FileSource {
    path: PathBuf,
    options: FileOptions,
    delimiter: u8,
    context: Option<SourceContext>,
    /// Files still to read in this round.
    queue: VecDeque<PathBuf>,
    current: Option<OpenFile>,
    /// Files of a folder that were read, with their change times then.
    seen: HashMap<PathBuf, SystemTime>,
    has_begun: bool,
    /// Waiting for the next round, or for a followed file to grow; kept here so that a dropped `next` loses nothing.
    wait_until: Option<tokio::time::Instant>,
    /// Messages or rows that `sendInterval` holds back.
    held: VecDeque<Item>,
    /// The file that the newest items came from, and how many of it were given out.
    place: Place,
    /// Where to begin.
    begin_at: Option<Position>,
    /// Items of the current file that were given out in an earlier life.
    n_to_skip: u64,
}

/// How far a file has been read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    file: PathBuf,
    /// Tells it from another one that took its name.
    id: u64,
    items: u64,
}

/// Where the source stands, as it is written in journals.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Position {
    place: Place,
    /// Files of a folder that were read, with their change times in milliseconds.
    seen: Vec<(PathBuf, u64)>,
}

struct OpenFile {
    path: PathBuf,
    file_type: FileType,
    chunks: Chunks,
    meta: Arc<Object>,
    header: Option<Arc<[SmolStr]>>,
    /// The first record was taken for what it is.
    header_seen: bool,
    n_start_lines: usize,
    /// The last ones may have to be left out.
    tail: VecDeque<Item>,
}

enum Item {
    Payload(Payload),
    Row(SourceRow),
}

fn build(args: &SourceArgs<'_>) -> Result<Box<dyn Source>, ConfigError> {
    let options: FileOptions = args.options.parse()?;
    let mut error = ConfigError::default();
    let path = options.path.join(args.datasource);
    if path.as_os_str().is_empty() {
        error.push("datasource", "name a file or a folder");
    }
    match (options.action_after_read, &options.move_to) {
        (0 | 1, _) | (2, Some(_)) => {}
        (2, None) => error.push("moveTo", "actionAfterRead 2 needs the folder to move files to"),
        _ => error.push("actionAfterRead", "expected 0 (keep), 1 (delete) or 2 (move)"),
    }
    if options.follow && (!options.interval.is_zero() || options.action_after_read != 0) {
        error.push("follow", "a followed file is never done: leave out interval and actionAfterRead");
    }
    if options.follow && options.ignore_end_lines > 0 {
        error.push("ignoreEndLines", "a followed file has no end");
    }
    let delimiter = match delimiter_byte(options.delimiter.as_deref()) {
        Ok(delimiter) => delimiter,
        Err(mut wrong) => {
            error.problems.append(&mut wrong.problems);
            b','
        }
    };
    if !error.problems.is_empty() {
        return Err(error);
    }
    Ok(Box::new(FileSource {
        path,
        options,
        delimiter,
        context: None,
        queue: VecDeque::new(),
        current: None,
        seen: HashMap::new(),
        has_begun: false,
        wait_until: None,
        held: VecDeque::new(),
        place: Place::default(),
        begin_at: None,
        n_to_skip: 0,
    }))
}

#[async_trait]
impl Source for FileSource {
    async fn connect(&mut self, ctx: &SourceContext) -> Result<(), ConnectorError> {
        self.context = Some(ctx.clone());
        if !self.has_begun {
            self.begin_round().await?;
            self.has_begun = true;
        }
        ctx.connector.health.up();
        Ok(())
    }

    fn is_finite(&self) -> bool {
        let FileOptions { interval, send_interval, follow, .. } = &self.options;
        interval.is_zero() && send_interval.is_zero() && !follow
    }

    async fn next(&mut self) -> Result<Option<Ingest>, ConnectorError> {
        loop {
            if let Some(until) = self.wait_until {
                tokio::time::sleep_until(until).await;
                self.wait_until = None;
            }
            if let Some(item) = self.held.pop_front() {
                self.wait_until = Some(tokio::time::Instant::now() + self.options.send_interval.0);
                return Ok(self.ingest(vec![item]));
            }
            if self.current.is_none() && !self.open_next().await? {
                if self.options.interval.is_zero() {
                    return Ok(None);
                }
                self.begin_round().await?;
                self.wait_until = Some(tokio::time::Instant::now() + self.options.interval.0);
                continue;
            }
            let mut items = self.read().await?;
            if self.n_to_skip > 0 {
                let n_skipped = items.len().min(usize::try_from(self.n_to_skip).unwrap_or(usize::MAX));
                items.drain(..n_skipped);
                self.n_to_skip -= n_skipped as u64;
                self.place.items += n_skipped as u64;
            }
            if items.is_empty() {
                continue;
            }
            if self.options.send_interval.is_zero() {
                return Ok(self.ingest(items));
            }
            self.held = items.into();
        }
    }

    fn position(&self) -> Option<String> {
        let millis =
            |time: &SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let is_other = |path: &&PathBuf| **path != self.place.file;
        let seen = self.seen.iter().filter(|(path, _)| is_other(path) && !self.queue.contains(path));
        let seen = seen.map(|(path, changed)| (path.clone(), millis(changed))).collect();
        serde_json::to_string(&Position { place: self.place.clone(), seen }).ok()
    }

    fn resume(&mut self, position: &str) {
        // What another version has written is no position: then all is read from the start.
        self.begin_at = serde_json::from_str(position).ok();
        for (path, millis) in self.begin_at.iter().flat_map(|position| &position.seen) {
            self.seen.insert(path.clone(), SystemTime::UNIX_EPOCH + Duration::from_millis(*millis));
        }
    }

    async fn close(&mut self) {
        self.current = None;
    }
}

impl FileSource {
    /// Lists the files to read: the one, or those of the folder that are new or have changed.
    async fn begin_round(&mut self) -> Result<(), ConnectorError> {
        let path = &self.path;
        let cannot = |error| ConnectorError::user(format!("can't read {}: {error}", path.display()));
        let metadata = tokio::fs::metadata(path).await.map_err(cannot)?;
        if !metadata.is_dir() {
            self.queue = VecDeque::from([path.clone()]);
            return Ok(());
        }
        if self.options.follow {
            return Err(ConnectorError::user(format!(
                "{} is a folder: only a single file can be followed",
                path.display()
            )));
        }
        let mut entries = tokio::fs::read_dir(path).await.map_err(cannot)?;
        let mut files = Vec::new();
        while let Some(entry) = entries.next_entry().await.map_err(cannot)? {
            let metadata = entry.metadata().await.map_err(cannot)?;
            let changed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
            // Positions hold milliseconds.
            let millis =
                |time: &SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map(|since| since.as_millis()).ok();
            let is_seen = self.seen.get(&entry.path()).is_some_and(|seen| millis(seen) == millis(&changed));
            if metadata.is_file() && !is_hidden && !is_seen {
                files.push((entry.path(), changed));
            }
        }
        files.sort();
        // What has gone need not be remembered.
        self.seen.retain(|path, _| path.exists());
        self.queue = files.iter().map(|(path, _)| path.clone()).collect();
        self.seen.extend(files);
        Ok(())
    }

    /// Opens the next file; false if there is none.
    async fn open_next(&mut self) -> Result<bool, ConnectorError> {
        let Some(path) = self.queue.front().cloned() else { return Ok(false) };
        let file_type = self.options.file_type.unwrap_or_else(|| file_type_of(&path));
        if self.options.follow && file_type == FileType::Json {
            let message = "fileType json takes a file as a whole: to follow one, set fileType to lines or csv";
            return Err(ConnectorError::user(message));
        }
        let cut = match file_type {
            FileType::Json => Cut::Whole,
            FileType::Lines => Cut::Lines,
            FileType::Csv => Cut::Records(self.delimiter),
        };
        let chunks = Chunks::open(&path, cut, self.options.follow).await?;
        self.queue.pop_front();
        let id = read::file_id(&path).await;
        self.place = Place { file: path.clone(), id, items: 0 };
        self.n_to_skip = match self.begin_at.take_if(|position| position.place.file == path) {
            Some(Position { place, .. }) if place.id == id => place.items,
            _ => 0,
        };
        let header =
            (!self.options.columns.is_empty()).then(|| self.options.columns.iter().map(SmolStr::new).collect());
        let meta = Arc::new(Object::from_iter([("file", Value::string(path.to_string_lossy()))]));
        let n_start_lines = self.options.ignore_start_lines;
        self.current = Some(OpenFile {
            path,
            file_type,
            chunks,
            meta,
            header,
            header_seen: false,
            n_start_lines,
            tail: VecDeque::new(),
        });
        Ok(true)
    }

    /// A piece of the current file; empty at its end, and while a followed one does not grow.
    async fn read(&mut self) -> Result<Vec<Item>, ConnectorError> {
        let Some(open) = &mut self.current else { return Ok(Vec::new()) };
        let wants_meta = self.context.as_ref().is_some_and(|context| context.wants_meta.load(Ordering::Relaxed));
        if open.chunks.begins_anew() {
            self.place = Place { id: read::file_id(&open.path).await, items: 0, file: open.path.clone() };
            self.n_to_skip = 0;
            open.n_start_lines = self.options.ignore_start_lines;
            open.header_seen = false;
            if self.options.columns.is_empty() {
                open.header = None;
            }
        }
        let chunk = match open.chunks.next().await? {
            Some(chunk) => chunk,
            None if self.options.follow => {
                self.wait_until = Some(tokio::time::Instant::now() + FOLLOW_INTERVAL);
                return Ok(Vec::new());
            }
            None => {
                let path = open.path.clone();
                self.current = None;
                self.after_read(&path).await?;
                return Ok(Vec::new());
            }
        };
        let chunk = open.skip_start_lines(chunk);
        let meta = wants_meta.then(|| Arc::clone(&open.meta));
        let payload = |bytes| Item::Payload(Payload { bytes, meta: meta.clone() });
        let items: Vec<Item> = match open.file_type {
            FileType::Json if chunk.is_empty() => Vec::new(),
            FileType::Json => vec![payload(chunk)],
            FileType::Lines => lines(&chunk).filter(|line| !line.is_empty()).map(payload).collect(),
            FileType::Csv => open.records(&chunk, self.delimiter, self.options.has_header, meta.as_ref())?,
        };
        if self.options.ignore_end_lines == 0 {
            return Ok(items);
        }
        open.tail.extend(items);
        let n_ready = open.tail.len().saturating_sub(self.options.ignore_end_lines);
        Ok(open.tail.drain(..n_ready).collect())
    }

    async fn after_read(&self, path: &Path) -> Result<(), ConnectorError> {
        let outcome = match (self.options.action_after_read, &self.options.move_to) {
            (1, _) => tokio::fs::remove_file(path).await,
            (2, Some(folder)) => move_file(path, folder).await,
            _ => Ok(()),
        };
        outcome.map_err(|error| {
            let action = if self.options.action_after_read == 1 { "delete" } else { "move" };
            ConnectorError::user(format!("{} was read, but can't {action} it: {error}", path.display()))
        })
    }

    fn ingest(&mut self, items: Vec<Item>) -> Option<Ingest> {
        self.place.items += items.len() as u64;
        let (mut payloads, mut rows) = (Vec::new(), Vec::new());
        for item in items {
            match item {
                Item::Payload(payload) => payloads.push(payload),
                Item::Row(row) => rows.push(row),
            }
        }
        let items = if rows.is_empty() { Items::Payloads(payloads) } else { Items::Rows(rows) };
        Some(Ingest { items, ack: None })
    }
}

impl OpenFile {
    fn skip_start_lines(&mut self, mut chunk: Bytes) -> Bytes {
        while self.n_start_lines > 0 && !chunk.is_empty() {
            let line_len = chunk.iter().position(|byte| *byte == b'\n').map_or(chunk.len(), |newline| newline + 1);
            chunk = chunk.slice(line_len..);
            self.n_start_lines -= 1;
        }
        chunk
    }

    /// Whole records to rows. Columns that a short record lacks are missing, surplus ones are left out.
    fn records(
        &mut self,
        chunk: &Bytes,
        delimiter: u8,
        has_header: bool,
        meta: Option<&Arc<Object>>,
    ) -> Result<Vec<Item>, ConnectorError> {
        let mut reader =
            csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).flexible(true).from_reader(&chunk[..]);
        let mut record = csv::ByteRecord::new();
        let mut items = Vec::new();
        while reader.read_byte_record(&mut record).map_err(|error| ConnectorError::user(error.to_string()))? {
            let texts = record.iter().map(|cell| SmolStr::new(String::from_utf8_lossy(cell)));
            if has_header && !self.header_seen {
                self.header_seen = true;
                if self.header.is_none() {
                    self.header = Some(texts.map(|text| text.trim_start_matches('\u{feff}').into()).collect());
                }
                continue;
            }
            let mut object = Object::with_capacity(record.len());
            for (place, text) in texts.enumerate() {
                match &self.header {
                    None => object.insert(format_smolstr!("cols{place}"), Value::String(text)),
                    Some(header) => match header.get(place) {
                        Some(name) => object.insert(name.clone(), Value::String(text)),
                        None => break,
                    },
                }
            }
            items.push(Item::Row(SourceRow { object: Arc::new(object), meta: meta.cloned(), ts: None }));
        }
        Ok(items)
    }
}

fn file_type_of(path: &Path) -> FileType {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => FileType::Csv,
        Some("jsonl" | "ndjson" | "log") => FileType::Lines,
        _ => FileType::Json,
    }
}

fn lines(chunk: &Bytes) -> impl Iterator<Item = Bytes> {
    chunk.split(|byte| *byte == b'\n').map(|line| chunk.slice_ref(line.strip_suffix(b"\r").unwrap_or(line)))
}

async fn move_file(path: &Path, folder: &Path) -> std::io::Result<()> {
    tokio::fs::create_dir_all(folder).await?;
    let target = folder.join(path.file_name().unwrap_or_default());
    if tokio::fs::rename(path, &target).await.is_err() {
        // Another file system.
        tokio::fs::copy(path, &target).await?;
        tokio::fs::remove_file(path).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
