//! The command as a process: output, exit codes, signals, reloading.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use sluice_tests::sluice::{Sluice, binary};
use sluice_tests::wait;
use tempfile::TempDir;

/// A folder with a file of five readings, a stream that reads it, and what is given.
fn folder(more: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let rows: String = (1..=5).map(|n| format!("{{\"id\": {n}, \"temperature\": {n}.5}}\n")).collect();
    std::fs::write(folder.path().join("readings.ndjson"), rows).unwrap();
    let stream = r#"
apiVersion: sluice.dev/v1alpha1
kind: Stream
metadata: {name: readings}
spec:
  sql: CREATE STREAM readings () WITH (DATASOURCE="${dir}/readings.ndjson", FORMAT="json", TYPE="file")
---
apiVersion: sluice.dev/v1alpha1
kind: Stream
metadata: {name: endless}
spec:
  name: endless
  type: simulator
  options: {interval: 10ms, data: [{n: 1}, {n: 2}]}
---
"#;
    write(folder.path(), &format!("{stream}{more}"));
    folder
}

fn write(folder: &Path, text: &str) {
    std::fs::write(folder.join("sluice.yaml"), text).unwrap();
}

fn rule(name: &str, sql: &str, sink: &str) -> String {
    format!(
        "apiVersion: sluice.dev/v1alpha1\nkind: Rule\nmetadata: {{name: {name}}}\nspec:\n  sql: {sql}\n  sinks:\n  - {sink}\n---\n"
    )
}

const STDOUT: &str = "stdout: {sendSingle: true}";
/// Nobody listens on that port.
const UNREACHABLE: &str = "rest: {url: \"http://127.0.0.1:9/\", sendSingle: true}";

fn run(args: &[&str], folder: &TempDir) -> Output {
    Command::new(binary().unwrap()).args(args).args(["-f"]).arg(folder.path()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_finite_run_prints_rows_and_nothing_else() {
    let folder = folder(&rule("hot", "SELECT id, temperature FROM readings WHERE temperature > 3", STDOUT));
    for format in ["text", "json"] {
        let output = run(&["run", "--log-format", format], &folder);
        let expected =
            "{\"id\":3,\"temperature\":3.5}\n{\"id\":4,\"temperature\":4.5}\n{\"id\":5,\"temperature\":5.5}\n";
        assert_eq!(text(&output.stdout), expected, "{}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(0));
        if format == "json" {
            for line in text(&output.stderr).lines() {
                assert!(serde_json::from_str::<Value>(line).is_ok(), "no JSON: {line}");
            }
        }
    }
}

/// Windows, joins, groups, failing and late rows over files: the same bytes every time, whatever runs when.
#[test]
fn the_same_files_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = [String::new(), String::new(), String::new()];
    for n in 0..4000_u64 {
        // Out of order by up to 600 ms, and some far too late; with several streams it depends on the other ones which are.
        let ts = 1_000_000 + n * 50 + (n * 7919) % 600 - if n % 50 == 49 { 20_000 } else { 0 };
        let row = format!("{{\"id\": {n}, \"ts\": {ts}, \"k\": \"k{}\", \"v\": {}}}\n", (n * 31) % 17, n % 9);
        files[0].push_str(&row);
        files[if n % 3 == 0 { 1 } else { 2 }].push_str(&row);
    }
    let mut yaml = String::new();
    for (name, rows) in ["west", "east", "north"].iter().zip(&files) {
        std::fs::write(folder.path().join(format!("{name}.ndjson")), rows).unwrap();
        yaml += &format!(
            "apiVersion: sluice.dev/v1alpha1\nkind: Stream\nmetadata: {{name: {name}}}\nspec:\n  sql: CREATE STREAM {name} () WITH \
             (DATASOURCE=\"${{dir}}/{name}.ndjson\", FORMAT=\"json\", TYPE=\"file\", TIMESTAMP=\"ts\")\n---\n"
        );
    }
    let statements = [
        "SELECT k, count(*) AS c, sum(v) AS t, collect(id) AS ids, window_end() AS e FROM west GROUP BY k, TUMBLINGWINDOW(ss, 10)",
        "SELECT k, avg(v) AS a, last_value(id, true) AS l FROM west GROUP BY k, HOPPINGWINDOW(ss, 10, 2) ORDER BY a DESC, k",
        "SELECT north.id AS l, east.id AS r FROM north INNER JOIN east ON north.k = east.k AND north.v < east.v GROUP BY TUMBLINGWINDOW(ss, 1)",
        "SELECT id, 100 / v AS q, lag(id) OVER (PARTITION BY k) AS p FROM west",
    ];
    for sql in statements {
        let rule = rule(
            "all",
            &format!("'{sql}'"),
            "stdout: {}\n  options: {eventTime: true, errorSink: {nop: {}}, lateSink: {nop: {}}}",
        );
        write(folder.path(), &format!("{yaml}{rule}"));
        let first = run(&["run"], &folder);
        assert_eq!(first.status.code(), Some(0), "{sql}: {}", text(&first.stderr));
        assert!(first.stdout.len() > 1000, "{sql}: {}", text(&first.stderr));
        for _ in 0..3 {
            assert!(run(&["run"], &folder).stdout == first.stdout, "{sql} gives other bytes");
        }
    }
}

/// What a rule leaves out goes to sinks of its own, by reason; or is the end of the rule.
#[test]
fn rows_that_are_left_out_have_sinks_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let rows = [
        r#"{"id": 1, "ts": 100000, "v": 2, "more": true}"#,
        r#"{"id": 2, "ts": 101000, "v": 0}"#,
        r#"{"id": 3, "ts": 90000, "v": 5}"#,
        r#"{"id": 4, "v": 1}"#,
        r#"{"id": 5, "ts": 9000000000000, "v": 1}"#,
        r#"{"id": 6, "ts": 102000, "v": 5}"#,
    ];
    std::fs::write(folder.path().join("rows.ndjson"), rows.join("\n")).unwrap();
    let stream = "apiVersion: sluice.dev/v1alpha1\nkind: Stream\nmetadata: {name: rows}\nspec:\n  sql: CREATE STREAM rows () WITH \
                  (DATASOURCE=\"${dir}/rows.ndjson\", FORMAT=\"json\", TYPE=\"file\", TIMESTAMP=\"ts\")\n---\n";
    let sql = "SELECT id, 10 / v AS q FROM rows";
    let given = |sink: &str, options: &str| {
        let rule = rule("r", sql, &format!("{sink}\n  options: {{eventTime: true, maxClockDrift: 1h, {options}}}"));
        write(folder.path(), &format!("{stream}{rule}"));
        let output = run(&["run"], &folder);
        let lines: Vec<Value> = text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines, output.status.code(), text(&output.stderr))
    };
    let (lines, code, log) = given(STDOUT, "onError: drop");
    assert_eq!(lines, [serde_json::json!({"id": 1, "q": 5}), serde_json::json!({"id": 6, "q": 2})], "{log}");
    assert_eq!(code, Some(0), "{log}");
    let (lines, _, log) = given("nop: {}", "lateSink: {stdout: {sendSingle: true}}");
    let late = serde_json::json!({"rule": "r", "reason": "late", "ts": 90000, "row": {"id": 3, "ts": 90000, "v": 5}});
    assert_eq!(lines, [late], "{log}");
    let (lines, _, log) = given("nop: {}", "errorSink: {stdout: {sendSingle: true}}");
    let of_rows: Vec<_> =
        lines.iter().map(|line| (line["reason"].as_str().unwrap(), line["row"]["id"].clone())).collect();
    let expected = [("bad_timestamp", 4), ("bad_timestamp", 5), ("error", 2)].map(|(reason, id)| (reason, id.into()));
    assert_eq!(of_rows, expected, "{log}");
    assert!(lines[1]["error"].as_str().unwrap().contains("ahead of the clock"), "{lines:?}");
    assert!(lines[2]["error"].as_str().unwrap().starts_with("1:12: "), "{lines:?}");
    let (lines, code, log) = given(STDOUT, "onError: fail");
    assert_eq!((lines.len(), code), (1, Some(1)), "{log}");
    let (_, code, log) = given("nop: {}", "lateSink: {nowhere: {}}");
    assert_eq!(code, Some(1));
    assert!(log.contains("nowhere"), "{log}");
}

#[test]
fn the_exit_code_says_what_went_wrong() {
    let good = rule("good", "SELECT id FROM readings", STDOUT);
    let cases = [
        ("all is well", good.clone(), 0, 0),
        ("one rule has an SQL error", format!("{good}{}", rule("bad", "SELECT id FRM readings", STDOUT)), 1, 1),
        (
            "one rule has an unknown option",
            format!("{good}{}", rule("bad", "SELECT id FROM readings", "stdout: {x: 1}")),
            1,
            1,
        ),
        ("the YAML is broken", "kind: [".to_owned(), 2, 1),
        ("there is no rule", String::new(), 2, 0),
    ];
    for (name, more, of_run, of_check) in cases {
        let folder = folder(&more);
        let output = run(&["run"], &folder);
        assert_eq!(output.status.code(), Some(of_run), "run, {name}: {}", text(&output.stderr));
        if of_run == 1 {
            assert_eq!(text(&output.stdout).lines().count(), 5, "the good rule runs, {name}");
        }
        let output = run(&["check"], &folder);
        assert_eq!(output.status.code(), Some(of_check), "check, {name}: {}", text(&output.stdout));
    }
    for args in [&["run"][..], &["run", "-f", "/nonexistent"], &["run", "--grace", "soon", "-f", "."], &["fly"]] {
        let output = Command::new(binary().unwrap()).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_drains_and_a_second_one_does_not_wait() {
    let files = folder(&rule("flow", "SELECT n FROM endless", STDOUT));
    let mut sluice = Sluice::run_ready(files.path(), &[]).await.unwrap();
    wait::until_true("rows", async || sluice.stdout().len() > 3).await;
    sluice.terminate().unwrap();
    assert_eq!(sluice.ended().await.code(), Some(0), "{}", sluice.stderr().join("\n"));

    let files = folder(&rule("stuck", "SELECT n FROM endless", UNREACHABLE));
    let mut sluice = Sluice::run_ready(files.path(), &["--grace", "1h"]).await.unwrap();
    wait_for_rows(&sluice, "stuck").await;
    sluice.terminate().unwrap();
    wait::until_true("it is stopping", async || sluice.stderr().iter().any(|line| line.contains("stopping"))).await;
    sluice.terminate().unwrap();
    assert_eq!(sluice.ended().await.code(), Some(3), "{}", sluice.stderr().join("\n"));

    let mut sluice = Sluice::run_ready(files.path(), &["--grace", "50ms"]).await.unwrap();
    wait_for_rows(&sluice, "stuck").await;
    sluice.terminate().unwrap();
    assert_eq!(sluice.ended().await.code(), Some(3), "{}", sluice.stderr().join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn watched_files_are_applied_and_broken_ones_change_nothing() {
    let version = |sql: &str| folder_text(&rule("flow", sql, STDOUT));
    let files = folder(&rule("flow", "SELECT n FROM endless", STDOUT));
    let mut sluice = Sluice::run_ready(files.path(), &["--watch"]).await.unwrap();
    wait::until_true("rows", async || sluice.stdout().len() > 3).await;

    write(files.path(), &version("SELEC n FROM endless"));
    wait::until_true("the error", async || sluice.stderr().join("\n").contains("did you mean SELECT?")).await;
    write(files.path(), "kind: [");
    wait::until_true("the other error", async || sluice.stderr().join("\n").contains("not valid YAML")).await;
    let n_before = sluice.stdout().len();
    wait::until_true("rows flow on", async || sluice.stdout().len() > n_before + 3).await;
    write(files.path(), &version("SELECT n AS renamed FROM endless"));
    wait::until_true("the new rows", async || sluice.stdout().last().is_some_and(|row| row.contains("renamed"))).await;
    sluice.terminate().unwrap();
    assert_eq!(sluice.ended().await.code(), Some(0));
    let rows: Vec<Value> = sluice.stdout().iter().map(|row| serde_json::from_str(row).unwrap()).collect();
    let n_renamed = rows.iter().skip_while(|row| row["renamed"].is_null()).count();
    assert!(rows.iter().rev().take(n_renamed).all(|row| row["n"].is_null()), "rows of both versions are mixed");
    // The simulator goes on where it was: no number is missing or there twice.
    let number = |row: &Value| row["n"].as_i64().or(row["renamed"].as_i64());
    for pair in rows.windows(2) {
        assert_ne!(number(&pair[0]), number(&pair[1]), "{pair:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_tail_ask_the_running_process() {
    let files = folder(&rule("flow", "SELECT n FROM endless", "nop: {}"));
    let sluice = Sluice::run_ready(files.path(), &[]).await.unwrap();
    wait_for_rows(&sluice, "flow").await;
    let server = sluice.url("");
    let ask = |args: &[&str]| {
        let output = Command::new(binary().unwrap()).args(args).args(["--server", &server]).output().unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, table, _) = ask(&["status"]);
    assert_eq!(code, Some(0));
    assert!(table.starts_with("RULE  STATE    GENERATION"), "{table}");
    assert!(table.contains("\nflow  running"), "{table}");
    let (_, json, _) = ask(&["status", "flow", "--output", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["state"], "running");
    let (code, _, error) = ask(&["status", "nobody"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("there is no rule \"nobody\""), "{error}");

    let mut tail = Command::new(binary().unwrap())
        .args(["tail", "flow", "--server", &server])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut lines = std::io::BufReader::new(tail.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
    tail.kill().unwrap();
    tail.wait().unwrap();
    assert!(line == "{\"n\":1}\n" || line == "{\"n\":2}\n", "{line}");
}

fn folder_text(more: &str) -> String {
    let made = folder(more);
    std::fs::read_to_string(made.path().join("sluice.yaml")).unwrap()
}

async fn wait_for_rows(sluice: &Sluice, rule: &str) {
    let page = format!("/rules/{rule}");
    wait::until_true("rows", async || {
        let status: Value = serde_json::from_str(&sluice.get(&page).await.unwrap()).unwrap();
        status["rowsOut"].as_u64().is_some_and(|n| n > 3)
    })
    .await;
}
