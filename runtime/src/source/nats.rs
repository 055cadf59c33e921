//! Messages from NATS.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::{Object, Value};

use super::{Gives, Ingest, Items, Payload, Source, SourceArgs, SourceContext, SourceType};
use crate::connection::nats::{Link, Message, NatsOptions, Settings, check_subject};
use crate::error::{ConfigError, ConnectorError};

/// The `nats` source.
pub const TYPE: SourceType = SourceType {
    name: "nats",
    docs: "Messages of a NATS server. `DATASOURCE` is a subject, or several with commas between them; `*` stands for any word, `>` at \
           the end for any further ones. NATS keeps nothing for a client that is away. A slow rule holds the server back, which \
           keeps what it has room for and then cuts the connection; it is made anew. Metadata: `subject`, `reply`, `headers`.",
    schema: crate::options::schema_of::<NatsSourceOptions>,
    gives: Gives::Payloads,
    build,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct NatsSourceOptions {
    #[serde(flatten)]
    connection: NatsOptions,
    /// Sources of one group share the messages, each of which goes to one of them.
    #[serde(default)]
    queue_group: Option<String>,
}

struct NatsSource {
    settings: Settings,
    subjects: Vec<String>,
    group: Option<String>,
    connected: Option<(Link, SourceContext)>,
}

fn build(args: &SourceArgs<'_>) -> Result<Box<dyn Source>, ConfigError> {
    let options: NatsSourceOptions = args.options.parse()?;
    let (settings, mut error) = match options.connection.settings() {
        Ok(settings) => (Some(settings), ConfigError::default()),
        Err(error) => (None, error),
    };
    let mut subjects: Vec<String> = Vec::new();
    for subject in args.datasource.split(',').map(str::trim) {
        match check_subject(subject, true) {
            Ok(()) if subjects.iter().any(|known| known == subject) => {}
            Ok(()) => subjects.push(subject.to_owned()),
            Err(message) => error.push("datasource", message),
        }
    }
    if options.queue_group.as_deref().is_some_and(|group| check_subject(group, false).is_err()) {
        error.push("queueGroup", "must be a word without white space and wildcards");
    }
    match settings {
        Some(settings) if error.problems.is_empty() => {
            Ok(Box::new(NatsSource { settings, subjects, group: options.queue_group, connected: None }))
        }
        _ => Err(error),
    }
}

#[async_trait]
impl Source for NatsSource {
    async fn connect(&mut self, ctx: &SourceContext) -> Result<(), ConnectorError> {
        self.connected = None;
        let mut link = Link::open(&self.settings).await?;
        for (id, subject) in self.subjects.iter().enumerate() {
            link.subscribe(id + 1, subject, self.group.as_deref());
        }
        link.confirm().await?;
        self.connected = Some((link, ctx.clone()));
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Ingest>, ConnectorError> {
        let Some((link, context)) = &mut self.connected else {
            return Err(ConnectorError::internal("nats source is read before it is connected"));
        };
        let messages = link.next().await?;
        let wants_meta = context.wants_meta.load(Ordering::Relaxed);
        let payload = |message: Message| {
            let meta = wants_meta.then(|| Arc::new(metadata(&message)));
            Payload { bytes: message.payload, meta }
        };
        Ok(Some(Ingest { items: Items::Payloads(messages.into_iter().map(payload).collect()), ack: None }))
    }

    async fn close(&mut self) {
        self.connected = None;
    }
}

fn metadata(message: &Message) -> Object {
    let mut meta = Object::with_capacity(3);
    meta.insert("subject", Value::string(message.subject.as_str()));
    if let Some(reply) = &message.reply {
        meta.insert("reply", Value::string(reply.as_str()));
    }
    let headers: Object =
        message.headers.iter().map(|(name, value)| (name.as_str(), Value::string(value.as_str()))).collect();
    meta.insert("headers", Value::Object(Arc::new(headers)));
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
            ("a.*, b.>", json!({"server": "b", "queueGroup": "g"}), "ok"),
            ("a", json!({}), "server: "),
            ("a..b", json!({"server": "b"}), "datasource: subject \"a..b\" has an empty word"),
            ("", json!({"server": "b"}), "datasource: subject is empty"),
            ("a", json!({"server": "b", "queueGroup": "a b"}), "queueGroup: must be a word"),
            ("a", json!({"server": "b", "qos": 1}), "qos: "),
        ] {
            let outcome = build_source(&TYPE, datasource, "json", options.clone())
                .err()
                .map_or_else(|| "ok".to_owned(), |error| error.to_string());
            assert!(outcome.starts_with(expected), "{options}: {outcome}");
        }
    }
}
