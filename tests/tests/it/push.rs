//! HTTP push, web sockets and server-sent events as a client meets them: `sluice run` and real sockets.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use sluice_tests::mqtt::MqttClient;
use sluice_tests::services::{Mosquitto, free_port};
use sluice_tests::sluice::Sluice;
use sluice_tests::tls::TlsFiles;
use sluice_tests::wait;
use tempfile::TempDir;

const JSON: &str = "content-type: application/json";

/// A folder with a file.
fn folder(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), text);
    folder
}

fn write(folder: &Path, text: &str) {
    // At once: a reader never sees half of it.
    std::fs::write(folder.join("sluice.new"), text).unwrap();
    std::fs::rename(folder.join("sluice.new"), folder.join("sluice.yaml")).unwrap();
}

fn stream(name: &str, kind: &str, path: &str, options: &serde_json::Value) -> String {
    let datasource = if path.is_empty() { String::new() } else { format!("  datasource: \"{path}\"\n") };
    format!(
        "apiVersion: sluice.dev/v1alpha1\nkind: Stream\nmetadata: {{name: {}}}\nspec:\n  name: {name}\n  type: {kind}\n{datasource}  \
         format: json\n  options: {options}\n---\n",
        name.replace('_', "-")
    )
}

fn rule(name: &str, sql: &str, sinks: &serde_json::Value) -> String {
    format!(
        "apiVersion: sluice.dev/v1alpha1\nkind: Rule\nmetadata: {{name: {name}}}\nspec:\n  sql: {sql}\n  sinks: {sinks}\n---\n"
    )
}

fn stdout() -> serde_json::Value {
    json!([{"stdout": {"sendSingle": true}}])
}

/// Runs files with the push server on a free port, and gives that.
async fn run(folder: &Path, args: &[&str]) -> (Sluice, u16) {
    let port = free_port();
    let port_text = port.to_string();
    let mut all = vec!["--httppush-host", "127.0.0.1", "--httppush-port", &port_text];
    all.extend(args);
    (Sluice::run_ready(folder, &all).await.unwrap(), port)
}

/// `curl`: status and body.
fn curl(args: &[&str]) -> (String, String) {
    let output = Command::new("curl")
        .args(["--silent", "--max-time", "30", "--write-out", "\n%{http_code}"])
        .args(args)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

async fn printed(sluice: &Sluice, n_lines: usize) -> Vec<String> {
    wait::until("rows on standard output", async || Some(sluice.stdout()).filter(|lines| lines.len() >= n_lines)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_takes_what_curl_pushes_and_streams_what_is_warm() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/http-push");
    let (sluice, port) = run(&example, &[]).await;
    let url = format!("http://127.0.0.1:{port}/api/north/readings");
    let token = "authorization: Bearer let-me-in";
    let body = r#"[{"id": 1, "temperature": 21.5}, {"id": 2, "temperature": 19.0}]"#;
    assert_eq!(curl(&["-d", body, &url]).0, "401");
    assert_eq!(curl(&["-H", "authorization: Bearer x", "-d", body, &url]).0, "403");
    let mut events = reqwest::get(format!("http://127.0.0.1:{port}/warm")).await.unwrap().bytes_stream();
    assert_eq!(events.next().await.unwrap().unwrap(), ": connected\n\n");
    assert_eq!(curl(&["-H", token, "-d", body, &url]), ("200".to_owned(), "{\"rows\":2}\n".to_owned()));
    assert_eq!(printed(&sluice, 1).await, [r#"{"site":"north","id":1,"temperature":21.5}"#]);
    assert_eq!(events.next().await.unwrap().unwrap(), "data: {\"site\":\"north\",\"id\":1,\"temperature\":21.5}\n\n");
    let (status, text) = curl(&["-H", token, "-d", "[{\"id\": 1},\n{\"id\": }]", &url]);
    assert_eq!((status.as_str(), text.as_str()), ("400", "{\"error\":\"line 2, column 8: expected a value\"}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_every_format_and_two_methods_on_one_path() {
    let options = json!({"contentType": "override", "bodyLimit": "100Ki", "metaHeaders": ["X-Device"]});
    let text = stream("posts", "httppush", "/api/{site}/data", &options)
        + &stream("puts", "httppush", "/api/{site}/data", &json!({"method": "PUT"}))
        + &rule("posts", "SELECT meta(headers->x-device) AS device, meta(query->q) AS q, a FROM posts", &stdout())
            .replace("x-device", "`x-device`")
        + &rule("puts", "SELECT meta(method) AS method, meta(params->site) AS site, a FROM puts", &stdout());
    let folder = folder(&text);
    let (mut sluice, port) = run(folder.path(), &[]).await;
    let url = format!("http://127.0.0.1:{port}/api/north/data?q=7");
    let posts = [
        (JSON, r#"{"a":1}"#, 1),
        (JSON, r#"[{"a":2},{"a":3}]"#, 2),
        ("content-type: application/x-ndjson", "{\"a\":4}\n{\"a\":5}\n", 2),
        ("content-type: application/x-www-form-urlencoded", "a=6&b=x", 1),
        ("content-type: application/octet-stream", r#"{"a":7}"#, 1),
    ];
    for (content_type, body, n_rows) in posts {
        let (status, text) = curl(&["-H", content_type, "-H", "x-device: d1", "--data-binary", body, &url]);
        assert_eq!((status.as_str(), text), ("200", format!("{{\"rows\":{n_rows}}}\n")), "{content_type}");
    }
    let file = folder.path().join("body");
    let from_file = format!("@{}", file.display());
    let rows = |n: usize| format!("{{\"rows\":{n}}}\n");
    for (content_type, body, n_rows) in [
        ("application/cbor", &b"\xa1\x61a\x09"[..], 1),
        ("application/senml+cbor", b"\x82\xa1\x61a\x0a\xa1\x61a\x0b", 2),
        ("text/csv", b"12,x\n13,y\n", 2),
    ] {
        std::fs::write(&file, body).unwrap();
        let header = format!("content-type: {content_type}");
        let answer = curl(&["-H", &header, "-H", "x-device: d1", "--data-binary", &from_file, &url]);
        assert_eq!(answer, ("200".to_owned(), rows(n_rows)), "{content_type}");
    }
    std::fs::write(&file, b"\xa1\x61a").unwrap();
    let (status, text) = curl(&["-H", "content-type: application/cbor", "--data-binary", &from_file, &url]);
    assert_eq!((status.as_str(), text.as_str()), ("400", "{\"error\":\"byte 4: the payload ends within a value\"}\n"));
    assert_eq!(curl(&["-H", "content-type: text/html", "-d", "<p>", &url]).0, "415");
    assert_eq!(curl(&["-X", "PUT", "-d", r#"{"a":8}"#, &url]).0, "200");
    assert_eq!(curl(&["-X", "DELETE", &url]).0, "405");
    assert_eq!(curl(&[&format!("http://127.0.0.1:{port}/api/data")]).0, "404");
    let mut lines = printed(&sluice, 13).await;
    lines.sort_unstable();
    let mut expected: Vec<String> =
        [1, 2, 3, 4, 5, 7, 9, 10, 11].iter().map(|n| format!(r#"{{"device":"d1","q":"7","a":{n}}}"#)).collect();
    expected.push(r#"{"device":"d1","q":"7","a":"6"}"#.to_owned());
    // The stream declares no columns, which CSV takes their names from.
    expected.extend([r#"{"device":"d1","q":"7"}"#.to_owned(), r#"{"device":"d1","q":"7"}"#.to_owned()]);
    expected.push(r#"{"method":"PUT","site":"north","a":8}"#.to_owned());
    expected.sort_unstable();
    assert_eq!(lines, expected);

    sluice.terminate().unwrap();
    assert!(sluice.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_while_clients_come() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let certificates = tempfile::tempdir().unwrap();
    let files = TlsFiles::make(certificates.path()).unwrap();
    let text = stream("s", "httppush", "/a", &json!({})) + &rule("r", "SELECT n FROM s", &stdout());
    let folder = folder(&text);
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (cert, key, ca) = (path(&files.server_cert), path(&files.server_key), path(&files.ca));
    let args = ["--httppush-cert", &cert, "--httppush-key", &key, "--httppush-client-ca", &ca];
    let (sluice, port) = run(folder.path(), &args).await;
    let url = format!("https://localhost:{port}/a");

    let client = |files: &TlsFiles, with_identity: bool| {
        let ca = reqwest::Certificate::from_pem(&std::fs::read(&files.ca).unwrap()).unwrap();
        let mut builder = reqwest::Client::builder().tls_certs_only([ca]);
        if with_identity {
            let pem = [std::fs::read(&files.client_cert).unwrap(), std::fs::read(&files.client_key).unwrap()].concat();
            builder = builder.identity(reqwest::Identity::from_pem(&pem).unwrap());
        }
        builder.build().unwrap()
    };
    let first = client(&files, true);
    let answer = first.post(&url).body(r#"{"n":1}"#).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    assert!(client(&files, false).post(&url).send().await.is_err(), "a client without a certificate was let in");

    // Half a renewal: the key does not fit yet. The old pair stays in use.
    let renewed = tempfile::tempdir().unwrap();
    let renewed = TlsFiles::make(renewed.path()).map(|files| (renewed, files)).unwrap();
    std::fs::copy(&renewed.1.server_cert, &files.server_cert).unwrap();
    wait::until_true("the half renewal is reported", async || {
        sluice.stderr().iter().any(|line| line.contains("keeps its certificate"))
    })
    .await;
    assert_eq!(client(&files, true).post(&url).body(r#"{"n":2}"#).send().await.unwrap().status(), 200);

    std::fs::copy(&renewed.1.server_key, &files.server_key).unwrap();
    std::fs::copy(&renewed.1.ca, &files.ca).unwrap();
    let second = client(&renewed.1, true);
    wait::until_true("the new certificate is in use", async || {
        // Keeps its connection open.
        assert_eq!(first.get(format!("https://localhost:{port}/other")).send().await.unwrap().status(), 404);
        second.post(&url).body(r#"{"n":3}"#).send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    // Who was connected before still is.
    assert_eq!(first.post(&url).body(r#"{"n":4}"#).send().await.unwrap().status(), 200);
    assert_eq!(printed(&sluice, 4).await, [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#, r#"{"n":4}"#]);
    assert!(!sluice.stderr().join("\n").contains("PRIVATE"), "a key in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn reloading_leaves_paths_open() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let files = |changed_path: &str, timeout: &str| {
        stream("kept", "httppush", "/kept", &json!({}))
            + &stream("changed", "httppush", changed_path, &json!({"timeout": timeout}))
            + &rule("kept", "SELECT n FROM kept", &json!([{"nop": {}}]))
            + &rule("changed", "SELECT n FROM changed", &json!([{"nop": {}}]))
    };
    let folder = folder(&files("/changed", "5s"));
    let (sluice, port) = run(folder.path(), &["--watch"]).await;
    let client = reqwest::Client::new();
    let is_done = Arc::new(AtomicBool::new(false));
    let pushing = ["/kept", "/changed"].map(|path| {
        let (client, is_done, url) = (client.clone(), Arc::clone(&is_done), format!("http://127.0.0.1:{port}{path}"));
        tokio::spawn(async move {
            let (mut n_taken, mut others) = (0, Vec::new());
            while !is_done.load(Ordering::Relaxed) {
                match client.post(&url).body(r#"{"n":1}"#).send().await.unwrap().status().as_u16() {
                    200 => n_taken += 1,
                    status => others.push(status),
                }
            }
            (n_taken, others)
        })
    });
    let applied = |n: usize| {
        let sluice = &sluice;
        wait::until_true("the change is applied", async move || {
            sluice.stderr().iter().filter(|line| line.contains("definitions applied")).count() >= n
        })
    };
    for n in 1..=3 {
        write(folder.path(), &files("/changed", &format!("{n}s")));
        applied(n + 1).await;
    }
    is_done.store(true, Ordering::Relaxed);
    let [kept, changed] = pushing;
    let ((n_kept, kept_others), (n_changed, changed_others)) = (kept.await.unwrap(), changed.await.unwrap());
    assert!(n_kept > 0 && n_changed > 0);
    assert_eq!(kept_others, [0_u16; 0], "the untouched path");
    assert!(changed_others.iter().all(|status| *status == 503), "the replaced stream: {changed_others:?}");
    let rows_in = async |rule: &str| {
        let status: serde_json::Value =
            serde_json::from_str(&sluice.get(&format!("/rules/{rule}")).await.unwrap()).unwrap();
        status["rowsIn"].as_u64().unwrap()
    };
    wait::until_true("the last rows are counted", async || rows_in("kept").await >= n_kept).await;
    assert_eq!(rows_in("kept").await, n_kept);
    wait::until_true("no row of the replaced stream is lost", async || rows_in("changed").await >= n_changed).await;

    // A path that no stream has any more is unknown, after a moment in which it may come back.
    write(folder.path(), &files("/moved", "5s"));
    applied(5).await;
    wait::until_true("the old path is unknown", async || {
        let answer = client.post(format!("http://127.0.0.1:{port}/changed")).body("{}").send().await.unwrap();
        answer.status() == 404
    })
    .await;
    let answer = client.post(format!("http://127.0.0.1:{port}/moved")).body("{}").send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_sent_memory_stays_bounded() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let text = stream("s", "httppush", "/a", &json!({})) + &rule("r", "SELECT a, b, c FROM s", &json!([{"nop": {}}]));
    let folder = folder(&text);
    let (sluice, port) = run(folder.path(), &[]).await;
    let url = format!("http://127.0.0.1:{port}/a");
    let client = reqwest::Client::new();
    // The most rows that fit into a body, from many at a time.
    let rows = format!("[{}{{}}]", "{},".repeat(330_000));
    let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
    let deep_value = format!("{{\"a\":{}1{}}}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let long_text = format!("{{\"a\":\"{}\"}}", "\\u00e4".repeat(150_000));
    let mut peak = 0;
    for (name, body, expected) in
        [("rows", rows, 200), ("deep", deep, 400), ("deep value", deep_value, 400), ("text", long_text, 200)]
    {
        let body = bytes::Bytes::from(body);
        let sends = (0..48).map(|_| client.post(&url).body(body.clone()).send());
        let answers = futures::future::join_all(sends).await;
        for answer in answers {
            let status = answer.unwrap().status().as_u16();
            assert!([expected, 429, 503].contains(&status), "{name}: {status}");
        }
        peak = peak.max(sluice.resident_bytes().unwrap());
    }
    assert!(peak < 400 << 20, "{} MiB", peak >> 20);
    let answer = client.post(&url).body("{}").send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn web_sockets_in_and_out_on_both_sides() {
    let port = free_port();
    let addr = format!("127.0.0.1:{port}");
    let token = json!({"bearerTokens": ["t"]});
    let (header, headers) = (json!({"Authorization": "Bearer t"}), json!({"authorization": ["Bearer t"]}));
    // made up -> client sink -> server source -> server sink -> client source -> standard output, all in one process.
    let made_up = json!({"data": [{"n": 1}, {"n": 2}, {"n": 3}], "interval": "20ms"});
    let text = stream("made_up", "simulator", "", &made_up)
        + &stream("came", "websocket", "/in/{room}", &token)
        + &stream("back", "websocket", "/out", &json!({"addr": addr, "requestHeader": headers}))
        + &rule(
            "send",
            "SELECT n FROM made_up",
            &json!([{"websocket": {"addr": addr, "path": "/in/kitchen", "requestHeader": header, "sendSingle": true}}]),
        )
        + &rule(
            "answer",
            "SELECT n, meta(params->room) AS room FROM came",
            &json!([{"websocket": {"path": "/out", "sendSingle": true, "bearerTokens": ["t"]}}]),
        )
        + &rule("show", "SELECT * FROM back", &stdout());
    let folder = folder(&text);
    let port_text = port.to_string();
    let sluice = Sluice::run(folder.path(), &["--httppush-host", "127.0.0.1", "--httppush-port", &port_text]).unwrap();
    let lines = printed(&sluice, 10).await;
    for line in &lines {
        assert!((1..=3).any(|n| *line == format!(r#"{{"n":{n},"room":"kitchen"}}"#)), "{line}");
    }
    let url = format!("http://{addr}/out");
    assert_eq!(curl(&[&url]).0, "401");
    assert_eq!(curl(&["-H", "authorization: Bearer t", &url]).0, "426");
    assert_eq!(curl(&["-X", "POST", &url]).0, "405");

    // Without a server side, the client sides keep trying; with it, they go on.
    drop(sluice);
    let client_side =
        stream("back", "websocket", "/out", &json!({"addr": addr})) + &rule("show", "SELECT * FROM back", &stdout());
    let client_folder = self::folder(&client_side);
    let client = Sluice::run_ready(client_folder.path(), &[]).await.unwrap();
    let server_side = stream("pushed", "httppush", "/push", &json!({}))
        + &rule("fan", "SELECT n FROM pushed", &json!([{"websocket": {"path": "/out", "sendSingle": true}}]));
    let server_folder = self::folder(&server_side);
    let args = ["--httppush-host", "127.0.0.1", "--httppush-port", &port_text];
    let mut n_lines = 0;
    for _ in 0..2 {
        let mut server = Sluice::run_ready(server_folder.path(), &args).await.unwrap();
        wait::until_true("a row on the client's side", async || {
            curl(&["-d", r#"{"n":1}"#, &format!("http://{addr}/push")]);
            client.stdout().len() > n_lines
        })
        .await;
        server.kill();
        n_lines = client.stdout().len();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_everybody() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let text = stream("s", "httppush", "/a", &json!({})) + &rule("r", "SELECT n FROM s", &stdout());
    let folder = folder(&text);
    let (mut sluice, port) = run(folder.path(), &[]).await;
    let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
    let url = format!("http://127.0.0.1:{port}/a");
    let pushing = tokio::spawn(async move {
        let mut n_taken = 0;
        loop {
            match client.post(&url).body(format!(r#"{{"n":{n_taken}}}"#)).send().await {
                Ok(answer) if answer.status() == 200 => n_taken += 1,
                Ok(answer) => assert_eq!(answer.status(), 503),
                Err(_) => return n_taken,
            }
        }
    });
    printed(&sluice, 10).await;
    sluice.terminate().unwrap();
    assert!(sluice.ended().await.success());
    // All that was answered with 200 has come out, in order.
    let n_taken: usize = pushing.await.unwrap();
    let expected: Vec<String> = (0..n_taken).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    assert_eq!(sluice.stdout(), expected);
}

/// With `ack: processed`, the answer says what the broker has, also while it is away.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_answered_when_the_broker_has_its_rows() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut broker = Mosquitto::start().await.unwrap();
    let mqtt = json!([{"mqtt": {"server": broker.url(), "topic": "out", "qos": 1, "sendSingle": true}}]);
    let text = stream("s", "httppush", "/a", &json!({"ack": "processed", "timeout": "2s"}))
        + &rule("r", "SELECT n FROM s WHERE n > 0", &mqtt);
    let folder = folder(&text);
    let (sluice, port) = run(folder.path(), &[]).await;
    let url = format!("http://127.0.0.1:{port}/a");
    let reader = MqttClient::connect(broker.port());
    reader.subscribe("out").await.unwrap();

    // Many at a time, each answered for itself.
    let client = reqwest::Client::new();
    let sends = (1..=50).map(|n| client.post(&url).body(format!("[{{\"n\":{n}}},{{\"n\":0}}]")).send());
    for answer in futures::future::join_all(sends).await {
        assert_eq!(answer.unwrap().text().await.unwrap(), "{\"rows\":2}\n");
    }
    let mut numbers: Vec<u64> = reader.wait_rows(50).await.iter().map(|row| row["n"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=50).collect::<Vec<u64>>());
    drop(reader);

    broker.kill();
    let (status, text) = curl(&["-d", r#"{"n":100}"#, &url]);
    assert!(status == "504" && text.contains("may be there twice"), "{status} {text}");
    assert_eq!(curl(&["-d", r#"{"n":-1}"#, &url]).0, "200", "what is filtered out waits for nobody");
    broker.restart().await.unwrap();
    wait::until_true("answers again", async || curl(&["-d", r#"{"n":101}"#, &url]).0 == "200").await;
    let counts = sluice.get("/metrics").await.unwrap();
    assert!(counts.contains("sluice_http_answers_total{status=\"504\"}"), "{counts}");
}

/// For a rule that keeps state the queue of its sink takes the rows: what was answered with 200 outlives the broker and the
/// process.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_answered_when_the_queue_of_the_sink_has_its_rows() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut broker = Mosquitto::start().await.unwrap();
    let mqtt = json!([{"mqtt": {"server": broker.url(), "topic": "out", "qos": 1, "sendSingle": true}}]);
    let kept = rule("r", "SELECT n FROM s WHERE n > 0", &mqtt).replace("---", "  options: {qos: 1}\n---");
    let text = stream("s", "httppush", "/a", &json!({"ack": "processed", "timeout": "20s"})) + &kept;
    let (folder, state) = (folder(&text), tempfile::tempdir().unwrap());
    let state_dir = state.path().display().to_string();
    let args = ["--state-dir", &*state_dir];
    let (mut sluice, port) = run(folder.path(), &args).await;
    let url = format!("http://127.0.0.1:{port}/a");
    broker.kill();
    for n in 1..=5 {
        let (status, text) = curl(&["-d", &format!(r#"[{{"n":{n}}},{{"n":0}}]"#), &url]);
        assert_eq!((status.as_str(), text.as_str()), ("200", "{\"rows\":2}\n"));
    }
    sluice.kill();
    broker.restart().await.unwrap();
    let reader = MqttClient::connect(broker.port());
    reader.subscribe("out").await.unwrap();
    let (_sluice, _) = run(folder.path(), &args).await;
    let numbers = reader.wait_rows(5).await;
    assert_eq!(numbers, (1..=5).map(|n| json!({"n": n})).collect::<Vec<_>>(), "in order, each once");
}
