//! The sinks `influx` and `influx2` against real servers: every row is accounted for, whatever the server does.

use std::sync::Arc;

use serde_json::json;
use sluice::connection::ConnectorContext;
use sluice::definition::SinkDef;
use sluice::pipeline::channel::{Limits, Sender, channel};
use sluice::pipeline::metrics::{DropReason, SinkMetrics};
use sluice::pipeline::outlet::ToSink;
use sluice::pipeline::sink::{SinkDriver, SinkParts};
use sluice::time::SystemClock;
use sluice::{Options, Registry};
use sluice_sql::value::{Batch, Column, ColumnKind, Row, Schema};
use sluice_sql::{Type, Value};
use sluice_tests::services::{InfluxDb1, InfluxDb2, unique};
use sluice_tests::wait;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A driver that runs, and the channel into it.
struct Running {
    rows: Sender<ToSink>,
    metrics: Arc<SinkMetrics>,
    cut: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(connector: &str, options: serde_json::Value) -> Self {
        let metrics = Arc::new(SinkMetrics::new("r", 0, connector, Arc::new(SystemClock)));
        let ctx = ConnectorContext {
            name: "r/sink".into(),
            connections: Default::default(),
            clock: Arc::new(SystemClock),
            tasks: Default::default(),
            health: metrics.health.clone(),
        };
        let def = SinkDef { connector: connector.to_owned(), options: Options::from(options) };
        let registry = Registry::builtin();
        let parts = SinkParts {
            rule: "r",
            index: 0,
            output: &Arc::default(),
            registry: &registry,
            ctx,
            metrics: Arc::clone(&metrics),
            backpressure: Default::default(),
        };
        let driver = SinkDriver::new(&def, parts).expect("the options are right");
        let (rows, receiver) = channel(Limits::of_items(4), |_| {});
        let cut = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "the test joins it in `end`")]
        let task = tokio::spawn(driver.run(receiver, cut.clone()));
        Running { rows, metrics, cut, task }
    }

    async fn send(&self, batch: Batch) {
        self.rows.send(ToSink::from(Arc::new(batch))).await.expect("the driver runs");
    }

    /// Closes the channel and waits until all is written.
    async fn end(self) -> Arc<SinkMetrics> {
        drop(self.rows);
        tokio::time::timeout(wait::DEADLINE, self.task).await.expect("the driver ends").expect("it does not panic");
        self.metrics
    }
}

/// Rows of the named columns.
fn batch(columns: &[(&str, Type)], rows: Vec<Vec<Value>>) -> Batch {
    let column = |(name, ty): &(&str, Type)| Column { name: (*name).into(), kind: ColumnKind::Field, ty: ty.clone() };
    let schema = Schema { columns: columns.iter().map(column).collect() };
    Batch::per_row(Arc::new(schema), rows.into_iter().map(|values| Row { ts: 0, values }).collect())
}

/// Rows `{"n": 5, "at": 1005}`: the time tells them apart.
fn numbers(range: std::ops::Range<i64>) -> Batch {
    let rows = range.map(|n| vec![Value::Int(n), Value::Int(1000 + n)]).collect();
    batch(&[("n", Type::Int), ("at", Type::Int)], rows)
}

fn influx2(influx: &InfluxDb2, measurement: &str, more: serde_json::Value) -> serde_json::Value {
    let mut options = json!({
        "addr": influx.url(), "token": InfluxDb2::TOKEN, "org": InfluxDb2::ORG, "bucket": InfluxDb2::BUCKET,
        "measurement": measurement, "tsFieldName": "at", "fields": ["n"],
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        options[name] = value.clone();
    }
    options
}

fn influx1(influx: &InfluxDb1, measurement: &str) -> serde_json::Value {
    json!({"addr": influx.url(), "database": InfluxDb1::DATABASE, "measurement": measurement, "tsFieldName": "at", "fields": ["n"]})
}

/// The values of field `n`, sorted.
async fn stored2(influx: &InfluxDb2, measurement: &str) -> Vec<i64> {
    let points = influx.points(measurement).await.expect("influxdb answers");
    let mut numbers: Vec<i64> = points.iter().filter_map(|(_, _, value)| value.trim().parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

async fn stored1(influx: &InfluxDb1, measurement: &str) -> Vec<i64> {
    let answer = influx.query(&format!("SELECT n FROM \"{measurement}\"")).await.expect("influxdb answers");
    let values = answer.pointer("/results/0/series/0/values").and_then(|values| values.as_array()).cloned();
    values.unwrap_or_default().iter().map(|point| point[1].as_i64().expect("whole numbers")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn influx2_loses_nothing_in_an_outage() {
    let mut influx = InfluxDb2::start().await.unwrap();
    let running =
        Running::start("influx2", influx2(&influx, "outage", json!({"compression": "gzip", "timeout": "2s"})));
    for n in 0..10 {
        running.send(numbers(n * 10..n * 10 + 10)).await;
    }
    wait::until_true("rows before the outage", || async { running.metrics.rows_out.get() > 0 }).await;
    influx.kill();
    let feed = async {
        for n in 10..30 {
            running.send(numbers(n * 10..n * 10 + 10)).await;
        }
    };
    let repair = async {
        wait::until_true("the sink notices", || async { running.metrics.health.state().connected == Some(false) })
            .await;
        influx.restart().await.unwrap();
    };
    tokio::join!(feed, repair);
    let metrics = running.end().await;
    assert_eq!((metrics.rows_in.get(), metrics.rows_out.get(), metrics.dropped.total()), (300, 300, 0));
    assert_eq!(stored2(&influx, "outage").await, (0..300).collect::<Vec<_>>());
    let state = metrics.health.state();
    assert_eq!(state.connected, Some(true));
    assert!(state.n_retries > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn influx2_over_tls() {
    let influx = InfluxDb2::start_tls().await.unwrap();
    let authority = &influx.tls.as_ref().unwrap().ca;
    let running = Running::start("influx2", influx2(&influx, "tls", json!({"rootCaPath": authority})));
    running.send(numbers(0..5)).await;
    assert_eq!(running.end().await.rows_out.get(), 5);
    assert_eq!(stored2(&influx, "tls").await, [0, 1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn influx2_sets_a_point_aside_that_does_not_fit() {
    let influx = InfluxDb2::shared().await;
    let measurement = unique("conflict");
    let options = influx2(influx, &measurement, json!({}));
    let running = Running::start("influx2", options.clone());
    running.send(numbers(0..5)).await;
    let first = running.end().await;
    assert_eq!(first.rows_out.get(), 5);
    // The field is an integer now: a text is refused (422), the others of the write are stored.
    let running = Running::start("influx2", options.clone());
    let columns = [("n", Type::Any), ("at", Type::Int)];
    let row = |n: Value, at: i64| vec![n, Value::Int(at)];
    let mut mixed = numbers(5..10);
    mixed.rows.extend(batch(&columns, vec![row(Value::string("many"), 5000)]).rows);
    mixed.rows.extend(numbers(10..15).rows);
    running.send(mixed).await;
    let metrics = running.end().await;
    assert_eq!((metrics.rows_out.get(), metrics.dropped.get(DropReason::Refused)), (10, 1));
    let error = metrics.errors.newest().unwrap().message;
    assert!(error.contains("field type conflict") && error.contains(&measurement), "{error}");
    // A time that the server can't hold spoils the whole write (400): it is found and set aside.
    let folder = tempfile::tempdir().unwrap();
    let letters = folder.path().join("letters.ndjson");
    let mut options = options;
    options["deadLetter"] = json!({"file": {"path": letters}});
    let running = Running::start("influx2", options);
    let mut mixed = numbers(15..20);
    mixed.rows.extend(batch(&columns, vec![row(Value::Int(99), i64::MAX)]).rows);
    mixed.rows.extend(numbers(20..25).rows);
    running.send(mixed).await;
    let metrics = running.end().await;
    assert_eq!((metrics.rows_out.get(), metrics.dropped.get(DropReason::Refused)), (10, 1));
    let error = metrics.errors.newest().unwrap().message;
    assert!(error.contains("unable to parse a line") && !error.contains("n=99"), "{error}");
    let letter = std::fs::read_to_string(letters).unwrap();
    assert!(letter.contains("unable to parse a line") && letter.contains("\"n\":99"), "{letter}");
    assert_eq!(stored2(influx, &measurement).await, (0..25).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn influx2_waits_for_credentials_and_buckets_instead_of_losing_rows() {
    let influx = InfluxDb2::shared().await;
    for (more, status) in [(json!({"token": "a-wrong-token"}), "401"), (json!({"bucket": "nowhere"}), "404")] {
        let running = Running::start("influx2", influx2(influx, &unique("access"), more));
        running.send(numbers(0..3)).await;
        let state = wait::until("the error in the state", || async {
            let state = running.metrics.health.state();
            (state.connected == Some(false)).then_some(state)
        })
        .await;
        let error = state.last_error.unwrap();
        assert!(error.contains(status) && !error.contains("a-wrong-token"), "{error}");
        assert_eq!(running.metrics.dropped.total(), 0, "rows wait");
        running.cut.cancel();
        let metrics = running.end().await;
        assert_eq!(metrics.dropped.get(DropReason::Shutdown), 3);
    }
}

/// Names and texts with everything that the line protocol gives a meaning.
const NASTY: [&str; 7] = ["a b", "a,b=c", "say \"x\"", "back\\slash", "C:\\dir\\", "trick\\,y", "é 世界 😀"];

#[tokio::test(flavor = "multi_thread")]
async fn texts_come_back_as_they_were() {
    let (two, one) = tokio::join!(InfluxDb2::shared(), InfluxDb1::start());
    let one = one.unwrap();
    let rows = || {
        let row =
            |(n, text): (usize, &&str)| vec![Value::string(*text), Value::string(*text), Value::Int(1000 + n as i64)];
        batch(
            &[("text", Type::String), ("tag", Type::String), ("at", Type::Int)],
            NASTY.iter().enumerate().map(row).collect(),
        )
    };
    // A backslash at the end of a tag, or before a comma there, has no text in the line protocol.
    let as_tag = |text: &str| match text {
        "C:\\dir\\" => "C:\\dir".to_owned(),
        "trick\\,y" => "trick,y".to_owned(),
        text => text.to_owned(),
    };

    let measurement = unique("nasty, text");
    let more = json!({"fields": ["text"], "tags": {"my tag": "{{.tag}}", "gone": "{{.gone}}"}});
    let mut options = influx1(&one, &measurement);
    for (name, value) in more.as_object().into_iter().flatten() {
        options[name] = value.clone();
    }
    let running = Running::start("influx", options);
    running.send(rows()).await;
    let metrics = running.end().await;
    assert_eq!(
        (metrics.rows_out.get(), metrics.dropped.total()),
        (NASTY.len() as u64, 0),
        "{:?}",
        metrics.errors.newest()
    );
    let answer = one.query(&format!("SELECT text, \"my tag\" FROM \"{measurement}\"")).await.unwrap();
    let values = answer.pointer("/results/0/series/0/values").unwrap().as_array().unwrap();
    for (point, text) in values.iter().zip(NASTY) {
        assert_eq!((point[1].as_str(), point[2].as_str()), (Some(text), Some(as_tag(text).as_str())));
    }
    assert_eq!(values.len(), NASTY.len());
    let keys = one.query(&format!("SHOW TAG KEYS FROM \"{measurement}\"")).await.unwrap();
    assert!(!keys.to_string().contains("gone"), "{keys}");

    let running = Running::start("influx2", influx2(two, &measurement, more));
    running.send(rows()).await;
    let metrics = running.end().await;
    assert_eq!(
        (metrics.rows_out.get(), metrics.dropped.total()),
        (NASTY.len() as u64, 0),
        "{:?}",
        metrics.errors.newest()
    );
    let flux = format!(
        "from(bucket: \"{}\") |> range(start: 0) |> filter(fn: (r) => r._measurement == \"{measurement}\") |> group() |> sort(columns: [\"_time\"]) |> keep(columns: [\"_value\"])",
        InfluxDb2::BUCKET
    );
    let csv = two.query(&flux).await.unwrap();
    for text in NASTY {
        let quoted = text.replace('"', "\"\"");
        assert!(
            csv.contains(&format!(",{text}\r\n")) || csv.contains(&format!(",\"{quoted}\"\r\n")),
            "{text} in {csv}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn influx1_loses_nothing_in_an_outage() {
    let mut influx = InfluxDb1::start().await.unwrap();
    let mut options = influx1(&influx, "numbers");
    options["timeout"] = json!("2s");
    let running = Running::start("influx", options);
    running.send(numbers(0..50)).await;
    wait::until_true("rows before the outage", || async { running.metrics.rows_out.get() == 50 }).await;
    influx.kill();
    running.send(numbers(50..100)).await;
    wait::until_true("the sink notices", || async { running.metrics.health.state().connected == Some(false) }).await;
    influx.restart().await.unwrap();
    let metrics = running.end().await;
    assert_eq!((metrics.rows_out.get(), metrics.dropped.total()), (100, 0));
    assert_eq!(stored1(&influx, "numbers").await, (0..100).collect::<Vec<_>>());
}

/// Version 1 answers 400 to a write of which it has stored all but the points at fault.
#[tokio::test(flavor = "multi_thread")]
async fn influx1_sets_a_point_aside_that_does_not_fit() {
    let influx = InfluxDb1::start().await.unwrap();
    let columns = [("n", Type::Any), ("at", Type::Int)];
    let cases = [
        (0, vec![Value::string("many"), Value::Int(5000)], "field type conflict"),
        (10, vec![Value::Int(99), Value::Int(i64::MAX)], "unable to parse a line: time outside range"),
    ];
    for (start, poison, error) in cases {
        let running = Running::start("influx", influx1(&influx, "numbers"));
        running.send(numbers(start..start + 5)).await;
        wait::until_true("the field's type is known", || async { running.metrics.rows_out.get() == 5 }).await;
        let mut mixed = numbers(start + 5..start + 10);
        mixed.rows.extend(batch(&columns, vec![poison]).rows);
        running.send(mixed).await;
        let metrics = running.end().await;
        let newest = metrics.errors.newest().unwrap().message;
        assert_eq!((metrics.rows_out.get(), metrics.dropped.get(DropReason::Refused)), (10, 1), "{newest}");
        assert!(newest.contains(error), "{newest}");
    }
    assert_eq!(stored1(&influx, "numbers").await, (0..20).collect::<Vec<_>>());
}
