use serde_json::{Value, json};

use crate::*;

#[test]
fn files_are_up_to_date_and_small() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
    for (name, yaml) in yaml_files() {
        assert!(yaml.len() < 100_000, "{name}: {} bytes", yaml.len());
        let file = std::fs::read_to_string(dir.join(&name)).unwrap_or_default();
        assert!(file == yaml, "{name} is out of date; run `cargo crdgen`");
    }
}

/// Every field is explained, and every text, list and map has a bound, without which rules have no cost limit.
#[test]
fn fields_are_documented_and_bounded() {
    fn walk(schema: &Value, path: &str, wrong: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            let documented = property["description"].is_string();
            let generated = ["apiVersion", "kind", "metadata"].contains(&name.as_str());
            if !documented && !generated && path != ".spec" && path != ".status" {
                wrong.push(format!("{path} has no description"));
            }
            // Kubernetes' own types come as they are.
            if path.ends_with(".resources") || path.ends_with(".tolerations") || path.contains(".status") {
                continue;
            }
            let bound = match property["type"].as_str() {
                Some("string") if !generated => "maxLength",
                Some("array") => "maxItems",
                _ => "type",
            };
            let quantity = property["x-kubernetes-int-or-string"] == json!(true);
            if property[bound].is_null() && property["enum"].is_null() && !quantity {
                wrong.push(format!("{path} has no {bound}"));
            }
            walk(property, &path, wrong);
            walk(&property["items"], &path, wrong);
        }
    }
    let mut wrong = Vec::new();
    for definition in definitions() {
        let definition = serde_json::to_value(definition).unwrap();
        let mut here = Vec::new();
        walk(&definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "", &mut here);
        wrong.extend(here.iter().map(|line| format!("{}{line}", definition["spec"]["names"]["kind"])));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn specs_read_back_as_they_were_written() {
    let rule = json!({
        "sql": "SELECT * FROM demo",
        "sinks": [{"mqtt": {"topic": "out", "password": {"secretKeyRef": {"name": "mqtt", "key": "password"}}}}, {"stdout": {}}],
        "options": {"eventTime": true, "lateTolerance": "1s", "qos": 1, "restartStrategy": {"attempts": 3, "delay": "500ms"}},
        "suspend": false,
        "runtime": "edge",
    });
    assert_eq!(serde_json::to_value(serde_json::from_value::<RuleSpec>(rule.clone()).unwrap()).unwrap(), rule);
    let stream = json!({
        "name": "demo", "type": "mqtt", "datasource": "a/b", "format": "json",
        "fields": [{"name": "id", "type": "bigint", "default": "0"}],
        "timestamp": {"field": "ts", "format": "yyyy"}, "strict": true, "shared": true,
        "options": {"server": "tcp://a"}, "config": {"secretRef": {"name": "s"}, "profile": "p"},
    });
    assert_eq!(serde_json::to_value(serde_json::from_value::<StreamSpec>(stream.clone()).unwrap()).unwrap(), stream);
    let table = json!({
        "sql": "CREATE TABLE t () WITH (TYPE=\"sql\", KIND=\"lookup\")",
        "cache": {"enabled": true, "ttl": "1m", "missing": true, "maxEntries": 5}, "onError": "retry", "timeout": "2s",
    });
    assert_eq!(serde_json::to_value(serde_json::from_value::<LookupTableSpec>(table.clone()).unwrap()).unwrap(), table);
}

#[test]
fn a_sink_entry_has_one_key() {
    for (entry, error) in [
        (
            json!({"mqtt": {}, "log": {}}),
            "an entry of sinks has one key, the sink's type; write a list entry for each sink",
        ),
        (json!({}), "an entry of sinks has one key, the sink's type; write a list entry for each sink"),
        (json!({"log": "x"}), "the options of a sink are a map"),
    ] {
        assert_eq!(serde_json::from_value::<Sink>(entry.clone()).unwrap_err().to_string(), error, "{entry}");
    }
    assert_eq!(serde_json::from_value::<Sink>(json!({"stdout": null})).unwrap().ty, "stdout");
}
