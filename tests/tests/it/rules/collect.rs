//! A sink of the test's own: keeps each message as it was encoded, as a line.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use sluice::connection::ConnectorContext;
use sluice::sink::{Output, Sink, SinkError, SinkType, Takes};
use sluice::{ConnectorError, Registry};

/// The built-in connectors and the sink `collect`.
pub fn registry() -> Registry {
    Registry::builtin().with_sink(SinkType {
        name: "collect",
        docs: "Keeps messages for the test.",
        schema: schemars::Schema::default,
        takes: Takes::Messages,
        templates: &[],
        build: |_| Ok(Box::new(CollectSink)),
    })
}

/// Cases run one after the other, so that one list is enough.
static COLLECTED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What was written since the last call.
pub fn take() -> Vec<String> {
    std::mem::take(&mut *COLLECTED.lock().unwrap_or_else(PoisonError::into_inner))
}

struct CollectSink;

#[async_trait]
impl Sink for CollectSink {
    async fn connect(&mut self, ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        ctx.health.up();
        Ok(())
    }

    async fn write(&mut self, output: Output<'_>) -> Result<(), SinkError> {
        let Output::Messages(messages) = output else { return Ok(()) };
        let lines = messages.iter().map(|message| String::from_utf8(message.body.to_vec()).expect("messages are text"));
        COLLECTED.lock().unwrap_or_else(PoisonError::into_inner).extend(lines);
        Ok(())
    }
}
