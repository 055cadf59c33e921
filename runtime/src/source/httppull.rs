//! Rows that are fetched from an HTTP server, again and again.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use sluice_sql::{Object, Value};
use smol_str::SmolStr;
use tokio::time::{Duration, Instant};

use super::{Gives, Ingest, Items, Payload, Source, SourceArgs, SourceContext, SourceType};
use crate::connection::Health;
use crate::connection::http::{HttpClient, parse_url};
use crate::connection::http_pull::{Pull, PullOptions};
use crate::error::{ConfigError, ConnectorError};
use crate::format::json::parse_value;
use crate::options::HumanDuration;
use crate::template::{Surroundings, Template};
use crate::time::Clock;

/// The `httppull` source.
pub const TYPE: SourceType = SourceType {
    name: "httppull",
    docs: "Answers of an HTTP server that is asked every `interval`; `DATASOURCE` is appended to `url`. The answer is in the stream's \
           `FORMAT`; 204, 404 and 410 mean that there is nothing. A request that fails is reported and tried again with growing \
           pauses. Without `interval`, the input ends after the first answer.",
    schema: crate::options::schema_of::<HttpPullOptions>,
    gives: Gives::Payloads,
    build,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct HttpPullOptions {
    /// The URL. May hold `{{.NAME}}` of `states`, and `{{.PullTime}}` and `{{.LastPullTime}}`: milliseconds since 1970, 0 at
    /// first.
    url: String,
    /// Time between the starts of two requests; 0 = once.
    #[serde(default)]
    interval: HumanDuration,
    /// Leave out an answer that is the same as the one before.
    #[serde(default)]
    incremental: bool,
    /// Values for `url` before the first answer; members of an answer of the same names take their place (JSON; of a list, the
    /// last one's). Not kept over a restart.
    #[serde(default)]
    states: serde_json::Map<String, serde_json::Value>,
    #[serde(flatten)]
    pull: PullOptions,
}

struct HttpPullSource {
    url: Template,
    interval: Duration,
    incremental: bool,
    states: Object,
    pull: Pull,
    connected: Option<Connected>,
    /// When to ask next; `None` when the input has ended.
    due: Option<Instant>,
    last_pull: i64,
    last_digest: Option<[u8; 32]>,
}

struct Connected {
    client: HttpClient,
    clock: Arc<dyn Clock>,
    health: Health,
}

fn build(args: &SourceArgs<'_>) -> Result<Box<dyn Source>, ConfigError> {
    let options: HttpPullOptions = args.options.parse()?;
    let pull = Pull::new(&options.pull)?;
    let url = format!("{}{}", options.url, args.datasource);
    if !url.contains("{{") {
        parse_url("url", &url)?;
    }
    let url = Template::parse(&url).map_err(|error| ConfigError::new("url", error.to_string()))?;
    let text = serde_json::to_vec(&options.states).unwrap_or_default();
    let states = parse_value(&text).ok().and_then(|states| states.to_object()).map(Arc::unwrap_or_clone);
    Ok(Box::new(HttpPullSource {
        url,
        interval: options.interval.0,
        incremental: options.incremental,
        states: states.unwrap_or_default(),
        pull,
        connected: None,
        due: Some(Instant::now()),
        last_pull: 0,
        last_digest: None,
    }))
}

#[async_trait]
impl Source for HttpPullSource {
    async fn connect(&mut self, ctx: &SourceContext) -> Result<(), ConnectorError> {
        let client = HttpClient::new(self.pull.tls(), &ctx.connector)?;
        // Whether the server answers shows with the first request.
        ctx.connector.health.connecting();
        self.connected =
            Some(Connected { client, clock: ctx.connector.clock.clone(), health: ctx.connector.health.clone() });
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Ingest>, ConnectorError> {
        let Some(Connected { client, clock, health }) = &self.connected else {
            return Err(ConnectorError::internal("httppull source is read before it is connected"));
        };
        loop {
            let Some(due) = self.due else { return Ok(None) };
            tokio::time::sleep_until(due).await;
            let now = clock.now();
            let mut values = self.states.clone();
            values.insert("PullTime", Value::Int(now));
            values.insert("LastPullTime", Value::Int(self.last_pull));
            let mut url = String::new();
            let rendered = self.url.render(&Value::Object(Arc::new(values)), &mut Surroundings::at(now), &mut url);
            rendered.map_err(|error| ConnectorError::user(format!("url: {error}")))?;
            let url = parse_url("url", &url).map_err(|error| ConnectorError::user(error.to_string()))?;
            let body = self.pull.send(client, url, now).await?;
            health.up();
            // No await from here on: what was fetched is not lost.
            self.last_pull = now;
            // A server that was away for long is not asked once for each time that it missed.
            self.due = (!self.interval.is_zero()).then(|| (due + self.interval).max(Instant::now()));
            let Some(body) = body else { continue };
            let digest: [u8; 32] = Sha256::digest(&body).into();
            if self.incremental && self.last_digest == Some(digest) {
                continue;
            }
            self.last_digest = Some(digest);
            learn(&mut self.states, &body);
            return Ok(Some(Ingest { items: Items::Payloads(vec![Payload { bytes: body, meta: None }]), ack: None }));
        }
    }

    async fn close(&mut self) {
        self.connected = None;
    }
}

/// Takes over what the answer says of the states. An answer that is no JSON says nothing.
fn learn(states: &mut Object, body: &Bytes) {
    if states.is_empty() {
        return;
    }
    let Ok(answer) = parse_value(body) else { return };
    let newest = match &answer {
        Value::Array(rows) => rows.last().and_then(Value::to_object),
        answer => answer.to_object(),
    };
    let Some(newest) = newest else { return };
    let names: Vec<SmolStr> = states.iter().map(|(name, _)| name.clone()).collect();
    for name in names {
        if let Some(value) = newest.get(&name) {
            states.insert(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests;
