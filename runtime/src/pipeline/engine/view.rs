//! What an engine shows of itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::Engine;
use crate::connection::Health;
use crate::pipeline::exposition::{RuleSample, Samples, TableSample};
use crate::pipeline::metrics::StreamMetrics;
use crate::pipeline::outlet::Tail;
use crate::pipeline::report::EngineReport;
use crate::pipeline::state::RuleEntry;
use crate::pipeline::status::{EngineStatus, RuleState, RuleStatus};

/// A step that takes longer than this means that an operator is stuck.
const STUCK_AFTER_MS: i64 = 30_000;

impl Engine {
    /// What every rule does.
    pub fn status(&self) -> EngineStatus {
        let state = self.state();
        EngineStatus { rules: state.rules.iter().map(|(name, entry)| entry.status(name)).collect() }
    }

    /// What the operator wants to know of every rule, and which bundle they come from.
    pub fn report(&self) -> EngineReport {
        let version = *self.0.changes.borrow();
        let rules = self.state().rules.iter().map(|(name, entry)| entry.report(name)).collect();
        EngineReport { instance: self.0.instance.clone(), version, bundle: self.bundle().clone(), rules }
    }

    /// Wakes up when a rule changes its state, a connector connects or loses its connection, or definitions are applied.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// What one rule does.
    pub fn rule_status(&self, rule: &str) -> Option<RuleStatus> {
        Some(self.state().rules.get(rule)?.status(rule))
    }

    /// What every rule and connector has counted.
    pub fn samples(&self) -> Samples {
        let state = self.state();
        let mut samples = Samples {
            http: self.0.base.connections.server().counts(),
            unclaimed: self.0.base.connections.unclaimed().get(),
            state_limit: self.0.held.limit(),
            ..Samples::default()
        };
        if let Some(store) = &self.0.settings.state {
            samples.journals =
                store.open_journals().iter().map(|journal| (journal.name.clone(), journal.n_bytes())).collect();
        }
        for entry in state.rules.values() {
            let mut channels = Vec::new();
            if let Some(running) = &entry.running {
                let is_known =
                    |known: &[Arc<StreamMetrics>], source| known.iter().any(|known| Arc::ptr_eq(known, source));
                for source in &running.sources {
                    // A shared stream has one set of counters for all its rules.
                    if source.rule.is_some() || !is_known(&samples.streams, source) {
                        samples.streams.push(Arc::clone(source));
                    }
                }
                samples.lookups.extend(running.lookups.iter().cloned());
                samples.sinks.extend(running.sinks.iter().cloned());
                channels
                    .extend(running.channels.iter().map(|channel| (Arc::clone(&channel.name), channel.depth.now())));
            }
            samples.rules.push(RuleSample {
                metrics: Arc::clone(&entry.metrics),
                state: entry.state,
                channels,
                tail_missed: entry.tail.missed.get(),
            });
        }
        for (name, entry) in &state.tables {
            if let Some(handle) = &entry.handle {
                let table = TableSample {
                    table: name.clone(),
                    connector: entry.def.connector.clone(),
                    counts: handle.counts(),
                };
                samples.tables.push(table);
            }
        }
        samples.tables.sort_by(|a, b| a.table.cmp(&b.table));
        samples.memory = Some(Arc::clone(&self.0.memory));
        samples
    }

    /// A rule's live output; `None` if there is no such rule, or it does not run.
    pub fn tail(&self, rule: &str) -> Option<Arc<Tail>> {
        let state = self.state();
        let entry = state.rules.get(rule).filter(|entry| entry.state == RuleState::Running)?;
        Some(Arc::clone(&entry.tail))
    }

    /// True once definitions were applied and every source and sink of the rules that run is connected, or has failed to,
    /// says so and tries again: an engine whose broker is down is ready to work as soon as the broker is there. From then on
    /// it stays true until the engine stops, whatever is applied.
    pub fn is_ready(&self) -> bool {
        if !self.0.has_applied.load(Ordering::Relaxed) {
            return false;
        }
        let state = self.state();
        if state.is_stopping {
            return false;
        }
        if self.0.was_ready.load(Ordering::Relaxed) {
            return true;
        }
        let has_tried = |health: &Health| health.state().connected.is_some();
        let mut running = state.rules.values().filter(|entry| entry.state == RuleState::Running);
        let is_ready = state.feeds.values().all(|feed| has_tried(&feed.handle.metrics.health) || feed.handle.is_over())
            && running.all(|entry| {
                let mut sinks = entry.running.iter().flat_map(|running| &running.sinks);
                sinks.all(|sink| has_tried(&sink.health))
            });
        self.0.was_ready.store(is_ready, Ordering::Relaxed);
        is_ready
    }

    /// The rules in which an operator has been computing one step for so long that it must be stuck.
    pub fn stuck_rules(&self) -> Vec<String> {
        let now = self.0.settings.clock.now();
        let state = self.state();
        let is_stuck = |entry: &RuleEntry| {
            let since = entry.running.as_ref().and_then(|running| running.pulse.busy_since());
            since.is_some_and(|since| now.saturating_sub(since) > STUCK_AFTER_MS)
        };
        state.rules.iter().filter(|(_, entry)| is_stuck(entry)).map(|(name, _)| name.clone()).collect()
    }
}
