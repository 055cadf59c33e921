//! What the operator copies into the status of objects: small, and the same for all rules. Plain data.

use serde::{Deserialize, Serialize};

use crate::pipeline::metrics::{DropReason, Drops, ErrorEntry};
use crate::pipeline::state::RuleEntry;
use crate::pipeline::status::RuleState;

/// What runs in one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineReport {
    /// Another one after each start of the process.
    pub instance: String,
    /// Grows when a rule changes its state, or a connection is made or lost.
    pub version: u64,
    /// Where the definitions come from.
    pub bundle: BundleState,
    /// In order of name.
    pub rules: Vec<RuleReport>,
}

/// Where definitions come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BundleState {
    /// The bundle that is applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Why a newer one is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleReport {
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid` of what runs, or ran last.
    pub uid: String,
    /// `metadata.generation` of it; 0 if nothing ever ran.
    pub generation: i64,
    /// `metadata.generation` of the newest definition. If it differs, `message` says why it does not run.
    pub wanted_generation: i64,
    /// Where it is in its life.
    pub state: RuleState,
    /// Every source and sink is connected.
    pub connected: bool,
    /// How often it was started again after a failure.
    pub restarts: u64,
    /// Why it failed, why its newest definition does not run, or what is not connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Rows that came in.
    pub rows_in: u64,
    /// Rows that went out.
    pub rows_out: u64,
    /// Rows and messages that failed, in the rule or in a connector.
    pub errors: u64,
    /// Rows that came too late.
    pub late: u64,
    /// The newest error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<ErrorEntry>,
}

impl RuleEntry {
    pub(super) fn report(&self, name: &str) -> RuleReport {
        let running = self.running.as_ref();
        let status = self.status(name);
        let dropped = |drops: &Drops| -> u64 { DropReason::ALL.into_iter().map(|reason| drops.get(reason)).sum() };
        let late = self.metrics.dropped.get(DropReason::Late);
        let connectors = running.map_or(0, |running| {
            let sources: u64 = running.sources.iter().map(|source| dropped(&source.dropped)).sum();
            let sinks: u64 = running.sinks.iter().map(|sink| dropped(&sink.dropped)).sum();
            sources + sinks
        });
        let waiting = (status.state == RuleState::Running)
            .then(|| {
                let sources = status.sources.iter().map(|source| ("stream", source));
                let mut all = sources.chain(status.sinks.iter().map(|sink| ("sink", sink)));
                all.find(|(_, connector)| connector.connected != Some(true))
            })
            .flatten();
        let waiting_for = waiting.map(|(what, connector)| match &connector.last_error {
            Some(error) => format!("{what} {} is not connected: {}", connector.name, error.message),
            None => format!("{what} {} is not connected yet", connector.name),
        });
        let (uid, generation) = match running {
            Some(running) => (running.def.origin.uid.clone(), running.def.origin.generation),
            // Nothing runs, as this definition says.
            None if matches!(self.state, RuleState::Suspended | RuleState::Scheduled) => {
                (self.uid.clone(), self.wanted_generation)
            }
            None => (self.uid.clone(), 0),
        };
        RuleReport {
            name: name.to_owned(),
            uid,
            generation,
            wanted_generation: self.wanted_generation,
            state: self.state,
            connected: self.state == RuleState::Running && waiting_for.is_none(),
            restarts: status.restarts,
            message: self.message.clone().or(waiting_for),
            rows_in: status.rows_in,
            rows_out: status.rows_out,
            errors: status.rows_failed + connectors,
            late,
            last_error: status.last_error,
        }
    }
}
