//! EdgeX's messages, over real buses: what its own libraries wrote is read, what we write is read back.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};
use sluice::connection::ConnectorContext;
use sluice::manifest;
use sluice::pipeline::{Engine, Settings};
use sluice::sink::{Output, Sink, SinkArgs, SinkError, SinkType, Takes};
use sluice::{ConnectorError, Registry};
use sluice_sql::Value;
use sluice_tests::mqtt::MqttClient;
use sluice_tests::services::{Mosquitto, Nats, NatsClient, Redis, unique};
use sluice_tests::wait;

/// A name that resources and SQL take.
fn name(prefix: &str) -> String {
    unique(prefix).replace('_', "x")
}

/// Rows by the rule that gave them.
static ROWS: LazyLock<Mutex<HashMap<String, Vec<Json>>>> = LazyLock::new(Mutex::default);

/// The rows of a rule, without those of [`publisher`].
fn rows_of(rule: &str) -> Vec<Json> {
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner).get(rule).cloned().unwrap_or_default();
    rows.retain(|row| row.get("probe").is_none());
    rows
}

/// The sink `rows`: keeps rows as JSON.
fn registry() -> Registry {
    Registry::builtin().with_sink(SinkType {
        name: "rows",
        docs: "Keeps rows for the test.",
        schema: schemars::Schema::default,
        takes: Takes::Rows,
        templates: &[],
        build: |args: &SinkArgs<'_>| Ok(Box::new(RowsSink(args.rule.to_owned()))),
    })
}

struct RowsSink(String);

#[async_trait]
impl Sink for RowsSink {
    async fn connect(&mut self, ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        ctx.health.up();
        Ok(())
    }

    async fn write(&mut self, output: Output<'_>) -> Result<(), SinkError> {
        let Output::Rows(batches) = output else { return Ok(()) };
        let rows = batches.iter().flat_map(|batch| {
            batch.rows.iter().map(|row| Json::from(&Value::Object(Arc::new(batch.schema.to_object(row)))))
        });
        ROWS.lock().unwrap_or_else(PoisonError::into_inner).entry(self.0.clone()).or_default().extend(rows);
        Ok(())
    }
}

/// Runs manifests until all sources and sinks are connected.
async fn run(manifests: &str) -> Engine {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("manifest.yaml");
    std::fs::write(&file, manifests).unwrap();
    let loaded = manifest::load(&[file], &manifest::Settings::default());
    assert!(loaded.diagnostics.is_empty(), "{:#?}", loaded.diagnostics);
    let engine = Engine::new(Settings::new(registry()));
    let report = engine.apply(&loaded.definitions);
    assert_eq!(report.refused, []);
    wait::until_true("everything to be connected", async || engine.is_ready()).await;
    engine
}

/// A stream on a bus, and a rule that collects all of it with its metadata.
fn collecting(rule: &str, bus: &Json, topic: &str) -> String {
    let mut options = bus.clone();
    options["topic"] = json!(topic);
    format!(
        "apiVersion: sluice.dev/v1alpha1\nkind: Stream\nmetadata: {{name: {rule}}}\n\
         spec: {{name: {rule}, type: edgex, datasource: unused, options: {options}}}\n---\n\
         apiVersion: sluice.dev/v1alpha1\nkind: Rule\nmetadata: {{name: {rule}}}\n\
         spec: {{sql: \"SELECT *, meta(*) AS m_e_t_a FROM {rule}\", sinks: [{{rows: {{}}}}]}}\n---\n"
    )
}

/// A client of the broker, once a rule gets what it publishes: a source counts as connected before the broker has its subscription.
async fn publisher(rule: &str, topic: &str) -> MqttClient {
    let client = MqttClient::connect(Mosquitto::shared().await.port());
    let probe = json!({"readings": [{"resourceName": "probe", "valueType": "Bool", "value": "true"}]}).to_string();
    wait::until_true("the subscription", async || {
        client.publish(topic, probe.as_str()).await.unwrap();
        client.acknowledged().await;
        ROWS.lock().unwrap_or_else(PoisonError::into_inner).contains_key(rule)
    })
    .await;
    client
}

async fn buses() -> [(&'static str, Json); 3] {
    let (broker, nats, redis) = tokio::join!(Mosquitto::shared(), Nats::shared(), Redis::shared());
    let redis_port: u16 = redis.addr().rsplit(':').next().unwrap().parse().unwrap();
    [
        ("mqtt", json!({"type": "mqtt", "host": "127.0.0.1", "port": broker.port()})),
        ("nats", json!({"type": "nats-core", "host": "127.0.0.1", "port": nats.port()})),
        ("redis", json!({"type": "redis", "host": "127.0.0.1", "port": redis_port})),
    ]
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/edgex")
}

/// As the index writes values: `{"$bytes": base64}`, floats to six digits, whole numbers exactly.
fn is(value: &Json, expected: &Json) -> bool {
    match (value, expected) {
        (Json::Number(value), Json::Number(expected)) if value.is_f64() || expected.is_f64() => {
            let (value, expected) = (value.as_f64().unwrap(), expected.as_f64().unwrap());
            (value - expected).abs() <= 1e-6 * expected.abs()
        }
        (Json::String(value), Json::Object(expected)) => expected.get("$bytes") == Some(&json!(value)),
        (Json::Array(values), Json::Array(expected)) => {
            values.len() == expected.len() && values.iter().zip(expected).all(|(value, expected)| is(value, expected))
        }
        (Json::Object(object), Json::Object(expected)) => {
            object.len() == expected.len()
                && expected.iter().all(|(key, expected)| object.get(key).is_some_and(|value| is(value, expected)))
        }
        (value, expected) => value == expected,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_of_every_release_arrives_over_every_bus() {
    let mut cases: Vec<Json> = Vec::new();
    for version in [2, 3, 4] {
        let text = std::fs::read_to_string(golden().join(format!("index-v{version}.json"))).unwrap();
        cases.extend(serde_json::from_str::<Vec<Json>>(&text).unwrap());
    }
    assert_eq!(cases.len(), 136);
    for (bus, options) in buses().await {
        let (rule, base) = (name(bus), unique("edgex"));
        let engine = run(&collecting(&rule, &options, &format!("{base}/events/#"))).await;
        let topic = format!("{base}/events/device");
        let messages = cases.iter().map(|case| std::fs::read(golden().join(case["file"].as_str().unwrap())).unwrap());
        match bus {
            "mqtt" => {
                let client = publisher(&rule, &topic).await;
                for message in messages {
                    client.publish(&topic, message).await.unwrap();
                }
                client.acknowledged().await;
            }
            "nats" => {
                let mut client = NatsClient::connect(Nats::shared().await.port()).await.unwrap();
                for message in messages {
                    client.publish(&topic.replace('/', "."), "", &message).await.unwrap();
                }
                client.confirmed().await.unwrap();
            }
            _ => {
                let client = redis::Client::open(Redis::shared().await.url()).unwrap();
                let mut connection = client.get_multiplexed_async_connection().await.unwrap();
                for message in messages {
                    let mut command = redis::cmd("PUBLISH");
                    command.arg(topic.replace('/', ".")).arg(message);
                    command.exec_async(&mut connection).await.unwrap();
                }
            }
        }
        wait::until_true("all rows", async || rows_of(&rule).len() == cases.len()).await;
        for (case, mut row) in cases.iter().zip(rows_of(&rule)) {
            let file = &case["file"];
            let meta = row.as_object_mut().unwrap().remove("m_e_t_a").unwrap();
            assert!(is(&row, &case["row"]), "{bus} {file}: {row}");
            assert_eq!(meta["topic"], *topic, "{bus} {file}");
            for (key, expected) in case["event"].as_object().unwrap() {
                assert!(is(&meta[key], expected), "{bus} {file}: {key} of {meta}");
            }
            for reading in case["readings"].as_array().unwrap() {
                let of_reading = &meta[reading["resourceName"].as_str().unwrap()];
                for (key, expected) in reading.as_object().unwrap().iter().filter(|(key, _)| *key != "resourceName") {
                    assert!(is(&of_reading[key], expected), "{bus} {file}: {key} of {of_reading}");
                }
            }
        }
        assert!(engine.stop(wait::DEADLINE).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_sink_writes_the_source_reads() {
    let row =
        r#"{"n": 7, "big": -9223372036854775808, "f": 2.5, "s": "a b", "ok": true, "list": [1, 2], "o": {"x": [1]}}"#;
    for (bus, options) in buses().await {
        for (idx, more) in [
            json!({"edgexVersion": 2}),
            json!({"edgexVersion": 3, "messageType": "request", "contentType": "application/cbor"}),
            json!({"edgexVersion": 4, "topicPrefix": "PREFIX", "deviceName": "dev", "profileName": "pro"}),
            json!({"edgexVersion": 4, "optional": {"Format": "json"}}),
        ]
        .into_iter()
        .enumerate()
        {
            let (reads, writes, base) = (name(bus), name(bus), unique("edgex"));
            let mut sink = options.clone();
            for (name, value) in more.as_object().unwrap() {
                sink[name] = if value == "PREFIX" { json!(format!("{base}/up")) } else { value.clone() };
            }
            if sink.get("topicPrefix").is_none() {
                sink["topic"] = json!(format!("{base}/{{{{.n}}}}"));
            }
            // The collecting rule stands first, and the writing rule's rows wait until all feeds are connected.
            let manifests = collecting(&reads, &options, &format!("{base}/#"))
                + &format!(
                    "apiVersion: sluice.dev/v1alpha1\nkind: Stream\nmetadata: {{name: {writes}}}\n\
                     spec: {{name: {writes}, type: simulator, datasource: x, options: {{loop: false, interval: 0, data: [{row}]}}}}\n---\n\
                     apiVersion: sluice.dev/v1alpha1\nkind: Rule\nmetadata: {{name: {writes}}}\n\
                     spec: {{sql: \"SELECT * FROM {writes}\", sinks: [{{edgex: {sink}}}]}}\n"
                );
            let engine = run(&manifests).await;
            wait::until_true("the row", async || rows_of(&reads).len() == 1).await;
            let mut read = rows_of(&reads).remove(0);
            let meta = read.as_object_mut().unwrap().remove("m_e_t_a").unwrap();
            assert_eq!(read, serde_json::from_str::<Json>(row).unwrap(), "{bus} {idx}");
            let expected_topic = if idx == 2 { format!("{base}/up/pro/dev/{writes}") } else { format!("{base}/7") };
            assert_eq!(meta["topic"], json!(expected_topic), "{bus} {idx}");
            assert_eq!(meta["sourceName"], json!(writes), "{bus} {idx}");
            assert_eq!(meta["big"]["valueType"], "Int64", "{bus} {idx}");
            assert!(engine.stop(wait::DEADLINE).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_message_and_a_bad_reading_cost_themselves_only() {
    let broker = Mosquitto::shared().await;
    let (rule, base) = (name("bad"), unique("edgex"));
    let options = json!({"host": "127.0.0.1", "port": broker.port(), "messageType": "event"});
    let engine = run(&collecting(&rule, &options, &format!("{base}/#"))).await;
    let client = publisher(&rule, &format!("{base}/x")).await;
    let reading = |name: &str, value: &str| json!({"resourceName": name, "valueType": "Int8", "value": value});
    // A message of EdgeX's own in CBOR, of which half arrives; as it is, and as the base64 of an envelope.
    let cbor = std::fs::read(golden().join("v3-alltypes-envelope-event-cborpayload.cbor")).unwrap();
    let half = &cbor[..cbor.len() / 2];
    client.publish(&format!("{base}/x"), half).await.unwrap();
    let half = json!({"contentType": "application/cbor", "payload": STANDARD.encode(half)});
    client.publish(&format!("{base}/x"), half.to_string()).await.unwrap();
    for message in [
        json!({"payload": "%"}),
        json!({"event": {"readings": [reading("a", "1")]}}),
        json!({"readings": [reading("a", "x")]}),
        json!({"readings": [reading("a", "x"), reading("b", "2")]}),
        json!({"readings": [reading("c", "3")]}),
    ] {
        client.publish(&format!("{base}/x"), message.to_string()).await.unwrap();
    }
    wait::until_true("the good rows", async || rows_of(&rule).len() == 2).await;
    let status = engine.rule_status(&rule).unwrap();
    assert_eq!(status.sources[0].dropped.get("payload"), Some(&6), "{status:?}");
    let newest = &status.sources[0].last_error.as_ref().unwrap().message;
    assert!(newest.contains("reading a: expected a whole number of 64 bits, found another text"), "{newest}");
    let columns = |row: &Json| row.as_object().unwrap().keys().filter(|key| *key != "m_e_t_a").cloned().collect();
    let columns: Vec<Vec<String>> = rows_of(&rule).iter().map(columns).collect();
    assert_eq!(columns, [["b"], ["c"]]);
    assert!(engine.stop(wait::DEADLINE).await);
}
