//! A strategic merge patch, as far as pod templates need it: maps are merged, lists of what has a name are merged by that name, other
//! lists are replaced, and `null` removes.

use serde_json::Value;

/// What tells the members of lists apart.
const KEYS: &[(&str, &str)] = &[
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("imagePullSecrets", "name"),
    ("volumeMounts", "mountPath"),
    ("volumeDevices", "devicePath"),
    ("ports", "containerPort"),
    ("hostAliases", "ip"),
    ("topologySpreadConstraints", "topologyKey"),
];

/// Lays `patch` over `base`.
pub fn overlay(base: &mut Value, patch: &Value) {
    overlay_at("", base, patch);
}

fn overlay_at(name: &str, base: &mut Value, patch: &Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    base.remove(key);
                } else if let Some(own) = base.get_mut(key) {
                    overlay_at(key, own, value);
                } else {
                    base.insert(key.clone(), value.clone());
                }
            }
        }
        (Value::Array(base), Value::Array(patch)) if KEYS.iter().any(|(list, _)| *list == name) => {
            let key = KEYS.iter().find(|(list, _)| *list == name).map_or("name", |(_, key)| key);
            for item in patch {
                match base.iter_mut().find(|own| own.get(key).is_some() && own.get(key) == item.get(key)) {
                    Some(own) => overlay_at("", own, item),
                    None => base.push(item.clone()),
                }
            }
        }
        (base, patch) => *base = patch.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn named_members_are_merged() {
        let base = json!({ "spec": { "a": 1, "containers": [{ "name": "sluice", "image": "i", "env": [{ "name": "A", "value": "1" }] }] } });
        for (patch, expected) in [
            (
                json!({ "spec": { "a": null, "b": 2 } }),
                json!({ "spec": { "b": 2, "containers": base["spec"]["containers"] } }),
            ),
            (
                json!({ "spec": { "containers": [{ "name": "side" }, { "name": "sluice", "env": [{ "name": "A", "value": "2" }] }] } }),
                json!({ "spec": { "a": 1, "containers": [
                    { "name": "sluice", "image": "i", "env": [{ "name": "A", "value": "2" }] }, { "name": "side" }] } }),
            ),
            (json!({ "spec": { "tolerations": [{ "key": "x" }] } }), {
                let mut expected = base.clone();
                expected["spec"]["tolerations"] = json!([{ "key": "x" }]);
                expected
            }),
        ] {
            let mut merged = base.clone();
            overlay(&mut merged, &patch);
            assert_eq!(merged, expected, "{patch}");
        }
    }
}
