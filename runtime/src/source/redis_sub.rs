//! Messages published in Redis.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::{Object, Value};

use super::{Gives, Ingest, Items, Payload, Source, SourceArgs, SourceContext, SourceType};
use crate::connection::redis::{RedisClient, RedisOptions};
use crate::connection::redis_subscriber::{Published, RedisSubscriber};
use crate::error::{ConfigError, ConnectorError};

/// The `redisSub` source.
pub const TYPE: SourceType = SourceType {
    name: "redisSub",
    docs: "Messages that are published in Redis. The channels are `channels`, else `DATASOURCE`, which may name several with commas \
           between them; `*`, `?` and `[...]` are Redis's wildcards. Redis keeps nothing for a client that is away. A slow rule \
           holds the server back, which keeps what it has room for and then cuts the connection; it is made anew. Metadata: \
           `channel`.",
    schema: crate::options::schema_of::<RedisSubOptions>,
    gives: Gives::Payloads,
    build,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RedisSubOptions {
    #[serde(flatten)]
    server: RedisOptions,
    /// The number of the database. Channels are the same in all of them.
    #[serde(default)]
    db: i64,
    /// The channels, with wildcards.
    #[serde(default)]
    channels: Vec<String>,
}

struct RedisSubSource {
    client: RedisClient,
    channels: Vec<String>,
    connected: Option<(RedisSubscriber, SourceContext)>,
}

fn build(args: &SourceArgs<'_>) -> Result<Box<dyn Source>, ConfigError> {
    let options: RedisSubOptions = args.options.parse()?;
    let client = RedisClient::new(&options.server, options.db, Duration::from_secs(10))?;
    let mut channels = options.channels;
    if channels.is_empty() {
        channels = args.datasource.split(',').map(|channel| channel.trim().to_owned()).collect();
    }
    channels.sort_unstable();
    channels.dedup();
    if channels.iter().any(String::is_empty) {
        return Err(ConfigError::new("datasource", "expected the channel to listen to, or several with commas"));
    }
    Ok(Box::new(RedisSubSource { client, channels, connected: None }))
}

#[async_trait]
impl Source for RedisSubSource {
    async fn connect(&mut self, ctx: &SourceContext) -> Result<(), ConnectorError> {
        self.connected = None;
        let subscriber = RedisSubscriber::open(&self.client, &self.channels).await?;
        self.connected = Some((subscriber, ctx.clone()));
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Ingest>, ConnectorError> {
        let Some((subscriber, context)) = &mut self.connected else {
            return Err(ConnectorError::internal("redisSub source is read before it is connected"));
        };
        let messages = subscriber.next().await?;
        let wants_meta = context.wants_meta.load(Ordering::Relaxed);
        let payload = |Published { channel, payload }: Published| {
            let channel = || Value::string(String::from_utf8_lossy(&channel));
            let meta = wants_meta.then(|| Arc::new(Object::from_iter([("channel", channel())])));
            Payload { bytes: payload, meta }
        };
        Ok(Some(Ingest { items: Items::Payloads(messages.into_iter().map(payload).collect()), ack: None }))
    }

    async fn close(&mut self) {
        self.connected = None;
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
            ("a.*, b", json!({"addr": "b:6379"}), "ok"),
            ("", json!({"address": "b:6379", "db": 3, "channels": ["x"]}), "ok"),
            ("", json!({"addr": "b:6379"}), "datasource: expected the channel"),
            ("a", json!({}), "addr: "),
            ("a", json!({"addr": "http://b"}), "addr: expected host:port"),
        ] {
            let outcome = build_source(&TYPE, datasource, "json", options.clone())
                .err()
                .map_or_else(|| "ok".to_owned(), |error| error.to_string());
            assert!(outcome.starts_with(expected), "{options}: {outcome}");
        }
    }
}
