//! Sinks: one connector per file. No retry loops, format code, batching or channels here: those are `pipeline`'s.

mod influx;
mod influx2;
mod log;
mod memory;
mod mqtt;
mod nop;
mod points;
mod rest;
mod sse;
mod stdout;
mod websocket;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sluice_sql::{Batch, Schema};

use crate::connection::ConnectorContext;
use crate::error::{ConfigError, ConnectorError};
use crate::format::compression::Compression;
use crate::options::Options;

/// The sinks that are built in. A new one is a new file and a line here.
pub const BUILTIN: &[SinkType] = &[
    influx::INFLUX,
    influx2::INFLUX2,
    log::LOG,
    memory::MEMORY,
    mqtt::MQTT,
    nop::NOP,
    rest::REST,
    sse::SSE,
    stdout::STDOUT,
    websocket::WEBSOCKET,
];

/// A kind of sink.
#[derive(Clone)]
pub struct SinkType {
    /// The key of a rule's sink entry.
    pub name: &'static str,
    /// One paragraph for the reference page.
    pub docs: &'static str,
    /// JSON schema of its options, without those common to all sinks. A common option that it names all the same (`fields`,
    /// `compression`) is left to the sink.
    pub schema: fn() -> schemars::Schema,
    /// What `write` is called with.
    pub takes: Takes,
    /// Options whose text (or, for a map, the text of whose entries) may hold `{{...}}`; they are rendered per message and
    /// come in [`Message::props`] in this order. Row sinks render their own.
    pub templates: &'static [&'static str],
    /// Checks the options and makes the sink; no I/O.
    pub build: fn(&SinkArgs<'_>) -> Result<Box<dyn Sink>, ConfigError>,
}

/// What a sink takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Encoded messages.
    Messages,
    /// Rows.
    Rows,
}

/// What a sink is made from.
pub struct SinkArgs<'a> {
    /// The rule's name, for messages and default client ids.
    pub rule: &'a str,
    /// Its place among the rule's sinks.
    pub index: usize,
    /// The rule's rows, before the options common to all sinks change them.
    pub output: &'a Arc<Schema>,
    /// Options without those that are common to all sinks.
    pub options: &'a Options,
    /// The format of message bodies: `json`, ...
    pub format: &'a str,
    /// How message bodies are compressed.
    pub compression: Option<Compression>,
}

/// The options of a sink that has none.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoOptions {}

/// A connector that takes results out.
#[async_trait]
pub trait Sink: Send {
    /// Reaches the far side, or starts to. Called again after `write` failed with an error that is worth a retry.
    async fn connect(&mut self, ctx: &ConnectorContext) -> Result<(), ConnectorError>;

    /// Returns when the far side has accepted everything. No retry inside.
    async fn write(&mut self, output: Output<'_>) -> Result<(), SinkError>;

    /// Pushes out what the sink itself still holds.
    async fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Lets go of the far side.
    async fn close(&mut self) {}
}

/// What is written at once. Items, messages or rows, are counted over all of it.
#[derive(Clone, Copy)]
pub enum Output<'a> {
    /// For sinks that take `Takes::Messages`.
    Messages(&'a [Message]),
    /// For sinks that take `Takes::Rows`: batches in order.
    Rows(&'a [Arc<Batch>]),
}

/// One encoded message.
#[derive(Clone, Debug)]
pub struct Message {
    /// The body, after template, encoding and compression.
    pub body: Bytes,
    /// What [`SinkType::templates`] came to.
    pub props: Props,
    /// Rows that it carries, for the counters.
    pub n_rows: usize,
}

/// The rendered options of a message, in the order of [`SinkType::templates`]. Messages with the same ones may share them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Props(pub Arc<[Prop]>);

/// One rendered option.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Prop {
    /// The option is absent.
    None,
    /// Its text.
    Text(String),
    /// For an option that is a map (headers): its entries.
    Map(Vec<(String, String)>),
}

impl Props {
    /// The text of option number `idx`; empty if the option is absent or a map.
    pub fn text(&self, idx: usize) -> &str {
        match self.0.get(idx) {
            Some(Prop::Text(text)) => text,
            _ => "",
        }
    }

    /// The entries of option number `idx`; none if the option is absent or a text.
    pub fn entries(&self, idx: usize) -> &[(String, String)] {
        match self.0.get(idx) {
            Some(Prop::Map(entries)) => entries,
            _ => &[],
        }
    }
}

/// Why a write did not go through.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Nothing was written. If a retry is not worth it and the write held several items, the pipeline writes halves until it
    /// has found the one at fault.
    #[error(transparent)]
    Failed(#[from] ConnectorError),
    /// The first `n_written` items were written, the next one failed, and those behind it were not tried.
    #[error("{error}")]
    Stopped {
        /// Items that the far side has accepted.
        n_written: usize,
        /// Why the next one failed.
        error: ConnectorError,
    },
    /// Some items were refused for good; all others were written.
    #[error("{} refused: {reason}", items.len() + n_others)]
    Refused {
        /// Indexes of the refused rows or messages, as far as they are known.
        items: Vec<usize>,
        /// Further ones, of which it is only known how many they are.
        n_others: usize,
        /// What the far side said.
        reason: String,
    },
}
