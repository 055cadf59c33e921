//! Dead letters: what a sink can't write, with the reason, as rows for another sink or a file.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use schemars::{JsonSchema, Schema as JsonSchemaText, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use sluice_sql::value::{Column, ColumnKind};
use sluice_sql::{Batch, Row, Schema, Type, Value};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;

use super::{SinkDriver, SinkParts};
use crate::connection::ConnectorContext;
use crate::definition::SinkDef;
use crate::error::{ConfigError, ConnectorError};
use crate::options::{ByteSize, Options};
use crate::pipeline::build::context;
use crate::pipeline::channel::Sender;
use crate::pipeline::metrics::SinkMetrics;
use crate::pipeline::outlet::ToSink;
use crate::sink::{Output, Sink, SinkArgs, SinkError, SinkType, Takes};

/// The option `deadLetter`: a sink entry of its own.
#[derive(Clone, Debug)]
pub(super) struct DeadLetter(Options);

impl<'de> Deserialize<'de> for DeadLetter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_json::Map::deserialize(deserializer).map(|map| DeadLetter(Options(map)))
    }
}

impl JsonSchema for DeadLetter {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DeadLetter".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> JsonSchemaText {
        json_schema!({ "type": "object", "additionalProperties": true })
    }
}

/// Something that could not be written.
#[derive(Debug)]
pub(super) struct Aside {
    /// Why.
    pub reason: String,
    /// Rows in it.
    pub n_rows: u64,
    /// The message, if it came to one.
    pub payload: Option<Bytes>,
    /// The row, for a sink that takes rows, and where no message could be made.
    pub row: Option<Value>,
}

/// The way to the sink for dead letters.
#[derive(Clone)]
pub(super) struct DeadLetters {
    pub(super) sender: Sender<ToSink>,
    pub(super) rule: Arc<str>,
    pub(super) sink: Arc<str>,
    pub(super) clock: Arc<dyn crate::time::Clock>,
}

impl DeadLetters {
    /// Sends what could not be written, and waits for room.
    pub(super) async fn send(&self, asides: Vec<Aside>) {
        if asides.is_empty() {
            return;
        }
        let at = self.clock.now();
        let row = |aside: Aside| {
            let (payload, base64) = match aside.payload.as_deref().map(|bytes| (std::str::from_utf8(bytes), bytes)) {
                None => (Value::Missing, Value::Missing),
                Some((Ok(text), _)) => (Value::string(text), Value::Missing),
                Some((Err(_), bytes)) => (Value::Missing, Value::string(STANDARD.encode(bytes))),
            };
            let values = vec![
                Value::Int(at),
                Value::string(&*self.rule),
                Value::string(&*self.sink),
                Value::string(aside.reason),
                Value::from_u64(aside.n_rows),
                payload,
                base64,
                aside.row.unwrap_or(Value::Missing),
            ];
            Row { ts: at, values }
        };
        let rows = asides.into_iter().map(row).collect();
        let batch = Arc::new(Batch::per_row(schema(), rows));
        // When its sink has ended, the grace period is over; they are counted already.
        let _ = self.sender.send(ToSink::from(batch)).await;
    }
}

fn schema() -> Arc<Schema> {
    let columns = [
        ("at", Type::Int),
        ("rule", Type::String),
        ("sink", Type::String),
        ("reason", Type::String),
        ("rows", Type::Int),
        ("payload", Type::String),
        ("payloadBase64", Type::String),
        ("row", Type::Any),
    ];
    let column = |(name, ty): (&str, Type)| Column { name: name.into(), kind: ColumnKind::Field, ty };
    Arc::new(Schema { columns: columns.map(column).into() })
}

impl DeadLetter {
    /// The one sink in it.
    pub(super) fn sink(&self) -> Result<SinkDef, ConfigError> {
        let mut entries = self.0.0.iter();
        let (Some((connector, options)), None) = (entries.next(), entries.next()) else {
            return Err(ConfigError::new("", "expected one key, the sink's type, as in {mqtt: {...}}"));
        };
        let options = match options {
            serde_json::Value::Object(options) => Options(options.clone()),
            serde_json::Value::Null => Options::default(),
            _ => return Err(ConfigError::new(connector.as_str(), "the options of a sink are a map")),
        };
        for name in ["deadLetter", "alternate", "resendAlterQueue"] {
            if options.get(name).is_some() {
                return Err(ConfigError::new(
                    format!("{connector}.{name}"),
                    "a sink beside another one has none of its own",
                ));
            }
        }
        Ok(SinkDef { connector: connector.clone(), options })
    }
}

/// The driver of a sink for dead letters.
pub(super) fn driver(letter: &DeadLetter, parts: SinkParts<'_>) -> Result<Box<SinkDriver>, ConfigError> {
    let build = || {
        let mut def = letter.sink()?;
        let sink_type = match parts.registry.sink(&def.connector) {
            Ok(sink_type) => Arc::clone(sink_type),
            Err(_) if def.connector == FILE.name => Arc::new(FILE),
            Err(error) => return Err(error),
        };
        if sink_type.takes == Takes::Messages && def.options.get("sendSingle").is_none() {
            def.options.0.insert("sendSingle".to_owned(), true.into());
        }
        let clock = Arc::clone(&parts.ctx.clock);
        let metrics = Arc::new(SinkMetrics::beside(&parts.metrics, "deadLetter", &def.connector, clock));
        let name = format!("{}/{}", parts.rule, metrics.sink);
        let ctx = context(&parts.ctx, name, &metrics.health);
        let nested = SinkParts { output: &schema(), ctx, metrics, ..parts };
        SinkDriver::of_type(&sink_type, &def, nested).map(Box::new).map_err(|error| error.below(&def.connector))
    };
    build().map_err(|error| error.below("deadLetter"))
}

/// A file that dead letters are appended to, one per line.
const FILE: SinkType = SinkType {
    name: "file",
    docs: "",
    schema: crate::options::schema_of::<FileOptions>,
    takes: Takes::Messages,
    templates: &[],
    build: build_file,
};

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileOptions {
    /// The file.
    path: String,
    /// When it has so many bytes it becomes `PATH.1`, in place of the one before.
    #[serde(default = "default_max_size")]
    max_size: ByteSize,
}

fn default_max_size() -> ByteSize {
    ByteSize(64 << 20)
}

fn build_file(args: &SinkArgs<'_>) -> Result<Box<dyn Sink>, ConfigError> {
    let FileOptions { path, max_size } = args.options.parse()?;
    if path.is_empty() {
        return Err(ConfigError::new("path", "must not be empty"));
    }
    Ok(Box::new(DeadLetterFile { path: path.into(), max_bytes: max_size.0, file: None, n_bytes: 0 }))
}

struct DeadLetterFile {
    path: PathBuf,
    max_bytes: u64,
    file: Option<File>,
    n_bytes: u64,
}

impl DeadLetterFile {
    async fn open(&mut self) -> std::io::Result<()> {
        if let Some(folder) = self.path.parent() {
            tokio::fs::create_dir_all(folder).await?;
        }
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&self.path).await?;
        self.n_bytes = file.metadata().await?.len();
        if self.n_bytes > 0 && !ends_line(&mut file, self.n_bytes).await? {
            // A crash in the middle of a line.
            file.write_all(b"\n").await?;
            self.n_bytes += 1;
        }
        self.file = Some(file);
        Ok(())
    }

    async fn append(&mut self, lines: &[u8]) -> std::io::Result<()> {
        if self.n_bytes > 0 && self.n_bytes + lines.len() as u64 > self.max_bytes {
            self.file = None;
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            tokio::fs::rename(&self.path, old).await?;
        }
        if self.file.is_none() {
            self.open().await?;
        }
        if let Some(file) = &mut self.file {
            file.write_all(lines).await?;
            file.sync_data().await?;
        }
        self.n_bytes += lines.len() as u64;
        Ok(())
    }
}

async fn ends_line(file: &mut File, n_bytes: u64) -> std::io::Result<bool> {
    use tokio::io::{AsyncReadExt, AsyncSeekExt};
    file.seek(std::io::SeekFrom::Start(n_bytes - 1)).await?;
    Ok(file.read_u8().await? == b'\n')
}

#[async_trait]
impl Sink for DeadLetterFile {
    async fn connect(&mut self, _ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        self.open().await.map_err(|error| ConnectorError::external(format!("{}: {error}", self.path.display())))?;
        Ok(())
    }

    async fn write(&mut self, output: Output<'_>) -> Result<(), SinkError> {
        let Output::Messages(messages) = output else {
            return Err(ConnectorError::internal("a file takes messages").into());
        };
        let mut lines = Vec::new();
        for message in messages {
            lines.extend_from_slice(&message.body);
            lines.push(b'\n');
        }
        let written = self.append(&lines).await;
        written.map_err(|error| {
            self.file = None;
            ConnectorError::external(format!("{}: {error}", self.path.display())).into()
        })
    }
}
