//! Messages from an MQTT broker.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use base64::Engine as _;
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::{Object, Value};
use smol_str::SmolStr;

use super::{Gives, Ingest, Items, Mark, Payload, Source, SourceArgs, SourceContext, SourceType};
use crate::connection::mqtt::{Delivery, Filter, Message, MqttClient, MqttOptions, Settings, Subscription};
use crate::error::{ConfigError, ConnectorError};

/// The `mqtt` source.
pub const TYPE: SourceType = SourceType {
    name: "mqtt",
    docs: "Messages of an MQTT broker. `DATASOURCE` is a topic filter, or several with commas between them; `+`, `#` and \
           `$share/group/filter` are the broker's. Streams with the same options share one connection, on which each gets every message \
           of its filters once. Messages of QoS 1 and 2 are acknowledged when the rules have taken them. The client reconnects and \
           subscribes again by itself. Metadata: `topic`, `qos`, `messageId`, and in version 5 `properties` (user properties).",
    schema: crate::options::schema_of::<MqttSourceOptions>,
    gives: Gives::Payloads,
    build,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct MqttSourceOptions {
    #[serde(flatten)]
    connection: MqttOptions,
    /// The highest quality of service at which the broker is to deliver: 0, 1 or 2.
    #[serde(default = "default_qos")]
    #[schemars(range(max = 2))]
    qos: u8,
    /// A message with this body, in base64, ends the input.
    #[serde(default)]
    eof_message: Option<String>,
}

fn default_qos() -> u8 {
    1
}

struct MqttSource {
    settings: Settings,
    filters: Vec<Filter>,
    qos: u8,
    eof: Option<Vec<u8>>,
    has_ended: bool,
    connected: Option<(Subscription, SourceContext)>,
    /// What has been handed over and not acknowledged, by the number of its ingest.
    unacked: VecDeque<(u64, Vec<Arc<Delivery>>)>,
    last_ack: u64,
    /// By what the messages of the newest ingest are known.
    marks: Vec<Mark>,
}

fn build(args: &SourceArgs<'_>) -> Result<Box<dyn Source>, ConfigError> {
    let options: MqttSourceOptions = args.options.parse()?;
    let (settings, mut error) = match options.connection.settings() {
        Ok(settings) => (Some(settings), ConfigError::default()),
        Err(error) => (None, error),
    };
    let mut filters = Vec::new();
    for text in args.datasource.split(',') {
        match Filter::parse(text.trim()) {
            Ok(filter) if filters.contains(&filter) => {}
            Ok(filter) => filters.push(filter),
            Err(message) => error.push("datasource", message),
        }
    }
    if options.qos > 2 {
        error.push("qos", "expected 0, 1 or 2");
    }
    let eof = options.eof_message.map(|text| base64::engine::general_purpose::STANDARD.decode(text)).transpose();
    let eof = eof.unwrap_or_else(|_| {
        error.push("eofMessage", "expected base64");
        None
    });
    match settings {
        Some(settings) if error.problems.is_empty() => Ok(Box::new(MqttSource {
            settings,
            filters,
            qos: options.qos,
            eof,
            has_ended: false,
            connected: None,
            unacked: VecDeque::new(),
            last_ack: 0,
            marks: Vec::new(),
        })),
        _ => Err(error),
    }
}

#[async_trait]
impl Source for MqttSource {
    async fn connect(&mut self, ctx: &SourceContext) -> Result<(), ConnectorError> {
        // The old subscription goes first, or its filters would be in the way.
        self.connected = None;
        self.unacked.clear();
        // The client connects beside this task, and says when it has.
        ctx.connector.health.connecting();
        let subscription = MqttClient::subscribe(&self.settings, self.filters.clone(), self.qos, &ctx.connector);
        self.connected = Some((subscription, ctx.clone()));
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Ingest>, ConnectorError> {
        let Some((subscription, context)) = &self.connected else {
            return Err(ConnectorError::internal("mqtt source is read before it is connected"));
        };
        if self.has_ended {
            return Ok(None);
        }
        let messages = subscription.next().await?;
        let wants_meta = context.wants_meta.load(Ordering::Relaxed);
        let mut payloads = Vec::with_capacity(messages.len());
        let mut deliveries = Vec::new();
        self.marks.clear();
        for message in messages {
            let meta = wants_meta.then(|| Arc::new(metadata(&message)));
            deliveries.extend(message.delivery);
            if self.eof.as_deref().is_some_and(|eof| message.payload == eof) {
                self.has_ended = true;
                break;
            }
            let mark = mark(message.pkid, &message.topic, &message.payload);
            self.marks.push(Mark { id: mark, may_be_again: message.dup });
            payloads.push(Payload { bytes: message.payload, meta });
        }
        let ack = (!deliveries.is_empty()).then(|| {
            self.last_ack += 1;
            self.unacked.push_back((self.last_ack, deliveries));
            self.last_ack
        });
        Ok(Some(Ingest { items: Items::Payloads(payloads), ack }))
    }

    fn ack(&mut self, ack: u64) {
        let Some((subscription, _)) = &self.connected else { return };
        while self.unacked.front().is_some_and(|(number, _)| *number <= ack) {
            if let Some((_, deliveries)) = self.unacked.pop_front() {
                subscription.ack(deliveries);
            }
        }
    }

    fn take_marks(&mut self) -> Vec<Mark> {
        std::mem::take(&mut self.marks)
    }

    fn limits(&self, qos: u8) -> Vec<String> {
        let mut limits = Vec::new();
        if self.qos == 0 {
            limits.push("the broker forgets messages of QoS 0 once they are sent, and a lost connection loses them; set its qos to 1 or 2".to_owned());
        } else if !self.settings.is_kept() {
            limits.push("the broker forgets what it could not deliver while Sluice is away; set clientid and enableClientSession".to_owned());
        }
        if self.qos == 1 && qos == 2 {
            limits.push("a broker may deliver a message of QoS 1 twice, and only copies that it marks as such are recognised; set its qos to 2 for exactly once".to_owned());
        }
        limits
    }

    async fn close(&mut self) {
        if let Some((subscription, _)) = self.connected.take() {
            subscription.give_up(self.unacked.drain(..).flat_map(|(_, deliveries)| deliveries));
        }
    }
}

/// The same for a message that is delivered again, and hardly ever for another one: brokers use packet identifiers again.
/// Messages of QoS 0 have none and are not delivered again.
fn mark(pkid: u16, topic: &[u8], payload: &[u8]) -> u64 {
    if pkid == 0 {
        return 0;
    }
    // Kept in journals: must not change from build to build.
    let mut hasher = foldhash::quality::FixedState::with_seed(u64::from(pkid)).build_hasher();
    hasher.write(topic);
    hasher.write_u8(0);
    hasher.write(payload);
    hasher.finish() | 1
}

fn metadata(message: &Message) -> Object {
    let mut meta = Object::with_capacity(4);
    meta.insert("topic", Value::string(String::from_utf8_lossy(&message.topic)));
    meta.insert("qos", Value::Int(i64::from(message.qos)));
    meta.insert("messageId", Value::Int(i64::from(message.pkid)));
    if let Some(properties) = &message.properties {
        let user = properties.user.iter().map(|(name, value)| (SmolStr::new(name), Value::string(value)));
        meta.insert("properties", Value::Object(Arc::new(user.collect())));
    }
    meta
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::build_source;
    use super::*;

    #[test]
    fn options() {
        for (datasource, options, expected) in [
            ("a", json!({"server": "tcp://b", "qos": 2, "eofMessage": "AA=="}), "ok"),
            ("a/+,$share/g/b/#", json!({"server": "tcp://b", "rootCaPath": null}), "ok"),
            ("a", json!({"server": "tcp://b", "QoS": 1, "ClientId": "x", "insecureSkipVerify": true}), "server: TLS"),
            ("a", json!({"server": "tcp://b", "qos": 3}), "qos: "),
            ("a", json!({"server": "tcp://b", "qoz": 1}), "qoz: "),
            ("", json!({"server": "tcp://b"}), "datasource: topic filter is empty"),
            ("a,b/#/c", json!({"server": "tcp://b"}), "datasource: `#` must be the last level"),
            ("a", json!({}), "server: "),
            ("a", json!({"server": "tcp://b", "eofMessage": "?"}), "eofMessage: expected base64"),
        ] {
            let outcome = build_source(&TYPE, datasource, "json", options.clone())
                .err()
                .map_or_else(|| "ok".to_owned(), |error| error.to_string());
            assert!(outcome.starts_with(expected), "{options}: {outcome}");
        }
    }
}
