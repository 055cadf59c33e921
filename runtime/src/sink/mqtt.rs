//! `mqtt`: messages to an MQTT broker.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Message, Output, Sink, SinkArgs, SinkError, SinkType, Takes};
use crate::connection::ConnectorContext;
use crate::connection::mqtt::{
    MqttClient, MqttOptions, Properties, Publish, PublishError, Publisher, Settings, Version,
};
use crate::connection::topic::check_topic;
use crate::error::{ConfigError, ConnectorError};

/// The sink `mqtt`.
pub(super) const MQTT: SinkType = SinkType {
    name: "mqtt",
    docs: "Publishes each message to `topic`, which may hold `{{...}}`. Sinks and sources with the same connection options share one \
           connection. With `qos` 1 and 2 a message counts as written when the broker has acknowledged it; a connection that breaks \
           before that has the unacknowledged ones sent once more.",
    schema: crate::options::schema_of::<MqttSinkOptions>,
    takes: Takes::Messages,
    templates: &["topic", "properties"],
    build,
};

/// Places in [`SinkType::templates`].
const TOPIC: usize = 0;
const PROPERTIES: usize = 1;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct MqttSinkOptions {
    #[serde(flatten)]
    connection: MqttOptions,
    /// Where to; may hold `{{...}}`.
    topic: String,
    /// Quality of service: 0, 1 or 2.
    #[serde(default)]
    #[schemars(range(max = 2))]
    qos: u8,
    /// The broker keeps the last message of each topic for those who subscribe later.
    #[serde(default)]
    retained: bool,
    /// User properties (version 5); their values may hold `{{...}}`.
    #[serde(default)]
    properties: BTreeMap<String, String>,
}

struct MqttSink {
    settings: Settings,
    qos: u8,
    retained: bool,
    publisher: Option<Publisher>,
}

fn build(args: &SinkArgs<'_>) -> Result<Box<dyn Sink>, ConfigError> {
    let options: MqttSinkOptions = args.options.parse()?;
    let (settings, mut error) = match options.connection.settings() {
        Ok(settings) => (Some(settings), ConfigError::default()),
        Err(error) => (None, error),
    };
    if !options.topic.contains("{{")
        && let Err(message) = check_topic(&options.topic)
    {
        error.push("topic", message);
    }
    if options.qos > 2 {
        error.push("qos", "expected 0, 1 or 2");
    }
    if !options.properties.is_empty() && options.connection.protocol_version.0 != Version::V5 {
        error.push("properties", "user properties need protocolVersion 5");
    }
    match settings {
        Some(settings) if error.problems.is_empty() => {
            Ok(Box::new(MqttSink { settings, qos: options.qos, retained: options.retained, publisher: None }))
        }
        _ => Err(error),
    }
}

#[async_trait]
impl Sink for MqttSink {
    async fn connect(&mut self, ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        ctx.health.connecting();
        let publisher = self.publisher.get_or_insert_with(|| MqttClient::publisher(&self.settings, ctx));
        publisher.ready().await
    }

    async fn write(&mut self, output: Output<'_>) -> Result<(), SinkError> {
        let Output::Messages(messages) = output else { return Ok(()) };
        let Some(publisher) = &self.publisher else {
            return Err(ConnectorError::internal("mqtt sink is written to before it is connected").into());
        };
        let (mut publishes, mut places, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        let mut reason = String::new();
        for (place, message) in messages.iter().enumerate() {
            match check_topic(message.props.text(TOPIC)) {
                Ok(()) => {
                    publishes.push(self.publish(message));
                    places.push(place);
                }
                Err(wrong) => {
                    refused.push(place);
                    reason = wrong;
                }
            }
        }
        let place_of = |idx: usize| places.get(idx).copied().unwrap_or(messages.len());
        match publisher.publish(publishes).await {
            Ok(()) => {}
            Err(PublishError::Refused(items, why)) => {
                refused.extend(items.into_iter().map(place_of));
                reason = why;
            }
            Err(PublishError::Lost { n_done: 0, error }) if refused.is_empty() => return Err(error.into()),
            // What was refused before the first lost one is tried, and refused, once more.
            Err(PublishError::Lost { n_done, error }) => {
                let n_written = refused.first().copied().unwrap_or(usize::MAX).min(place_of(n_done));
                return Err(SinkError::Stopped { n_written, error });
            }
        }
        if refused.is_empty() { Ok(()) } else { Err(SinkError::Refused { items: refused, n_others: 0, reason }) }
    }

    async fn close(&mut self) {
        self.publisher = None;
    }
}

impl MqttSink {
    fn publish(&self, message: &Message) -> Publish {
        let user = message.props.entries(PROPERTIES);
        Publish {
            dup: false,
            qos: self.qos,
            retain: self.retained,
            topic: Bytes::copy_from_slice(message.props.text(TOPIC).as_bytes()),
            pkid: 0,
            payload: message.body.clone(),
            properties: (!user.is_empty())
                .then(|| Box::new(Properties { user: user.to_vec(), ..Properties::default() })),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::options::Options;

    #[test]
    fn options() {
        for (options, expected) in [
            (json!({"server": "b", "topic": "a/{{.id}}/+"}), "ok"),
            (json!({"server": "b", "topic": "a", "protocolVersion": "5", "properties": {"k": "{{.v}}"}}), "ok"),
            (json!({"server": "b"}), "topic: "),
            (json!({"server": "b", "topic": "a/#"}), "topic: topic \"a/#\" must not hold"),
            (json!({"server": "b", "topic": "a", "qos": 3}), "qos: "),
            (json!({"server": "b", "topic": "a", "properties": {"k": "v"}}), "properties: user properties need"),
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
}
