//! Queues of sinks in the real process: an outage, its end, and what is between the two.

use std::future::IntoFuture;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use serde_json::Value;
use sluice_tests::mqtt::MqttClient;
use sluice_tests::services::{InfluxDb1, Mosquitto, free_port};
use sluice_tests::sluice::Sluice;
use sluice_tests::wait;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

fn folder(broker: &Mosquitto, topic: &str, sink: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        r#"
apiVersion: sluice.dev/v1alpha1
kind: Stream
metadata: {{name: numbers}}
spec:
  sql: CREATE STREAM numbers () WITH (DATASOURCE="{topic}", FORMAT="json", TYPE="mqtt")
  options: {{server: "{}", clientid: "{topic}"}}
---
apiVersion: sluice.dev/v1alpha1
kind: Rule
metadata: {{name: forward}}
spec:
  sql: SELECT n FROM numbers
  sinks: [{sink}]
"#,
        broker.url()
    );
    std::fs::write(folder.path().join("rules.yaml"), text).unwrap();
    folder
}

async fn run(folder: &TempDir) -> Sluice {
    let state = folder.path().join("state");
    Sluice::run_ready(&folder.path().join("rules.yaml"), &["--state-dir", state.to_str().unwrap()]).await.unwrap()
}

async fn publish(client: &MqttClient, topic: &str, numbers: std::ops::Range<u64>) {
    for n in numbers {
        client.publish(topic, format!("{{\"n\":{n}}}")).await.unwrap();
    }
}

/// What `/rules` says of the rule's first sink.
async fn sink(sluice: &Sluice, pointer: &str) -> Value {
    let text = sluice.get("/rules/forward").await.unwrap_or_default();
    let status: Value = serde_json::from_str(&text).unwrap_or_default();
    status.pointer(&format!("/sinks/0{pointer}")).cloned().unwrap_or_default()
}

async fn until_stored(sluice: &Sluice, n_rows: u64) {
    let what = format!("{n_rows} rows on disk");
    wait::until_true(&what, async || sink(sluice, "/queue/diskRows").await == n_rows).await;
}

/// An HTTP server that keeps the bodies that it gets.
struct Receiver {
    bodies: Arc<Mutex<Vec<String>>>,
    task: AbortHandle,
}

impl Receiver {
    async fn start(port: u16) -> Self {
        let bodies: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&bodies);
        let app = Router::new().fallback(move |body: Bytes| async move {
            let body = String::from_utf8_lossy(&body).into_owned();
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(body);
        });
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let task = tokio::spawn(axum::serve(listener, app).into_future()).abort_handle();
        Receiver { bodies, task }
    }

    fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn expected(n_rows: u64) -> Vec<String> {
    (0..n_rows).map(|n| format!("{{\"n\":{n}}}")).collect()
}

/// Publishes numbers while nobody listens, ends the process, and lets another one go on when the server is there.
async fn outage(name: &str, end: impl AsyncFn(&mut Sluice)) {
    let broker = Mosquitto::shared().await;
    let client = MqttClient::connect(broker.port());
    let port = free_port();
    let sink = format!(
        "{{rest: {{url: \"http://127.0.0.1:{port}/\", method: POST, sendSingle: true, enableCache: true, resendInterval: 200ms, timeout: 2s}}}}"
    );
    let folder = folder(broker, name, &sink);
    let mut sluice = run(&folder).await;
    publish(&client, name, 0..200).await;
    until_stored(&sluice, 200).await;
    assert_eq!(self::sink(&sluice, "/connected").await, false);
    end(&mut sluice).await;

    let receiver = Receiver::start(port).await;
    let sluice = run(&folder).await;
    publish(&client, name, 200..210).await;
    wait::until_true("all rows", async || receiver.bodies().len() >= 210).await;
    assert_eq!(receiver.bodies(), expected(210), "stored rows come first, in order, each once");
    wait::until_true("the circuit is closed", async || self::sink(&sluice, "/circuit").await == "closed").await;
    let metrics = sluice.get("/metrics").await.unwrap();
    let restored = "sluice_sink_queue_restored_rows_total{rule=\"forward\",sink=\"rest_0\",connector=\"rest\"} 200";
    assert!(metrics.contains(restored), "{metrics}");
    let dropped: Vec<&str> =
        metrics.lines().filter(|line| line.contains("dropped_total{") && !line.ends_with(" 0")).collect();
    assert!(dropped.is_empty(), "{dropped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_during_an_outage_loses_nothing_that_was_stored() {
    outage("queue-kill", async |sluice| sluice.kill()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_during_an_outage_loses_nothing() {
    outage("queue-stop", async |sluice| {
        sluice.terminate().unwrap();
        let status = sluice.ended().await;
        assert_eq!(status.code(), Some(3), "the grace period was not enough to write everything");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_later_gets_everything_in_order() {
    let broker = Mosquitto::shared().await;
    let client = MqttClient::connect(broker.port());
    let (name, port) = ("queue-later", free_port());
    let sink = format!(
        "{{rest: {{url: \"http://127.0.0.1:{port}/\", method: POST, sendSingle: true, enableCache: true, memoryCacheThreshold: 8, timeout: 2s}}}}"
    );
    let folder = folder(broker, name, &sink);
    let sluice = run(&folder).await;
    publish(&client, name, 0..300).await;
    until_stored(&sluice, 300).await;
    let receiver = Receiver::start(port).await;
    publish(&client, name, 300..310).await;
    wait::until_true("all rows", async || receiver.bodies().len() >= 310).await;
    assert_eq!(receiver.bodies(), expected(310));
}

#[tokio::test(flavor = "multi_thread")]
async fn influx1_gets_what_was_stored_during_its_outage() {
    let broker = Mosquitto::shared().await;
    let client = MqttClient::connect(broker.port());
    let mut influx = InfluxDb1::start().await.unwrap();
    let name = "queue-influx";
    let sink = format!(
        "{{influx: {{addr: \"{}\", database: {}, measurement: m, tsFieldName: n, fields: [n], enableCache: true, resendInterval: 200ms, timeout: 2s}}}}",
        influx.url(),
        InfluxDb1::DATABASE
    );
    let folder = folder(broker, name, &sink);
    influx.kill();
    let mut sluice = run(&folder).await;
    publish(&client, name, 1..101).await;
    until_stored(&sluice, 100).await;
    sluice.kill();
    influx.restart().await.unwrap();
    let sluice = run(&folder).await;
    wait::until_true("all rows", async || sink_rows(&sluice).await == 100).await;
    let answer = influx.query("SELECT count(n) FROM m").await.unwrap();
    assert_eq!(answer.pointer("/results/0/series/0/values/0/1"), Some(&Value::from(100)), "{answer}");
}

async fn sink_rows(sluice: &Sluice) -> u64 {
    sink(sluice, "/rowsOut").await.as_u64().unwrap_or_default()
}
