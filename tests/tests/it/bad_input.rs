//! What a user gives wrongly that no check can see: payloads, credentials, certificates, names in databases. The rule stays
//! alive, says what is wrong where the user looks, and tells no secret.

use serde_json::Value;
use sluice_tests::services::{
    InfluxDb2, MariaDb, Mosquitto, MosquittoOptions, Postgres, Redis, RedisOptions, free_port,
};
use sluice_tests::sluice::Sluice;
use sluice_tests::wait;
use tempfile::TempDir;

/// The password that no server takes.
const SECRET: &str = "hunter2-is-wrong";

/// A folder with a rule `demo`: a stream, perhaps a table that it asks, and a sink.
fn folder(stream: &str, table: Option<&str>, sink: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let document = |kind: &str, name: &str, spec: &str| {
        format!("apiVersion: sluice.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n")
    };
    let join = if table.is_some() { " INNER JOIN sites ON readings.id = sites.id" } else { "" };
    let rule = format!("{{sql: SELECT * FROM readings{join}, sinks: [{{{sink}}}]}}");
    let secret = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{password: {SECRET}}}\n");
    let text = [
        document("Stream", "readings", &format!("{{{stream}}}")),
        table.map(|table| document("LookupTable", "sites", &format!("{{{table}}}"))).unwrap_or_default(),
        document("Rule", "demo", &rule),
        secret,
    ];
    std::fs::write(folder.path().join("sluice.yaml"), text.concat()).unwrap();
    folder
}

/// What `/rules/demo` says.
async fn status(sluice: &Sluice) -> Value {
    serde_json::from_str(&sluice.get("/rules/demo").await.unwrap()).unwrap()
}

/// The newest error of each connector that has one, as `NAME: TEXT`.
fn errors(status: &Value) -> Vec<String> {
    let parts = ["sources", "lookups", "sinks"].iter().flat_map(|part| status[part].as_array().unwrap());
    let error = |part: &Value| {
        let message = part["lastError"]["message"].as_str()?;
        Some(format!("{}: {message}", part["name"].as_str()?))
    };
    parts.filter_map(error).collect()
}

/// The text without what differs from run to run: ports and pauses.
fn stable(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let after_colon = word
            .rsplit_once("127.0.0.1:")
            .map(|(before, rest)| (before, rest.trim_start_matches(|c: char| c.is_ascii_digit())));
        let is_pause = words.ends_with(&["again".to_owned(), "in".to_owned()]);
        words.push(match after_colon {
            Some((before, rest)) => format!("{before}127.0.0.1:PORT{rest}"),
            None if is_pause => "PAUSE".to_owned(),
            None => word.to_owned(),
        });
    }
    words.join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_payload_costs_itself_only() {
    let stream = "type: file, datasource: \"${dir}/readings.ndjson\", options: {follow: true}";
    let files = folder(stream, None, "stdout: {sendSingle: true}");
    let payloads = "{\"id\":1}\n{\"id\":2,}\n[{\"id\":3},{\"id\":4}]\n{\"id\":\"unended\n7\n{\"id\":5}\n";
    std::fs::write(files.path().join("readings.ndjson"), payloads).unwrap();
    let sluice = Sluice::run_ready(files.path(), &[]).await.unwrap();
    wait::until_true("the good rows", async || sluice.stdout().len() == 4).await;
    assert_eq!(sluice.stdout(), ["{\"id\":1}", "{\"id\":3}", "{\"id\":4}", "{\"id\":5}"]);
    let status = status(&sluice).await;
    assert_eq!(status["state"], "running");
    insta::assert_snapshot!(format!("{}\n{}", status["sources"][0]["dropped"], errors(&status).join("\n")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_servers_refuse_is_said_and_no_secret_with_it() {
    let user = Some(("sluice".to_owned(), "right".to_owned()));
    let locked = Mosquitto::start_with(MosquittoOptions { user, ..Default::default() });
    let with_tls = Mosquitto::start_with(MosquittoOptions { tls: true, ..Default::default() });
    let redis = Redis::start_with(RedisOptions { password: Some("right".to_owned()), ..Default::default() });
    let (locked, with_tls, redis) = tokio::join!(locked, with_tls, redis);
    let (locked, with_tls, redis) = (locked.unwrap(), with_tls.unwrap(), redis.unwrap());
    let (open, postgres, mariadb, influx) =
        tokio::join!(Mosquitto::shared(), Postgres::shared(), MariaDb::shared(), InfluxDb2::shared());
    let influx_tls = InfluxDb2::start_tls().await.unwrap();

    let simulator = "type: simulator, options: {interval: 50ms, data: [{id: 1}]}".to_owned();
    let nop = || "nop: {}".to_owned();
    let password = "{secretKeyRef: {name: s, key: password}}";
    let mqtt = |server: &str, more: &str| {
        (format!("type: mqtt, datasource: demo, options: {{server: \"{server}\"{more}}}"), None, nop())
    };
    let sql = |url: &str, table: &str| {
        let table = format!("type: sql, datasource: {table}, options: {{dburl: \"{url}\"}}");
        (simulator.clone(), Some(table), nop())
    };
    let influx2 = |addr: &str, bucket: &str, token: &str| {
        let sink = format!("influx2: {{addr: \"{addr}\", org: org, bucket: {bucket}, token: {token}, measurement: m}}");
        (simulator.clone(), None, sink)
    };
    let wrong_password = |url: String| url.replace(":secret@", &format!(":{SECRET}@"));
    let nowhere = |url: String| format!("{}/nowhere", url.rsplit_once('/').unwrap().0);
    let tcp = with_tls.url().replace("ssl:", "tcp:");
    let user = format!(", username: sluice, password: {password}");
    let cases = [
        ("mosquitto: wrong password", mqtt(&locked.url(), &user)),
        ("mosquitto: no password", mqtt(&locked.url(), "")),
        ("mosquitto: nobody listens", mqtt(&format!("tcp://127.0.0.1:{}", free_port()), "")),
        ("mosquitto: plain client, TLS broker", mqtt(&tcp, "")),
        ("mosquitto: TLS client, plain broker", mqtt(&open.url().replace("tcp:", "ssl:"), "")),
        ("mosquitto: unknown authority", mqtt(&with_tls.url(), "")),
        ("postgres: wrong password", sql(&wrong_password(postgres.url()), "t")),
        ("postgres: unknown database", sql(&nowhere(postgres.url()), "t")),
        ("postgres: missing table", sql(&postgres.url(), "nothing_here")),
        ("mariadb: wrong password", sql(&wrong_password(mariadb.url()), "t")),
        ("mariadb: unknown database", sql(&nowhere(mariadb.url()), "t")),
        ("mariadb: missing table", sql(&mariadb.url(), "nothing_here")),
        ("sqlite: no such file", sql("sqlite:/nonexistent/test.db", "t")),
        (
            "redis: wrong password",
            (
                simulator.clone(),
                Some(format!("type: redis, options: {{addr: \"{}\", password: {password}}}", redis.addr())),
                nop(),
            ),
        ),
        ("influxdb 2: wrong token", influx2(&influx.url(), "bucket", password)),
        ("influxdb 2: unknown bucket", influx2(&influx.url(), "nowhere", InfluxDb2::TOKEN)),
        ("influxdb 2: unknown authority", influx2(&influx_tls.url(), "bucket", InfluxDb2::TOKEN)),
        (
            "influxdb 2: plain client, TLS server",
            influx2(&influx_tls.url().replace("https:", "http:"), "bucket", InfluxDb2::TOKEN),
        ),
        (
            "influxdb 2: TLS client, plain server",
            influx2(&influx.url().replace("http:", "https:"), "bucket", InfluxDb2::TOKEN),
        ),
    ];
    let mut texts = Vec::new();
    for (name, (stream, table, sink)) in &cases {
        texts.push(format!("{name}\n  {}", complaint(name, &folder(stream, table.as_deref(), sink)).await));
    }
    insta::assert_snapshot!(texts.join("\n"));
}

/// Runs it until it complains, and gives the complaint.
async fn complaint(name: &str, files: &TempDir) -> String {
    let sluice = Sluice::run_ready(files.path(), &[]).await.unwrap();
    let (status, errors) = wait::until(&format!("an error: {name}"), async || {
        let status = status(&sluice).await;
        let errors = errors(&status);
        (!errors.is_empty()).then_some((status, errors))
    })
    .await;
    assert_eq!(status["state"], "running", "{name}: {status}");
    assert!(status["lastError"]["message"].is_string(), "{name}: {status}");
    let log = sluice.stderr().join("\n");
    for text in [status.to_string(), sluice.get("/metrics").await.unwrap(), log] {
        for secret in [SECRET, InfluxDb2::TOKEN, ":secret@"] {
            assert!(!text.contains(secret), "{name}: a secret is told: {text}");
        }
    }
    stable(&errors.join("\n  "))
}

/// Pictures that are none, cut short or bombs, and models that are missing or broken: each costs the rows that it spoils, counted and
/// explained, and the rule goes on.
#[cfg(feature = "inference")]
#[tokio::test(flavor = "multi_thread")]
async fn bad_pictures_and_models_cost_their_rows_only() {
    const GOOD: &str =
        "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAIAAAB7QOjdAAAADUlEQVR42mP4zwAE/wEHAAH/PX2MSQAAAABJRU5ErkJggg==";
    // Says that it has 60,000 by 60,000 pixels.
    const BOMB: &str =
        "iVBORw0KGgoAAAANSUhEUgAA6mAAAOpgCAIAAAAPsOIVAAAADUlEQVR42mP4zwAE/wEHAAH/PX2MSQAAAABJRU5ErkJggg==";
    const CUT: &str = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAIAAAB7QOjdAAAADUlEQVR42mP4";
    let files = tempfile::tempdir().unwrap();
    let pictures = [GOOD, BOMB, "bm8gcGljdHVyZQ==", CUT, GOOD];
    let rows = (1..).zip(pictures).map(|(id, picture)| format!("{{\"id\":{id},\"f\":\"{picture}\"}}\n"));
    std::fs::write(files.path().join("frames.ndjson"), rows.collect::<String>()).unwrap();
    std::fs::write(files.path().join("broken.onnx"), "no model").unwrap();
    let document = |kind: &str, name: &str, spec: &str| {
        format!("apiVersion: sluice.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n")
    };
    let rule = |name: &str, item: &str, sink: &str| {
        document("Rule", name, &format!("{{sql: \"SELECT id, {item} AS x FROM frames\", sinks: [{{{sink}}}]}}"))
    };
    let stream = "{type: file, datasource: \"${dir}/frames.ndjson\", shared: true, options: {follow: true}, \
                  fields: [{name: id, type: bigint}, {name: f, type: bytea}]}";
    let text = [
        document("Stream", "frames", stream),
        rule("demo", "image_info(image_gray(f))->width", "stdout: {sendSingle: true}"),
        rule("missing", "onnx('missing', image_tensor(f, 2, 1))", "nop: {}"),
        rule("broken", "onnx('broken', image_tensor(f, 2, 1))", "nop: {}"),
    ];
    std::fs::write(files.path().join("sluice.yaml"), text.concat()).unwrap();
    let models = files.path().display().to_string();
    let sluice = Sluice::run_ready(&files.path().join("sluice.yaml"), &["--models-dir", &models]).await.unwrap();
    let status = async |rule: &str| -> Value {
        serde_json::from_str(&sluice.get(&format!("/rules/{rule}")).await.unwrap()).unwrap()
    };
    for (rule, n_failed, newest) in [
        ("demo", 3, "not a picture that can be read: "),
        ("missing", 5, "missing.onnx can't be read: "),
        ("broken", 5, "broken.onnx can't be used: "),
    ] {
        wait::until_true(rule, async || status(rule).await["rowsFailed"] == n_failed).await;
        let status = status(rule).await;
        assert_eq!((&status["state"], &status["rowsIn"]), (&"running".into(), &5.into()), "{status}");
        let error = status["lastError"]["message"].as_str().unwrap();
        assert!(error.contains(newest), "{rule}: {error}");
    }
    wait::until_true("the good rows", async || sluice.stdout().len() == 2).await;
    assert_eq!(sluice.stdout(), [r#"{"id":1,"x":2}"#, r#"{"id":5,"x":2}"#]);
    let log = sluice.stderr().join("\n");
    assert!(log.contains("a picture of 60000 x 60000 pixels is too large"), "{log}");
}
