//! `nop`: takes rows and forgets them. For measuring, and for rules that are run for their side effects.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Output, Sink, SinkArgs, SinkError, SinkType, Takes};
use crate::connection::ConnectorContext;
use crate::error::{ConfigError, ConnectorError};
use crate::format::json_encoder;

/// The sink `nop`.
pub(super) const NOP: SinkType = SinkType {
    name: "nop",
    docs: "Takes rows and forgets them.",
    schema: crate::options::schema_of::<NopOptions>,
    takes: Takes::Rows,
    templates: &[],
    build,
};

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct NopOptions {
    /// Write the rows to the engine's log.
    log: bool,
}

struct NopSink {
    rule: String,
    log: bool,
}

fn build(args: &SinkArgs<'_>) -> Result<Box<dyn Sink>, ConfigError> {
    let NopOptions { log } = args.options.parse()?;
    Ok(Box::new(NopSink { rule: args.rule.to_owned(), log }))
}

#[async_trait]
impl Sink for NopSink {
    async fn connect(&mut self, _ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        Ok(())
    }

    async fn write(&mut self, output: Output<'_>) -> Result<(), SinkError> {
        if let (true, Output::Rows(batches)) = (self.log, output) {
            for batch in batches {
                for row in &batch.rows {
                    let mut text = Vec::new();
                    json_encoder::write_object(&batch.schema.to_object(row), &mut text);
                    tracing::info!(rule = self.rule, "{}", String::from_utf8_lossy(&text));
                }
            }
        }
        Ok(())
    }
}
