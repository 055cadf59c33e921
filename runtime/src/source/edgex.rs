//! Events of EdgeX Foundry, from its message bus.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::{Object, Value};

use super::{Gives, Ingest, Items, Source, SourceArgs, SourceContext, SourceType, mqtt, nats, redis_sub};
use crate::connection::edgex::{Bus, EdgexOptions, Side, renamed};
use crate::error::{ConfigError, ConnectorError};
use crate::format::edgex::{MessageType, decoder_of};

/// The `edgex` source.
pub const TYPE: SourceType = SourceType {
    name: "edgex",
    docs: "Events of EdgeX Foundry 2, 3 and 4, from its message bus: MQTT, NATS or Redis. Each event is a row with a column per \
           reading, named by its resource and typed by its `valueType`; `Binary` is bytea. Envelopes, events and requests, JSON and \
           CBOR, base64 and bytes are told apart by themselves, so `FORMAT` has no part in it. A reading that can't be read is left \
           out and counted. Metadata: `id`, `deviceName`, `profileName`, `sourceName`, `origin`, `tags`, `correlationid`, `topic`, and \
           by the name of each reading its `id`, `origin`, `deviceName`, `profileName`, `valueType`, `mediaType`, `units`: \
           `meta(Temperature->origin)`. See [EdgeX Foundry](EDGEX.md).",
    schema: crate::options::schema_of::<EdgexSourceOptions>,
    gives: Gives::Own(|options, args| {
        let options: EdgexSourceOptions = options.parse()?;
        Ok(decoder_of(args, options.message_type))
    }),
    build,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct EdgexSourceOptions {
    #[serde(flatten)]
    bus: EdgexOptions,
    /// The topic, in EdgeX's words on every bus (`edgex/events/#`); by default `DATASOURCE`.
    #[serde(default)]
    topic: Option<String>,
    /// `event` or `request`: the other kind is then an error. By default both are taken.
    #[serde(default)]
    message_type: Option<MessageType>,
    /// Known for its name only: what waits is with the bus.
    #[serde(default, rename = "bufferLength")]
    _buffer_length: Option<u32>,
}

struct EdgexSource {
    bus: Bus,
    inner: Box<dyn Source>,
}

fn build(args: &SourceArgs<'_>) -> Result<Box<dyn Source>, ConfigError> {
    let options: EdgexSourceOptions = args.options.parse()?;
    let topic = options.topic.as_deref().unwrap_or(args.datasource).trim();
    if topic.is_empty() {
        return Err(ConfigError::new("topic", "give the topic to listen to, as edgex/events/#"));
    }
    let bus = options.bus.bus;
    let inner_type = match bus {
        Bus::Mqtt => mqtt::TYPE,
        Bus::NatsCore | Bus::NatsJetstream => nats::TYPE,
        Bus::Redis => redis_sub::TYPE,
    };
    let inner_args = SourceArgs { datasource: &bus.topic(topic), options: &options.bus.inner(Side::Source)?, ..*args };
    let inner = (inner_type.build)(&inner_args).map_err(renamed)?;
    Ok(Box::new(EdgexSource { bus, inner }))
}

#[async_trait]
impl Source for EdgexSource {
    async fn connect(&mut self, ctx: &SourceContext) -> Result<(), ConnectorError> {
        self.inner.connect(ctx).await
    }

    async fn next(&mut self) -> Result<Option<Ingest>, ConnectorError> {
        let mut ingest = self.inner.next().await?;
        if let Some(Ingest { items: Items::Payloads(payloads), .. }) = &mut ingest {
            for meta in payloads.iter_mut().filter_map(|payload| payload.meta.as_mut()) {
                *meta = Arc::new(self.metadata(meta));
            }
        }
        Ok(ingest)
    }

    fn ack(&mut self, ack: u64) {
        self.inner.ack(ack);
    }

    async fn close(&mut self) {
        self.inner.close().await;
    }
}

impl EdgexSource {
    /// Where the message came from, in EdgeX's words; what else the bus says is kept for the decoder.
    fn metadata(&self, of_bus: &Object) -> Object {
        let topic = ["topic", "subject", "channel"].iter().find_map(|key| match of_bus.get(key) {
            Some(Value::String(topic)) => Some(self.bus.edgex_topic(topic)),
            _ => None,
        });
        let mut meta = Object::with_capacity(8);
        if let Some(topic) = topic {
            meta.insert("topic", Value::string(topic));
        }
        if let Some(headers) = of_bus.get("headers") {
            meta.insert("headers", headers.clone());
        }
        meta
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::build_source;
    use super::*;

    #[test]
    fn options() {
        for (datasource, options, expected) in [
            ("edgex/events/#", json!({}), "ok"),
            ("", json!({"topic": "edgex/events/#", "type": "nats-core", "messageType": "request"}), "ok"),
            ("edgex/#", json!({"type": "redis", "host": "h", "port": "6380"}), "ok"),
            ("", json!({}), "topic: give the topic"),
            ("a", json!({"type": "zero"}), "type: expected one of"),
            ("a", json!({"messageType": "both"}), "messageType: expected one of"),
            ("a/#/b", json!({}), "topic: `#` must be the last level"),
            ("a", json!({"optional": {"Qos": "3"}}), "optional.qos: expected"),
            ("a", json!({"optional": {"Quality": "3"}}), "optional.Quality: "),
            ("a", json!({"optional": {"Password": "p"}}), "optional.username: a password needs a user name"),
            ("a", json!({"port": 0.5}), "port: "),
        ] {
            let outcome = build_source(&TYPE, datasource, "json", options.clone())
                .err()
                .map_or_else(|| "ok".to_owned(), |error| error.to_string());
            assert!(outcome.starts_with(expected), "{options}: {outcome}");
        }
    }
}
