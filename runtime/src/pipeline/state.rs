//! What the engine knows of its rules, feeds and tables.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sluice_sql::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::connection::memory;
use crate::definition::{LookupTableDef, RuleDef, StreamDef};
use crate::lookup::TableHandle;
use crate::pipeline::build::Named;
use crate::pipeline::feed::{FeedHandle, SubscriberId};
use crate::pipeline::generation::{Generation, is_same_stream};
use crate::pipeline::metrics::RuleMetrics;
use crate::pipeline::outlet::Tail;
use crate::pipeline::status::{CheckpointStatus, RuleState, RuleStatus, by_reason};

#[derive(Default)]
pub(super) struct State {
    pub is_stopping: bool,
    /// The newest definitions.
    pub named: Option<Arc<Named>>,
    pub rules: BTreeMap<String, RuleEntry>,
    pub feeds: HashMap<u64, FeedEntry>,
    /// The feed that new subscribers of a stream get: one per shared stream, else one per rule.
    pub feed_ids: HashMap<FeedKey, u64>,
    pub tables: HashMap<String, TableEntry>,
}

/// A lookup table that fills itself, whether or not a rule asks it.
pub(super) struct TableEntry {
    pub def: LookupTableDef,
    pub handle: Option<TableHandle>,
}

/// Stream, and the rule unless the stream is shared.
pub(super) type FeedKey = (String, Option<String>);

pub(super) struct FeedEntry {
    pub key: FeedKey,
    pub def: Arc<StreamDef>,
    pub handle: FeedHandle,
    pub n_subscribers: usize,
}

pub(super) struct RuleEntry {
    pub state: RuleState,
    pub message: Option<String>,
    pub wanted_generation: i64,
    /// Of the newest definition.
    pub uid: String,
    pub metrics: Arc<RuleMetrics>,
    /// Goes on over all generations until the rule ends.
    pub tail: Arc<Tail>,
    /// The newest that passed its check, also after it has ended.
    pub running: Option<Generation>,
    /// The newest definition that passed its check, unless it is not to run.
    pub wanted: Option<RuleDef>,
    /// Starts in a row after failures.
    pub n_attempts: u32,
    /// When the rule is looked at again, and which look that is.
    pub wake: Option<(u64, Timestamp)>,
    /// Cancelled when the tasks of the generation that started last have returned.
    pub finished: CancellationToken,
}

impl State {
    /// The running feed that subscribers of the stream get, if it reads the stream as it is defined now.
    pub fn feed(&self, key: &FeedKey, def: &StreamDef) -> Option<&FeedEntry> {
        let feed = self.feeds.get(self.feed_ids.get(key)?)?;
        (is_same_stream(&feed.def, def) && !feed.handle.is_over()).then_some(feed)
    }

    /// Takes a rule off its feeds; feeds without subscribers end.
    pub fn unsubscribe(&mut self, subscriptions: &[(u64, SubscriberId)]) {
        for (feed_id, subscriber_id) in subscriptions {
            let Some(feed) = self.feeds.get_mut(feed_id) else { continue };
            feed.n_subscribers = feed.n_subscribers.saturating_sub(1);
            if feed.n_subscribers > 0 {
                feed.handle.unsubscribe(*subscriber_id);
            } else if let Some(feed) = self.feeds.remove(feed_id) {
                // With its last subscriber still on it: what it has taken from its source is for that one.
                feed.handle.stop();
                if self.feed_ids.get(&feed.key) == Some(feed_id) {
                    self.feed_ids.remove(&feed.key);
                }
            }
        }
    }
}

/// Stops the feeds that no rule writes to any more; gives what the others wait for: rules that come to their end by
/// themselves now. Rules that feed each other in a ring never do, so their feeds are stopped too.
pub(super) fn stop_ready_feeds(state: &mut State) -> Vec<CancellationToken> {
    let State { rules, feeds, .. } = state;
    let writers: Vec<_> = rules
        .values()
        .filter(|entry| !entry.finished.is_cancelled())
        .filter_map(|entry| {
            let running = entry.running.as_ref()?;
            let topics: Vec<_> = running.def.sinks.iter().filter_map(memory::written_topic).collect();
            (!topics.is_empty()).then_some((entry, running, topics))
        })
        .collect();
    let mut waiting = Vec::new();
    for (feed_id, feed) in feeds.iter().filter(|(_, feed)| !feed.handle.is_stopping()) {
        let reads = memory::read_topics(&feed.def);
        let of_feed: Vec<_> = writers
            .iter()
            .filter(|(.., topics)| reads.as_ref().is_some_and(|reads| topics.iter().any(|topic| topic.reaches(reads))))
            .collect();
        if of_feed.is_empty() {
            feed.handle.stop();
        } else {
            waiting.push((feed_id, of_feed));
        }
    }
    let ends = |running: &Generation| {
        running.subscriptions.iter().all(|(feed_id, _)| feeds.get(feed_id).is_none_or(|feed| feed.handle.is_stopping()))
    };
    let ending: Vec<_> = waiting
        .iter()
        .flat_map(|(_, of_feed)| of_feed)
        .filter(|(_, running, _)| ends(running))
        .map(|(entry, ..)| entry.finished.clone())
        .collect();
    if ending.is_empty() {
        for (feed_id, _) in &waiting {
            feeds.get(*feed_id).into_iter().for_each(|feed| feed.handle.stop());
        }
    }
    ending
}

impl RuleEntry {
    /// It does not run, and will not without a change.
    pub fn is_over(&self) -> bool {
        match self.state {
            RuleState::Running | RuleState::Restarting => false,
            RuleState::Scheduled => self.wake.is_none(),
            RuleState::Done => self.wake.is_none(),
            RuleState::Failed | RuleState::Refused | RuleState::Suspended | RuleState::Stopped => true,
        }
    }

    /// The engine stops: what waits for its next start has had its last.
    pub fn stop_waiting(&mut self) {
        self.wake = None;
        match self.state {
            RuleState::Restarting => self.state = RuleState::Failed,
            RuleState::Scheduled => self.state = RuleState::Stopped,
            _ => {}
        }
    }

    pub fn status(&self, name: &str) -> RuleStatus {
        let running = self.running.as_ref();
        let mut status = RuleStatus {
            name: name.to_owned(),
            state: self.state,
            generation: running.map_or(0, |running| running.def.origin.generation),
            wanted_generation: self.wanted_generation,
            message: self.message.clone(),
            restarts: self.metrics.restarts.get(),
            next_start: self.wake.filter(|_| !matches!(self.state, RuleState::Running)).map(|(_, at)| at),
            started_at: running.map(|running| running.started_at),
            rows_in: self.metrics.rows_in.get(),
            rows_out: self.metrics.rows_out.get(),
            rows_failed: self.metrics.rows_failed.get(),
            rows_dropped: by_reason(&self.metrics.dropped),
            buffered_bytes: self.metrics.memory.used(),
            state_bytes: self.metrics.state_bytes.get(),
            full_channels: running.map(Generation::full_channels).unwrap_or_default(),
            tail_missed: self.tail.missed.get(),
            checkpoint: running
                .filter(|running| running.def.delivery.is_durable())
                .map(|_| CheckpointStatus::new(&self.metrics.checkpoints)),
            limits: running.map(|running| running.limits.clone()).unwrap_or_default(),
            last_error: self.metrics.errors.newest(),
            sources: running.map(Generation::source_status).unwrap_or_default(),
            lookups: running.map(Generation::lookup_status).unwrap_or_default(),
            sinks: running.map(Generation::sink_status).unwrap_or_default(),
        };
        let connectors = status.sources.iter().chain(&status.lookups).chain(&status.sinks);
        let errors = connectors.filter_map(|connector| connector.last_error.clone());
        status.last_error = errors.chain(status.last_error.take()).max_by_key(|error| error.at);
        status
    }
}

/// The key of a rule's feed from a stream.
pub(super) fn feed_key(def: &StreamDef, rule: &str) -> FeedKey {
    (def.name.clone(), (!def.shared).then(|| rule.to_owned()))
}
