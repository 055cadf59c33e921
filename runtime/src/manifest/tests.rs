use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use proptest::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use sluice_sql::operators::LookupKey;

use super::*;
use crate::check::verdict;
use crate::connection::ConnectorContext;
use crate::definition::{CacheSettings, LookupTableDef, OnLookupError, Origin, StreamDef};
use crate::diagnostic::{Diagnostic, to_text};
use crate::error::ConnectorError;
use crate::lookup::{Found, LookupArgs, LookupSource, LookupType};
use crate::options::{HumanDuration, Options, Secret};
use crate::registry::Registry;
use crate::sink::{Output, Sink, SinkArgs, SinkError, SinkType, Takes};
use crate::source::{Gives, Ingest, Source, SourceArgs, SourceContext, SourceType};

/// A config like those of real connectors.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct FakeConfig {
    server: String,
    #[schemars(range(max = 2))]
    qos: u8,
    client_id: String,
    password: Option<Secret>,
    timeout: HumanDuration,
    tls: Option<FakeTls>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct FakeTls {
    ca_file: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "read, but never run")]
struct FakeSinkConfig {
    topic: String,
    password: Option<Secret>,
}

struct Fake;

#[async_trait]
impl Source for Fake {
    async fn connect(&mut self, _: &SourceContext) -> Result<(), ConnectorError> {
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Ingest>, ConnectorError> {
        Ok(None)
    }
}

#[async_trait]
impl LookupSource for Fake {
    async fn lookup(&self, keys: &[LookupKey]) -> Result<Vec<Found>, ConnectorError> {
        Ok(keys.iter().map(|_| Ok(Vec::new())).collect())
    }
}

#[async_trait]
impl Sink for Fake {
    async fn connect(&mut self, _: &ConnectorContext) -> Result<(), ConnectorError> {
        Ok(())
    }

    async fn write(&mut self, _: Output<'_>) -> Result<(), SinkError> {
        Ok(())
    }
}

/// One connector of each kind, called `fake`, so that these tests do not change with real ones.
fn registry() -> Registry {
    let mut registry = Registry::default()
        .with_source(SourceType {
            name: "fake",
            docs: "",
            schema: || schemars::schema_for!(FakeConfig),
            gives: Gives::Payloads,
            build: |args: &SourceArgs<'_>| {
                args.options.parse::<FakeConfig>().map(|_| Box::new(Fake) as Box<dyn Source>)
            },
        })
        .with_lookup(LookupType {
            name: "fake",
            docs: "",
            schema: || schemars::schema_for!(FakeConfig),
            build: |args: &LookupArgs<'_>| {
                args.table.options.parse::<FakeConfig>().map(|_| Arc::new(Fake) as Arc<dyn LookupSource>)
            },
            open: None,
        })
        .with_sink(SinkType {
            name: "fake",
            docs: "",
            schema: || schemars::schema_for!(FakeSinkConfig),
            takes: Takes::Messages,
            templates: &[],
            build: |args: &SinkArgs<'_>| {
                args.options.parse::<FakeSinkConfig>().map(|_| Box::new(Fake) as Box<dyn Sink>)
            },
        });
    for format in crate::format::BUILTIN {
        registry = registry.with_format(format.clone());
    }
    registry.functions = Registry::builtin().functions;
    registry
}

fn read(text: &str) -> Manifests {
    let manifests = load_text("test.yaml", text, &Settings::default());
    assert_eq!(to_text(&manifests.diagnostics), "", "{text}");
    manifests
}

/// Each file under `cases/` and what is said of it.
#[test]
fn bad_input_is_explained() {
    let settings = Settings {
        variables: BTreeMap::from([("topic".to_owned(), "a/b".to_owned()), ("broker".to_owned(), "b:1883".to_owned())]),
        config_dir: None,
    };
    insta::glob!("cases/*.yaml", |path| {
        let text = fs::read_to_string(path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        let found = to_text(&verdict(&load_text(&name, &text, &settings), &registry()));
        assert!(!found.contains("hunter2"), "{name} gives a secret away:\n{found}");
        insta::assert_snapshot!(found);
    });
}

#[test]
fn options_come_from_profile_extra_and_document() {
    let manifests = read(
        r#"
apiVersion: sluice.dev/v1alpha1
kind: Stream
metadata: {name: a}
spec:
  sql: CREATE STREAM a () WITH (TYPE="fake", CONF_KEY="Plant", EXTRA="{\"qos\":2,\"clientId\":\"extra\"}")
  options: {CLIENTID: spec, password: {secretKeyRef: {name: broker, key: password}}}
---
apiVersion: v1
kind: Secret
metadata: {name: sluice-sources}
stringData:
  fake_source.yaml: |
    default: {server: "tcp://default", qos: 0, timeout: 1s}
    plant: {Server: "tcp://plant", lookup: {cache: true}}
---
apiVersion: v1
kind: Secret
metadata: {name: broker}
data: {password: aHVudGVyMg==}
"#,
    );
    let expected =
        json!({"server": "tcp://plant", "qos": 2, "timeout": "1s", "clientId": "spec", "password": "hunter2"});
    assert_eq!(manifests.definitions.streams[0].options, Options::from(expected));
    assert!(!format!("{manifests:?}").contains("hunter2"), "{manifests:?}");
}

#[test]
fn a_profile_sets_the_cache_and_the_document_overrides_it() {
    let secret = r#"
---
apiVersion: v1
kind: Secret
metadata: {name: sluice-sources}
stringData:
  sql.yaml: |
    default:
      dburl: sqlite://x
      lookup: {cache: true, cacheTtl: 600, cacheMissingKey: true}
"#;
    let table = |spec: &str| {
        let head = "apiVersion: sluice.dev/v1alpha1\nkind: LookupTable\nmetadata: {name: t}\nspec:\n  type: sql\n";
        read(&format!("{head}{spec}{secret}")).definitions.tables.remove(0)
    };
    let standard = CacheSettings::default();
    let table_of_profile = table("");
    assert_eq!(
        table_of_profile.cache,
        CacheSettings { enabled: true, ttl: Some(Duration::from_millis(600)), missing: true, ..standard.clone() }
    );
    assert_eq!(table_of_profile.options, Options::from(json!({"dburl": "sqlite://x"})));
    assert_eq!(
        table("  cache: {ttl: 1m, maxEntries: 5}\n  onError: retry\n  timeout: 2s\n"),
        LookupTableDef {
            cache: CacheSettings { enabled: true, ttl: Some(Duration::from_secs(60)), missing: true, max_entries: 5 },
            on_error: OnLookupError::Retry,
            timeout: Duration::from_secs(2),
            origin: table("  cache: {ttl: 1m, maxEntries: 5}\n  onError: retry\n  timeout: 2s\n").origin,
            ..table_of_profile.clone()
        }
    );
    assert!(!table("  cache: {enabled: false}\n").cache.enabled);
}

#[test]
fn rules_take_their_runtimes_defaults() {
    let manifests = read(
        r#"
apiVersion: sluice.dev/v1alpha1
kind: Runtime
metadata: {name: default}
spec: {options: {lateTolerance: 3s, sendNilField: true, bufferLength: 7}}
---
apiVersion: sluice.dev/v1alpha1
kind: Rule
metadata: {name: a, generation: 4}
spec: {sql: SELECT 1, sinks: [{log: {}}], options: {lateTolerance: 5s}}
---
apiVersion: sluice.dev/v1alpha1
kind: Rule
metadata: {name: b}
spec: {sql: SELECT 1, sinks: [{log: {}}], runtime: edge, suspend: true}
"#,
    );
    let [a, b] = manifests.definitions.rules.as_slice() else { panic!("two rules") };
    assert_eq!((a.options.late_tolerance_ms, a.options.send_nil, a.buffer_batches, a.suspend), (5000, true, 7, false));
    assert_eq!((b.options.late_tolerance_ms, b.options.send_nil, b.buffer_batches, b.suspend), (1000, false, 64, true));
    assert_eq!((a.origin.generation, a.origin.resource.as_str(), b.origin.line), (4, "Rule/a", 12));
}

#[test]
fn directories_are_read_in_order_and_a_config_dir_stands_for_the_secret() {
    let dir = tempfile::tempdir().unwrap();
    let manifests = dir.path().join("manifests");
    fs::create_dir_all(manifests.join("b/.hidden")).unwrap();
    fs::create_dir_all(dir.path().join("etc")).unwrap();
    let stream = |name: &str| {
        format!(
            "apiVersion: sluice.dev/v1alpha1\nkind: Stream\nmetadata: {{name: {name}}}\nspec: {{type: fake, options: {{clientId: \"${{dir}}\"}}}}\n"
        )
    };
    for (file, text) in [
        ("manifests/c.yml", stream("third")),
        ("manifests/a.yaml", stream("first")),
        ("manifests/b/x.json", json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "Stream", "metadata": {"name": "second"}, "spec": {"type": "fake"}}).to_string()),
        ("manifests/b/.hidden/y.yaml", "broken: [".to_owned()),
        ("manifests/kustomization.yaml", "resources: []".to_owned()),
        ("manifests/notes.txt", "broken: [".to_owned()),
        ("manifests/empty.yaml", String::new()),
        ("etc/fake.yaml", "default: {server: tcp://etc}".to_owned()),
    ] {
        fs::write(dir.path().join(file), text).unwrap();
    }
    let settings = Settings { config_dir: Some(dir.path().join("etc")), ..Settings::default() };
    let loaded = load(std::slice::from_ref(&manifests), &settings);
    assert_eq!(to_text(&loaded.diagnostics), "");
    let streams: Vec<(&str, Option<&serde_json::Value>)> =
        loaded.definitions.streams.iter().map(|def| (def.name.as_str(), def.options.get("server"))).collect();
    let server = json!("tcp://etc");
    assert_eq!(streams, [("first", Some(&server)), ("second", Some(&server)), ("third", Some(&server))]);
    assert_eq!(loaded.definitions.streams[0].options.get("clientId"), Some(&json!(manifests.display().to_string())));
    assert_eq!(loaded.files.len(), 4);
}

#[test]
fn files_that_cant_be_read_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("latin1.yaml"), b"a: 1\nb: \xe4").unwrap();
    fs::write(path("utf16.yaml"), b"\xff\xfea\0").unwrap();
    fs::write(path("bom.yaml"), "\u{feff}a: [").unwrap();
    fs::create_dir(path("nothing")).unwrap();
    let say = |name: &str| {
        let loaded = load(&[path(name)], &Settings::default());
        to_text(&loaded.diagnostics).replace(&dir.path().display().to_string(), "DIR")
    };
    assert_eq!(say("latin1.yaml"), "DIR/latin1.yaml:2:4: not UTF-8 text\n");
    assert_eq!(say("utf16.yaml"), "DIR/utf16.yaml: the file is UTF-16; save it as UTF-8\n");
    assert!(say("bom.yaml").starts_with("DIR/bom.yaml:2:1: not valid YAML: "), "{}", say("bom.yaml"));
    assert_eq!(say("none.yaml"), "DIR/none.yaml: no such file or directory\n");
    assert_eq!(say("nothing"), "DIR/nothing: no Stream, LookupTable, Rule or Runtime in there\n");
    let settings = Settings { config_dir: Some(path("none")), ..Settings::default() };
    let found = load_text("a.yaml", "", &settings).diagnostics;
    assert!(found.iter().any(Diagnostic::is_error), "{found:?}");
}

/// A stream in both forms.
fn both_forms(stream: &StreamDef) -> (String, String) {
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let fields = ["id bigint", "`a b` float", "tags array(struct(k string, v string))"];
    let StreamDef { name, datasource, format, timestamp, timestamp_format, strict, shared, delimiter, options, .. } =
        stream;
    let extra = serde_json::Value::Object(options.0.clone());
    let mut ddl = format!(
        "CREATE STREAM `{name}` ({}) WITH (TYPE=\"fake\", DATASOURCE={}, FORMAT={}, SHARED=\"{shared}\", STRICT_VALIDATION=\"{strict}\"",
        fields.join(", "),
        quote(datasource),
        quote(&format.to_uppercase()),
    );
    let mut spec = json!({
        "name": name, "type": "fake", "datasource": datasource, "format": format, "shared": shared, "strict": strict,
        "fields": [
            {"name": "id", "type": "bigint"},
            {"name": "a b", "type": "FLOAT"},
            {"name": "tags", "type": "array(struct(k string, v string))"},
        ],
        "options": extra,
    });
    if let Some(timestamp) = timestamp {
        ddl += &format!(", TIMESTAMP={}", quote(timestamp));
        spec["timestamp"] = json!({"field": timestamp});
        if let Some(format) = timestamp_format {
            ddl += &format!(", TIMESTAMP_FORMAT={}", quote(format));
            spec["timestamp"]["format"] = json!(format);
        }
    }
    if let Some(delimiter) = delimiter {
        ddl += &format!(", DELIMITER={}", quote(delimiter));
        spec["delimiter"] = json!(delimiter);
    }
    ddl += &format!(", EXTRA={})", quote(&extra.to_string()));
    let document = |spec: serde_json::Value| {
        json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "Stream", "metadata": {"name": "s"}, "spec": spec})
            .to_string()
    };
    (document(json!({ "sql": ddl })), document(spec))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_forms_of_a_stream_are_one_definition(
        name in "[a-zA-Z][a-zA-Z0-9_-]{0,12}",
        datasource in "[ -~]{0,12}",
        format in "(json|binary|delimited)",
        timestamp in prop::option::of("[a-z]{1,5}"),
        timestamp_format in prop::option::of("[yMdHms:-]{1,9}"),
        (strict, shared) in (any::<bool>(), any::<bool>()),
        delimiter in prop::option::of("[;|,]"),
        options in prop::collection::btree_map("[a-z]{1,5}", "[a-z \"$/]{0,8}", 0..4),
    ) {
        // `${` begins a variable.
        prop_assume!(!datasource.contains("${"));
        let stream = StreamDef {
            name, datasource, format, strict, shared, delimiter,
            connector: "fake".into(),
            fields: Vec::new(),
            timestamp_format: timestamp_format.filter(|_| timestamp.is_some()),
            timestamp,
            retain: None,
            options: Options(options.into_iter().map(|(key, value)| (key, value.into())).collect()),
            origin: Origin::default(),
        };
        let (ddl, structured) = both_forms(&stream);
        let blank = |text: &str| {
            let mut stream = read(text).definitions.streams.remove(0);
            stream.origin = Origin::default();
            stream
        };
        let (from_ddl, from_fields) = (blank(&ddl), blank(&structured));
        prop_assert_eq!(&from_ddl, &from_fields);
        prop_assert_eq!(from_ddl.fields.len(), 3);
        prop_assert_eq!(StreamDef { fields: Vec::new(), ..from_ddl }, stream);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[ -~\n\t{}\\[\\]:&*<>|'\"-]{0,80}", at in 0usize..400) {
        let good = include_str!("cases/good.yaml");
        let at = at.min(good.len());
        let mixed = format!("{}{text}{}", &good[..at], &good[at..]);
        verdict(&load_text("x.yaml", &text, &Settings::default()), &registry());
        verdict(&load_text("x.yaml", &mixed, &Settings::default()), &registry());
    }
}

/// The examples are right with the connectors that are built in.
#[test]
fn examples_pass_the_check() {
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
    let examples: Vec<PathBuf> = fs::read_dir(examples).unwrap().map(|example| example.unwrap().path()).collect();
    assert!(!examples.is_empty());
    for example in &examples {
        let found = verdict(&load(std::slice::from_ref(example), &Settings::default()), &Registry::builtin());
        assert_eq!(to_text(&found), "", "{}", example.display());
    }
}

#[test]
fn several_files_are_each_read_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| {
        let path = dir.path().join(format!("{name}.yaml"));
        let head = format!("apiVersion: sluice.dev/v1alpha1\nkind: Stream\nmetadata: {{name: {name}}}\n");
        fs::write(&path, head + "spec: {type: simulator}\n").unwrap();
        path
    };
    let paths = ["a", "b", "c"].map(path);
    let loaded = load(&paths, &Settings::default());
    assert_eq!(to_text(&loaded.diagnostics), "");
    let names: Vec<&str> = loaded.definitions.streams.iter().map(|stream| stream.name.as_str()).collect();
    assert_eq!((names, loaded.files), (vec!["a", "b", "c"], paths.to_vec()));
}
