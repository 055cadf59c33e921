//! `log`: messages as lines of the engine's log.

use async_trait::async_trait;

use super::{NoOptions, Output, Sink, SinkArgs, SinkError, SinkType, Takes};
use crate::connection::ConnectorContext;
use crate::error::{ConfigError, ConnectorError};

/// The sink `log`.
pub(super) const LOG: SinkType = SinkType {
    name: "log",
    docs: "Writes each message to the engine's log, at level info.",
    schema: crate::options::schema_of::<NoOptions>,
    takes: Takes::Messages,
    templates: &[],
    build,
};

struct LogSink {
    rule: String,
    name: String,
}

fn build(args: &SinkArgs<'_>) -> Result<Box<dyn Sink>, ConfigError> {
    let NoOptions {} = args.options.parse()?;
    Ok(Box::new(LogSink { rule: args.rule.to_owned(), name: format!("log_{}", args.index) }))
}

#[async_trait]
impl Sink for LogSink {
    async fn connect(&mut self, _ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        Ok(())
    }

    async fn write(&mut self, output: Output<'_>) -> Result<(), SinkError> {
        if let Output::Messages(messages) = output {
            for message in messages {
                tracing::info!(rule = self.rule, connector = self.name, "{}", String::from_utf8_lossy(&message.body));
            }
        }
        Ok(())
    }
}
