use serde_json::json;

use super::*;
use crate::options::Options;

#[test]
fn options() {
    for (options, expected) in [
        (json!({}), "ok"),
        (json!({"topic": "a/{{.id}}", "messageType": "request", "contentType": "application/cbor"}), "ok"),
        (json!({"type": "nats-core", "topicPrefix": "edgex/events/device", "edgexVersion": 4}), "ok"),
        (json!({"type": "redis", "metadata": "m", "deviceName": "d"}), "ok"),
        (json!({"topic": "a", "topicPrefix": "b"}), "topicPrefix: give topic or topicPrefix, not both"),
        (json!({"edgexVersion": 1}), "edgexVersion: expected"),
        (json!({"contentType": "text/plain"}), "contentType: expected one of"),
        (json!({"optional": {"password": "p"}}), "optional.username: a password needs a user name"),
        (json!({"topic": "{{.a"}), "topic: "),
    ] {
        let args = SinkArgs {
            rule: "r",
            index: 0,
            output: &Arc::default(),
            options: &Options::from(options.clone()),
            format: "json",
            compression: None,
        };
        let outcome = build(&args).err().map_or_else(|| "ok".to_owned(), |error| error.to_string());
        assert!(outcome.starts_with(expected), "{options}: {outcome}");
    }
}
