//! The driver against a sink double that fails on command.

mod queued;

use std::sync::Mutex;

use bytes::Bytes;
use serde_json::json;
use sluice_sql::value::{Column, ColumnKind, Emission, RawObject};
use sluice_sql::{Object, Row, Type, Value};

use super::*;
use crate::error::{ConnectorError, Retry};
use crate::options::Options;
use crate::pipeline::channel::{Limits, channel};
use crate::pipeline::metrics::Circuit;
use crate::sink::{Output, Sink, SinkError, SinkType, Takes};
use crate::time::SystemClock;

/// What the doubles of one test share: what was written, and what is to fail.
#[derive(Default)]
struct Far {
    /// Bodies (with rendered options), or rows, per accepted write.
    writes: Vec<Vec<String>>,
    /// Answers for the next writes, before anything is accepted.
    answers: Vec<SinkError>,
    /// An item with this text spoils the write that holds it.
    poison: Option<String>,
    n_calls: usize,
    n_connects: usize,
    connect_fails: usize,
    closed: bool,
    /// Writes wait for ever.
    stuck: bool,
}

type Shared = Arc<Mutex<Far>>;

tokio::task_local! {
    static FAR: Shared;
}

struct Double(Shared);

#[async_trait::async_trait]
impl Sink for Double {
    async fn connect(&mut self, _ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        let mut far = self.0.lock().unwrap();
        far.n_connects += 1;
        if far.connect_fails > 0 {
            far.connect_fails -= 1;
            return Err(ConnectorError::external("no way there"));
        }
        Ok(())
    }

    async fn write(&mut self, output: Output<'_>) -> Result<(), SinkError> {
        if self.0.lock().unwrap().stuck {
            std::future::pending::<()>().await;
        }
        let items: Vec<String> = match output {
            Output::Messages(messages) => messages
                .iter()
                .map(|message| {
                    let body = String::from_utf8_lossy(&message.body).into_owned();
                    match message.props.text(0) {
                        "" => body,
                        topic => format!("{topic} <- {body}"),
                    }
                })
                .collect(),
            Output::Rows(batches) => batches
                .iter()
                .flat_map(|batch| {
                    batch.rows.iter().map(|row| {
                        let mut text = Vec::new();
                        crate::format::json_encoder::write_object(&batch.schema.to_object(row), &mut text);
                        String::from_utf8_lossy(&text).into_owned()
                    })
                })
                .collect(),
        };
        let mut far = self.0.lock().unwrap();
        far.n_calls += 1;
        if !far.answers.is_empty() {
            return Err(far.answers.remove(0));
        }
        if far.poison.as_ref().is_some_and(|poison| items.iter().any(|item| item.contains(poison.as_str()))) {
            return Err(ConnectorError::user("bad item").into());
        }
        far.writes.push(items);
        Ok(())
    }

    async fn close(&mut self) {
        self.0.lock().unwrap().closed = true;
    }
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct DoubleOptions {
    #[serde(rename = "topic")]
    _topic: Option<String>,
}

const MESSAGES: SinkType = SinkType {
    name: "messages",
    docs: "",
    schema: || schemars::schema_for!(DoubleOptions),
    takes: Takes::Messages,
    templates: &["topic"],
    build: |args| {
        let DoubleOptions { .. } = args.options.parse()?;
        Ok(Box::new(Double(FAR.with(Arc::clone))))
    },
};

const ROWS: SinkType = SinkType { name: "rows", takes: Takes::Rows, ..MESSAGES };

struct Run {
    far: Shared,
    metrics: Arc<SinkMetrics>,
    ctx: ConnectorContext,
}

impl Run {
    fn new() -> Self {
        let metrics = Arc::new(SinkMetrics::new("r", 0, "double", Arc::new(SystemClock)));
        let ctx = ConnectorContext {
            name: "r/double_0".into(),
            connections: Default::default(),
            clock: Arc::new(SystemClock),
            tasks: Default::default(),
            health: metrics.health.clone(),
        };
        Run { far: Shared::default(), metrics, ctx }
    }

    fn driver(&self, connector: &str, options: serde_json::Value) -> Result<SinkDriver, ConfigError> {
        let registry = Registry::builtin().with_sink(MESSAGES).with_sink(ROWS);
        let serde_json::Value::Object(options) = options else { panic!("options") };
        let def = SinkDef { connector: connector.to_owned(), options: Options(options) };
        let schema = Arc::default();
        FAR.sync_scope(Arc::clone(&self.far), || {
            let parts = SinkParts {
                rule: "r",
                index: 0,
                output: &schema,
                registry: &registry,
                ctx: self.ctx.clone(),
                metrics: Arc::clone(&self.metrics),
                backpressure: Default::default(),
            };
            SinkDriver::new(&def, parts)
        })
    }

    /// Sends all batches, closes the channel, and waits for the driver.
    async fn all(&self, connector: &str, options: serde_json::Value, batches: Vec<Batch>) {
        let driver = self.driver(connector, options).unwrap();
        let (sender, receiver) = channel(Limits::of_items(batches.len()), |_| {});
        for batch in batches {
            sender.send(ToSink::from(Arc::new(batch))).await.unwrap();
        }
        drop(sender);
        driver.run(receiver, CancellationToken::new()).await;
        assert!(self.far.lock().unwrap().closed);
    }

    fn items(&self) -> Vec<String> {
        self.far.lock().unwrap().writes.concat()
    }

    fn counts(&self) -> (u64, u64, u64) {
        let m = &self.metrics;
        (m.rows_in.get(), m.rows_out.get(), m.dropped.total())
    }
}

fn schema(columns: &[(&str, ColumnKind)]) -> Arc<Schema> {
    let column = |(name, kind): &(&str, ColumnKind)| Column { name: (*name).into(), kind: *kind, ty: Type::Any };
    Arc::new(Schema { columns: columns.iter().map(column).collect() })
}

/// Rows `{"n": 1, "b": "x"}`, each a result of its own.
fn numbers(range: std::ops::Range<i64>) -> Batch {
    let rows = range.map(|n| Row { ts: n, values: vec![Value::Int(n), Value::string("x")] }).collect();
    Batch::per_row(schema(&[("n", ColumnKind::Field), ("b", ColumnKind::Field)]), rows)
}

fn grouped(mut batch: Batch, ends: &[usize]) -> Batch {
    let emission = |end: &usize| Emission { end: *end, window: None, error: None };
    batch.emissions = Emissions::Grouped(ends.iter().map(emission).collect());
    batch
}

#[tokio::test]
async fn messages_per_option() {
    let two = || vec![grouped(numbers(1..4), &[2, 2, 3])];
    let cases = [
        ("list", json!({}), two(), vec![r#"[{"n":1,"b":"x"},{"n":2,"b":"x"}]"#, "[]", r#"[{"n":3,"b":"x"}]"#]),
        ("one row is a list too", json!({}), vec![numbers(1..2)], vec![r#"[{"n":1,"b":"x"}]"#]),
        (
            "single",
            json!({"sendSingle": true}),
            two(),
            vec![r#"{"n":1,"b":"x"}"#, r#"{"n":2,"b":"x"}"#, r#"{"n":3,"b":"x"}"#],
        ),
        (
            "omit empty",
            json!({"omitIfEmpty": true, "fields": ["n"]}),
            two(),
            vec![r#"[{"n":1},{"n":2}]"#, r#"[{"n":3}]"#],
        ),
        (
            "fields in their order, absent is null",
            json!({"fields": ["z", "b", "n"]}),
            vec![numbers(1..2)],
            vec![r#"[{"z":null,"b":"x","n":1}]"#],
        ),
        ("exclude", json!({"excludeFields": ["b"], "sendsingle": true}), vec![numbers(1..2)], vec![r#"{"n":1}"#]),
        (
            "batch is flat",
            json!({"batchSize": 2, "fields": ["n"]}),
            vec![numbers(1..4), numbers(4..6)],
            vec![r#"[{"n":1},{"n":2}]"#, r#"[{"n":3},{"n":4}]"#, r#"[{"n":5}]"#],
        ),
        (
            "batch of single rows is flat",
            json!({"batchSize": 2, "sendSingle": true, "fields": ["n"]}),
            vec![numbers(1..4)],
            vec![r#"[{"n":1},{"n":2}]"#, r#"[{"n":3}]"#],
        ),
        (
            "batch counts results, not rows",
            json!({"batchSize": 2, "fields": ["n"]}),
            two(),
            vec![r#"[{"n":1},{"n":2}]"#, r#"[{"n":3}]"#],
        ),
    ];
    for (name, options, batches, expected) in cases {
        let run = Run::new();
        let n_rows: usize = batches.iter().map(|batch| batch.rows.len()).sum();
        run.all("messages", options, batches).await;
        assert_eq!(run.items(), expected, "{name}");
        assert_eq!(run.counts(), (n_rows as u64, n_rows as u64, 0), "{name}");
    }
}

#[tokio::test]
async fn templates_make_messages() {
    let two = || vec![grouped(numbers(1..3), &[2])];
    let list = r#"{{range $i, $r := .}}{{if $i}};{{end}}{{$r.n}}{{end}}"#;
    let object = r#"{"d":{"v":{{.n}},"w":0}}"#;
    let cases = [
        ("row", json!({"dataTemplate": "n is {{.n}}", "sendSingle": true}), vec!["n is 1", "n is 2"]),
        ("list", json!({"dataTemplate": list}), vec!["1;2"]),
        ("joined", json!({"dataTemplate": list, "batchSize": 2}), vec!["1;2"]),
        (
            "joined rows",
            json!({"dataTemplate": object, "batchSize": 2, "sendSingle": true}),
            vec![r#"[{"d":{"v":1,"w":0}},{"d":{"v":2,"w":0}}]"#],
        ),
        (
            "then columns",
            json!({"dataTemplate": object, "dataField": "d", "fields": ["v"], "sendSingle": true}),
            vec![r#"{"v":1}"#, r#"{"v":2}"#],
        ),
        (
            "topic by row",
            json!({"topic": "t/{{.n}}", "sendSingle": true, "fields": ["b"]}),
            vec![r#"t/1 <- {"b":"x"}"#, r#"t/2 <- {"b":"x"}"#],
        ),
        (
            "topic by row, rows in lists",
            json!({"topic": "t/{{.n}}", "fields": ["n"]}),
            vec![r#"t/1 <- [{"n":1}]"#, r#"t/2 <- [{"n":2}]"#],
        ),
        ("same topic, one list", json!({"topic": "t/{{.b}}", "fields": ["n"]}), vec![r#"t/x <- [{"n":1},{"n":2}]"#]),
        (
            "topic by list",
            json!({"topic": "t/{{(index . 0).n}}", "fields": ["n"]}),
            vec![r#"t/1 <- [{"n":1},{"n":2}]"#],
        ),
        ("fixed topic", json!({"topic": "t", "fields": ["n"]}), vec![r#"t <- [{"n":1},{"n":2}]"#]),
    ];
    for (name, options, expected) in cases {
        let run = Run::new();
        run.all("messages", options, two()).await;
        assert_eq!(run.items(), expected, "{name}");
        assert_eq!(run.counts(), (2, 2, 0), "{name}");
    }
    let run = Run::new();
    run.all("rows", json!({"dataTemplate": object, "dataField": "d", "sendSingle": true}), two()).await;
    assert_eq!(run.items(), [r#"{"v":1,"w":0}"#, r#"{"v":2,"w":0}"#]);
}

#[tokio::test]
async fn a_template_that_fails_costs_its_message_only() {
    let cases = [
        (
            json!({"dataTemplate": "{{div 6 .n}}", "sendSingle": true}),
            vec!["6", "3"],
            "dataTemplate:1:3: div: division by zero",
        ),
        (
            json!({"topic": "{{div 6 .n}}", "sendSingle": true, "fields": []}),
            vec!["6 <- {}", "3 <- {}"],
            "topic:1:3: div: division by zero",
        ),
        (
            json!({"dataTemplate": "{{if .n}}{}{{else}}nothing{{end}}", "sendSingle": true, "fields": []}),
            vec!["{}", "{}"],
            "dataTemplate: the text is no JSON: ",
        ),
    ];
    for (options, expected, error) in cases {
        let run = Run::new();
        run.all("messages", options, vec![numbers(0..3)]).await;
        assert_eq!(run.items(), expected);
        assert_eq!(run.counts(), (3, 2, 1));
        assert_eq!(run.metrics.dropped.get(DropReason::Encode), 1);
        let newest = run.metrics.errors.newest().unwrap().message;
        assert!(newest.starts_with(error), "{newest}");
    }
}

#[tokio::test]
async fn stars_and_nested_objects() {
    let star = schema(&[("s", ColumnKind::Star)]);
    let parse: fn(&[u8]) -> Object = |text| match crate::format::json::parse_value(text) {
        Ok(Value::Object(object)) => Object::clone(&object),
        _ => Object::default(),
    };
    let raw = |text: &'static str| {
        let raw = RawObject::new(Bytes::from_static(text.as_bytes()), parse);
        Batch::per_row(Arc::clone(&star), vec![Row { ts: 0, values: vec![Value::Raw(Arc::new(raw))] }])
    };
    let cases = [
        ("the bytes that arrived", json!({"sendSingle": true}), r#"{ "a": 1.0 }"#, r#"{ "a": 1.0 }"#),
        ("in a list", json!({}), r#"{ "a": 1.0 }"#, r#"[{ "a": 1.0 }]"#),
        ("fields", json!({"fields": ["b", "c"]}), r#"{"a":1,"b":[2]}"#, r#"[{"b":[2],"c":null}]"#),
        ("excludeFields", json!({"excludeFields": ["b"]}), r#"{"a":1,"b":2,"c":3}"#, r#"[{"a":1,"c":3}]"#),
        ("dataField object", json!({"dataField": "d", "sendSingle": true}), r#"{"d":{"x":1}}"#, r#"{"x":1}"#),
        ("dataField list", json!({"tableDataField": "d"}), r#"{"d":[{"x":1},{"x":2}]}"#, r#"[{"x":1},{"x":2}]"#),
        ("dataField and fields", json!({"dataField": "d", "fields": ["x"]}), r#"{"d":{"x":1,"y":2}}"#, r#"[{"x":1}]"#),
    ];
    for (name, options, row, expected) in cases {
        let run = Run::new();
        run.all("messages", options, vec![raw(row)]).await;
        assert_eq!(run.items(), [expected], "{name}");
    }
    let run = Run::new();
    run.all("messages", json!({"dataField": "d"}), vec![raw(r#"{"d":5}"#), raw("{}"), raw(r#"{"d":{}}"#)]).await;
    assert_eq!(run.items(), ["[{}]"]);
    assert_eq!(run.counts(), (3, 1, 2));
    assert_eq!(run.metrics.dropped.get(DropReason::Encode), 2);
    assert_eq!(run.metrics.errors.newest().unwrap().message, "dataField: the row has no column `d`");
}

#[tokio::test]
async fn an_error_takes_the_place_of_rows() {
    let failed = || {
        let mut batch = grouped(numbers(1..2), &[0, 1]);
        if let Emissions::Grouped(emissions) = &mut batch.emissions {
            emissions[0].error = Some("division \"by\" zero".into());
        }
        batch
    };
    for (connector, options, expected) in [
        ("messages", json!({"fields": ["n"]}), vec![r#"{"error":"division \"by\" zero"}"#, r#"[{"n":1}]"#]),
        ("messages", json!({"batchSize": 9}), vec![r#"[{"error":"division \"by\" zero"},{"n":1,"b":"x"}]"#]),
        ("rows", json!({"fields": ["n"]}), vec![r#"{"error":"division \"by\" zero"}"#, r#"{"n":1}"#]),
    ] {
        let run = Run::new();
        run.all(connector, options, vec![failed()]).await;
        assert_eq!(run.items(), expected, "{connector}");
        assert_eq!(run.counts(), (2, 2, 0));
    }
}

#[tokio::test]
async fn compression_round_trips() {
    use std::io::Read;
    let expected = br#"[{"n":1,"b":"x"}]"#;
    for name in ["gzip", "zlib", "flate", "zstd"] {
        let compression: Compression = serde_json::from_value(json!(name)).unwrap();
        let bytes = compression.compress(expected).unwrap();
        let mut back = Vec::new();
        match compression {
            Compression::Gzip => flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut back).unwrap(),
            Compression::Zlib => flate2::read::ZlibDecoder::new(&bytes[..]).read_to_end(&mut back).unwrap(),
            Compression::Flate => flate2::read::DeflateDecoder::new(&bytes[..]).read_to_end(&mut back).unwrap(),
            Compression::Zstd => zstd::Decoder::new(&bytes[..]).unwrap().read_to_end(&mut back).unwrap(),
        };
        assert_eq!(back, expected, "{name}");
        let run = Run::new();
        run.all("messages", json!({"compression": name}), vec![numbers(1..2), numbers(1..2)]).await;
        assert_eq!(run.metrics.bytes_out.get(), 2 * bytes.len() as u64, "{name}");
    }
}

#[tokio::test]
async fn what_has_arrived_is_written_at_once() {
    for connector in ["messages", "rows"] {
        let run = Run::new();
        run.all(connector, json!({"sendSingle": true}), (0..5).map(|n| numbers(n..n + 1)).collect()).await;
        let far = run.far.lock().unwrap();
        assert_eq!(far.n_calls, 1, "{connector}");
        assert_eq!(far.writes[0].len(), 5, "{connector}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_go_through_later_is_tried_until_it_does() {
    let run = Run::new();
    {
        let mut far = run.far.lock().unwrap();
        far.connect_fails = 3;
        far.answers = vec![
            ConnectorError::external("timeout").into(),
            ConnectorError::external("busy").with_retry(Retry::After(Duration::from_secs(7))).into(),
            ConnectorError::external("timeout").into(),
        ];
    }
    let started = Instant::now();
    run.all("messages", json!({"sendSingle": true, "fields": ["n"]}), vec![numbers(0..3)]).await;
    assert_eq!(run.items(), [r#"{"n":0}"#, r#"{"n":1}"#, r#"{"n":2}"#]);
    assert_eq!(run.counts(), (3, 3, 0));
    assert!(started.elapsed() >= Duration::from_secs(7), "the far side said when");
    let state = run.metrics.health.state();
    assert_eq!((state.connected, state.n_retries), (Some(true), 3));
    assert_eq!(run.far.lock().unwrap().n_connects, 4 + 3, "connects again before each new try");
}

#[tokio::test]
async fn a_poison_item_is_found_and_the_rest_flows_in_order() {
    for (connector, fault) in [("messages", r#"{"n":5}"#), ("rows", r#"{"n":5}"#)] {
        let run = Run::new();
        run.far.lock().unwrap().poison = Some(fault.to_owned());
        run.all(connector, json!({"sendSingle": true, "fields": ["n"]}), vec![numbers(0..4), numbers(4..10)]).await;
        let expected: Vec<String> = (0..10).filter(|n| *n != 5).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
        assert_eq!(run.items(), expected, "{connector}");
        assert_eq!(run.counts(), (10, 9, 1), "{connector}");
        assert_eq!(run.metrics.dropped.get(DropReason::Refused), 1, "{connector}");
        assert_eq!(run.metrics.errors.newest().unwrap().message, "1 rows set aside: bad item");
    }
}

#[tokio::test(start_paused = true)]
async fn partial_writes_are_not_repeated() {
    let run = Run::new();
    run.far.lock().unwrap().answers = vec![
        SinkError::Stopped { n_written: 2, error: ConnectorError::external("reset") },
        SinkError::Stopped { n_written: 1, error: ConnectorError::user("bad item") },
        SinkError::Refused { items: vec![0], n_others: 1, reason: "type conflict".to_owned() },
    ];
    run.all("messages", json!({"sendSingle": true, "fields": ["n"]}), vec![numbers(0..8)]).await;
    // 0 and 1 went through, then 2; 3 is poison; of 4..8 the first is refused, and one that is not named.
    assert_eq!(run.counts(), (8, 5, 3));
    assert_eq!(run.far.lock().unwrap().n_calls, 3);
}

#[tokio::test(start_paused = true)]
async fn tries_are_limited_if_told_so() {
    let run = Run::new();
    run.far.lock().unwrap().answers = (0..3).map(|_| ConnectorError::external("down").into()).collect();
    run.all("messages", json!({"maxAttempts": 3}), vec![numbers(0..2)]).await;
    assert_eq!(run.counts(), (2, 0, 2));
    assert_eq!(run.far.lock().unwrap().n_calls, 3);
}

#[tokio::test(start_paused = true)]
async fn a_result_does_not_linger_longer_than_told() {
    let run = Run::new();
    let driver = run.driver("messages", json!({"lingerInterval": "5s", "fields": ["n"]})).unwrap();
    let (sender, receiver) = channel(Limits::of_items(8), |_| {});
    let written = || run.items();
    let drive = driver.run(receiver, CancellationToken::new());
    let feed = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        sender.send(ToSink::from(Arc::new(numbers(0..1)))).await.unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
        sender.send(ToSink::from(Arc::new(numbers(1..2)))).await.unwrap();
        assert!(written().is_empty());
        tokio::time::sleep(Duration::from_millis(1001)).await;
        assert_eq!(written(), [r#"[{"n":0},{"n":1}]"#], "five seconds after the first");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(written().len(), 1, "nothing is sent without results");
        sender.send(ToSink::from(Arc::new(numbers(2..3)))).await.unwrap();
        drop(sender);
    };
    tokio::join!(drive, feed);
    assert_eq!(run.items(), [r#"[{"n":0},{"n":1}]"#, r#"[{"n":2}]"#], "the end flushes");
}

#[tokio::test(start_paused = true)]
async fn when_the_grace_period_is_over_what_is_left_is_counted() {
    let options = || json!({"sendSingle": true});
    // Stuck in a write, with more in the channel; never connected; in a pause between tries.
    for state in ["stuck", "connecting", "retrying"] {
        let run = Run::new();
        match state {
            "stuck" => run.far.lock().unwrap().stuck = true,
            "connecting" => run.far.lock().unwrap().connect_fails = usize::MAX,
            _ => run.far.lock().unwrap().answers = (0..999).map(|_| ConnectorError::external("down").into()).collect(),
        }
        let driver = run.driver("messages", options()).unwrap();
        let (sender, receiver) = channel(Limits::of_items(8), |_| {});
        let cut = CancellationToken::new();
        let feed = async {
            sender.send(ToSink::from(Arc::new(numbers(0..3)))).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            sender.send(ToSink::from(Arc::new(numbers(3..5)))).await.unwrap();
            drop(sender);
            tokio::time::sleep(Duration::from_secs(10)).await;
            cut.cancel();
        };
        tokio::join!(driver.run(receiver, cut.clone()), feed);
        assert_eq!(run.counts(), (5, 0, 5), "{state}");
        assert_eq!(run.metrics.dropped.get(DropReason::Shutdown), 5, "{state}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_can_not_be_reached_does_not_hold_up_a_rule_without_results() {
    let run = Run::new();
    run.far.lock().unwrap().connect_fails = usize::MAX;
    let started = Instant::now();
    run.all("messages", json!({}), vec![]).await;
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_lost_while_there_is_nothing_to_write_is_made_again() {
    for options in [json!({}), json!({"enableCache": true})] {
        let run = Run::new();
        let driver = run.driver("messages", options.clone()).unwrap();
        let (sender, receiver) = channel(Limits::of_items(8), |_| {});
        let feed = async {
            let is_up = || run.metrics.health.state().connected == Some(true);
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(is_up(), "before the first row");
            run.far.lock().unwrap().connect_fails = 2;
            run.ctx.health.down("gone");
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert!(is_up(), "without a row");
            assert_eq!(run.far.lock().unwrap().n_connects, 1 + 3, "{options}");
            assert_eq!(run.metrics.circuit.get(), Circuit::Closed);
            // Nothing is missed meanwhile, and nobody waits for it who has nothing to write.
            run.far.lock().unwrap().connect_fails = 1;
            run.ctx.health.down("gone");
            sender.send(ToSink::from(Arc::new(numbers(0..1)))).await.unwrap();
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert_eq!(run.items().len(), 1, "{options}");
            run.far.lock().unwrap().connect_fails = usize::MAX;
            run.ctx.health.down("gone");
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(sender);
        };
        let started = Instant::now();
        tokio::join!(driver.run(receiver, CancellationToken::new()), feed);
        assert!(started.elapsed() < Duration::from_secs(72), "{options}");
    }
}

#[test]
fn wrong_options_are_named() {
    let cases = [
        (
            "messages",
            json!({"fields": ["a"], "excludeFields": ["b"]}),
            "excludeFields: can't be used together with `fields`; keep one of the two",
        ),
        ("messages", json!({"format": "jsom"}), "format: there is no format of type \"jsom\"; did you mean \"json\"?"),
        ("messages", json!({"sendSingel": true}), "sendSingel: unknown option, did you mean \"sendSingle\"?"),
        ("messages", json!({"topik": "a"}), "topik: unknown option, did you mean \"topic\"?"),
        (
            "messages",
            json!({"fields": ["a"], "excludeFields": ["b"], "topic": "{{"}),
            "excludeFields: can't be used together with `fields`; keep one of the two; topic: 1:1: unclosed action: expected `}}`",
        ),
        ("messages", json!({"dataTemplate": "{{.n"}), "dataTemplate: 1:1: unclosed action: expected `}}`"),
        (
            "messages",
            json!({"topic": "a/{{env \"X\"}}"}),
            "topic: 1:5: `env` is not offered: templates can't read the environment, files or the network",
        ),
        (
            "messages",
            json!({"dataTemplate": "{{.n}}"}),
            "dataTemplate: reads a field of dot, but dot is the list of the result's rows; set `sendSingle: true`, or use `{{range .}}` or `{{(index . 0).name}}`",
        ),
        ("messages", json!({"maxAttempts": 0}), "maxAttempts: expected a whole number from 1 to 4294967295"),
        ("mesages", json!({}), "there is no sink of type \"mesages\"; did you mean \"messages\"?"),
    ];
    for (connector, options, expected) in cases {
        let error = Run::new().driver(connector, options).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some(expected));
    }
}
