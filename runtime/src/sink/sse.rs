//! `sse`: messages as server-sent events.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Output, Sink, SinkArgs, SinkError, SinkType, Takes};
use crate::connection::ConnectorContext;
use crate::connection::http_server::access::{Access, AccessOptions, SignatureOptions};
use crate::connection::http_server::events::Events;
use crate::connection::http_server::{Handler, Pattern, Registration};
use crate::error::{ConfigError, ConnectorError};

/// The sink `sse`.
pub(super) const SSE: SinkType = SinkType {
    name: "sse",
    docs: "Streams each message as a server-sent event to everybody who has a GET open on `path` of the process's HTTP server. \
           Whoever comes later, or falls more than 1024 messages or 4 MiB behind and is cut off, misses what was sent meanwhile.",
    schema: crate::options::schema_of::<SseOptions>,
    takes: Takes::Messages,
    templates: &[],
    build,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SseOptions {
    /// The path: begins with `/`. Also called `endpoint`.
    #[serde(alias = "endpoint")]
    #[schemars(extend("x-alias" = "endpoint"))]
    path: String,
    /// Pages of these origins may read the events in a browser (`Access-Control-Allow-Origin`); `*` stands for all.
    #[serde(default)]
    allow_origins: Vec<String>,
    #[serde(flatten)]
    access: AccessOptions,
}

struct SseSink {
    pattern: Pattern,
    access: AccessOptions,
    origins: Vec<String>,
    connected: Option<Connected>,
}

struct Connected {
    events: Arc<Events>,
    name: Arc<str>,
    _registration: Registration,
}

fn build(args: &SinkArgs<'_>) -> Result<Box<dyn Sink>, ConfigError> {
    let options: SseOptions = args.options.parse()?;
    let mut problems = ConfigError::default();
    if let Err(error) = Access::new(&options.access, &SignatureOptions::default()) {
        problems.problems.extend(error.problems);
    }
    let pattern = Pattern::parse(&options.path).map_err(|message| problems.push("path", message)).ok();
    match pattern {
        Some(pattern) if problems.problems.is_empty() => {
            let (access, origins) = (options.access, options.allow_origins);
            Ok(Box::new(SseSink { pattern, access, origins, connected: None }))
        }
        _ => Err(problems),
    }
}

#[async_trait]
impl Sink for SseSink {
    async fn connect(&mut self, ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        self.close().await;
        let server = ctx.connections.server();
        server.listen(ctx).await?;
        let access = Access::new(&self.access, &SignatureOptions::default());
        let access = access.map_err(|error| ConnectorError::internal(error.to_string()))?;
        let events = Arc::new(Events::new(access, self.origins.clone()));
        let registration = server.register(&self.pattern, &ctx.name, Handler::Events(Arc::clone(&events)));
        self.connected = Some(Connected { events, name: Arc::clone(&ctx.name), _registration: registration });
        Ok(())
    }

    async fn write(&mut self, output: Output<'_>) -> Result<(), SinkError> {
        let (Output::Messages(messages), Some(Connected { events, name, .. })) = (output, &self.connected) else {
            return Err(ConnectorError::internal("write before connect").into());
        };
        for message in messages {
            let n_slow = events.send(&message.body);
            if n_slow > 0 {
                tracing::warn!(connector = %name, n_slow, "clients are too slow and were cut off");
            }
        }
        // Clients take what is there between two writes.
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn close(&mut self) {
        if let Some(Connected { events, .. }) = self.connected.take() {
            events.close();
        }
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
            (json!({"path": "/events"}), "ok"),
            (json!({"endpoint": "/e/{id}", "basicUsers": {"a": "b"}, "allowOrigins": ["*"]}), "ok"),
            (json!({"path": "events"}), "path: \"events\" is no path"),
            (json!({}), "path: "),
            (json!({"path": "/e", "bearerTokens": [""]}), "bearerTokens[0]: is empty"),
        ] {
            let output = Arc::default();
            let options = Options::from(options);
            let args =
                SinkArgs { rule: "r", index: 0, output: &output, options: &options, format: "json", compression: None };
            let outcome = build(&args).err().map_or_else(|| "ok".to_owned(), |error| error.to_string());
            assert!(outcome.starts_with(expected), "{options:?}: {outcome}");
        }
    }
}
