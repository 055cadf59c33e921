//! What users of other engines trip over, as checks: the table in `ACCEPTANCE.md` says which test proves which. Those that had no
//! home elsewhere are here.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::Request;
use sluice::definition::{RuleDef, SinkDef, StreamDef};
use sluice::pipeline::{Engine, Settings};
use sluice::{Definitions, Options, Registry};
use sluice_tests::mqtt::MqttClient;
use sluice_tests::services::Mosquitto;
use sluice_tests::sluice::{Sluice, binary};
use sluice_tests::wait;
use tokio::net::TcpListener;

/// Every test that the table names is there.
#[test]
fn the_table_names_tests_that_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let table = std::fs::read_to_string(root.join("tests/ACCEPTANCE.md")).unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| #")).collect();
    assert_eq!(rows.len(), 35);
    for (row_idx, row) in rows.iter().enumerate() {
        assert!(row.starts_with(&format!("| {} |", row_idx + 1)), "rows are in order: {row}");
        let mut n_tests = 0;
        for name in row.split('`').skip(1).step_by(2) {
            let Some((file, test)) = name.split_once(" ").filter(|(file, _)| file.ends_with(".rs")) else { continue };
            let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(text.contains(&format!("fn {test}(")), "{file} has no test {test}");
            n_tests += 1;
        }
        assert!(n_tests > 0 || row.contains("does not apply"), "{row}");
    }
}

fn check(statements: &str) -> (bool, String) {
    let mut child = Command::new(binary().unwrap())
        .args(["check", "--sql", "-", "--strict"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(statements.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn a_join_over_an_expression_of_the_tables_column_is_refused_or_applied() {
    let sources = r#"CREATE STREAM s () WITH (DATASOURCE="a", FORMAT="json", TYPE="memory");
CREATE TABLE t () WITH (DATASOURCE="b", FORMAT="json", TYPE="memory", KIND="lookup", KEY="id");
"#;
    let (is_good, text) = check(&format!("{sources}SELECT s.b FROM s INNER JOIN t ON upper(t.id) = s.b;"));
    assert!(!is_good && text.contains("ON must compare one of its columns with ="), "{text}");
    let (is_good, text) =
        check(&format!("{sources}SELECT s.b FROM s INNER JOIN t ON t.id = s.a AND upper(t.x) = s.b;"));
    assert!(is_good, "{text}");
}

/// A server that keeps the header `X-Key` of its requests.
async fn server() -> (String, Arc<Mutex<Vec<String>>>) {
    let keys: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&keys);
    let app = Router::new().fallback(move |request: Request| async move {
        let key = request.headers().get("x-key").and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned();
        kept.lock().unwrap_or_else(PoisonError::into_inner).push(key);
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_secret_and_a_changed_address_reach_a_running_sink() {
    let (first, first_keys) = server().await;
    let (second, second_keys) = server().await;
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: String| std::fs::write(folder.path().join(file), text).unwrap();
    let secret =
        |key: &str| format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: far}}\nstringData: {{key: {key}}}\n");
    let rules = |url: &str| {
        format!(
            r#"
apiVersion: sluice.dev/v1alpha1
kind: Stream
metadata: {{name: ticks}}
spec: {{name: ticks, type: simulator, options: {{interval: 20ms, data: [{{n: 1}}]}}}}
---
apiVersion: sluice.dev/v1alpha1
kind: Rule
metadata: {{name: forward}}
spec:
  sql: SELECT n FROM ticks
  sinks: [{{rest: {{url: "{url}", method: POST, headers: {{X-Key: {{secretKeyRef: {{name: far, key: key}}}}}}}}}}]
"#
        )
    };
    write("secret.yaml", secret("one"));
    write("rules.yaml", rules(&first));
    let _sluice = Sluice::run_ready(folder.path(), &["--watch"]).await.unwrap();
    let has = |keys: &Arc<Mutex<Vec<String>>>, key: &str| {
        keys.lock().unwrap_or_else(PoisonError::into_inner).last().is_some_and(|last| last == key)
    };
    wait::until_true("the first key", async || has(&first_keys, "one")).await;
    write("secret.yaml", secret("two"));
    wait::until_true("the second key", async || has(&first_keys, "two")).await;
    write("rules.yaml", rules(&second));
    wait::until_true("the second address", async || has(&second_keys, "two")).await;
}

const N_RULES: usize = 5000;

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_rules_share_one_subscription_and_get_every_message() {
    let broker = Mosquitto::shared().await;
    let client = MqttClient::connect(broker.port());
    let options = serde_json::json!({"server": broker.url()});
    let stream = StreamDef {
        name: "many".to_owned(),
        connector: "mqtt".to_owned(),
        datasource: "many/rules".to_owned(),
        format: "json".to_owned(),
        fields: Vec::new(),
        timestamp: None,
        timestamp_format: None,
        strict: false,
        shared: true,
        delimiter: None,
        retain: None,
        options: Options::from(options),
        origin: Default::default(),
    };
    let rule = |n: usize| RuleDef {
        name: format!("rule-{n}"),
        sql: format!("SELECT n FROM many WHERE n > {}", n % 10),
        sinks: vec![SinkDef { connector: "nop".to_owned(), options: Options::default() }],
        options: Default::default(),
        late_sink: None,
        error_sink: None,
        fail_on_error: false,
        buffer_batches: 16,
        delivery: Default::default(),
        backpressure: Default::default(),
        restart: Default::default(),
        schedule: None,
        suspend: false,
        held_with: None,
        origin: Default::default(),
    };
    let definitions = Definitions {
        streams: vec![stream],
        tables: Vec::new(),
        rules: (0..N_RULES).map(rule).collect(),
        ..Definitions::default()
    };
    let before = resident_bytes();
    let engine = Engine::new(Settings::new(Registry::builtin()));
    let report = engine.apply(&definitions);
    assert_eq!((report.started.len(), report.refused.len()), (N_RULES, 0));
    wait::until_true("the stream is connected", async || {
        let status = engine.rule_status("rule-0").unwrap();
        status.sources[0].connected == Some(true)
    })
    .await;
    for n in 0..20 {
        client.publish("many/rules", format!("{{\"n\":{n}}}")).await.unwrap();
    }
    wait::until_true("every rule has every message", async || {
        engine.status().rules.iter().all(|rule| rule.rows_in == 20)
    })
    .await;
    let status = engine.status();
    assert!(status.rules.iter().all(|rule| rule.sources[0].rows_in == 20), "one subscription feeds them all");
    assert!(status.rules.iter().all(|rule| rule.rows_dropped.is_empty() && rule.sinks[0].dropped.is_empty()));
    let per_rule = resident_bytes().saturating_sub(before) / N_RULES as u64;
    assert!(per_rule < 64 << 10, "{per_rule} bytes for each rule");
    assert!(engine.stop(wait::DEADLINE).await);
}

/// Resident memory of this process, as the kernel counts it.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
