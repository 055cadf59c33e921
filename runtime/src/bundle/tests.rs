use super::*;
use crate::Registry;
use crate::pipeline::{Engine, RuleState, Settings};
use serde_json::json;

fn object(kind: &str, name: &str, generation: i64, spec: serde_json::Value) -> BundleObject {
    let uid = format!("{name}-uid");
    BundleObject { kind: kind.into(), name: name.into(), uid, generation, spec: Spec(spec.to_string().into()) }
}

fn stream(columns: &str) -> BundleObject {
    let sql = format!("CREATE STREAM s ({columns}) WITH (TYPE=\"memory\", DATASOURCE=\"t\")");
    object("Stream", "s", 1, json!({ "sql": sql, "options": {} }))
}

fn rule(name: &str, generation: i64, sql: &str) -> BundleObject {
    object("Rule", name, generation, json!({ "sql": sql, "sinks": [{ "nop": {} }] }))
}

fn bundle(objects: Vec<BundleObject>) -> Bundle {
    Bundle { format: FORMAT, namespace: "n".into(), runtime: "default".into(), objects, ..Bundle::default() }
}

#[test]
fn what_was_packed_is_unpacked() {
    let mut many = bundle(vec![stream("a BIGINT")]);
    many.objects.extend((0..5_000).map(|n| rule(&format!("r{n}"), n, "SELECT a, a + 1 AS b FROM s WHERE a > 3")));
    many.secrets = BTreeMap::from([("one".into(), BTreeMap::from([("k".into(), STANDARD.encode("secret"))]))]);
    let packed = many.pack();
    assert!(packed.index.parts == 1 && packed == many.pack());
    assert!(unpack(&packed.index, &packed.parts).unwrap() == many);
    assert!(!format!("{many:?}").contains(&STANDARD.encode("secret")));
    // What does not compress takes several parts.
    let noise: Vec<u8> =
        (0..1_500_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ (n >> 7) as u8).collect();
    many.secrets.insert("two".into(), BTreeMap::from([("k".into(), STANDARD.encode(noise))]));
    let packed = many.pack();
    assert!(packed.index.parts > 1);
    assert!(unpack(&packed.index, &packed.parts).unwrap() == many);
}

#[test]
fn a_bundle_is_read_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let error = |folder: &std::path::Path| read_folder(folder).unwrap_err().to_string();
    assert!(error(folder.path()).starts_with("index.json: "));
    let (old, new) = (bundle(vec![stream("a BIGINT")]).pack(), bundle(vec![stream("b BIGINT")]).pack());
    old.write_to(folder.path()).unwrap();
    assert_eq!(read_folder(folder.path()).unwrap().0, old.index.id);
    std::fs::write(folder.path().join("part-0"), &new.parts[0]).unwrap();
    assert_eq!(error(folder.path()), "its parts are not complete yet");
    std::fs::remove_file(folder.path().join("part-0")).unwrap();
    assert_eq!(error(folder.path()), "its parts are not complete yet");
    std::fs::write(folder.path().join("index.json"), r#"{"format": 2, "id": "", "parts": 1}"#).unwrap();
    std::fs::write(folder.path().join("part-0"), "").unwrap();
    assert_eq!(error(folder.path()), "it has layout 2; this runtime is too old for it");
}

#[test]
fn secrets_reach_options_and_nothing_else() {
    let sink = json!([{ "mqtt": { "server": "tcp://b:1883", "topic": "t", "password": { "secretKeyRef": { "name": "m", "key": "p" } } } }]);
    let mut bundle =
        bundle(vec![stream(""), object("Rule", "r", 1, json!({ "sql": "SELECT * FROM s", "sinks": sink }))]);
    let (definitions, diagnostics) = bundle.load();
    assert_eq!(definitions.rules.len(), 0);
    assert_eq!(definitions.unreadable[0].message, diagnostics[0].to_string());
    assert_eq!(
        definitions.unreadable[0].message,
        "Rule/r: spec.sinks[0].mqtt.password.secretKeyRef.name: Secret \"m\" is not there"
    );
    bundle.secrets = BTreeMap::from([("m".into(), BTreeMap::from([("p".into(), STANDARD.encode("hunter2"))]))]);
    let (definitions, diagnostics) = bundle.load();
    assert!(diagnostics.is_empty() && definitions.unreadable.is_empty());
    assert!(!format!("{definitions:?}").contains("hunter2"));
}

#[tokio::test]
async fn rules_are_held_with_what_they_were_good_with() {
    let engine = Engine::new(Settings::new(Registry::builtin()));
    let mut first =
        bundle(vec![stream("a BIGINT"), rule("one", 1, "SELECT a FROM s"), rule("two", 1, "SELECT * FROM s")]);
    engine.apply(&first.load().0);
    // The stream has lost the column that one rule needs.
    let held = HeldRule {
        rule: "one".into(),
        objects: vec![stream("a BIGINT"), rule("one", 1, "SELECT a FROM s")],
        secrets: BTreeMap::new(),
    };
    first.objects = vec![stream("b BIGINT"), rule("two", 2, "SELECT b FROM s")];
    first.held = vec![held];
    let report = engine.apply(&first.load().0);
    assert_eq!((report.unchanged, report.replaced), (vec!["one".to_owned()], vec!["two".to_owned()]));
    // The same after a start of the process.
    let engine = Engine::new(Settings::new(Registry::builtin()));
    let report = engine.apply(&first.load().0);
    assert_eq!(report.started.len(), 2, "{report:?}");
    // A rule that can't be read any more runs on.
    first.objects.pop();
    first.objects.push(object("Rule", "two", 3, json!({ "sqll": "SELECT b FROM s" })));
    engine.apply(&first.load().0);
    let report = engine.report();
    let two = report.rules.iter().find(|rule| rule.name == "two").unwrap();
    assert_eq!((two.generation, two.state, two.uid.as_str()), (2, RuleState::Running, "two-uid"));
    assert!(two.message.as_ref().unwrap().contains("unknown field"), "{two:?}");
    engine.stop(std::time::Duration::from_secs(1)).await;
}
