//! Sources: one connector per file. No retry loops, format code or channels here: those are `pipeline`'s.

pub mod edgex;
pub mod file;
pub mod httppull;
pub mod httppush;
pub mod memory;
pub mod mqtt;
pub mod nats;
pub mod redis_sub;
pub mod simulator;
pub mod websocket;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use bytes::Bytes;
use sluice_sql::{Object, Timestamp};

use crate::connection::ConnectorContext;
use crate::error::{ConfigError, ConnectorError};
use crate::format::{DecodeArgs, Decoder, FormatError};
use crate::options::Options;

/// The sources that are built in. A new one is a new file and a line here.
pub const BUILTIN: &[SourceType] = &[
    edgex::TYPE,
    file::TYPE,
    httppull::TYPE,
    httppush::TYPE,
    memory::TYPE,
    mqtt::TYPE,
    nats::TYPE,
    redis_sub::TYPE,
    simulator::TYPE,
    websocket::TYPE,
];

/// A kind of source: its name, its config, how it is made.
#[derive(Clone)]
pub struct SourceType {
    /// `TYPE` of a stream.
    pub name: &'static str,
    /// One paragraph for the reference page.
    pub docs: &'static str,
    /// JSON schema of its options.
    pub schema: fn() -> schemars::Schema,
    /// What `next` gives.
    pub gives: Gives,
    /// Checks the options and makes the source; no I/O.
    pub build: fn(&SourceArgs<'_>) -> Result<Box<dyn Source>, ConfigError>,
}

/// What a source gives.
#[derive(Clone, Copy, Debug)]
pub enum Gives {
    /// Bytes that the stream's format decodes.
    Payloads,
    /// Bytes in a format of the connector's own, whatever `FORMAT` says.
    Own(MakeOwnDecoder),
    /// Rows; the format has no part in it.
    Rows,
}

/// Makes the decoder of a connector's own format, by the connector's options.
pub type MakeOwnDecoder = fn(&Options, &DecodeArgs<'_>) -> Result<Box<dyn Decoder>, ConfigError>;

/// What a source is made from.
pub struct SourceArgs<'a> {
    /// The stream's name, for messages.
    pub stream: &'a str,
    /// `DATASOURCE`
    pub datasource: &'a str,
    /// `FORMAT`, for sources that split their input by it.
    pub format: &'a str,
    /// Options without those that are common to all sources.
    pub options: &'a Options,
}

/// A connector that brings rows in.
#[async_trait]
pub trait Source: Send {
    /// Reaches the far side, or starts to: a source whose client connects by itself may return before it is connected, and
    /// says so with [`Health::connecting`](crate::connection::Health::connecting). Called again after `next` failed.
    async fn connect(&mut self, ctx: &SourceContext) -> Result<(), ConnectorError>;

    /// Whatever has arrived, as soon as something has; `None` when a bounded source has ended. Cancel-safe: dropping the
    /// future loses nothing.
    async fn next(&mut self) -> Result<Option<Ingest>, ConnectorError>;

    /// Everything up to and with the ingest that carried `ack` is safe and may be acknowledged to the far side.
    fn ack(&mut self, _ack: u64) {}

    /// What has been handed to the source within the process, and did not come out of `next` yet, when the feed is to stop.
    /// Nothing for sources whose far side is outside.
    fn drain(&mut self) -> Option<Ingest> {
        None
    }

    /// By what each message of the newest ingest is known if the far side delivers it again: one per payload, or none at all.
    fn take_marks(&mut self) -> Vec<Mark> {
        Vec::new()
    }

    /// Where the source stands behind the newest ingest, if it can begin again there.
    fn position(&self) -> Option<String> {
        None
    }

    /// True if it gives the same, in the same portions, whenever it is read, and then ends.
    fn is_finite(&self) -> bool {
        false
    }

    /// What a rule with this `qos` (1 or 2) can't promise because of this source, a sentence each.
    fn limits(&self, _qos: u8) -> Vec<String> {
        Vec::new()
    }

    /// Begin at a position that was given out before. Called before `connect`, if at all.
    fn resume(&mut self, _position: &str) {}

    /// Lets go of the far side.
    async fn close(&mut self) {}
}

/// By what a message is known if it is delivered again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The same for the same message; 0 for one that is never delivered again.
    pub id: u64,
    /// The far side says that it may have delivered the message before.
    pub may_be_again: bool,
}

/// A source's surroundings.
#[derive(Clone)]
pub struct SourceContext {
    /// Shared clients, tasks, clock.
    pub connector: ConnectorContext,
    /// True while some rule reads `meta()`: sources need not collect metadata otherwise.
    pub wants_meta: Arc<AtomicBool>,
}

/// What has arrived, in order.
#[derive(Debug)]
pub struct Ingest {
    /// Rows, or bytes to decode.
    pub items: Items,
    /// To be handed to [`Source::ack`]; grows. `None` if the source has nothing to acknowledge.
    pub ack: Option<u64>,
}

/// Rows, or bytes to decode.
#[derive(Debug)]
pub enum Items {
    /// From sources that give `Gives::Payloads` or `Gives::Own`.
    Payloads(Vec<Payload>),
    /// From sources that give `Gives::Payloads`, and whose senders wait to hear what became of each.
    Requests(Vec<Request>),
    /// From sources that give `Gives::Rows`.
    Rows(Vec<SourceRow>),
}

/// One message.
#[derive(Clone, Debug)]
pub struct Payload {
    /// The body.
    pub bytes: Bytes,
    /// What `meta()` reads; only while [`SourceContext::wants_meta`].
    pub meta: Option<Arc<Object>>,
}

/// A message whose sender waits for an answer.
#[derive(Clone, Debug)]
pub struct Request {
    /// The message.
    pub payload: Payload,
    /// The format of this one, if it is not the stream's.
    pub format: Option<&'static str>,
    /// Hears how the message was read. That its rows are safe is for [`Source::ack`] to say.
    pub reply: Arc<dyn Reply>,
}

/// Hears how a message was read.
pub trait Reply: std::fmt::Debug + Send + Sync {
    /// It came to so many rows.
    fn decoded(&self, n_rows: usize);

    /// It can't be read, and why.
    fn refused(&self, error: &FormatError);

    /// True if the sender waits until the sinks have taken what the message caused.
    fn waits_for_sinks(&self) -> bool {
        false
    }

    /// What became of its rows; only for senders that wait for it.
    fn processed(&self, _outcome: &Processed) {}
}

/// What became of rows whose sender waits until they are processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Processed {
    /// Every rule is done with them, and every sink has taken what they caused.
    Taken,
    /// Some of it will never be taken, by whom or why.
    Refused(String),
    /// A rule or sink ended before it had taken them.
    Lost,
}

/// One row that needs no decoding.
#[derive(Clone, Debug)]
pub struct SourceRow {
    /// Columns.
    pub object: Arc<Object>,
    /// What `meta()` reads.
    pub meta: Option<Arc<Object>>,
    /// The row's own time, where the connector has one; else it is stamped on arrival.
    pub ts: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    //! What the tests of all sources share.

    use super::*;
    use crate::connection::{Connections, Health, Tasks};
    use crate::time::SystemClock;

    pub fn context() -> SourceContext {
        let connector = ConnectorContext {
            name: "test".into(),
            connections: Connections::default(),
            clock: Arc::new(SystemClock),
            tasks: Tasks::default(),
            health: Health::default(),
        };
        SourceContext { connector, wants_meta: Arc::new(AtomicBool::new(true)) }
    }

    pub fn build_source(
        source_type: &SourceType,
        datasource: &str,
        format: &str,
        options: serde_json::Value,
    ) -> Result<Box<dyn Source>, ConfigError> {
        (source_type.build)(&SourceArgs { stream: "s", datasource, format, options: &Options::from(options) })
    }

    /// Connects and reads `n_items` rows or payloads, or up to the end; each as its text.
    pub async fn drain_as_json(source: &mut dyn Source, n_items: usize) -> Vec<String> {
        source.connect(&context()).await.unwrap();
        read_as_json(source, n_items).await
    }

    /// Reads on.
    pub async fn read_as_json(source: &mut dyn Source, n_items: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < n_items
            && let Some(ingest) = source.next().await.unwrap()
        {
            match ingest.items {
                Items::Payloads(payloads) => {
                    texts.extend(payloads.iter().map(|payload| String::from_utf8_lossy(&payload.bytes).into_owned()));
                }
                Items::Requests(requests) => {
                    let text = |request: &Request| String::from_utf8_lossy(&request.payload.bytes).into_owned();
                    texts.extend(requests.iter().map(text));
                }
                Items::Rows(rows) => {
                    for row in rows {
                        let mut text = Vec::new();
                        crate::format::json_encoder::write_object(&row.object, &mut text);
                        texts.push(String::from_utf8(text).unwrap());
                    }
                }
            }
        }
        texts
    }
}
