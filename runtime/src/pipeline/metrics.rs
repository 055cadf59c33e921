//! What streams, rules, lookups and sinks count while they run.
//!
//! Plain atomics that the tasks share with whoever shows them; `exposition` turns them into Prometheus text. Label values
//! are names from the definitions and fixed words, never data, so the number of series is bounded.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sluice_sql::Timestamp;
use sluice_sql::operators::Restored;

use crate::connection::{Health, HealthChange};
use crate::pipeline::memory::Memory;
use crate::state::checkpoint::Saved;
use crate::time::Clock;

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the number.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why rows (or, before they are decoded, messages) did not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The payload could not be decoded.
    Payload,
    /// Older than the watermark.
    Late,
    /// No usable timestamp.
    BadTimestamp,
    /// The lookup table could not be asked, and the policy is `drop`.
    Lookup,
    /// The sink's template, fields or format could not be applied.
    Encode,
    /// The far side refused it for good.
    Refused,
    /// The grace period was over before it could be written.
    Shutdown,
    /// A channel or queue was full, and the rule's policy is to drop.
    Overflow,
    /// It has waited for longer than it may.
    Expired,
    /// What was kept on disk can't be read any more.
    Damaged,
    /// The far side delivered it again, and it had been taken.
    Duplicate,
    /// It was in the journal, and is gone or damaged.
    Journal,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [DropReason; 12] = [
        DropReason::Payload,
        DropReason::Late,
        DropReason::BadTimestamp,
        DropReason::Lookup,
        DropReason::Encode,
        DropReason::Refused,
        DropReason::Shutdown,
        DropReason::Overflow,
        DropReason::Expired,
        DropReason::Damaged,
        DropReason::Duplicate,
        DropReason::Journal,
    ];

    /// The word in metrics and status.
    pub fn as_str(self) -> &'static str {
        match self {
            DropReason::Payload => "payload",
            DropReason::Late => "late",
            DropReason::BadTimestamp => "bad_timestamp",
            DropReason::Lookup => "lookup",
            DropReason::Encode => "encode",
            DropReason::Refused => "refused",
            DropReason::Shutdown => "shutdown",
            DropReason::Overflow => "overflow",
            DropReason::Expired => "expired",
            DropReason::Damaged => "damaged",
            DropReason::Duplicate => "duplicate",
            DropReason::Journal => "journal",
        }
    }
}

/// A counter per [`DropReason`].
#[derive(Debug, Default)]
pub struct Drops([Counter; DropReason::ALL.len()]);

impl Drops {
    /// Counts `n` dropped for `reason`.
    pub fn add(&self, reason: DropReason, n: u64) {
        if let Some(counter) = self.0.get(reason as usize) {
            counter.add(n);
        }
    }

    /// Dropped for `reason` so far.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0.get(reason as usize).map_or(0, Counter::get)
    }

    /// Dropped so far, whatever the reason.
    pub fn total(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }
}

/// A distribution of durations in fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One more than there are bounds: the last one has none.
    buckets: [AtomicU64; Histogram::BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Upper bounds of the buckets in microseconds.
    pub const BOUNDS_US: [u64; 16] = [
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
        5_000_000, 10_000_000,
    ];

    /// Counts `n` events that each took `duration`.
    pub fn observe(&self, duration: Duration, n: u64) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket_idx = Self::BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(bucket) = self.buckets.get(bucket_idx) {
            bucket.fetch_add(n, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(us.saturating_mul(n), Ordering::Relaxed);
    }

    /// The upper bound of the bucket that holds this share of all events; `None` without any.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let (counts, _) = self.snapshot();
        let wanted = counts.iter().sum::<u64>() as f64 * share;
        let mut n_seen = 0;
        let bucket_idx = counts.iter().position(|count| {
            n_seen += count;
            n_seen > 0 && n_seen as f64 >= wanted
        })?;
        Some(Self::BOUNDS_US.get(bucket_idx).map_or(Duration::MAX, |bound| Duration::from_micros(*bound)))
    }

    /// Counts per bucket (not cumulated; the last bucket has no bound) and the sum of all durations.
    pub fn snapshot(&self) -> ([u64; Histogram::BOUNDS_US.len() + 1], Duration) {
        let counts = std::array::from_fn(|bucket_idx| {
            self.buckets.get(bucket_idx).map_or(0, |bucket| bucket.load(Ordering::Relaxed))
        });
        (counts, Duration::from_micros(self.sum_us.load(Ordering::Relaxed)))
    }
}

/// Where the errors of one part of a rule go: the newest is kept for the status, and the log gets the first few and then at
/// most one line per [`ErrorLog::INTERVAL_MS`], which says how many were left out.
pub struct ErrorLog {
    rule: Option<Arc<str>>,
    connector: Option<Arc<str>>,
    clock: Arc<dyn Clock>,
    state: Mutex<ErrorLogState>,
}

#[derive(Default)]
struct ErrorLogState {
    newest: Option<ErrorEntry>,
    /// Lines written since the last quiet interval.
    n_burst: u32,
    /// When the last line was written.
    logged_at: Timestamp,
    n_left_out: u64,
}

/// An error and its time.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ErrorEntry {
    /// When, in milliseconds since the epoch.
    pub at: Timestamp,
    /// What.
    pub message: String,
}

impl ErrorLog {
    /// Pause between two lines once the first few were written.
    pub const INTERVAL_MS: i64 = 10_000;
    /// Lines that are written without a pause.
    const BURST: u32 = 5;

    /// A log that names the rule and the connector (a stream, table or sink) that the errors come from.
    pub fn new(rule: Option<Arc<str>>, connector: Option<Arc<str>>, clock: Arc<dyn Clock>) -> Self {
        ErrorLog { rule, connector, clock, state: Mutex::default() }
    }

    /// Keeps the error and logs it, or counts it as left out.
    pub fn report(&self, error: impl Display) {
        let now = self.clock.now();
        let message = error.to_string();
        let n_left_out = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let is_said = state.newest.as_ref().is_some_and(|newest| newest.message == message && newest.at == now);
            state.newest = Some(ErrorEntry { at: now, message: message.clone() });
            if is_said {
                return;
            }
            if now.saturating_sub(state.logged_at) >= Self::INTERVAL_MS {
                state.n_burst = 0;
            }
            if state.n_burst >= Self::BURST {
                state.n_left_out += 1;
                return;
            }
            // A steady flow uses the burst up once and is then let through once per interval.
            state.n_burst = if state.n_left_out > 0 { Self::BURST } else { state.n_burst + 1 };
            state.logged_at = now;
            std::mem::take(&mut state.n_left_out)
        };
        let left_out = (n_left_out > 0).then_some(n_left_out);
        tracing::warn!(rule = self.rule.as_deref(), connector = self.connector.as_deref(), left_out, "{message}");
    }

    /// The health of the connector that the errors come from, which is told of here: each connection that is lost, and when it
    /// is there again.
    fn health(self: &Arc<Self>) -> Health {
        let log = Arc::clone(self);
        Health::with_listener(move |change| match change {
            HealthChange::Lost(error) => log.report(error),
            HealthChange::Recovered => {
                tracing::info!(rule = log.rule.as_deref(), connector = log.connector.as_deref(), "connected again");
            }
        })
    }

    /// The newest error.
    pub fn newest(&self) -> Option<ErrorEntry> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).newest.clone()
    }
}

impl std::fmt::Debug for ErrorLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ErrorLog").field("rule", &self.rule).field("connector", &self.connector).finish_non_exhaustive()
    }
}

/// What one source instance counts: a shared stream has one, another has one per rule.
#[derive(Debug)]
pub struct StreamMetrics {
    /// The stream's name.
    pub stream: Arc<str>,
    /// The one rule that it feeds; `None` for a shared stream.
    pub rule: Option<Arc<str>>,
    /// The connector's name: `mqtt`.
    pub connector: String,
    /// Messages, or rows of a source without a wire format, that arrived.
    pub messages_in: Counter,
    /// Bytes of those messages.
    pub bytes_in: Counter,
    /// Rows that were decoded.
    pub rows_out: Counter,
    /// Messages that could not be decoded.
    pub dropped: Drops,
    /// Microseconds spent waiting for a rule to take rows.
    pub blocked_us: Counter,
    /// From a message's arrival until it was in the journal and acknowledged.
    pub ack_time: Histogram,
    /// Errors of the source and of decoding.
    pub errors: Arc<ErrorLog>,
    /// State of the connection; also the source's [`ConnectorContext::health`](crate::connection::ConnectorContext).
    pub health: Health,
}

impl StreamMetrics {
    /// Metrics of a stream's source; `rule` unless the stream is shared.
    pub fn new(stream: &str, rule: Option<&str>, connector: &str, clock: Arc<dyn Clock>) -> Self {
        let (stream, rule): (Arc<str>, Option<Arc<str>>) = (stream.into(), rule.map(Into::into));
        let errors = Arc::new(ErrorLog::new(rule.clone(), Some(Arc::clone(&stream)), clock));
        StreamMetrics {
            health: errors.health(),
            errors,
            stream,
            rule,
            connector: connector.to_owned(),
            messages_in: Counter::default(),
            bytes_in: Counter::default(),
            rows_out: Counter::default(),
            dropped: Drops::default(),
            blocked_us: Counter::default(),
            ack_time: Histogram::default(),
        }
    }
}

/// What one rule counts.
#[derive(Debug)]
pub struct RuleMetrics {
    /// The rule's name.
    pub rule: Arc<str>,
    /// Rows that came from its streams.
    pub rows_in: Counter,
    /// Rows of results that were handed to its sinks (once, however many sinks there are).
    pub rows_out: Counter,
    /// Rows, or whole results of windows, that an expression failed on.
    pub rows_failed: Counter,
    /// Rows that went no further.
    pub dropped: Drops,
    /// From a row's arrival until the results that it caused were handed to the sinks.
    pub latency: Histogram,
    /// Microseconds spent waiting for a sink to take results.
    pub blocked_us: Counter,
    /// Times that it was started again after a failure.
    pub restarts: Counter,
    /// Bytes of rows that wait in its channels.
    pub memory: Arc<Memory>,
    /// Bytes of memory that its operators kept when they were last measured.
    pub state_bytes: Gauge,
    /// Its checkpoints.
    pub checkpoints: CheckpointMetrics,
    /// Errors of expressions and of the rule's task.
    pub errors: ErrorLog,
}

/// What the checkpoints of a rule count.
#[derive(Debug, Default)]
pub struct CheckpointMetrics {
    /// Written.
    pub done: Counter,
    /// Not written.
    pub failed: Counter,
    /// Bytes written for them.
    pub bytes_written: Counter,
    newest: Mutex<NewestCheckpoint>,
}

/// The newest checkpoint of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewestCheckpoint {
    /// When it was written, or was last known to be as good as new; `None` before the first.
    pub at: Option<Timestamp>,
    /// From the barrier until it was written.
    pub took: Duration,
    /// Its size.
    pub n_bytes: u64,
    /// What became of the state that the rule found when it began.
    pub restored: Option<Restored>,
}

impl CheckpointMetrics {
    /// One was written.
    pub fn done(&self, at: Timestamp, took: Duration, saved: Saved) {
        self.done.inc();
        self.bytes_written.add(saved.n_written);
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = NewestCheckpoint { at: Some(at), took, n_bytes: saved.n_bytes, restored: newest.restored.take() };
    }

    /// None was needed: nothing has happened since the last one.
    pub fn still_good(&self, at: Timestamp) {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).at = Some(at);
    }

    /// One could not be written.
    pub fn failed(&self) {
        self.failed.inc();
    }

    /// The rule began with an earlier state.
    pub fn restored(&self, restored: &Restored) {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).restored = Some(restored.clone());
    }

    /// The newest one.
    pub fn newest(&self) -> NewestCheckpoint {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl RuleMetrics {
    /// Metrics of a rule; `process` is the account of memory that the rule's is below.
    pub fn new(rule: &str, process: &Arc<Memory>, clock: Arc<dyn Clock>) -> Self {
        let rule: Arc<str> = rule.into();
        RuleMetrics {
            state_bytes: Gauge::default(),
            checkpoints: CheckpointMetrics::default(),
            errors: ErrorLog::new(Some(Arc::clone(&rule)), None, clock),
            rule,
            memory: Arc::new(Memory::below(process, None)),
            rows_in: Counter::default(),
            rows_out: Counter::default(),
            rows_failed: Counter::default(),
            dropped: Drops::default(),
            latency: Histogram::default(),
            blocked_us: Counter::default(),
            restarts: Counter::default(),
        }
    }
}

/// What one sink of a rule counts.
#[derive(Debug)]
pub struct SinkMetrics {
    /// The rule's name.
    pub rule: Arc<str>,
    /// The sink's name within the rule: `mqtt_0`.
    pub sink: Arc<str>,
    /// The connector's name: `mqtt`.
    pub connector: String,
    /// Rows that came in.
    pub rows_in: Counter,
    /// Rows that the far side has accepted.
    pub rows_out: Counter,
    /// Bytes of encoded messages that the far side has accepted.
    pub bytes_out: Counter,
    /// Rows that were not written.
    pub dropped: Drops,
    /// How long successful writes took, counted per write.
    pub write_time: Histogram,
    /// Rows that came a second time after a restart, and are not written again.
    pub repeated: Counter,
    /// Rows that were given to the alternate sink.
    pub diverted: Counter,
    /// Does the far side take what is written?
    pub circuit: CircuitState,
    /// What waits in the sink's queue.
    pub queue: QueueMetrics,
    /// Errors of encoding and writing.
    pub errors: Arc<ErrorLog>,
    /// State of the connection and retries; also the sink's [`ConnectorContext::health`](crate::connection::ConnectorContext).
    pub health: Health,
}

impl SinkMetrics {
    /// Metrics of a rule's sink number `sink_idx`.
    pub fn new(rule: &str, sink_idx: usize, connector: &str, clock: Arc<dyn Clock>) -> Self {
        Self::named(rule.into(), format!("{connector}_{sink_idx}").into(), connector, clock)
    }

    /// Metrics of a sink beside another one: `deadLetter`, `alternate`.
    pub fn beside(of: &SinkMetrics, what: &str, connector: &str, clock: Arc<dyn Clock>) -> Self {
        Self::named(Arc::clone(&of.rule), format!("{}/{what}", of.sink).into(), connector, clock)
    }

    fn named(rule: Arc<str>, sink: Arc<str>, connector: &str, clock: Arc<dyn Clock>) -> Self {
        let errors = Arc::new(ErrorLog::new(Some(Arc::clone(&rule)), Some(Arc::clone(&sink)), clock));
        SinkMetrics {
            health: errors.health(),
            errors,
            rule,
            sink,
            connector: connector.to_owned(),
            rows_in: Counter::default(),
            rows_out: Counter::default(),
            bytes_out: Counter::default(),
            dropped: Drops::default(),
            write_time: Histogram::default(),
            repeated: Counter::default(),
            diverted: Counter::default(),
            circuit: CircuitState::default(),
            queue: QueueMetrics::default(),
        }
    }
}

/// Does the far side take what is written?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Circuit {
    /// The last try went through, or there was none.
    #[default]
    Closed,
    /// The last try failed, and one more is under way.
    HalfOpen,
    /// The last try failed, and the pause before the next one is not over.
    Open,
}

impl Circuit {
    /// The word in metrics and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Circuit::Closed => "closed",
            Circuit::HalfOpen => "half_open",
            Circuit::Open => "open",
        }
    }
}

/// A [`Circuit`] that is looked at from elsewhere.
#[derive(Debug, Default)]
pub struct CircuitState(AtomicU64);

impl CircuitState {
    /// Changes it.
    pub fn set(&self, circuit: Circuit) {
        self.0.store(circuit as u64, Ordering::Relaxed);
    }

    /// As it is now.
    pub fn get(&self) -> Circuit {
        match self.0.load(Ordering::Relaxed) {
            0 => Circuit::Closed,
            1 => Circuit::HalfOpen,
            _ => Circuit::Open,
        }
    }
}

/// What waits in a sink's queue.
#[derive(Debug, Default)]
pub struct QueueMetrics {
    /// Messages, or batches of rows, in memory.
    pub memory_items: Gauge,
    /// Bytes of them, about.
    pub memory_bytes: Gauge,
    /// Rows on disk.
    pub disk_rows: Gauge,
    /// Bytes on disk.
    pub disk_bytes: Gauge,
    /// 1 while there is no room, and the rule waits.
    pub is_full: Gauge,
    /// Rows that were there when the sink started.
    pub restored: Counter,
}

/// What one lookup join of a rule counts.
#[derive(Debug)]
pub struct LookupMetrics {
    /// The rule's name.
    pub rule: Arc<str>,
    /// The lookup table's name.
    pub table: Arc<str>,
    /// The connector's name: `redis`.
    pub connector: String,
    /// Keys that were asked for, each once per batch.
    pub keys: Counter,
    /// Keys that the cache answered.
    pub cache_hits: Counter,
    /// Keys that the cache could not answer.
    pub cache_misses: Counter,
    /// Entries pushed out of the cache by newer ones.
    pub cache_evictions: Counter,
    /// Entries in the cache.
    pub cache_entries: Gauge,
    /// Keys that waited for a fetch that was already on its way.
    pub joined_flights: Counter,
    /// Keys that could not be asked, after the policy was applied.
    pub keys_failed: Counter,
    /// Calls to the far side that did not answer in time.
    pub timeouts: Counter,
    /// How long successful calls to the far side took, counted per call.
    pub fetch_time: Histogram,
    /// Errors of the lookup.
    pub errors: Arc<ErrorLog>,
    /// State of the connection and retries; also the lookup's [`ConnectorContext::health`](crate::connection::ConnectorContext).
    pub health: Health,
}

impl LookupMetrics {
    /// Metrics of a rule's join with `table`.
    pub fn new(rule: &str, table: &str, connector: &str, clock: Arc<dyn Clock>) -> Self {
        let (rule, table): (Arc<str>, Arc<str>) = (rule.into(), table.into());
        let errors = Arc::new(ErrorLog::new(Some(Arc::clone(&rule)), Some(Arc::clone(&table)), clock));
        LookupMetrics {
            health: errors.health(),
            errors,
            rule,
            table,
            connector: connector.to_owned(),
            keys: Counter::default(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            cache_evictions: Counter::default(),
            cache_entries: Gauge::default(),
            joined_flights: Counter::default(),
            keys_failed: Counter::default(),
            timeouts: Counter::default(),
            fetch_time: Histogram::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use super::*;

    struct HandClock(AtomicI64);

    impl Clock for HandClock {
        fn now(&self) -> Timestamp {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn histogram_puts_a_duration_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        let cases = [(0, 0), (100, 0), (101, 1), (1_000, 3), (10_000_000, 15), (10_000_001, 16)];
        for (us, bucket_idx) in cases {
            let (before, _) = histogram.snapshot();
            histogram.observe(Duration::from_micros(us), 2);
            let (after, _) = histogram.snapshot();
            let grown: Vec<usize> = (0..after.len()).filter(|idx| after[*idx] == before[*idx] + 2).collect();
            assert_eq!(grown, [bucket_idx], "{us} us");
        }
        let (_, sum) = histogram.snapshot();
        assert_eq!(sum, Duration::from_micros(2 * (100 + 101 + 1_000 + 10_000_000 + 10_000_001)));
    }

    #[test]
    fn drops_are_counted_by_reason() {
        let drops = Drops::default();
        for (reason_idx, reason) in DropReason::ALL.into_iter().enumerate() {
            drops.add(reason, reason_idx as u64 + 1);
        }
        for (reason_idx, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(drops.get(reason), reason_idx as u64 + 1, "{}", reason.as_str());
        }
        let n_reasons = DropReason::ALL.len() as u64;
        assert_eq!(drops.total(), n_reasons * (n_reasons + 1) / 2);
    }

    #[test]
    fn a_flow_of_errors_is_logged_in_a_burst_and_then_once_per_interval() {
        let clock = Arc::new(HandClock(AtomicI64::new(1_000_000)));
        let log = ErrorLog::new(None, None, Arc::clone(&clock) as Arc<dyn Clock>);
        let left_out = || log.state.lock().unwrap().n_left_out;
        for n in 0..100 {
            log.report(format!("error {n}"));
        }
        assert_eq!(left_out(), 95);
        assert_eq!(log.newest(), Some(ErrorEntry { at: 1_000_000, message: "error 99".to_owned() }));
        clock.0.fetch_add(ErrorLog::INTERVAL_MS, Ordering::Relaxed);
        log.report("again");
        assert_eq!(left_out(), 0, "the line says how many were left out");
        log.report("and again");
        assert_eq!(left_out(), 1, "a flow that goes on gets one line per interval");
    }
}
