//! A source and a sink that a test holds in its hands, found by their `DATASOURCE` or `id` option.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sluice_sql::operators::LookupKey;
use sluice_sql::{ColumnKind, Object, Row, Schema, Timestamp, Value};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::connection::ConnectorContext;
use crate::definition::{Definitions, LookupTableDef, Origin, RuleDef, SinkDef, StreamDef};
use crate::error::{ConfigError, ConnectorError};
use crate::lookup::{Found, LookupSource, LookupType};
use crate::options::Options;
use crate::pipeline::{Engine, Settings};
use crate::registry::Registry;
use crate::sink::{Output, Sink, SinkArgs, SinkError, SinkType, Takes};
use crate::source::{Gives, Ingest, Items, Source, SourceArgs, SourceContext, SourceRow, SourceType};
use crate::time::Clock;

/// What a scripted source does next.
pub enum Step {
    /// Gives rows with these numbers.
    Rows(Vec<i64>),
    /// Fails, and can be connected again.
    Fail(&'static str),
    /// Panics.
    Panic,
    /// Has ended.
    End,
}

/// The test's end of a source. A rule's source takes the script over from the one before it.
#[derive(Clone)]
pub struct Script {
    steps: mpsc::UnboundedSender<Step>,
    taken: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Step>>>,
    pub state: Arc<Mutex<ScriptState>>,
}

#[derive(Default)]
pub struct ScriptState {
    /// Tries to connect that still fail.
    pub n_refusals: usize,
    pub n_connected: usize,
    pub n_closed: usize,
    pub acked: Vec<u64>,
    pub n_given: u64,
}

impl Script {
    pub fn play(&self, step: Step) {
        self.steps.send(step).unwrap();
    }

    pub fn rows(&self, numbers: impl IntoIterator<Item = i64>) {
        self.play(Step::Rows(numbers.into_iter().collect()));
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut ScriptState) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The test's end of a sink.
#[derive(Clone)]
pub struct Collected {
    state: Arc<Mutex<CollectedState>>,
    /// One permit per write; closed = no limit.
    permits: Arc<Semaphore>,
}

#[derive(Default)]
struct CollectedState {
    numbers: Vec<i64>,
    n_columns: Vec<usize>,
    n_closed: usize,
    panics: bool,
    refused: Vec<i64>,
}

impl Collected {
    /// Writes wait until [`Collected::open`].
    pub fn blocked() -> Self {
        Collected { state: Arc::default(), permits: Arc::new(Semaphore::new(0)) }
    }

    pub fn open(&self) {
        self.permits.close();
    }

    pub fn numbers(&self) -> Vec<i64> {
        self.with(|state| state.numbers.clone())
    }

    pub fn n_closed(&self) -> usize {
        self.with(|state| state.n_closed)
    }

    pub fn panic_on_write(&self) {
        self.with(|state| state.panics = true);
    }

    /// These rows are never taken.
    pub fn refuse(&self, numbers: &[i64]) {
        self.with(|state| state.refused = numbers.to_vec());
    }

    /// For each row, how many columns it had.
    pub fn n_columns(&self) -> Vec<usize> {
        self.with(|state| state.n_columns.clone())
    }

    fn with<T>(&self, look: impl FnOnce(&mut CollectedState) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

static SCRIPTS: Mutex<Option<HashMap<String, Script>>> = Mutex::new(None);
static SINKS: Mutex<Option<HashMap<String, Collected>>> = Mutex::new(None);

fn find<T: Clone>(list: &Mutex<Option<HashMap<String, T>>>, name: &str) -> Option<T> {
    list.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.get(name).cloned()
}

fn keep<T>(list: &Mutex<Option<HashMap<String, T>>>, name: &str, item: T) {
    list.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(name.to_owned(), item);
}

/// A source that streams with the datasource `name` read. Names are unique over all tests.
pub fn script(name: &str) -> Script {
    let (sender, receiver) = mpsc::unbounded_channel();
    let script = Script { steps: sender, taken: Arc::new(tokio::sync::Mutex::new(receiver)), state: Arc::default() };
    keep(&SCRIPTS, name, script.clone());
    script
}

/// A sink that collects what the sinks with the id `name` write.
pub fn collected(name: &str) -> Collected {
    let collected = blocked(name);
    collected.open();
    collected
}

/// As [`collected`], but it takes nothing before it is opened.
pub fn blocked(name: &str) -> Collected {
    let collected = Collected::blocked();
    keep(&SINKS, name, collected.clone());
    collected
}

struct ScriptSource(Script);

#[async_trait]
impl Source for ScriptSource {
    async fn connect(&mut self, _ctx: &SourceContext) -> Result<(), ConnectorError> {
        self.0.with(|state| {
            if state.n_refusals > 0 {
                state.n_refusals -= 1;
                return Err(ConnectorError::external("nobody there"));
            }
            state.n_connected += 1;
            Ok(())
        })
    }

    async fn next(&mut self) -> Result<Option<Ingest>, ConnectorError> {
        let step = self.0.taken.lock().await.recv().await;
        match step {
            Some(Step::Rows(numbers)) => {
                let row = |n: i64| SourceRow {
                    object: Arc::new(Object::from_iter([("n", Value::Int(n)), ("twice", Value::Int(2 * n))])),
                    meta: None,
                    ts: None,
                };
                let ack = self.0.with(|state| {
                    state.n_given += 1;
                    state.n_given
                });
                Ok(Some(Ingest { items: Items::Rows(numbers.into_iter().map(row).collect()), ack: Some(ack) }))
            }
            Some(Step::Fail(message)) => Err(ConnectorError::external(message)),
            Some(Step::Panic) => panic!("a source may break"),
            Some(Step::End) | None => Ok(None),
        }
    }

    fn ack(&mut self, ack: u64) {
        self.0.with(|state| state.acked.push(ack));
    }

    async fn close(&mut self) {
        self.0.with(|state| state.n_closed += 1);
    }
}

struct CollectSink(Collected);

#[async_trait]
impl Sink for CollectSink {
    async fn connect(&mut self, ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        ctx.health.up();
        Ok(())
    }

    async fn write(&mut self, output: Output<'_>) -> Result<(), SinkError> {
        // An error means that the semaphore is closed: no limit.
        if let Ok(permit) = self.0.permits.acquire().await {
            permit.forget();
        }
        let Output::Rows(batches) = output else { panic!("the sink takes rows") };
        let (mut refused, mut idx) = (Vec::new(), 0);
        self.0.with(|state| {
            assert!(!state.panics, "a sink may break");
            for batch in batches {
                for row in &batch.rows {
                    let object = batch.schema.to_object(row);
                    let number = match object.get("n") {
                        Some(Value::Int(n)) => *n,
                        // Sums of schemaless numbers.
                        Some(Value::Float(n)) => *n as i64,
                        other => panic!("n is {other:?}"),
                    };
                    if state.refused.contains(&number) {
                        refused.push(idx);
                    } else {
                        state.numbers.push(number);
                        state.n_columns.push(object.len());
                    }
                    idx += 1;
                }
            }
        });
        if refused.is_empty() {
            return Ok(());
        }
        Err(SinkError::Refused { items: refused, n_others: 0, reason: "secret words of the far side".to_owned() })
    }

    async fn close(&mut self) {
        self.0.with(|state| state.n_closed += 1);
    }
}

/// A lookup table in which the row of key `n` is `{id: n, site: 10 n}` for even numbers. Its first calls take longest.
struct SlowTable {
    columns: Arc<Schema>,
    n_calls: AtomicU64,
}

/// Calls to [`SlowTable`]s that are under way, and the most that were at once.
pub static CALLS: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

#[async_trait]
impl LookupSource for SlowTable {
    async fn lookup(&self, keys: &[LookupKey]) -> Result<Vec<Found>, ConnectorError> {
        let [under_way, most] = &CALLS;
        most.fetch_max(under_way.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        let n_calls = self.n_calls.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(100 / (n_calls + 1))).await;
        under_way.fetch_sub(1, Ordering::Relaxed);
        let row = |n: i64| {
            let object = Object::from_iter([("id", Value::Int(n)), ("site", Value::Int(10 * n))]);
            let value = |column: &sluice_sql::Column| match column.kind {
                ColumnKind::Star => Value::Object(Arc::new(object.clone())),
                _ => object.get(&column.name).cloned().unwrap_or_default(),
            };
            Row { ts: 0, values: self.columns.columns.iter().map(value).collect() }
        };
        let answer = |key: &LookupKey| match &key.0[..] {
            [Value::Int(n)] if n % 2 == 0 => vec![row(*n)],
            _ => Vec::new(),
        };
        Ok(keys.iter().map(|key| Ok(answer(key))).collect())
    }
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct CollectOptions {
    id: String,
}

fn build_source(args: &SourceArgs<'_>) -> Result<Box<dyn Source>, ConfigError> {
    match find(&SCRIPTS, args.datasource) {
        Some(script) => Ok(Box::new(ScriptSource(script))),
        None => Err(ConfigError::new("datasource", "there is no such script")),
    }
}

fn build_sink(args: &SinkArgs<'_>) -> Result<Box<dyn Sink>, ConfigError> {
    let CollectOptions { id } = args.options.parse()?;
    match find(&SINKS, &id) {
        Some(collected) => Ok(Box::new(CollectSink(collected))),
        None => Err(ConfigError::new("id", "there is no such sink")),
    }
}

pub fn registry() -> Registry {
    Registry::builtin()
        .with_source(SourceType {
            name: "script",
            docs: "",
            schema: || schemars::Schema::default(),
            gives: Gives::Rows,
            build: build_source,
        })
        .with_lookup(LookupType {
            name: "slow",
            docs: "",
            schema: || schemars::Schema::default(),
            build: |args| Ok(Arc::new(SlowTable { columns: Arc::clone(args.columns), n_calls: AtomicU64::new(0) })),
            open: None,
        })
        .with_sink(SinkType {
            name: "collect",
            docs: "",
            schema: || schemars::schema_for!(CollectOptions),
            takes: Takes::Rows,
            templates: &[],
            build: build_sink,
        })
}

/// An engine whose clock goes with tokio's, from [`START`].
pub fn engine() -> Engine {
    Engine::new(settings())
}

/// What [`engine`] is made with.
pub fn settings() -> Settings {
    Settings { clock: Arc::new(TokioClock(Instant::now())), ..Settings::new(registry()) }
}

/// What the clock of [`engine`] shows at first: 2026-01-01T00:00:00Z.
pub const START: Timestamp = 1_767_225_600_000;

/// Time as tokio counts it, which a test can pause.
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        START + i64::try_from(self.0.elapsed().as_millis()).unwrap_or(i64::MAX - START)
    }
}

/// A schemaless stream that reads the script `name` and has that name itself.
pub fn stream(name: &str) -> StreamDef {
    StreamDef {
        name: name.to_owned(),
        connector: "script".to_owned(),
        datasource: name.to_owned(),
        format: "json".to_owned(),
        fields: Vec::new(),
        timestamp: None,
        timestamp_format: None,
        strict: false,
        shared: false,
        delimiter: None,
        retain: None,
        options: Options::default(),
        origin: Origin::default(),
    }
}

/// A lookup table, see [`SlowTable`].
pub fn slow_table(name: &str) -> LookupTableDef {
    LookupTableDef {
        name: name.to_owned(),
        connector: "slow".to_owned(),
        datasource: name.to_owned(),
        format: "json".to_owned(),
        fields: Vec::new(),
        key: None,
        cache: Default::default(),
        on_error: Default::default(),
        timeout: Duration::from_secs(5),
        options: Options::default(),
        origin: Origin::default(),
    }
}

pub fn shared(name: &str) -> StreamDef {
    StreamDef { shared: true, ..stream(name) }
}

/// A rule that writes to the sink with its own name as id.
pub fn rule(name: &str, sql: &str) -> RuleDef {
    let id = serde_json::Map::from_iter([("id".to_owned(), name.into())]);
    RuleDef {
        name: name.to_owned(),
        sql: sql.to_owned(),
        sinks: vec![SinkDef { connector: "collect".to_owned(), options: Options(id) }],
        options: Default::default(),
        late_sink: None,
        error_sink: None,
        fail_on_error: false,
        delivery: Default::default(),
        buffer_batches: 4,
        backpressure: Default::default(),
        restart: Default::default(),
        schedule: None,
        suspend: false,
        held_with: None,
        origin: Origin::default(),
    }
}

pub fn definitions<const S: usize, const R: usize>(streams: [StreamDef; S], rules: [RuleDef; R]) -> Definitions {
    Definitions { streams: streams.into(), rules: rules.into(), ..Definitions::default() }
}

/// Waits for a condition.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), waiting).await.is_ok(), "waited in vain: {what}");
}
