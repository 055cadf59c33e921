//! Whole rules with lookup joins, in an engine of this process.

use std::time::Duration;

use sluice::Registry;
use sluice::manifest::{self, load_text};
use sluice::pipeline::{Engine, RuleStatus, Settings};
use sluice_sql::{Emissions, Value};
use sluice_tests::services::{Redis, RedisOptions};
use sluice_tests::wait;

fn run(manifests: &str) -> Engine {
    let engine = Engine::new(Settings::new(Registry::builtin()));
    let manifests = load_text("test.yaml", manifests, &manifest::Settings::default());
    assert!(manifests.diagnostics.is_empty(), "{:?}", manifests.diagnostics);
    let report = engine.apply(&manifests.definitions);
    assert!(report.refused.is_empty(), "{:?}", report.refused);
    engine
}

fn dropped(status: &RuleStatus) -> u64 {
    status.rows_dropped.values().sum()
}

/// Three rules with the same join and different policies; the server is away for a while in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_accounted_for_when_redis_dies() {
    for cluster in [false, true] {
        let mut redis = Redis::start_with(RedisOptions { cluster, ..Default::default() }).await.unwrap();
        for id in 0..10 {
            redis.cli(&["set", &format!("m:{id}"), &format!("{{\"site\": \"s{id}\"}}")]).unwrap();
        }
        let mut manifests = r#"
apiVersion: sluice.dev/v1alpha1
kind: Stream
metadata: {name: numbers}
spec:
  type: simulator
  shared: true
  options: {columns: {id: {range: {min: 0, max: 9}}}, interval: 2ms, limit: 1000}
"#
        .to_owned();
        for on_error in ["drop", "null", "retry"] {
            manifests += &format!(
                r#"
---
apiVersion: sluice.dev/v1alpha1
kind: LookupTable
metadata: {{name: machines-{on_error}}}
spec:
  name: machines_{on_error}
  type: redis
  datasource: "0"
  onError: "{on_error}"
  timeout: 300ms
  options: {{addr: "{}", cluster: {cluster}, keyTemplate: "m:{{{{.id}}}}"}}
---
apiVersion: sluice.dev/v1alpha1
kind: Rule
metadata: {{name: "{on_error}"}}
spec:
  sql: SELECT numbers.id, t.site FROM numbers LEFT JOIN machines_{on_error} AS t ON numbers.id = t.id
  sinks: [{{nop: {{}}}}]
"#,
                redis.addr()
            );
        }
        let engine = run(&manifests);
        let status = |rule: &str| engine.rule_status(rule).unwrap();
        wait::until_true("the first rows", || async { status("retry").rows_out > 50 }).await;
        redis.kill();
        wait::until_true("an outage that is noticed", || async {
            dropped(&status("drop")) > 0 && status("retry").lookups[0].retries > 0
        })
        .await;
        redis.restart().await.unwrap();
        engine.finished().await;
        for (rule, may_drop) in [("drop", true), ("null", false), ("retry", false)] {
            let status = status(rule);
            assert_eq!(status.rows_in, 1000, "{rule}");
            assert_eq!(status.rows_out + dropped(&status), 1000, "{rule}: {status:?}");
            assert_eq!(dropped(&status) > 0, may_drop, "{rule}: {status:?}");
        }
        engine.stop(Duration::from_secs(5)).await;
    }
}

/// One rule fills the table, the other joins with it, whatever the kind of the key's number.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_fills_the_table_that_another_joins_with() {
    let engine = run(r#"
apiVersion: sluice.dev/v1alpha1
kind: Stream
metadata: {name: machines}
spec:
  type: simulator
  options: {data: [{id: 1.0, site: north}, {id: 2, site: south}, {id: 1, site: west}, {site: nowhere}], loop: false, interval: 0}
---
apiVersion: sluice.dev/v1alpha1
kind: Rule
metadata: {name: fill}
spec:
  sql: SELECT * FROM machines
  sinks: [{memory: {topic: machines/all}}]
---
apiVersion: sluice.dev/v1alpha1
kind: LookupTable
metadata: {name: places}
spec:
  sql: CREATE TABLE places () WITH (TYPE="memory", KIND="lookup", DATASOURCE="machines/+", KEY="id")
---
apiVersion: sluice.dev/v1alpha1
kind: Stream
metadata: {name: readings}
spec:
  type: simulator
  options: {data: [{id: 1}, {id: 2.0}, {id: 3}, {id: "1"}], interval: 20ms}
---
apiVersion: sluice.dev/v1alpha1
kind: Rule
metadata: {name: join}
spec:
  sql: SELECT readings.id, places.site FROM readings INNER JOIN places ON readings.id = places.id
  sinks: [{nop: {}}]
"#);
    let mut results = engine.tail("join").unwrap().subscribe();
    let mut seen = Vec::new();
    // What was there before the table was full does not count; from then on it is always the same.
    while seen.len() < 100 {
        let batch = tokio::time::timeout(wait::DEADLINE, results.recv()).await.unwrap().unwrap();
        assert!(matches!(batch.emissions, Emissions::PerRow | Emissions::Grouped(_)));
        seen.extend(batch.rows.iter().map(|row| match (row.get(0), row.get(1)) {
            (id, Value::String(site)) => format!("{id:?} {site}"),
            other => panic!("unexpected {other:?}"),
        }));
    }
    seen.drain(..90);
    seen.sort();
    seen.dedup();
    assert_eq!(seen, ["Float(2.0) south", "Int(1) west"]);
    engine.stop(Duration::from_secs(5)).await;
}

/// Texts that somebody else keeps in Redis, through the function.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_reads_what_is_kept_in_redis() {
    let redis = Redis::start().await.unwrap();
    redis.cli(&["set", "limit:1", "5"]).unwrap();
    let engine = run(&format!(
        r#"
apiVersion: sluice.dev/v1alpha1
kind: LookupTable
metadata: {{name: keyed-state}}
spec: {{name: keyed_state, type: redis, options: {{addr: "{}", dataType: text}}}}
---
apiVersion: sluice.dev/v1alpha1
kind: Stream
metadata: {{name: readings}}
spec: {{type: simulator, options: {{data: [{{id: 1}}, {{id: 2}}], interval: 20ms}}}}
---
apiVersion: sluice.dev/v1alpha1
kind: Rule
metadata: {{name: limits}}
spec:
  sql: SELECT id, get_keyed_state("limit:" || cast(id, "string"), "bigint", -1) AS at_most FROM readings
  sinks: [{{nop: {{}}}}]
"#,
        redis.addr()
    ));
    let mut results = engine.tail("limits").unwrap().subscribe();
    let mut next = async || {
        let batch = tokio::time::timeout(wait::DEADLINE, results.recv()).await.unwrap().unwrap();
        batch.rows.iter().map(|row| format!("{:?} {:?}", row.get(0), row.get(1))).collect::<Vec<_>>()
    };
    let mut first = next().await;
    first.extend(next().await);
    assert_eq!(first, ["Int(1) Int(5)", "Int(2) Int(-1)"]);
    // Read again for each row: the table has no cache.
    redis.cli(&["set", "limit:2", "9"]).unwrap();
    while !next().await.contains(&"Int(2) Int(9)".to_owned()) {}
    engine.stop(Duration::from_secs(5)).await;
}
