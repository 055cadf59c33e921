//! Rows that clients push over HTTP.

use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use hyper::Method;
use hyper::header::{AUTHORIZATION, COOKIE, HeaderName, PROXY_AUTHORIZATION};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::{Gives, Ingest, Items, Source, SourceArgs, SourceContext, SourceType};
use crate::connection::http_server::access::{Access, AccessOptions, SignatureOptions};
use crate::connection::http_server::push::{ContentTypeRule, PushRoute};
use crate::connection::http_server::ticket::{AckRule, Ticket};
use crate::connection::http_server::{Handler, Pattern, Registration};
use crate::error::{ConfigError, ConnectorError};
use crate::options::{ByteSize, HumanDuration};

/// The `httppush` source.
pub const TYPE: SourceType = SourceType {
    name: "httppush",
    docs: "Bodies that clients push to the HTTP server of the process. `DATASOURCE` is the path; `/api/{site}/data` has a \
           variable in it. Several streams may be on one path: each gets the requests of its method. Options usually stand in \
           the profile file `httppush.yaml`. Metadata: `method`, `path`, `params` (the path's variables), `query`, `headers` \
           (those of `metaHeaders`), `remoteAddress`. What is answered when: [HTTP push](HTTPPUSH.md).",
    schema: crate::options::schema_of::<HttpPushOptions>,
    gives: Gives::Payloads,
    build,
};

/// Rows travel in batches of whatever has arrived, up to this many bodies or bytes. A client that waits until its own rows are
/// processed shares no batch.
const MAX_BODIES: usize = 256;
const MAX_BYTES: usize = 1 << 20;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct HttpPushOptions {
    /// The method: `POST` or `PUT`.
    #[serde(default)]
    method: PushMethod,
    /// Bodies that wait for the rules, at most. When it stays full, clients are told to come back later.
    #[serde(default = "default_buffer_length")]
    #[schemars(range(min = 1, max = 1_000_000))]
    buffer_length: usize,
    /// When a client is told that its rows have been taken: `accepted`, when they are with every rule that reads the stream (in
    /// the journal, if one has `qos` 1 or 2), or `processed`, when the rules are done with them and the sinks have taken what
    /// they caused.
    #[serde(default)]
    ack: AckRule,
    /// How long a client is kept waiting for room and for the confirmation.
    #[serde(default = "default_timeout")]
    timeout: HumanDuration,
    /// Longest body, packed or unpacked: `64Ki`, `1Mi` or a number of bytes. The server's own limit can't be exceeded.
    #[serde(default)]
    body_limit: Option<ByteSize>,
    /// What the `Content-Type` of a request is for: `ignore` it, `check` that it is one of the stream's `FORMAT` if it is
    /// there, or `override` the format with what it says.
    #[serde(default)]
    content_type: ContentTypeRule,
    /// Headers that `meta(headers)` shows, by lower-case name.
    #[serde(default)]
    meta_headers: Vec<String>,
    #[serde(flatten)]
    access: AccessOptions,
    #[serde(flatten)]
    signature: SignatureOptions,
}

fn default_buffer_length() -> usize {
    1024
}

fn default_timeout() -> HumanDuration {
    HumanDuration::from_secs(5)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum PushMethod {
    #[default]
    #[serde(alias = "post")]
    Post,
    #[serde(alias = "put")]
    Put,
}

struct HttpPushSource {
    pattern: Pattern,
    format: String,
    method: Method,
    buffer_length: usize,
    ack: AckRule,
    timeout: Duration,
    body_limit: Option<usize>,
    content_type: ContentTypeRule,
    meta_headers: Vec<HeaderName>,
    access: AccessOptions,
    signature: SignatureOptions,
    connected: Option<Connected>,
    /// What has been handed over and is not safe yet, by the number of its ingest.
    unacked: VecDeque<(u64, Vec<Ticket>)>,
    last_ack: u64,
}

struct Connected {
    queue: mpsc::Receiver<Ticket>,
    /// Goes with the queue.
    _registration: Registration,
}

fn build(args: &SourceArgs<'_>) -> Result<Box<dyn Source>, ConfigError> {
    let options: HttpPushOptions = args.options.parse()?;
    let mut error = ConfigError::default();
    let pattern = Pattern::parse(args.datasource).map_err(|message| error.push("datasource", message)).ok();
    if let Err(problems) = Access::new(&options.access, &options.signature) {
        error.problems.extend(problems.problems);
    }
    let mut meta_headers = Vec::new();
    for name in &options.meta_headers {
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(&name) => {
                error.push("metaHeaders", format!("{name} holds credentials, which stay out of rows"));
            }
            Ok(name) => meta_headers.push(name),
            Err(_) => error.push("metaHeaders", format!("{name:?} is no name of an HTTP header")),
        }
    }
    if options.body_limit == Some(ByteSize(0)) {
        error.push("bodyLimit", "must be more than nothing");
    }
    if options.timeout.is_zero() {
        error.push("timeout", "must be longer than nothing");
    }
    match pattern {
        Some(pattern) if error.problems.is_empty() => Ok(Box::new(HttpPushSource {
            pattern,
            format: args.format.to_owned(),
            method: match options.method {
                PushMethod::Post => Method::POST,
                PushMethod::Put => Method::PUT,
            },
            buffer_length: options.buffer_length,
            ack: options.ack,
            timeout: options.timeout.0,
            body_limit: options.body_limit.map(ByteSize::bytes),
            content_type: options.content_type,
            meta_headers,
            access: options.access,
            signature: options.signature,
            connected: None,
            unacked: VecDeque::new(),
            last_ack: 0,
        })),
        _ => Err(error),
    }
}

#[async_trait]
impl Source for HttpPushSource {
    async fn connect(&mut self, ctx: &SourceContext) -> Result<(), ConnectorError> {
        self.close().await;
        let server = ctx.connector.connections.server();
        server.listen(&ctx.connector).await?;
        let access = Access::new(&self.access, &self.signature);
        let mut access = access.map_err(|error| ConnectorError::internal(error.to_string()))?;
        access.set_clock(ctx.connector.clock.clone());
        let (sender, queue) = mpsc::channel(self.buffer_length);
        let route = PushRoute {
            method: self.method.clone(),
            access,
            format: self.format.clone(),
            content_type: self.content_type,
            body_limit: self.body_limit,
            meta_headers: self.meta_headers.clone(),
            wants_meta: ctx.wants_meta.clone(),
            ack: self.ack,
            timeout: self.timeout,
            queue: sender,
        };
        let registration = server.register(&self.pattern, &ctx.connector.name, Handler::Push(route.into()));
        self.connected = Some(Connected { queue, _registration: registration });
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Ingest>, ConnectorError> {
        let Some(Connected { queue, .. }) = &mut self.connected else {
            return Err(ConnectorError::internal("httppush source is read before it is connected"));
        };
        let max_bodies = if self.ack == AckRule::Processed { 1 } else { MAX_BODIES };
        loop {
            let Some(first) = queue.recv().await else {
                return Err(ConnectorError::internal("another stream of the same name has taken the path"));
            };
            let mut tickets = Vec::new();
            let mut requests = Vec::new();
            let mut n_bytes = 0;
            let mut next = Some(first);
            while let Some(mut ticket) = next.take() {
                n_bytes += ticket.n_bytes();
                if let Some(request) = ticket.take() {
                    requests.push(request);
                    tickets.push(ticket);
                }
                if requests.len() < max_bodies && n_bytes < MAX_BYTES {
                    next = queue.try_recv().ok();
                }
            }
            if requests.is_empty() {
                // All of them had waited too long.
                continue;
            }
            self.last_ack += 1;
            self.unacked.push_back((self.last_ack, tickets));
            return Ok(Some(Ingest { items: Items::Requests(requests), ack: Some(self.last_ack) }));
        }
    }

    fn ack(&mut self, ack: u64) {
        while self.unacked.front().is_some_and(|(number, _)| *number <= ack) {
            if let Some((_, tickets)) = self.unacked.pop_front() {
                tickets.iter().for_each(Ticket::accept);
            }
        }
    }

    async fn close(&mut self) {
        self.connected = None;
        self.unacked.clear();
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
            ("/api/data", json!({}), "ok"),
            (
                "/api/{site}/data",
                json!({"method": "put", "bufferLength": 10, "bodyLimit": "64Ki", "timeout": "2s"}),
                "ok",
            ),
            ("/a", json!({"bearerTokens": ["t"], "basicUsers": {"ada": "pw"}, "contentType": "override"}), "ok"),
            (
                "/a",
                json!({"hmacSecrets": ["k"], "hmacHeader": "X-Hub-Signature-256", "metaHeaders": ["X-Device"]}),
                "ok",
            ),
            ("/a", json!({"ack": "processed"}), "ok"),
            ("/a", json!({"ack": "sometimes"}), "ack: expected one of \"accepted\", \"processed\""),
            ("api", json!({}), "datasource: \"api\" is no path: it must begin with /"),
            ("/a", json!({"method": "GET"}), "method: "),
            ("/a", json!({"bodyLimit": "much"}), "bodyLimit: "),
            ("/a", json!({"bearerTokens": []}), "bearerTokens: is empty"),
            ("/a", json!({"metaHeaders": ["Authorization"]}), "metaHeaders: authorization holds credentials"),
            ("/a", json!({"metaHeaders": ["a b"]}), "metaHeaders: \"a b\" is no name"),
            ("/a", json!({"timeout": 0}), "timeout: must be longer than nothing"),
            ("/a", json!({"metod": "POST"}), "metod: "),
        ] {
            let outcome = build_source(&TYPE, datasource, "json", options.clone())
                .err()
                .map_or_else(|| "ok".to_owned(), |error| error.to_string());
            assert!(outcome.starts_with(expected), "{options}: {outcome}");
        }
    }
}
