//! `redisPub`: messages published in Redis.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Output, Sink, SinkArgs, SinkError, SinkType, Takes};
use crate::connection::ConnectorContext;
use crate::connection::redis::{RedisClient, RedisConnection, RedisOptions};
use crate::error::{ConfigError, ConnectorError};

/// The sink `redisPub`.
pub(super) const REDIS_PUB: SinkType = SinkType {
    name: "redisPub",
    docs: "Publishes each message in Redis, on `channel`, which may hold `{{...}}`. Nobody need be listening.",
    schema: crate::options::schema_of::<RedisPubOptions>,
    takes: Takes::Messages,
    templates: &["channel"],
    build,
};

/// Longest time for one write.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Place in [`SinkType::templates`].
const CHANNEL: usize = 0;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RedisPubOptions {
    #[serde(flatten)]
    server: RedisOptions,
    /// The number of the database. Channels are the same in all of them.
    #[serde(default)]
    db: i64,
    /// Where to; may hold `{{...}}`.
    channel: String,
}

struct RedisPubSink {
    options: RedisPubOptions,
    connected: Option<(Arc<RedisClient>, u64, RedisConnection)>,
}

fn build(args: &SinkArgs<'_>) -> Result<Box<dyn Sink>, ConfigError> {
    let options: RedisPubOptions = args.options.parse()?;
    RedisClient::new(&options.server, options.db, TIMEOUT)?;
    if options.channel.is_empty() {
        return Err(ConfigError::new("channel", "must not be empty"));
    }
    Ok(Box::new(RedisPubSink { options, connected: None }))
}

#[async_trait]
impl Sink for RedisPubSink {
    async fn connect(&mut self, ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        let stale = self.connected.take().map_or(0, |(_, number, _)| number);
        let client = RedisClient::shared(&ctx.connections, &self.options.server, self.options.db, TIMEOUT)
            .map_err(|error| ConnectorError::user(error.to_string()))?;
        let (number, connection) = client.connect(stale).await?;
        self.connected = Some((client, number, connection));
        Ok(())
    }

    async fn write(&mut self, output: Output<'_>) -> Result<(), SinkError> {
        let Output::Messages(messages) = output else { return Ok(()) };
        let Some((client, _, connection)) = &mut self.connected else {
            return Err(ConnectorError::internal("redisPub sink is written to before it is connected").into());
        };
        let (mut commands, mut places, mut refused, mut reason) = (Vec::new(), Vec::new(), Vec::new(), String::new());
        for (place, message) in messages.iter().enumerate() {
            let channel = message.props.text(CHANNEL);
            if channel.is_empty() {
                refused.push(place);
                "the channel is empty".clone_into(&mut reason);
                continue;
            }
            let mut command = redis::cmd("PUBLISH");
            command.arg(channel).arg(&message.body[..]);
            commands.push(command);
            places.push(place);
        }
        let outcomes = connection.run_all(commands).await.map_err(|error| client.error(&error))?;
        for (place, outcome) in places.into_iter().zip(outcomes) {
            if let Err(error) = outcome {
                refused.push(place);
                reason = client.error(&error).message;
            }
        }
        refused.sort_unstable();
        if refused.is_empty() { Ok(()) } else { Err(SinkError::Refused { items: refused, n_others: 0, reason }) }
    }

    async fn close(&mut self) {
        self.connected = None;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::options::Options;

    #[test]
    fn options() {
        for (options, expected) in [
            (json!({"addr": "b:6379", "channel": "a.{{.id}}"}), "ok"),
            (json!({"address": "b:6379", "channel": "a", "db": 2}), "ok"),
            (json!({"addr": "b:6379"}), "channel: "),
            (json!({"addr": "b:6379", "channel": ""}), "channel: must not be empty"),
            (json!({"addr": "a:1,b:2", "channel": "x"}), "addr: several addresses are for a cluster"),
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
