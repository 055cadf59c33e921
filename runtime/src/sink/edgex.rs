//! `edgex`: results as events on EdgeX Foundry's message bus.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::value::Emissions;
use sluice_sql::{Batch, Object, Value};
use uuid::Uuid;

use super::{Message, Output, Prop, Props, Sink, SinkArgs, SinkError, SinkType, Takes, mqtt, nats, redis_pub};
use crate::connection::ConnectorContext;
use crate::connection::edgex::{Bus, EdgexOptions, NatsFormat, Side, renamed};
use crate::error::{ConfigError, ConnectorError};
use crate::format::edgex::MessageType;
use crate::format::edgex::write::{ContentType, Event, Names, Release, Stamp, Writer};
use crate::template::{Surroundings, TextOption};
use crate::time::Clock;

/// The sink `edgex`.
pub(super) const EDGEX: SinkType = SinkType {
    name: "edgex",
    docs: "Publishes each result as an event on EdgeX Foundry's message bus, with a reading per column; the rows of one result make one \
           event. A column's type follows its value (bigint: Int64, float: Float64, string: String, boolean: Bool, bytea: Binary, \
           struct: Object, arrays by their elements), unless `metadata` names a column with another one. Null columns are left \
           out. See [EdgeX Foundry](EDGEX.md).",
    schema: crate::options::schema_of::<EdgexSinkOptions>,
    takes: Takes::Rows,
    templates: &[],
    build,
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct EdgexSinkOptions {
    #[serde(flatten)]
    bus: EdgexOptions,
    /// Where to, in EdgeX's words on every bus; may be a template over the row. `application` by default.
    #[serde(default)]
    topic: Option<String>,
    /// Instead of `topic`: events go to `PREFIX/profile/device/source`.
    #[serde(default)]
    topic_prefix: Option<String>,
    /// `event`, or `request` for an AddEventRequest.
    #[serde(default = "default_message_type")]
    message_type: MessageType,
    /// How the event is encoded: `application/json` or `application/cbor`.
    #[serde(default)]
    content_type: ContentType,
    /// Whose messages these are to be: `2`, `3` (which EdgeX 4 reads too) or `4`.
    #[serde(default = "default_version")]
    #[schemars(range(min = 2, max = 4))]
    edgex_version: u8,
    /// The event's device, where `metadata` does not tell.
    #[serde(default = "default_name")]
    device_name: String,
    /// The event's profile, where `metadata` does not tell.
    #[serde(default = "default_name")]
    profile_name: String,
    /// The event's source, where `metadata` does not tell; the rule's name by default.
    #[serde(default)]
    source_name: Option<String>,
    /// The column that holds `meta(*)` of an EdgeX event: names, ids, origins, tags and value types are taken from it.
    #[serde(default)]
    metadata: Option<String>,
}

fn default_message_type() -> MessageType {
    MessageType::Event
}

fn default_version() -> u8 {
    3
}

fn default_name() -> String {
    "sluice".to_owned()
}

/// Where events go.
enum Topic {
    Text(TextOption),
    Prefix(String),
}

struct EdgexSink {
    bus: Bus,
    nats_format: NatsFormat,
    topic: Topic,
    writer: Writer,
    inner: Box<dyn Sink>,
    clock: Option<Arc<dyn Clock>>,
}

fn build(args: &SinkArgs<'_>) -> Result<Box<dyn Sink>, ConfigError> {
    let options: EdgexSinkOptions = args.options.parse()?;
    let release = match options.edgex_version {
        2 => Release::V2,
        3 => Release::V3,
        4 => Release::V4,
        _ => return Err(ConfigError::new("edgexVersion", "expected 2, 3 or 4")),
    };
    let topic = match (&options.topic, options.topic_prefix) {
        (Some(_), Some(_)) => return Err(ConfigError::new("topicPrefix", "give topic or topicPrefix, not both")),
        (None, Some(prefix)) => Topic::Prefix(prefix.trim_end_matches('/').to_owned()),
        (topic, None) => Topic::Text(TextOption::new("topic", topic.as_deref().unwrap_or("application"))?),
    };
    let bus = options.bus.bus;
    let inner_type = match bus {
        Bus::Mqtt => mqtt::MQTT,
        Bus::NatsCore | Bus::NatsJetstream => nats::NATS,
        Bus::Redis => redis_pub::REDIS_PUB,
    };
    let inner_options = options.bus.inner(Side::Sink)?;
    let inner = (inner_type.build)(&SinkArgs { options: &inner_options, ..*args }).map_err(renamed)?;
    Ok(Box::new(EdgexSink {
        bus,
        nats_format: options.bus.optional.format,
        topic,
        writer: Writer {
            release,
            message_type: options.message_type,
            content_type: options.content_type,
            names: Names {
                device: options.device_name,
                profile: options.profile_name,
                source: options.source_name.unwrap_or_else(|| args.rule.to_owned()),
            },
            metadata: options.metadata,
        },
        inner,
        clock: None,
    }))
}

#[async_trait]
impl Sink for EdgexSink {
    async fn connect(&mut self, ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        self.clock = Some(Arc::clone(&ctx.clock));
        self.inner.connect(ctx).await
    }

    async fn write(&mut self, output: Output<'_>) -> Result<(), SinkError> {
        let (Output::Rows(batches), Some(clock)) = (output, &self.clock) else {
            return Err(ConnectorError::internal("edgex sink is written to before it is connected").into());
        };
        let now = clock.now();
        let (mut messages, mut places) = (Vec::new(), Vec::new());
        let (mut refused, mut reason) = (Vec::new(), String::new());
        let mut n_before = 0;
        for batch in batches {
            for rows in results(batch) {
                let place = n_before + rows.start..n_before + rows.end;
                match self.message(batch, rows, now) {
                    Ok(message) => {
                        messages.push(message);
                        places.push(place);
                    }
                    Err(wrong) => {
                        refused.extend(place);
                        reason = wrong;
                    }
                }
            }
            n_before += batch.rows.len();
        }
        let place_of = |idx: usize| places.get(idx).cloned().unwrap_or(n_before..n_before);
        let mut n_others = 0;
        match self.inner.write(Output::Messages(&messages)).await {
            Ok(()) => {}
            // What was refused before is tried, and refused, once more.
            Err(SinkError::Failed(error)) => return Err(error.into()),
            Err(SinkError::Stopped { n_written, error }) => {
                let n_written = place_of(n_written).start.min(refused.first().copied().unwrap_or(usize::MAX));
                return Err(SinkError::Stopped { n_written, error });
            }
            Err(SinkError::Refused { items, n_others: others, reason: why }) => {
                refused.extend(items.into_iter().flat_map(place_of));
                (n_others, reason) = (others, why);
            }
        }
        refused.sort_unstable();
        if refused.is_empty() && n_others == 0 {
            Ok(())
        } else {
            Err(SinkError::Refused { items: refused, n_others, reason })
        }
    }

    async fn flush(&mut self) -> Result<(), SinkError> {
        self.inner.flush().await
    }

    async fn close(&mut self) {
        self.inner.close().await;
    }
}

/// The results of a batch, as ranges of its rows.
fn results(batch: &Batch) -> Vec<Range<usize>> {
    match &batch.emissions {
        Emissions::PerRow => (0..batch.rows.len()).map(|row_idx| row_idx..row_idx + 1).collect(),
        Emissions::Grouped(emissions) => {
            let mut start = 0;
            let ranges = emissions.iter().map(|emission| std::mem::replace(&mut start, emission.end)..emission.end);
            ranges.filter(|range| !range.is_empty()).collect()
        }
    }
}

impl EdgexSink {
    fn message(&self, batch: &Batch, rows: Range<usize>, now: i64) -> Result<Message, String> {
        let rows = batch.rows.get(rows).unwrap_or_default();
        let objects: Vec<Object> = rows.iter().map(|row| batch.schema.to_object(row)).collect();
        let mut new_id = || Uuid::new_v4().to_string();
        let mut stamp = Stamp { origin: now.saturating_mul(1_000_000), new_id: &mut new_id };
        let event = self.writer.event(&objects, &mut stamp)?;
        let topic = self.topic(&event, objects.first(), now)?;
        let by_headers = matches!(self.bus, Bus::NatsCore | Bus::NatsJetstream) && self.nats_format == NatsFormat::Nats;
        let (body, headers) = if by_headers {
            (self.writer.bare(&event), Prop::Map(self.writer.headers(&event)))
        } else {
            (self.writer.envelope(&event, &topic), Prop::None)
        };
        let props = Props([Prop::Text(self.bus.topic(&topic)), headers].into());
        Ok(Message { body: Bytes::from(body), props, n_rows: rows.len() })
    }

    fn topic(&self, event: &Event, row: Option<&Object>, now: i64) -> Result<String, String> {
        match &self.topic {
            Topic::Prefix(prefix) => Ok(format!("{prefix}/{}/{}/{}", event.profile, event.device, event.source)),
            Topic::Text(text) => match text.fixed() {
                Some(topic) => Ok(topic.to_owned()),
                None => {
                    let row = Value::Object(Arc::new(row.cloned().unwrap_or_default()));
                    text.render(&row, &mut Surroundings::at(now))
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
