//! What is there and what should be there, compared: whether something has to be written.

use serde_json::{Map, Value};

/// True if some field of `wanted` is not in `found` as it should be. What is there beside it, such as defaults of the API server or
/// fields of others, does not count.
pub fn differs(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            wanted.iter().any(|(key, value)| found.get(key).is_none_or(|found| differs(value, found)))
        }
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() != found.len() || wanted.iter().zip(found).any(|(wanted, found)| differs(wanted, found))
        }
        // The API server leaves out what is empty.
        (wanted, found) => wanted != found,
    }
}

/// The value without members that are `null`: to apply one means to own it.
pub fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key, without_nulls(value))).collect::<Map<_, _>>())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(without_nulls).collect()),
        value => value,
    }
}

/// Gives each condition the time of its last transition: the one it had, if its status is as it was.
pub fn merged_conditions(wanted: &mut Value, found: &Value, now: &str) {
    let known = found.get("conditions").and_then(Value::as_array);
    for condition in wanted.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        let same = |known: &&Value| {
            known.get("type") == condition.get("type") && known.get("status") == condition.get("status")
        };
        let time = known.and_then(|known| known.iter().find(same)).and_then(|known| known.get("lastTransitionTime"));
        // The time of the default that the API server fills in is no time.
        let time = time.filter(|time| time.as_str().is_some_and(|time| !time.starts_with("1970")));
        let time = time.cloned().unwrap_or_else(|| Value::String(now.to_owned()));
        if let Value::Object(condition) = condition {
            condition.insert("lastTransitionTime".to_owned(), time);
        }
    }
}
