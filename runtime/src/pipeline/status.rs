//! What the engine says of itself: plain data, for the HTTP server, `sluice status` and the operator.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sluice_sql::Timestamp;

use crate::connection::Health;
use crate::pipeline::metrics::{CheckpointMetrics, Circuit, DropReason, Drops, ErrorEntry, ErrorLog, QueueMetrics};

/// Where a rule is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RuleState {
    /// Its tasks run. The connectors below say whether they are connected.
    Running,
    /// Its sources were finite, have ended, and everything is written.
    Done,
    /// It has failed because of `message`, and starts again at `nextStart`.
    Restarting,
    /// Its schedule has it wait for `nextStart`.
    Scheduled,
    /// It has stopped because of `message`.
    Failed,
    /// Its definition did not pass the check, and no earlier one did: nothing runs.
    Refused,
    /// It is defined, but not to run.
    Suspended,
    /// The engine is stopping, or has stopped it.
    Stopped,
}

impl RuleState {
    /// The word in metrics and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            RuleState::Running => "running",
            RuleState::Done => "done",
            RuleState::Restarting => "restarting",
            RuleState::Scheduled => "scheduled",
            RuleState::Failed => "failed",
            RuleState::Refused => "refused",
            RuleState::Suspended => "suspended",
            RuleState::Stopped => "stopped",
        }
    }
}

/// All rules.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineStatus {
    /// In order of name.
    pub rules: Vec<RuleStatus>,
}

/// One rule.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleStatus {
    /// `metadata.name`
    pub name: String,
    /// Where it is in its life.
    pub state: RuleState,
    /// Generation of the definition that runs, or ran last; 0 if none did.
    pub generation: i64,
    /// Generation of the newest definition. If it differs from `generation`, `message` says why it does not run.
    pub wanted_generation: i64,
    /// Why the rule failed, or why the newest definition does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Times that it was started again after a failure.
    #[serde(default)]
    pub restarts: u64,
    /// When it starts next, in milliseconds since the epoch: after a failure, or by its schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_start: Option<Timestamp>,
    /// When the generation that runs was started, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Rows that came from its streams.
    pub rows_in: u64,
    /// Rows of results that were handed to its sinks.
    pub rows_out: u64,
    /// Rows, or whole results of windows, that an expression failed on.
    pub rows_failed: u64,
    /// Rows that went no further, by reason; reasons that never occurred are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rows_dropped: BTreeMap<String, u64>,
    /// Bytes of rows that wait in its channels, about.
    #[serde(default)]
    pub buffered_bytes: u64,
    /// Bytes of memory that its windows, groups and functions kept when they were last measured, about.
    pub state_bytes: u64,
    /// Its channels that are full: whatever is before a stream's, or the rule before a sink's, waits or drops rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub full_channels: Vec<String>,
    /// Results that readers of its live output missed because they were too slow.
    pub tail_missed: u64,
    /// The state that it keeps, for `qos` 1 and 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointStatus>,
    /// What its promise does not cover, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
    /// The newest error of the rule or of one of its connectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<ErrorEntry>,
    /// Its streams.
    pub sources: Vec<ConnectorStatus>,
    /// Its lookup joins.
    pub lookups: Vec<ConnectorStatus>,
    /// Its sinks.
    pub sinks: Vec<ConnectorStatus>,
}

/// The checkpoints of a rule.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    /// When the newest was written, or was last known to be as good as new, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// From its barrier until it was written.
    pub took_ms: u64,
    /// Its size.
    pub bytes: u64,
    /// How many were written since the process started.
    pub written: u64,
    /// How many could not be written.
    pub failed: u64,
    /// Operators that went on with what they had when the rule began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
    /// Operators of the earlier statement whose state was given up then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
}

impl CheckpointStatus {
    pub(super) fn new(metrics: &CheckpointMetrics) -> Self {
        let newest = metrics.newest();
        let restored = newest.restored.unwrap_or_default();
        let texts = |names: &[smol_str::SmolStr]| names.iter().map(ToString::to_string).collect();
        CheckpointStatus {
            at: newest.at,
            took_ms: u64::try_from(newest.took.as_millis()).unwrap_or(u64::MAX),
            bytes: newest.n_bytes,
            written: metrics.done.get(),
            failed: metrics.failed.get(),
            kept: texts(&restored.kept),
            lost: texts(&restored.lost),
        }
    }
}

/// One stream, lookup table or sink of a rule.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectorStatus {
    /// The stream's or table's name; `mqtt_0` for a sink.
    pub name: String,
    /// `mqtt`, `redis`, ...
    pub connector: String,
    /// `null` before the first try to connect.
    pub connected: Option<bool>,
    /// Times that a connection was made again after it was lost.
    pub reconnects: u64,
    /// Times that an operation was tried again.
    pub retries: u64,
    /// Rows that came in: from outside for a stream, from the rule for a sink; keys for a lookup table.
    pub rows_in: u64,
    /// Rows that went out: decoded ones for a stream, accepted ones for a sink; keys that the cache answered for a lookup
    /// table.
    pub rows_out: u64,
    /// Rows or messages that went no further, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped: BTreeMap<String, u64>,
    /// Of a sink: whether its far side takes what is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit: Option<Circuit>,
    /// Of a sink: what waits in its queue, if something does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueStatus>,
    /// Its newest error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<ErrorEntry>,
}

/// What waits in a sink's queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    /// Messages, or batches of rows, in memory.
    pub memory_items: u64,
    /// Rows on disk.
    pub disk_rows: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// There is no room, and the rule waits.
    pub is_full: bool,
}

impl QueueStatus {
    pub(super) fn new(queue: &QueueMetrics) -> Option<Self> {
        let status = QueueStatus {
            memory_items: queue.memory_items.get(),
            disk_rows: queue.disk_rows.get(),
            disk_bytes: queue.disk_bytes.get(),
            is_full: queue.is_full.get() > 0,
        };
        (status.memory_items > 0 || status.disk_rows > 0).then_some(status)
    }
}

impl ConnectorStatus {
    pub(super) fn new(name: &str, connector: &str, health: &Health, errors: &ErrorLog) -> Self {
        let state = health.state();
        ConnectorStatus {
            name: name.to_owned(),
            connector: connector.to_owned(),
            connected: state.connected,
            reconnects: state.n_reconnects,
            retries: state.n_retries,
            rows_in: 0,
            rows_out: 0,
            dropped: BTreeMap::new(),
            circuit: None,
            queue: None,
            last_error: errors.newest(),
        }
    }
}

/// The reasons that occurred, with their counts.
pub(super) fn by_reason(drops: &Drops) -> BTreeMap<String, u64> {
    let counts = DropReason::ALL.into_iter().map(|reason| (reason.as_str().to_owned(), drops.get(reason)));
    counts.filter(|(_, n)| *n > 0).collect()
}

/// What [`Engine::apply`](super::Engine::apply) did, by rule name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplyReport {
    /// Rules that did not run before.
    pub started: Vec<String>,
    /// Rules whose definition, or what it refers to, has changed.
    pub replaced: Vec<String>,
    /// Rules that run on untouched.
    pub unchanged: Vec<String>,
    /// Rules that are defined, but not to run.
    pub suspended: Vec<String>,
    /// Rules that wait for the next time of their schedule.
    pub scheduled: Vec<String>,
    /// Rules that are no longer defined.
    pub removed: Vec<String>,
    /// Rules that did not pass the check.
    pub refused: Vec<Refusal>,
}

/// A rule that did not pass the check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its name.
    pub rule: String,
    /// What is wrong, possibly over several lines.
    pub message: String,
    /// An earlier definition of it runs on.
    pub keeps_running: bool,
}
