//! The resource definitions, as a real API server takes them: accepted (with the budget for CEL), refusing what is wrong with the
//! field's path, and pleasant in `kubectl`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use sluice_tests::cluster::helm_offline;

use super::{repository, with_kinds};

#[tokio::test(flavor = "multi_thread")]
async fn all_kinds_are_established() {
    let cluster = with_kinds().await;
    let listed = cluster.kubectl(&["api-resources", "--categories=sluice", "--no-headers"]).unwrap();
    insta::assert_snapshot!(squeezed(&listed), @r"
    lookuptables lut sluice.dev/v1alpha1 true LookupTable
    rules rule sluice.dev/v1alpha1 true Rule
    runtimes srt sluice.dev/v1alpha1 true Runtime
    streams sstr sluice.dev/v1alpha1 true Stream
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_brings_the_same_definitions() {
    let cluster = with_kinds().await;
    let chart = repository("charts/sluice").display().to_string();
    let rendered = helm_offline(&["template", "sluice", &chart, "--show-only", "templates/crds.yaml"]).unwrap();
    let specs = |args: &[&str], input: Option<&str>| -> BTreeMap<String, Value> {
        let args: Vec<&str> = ["create", "--dry-run=client", "-o", "json"].iter().chain(args).copied().collect();
        let printed = cluster.kubectl_with(&args, input).unwrap();
        let objects = serde_json::Deserializer::from_str(&printed).into_iter::<Value>().map(Result::unwrap);
        objects.map(|object| (object["metadata"]["name"].to_string(), numbers_alike(&object["spec"]))).collect()
    };
    let theirs = specs(&["-f", "-"], Some(&rendered));
    assert_eq!(theirs.len(), 4);
    assert_eq!(theirs, specs(&["-f", &repository("deploy/crds").display().to_string()], None));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_accepted() {
    let cluster = with_kinds().await;
    let mut files = Vec::new();
    manifests(&repository("deploy/examples"), &mut files);
    assert!(files.len() >= 7, "{files:?}");
    for file in files {
        let path = file.display().to_string();
        cluster.kubectl(&["apply", "--dry-run=server", "--validate=strict", "-f", &path]).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_with_its_path() {
    let cluster = with_kinds().await;
    let sinks = json!([{"log": {}}]);
    let rule = |spec: Value| ("Rule", "wrong".to_owned(), spec);
    let stream = |spec: Value| ("Stream", "wrong".to_owned(), spec);
    let table = |spec: Value| ("LookupTable", "wrong".to_owned(), spec);
    let runtime = |spec: Value| ("Runtime", "wrong".to_owned(), spec);
    let cases = [
        rule(json!({})),
        rule(json!({"sql": "", "sinks": sinks})),
        rule(json!({"sql": "SELECT * FROM s", "sinks": []})),
        rule(json!({"sql": "SELECT * FROM s", "sinks": [{"log": {}, "nop": {}}]})),
        rule(json!({"sql": "SELECT * FROM s", "sinks": [{"log": 1}]})),
        rule(json!({"sql": "SELECT * FROM s", "sinks": sinks, "runtime": "Not A Name"})),
        rule(json!({"sql": "SELECT * FROM s", "sinks": sinks, "suspended": true})),
        rule(json!({"sql": "SELECT * FROM s", "sinks": sinks, "options": {"qos": 3}})),
        rule(json!({"sql": "SELECT * FROM s", "sinks": sinks, "options": {"lateTolerance": "soon"}})),
        rule(json!({"sql": "SELECT * FROM s", "sinks": sinks, "options": {"duration": "1m"}})),
        rule(json!({"sql": "SELECT * FROM s", "sinks": sinks, "options": {"onError": "panic"}})),
        rule(
            json!({"sql": "SELECT * FROM s", "sinks": sinks, "options": {"cronDatetimeRange": [{"begin": "2026-01-01 00:00:00"}]}}),
        ),
        stream(json!({})),
        stream(json!({"sql": "CREATE STREAM s () WITH ()", "type": "mqtt"})),
        stream(json!({"sql": "CREATE STREAM s () WITH ()", "shared": true, "format": "json"})),
        stream(json!({"type": "mqtt", "name": "a`b"})),
        stream(json!({"type": "mqtt", "fields": [{"name": "a", "type": "bigint"}, {"name": "a", "type": "float"}]})),
        stream(json!({"type": "mqtt", "fields": [{"name": "a"}]})),
        stream(json!({"type": "mqtt", "options": ["qos"]})),
        table(json!({"sql": "CREATE TABLE t () WITH ()", "key": "id"})),
        table(json!({"type": "memory", "kind": "scan", "timeout": "1s"})),
        table(json!({"type": "memory", "retainSize": 3})),
        table(json!({"type": "memory", "kind": "scan", "retainSize": 0})),
        table(json!({"type": "redis", "onError": "explode"})),
        runtime(json!({"replicas": 2})),
        runtime(json!({"httpPush": {"port": 0}})),
        runtime(json!({"httpPush": {"serviceType": "ExternalName"}})),
        runtime(json!({"httpPush": {"clientCa": {"name": "a", "key": "b"}}})),
        runtime(json!({"httpPush": {"address": "localhost", "bodyLimit": "much", "concurrency": 0}})),
        runtime(json!({"storage": {"storageClassName": "fast"}})),
        ("Runtime", "r".repeat(53), json!({})),
    ];
    let mut report = String::new();
    for (kind, name, spec) in cases {
        let object =
            json!({"apiVersion": "sluice.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        let refusal = cluster
            .kubectl_with(&["create", "--dry-run=server", "-f", "-"], Some(&object.to_string()))
            .expect_err(&format!("{object} is accepted"));
        let refusal = refusal.to_string();
        let (first, fields) = refusal.trim_end().split_once('\n').unwrap_or((refusal.trim_end(), ""));
        // The server goes through the fields in no fixed order.
        let mut fields: Vec<_> = fields.lines().collect();
        fields.sort_unstable();
        report.push_str(&format!("{kind} {spec}\n  {first}\n"));
        report.extend(fields.iter().map(|field| format!("  {field}\n")));
    }
    insta::assert_snapshot!(report);
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_describes_every_field() {
    let cluster = with_kinds().await;
    for kind in ["streams", "lookuptables", "rules", "runtimes"] {
        let definition = cluster.kubectl(&["get", "crd", &format!("{kind}.sluice.dev"), "-o", "json"]).unwrap();
        let definition: Value = serde_json::from_str(&definition).unwrap();
        let mut silent = Vec::new();
        for part in ["spec", "status"] {
            let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part];
            undescribed(schema, part, &mut silent);
        }
        assert!(silent.is_empty(), "{kind}: no description of {silent:?}");
    }
    let explained = ["rule.spec.options.lateTolerance", "stream.spec.config", "lut.spec.cache", "srt.spec"]
        .map(|path| cluster.kubectl(&["explain", path]).unwrap());
    insta::assert_snapshot!(explained.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_show_what_matters() {
    let cluster = with_kinds().await;
    cluster.namespace("columns").unwrap();
    let objects = [
        ("stream", "Stream", json!({"type": "mqtt", "datasource": "in"}), json!({"type": "mqtt", "rules": 2})),
        ("lookuptable", "LookupTable", json!({"type": "redis"}), json!({"type": "redis", "rules": 1})),
        (
            "rule",
            "Rule",
            json!({"sql": "SELECT * FROM s", "sinks": [{"log": {}}]}),
            json!({"runtime": "default", "counters": {"in": 12, "out": 11, "errors": 1, "late": 0}}),
        ),
        ("runtime", "Runtime", json!({}), json!({"rules": 3, "running": 2, "image": "sluice:1"})),
    ];
    let mut report = String::new();
    for (plural, kind, spec, mut status) in objects {
        let object =
            json!({"apiVersion": "sluice.dev/v1alpha1", "kind": kind, "metadata": {"name": "demo"}, "spec": spec});
        cluster.apply("columns", &object.to_string()).unwrap();
        status["conditions"] = json!([{"type": "Ready", "status": "True", "reason": "Running", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let patch = json!({"status": status}).to_string();
        cluster
            .kubectl(&["patch", plural, "demo", "-n", "columns", "--subresource=status", "--type=merge", "-p", &patch])
            .unwrap();
        let table = squeezed(&cluster.kubectl(&["get", plural, "-n", "columns", "-o", "wide"]).unwrap());
        for line in table.lines() {
            // The age, in whatever column it is.
            let words: Vec<&str> = line.split(' ').map(|word| if is_age(word) { "[age]" } else { word }).collect();
            report.push_str(&format!("{}\n", words.join(" ")));
        }
    }
    insta::assert_snapshot!(report, @r"
    NAME READY REASON TYPE RULES AGE
    demo True Running mqtt 2 [age]
    NAME READY REASON TYPE RULES AGE
    demo True Running redis 1 [age]
    NAME READY REASON RUNTIME IN OUT ERRORS AGE
    demo True Running default 12 11 1 [age]
    NAME READY REASON RULES RUNNING IMAGE AGE
    demo True Running 3 2 sluice:1 [age]
    ");
}

/// 1.0 and 1 are one number.
fn numbers_alike(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(numbers_alike).collect(),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, member)| (name.clone(), numbers_alike(member))).collect())
        }
        other => other.clone(),
    }
}

/// Files of manifests below a folder.
fn manifests(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            manifests(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
}

/// Paths of properties without a description. Kubernetes' own types inside bring theirs.
fn undescribed(schema: &Value, path: &str, silent: &mut Vec<String>) {
    let nested = schema["properties"].as_object().into_iter().flatten().map(|(name, inner)| (name.as_str(), inner));
    let items =
        schema["items"]["properties"].as_object().into_iter().flatten().map(|(name, inner)| (name.as_str(), inner));
    for (name, inner) in nested.chain(items) {
        let path = format!("{path}.{name}");
        if inner["description"].as_str().is_none_or(str::is_empty) {
            silent.push(path.clone());
        }
        undescribed(inner, &path, silent);
    }
}

fn is_age(word: &str) -> bool {
    word.strip_suffix('s').is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Columns one space apart: their width follows the data.
fn squeezed(table: &str) -> String {
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
}
