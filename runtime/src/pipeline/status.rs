//! What the engine says of itself: plain data, for the HTTP server, `sluice status` and the operator.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sluice_sql::Timestamp;

use crate::connection::Health;
use crate::pipeline::metrics::{DropReason, Drops, ErrorEntry, ErrorLog};

/// Where a rule is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RuleState {
    /// Its tasks run. The connectors below say whether they are connected.
    Running,
    /// Its sources were finite, have ended, and everything is written.
    Done,
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
    /// Results that readers of its live output missed because they were too slow.
    pub tail_missed: u64,
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
    /// Its newest error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<ErrorEntry>,
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
