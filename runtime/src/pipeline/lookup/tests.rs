use std::sync::atomic::AtomicI64;

use async_trait::async_trait;
use proptest::prelude::*;
use sluice_sql::{Timestamp, Value};

use super::*;
use crate::connection::Connections;
use crate::definition::{CacheSettings, Origin};
use crate::options::Options;
use crate::time::Clock;

/// A clock that follows tokio's, paused or not.
struct TokioClock(Instant, AtomicI64);

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        i64::try_from(self.0.elapsed().as_millis()).unwrap() + self.1.load(Ordering::Relaxed)
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Mode {
    Up,
    ConnectFails(ConnectorError),
    Fails(ConnectorError),
    /// Only the next call fails: the connection had died.
    FailsOnce,
    Hangs,
    Panics,
}

/// Key `k` has `k % 3` rows that hold `k * 10 + row`; negative keys can't be read.
struct Fake {
    mode: Mutex<Mode>,
    delay: Duration,
    calls: Mutex<Vec<Vec<i64>>>,
    n_connects: AtomicU64,
    n_closes: AtomicU64,
}

impl Fake {
    fn new() -> Arc<Self> {
        Arc::new(Fake {
            mode: Mutex::new(Mode::Up),
            delay: Duration::from_millis(10),
            calls: Mutex::default(),
            n_connects: AtomicU64::new(0),
            n_closes: AtomicU64::new(0),
        })
    }

    fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    fn mode(&self) -> Mode {
        self.mode.lock().unwrap().clone()
    }

    fn calls(&self) -> Vec<Vec<i64>> {
        self.calls.lock().unwrap().clone()
    }
}

fn number(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        Value::Float(number) => *number as i64,
        other => panic!("not a number: {other:?}"),
    }
}

fn rows_of(key: i64) -> Vec<Row> {
    (0..key % 3).map(|row| Row { ts: 0, values: vec![Value::Int(key * 10 + row)] }).collect()
}

#[async_trait]
impl LookupSource for Fake {
    async fn connect(&self, _ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        if let Mode::ConnectFails(error) = self.mode() {
            return Err(error);
        }
        self.n_connects.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn lookup(&self, keys: &[LookupKey]) -> Result<Vec<Found>, ConnectorError> {
        self.calls.lock().unwrap().push(keys.iter().map(|key| number(&key.0[0])).collect());
        tokio::time::sleep(self.delay).await;
        match self.mode() {
            Mode::Up | Mode::ConnectFails(_) => {}
            Mode::Fails(error) => return Err(error),
            Mode::FailsOnce => {
                self.set(Mode::Up);
                return Err(ConnectorError::external("broken pipe"));
            }
            Mode::Hangs => std::future::pending().await,
            Mode::Panics => panic!("a bug in the connector"),
        }
        let found = |key: &LookupKey| match number(&key.0[0]) {
            key if key < 0 => Err(ConnectorError::user(format!("row {key} is no JSON"))),
            key => Ok(rows_of(key)),
        };
        Ok(keys.iter().map(found).collect())
    }

    async fn close(&self) {
        self.n_closes.fetch_add(1, Ordering::Relaxed);
    }
}

fn table(on_error: OnLookupError, cache: CacheSettings) -> LookupTableDef {
    LookupTableDef {
        name: "t".to_owned(),
        connector: "fake".to_owned(),
        datasource: "t".to_owned(),
        format: "json".to_owned(),
        fields: Vec::new(),
        key: None,
        cache,
        on_error,
        timeout: Duration::from_secs(5),
        options: Options::default(),
        origin: Origin::default(),
    }
}

fn cached() -> CacheSettings {
    CacheSettings { enabled: true, ..Default::default() }
}

fn context() -> ConnectorContext {
    ConnectorContext {
        name: "rule/t".into(),
        connections: Connections::default(),
        clock: Arc::new(TokioClock(Instant::now(), AtomicI64::new(0))),
        tasks: Tasks::default(),
        health: Default::default(),
    }
}

fn driver_of(lookup: &Arc<Lookup>, on_error: OnLookupError, ctx: ConnectorContext) -> LookupDriver {
    let metrics = LookupMetrics::new("rule", "t", "fake", Arc::clone(&ctx.clock));
    LookupDriver { lookup: Arc::clone(lookup), on_error, ctx, metrics: Arc::new(metrics) }
}

fn driver(fake: &Arc<Fake>, on_error: OnLookupError, cache: CacheSettings) -> LookupDriver {
    let ctx = context();
    let source: Arc<dyn LookupSource> = Arc::<Fake>::clone(fake);
    let lookup = Arc::new(Lookup::new(source, &table(on_error, cache), ctx.tasks.clone()));
    driver_of(&lookup, on_error, ctx)
}

fn keys(numbers: impl IntoIterator<Item = i64>) -> Vec<LookupKey> {
    numbers.into_iter().map(|number| LookupKey([Value::Int(number)].into())).collect()
}

fn text(answers: &[LookupAnswer]) -> String {
    let one = |answer: &LookupAnswer| match answer {
        LookupAnswer::Rows(rows) => rows.iter().map(|row| number(row.get(0)).to_string()).collect::<Vec<_>>().join("+"),
        LookupAnswer::Drop => "drop".to_owned(),
        LookupAnswer::Null => "null".to_owned(),
    };
    answers.iter().map(one).collect::<Vec<_>>().join(" ")
}

async fn ask(driver: &LookupDriver, numbers: impl IntoIterator<Item = i64>) -> String {
    text(&driver.answer(&keys(numbers)).await)
}

fn down() -> Mode {
    Mode::ConnectFails(ConnectorError::external("connection refused"))
}

#[tokio::test(start_paused = true)]
async fn keys_of_a_batch_are_fetched_together_in_order() {
    let fake = Fake::new();
    let driver = driver(&fake, OnLookupError::Drop, CacheSettings::default());
    assert_eq!(ask(&driver, [2, 0, 1]).await, "20+21  10");
    assert_eq!(fake.calls(), [[2, 0, 1]]);
    assert_eq!(fake.n_connects.load(Ordering::Relaxed), 1);
    assert_eq!(ask(&driver, []).await, "");
    let many = driver.answer(&keys(0..1500)).await;
    assert_eq!(fake.calls().iter().map(Vec::len).collect::<Vec<_>>(), [3, 512, 512, 476]);
    for (key, answer) in many.iter().enumerate() {
        assert!(matches!(answer, LookupAnswer::Rows(rows) if rows.len() == key % 3), "key {key}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_cache_answers_what_it_knows() {
    let fake = Fake::new();
    let ttl = Some(Duration::from_secs(60));
    let driver = driver(&fake, OnLookupError::Drop, CacheSettings { ttl, missing: true, ..cached() });
    assert_eq!(ask(&driver, [1, 3]).await, "10 ");
    assert_eq!(ask(&driver, [3, 2, 1]).await, " 20+21 10");
    assert_eq!(fake.calls(), [vec![1, 3], vec![2]], "rows and misses are known");
    let metrics = &driver.metrics;
    assert_eq!((metrics.cache_hits.get(), metrics.cache_misses.get(), metrics.cache_entries.get()), (2, 3, 3));
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(ask(&driver, [1]).await, "10");
    assert_eq!(fake.calls().len(), 3, "too old");
    // Cached answers need no table.
    fake.set(Mode::Fails(ConnectorError::external("gone")));
    assert_eq!(ask(&driver, [1, 4]).await, "10 drop");
    assert_eq!(metrics.keys_failed.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn misses_are_asked_again_unless_they_are_kept() {
    let fake = Fake::new();
    let driver = driver(&fake, OnLookupError::Drop, cached());
    for _ in 0..2 {
        assert_eq!(ask(&driver, [0, 1]).await, " 10");
    }
    assert_eq!(fake.calls(), [vec![0, 1], vec![0]]);
}

#[tokio::test(start_paused = true)]
async fn the_cache_is_bounded() {
    let fake = Fake::new();
    let driver = driver(&fake, OnLookupError::Drop, CacheSettings { max_entries: 10, missing: true, ..cached() });
    driver.answer(&keys(0..100)).await;
    assert_eq!((driver.metrics.cache_evictions.get(), driver.metrics.cache_entries.get()), (90, 10));
}

#[tokio::test(start_paused = true)]
async fn rules_that_ask_at_once_share_a_flight() {
    let fake = Fake::new();
    let first = driver(&fake, OnLookupError::Drop, CacheSettings::default());
    let second = driver_of(&first.lookup, OnLookupError::Null, first.ctx.clone());
    let (one, two) = tokio::join!(ask(&first, [1, 2]), ask(&second, [2, 4]));
    assert_eq!((one.as_str(), two.as_str()), ("10 20+21", "20+21 40"));
    assert_eq!(fake.calls(), [vec![1, 2], vec![4]]);
    assert_eq!(second.metrics.joined_flights.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_stops_does_not_take_the_flight_with_it() {
    let fake = Fake::new();
    let first = driver(&fake, OnLookupError::Drop, CacheSettings::default());
    let second = driver_of(&first.lookup, OnLookupError::Drop, first.ctx.clone());
    let asked = keys([1]);
    let mut stopping = Box::pin(first.answer(&asked));
    assert!(tokio::time::timeout(Duration::from_millis(1), &mut stopping).await.is_err());
    let asked = keys([1]);
    let mut staying = Box::pin(second.answer(&asked));
    assert!(tokio::time::timeout(Duration::from_millis(1), &mut staying).await.is_err());
    drop(stopping);
    assert_eq!(text(&staying.await), "10");
    assert_eq!(fake.calls(), [[1]]);
    assert!(first.lookup.state().flights.is_empty());
}

#[tokio::test(start_paused = true)]
async fn policies_while_the_table_is_down() {
    for (on_error, expected) in [(OnLookupError::Drop, "drop drop"), (OnLookupError::Null, "null null")] {
        let fake = Fake::new();
        fake.set(down());
        let driver = driver(&fake, on_error, CacheSettings::default());
        let start = Instant::now();
        assert_eq!(ask(&driver, [1, 2]).await, expected);
        assert!(start.elapsed() <= Duration::from_secs(5), "a lookup takes no longer than its timeout");
        assert!(start.elapsed() >= Duration::from_secs(1), "a short outage is waited for");
        let start = Instant::now();
        assert_eq!(ask(&driver, [1, 2]).await, expected);
        assert!(start.elapsed() < Duration::from_secs(1), "a known one is not");
        let health = driver.ctx.health.state();
        assert_eq!((health.connected, health.last_error.as_deref()), (Some(false), Some("connection refused")));
        assert_eq!(driver.metrics.keys_failed.get(), 4);
        fake.set(Mode::Up);
        tokio::time::advance(MAX_PAUSE).await;
        assert_eq!(ask(&driver, [1, 2]).await, "10 20+21", "it recovers by itself");
        assert_eq!(driver.ctx.health.state().connected, Some(true));
    }
}

#[tokio::test(start_paused = true)]
async fn retry_waits_until_the_table_answers() {
    let fake = Fake::new();
    fake.set(down());
    let driver = driver(&fake, OnLookupError::Retry, CacheSettings::default());
    let asked = keys([1, 2]);
    let mut answer = Box::pin(driver.answer(&asked));
    assert!(tokio::time::timeout(Duration::from_secs(3600), &mut answer).await.is_err());
    let n_retries = driver.ctx.health.state().n_retries;
    assert!((700..=1500).contains(&n_retries), "{n_retries} tries in an hour");
    fake.set(Mode::Fails(ConnectorError::user("no such table")));
    assert!(tokio::time::timeout(Duration::from_secs(3600), &mut answer).await.is_err());
    fake.set(Mode::Up);
    assert_eq!(text(&tokio::time::timeout(MAX_PAUSE * 2, answer).await.unwrap()), "10 20+21");
    assert_eq!(driver.metrics.keys_failed.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_is_replaced_at_once() {
    let fake = Fake::new();
    let driver = driver(&fake, OnLookupError::Drop, CacheSettings::default());
    assert_eq!(ask(&driver, [1]).await, "10");
    fake.set(Mode::FailsOnce);
    assert_eq!(ask(&driver, [2]).await, "20+21");
    assert_eq!(fake.n_connects.load(Ordering::Relaxed), 2);
    assert_eq!(driver.metrics.keys_failed.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_table_that_does_not_answer_in_time() {
    let fake = Fake::new();
    fake.set(Mode::Hangs);
    let driver = driver(&fake, OnLookupError::Null, CacheSettings::default());
    let start = Instant::now();
    assert_eq!(ask(&driver, [1]).await, "null");
    assert_eq!(start.elapsed().as_secs(), 5);
    assert_eq!(driver.metrics.timeouts.get(), 1);
    assert_eq!(driver.metrics.errors.newest().unwrap().message, "no answer within 5s");
    fake.set(Mode::Up);
    tokio::time::advance(MAX_PAUSE).await;
    assert_eq!(ask(&driver, [1]).await, "10");
    assert_eq!(fake.n_connects.load(Ordering::Relaxed), 2, "over a new connection");
}

#[tokio::test(start_paused = true)]
async fn a_refused_question_does_not_hold_the_next_one_up() {
    let fake = Fake::new();
    fake.set(Mode::Fails(ConnectorError::user("column x is not there")));
    let driver = driver(&fake, OnLookupError::Drop, CacheSettings::default());
    let start = Instant::now();
    assert_eq!(ask(&driver, [1]).await, "drop");
    fake.set(Mode::Up);
    assert_eq!(ask(&driver, [1]).await, "10");
    assert!(start.elapsed() < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_cannot_be_read_costs_no_other_key() {
    for (on_error, expected) in [
        (OnLookupError::Drop, "10 drop 20+21"),
        (OnLookupError::Null, "10 null 20+21"),
        (OnLookupError::Retry, "10 drop 20+21"),
    ] {
        let driver = driver(&Fake::new(), on_error, CacheSettings::default());
        assert_eq!(ask(&driver, [1, -7, 2]).await, expected);
        assert_eq!(driver.metrics.keys_failed.get(), 1);
        assert_eq!(driver.metrics.errors.newest().unwrap().message, "row -7 is no JSON");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_panics_is_an_error() {
    let fake = Fake::new();
    fake.set(Mode::Panics);
    let driver = driver(&fake, OnLookupError::Drop, CacheSettings::default());
    assert_eq!(ask(&driver, [1]).await, "drop");
    assert!(driver.lookup.state().flights.is_empty());
    fake.set(Mode::Up);
    assert_eq!(ask(&driver, [1]).await, "10");
}

#[tokio::test(start_paused = true)]
async fn the_far_side_is_let_go_with_the_last_rule() {
    let fake = Fake::new();
    let first = driver(&fake, OnLookupError::Drop, CacheSettings::default());
    let second = driver_of(&first.lookup, OnLookupError::Drop, first.ctx.clone());
    assert_eq!(ask(&first, [1]).await, "10");
    let tasks = first.ctx.tasks.clone();
    drop(first);
    assert_eq!(ask(&second, [1]).await, "10");
    assert_eq!(fake.n_closes.load(Ordering::Relaxed), 0);
    drop(second);
    tasks.shutdown().await;
    assert_eq!(fake.n_closes.load(Ordering::Relaxed), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Whatever the batches, and whatever the cache keeps or forgets between them, the answers are the same.
    #[test]
    fn with_cache_is_as_without(
        batches in prop::collection::vec(prop::collection::hash_set(0i64..30, 0..12), 1..20),
        max_entries in 1usize..20,
        missing: bool,
        ttl_ms in prop::option::of(1u64..100),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let ttl = ttl_ms.map(Duration::from_millis);
            let cached = driver(
                &Fake::new(),
                OnLookupError::Drop,
                CacheSettings { enabled: true, ttl, missing, max_entries },
            );
            let plain = driver(&Fake::new(), OnLookupError::Drop, CacheSettings::default());
            for batch in batches {
                let one = ask(&cached, batch.iter().copied()).await;
                let other = ask(&plain, batch.iter().copied()).await;
                prop_assert_eq!(one, other);
            }
            Ok(())
        })?;
    }
}
