//! `nats`: messages to a NATS server.

use std::collections::BTreeMap;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Message, Output, Sink, SinkArgs, SinkError, SinkType, Takes};
use crate::connection::ConnectorContext;
use crate::connection::nats::{NatsOptions, Publish, Publisher, Settings, check_subject};
use crate::error::{ConfigError, ConnectorError};

/// The sink `nats`.
pub(super) const NATS: SinkType = SinkType {
    name: "nats",
    docs: "Publishes each message to `subject`, which may hold `{{...}}`. A message counts as written when the server has it; a \
           connection that breaks before that has the unconfirmed ones sent once more.",
    schema: crate::options::schema_of::<NatsSinkOptions>,
    takes: Takes::Messages,
    templates: &["subject", "headers"],
    build,
};

/// Places in [`SinkType::templates`].
const SUBJECT: usize = 0;
const HEADERS: usize = 1;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct NatsSinkOptions {
    #[serde(flatten)]
    connection: NatsOptions,
    /// Where to; may hold `{{...}}`.
    subject: String,
    /// Headers; their values may hold `{{...}}`.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

struct NatsSink {
    settings: Settings,
    publisher: Option<Publisher>,
}

fn build(args: &SinkArgs<'_>) -> Result<Box<dyn Sink>, ConfigError> {
    let options: NatsSinkOptions = args.options.parse()?;
    let (settings, mut error) = match options.connection.settings() {
        Ok(settings) => (Some(settings), ConfigError::default()),
        Err(error) => (None, error),
    };
    if !options.subject.contains("{{")
        && let Err(message) = check_subject(&options.subject, false)
    {
        error.push("subject", message);
    }
    for name in options.headers.keys() {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
            error.push("headers", "a header's name must be letters, digits and signs without a colon");
        }
    }
    match settings {
        Some(settings) if error.problems.is_empty() => Ok(Box::new(NatsSink { settings, publisher: None })),
        _ => Err(error),
    }
}

#[async_trait]
impl Sink for NatsSink {
    async fn connect(&mut self, ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        self.publisher = None;
        self.publisher = Some(Publisher::open(&self.settings, ctx).await?);
        Ok(())
    }

    async fn write(&mut self, output: Output<'_>) -> Result<(), SinkError> {
        let Output::Messages(messages) = output else { return Ok(()) };
        let Some(publisher) = &self.publisher else {
            return Err(ConnectorError::internal("nats sink is written to before it is connected").into());
        };
        let (mut publishes, mut refused) = (Vec::with_capacity(messages.len()), Vec::new());
        let mut reason = String::new();
        for (place, message) in messages.iter().enumerate() {
            match publish(message, publisher.max_payload()) {
                Ok(publish) => publishes.push(publish),
                Err(wrong) => {
                    refused.push(place);
                    reason = wrong;
                }
            }
        }
        publisher.publish(&publishes).await?;
        if refused.is_empty() { Ok(()) } else { Err(SinkError::Refused { items: refused, n_others: 0, reason }) }
    }

    async fn close(&mut self) {
        self.publisher = None;
    }
}

fn publish(message: &Message, max_payload: usize) -> Result<Publish, String> {
    let subject = message.props.text(SUBJECT);
    check_subject(subject, false)?;
    if message.body.len() > max_payload {
        return Err(format!("the message has {} bytes, and the server takes {max_payload}", message.body.len()));
    }
    let headers = message.props.entries(HEADERS).to_vec();
    Ok(Publish { subject: subject.to_owned(), headers, payload: message.body.clone() })
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
            (json!({"server": "b", "subject": "a.{{.id}}", "headers": {"X-Site": "{{.site}}"}}), "ok"),
            (json!({"server": "b"}), "subject: "),
            (json!({"server": "b", "subject": "a.*"}), "subject: subject \"a.*\" must not hold wildcards"),
            (json!({"server": "b", "subject": "a", "headers": {"a b": "c"}}), "headers: a header's name"),
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
