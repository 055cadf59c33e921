//! One definition of a rule while it runs: its tasks, and what is known of them.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use sluice_sql::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::definition::{LookupTableDef, RuleDef, StreamDef};
use crate::pipeline::build::Named;
use crate::pipeline::channel::{Depth, Receiver};
use crate::pipeline::feed::SubscriberId;
use crate::pipeline::life::is_same_statement;
use crate::pipeline::metrics::{LookupMetrics, SinkMetrics, StreamMetrics};
use crate::pipeline::outlet::ToSink;
use crate::pipeline::panic_message;
use crate::pipeline::rule::{Pulse, RuleEnd, RuleTask};
use crate::pipeline::sink::SinkDriver;
use crate::pipeline::status::{ConnectorStatus, QueueStatus, by_reason};

/// A definition of a rule that runs or has run.
pub(super) struct Generation {
    /// Unique within the engine.
    pub id: u64,
    pub def: RuleDef,
    /// The stream of each input.
    pub streams: Vec<Arc<StreamDef>>,
    /// The table of each lookup join.
    pub tables: Vec<Arc<LookupTableDef>>,
    pub started_at: Timestamp,
    /// Feed and subscription of each input; empty when it has ended.
    pub subscriptions: Vec<(u64, SubscriberId)>,
    pub sources: Vec<Arc<StreamMetrics>>,
    pub lookups: Vec<Arc<LookupMetrics>>,
    pub sinks: Vec<Arc<SinkMetrics>>,
    pub channels: Vec<Channel>,
    pub pulse: Arc<Pulse>,
    /// What its promise does not cover.
    pub limits: Vec<String>,
    /// Cancelled to end it without writing what it holds.
    pub cut_short: CancellationToken,
    /// Cancelled when all its tasks have returned.
    pub finished: CancellationToken,
}

impl Generation {
    /// True if nothing that matters to it differs in the newest definitions.
    pub fn is_same(&self, rule: &RuleDef, named: &Named) -> bool {
        // What happens after its end, and when it runs, does not concern its tasks.
        let RuleDef {
            name,
            sql,
            sinks,
            options,
            buffer_batches,
            backpressure,
            delivery,
            suspend,
            late_sink,
            error_sink,
            fail_on_error,
            restart: _,
            schedule: _,
            held_with: _,
            origin: _,
        } = &self.def;
        let is_same_rule = (name, sinks, options) == (&rule.name, &rule.sinks, &rule.options)
            && is_same_statement(sql, &rule.sql)
            && (buffer_batches, backpressure, suspend) == (&rule.buffer_batches, &rule.backpressure, &rule.suspend)
            && *delivery == rule.delivery
            && (late_sink, error_sink, fail_on_error) == (&rule.late_sink, &rule.error_sink, &rule.fail_on_error);
        let same_stream =
            |old: &Arc<StreamDef>| named.streams.get(&old.name).is_some_and(|new| is_same_stream(old, new));
        let same_table =
            |old: &Arc<LookupTableDef>| named.tables.get(&old.name).is_some_and(|new| is_same_table(old, new));
        is_same_rule && self.streams.iter().all(same_stream) && self.tables.iter().all(same_table)
    }

    /// Names of the channels that take nothing more now.
    pub fn full_channels(&self) -> Vec<String> {
        let full = self.channels.iter().filter(|channel| channel.depth.is_full());
        full.map(|channel| channel.name.to_string()).collect()
    }

    pub fn source_status(&self) -> Vec<ConnectorStatus> {
        let status = |source: &Arc<StreamMetrics>| ConnectorStatus {
            rows_in: source.messages_in.get(),
            rows_out: source.rows_out.get(),
            dropped: by_reason(&source.dropped),
            ..ConnectorStatus::new(&source.stream, &source.connector, &source.health, &source.errors)
        };
        self.sources.iter().map(status).collect()
    }

    pub fn lookup_status(&self) -> Vec<ConnectorStatus> {
        let status = |lookup: &Arc<LookupMetrics>| ConnectorStatus {
            rows_in: lookup.keys.get(),
            rows_out: lookup.cache_hits.get(),
            ..ConnectorStatus::new(&lookup.table, &lookup.connector, &lookup.health, &lookup.errors)
        };
        self.lookups.iter().map(status).collect()
    }

    pub fn sink_status(&self) -> Vec<ConnectorStatus> {
        let status = |sink: &Arc<SinkMetrics>| ConnectorStatus {
            rows_in: sink.rows_in.get(),
            rows_out: sink.rows_out.get(),
            dropped: by_reason(&sink.dropped),
            circuit: Some(sink.circuit.get()),
            queue: QueueStatus::new(&sink.queue),
            ..ConnectorStatus::new(&sink.sink, &sink.connector, &sink.health, &sink.errors)
        };
        self.sinks.iter().map(status).collect()
    }
}

/// True if both read the same thing in the same way, wherever they were written.
pub(super) fn is_same_stream(a: &StreamDef, b: &StreamDef) -> bool {
    let blank = |def: &StreamDef| StreamDef { origin: Default::default(), ..def.clone() };
    blank(a) == blank(b)
}

/// True if both are asked in the same way, wherever they were written.
pub(super) fn is_same_table(a: &LookupTableDef, b: &LookupTableDef) -> bool {
    let blank = |def: &LookupTableDef| LookupTableDef { origin: Default::default(), ..def.clone() };
    blank(a) == blank(b)
}

/// A bounded channel, to see how full it is.
pub(super) struct Channel {
    /// The stream before it, or the sink behind it.
    pub name: Arc<str>,
    /// How full it is.
    pub depth: Depth,
}

/// The tasks of a generation, ready to run.
pub(super) struct GenerationTask {
    pub task: RuleTask,
    /// With the channel that each reads, and its name.
    pub drivers: Vec<(SinkDriver, Receiver<ToSink>, Arc<str>)>,
    /// Cancelled when the generation before has written everything: results stay in order.
    pub waits_for: CancellationToken,
    pub cut_short: CancellationToken,
}

impl GenerationTask {
    /// Runs the rule and its sinks until all of them have returned. A panic in one of them ends the rule, nothing else.
    pub async fn run(self, tracker: &TaskTracker) -> RuleEnd {
        let GenerationTask { mut task, drivers, waits_for, cut_short } = self;
        waits_for.cancelled().await;
        let mut sinks = FuturesUnordered::new();
        for (driver, receiver, name) in drivers {
            let sink = tracker.spawn(driver.run(receiver, cut_short.clone()));
            sinks.push(async move { (name, sink.await) });
        }
        let sink_failure = |name: &str, result: Result<(), tokio::task::JoinError>| match result {
            Ok(()) => format!("sink {name} has stopped taking results"),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => format!("sink {name}: {}", panic_message(panic.as_ref())),
                Err(error) => format!("sink {name}: {error}"),
            },
        };
        let mut end = tokio::select! {
            biased;
            () = cut_short.cancelled() => RuleEnd::Stopped,
            // A sink returns when its channel is closed, or it has failed.
            Some((name, result)) = sinks.next() => RuleEnd::Failed(sink_failure(&name, result)),
            end = AssertUnwindSafe(task.run()).catch_unwind() => match end {
                Ok(end) => end,
                Err(panic) => RuleEnd::Failed(panic_message(panic.as_ref())),
            },
        };
        task.count_left_over();
        drop(task);
        while let Some((name, result)) = sinks.next().await {
            if result.is_err() {
                end = RuleEnd::Failed(sink_failure(&name, result));
            }
        }
        end
    }
}
