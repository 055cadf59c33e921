//! What is to run, after manifests are read and secrets are resolved: the engine's input.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sluice_sql::plan::{Catalog, RuleOptions, SourceDef, SourceKind};
use sluice_sql::sql::ast::Field;

use crate::manifest::Place;
use crate::options::Options;
use crate::pipeline::restart::RestartPolicy;
use crate::pipeline::schedule::Schedule;

/// Where a definition was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The file; `None` for a document that came from elsewhere (a bundle, standard input).
    pub file: Option<PathBuf>,
    /// Line of the document's first field, 1-based.
    pub line: u32,
    /// Kind and name of the resource: `Rule/demo`.
    pub resource: String,
    /// `metadata.generation`, 0 outside a cluster.
    pub generation: i64,
    /// `metadata.uid`, empty outside a cluster: tells a rule from one of the same name that was deleted.
    pub uid: String,
    /// The document itself, for messages that show the line; `None` for definitions made by code.
    pub place: Option<Arc<Place>>,
}

/// Batches that a channel of a rule holds unless it says otherwise.
pub const DEFAULT_BUFFER_BATCHES: usize = 64;

/// Time between two checkpoints unless the rule says otherwise.
pub const DEFAULT_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);

/// Limit for one lookup unless the table says otherwise.
pub const DEFAULT_LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// All definitions that run in one process.
#[derive(Clone, Debug, Default)]
pub struct Definitions {
    /// Streams and scan tables.
    pub streams: Vec<StreamDef>,
    /// Lookup tables.
    pub tables: Vec<LookupTableDef>,
    /// Rules.
    pub rules: Vec<RuleDef>,
    /// Rules that are there but could not be read: what runs of them runs on.
    pub unreadable: Vec<UnreadableRule>,
}

/// A rule whose definition could not be read.
#[derive(Clone, Debug)]
pub struct UnreadableRule {
    /// `metadata.name`
    pub name: String,
    /// `metadata.generation`
    pub generation: i64,
    /// What is wrong.
    pub message: String,
}

impl Definitions {
    /// What the planner needs to know of the streams and tables.
    pub fn catalog(&self) -> Catalog {
        let streams = self.streams.iter().map(|def| {
            let kind = match def.retain {
                Some(retain) => SourceKind::ScanTable { retain },
                None => SourceKind::Stream,
            };
            let source = SourceDef {
                kind,
                fields: def.fields.clone(),
                timestamp: def.timestamp.as_deref().map(Into::into),
                timestamp_format: def.timestamp_format.as_deref().map(Into::into),
                strict: def.strict,
                implied: Vec::new(),
            };
            (def.name.as_str().into(), source)
        });
        let tables = self.tables.iter().map(|def| {
            let source =
                SourceDef { kind: SourceKind::LookupTable, fields: def.fields.clone(), ..SourceDef::default() };
            (def.name.as_str().into(), source)
        });
        Catalog { sources: streams.chain(tables).collect() }
    }
}

/// A stream, or a scan table.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamDef {
    /// SQL name.
    pub name: String,
    /// Source connector.
    pub connector: String,
    /// What the connector calls its address: topic, path, table.
    pub datasource: String,
    /// `json`, `delimited`, ...
    pub format: String,
    /// Declared columns; none = schemaless.
    pub fields: Vec<Field>,
    /// Event-time column.
    pub timestamp: Option<String>,
    /// Its format.
    pub timestamp_format: Option<String>,
    /// `STRICT_VALIDATION`
    pub strict: bool,
    /// One source instance for all rules.
    pub shared: bool,
    /// `delimited`: between two columns.
    pub delimiter: Option<String>,
    /// Rows kept, for a scan table; `None` for a stream.
    pub retain: Option<usize>,
    /// Connector options.
    pub options: Options,
    /// Where it was written.
    pub origin: Origin,
}

/// A lookup table.
#[derive(Clone, Debug, PartialEq)]
pub struct LookupTableDef {
    /// SQL name.
    pub name: String,
    /// Lookup connector.
    pub connector: String,
    /// Table, database number, topic.
    pub datasource: String,
    /// `json`, ... for connectors whose values are bytes.
    pub format: String,
    /// Declared columns; none = schemaless.
    pub fields: Vec<Field>,
    /// Primary key column, for those that need one.
    pub key: Option<String>,
    /// Cache settings.
    pub cache: CacheSettings,
    /// What happens to a row whose lookup failed.
    pub on_error: OnLookupError,
    /// Limit for one lookup, retries included only for `OnLookupError::Retry`, where it limits each try.
    pub timeout: Duration,
    /// Connector options.
    pub options: Options,
    /// Where it was written.
    pub origin: Origin,
}

/// The cache in front of a lookup table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// Off by default.
    pub enabled: bool,
    /// How long an entry is good; `None`: until it is pushed out.
    pub ttl: Option<Duration>,
    /// Keep misses too.
    pub missing: bool,
    /// Greatest number of entries.
    pub max_entries: usize,
}

impl Default for CacheSettings {
    fn default() -> Self {
        CacheSettings { enabled: false, ttl: None, missing: false, max_entries: 10_000 }
    }
}

/// What happens to a row whose lookup failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLookupError {
    /// It is dropped and counted.
    #[default]
    Drop,
    /// It goes on without the table's columns.
    Null,
    /// It waits, and all behind it, until the table answers.
    Retry,
}

/// A rule.
#[derive(Clone, Debug)]
pub struct RuleDef {
    /// `metadata.name`
    pub name: String,
    /// The `SELECT`.
    pub sql: String,
    /// At least one.
    pub sinks: Vec<SinkDef>,
    /// Options that touch SQL meaning.
    pub options: RuleOptions,
    /// Where late rows go, besides being counted.
    pub late_sink: Option<SinkDef>,
    /// Where rows that fail, and those without a usable timestamp, go besides being counted.
    pub error_sink: Option<SinkDef>,
    /// The rule fails with the first row that fails.
    pub fail_on_error: bool,
    /// Batches that a channel of the rule holds.
    pub buffer_batches: usize,
    /// What happens to rows when the rule, or one of its sinks, is too slow for them.
    pub backpressure: Backpressure,
    /// How it starts again after it has failed.
    pub restart: RestartPolicy,
    /// When it runs; `None`: always.
    pub schedule: Option<Schedule>,
    /// What it promises for its rows.
    pub delivery: Delivery,
    /// Defined, but not to run.
    pub suspend: bool,
    /// What it refers to, if that is not what everybody else refers to: the definitions that it was last good with.
    pub held_with: Option<Arc<Definitions>>,
    /// Where it was written.
    pub origin: Origin,
}

/// What happens to rows when a rule, or one of its sinks, is too slow for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backpressure {
    /// Whatever is before waits, up to the source, and so do the other rules of a shared stream.
    #[default]
    Block,
    /// Those that have waited longest are dropped.
    DropOldest,
    /// Those that come are dropped.
    DropNewest,
    /// They wait on disk, before each sink.
    Spill,
}

/// What a rule promises for its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// 0 at most once, 1 at least once, 2 exactly once in state and in sinks that can.
    pub qos: u8,
    /// Time between two checkpoints, for 1 and 2.
    pub checkpoint_interval: Duration,
    /// What happens to state when the rule has changed.
    pub on_change: OnStateChange,
}

impl Delivery {
    /// True if the rule keeps state on the volume.
    pub fn is_durable(&self) -> bool {
        self.qos > 0
    }
}

impl Default for Delivery {
    fn default() -> Self {
        Delivery { qos: 0, checkpoint_interval: DEFAULT_CHECKPOINT_INTERVAL, on_change: OnStateChange::default() }
    }
}

/// What happens to the state of a rule whose statement has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStateChange {
    /// Operators that are the same go on with what they had, the others begin empty.
    #[default]
    Keep,
    /// All begin empty.
    Reset,
    /// The rule does not start.
    Refuse,
}

/// One sink of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkDef {
    /// Sink connector.
    pub connector: String,
    /// Connector options and the options common to all sinks.
    pub options: Options,
}
