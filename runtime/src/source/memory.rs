//! Rows that other rules write into a memory topic.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::{Object, Value};

use super::{Gives, Ingest, Items, Source, SourceArgs, SourceContext, SourceRow, SourceType};
use crate::connection::memory::{Held, MemoryBus, MemoryMessage, MemorySubscription, RowKind};
use crate::connection::topic::TopicFilter;
use crate::error::{ConfigError, ConnectorError};

/// The `memory` source.
pub const TYPE: SourceType = SourceType {
    name: "memory",
    docs: "Rows that rules of this process write with the `memory` sink, by topic (`DATASOURCE`, with MQTT's wildcards). Rows are \
           not encoded, so `FORMAT` has no part in it. A full buffer holds the writers back. Rows written while nobody reads are \
           gone. Metadata: `topic`, `rowKind`.",
    schema: crate::options::schema_of::<MemoryOptions>,
    gives: Gives::Rows,
    build,
};

/// Rows that one call of `next` gives at most, as long as no single message holds more.
const MAX_ROWS: usize = 4096;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct MemoryOptions {
    /// Messages that wait for the rule, at most.
    buffer_length: usize,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        MemoryOptions { buffer_length: 1024 }
    }
}

struct MemorySource {
    filter: TopicFilter,
    options: MemoryOptions,
    /// The bus lives as long as somebody holds it.
    connected: Option<(Arc<MemoryBus>, MemorySubscription)>,
    context: Option<SourceContext>,
    /// What writers wait for, by the number of its ingest.
    held: VecDeque<(u64, Vec<Held>)>,
    last_ack: u64,
}

fn build(args: &SourceArgs<'_>) -> Result<Box<dyn Source>, ConfigError> {
    let filter = TopicFilter::parse(args.datasource).map_err(|message| ConfigError::new("datasource", message))?;
    Ok(Box::new(MemorySource {
        filter,
        options: args.options.parse()?,
        connected: None,
        context: None,
        held: VecDeque::new(),
        last_ack: 0,
    }))
}

#[async_trait]
impl Source for MemorySource {
    async fn connect(&mut self, ctx: &SourceContext) -> Result<(), ConnectorError> {
        if self.connected.is_none() {
            let bus = MemoryBus::of(&ctx.connector.connections);
            let subscription = bus.subscribe(self.filter.clone(), self.options.buffer_length);
            self.connected = Some((bus, subscription));
        }
        self.context = Some(ctx.clone());
        ctx.connector.health.up();
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Ingest>, ConnectorError> {
        let (Some((_, subscription)), Some(context)) = (&mut self.connected, &self.context) else {
            return Err(ConnectorError::internal("memory source is read before it is connected"));
        };
        let Some(message) = subscription.next().await else { return Ok(None) };
        let wants_meta = context.wants_meta.load(std::sync::atomic::Ordering::Relaxed);
        let mut rows = Vec::with_capacity(message.rows.len());
        add(&message, wants_meta, &mut rows);
        let mut held = vec![message.held];
        while rows.len() < MAX_ROWS
            && let Some(message) = subscription.try_next()
        {
            add(&message, wants_meta, &mut rows);
            held.push(message.held);
        }
        Ok(Some(self.ingest(rows, held)))
    }

    fn ack(&mut self, ack: u64) {
        while self.held.front().is_some_and(|(number, _)| *number <= ack) {
            self.held.pop_front();
        }
    }

    fn limits(&self, _qos: u8) -> Vec<String> {
        vec!["rows that a crash finds on their way between two rules are gone, unless the rule that writes them has qos 1 or 2 too: then it writes them again, some perhaps twice".to_owned()]
    }

    fn drain(&mut self) -> Option<Ingest> {
        let (Some((_, subscription)), Some(context)) = (&mut self.connected, &self.context) else { return None };
        let wants_meta = context.wants_meta.load(std::sync::atomic::Ordering::Relaxed);
        let mut rows = Vec::new();
        let message = subscription.try_next()?;
        add(&message, wants_meta, &mut rows);
        Some(self.ingest(rows, vec![message.held]))
    }

    async fn close(&mut self) {
        self.connected = None;
    }
}

impl MemorySource {
    fn ingest(&mut self, rows: Vec<SourceRow>, held: Vec<Held>) -> Ingest {
        self.last_ack += 1;
        self.held.push_back((self.last_ack, held));
        Ingest { items: Items::Rows(rows), ack: Some(self.last_ack) }
    }
}

fn add(message: &MemoryMessage, wants_meta: bool, rows: &mut Vec<SourceRow>) {
    let mut last: Option<(RowKind, Arc<Object>)> = None;
    for row in message.rows.iter() {
        let meta = wants_meta.then(|| match &last {
            Some((kind, meta)) if *kind == row.kind => Arc::clone(meta),
            _ => {
                let meta = Arc::new(Object::from_iter([
                    ("topic", Value::string(&*message.topic)),
                    ("rowKind", Value::string(row.kind.as_str())),
                ]));
                last = Some((row.kind, Arc::clone(&meta)));
                meta
            }
        });
        rows.push(SourceRow { object: Arc::clone(&row.object), meta, ts: None });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{build_source, context};
    use super::*;
    use crate::connection::memory::MemoryRow;

    #[tokio::test]
    async fn rows_of_matching_topics_in_order() {
        let context = context();
        let mut source = build_source(&TYPE, "a/+", "json", json!({})).unwrap();
        source.connect(&context).await.unwrap();
        let bus = MemoryBus::of(&context.connector.connections);
        let row =
            |n: i64, kind| MemoryRow { object: Arc::new(Object::from_iter([("n", Value::Int(n))])), kind, key: None };
        bus.publish("a/b", vec![row(1, RowKind::Upsert), row(2, RowKind::Delete)]).await;
        bus.publish("a", vec![row(3, RowKind::Upsert)]).await;
        bus.publish("a/c", vec![row(4, RowKind::Upsert)]).await;
        let Some(Ingest { items: Items::Rows(rows), ack: Some(1) }) = source.next().await.unwrap() else { panic!() };
        let show = |object: &Object| object.iter().map(|(_, value)| format!("{value:?}")).collect::<Vec<_>>().join(" ");
        let rows: Vec<_> =
            rows.iter().map(|row| format!("{} {}", show(&row.object), show(row.meta.as_ref().unwrap()))).collect();
        assert_eq!(
            rows,
            [
                "Int(1) String(\"a/b\") String(\"upsert\")",
                "Int(2) String(\"a/b\") String(\"delete\")",
                "Int(4) String(\"a/c\") String(\"upsert\")"
            ]
        );
    }

    #[test]
    fn refused() {
        let error = build_source(&TYPE, "a/#/b", "json", json!({})).err().unwrap();
        assert_eq!(error.to_string(), "datasource: `#` must be the last level of topic filter \"a/#/b\"");
        assert!(build_source(&TYPE, "a", "json", json!({"bufferLenght": 1})).is_err());
    }
}
