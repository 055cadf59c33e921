//! The engine's numbers as Prometheus (OpenMetrics) text.
//!
//! Labels: `rule`, `stream`, `table`, `sink` (names from the definitions), `connector` (`mqtt`) and fixed words (`reason`,
//! `state`, `channel`). A rule's series go when the rule goes.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use sluice_sql::Timestamp;

use crate::connection::http_server::HttpCount;
use crate::connection::{Health, HealthState};
use crate::lookup::TableCounts;
use crate::pipeline::memory::Memory;
use crate::pipeline::metrics::{
    CheckpointMetrics, DropReason, Drops, Histogram, LookupMetrics, NewestCheckpoint, RuleMetrics, SinkMetrics,
    StreamMetrics,
};
use crate::pipeline::status::RuleState;

/// Everything that an engine counts, at one time.
#[derive(Debug, Default)]
pub struct Samples {
    /// Source instances.
    pub streams: Vec<Arc<StreamMetrics>>,
    /// Rules.
    pub rules: Vec<RuleSample>,
    /// Journals with their bytes.
    pub journals: Vec<(String, u64)>,
    /// Lookup joins.
    pub lookups: Vec<Arc<LookupMetrics>>,
    /// Sinks.
    pub sinks: Vec<Arc<SinkMetrics>>,
    /// Lookup tables that fill themselves.
    pub tables: Vec<TableSample>,
    /// Bytes of rows in all channels.
    pub memory: Option<Arc<Memory>>,
    /// Bytes that the operators of all rules may keep.
    pub state_limit: Option<u64>,
    /// What the server that clients come to has answered.
    pub http: Vec<HttpCount>,
    /// Messages that brokers had kept and no stream was there for.
    pub unclaimed: u64,
}

/// What is known of a lookup table that fills itself.
#[derive(Clone, Debug)]
pub struct TableSample {
    /// Its name.
    pub table: String,
    /// The connector's name: `memory`.
    pub connector: String,
    /// What it has counted.
    pub counts: TableCounts,
}

/// What is known of one rule.
#[derive(Debug)]
pub struct RuleSample {
    /// Counters.
    pub metrics: Arc<RuleMetrics>,
    /// Where the rule is in its life.
    pub state: RuleState,
    /// Batches in its channels and their bytes, by the stream before or the sink behind the channel.
    pub channels: Vec<(Arc<str>, (u64, u64))>,
    /// Results that readers of its live output missed.
    pub tail_missed: u64,
}

impl Samples {
    /// Writes the text.
    ///
    /// # Errors
    /// None in practice: the text goes to memory.
    pub fn encode(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

type Labels = Vec<(&'static str, String)>;

impl Collector for Samples {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        self.encode_rules(&mut families)?;
        self.encode_streams(&mut families)?;
        self.encode_lookups(&mut families)?;
        self.encode_tables(&mut families)?;
        self.encode_sinks(&mut families)?;
        if self.unclaimed > 0 {
            let unclaimed = [(Labels::new(), self.unclaimed)];
            families.counter(
                "sluice_messages_unclaimed",
                "Messages that a broker kept and no stream is for",
                unclaimed,
            )?;
        }
        if self.http.is_empty() {
            return Ok(());
        }
        let answers = self.http.iter().map(|count| (vec![("status", count.status.to_string())], count.n_answers));
        families.counter("sluice_http_answers", "Answers to clients that push or listen", answers)
    }
}

impl Samples {
    fn encode_rules(&self, families: &mut Families<'_>) -> fmt::Result {
        let of = |rule: &RuleSample| vec![("rule", rule.metrics.rule.to_string())];
        let each = |value: fn(&RuleMetrics) -> u64| -> Vec<(Labels, u64)> {
            self.rules.iter().map(|rule| (of(rule), value(&rule.metrics))).collect()
        };
        let states = self.rules.iter().map(|rule| {
            let mut labels = of(rule);
            labels.push(("state", rule.state.as_str().to_owned()));
            (labels, 1)
        });
        families.gauge("sluice_rule_state", "1 for the state that the rule is in", states)?;
        families.counter("sluice_rule_rows_in", "Rows from the rule's streams", each(|rule| rule.rows_in.get()))?;
        families.counter(
            "sluice_rule_rows_out",
            "Rows of results given to the sinks",
            each(|rule| rule.rows_out.get()),
        )?;
        families.counter(
            "sluice_rule_rows_failed",
            "Rows or windows that an expression failed on",
            each(|rule| rule.rows_failed.get()),
        )?;
        let dropped = self.rules.iter().flat_map(|rule| by_reason(of(rule), &rule.metrics.dropped, RULE_REASONS));
        families.counter("sluice_rule_rows_dropped", "Rows that went no further", dropped)?;
        let latencies = self.rules.iter().map(|rule| (of(rule), &rule.metrics.latency));
        families.histogram(
            "sluice_rule_latency",
            "From a row's arrival to its results' being given to the sinks",
            latencies,
        )?;
        let blocked = self.rules.iter().map(|rule| (of(rule), rule.metrics.blocked_us.get()));
        families.seconds("sluice_rule_blocked", "Time spent waiting for a sink to take results", blocked)?;
        families.counter(
            "sluice_rule_restarts",
            "Times that the rule was started again after a failure",
            each(|rule| rule.restarts.get()),
        )?;
        let missed = self.rules.iter().map(|rule| (of(rule), rule.tail_missed));
        families.counter("sluice_rule_tail_missed", "Results that slow readers of the live output missed", missed)?;
        families.gauge(
            "sluice_rule_state_bytes",
            "Bytes of memory that windows, groups and functions keep, about",
            each(|rule| rule.state_bytes.get()),
        )?;
        self.encode_checkpoints(families)?;
        let depths = |value: fn((u64, u64)) -> u64| -> Vec<(Labels, u64)> {
            let each = self.rules.iter().flat_map(|rule| {
                rule.channels.iter().map(move |(name, depth)| {
                    let mut labels = of(rule);
                    labels.push(("channel", name.to_string()));
                    (labels, value(*depth))
                })
            });
            each.collect()
        };
        families.gauge(
            "sluice_rule_channel_batches",
            "Batches waiting in a channel, from a stream or to a sink",
            depths(|(n_batches, _)| n_batches),
        )?;
        families.gauge(
            "sluice_rule_channel_bytes",
            "Bytes of the rows waiting in a channel, about",
            depths(|(_, n_bytes)| n_bytes),
        )?;
        let none = Labels::new;
        let limit = self.state_limit.map(|limit| (none(), limit));
        families.gauge("sluice_state_limit_bytes", "Bytes of memory that all rules may keep so", limit)?;
        let Some(memory) = &self.memory else { return Ok(()) };
        families.gauge("sluice_buffer_bytes", "Bytes of rows in all channels, about", [(none(), memory.used())])?;
        let limit = memory.limit().map(|limit| (none(), limit));
        families.gauge("sluice_buffer_limit_bytes", "Bytes of rows that all channels may hold", limit)?;
        families.counter(
            "sluice_buffer_refused",
            "Times that a channel had to wait because all channels together were full",
            [(none(), memory.n_refused())],
        )
    }

    /// Only for rules that make checkpoints.
    fn encode_checkpoints(&self, families: &mut Families<'_>) -> fmt::Result {
        let newest: Vec<_> = self
            .rules
            .iter()
            .filter_map(|rule| {
                let newest = rule.metrics.checkpoints.newest();
                Some((vec![("rule", rule.metrics.rule.to_string())], newest.at?, newest, &rule.metrics.checkpoints))
            })
            .collect();
        if newest.is_empty() && self.journals.is_empty() {
            return Ok(());
        }
        let each = |value: fn(Timestamp, &NewestCheckpoint, &CheckpointMetrics) -> u64| -> Vec<(Labels, u64)> {
            newest.iter().map(|(labels, at, newest, all)| (labels.clone(), value(*at, newest, all))).collect()
        };
        families.counter("sluice_checkpoints", "Checkpoints written", each(|_, _, all| all.done.get()))?;
        families.counter("sluice_checkpoints_failed", "Checkpoints not written", each(|_, _, all| all.failed.get()))?;
        families.gauge(
            "sluice_checkpoint_time_seconds",
            "When the newest checkpoint was written or known to be as good as new, since the epoch",
            each(|at, _, _| u64::try_from(at / 1000).unwrap_or(0)),
        )?;
        families.gauge(
            "sluice_checkpoint_bytes",
            "Size of the newest checkpoint",
            each(|_, newest, _| newest.n_bytes),
        )?;
        families.counter(
            "sluice_checkpoint_bytes_written",
            "Bytes written for checkpoints: of a large one only what has changed",
            each(|_, _, all| all.bytes_written.get()),
        )?;
        families.gauge(
            "sluice_checkpoint_duration_milliseconds",
            "From the newest checkpoint's barrier until it was written",
            each(|_, newest, _| u64::try_from(newest.took.as_millis()).unwrap_or(u64::MAX)),
        )?;
        let journals = self.journals.iter();
        families.gauge(
            "sluice_journal_bytes",
            "Size of a stream's journal",
            journals.map(|(name, n_bytes)| (vec![("journal", name.clone())], *n_bytes)),
        )
    }

    fn encode_streams(&self, families: &mut Families<'_>) -> fmt::Result {
        let of = |stream: &StreamMetrics| {
            let rule = stream.rule.as_deref().unwrap_or_default().to_owned();
            vec![("stream", stream.stream.to_string()), ("rule", rule), ("connector", stream.connector.clone())]
        };
        let each = |value: fn(&StreamMetrics) -> u64| -> Vec<(Labels, u64)> {
            self.streams.iter().map(|stream| (of(stream), value(stream))).collect()
        };
        families.counter(
            "sluice_source_messages_in",
            "Messages that arrived",
            each(|stream| stream.messages_in.get()),
        )?;
        families.counter(
            "sluice_source_bytes_in",
            "Bytes of the messages that arrived",
            each(|stream| stream.bytes_in.get()),
        )?;
        families.counter("sluice_source_rows_out", "Rows that were decoded", each(|stream| stream.rows_out.get()))?;
        let dropped = self.streams.iter().flat_map(|stream| by_reason(of(stream), &stream.dropped, SOURCE_REASONS));
        families.counter("sluice_source_dropped", "Messages (or rows) that went no further", dropped)?;
        let keeps_journal = |stream: &&Arc<StreamMetrics>| stream.ack_time.quantile(1.0).is_some();
        if self.streams.iter().any(|stream| keeps_journal(&stream)) {
            let acks = self.streams.iter().filter(keeps_journal).map(|stream| (of(stream), &stream.ack_time));
            families.histogram("sluice_source_ack", "From arrival to the journal and the acknowledgement", acks)?;
        }
        let blocked = self.streams.iter().map(|stream| (of(stream), stream.blocked_us.get()));
        families.seconds("sluice_source_blocked", "Time spent waiting for a rule to take rows", blocked)?;
        families.health("sluice_source", self.streams.iter().map(|stream| (of(stream), &stream.health)))
    }

    fn encode_lookups(&self, families: &mut Families<'_>) -> fmt::Result {
        let of = |lookup: &LookupMetrics| {
            let names = (lookup.rule.to_string(), lookup.table.to_string());
            vec![("rule", names.0), ("table", names.1), ("connector", lookup.connector.clone())]
        };
        let each = |value: fn(&LookupMetrics) -> u64| -> Vec<(Labels, u64)> {
            self.lookups.iter().map(|lookup| (of(lookup), value(lookup))).collect()
        };
        families.counter(
            "sluice_lookup_keys",
            "Keys asked for, each once per batch",
            each(|lookup| lookup.keys.get()),
        )?;
        families.counter(
            "sluice_lookup_cache_hits",
            "Keys that the cache answered",
            each(|lookup| lookup.cache_hits.get()),
        )?;
        families.counter(
            "sluice_lookup_cache_misses",
            "Keys that the cache could not answer",
            each(|lookup| lookup.cache_misses.get()),
        )?;
        families.counter(
            "sluice_lookup_cache_evictions",
            "Entries pushed out of the cache",
            each(|lookup| lookup.cache_evictions.get()),
        )?;
        families.gauge(
            "sluice_lookup_cache_entries",
            "Entries in the cache",
            each(|lookup| lookup.cache_entries.get()),
        )?;
        families.counter(
            "sluice_lookup_joined_flights",
            "Keys that waited for a fetch under way",
            each(|lookup| lookup.joined_flights.get()),
        )?;
        families.counter(
            "sluice_lookup_keys_failed",
            "Keys that could not be asked",
            each(|lookup| lookup.keys_failed.get()),
        )?;
        families.counter(
            "sluice_lookup_timeouts",
            "Fetches that did not answer in time",
            each(|lookup| lookup.timeouts.get()),
        )?;
        let fetches = self.lookups.iter().map(|lookup| (of(lookup), &lookup.fetch_time));
        families.histogram("sluice_lookup_fetch", "Time of successful fetches", fetches)?;
        families.health("sluice_lookup", self.lookups.iter().map(|lookup| (of(lookup), &lookup.health)))
    }

    fn encode_tables(&self, families: &mut Families<'_>) -> fmt::Result {
        let of = |table: &TableSample| vec![("table", table.table.clone()), ("connector", table.connector.clone())];
        let each = |value: fn(&TableCounts) -> u64| -> Vec<(Labels, u64)> {
            self.tables.iter().map(|table| (of(table), value(&table.counts))).collect()
        };
        families.gauge("sluice_table_rows", "Rows in the lookup table", each(|counts| counts.rows))?;
        families.counter("sluice_table_rows_in", "Rows written to the lookup table", each(|counts| counts.rows_in))?;
        let dropped = self.tables.iter().flat_map(|table| {
            let reasons = [("no_key", table.counts.no_key), ("evicted", table.counts.evicted)];
            reasons.map(|(reason, n_rows)| {
                let mut labels = of(table);
                labels.push(("reason", reason.to_owned()));
                (labels, n_rows)
            })
        });
        families.counter("sluice_table_rows_dropped", "Rows that the lookup table did not keep", dropped)
    }

    fn encode_sinks(&self, families: &mut Families<'_>) -> fmt::Result {
        let of = |sink: &SinkMetrics| {
            let names = (sink.rule.to_string(), sink.sink.to_string());
            vec![("rule", names.0), ("sink", names.1), ("connector", sink.connector.clone())]
        };
        let each = |value: fn(&SinkMetrics) -> u64| -> Vec<(Labels, u64)> {
            self.sinks.iter().map(|sink| (of(sink), value(sink))).collect()
        };
        families.counter("sluice_sink_rows_in", "Rows given to the sink", each(|sink| sink.rows_in.get()))?;
        families.counter(
            "sluice_sink_rows_out",
            "Rows that the far side accepted",
            each(|sink| sink.rows_out.get()),
        )?;
        families.counter(
            "sluice_sink_bytes_out",
            "Bytes that the far side accepted",
            each(|sink| sink.bytes_out.get()),
        )?;
        let dropped = self.sinks.iter().flat_map(|sink| by_reason(of(sink), &sink.dropped, SINK_REASONS));
        families.counter("sluice_sink_rows_dropped", "Rows that were not written", dropped)?;
        families.counter(
            "sluice_sink_rows_repeated",
            "Rows that came a second time after a restart, and were not written again",
            each(|sink| sink.repeated.get()),
        )?;
        families.counter(
            "sluice_sink_rows_diverted",
            "Rows that went to the alternate sink",
            each(|sink| sink.diverted.get()),
        )?;
        let circuits = self.sinks.iter().map(|sink| {
            let mut labels = of(sink);
            labels.push(("state", sink.circuit.get().as_str().to_owned()));
            (labels, 1)
        });
        families.gauge("sluice_sink_circuit", "1 for the state that the sink's circuit is in", circuits)?;
        families.gauge(
            "sluice_sink_queue_memory_items",
            "Messages or batches of rows that wait in memory",
            each(|sink| sink.queue.memory_items.get()),
        )?;
        families.gauge(
            "sluice_sink_queue_memory_bytes",
            "Bytes of what waits in memory, about",
            each(|sink| sink.queue.memory_bytes.get()),
        )?;
        families.gauge("sluice_sink_queue_rows", "Rows that wait on disk", each(|sink| sink.queue.disk_rows.get()))?;
        families.gauge(
            "sluice_sink_queue_bytes",
            "Bytes that wait on disk",
            each(|sink| sink.queue.disk_bytes.get()),
        )?;
        families.gauge(
            "sluice_sink_queue_full",
            "1 while the queue is full and the rule waits",
            each(|sink| sink.queue.is_full.get()),
        )?;
        families.counter(
            "sluice_sink_queue_restored_rows",
            "Rows that were in the queue when the sink started",
            each(|sink| sink.queue.restored.get()),
        )?;
        let writes = self.sinks.iter().map(|sink| (of(sink), &sink.write_time));
        families.histogram("sluice_sink_write", "Time of successful writes", writes)?;
        families.health("sluice_sink", self.sinks.iter().map(|sink| (of(sink), &sink.health)))
    }
}

/// The reasons that can occur in each place: they are always there, so that a rate is right from the first drop on.
const RULE_REASONS: &[DropReason] =
    &[DropReason::Late, DropReason::BadTimestamp, DropReason::Lookup, DropReason::Overflow, DropReason::Shutdown];
const SOURCE_REASONS: &[DropReason] =
    &[DropReason::Payload, DropReason::BadTimestamp, DropReason::Shutdown, DropReason::Duplicate, DropReason::Journal];
const SINK_REASONS: &[DropReason] = &[
    DropReason::Encode,
    DropReason::Refused,
    DropReason::Overflow,
    DropReason::Expired,
    DropReason::Damaged,
    DropReason::Shutdown,
];

fn by_reason(labels: Labels, drops: &Drops, reasons: &'static [DropReason]) -> Vec<(Labels, u64)> {
    let with_reason = |reason: &DropReason| {
        let mut labels = labels.clone();
        labels.push(("reason", reason.as_str().to_owned()));
        (labels, drops.get(*reason))
    };
    reasons.iter().map(with_reason).collect()
}

/// Writes whole families.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counter(&mut self, name: &str, help: &str, series: impl IntoIterator<Item = (Labels, u64)>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&value, None)?;
        }
        Ok(())
    }

    /// A counter of microseconds, shown in seconds.
    fn seconds(&mut self, name: &str, help: &str, series: impl IntoIterator<Item = (Labels, u64)>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Counter)?;
        for (labels, us) in series {
            let seconds = us as f64 / 1e6;
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, f64, f64>(&seconds, None)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, series: impl IntoIterator<Item = (Labels, u64)>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn histogram<'h>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, &'h Histogram)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (labels, histogram) in series {
            let (counts, sum) = histogram.snapshot();
            let bounds = Histogram::BOUNDS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
            let mut encoder = family.encode_family(&labels)?;
            encoder.encode_histogram::<NoLabelSet>(sum.as_secs_f64(), counts.iter().sum(), &buckets, None)?;
        }
        Ok(())
    }

    /// Connection state, reconnects and retries of connectors.
    fn health<'h>(&mut self, prefix: &str, series: impl Iterator<Item = (Labels, &'h Health)>) -> fmt::Result {
        let states: Vec<(Labels, HealthState)> = series.map(|(labels, health)| (labels, health.state())).collect();
        let each = |value: fn(&HealthState) -> u64| -> Vec<(Labels, u64)> {
            states.iter().map(|(labels, state)| (labels.clone(), value(state))).collect()
        };
        let connected = each(|state| u64::from(state.connected == Some(true)));
        self.gauge(&format!("{prefix}_connected"), "1 while the connection stands", connected)?;
        let reconnects = each(|state| state.n_reconnects);
        self.counter(&format!("{prefix}_reconnects"), "Connections made again after they were lost", reconnects)?;
        let retries = each(|state| state.n_retries);
        self.counter(&format!("{prefix}_retries"), "Operations tried again", retries)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::time::{Clock, SystemClock};

    #[test]
    fn every_family_is_written_with_its_labels() {
        let clock = || Arc::new(SystemClock) as Arc<dyn Clock>;
        let memory = Arc::new(Memory::new(Some(1000)));
        let rule = RuleMetrics::new("demo", &memory, clock());
        rule.rows_in.add(5);
        rule.dropped.add(DropReason::Late, 2);
        rule.latency.observe(Duration::from_micros(1500), 3);
        rule.blocked_us.add(2_500_000);
        let stream = StreamMetrics::new("a \"quoted\" name", Some("demo"), "mqtt", clock());
        stream.health.up();
        let lookup = LookupMetrics::new("demo", "myTable", "redis", clock());
        lookup.cache_hits.add(7);
        let sink = SinkMetrics::new("demo", 0, "influx2", clock());
        sink.health.down("gone");
        sink.health.up();
        let samples = Samples {
            journals: Vec::new(),
            streams: vec![Arc::new(stream)],
            rules: vec![RuleSample {
                metrics: Arc::new(rule),
                state: RuleState::Running,
                channels: vec![("s1".into(), (4, 100))],
                tail_missed: 1,
            }],
            lookups: vec![Arc::new(lookup)],
            sinks: vec![Arc::new(sink)],
            tables: vec![TableSample {
                table: "sites".to_owned(),
                connector: "memory".to_owned(),
                counts: TableCounts { rows: 3, rows_in: 5, no_key: 1, evicted: 1 },
            }],
            memory: Some(memory),
            state_limit: Some(1 << 20),
            http: vec![HttpCount { status: 200, n_answers: 3 }, HttpCount { status: 429, n_answers: 1 }],
            unclaimed: 3,
        };
        insta::assert_snapshot!(samples.encode().unwrap());
    }
}
