//! The engine: holds the definitions to what runs, rule by rule.

mod view;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use sluice_sql::expr::{Props, Report, RuleContext};
use sluice_sql::operators::Chain;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::http_server::ServerSettings;
use crate::connection::{Connections, ConnectorContext, Health, Tasks};
use crate::definition::{Backpressure, Definitions, LookupTableDef, RuleDef};
use crate::pipeline::build::{
    BuiltRule, Named, RuleError, SinkPart, build_rule, build_source, context, limits as promise_limits,
};
use crate::pipeline::channel::{Limits, Overflow, channel};
use crate::pipeline::decode::StreamDecoder;
use crate::pipeline::durable::{Durable, DurableInput, DurableParts};
use crate::pipeline::feed::{Feed, MakeStreamDecoder, StartTogether};
use crate::pipeline::generation::{Channel, Generation, GenerationTask, is_same_table};
use crate::pipeline::held::Held;
use crate::pipeline::lookup::open_table;
use crate::pipeline::memory::Memory;
use crate::pipeline::metrics::{DropReason, RuleMetrics, StreamMetrics};
use crate::pipeline::rejected::SideSinks;
use crate::pipeline::report::BundleState;
use crate::pipeline::rule::{Pulse, RuleParts, RuleTask};
use crate::pipeline::schedule::Phase;
use crate::pipeline::state::{FeedEntry, FeedKey, RuleEntry, State, TableEntry, feed_key, stop_ready_feeds};
use crate::pipeline::status::{ApplyReport, Refusal, RuleState};
use crate::registry::Registry;
use crate::source::SourceContext;
use crate::state::{StateStore, file_name};
use crate::time::{Clock, SteadyClock, SystemClock};

/// What a rule that is replaced or removed has for writing what it still holds.
const RETIRE_GRACE: Duration = Duration::from_secs(10);
/// What tasks have to return after they were cut short; they hold nothing worth waiting for any more.
const CUT_GRACE: Duration = Duration::from_secs(2);
/// Bytes of rows that each channel of a rule holds.
const CHANNEL_BYTES: u64 = 16 << 20;

/// Bytes of rows that may wait in the channels of all rules together, unless [`Settings::buffer_bytes`] says otherwise.
const DEFAULT_BUFFER_BYTES: u64 = 256 << 20;
/// Bytes that windows, groups and functions of all rules may keep, unless [`Settings::state_bytes`] says otherwise.
const DEFAULT_STATE_BYTES: u64 = 512 << 20;

/// What an engine is made with.
#[derive(Clone)]
pub struct Settings {
    /// Connectors, formats and functions.
    pub registry: Registry,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Bytes of rows that may wait in the channels of all rules together; `None` for no limit.
    pub buffer_bytes: Option<u64>,
    /// Bytes that windows, groups and functions of all rules together may keep; `None` for no limit.
    pub state_bytes: Option<u64>,
    /// Zone of text without an offset and of `now()`.
    pub time_zone: jiff::tz::TimeZone,
    /// What `props(name)` gives.
    pub props: Props,
    /// The HTTP server that streams and sinks share.
    pub server: ServerSettings,
    /// Where queues of sinks are kept, and the state of rules with `qos` 1 and 2, which are refused without it.
    pub state: Option<Arc<StateStore>>,
}

impl Settings {
    /// These connectors, the machine's clock, UTC, no properties.
    pub fn new(registry: Registry) -> Self {
        Settings {
            registry,
            clock: Arc::new(SteadyClock::new(SystemClock)),
            buffer_bytes: Some(DEFAULT_BUFFER_BYTES),
            state_bytes: Some(DEFAULT_STATE_BYTES),
            time_zone: jiff::tz::TimeZone::UTC,
            props: Arc::new(|_| None),
            server: ServerSettings::default(),
            state: None,
        }
    }
}

/// Runs rules. Cheap to clone; all clones are one engine.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

struct Shared {
    settings: Settings,
    base: ConnectorContext,
    tracker: TaskTracker,
    /// Bytes of rows that wait in channels.
    memory: Arc<Memory>,
    /// What the operators of rules keep.
    held: Arc<Held>,
    /// Cancelled when a stop begins.
    stopping: CancellationToken,
    /// Cancelled when the grace period of a stop is over.
    cut_short: CancellationToken,
    /// True once definitions have been applied.
    has_applied: AtomicBool,
    /// True once everything has tried to connect.
    was_ready: AtomicBool,
    next_id: AtomicU64,
    state: Mutex<State>,
    /// Counts changes of rules' states and of their connections.
    changes: watch::Sender<u64>,
    /// Tells this engine from those before it.
    instance: String,
    bundle: Mutex<BundleState>,
}

/// A feed that is made but has not started.
pub(super) struct NewFeed {
    id: u64,
    feed: Feed,
    entry: FeedEntry,
}

impl Engine {
    /// An engine without rules.
    pub fn new(settings: Settings) -> Self {
        let base = ConnectorContext {
            name: "".into(),
            connections: Connections::new(settings.server.clone()),
            clock: Arc::clone(&settings.clock),
            tasks: Tasks::default(),
            health: Health::default(),
        };
        Engine(Arc::new(Shared {
            memory: Arc::new(Memory::new(settings.buffer_bytes)),
            held: Arc::new(Held::new(settings.state_bytes)),
            settings,
            base,
            tracker: TaskTracker::new(),
            stopping: CancellationToken::new(),
            cut_short: CancellationToken::new(),
            has_applied: AtomicBool::new(false),
            was_ready: AtomicBool::new(false),
            next_id: AtomicU64::new(1),
            state: Mutex::default(),
            changes: watch::Sender::new(0),
            instance: format!("{:016x}", rand::rng().random::<u64>()),
            bundle: Mutex::default(),
        }))
    }

    /// Makes what runs match `definitions`. Only rules whose statement, options, or referenced definitions have changed are
    /// replaced, and a stream that stays as it is is read on without a gap; all others are not touched. A rule that fails its
    /// check keeps running as it was. Call it within a tokio runtime; it returns at once, rules connect in the background.
    pub fn apply(&self, definitions: &Definitions) -> ApplyReport {
        let mut report = ApplyReport::default();
        let mut state = self.state();
        if state.is_stopping {
            return report;
        }
        // Before any rule writes what a table is filled from.
        self.open_tables(&mut state, &definitions.tables);
        let named = Arc::new(Named::new(definitions));
        state.named = Some(Arc::clone(&named));
        let mut to_start = Vec::new();
        for rule in &definitions.rules {
            let held_with = rule.held_with.as_deref().map(Named::new);
            let named = held_with.as_ref().unwrap_or(&named);
            self.apply_rule(&mut state, rule, named, &mut to_start, &mut report);
        }
        for rule in &definitions.unreadable {
            let entry = self.entry(&mut state, &rule.name);
            entry.wanted_generation = rule.generation;
            refuse(entry, &rule.name, rule.message.clone(), &mut report);
        }
        let rules = definitions.rules.iter().map(|rule| rule.name.as_str());
        let names: HashSet<&str> = rules.chain(definitions.unreadable.iter().map(|rule| rule.name.as_str())).collect();
        let gone: Vec<String> = state.rules.keys().filter(|name| !names.contains(name.as_str())).cloned().collect();
        for name in gone {
            if let Some(entry) = state.rules.remove(&name) {
                entry.tail.close();
                if let Some(generation) = entry.running {
                    self.retire(&mut state, &generation);
                }
                self.forget(&name, entry.finished);
            }
            report.removed.push(name);
        }
        drop(state);
        self.warn_of_queues(&names);
        self.launch(to_start);
        self.0.has_applied.store(true, Ordering::Relaxed);
        self.note_change();
        report
    }

    /// Feeds start last, when every rule has subscribed: a shared finite stream gives each rule all of its rows.
    pub(super) fn launch(&self, to_start: Vec<Feed>) {
        let starting = TaskTracker::new();
        let to_start: Vec<_> = to_start.into_iter().map(|feed| (feed, StartTogether::new(&starting))).collect();
        for (feed, start) in to_start {
            self.0.tracker.spawn(feed.run(start));
        }
    }

    /// A table whose options are wrong stays as it was; rules that ask it are refused for the same reason.
    fn open_tables(&self, state: &mut State, tables: &[LookupTableDef]) {
        let Shared { settings, base, .. } = &*self.0;
        state.tables.retain(|name, _| tables.iter().any(|def| def.name == *name));
        for def in tables {
            if state.tables.get(&def.name).is_some_and(|entry| is_same_table(&entry.def, def)) {
                continue;
            }
            let ctx = context(base, def.name.clone(), &Health::default());
            match open_table(def, &settings.registry, &ctx) {
                Ok(handle) => {
                    state.tables.insert(def.name.clone(), TableEntry { def: def.clone(), handle });
                }
                Err(error) => tracing::error!(connector = def.name, "lookup table refused: {error}"),
            }
        }
    }

    /// Removes what a rule has kept, once its tasks have returned, unless it is defined again by then.
    fn forget(&self, rule: &str, finished: CancellationToken) {
        let Some(store) = self.0.settings.state.clone() else { return };
        let (engine, rule) = (self.clone(), rule.to_owned());
        self.0.tracker.spawn(async move {
            finished.cancelled().await;
            if engine.state().rules.contains_key(&rule) {
                return;
            }
            let forgotten = tokio::task::spawn_blocking(move || store.forget(&rule)).await;
            if let Ok(Err(error)) = forgotten {
                tracing::warn!("the state of a rule that is gone can't be removed: {error}");
            }
        });
    }

    fn apply_rule(
        &self,
        state: &mut State,
        rule: &RuleDef,
        named: &Named,
        to_start: &mut Vec<Feed>,
        report: &mut ApplyReport,
    ) {
        let name = rule.name.clone();
        let entry = self.entry(state, &name);
        entry.wanted_generation = rule.origin.generation;
        entry.uid.clone_from(&rule.origin.uid);
        if rule.suspend {
            entry.state = RuleState::Suspended;
            entry.message = None;
            entry.wake = None;
            entry.wanted = None;
            entry.tail.close();
            if let Some(generation) = entry.running.take() {
                self.retire(state, &generation);
            }
            report.suspended.push(name);
            return;
        }
        let now = self.0.settings.clock.now();
        let is_due = rule.schedule.as_ref().is_none_or(|schedule| matches!(schedule.phase(now), Phase::Active { .. }));
        if is_due
            && let Some(running) = &mut entry.running
            && running.is_same(rule, named)
        {
            running.def = rule.clone();
            entry.wanted = Some(rule.clone());
            if entry.state == RuleState::Running {
                entry.message = None;
                entry.wake = None;
                self.follow_schedule(state, rule);
            }
            report.unchanged.push(name);
            return;
        }
        match self.prepare(state, rule, named) {
            Ok((built, feeds)) => {
                if let Some(entry) = state.rules.get_mut(&name) {
                    entry.wanted = Some(rule.clone());
                    entry.wake = None;
                    entry.n_attempts = 0;
                }
                if is_due {
                    let is_new = self.start(state, rule, built, feeds, to_start);
                    let list = if is_new { &mut report.started } else { &mut report.replaced };
                    list.push(name);
                } else {
                    report.scheduled.push(name);
                }
                self.follow_schedule(state, rule);
            }
            Err(error) => {
                let Some(entry) = state.rules.get_mut(&name) else { return };
                refuse(entry, &name, error.to_string(), report);
            }
        }
    }

    fn entry<'a>(&self, state: &'a mut State, name: &str) -> &'a mut RuleEntry {
        state.rules.entry(name.to_owned()).or_insert_with(|| RuleEntry {
            state: RuleState::Stopped,
            message: None,
            wanted_generation: 0,
            uid: String::new(),
            metrics: Arc::new(RuleMetrics::new(name, &self.0.memory, Arc::clone(&self.0.settings.clock))),
            tail: Arc::default(),
            running: None,
            wanted: None,
            n_attempts: 0,
            wake: None,
            finished: finished_already(),
        })
    }

    /// Everything that can fail, before anything is changed. Gives the feeds that do not exist yet.
    pub(super) fn prepare(
        &self,
        state: &State,
        rule: &RuleDef,
        named: &Named,
    ) -> Result<(BuiltRule, Vec<NewFeed>), RuleError> {
        let Shared { settings, base, cut_short, .. } = &*self.0;
        let built = build_rule(rule, named, &settings.registry, base)?;
        if rule.delivery.is_durable() && settings.state.is_none() {
            return Err(RuleError::NoState(rule.delivery.qos));
        }
        let mut feeds: Vec<NewFeed> = Vec::new();
        for (input, def) in built.plan.inputs.iter().zip(&built.streams) {
            let key = feed_key(def, &rule.name);
            if let Some(store) = settings.state.as_ref().filter(|_| rule.delivery.is_durable()) {
                store.journal(&journal_name(&key)).map_err(|error| RuleError::State(error.to_string()))?;
            }
            if state.feed(&key, def).is_some() || feeds.iter().any(|feed| feed.entry.key == key) {
                continue;
            }
            let (source, decoder) = build_source(def, &input.schema, &settings.registry)?;
            let metrics = StreamMetrics::new(&def.name, key.1.as_deref(), &def.connector, Arc::clone(&settings.clock));
            let metrics = Arc::new(metrics);
            let name = key.1.as_ref().map_or_else(|| def.name.clone(), |rule| format!("{rule}/{}", def.name));
            let source_context =
                SourceContext { connector: context(base, name, &metrics.health), wants_meta: Arc::default() };
            let schema = Arc::clone(&input.schema);
            let (def_again, registry) = (Arc::clone(def), settings.registry.clone());
            // What it is made from has passed once.
            let make_decoder: MakeStreamDecoder =
                Arc::new(move |schema| StreamDecoder::new(&def_again, &registry, schema).ok());
            let (feed, handle) =
                Feed::new(source, decoder, make_decoder, schema, source_context, metrics, cut_short.clone());
            let entry = FeedEntry { key, def: Arc::clone(def), handle, n_subscribers: 0 };
            feeds.push(NewFeed { id: self.next_id(), feed, entry });
        }
        Ok((built, feeds))
    }

    /// Starts a generation of a rule, in place of the one before it. Returns true if none was running.
    pub(super) fn start(
        &self,
        state: &mut State,
        rule: &RuleDef,
        built: BuiltRule,
        feeds: Vec<NewFeed>,
        to_start: &mut Vec<Feed>,
    ) -> bool {
        let Shared { settings, cut_short, .. } = &*self.0;
        let BuiltRule { plan, streams, lookups, sinks, late_sink, error_sink } = built;
        let previous = state.rules.get_mut(&rule.name).and_then(|entry| entry.running.take());
        for NewFeed { id, feed, entry } in feeds {
            state.feed_ids.insert(entry.key.clone(), id);
            state.feeds.insert(id, entry);
            to_start.push(feed);
        }

        let Some(metrics) = state.rules.get(&rule.name).map(|entry| Arc::clone(&entry.metrics)) else { return false };
        let limits = Limits {
            items: rule.buffer_batches,
            bytes: CHANNEL_BYTES,
            overflow: match rule.backpressure {
                Backpressure::Block | Backpressure::Spill => Overflow::Block,
                Backpressure::DropOldest => Overflow::DropOldest,
                Backpressure::DropNewest => Overflow::DropNewest,
            },
            memory: Arc::clone(&metrics.memory),
        };
        let store = settings.state.as_ref().filter(|_| rule.delivery.is_durable());
        // A rule that keeps state comes to its feeds through their journals, when the one before it has written its state.
        let replaceable = previous.as_ref().map(|previous| previous.subscriptions.clone()).unwrap_or_default();
        let is_durable =
            store.is_some() || previous.as_ref().is_some_and(|previous| previous.def.delivery.is_durable());
        let mut kept_subscriptions = if is_durable { replaceable.clone() } else { Vec::new() };
        let mut replaceable = if is_durable { Vec::new() } else { replaceable };
        let mut durable_inputs = Vec::new();
        let mut subscriptions = Vec::new();
        let mut inputs = Vec::new();
        let mut slots = Vec::new();
        let mut sources = Vec::new();
        let mut channels = Vec::new();
        let mut are_finite = true;
        for (input, def) in plan.inputs.iter().zip(&streams) {
            let feed_id = state.feed_ids.get(&feed_key(def, &rule.name)).copied().unwrap_or_default();
            let Some(feed) = state.feeds.get_mut(&feed_id) else { continue };
            let counted = Arc::clone(&metrics);
            let (sender, receiver) =
                channel(limits.clone(), move |n_rows| counted.dropped.add(DropReason::Overflow, n_rows));
            channels.push(Channel { name: Arc::clone(&feed.handle.metrics.stream), depth: sender.depth() });
            let old = replaceable.iter().position(|(old_feed_id, _)| *old_feed_id == feed_id);
            let replaces = old.map(|idx| replaceable.swap_remove(idx).1);
            let id = self.next_id();
            // It has been opened before.
            match store.and_then(|store| store.journal(&journal_name(&feed.key)).ok()) {
                None => slots.push(feed.handle.subscribe(id, &input.schema, sender, replaces)),
                Some(open) => {
                    let journal = feed.handle.record(&open);
                    let (offset, pressed) = journal.hold(&rule.name);
                    let (slot, resume) =
                        feed.handle.resume(id, &input.schema, sender, &journal, previous.is_none(), &self.0.tracker);
                    slots.push(slot);
                    durable_inputs.push(DurableInput { journal, offset, pressed, resume });
                }
            }
            feed.n_subscribers += usize::from(replaces.is_none());
            subscriptions.push((feed_id, id));
            sources.push(Arc::clone(&feed.handle.metrics));
            are_finite &= feed.handle.is_finite;
            inputs.push(receiver);
        }

        let mut drivers = Vec::new();
        let mut sink_channels = Vec::new();
        let mut sink_metrics = Vec::new();
        let mut open = |mut sink: SinkPart| {
            if let Some(state) = settings.state.as_ref().map(|state| state.volume()) {
                let rule_dir = state.dir().join("queue").join(file_name(&rule.name));
                let dir = rule_dir.join(file_name(&sink.metrics.sink));
                sink.driver.keep_in(dir, state.sync(), rule.delivery.is_durable());
            }
            let more_metrics = sink.driver.more_metrics();
            let counted = Arc::clone(&sink.metrics);
            let (sender, receiver) = channel(limits.clone(), move |n_rows| {
                counted.rows_in.add(n_rows);
                counted.dropped.add(DropReason::Overflow, n_rows);
            });
            channels.push(Channel { name: Arc::clone(&sink.metrics.sink), depth: sender.depth() });
            drivers.push((sink.driver, receiver, Arc::clone(&sink.metrics.sink)));
            sink_metrics.push(sink.metrics);
            sink_metrics.extend(more_metrics);
            sender
        };
        sink_channels.extend(sinks.into_iter().map(&mut open));
        let side_sinks = SideSinks { late: late_sink.map(&mut open), error: error_sink.map(&mut open) };

        let Some(entry) = state.rules.get_mut(&rule.name) else { return false };
        let pulse = Arc::new(Pulse::default());
        if !matches!(entry.state, RuleState::Running | RuleState::Restarting) {
            entry.tail = Arc::default();
        }
        let durable = store.map(|store| {
            Durable::new(DurableParts {
                rule: rule.name.clone(),
                store: Arc::clone(store.checkpoints()),
                inputs: durable_inputs,
                interval: rule.delivery.checkpoint_interval,
                on_change: rule.delivery.on_change,
                metrics: Arc::clone(&entry.metrics),
                clock: Arc::clone(&settings.clock),
                tracker: self.0.tracker.clone(),
            })
        });
        let limits =
            promise_limits(rule, &streams, &plan, &settings.registry).into_iter().map(|limit| limit.text).collect();
        let task = RuleTask::new(RuleParts {
            chain: Chain::new(&plan, &slots),
            ctx: rule_context(rule, settings),
            inputs,
            in_turn: are_finite,
            lookups: lookups.iter().map(|lookup| Arc::clone(&lookup.driver)).collect(),
            sinks: sink_channels,
            side_sinks,
            fail_on_error: rule.fail_on_error,
            metrics: Arc::clone(&entry.metrics),
            tail: Arc::clone(&entry.tail),
            pulse: Arc::clone(&pulse),
            clock: Arc::clone(&settings.clock),
            durable,
            held: self.0.held.share(),
        });
        let generation = Generation {
            id: self.next_id(),
            def: rule.clone(),
            streams,
            tables: lookups.iter().map(|lookup| Arc::clone(&lookup.def)).collect(),
            started_at: settings.clock.now(),
            subscriptions,
            sources,
            lookups: lookups.into_iter().map(|lookup| lookup.metrics).collect(),
            sinks: sink_metrics,
            channels,
            pulse,
            limits,
            cut_short: cut_short.child_token(),
            finished: CancellationToken::new(),
        };
        let run = GenerationTask {
            task,
            drivers,
            waits_for: std::mem::replace(&mut entry.finished, generation.finished.clone()),
            cut_short: generation.cut_short.clone(),
        };
        let (generation_id, finished) = (generation.id, generation.finished.clone());
        let health = generation.sources.iter().map(|source| &source.health);
        let health = health.chain(generation.lookups.iter().map(|lookup| &lookup.health));
        for health in health.chain(generation.sinks.iter().map(|sink| &sink.health)) {
            let changes = self.0.changes.clone();
            health.watch(move || changes.send_modify(|n_changes| *n_changes += 1));
        }
        let is_new = previous.is_none() || entry.state != RuleState::Running;
        entry.running = Some(generation);
        entry.state = RuleState::Running;
        entry.message = None;
        if let Some(mut previous) = previous {
            // What was replaced on its feed is off it already.
            replaceable.append(&mut kept_subscriptions);
            previous.subscriptions = replaceable;
            self.retire(state, &previous);
        }
        let (engine, name) = (self.clone(), rule.name.clone());
        self.0.tracker.spawn(async move {
            let end = run.run(&engine.0.tracker).await;
            engine.ended(&name, generation_id, end);
            finished.cancel();
        });
        is_new
    }

    /// Takes a generation off its feeds and gives it some time to write what it holds.
    pub(super) fn retire(&self, state: &mut State, generation: &Generation) {
        state.unsubscribe(&generation.subscriptions);
        let (finished, cut_short) = (generation.finished.clone(), generation.cut_short.clone());
        self.0.tracker.spawn(async move {
            if tokio::time::timeout(RETIRE_GRACE, finished.cancelled()).await.is_err() {
                cut_short.cancel();
            }
        });
    }

    /// Notes which bundle the definitions come from, or why a newer one was not taken.
    pub fn set_bundle(&self, bundle: BundleState) {
        *self.bundle() = bundle;
        self.note_change();
    }

    fn bundle(&self) -> MutexGuard<'_, BundleState> {
        self.0.bundle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The registry that the engine was made with.
    pub fn registry(&self) -> &Registry {
        &self.0.settings.registry
    }

    /// Waits until no rule runs any more, or will by itself: all are done, failed, refused or suspended.
    pub async fn finished(&self) {
        let mut changes = self.0.changes.subscribe();
        loop {
            changes.mark_unchanged();
            if self.state().rules.values().all(RuleEntry::is_over) {
                return;
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Stops all rules: sources first, then what is on its way drains, sinks flush, connections close. What is not written
    /// when `grace` is over is counted as dropped. Returns true if everything was written.
    pub async fn stop(&self, grace: Duration) -> bool {
        let Shared { base, tracker, cut_short, .. } = &*self.0;
        base.connections.server().drain();
        {
            let mut state = self.state();
            state.is_stopping = true;
            self.0.stopping.cancel();
            for entry in state.rules.values_mut() {
                entry.stop_waiting();
            }
        }
        tracker.close();
        let drained = async {
            self.stop_feeds().await;
            tracker.wait().await;
        };
        let is_drained = tokio::time::timeout(grace, drained).await.is_ok() && !cut_short.is_cancelled();
        cut_short.cancel();
        {
            let mut state = self.state();
            state.feeds.values().for_each(|feed| feed.handle.stop());
            state.tables.clear();
        }
        let rest = async {
            tracker.wait().await;
            base.tasks.shutdown().await;
        };
        if tokio::time::timeout(CUT_GRACE, rest).await.is_err() {
            tracing::warn!("some tasks did not stop in time");
        }
        is_drained
    }

    /// Stops feeds in the order in which rows flow: one that reads what rules of this process write stops when those have
    /// written everything.
    async fn stop_feeds(&self) {
        loop {
            let waits_for = stop_ready_feeds(&mut self.state());
            if waits_for.is_empty() {
                return;
            }
            let finished = waits_for.iter().map(|finished| Box::pin(finished.cancelled()));
            tokio::select! {
                biased;
                () = self.0.cut_short.cancelled() => return,
                _ = futures::future::select_all(finished) => {}
            }
        }
    }

    /// Ends the grace period of a stop that is under way.
    pub fn cut_short(&self) {
        self.0.cut_short.cancel();
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(super) fn tracker(&self) -> &TaskTracker {
        &self.0.tracker
    }

    /// Completes when the engine stops.
    pub(super) async fn stopping(&self) {
        self.0.stopping.cancelled().await;
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_id(&self) -> u64 {
        self.0.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn note_change(&self) {
        self.0.changes.send_modify(|n_changes| *n_changes += 1);
    }
}

/// Notes that a rule's newest definition does not pass; what runs of it runs on.
fn refuse(entry: &mut RuleEntry, name: &str, message: String, report: &mut ApplyReport) {
    let keeps_running = entry.running.is_some() && entry.state == RuleState::Running;
    if entry.running.is_none() && entry.wanted.is_none() {
        entry.state = RuleState::Refused;
    }
    entry.message = Some(message.clone());
    report.refused.push(Refusal { rule: name.to_owned(), message, keeps_running });
}

/// The name of a feed's journal.
fn journal_name((stream, rule): &FeedKey) -> String {
    match rule {
        Some(rule) => format!("{stream}@{rule}"),
        None => stream.clone(),
    }
}

fn finished_already() -> CancellationToken {
    let token = CancellationToken::new();
    token.cancel();
    token
}

fn rule_context(rule: &RuleDef, settings: &Settings) -> RuleContext {
    let mut random = rand::rngs::StdRng::from_rng(&mut rand::rng());
    RuleContext {
        rule_id: rule.name.as_str().into(),
        rule_start: settings.clock.now(),
        now: settings.clock.now(),
        props: Arc::clone(&settings.props),
        random: Box::new(move || random.random()),
        time_zone: settings.time_zone.clone(),
        report: Report::default(),
    }
}
