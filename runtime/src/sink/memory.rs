//! `memory`: rows to the in-process bus, for sources and lookup tables of other rules.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::{Object, Value};
use tokio_util::sync::CancellationToken;

use super::{Output, Sink, SinkArgs, SinkError, SinkType, Takes};
use crate::connection::ConnectorContext;
use crate::connection::memory::{Held, MemoryBus, MemoryRow, RowKind};
use crate::error::{ConfigError, ConnectorError};
use crate::template::{Surroundings, TextOption};
use crate::time::Clock;

/// The sink `memory`.
pub(super) const MEMORY: SinkType = SinkType {
    name: "memory",
    docs: "Hands rows to the memory sources and memory lookup tables of this process.",
    schema: crate::options::schema_of::<MemoryOptions>,
    takes: Takes::Rows,
    templates: &[],
    build,
};

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MemoryOptions {
    /// The topic; may be a template over the row. No wildcards.
    topic: String,
    /// The column that says what a row does to a table kept from it: `insert`, `update`, `upsert` or `delete`. Rows without it
    /// are upserts.
    rowkind_field: Option<String>,
    /// The column with the row's key, for tables without a key of their own.
    key_field: Option<String>,
}

struct MemorySink {
    topic: TextOption,
    rowkind_field: Option<String>,
    key_field: Option<String>,
    connected: Option<(Arc<MemoryBus>, Arc<dyn Clock>)>,
    /// Cancelled when the readers have what was written safe.
    held: VecDeque<CancellationToken>,
}

/// Writes that readers may have to answer for; beyond that the oldest is waited for.
const MAX_HELD: usize = 4096;

fn build(args: &SinkArgs<'_>) -> Result<Box<dyn Sink>, ConfigError> {
    let MemoryOptions { topic, rowkind_field, key_field } = args.options.parse()?;
    let topic = TextOption::new("topic", &topic)?;
    if let Some(Err(reason)) = topic.fixed().map(check_topic) {
        return Err(ConfigError::new("topic", reason));
    }
    if rowkind_field.is_some() && key_field.is_none() {
        return Err(ConfigError::new(
            "keyField",
            "is needed together with rowkindField: the column with the row's key",
        ));
    }
    Ok(Box::new(MemorySink { topic, rowkind_field, key_field, connected: None, held: VecDeque::new() }))
}

fn check_topic(topic: &str) -> Result<(), String> {
    if topic.is_empty() {
        Err("must not be empty".to_owned())
    } else if topic.contains(['+', '#']) {
        Err(format!("\"{topic}\" holds a wildcard; rows are written to one topic"))
    } else {
        Ok(())
    }
}

impl MemorySink {
    /// The topic of a row and the row for the bus.
    fn row(&self, object: Object, surroundings: &mut Surroundings) -> Result<(String, MemoryRow), String> {
        let object = Arc::new(object);
        let topic = match self.topic.fixed() {
            Some(topic) => topic.to_owned(),
            None => {
                let topic = self.topic.render(&Value::Object(Arc::clone(&object)), surroundings)?;
                check_topic(&topic).map_err(|reason| format!("topic: {reason}"))?;
                topic
            }
        };
        let kind = match self.rowkind_field.as_ref().and_then(|name| object.get(name)) {
            None | Some(Value::Null | Value::Missing) => RowKind::default(),
            Some(Value::String(name)) => RowKind::parse(name)
                .ok_or_else(|| "the row kind is none of insert, update, upsert and delete".to_owned())?,
            Some(other) => return Err(format!("a row kind is a text, not of type {}", other.kind_name())),
        };
        let key = match &self.key_field {
            None => None,
            Some(name) => {
                let key = object.get(name).filter(|key| !key.is_null());
                Some(key.cloned().ok_or_else(|| format!("the row has no key in `{name}`"))?)
            }
        };
        Ok((topic, MemoryRow { object, kind, key }))
    }
}

#[async_trait]
impl Sink for MemorySink {
    async fn connect(&mut self, ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        self.connected = Some((MemoryBus::of(&ctx.connections), Arc::clone(&ctx.clock)));
        Ok(())
    }

    async fn write(&mut self, output: Output<'_>) -> Result<(), SinkError> {
        let (Output::Rows(batches), Some((bus, clock))) = (output, &self.connected) else {
            return Err(ConnectorError::internal("write before connect").into());
        };
        let (mut refused, mut reason) = (Vec::new(), String::new());
        // Rows that follow each other to one topic travel together.
        let mut runs: Vec<(String, Vec<MemoryRow>)> = Vec::new();
        let mut surroundings = Surroundings::at(clock.now());
        let mut row_idx = 0;
        for batch in batches {
            for row in &batch.rows {
                match self.row(batch.schema.to_object(row), &mut surroundings) {
                    Ok((topic, row)) => match runs.last_mut() {
                        Some((last, rows)) if *last == topic => rows.push(row),
                        _ => runs.push((topic, vec![row])),
                    },
                    Err(error) => {
                        refused.push(row_idx);
                        reason = error;
                    }
                }
                row_idx += 1;
            }
        }
        for (topic, rows) in runs {
            let (held, is_safe) = Held::new();
            bus.publish_held(&topic, rows, held).await;
            self.held.push_back(is_safe);
        }
        while self.held.len() > MAX_HELD || self.held.front().is_some_and(CancellationToken::is_cancelled) {
            if let Some(oldest) = self.held.pop_front() {
                oldest.cancelled().await;
            }
        }
        if refused.is_empty() { Ok(()) } else { Err(SinkError::Refused { items: refused, n_others: 0, reason }) }
    }

    /// Waits until the readers have everything safe: in their journals, if they keep some.
    async fn flush(&mut self) -> Result<(), SinkError> {
        while let Some(is_safe) = self.held.pop_front() {
            is_safe.cancelled().await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sluice_sql::value::{Column, ColumnKind};
    use sluice_sql::{Batch, Row, Schema, Type};

    use super::*;
    use crate::connection::topic::TopicFilter;
    use crate::options::Options;
    use crate::time::SystemClock;

    fn sink(options: serde_json::Value) -> Result<Box<dyn Sink>, ConfigError> {
        build(&SinkArgs {
            rule: "r",
            index: 0,
            output: &Arc::default(),
            options: &Options::from(options),
            format: "json",
            compression: None,
        })
    }

    #[tokio::test]
    async fn rows_go_to_their_topic_with_kind_and_key() {
        let ctx = ConnectorContext {
            name: "r/memory_0".into(),
            connections: Default::default(),
            clock: Arc::new(SystemClock),
            tasks: Default::default(),
            health: Default::default(),
        };
        let bus = MemoryBus::of(&ctx.connections);
        let mut subscription = bus.subscribe(TopicFilter::parse("t/#").unwrap(), 16);
        let mut sink = sink(json!({"topic": "t/{{.room}}", "rowkindField": "op", "keyField": "id"})).unwrap();
        sink.connect(&ctx).await.unwrap();
        let columns =
            ["id", "room", "op"].map(|name| Column { name: name.into(), kind: ColumnKind::Field, ty: Type::Any });
        let row = |id: Value, room: &str, op: Value| Row { ts: 0, values: vec![id, Value::string(room), op] };
        let rows = vec![
            row(Value::Int(1), "a", Value::Missing),
            row(Value::Int(2), "a", Value::string("delete")),
            row(Value::Int(3), "b", Value::string("insert")),
            row(Value::Int(4), "b", Value::string("remove")),
            row(Value::Null, "b", Value::Missing),
            row(Value::Int(6), "#", Value::Missing),
        ];
        let batch = Arc::new(Batch::per_row(Arc::new(Schema { columns: columns.into() }), rows));
        match sink.write(Output::Rows(&[batch])).await {
            Err(SinkError::Refused { items, n_others: 0, reason }) => {
                assert_eq!(items, [3, 4, 5]);
                assert_eq!(reason, "topic: \"t/#\" holds a wildcard; rows are written to one topic");
            }
            other => panic!("{other:?}"),
        }
        let mut seen = Vec::new();
        for _ in 0..2 {
            let message = subscription.next().await.unwrap();
            for row in message.rows.iter() {
                let key = row.key.clone().map(|key| format!("{key:?}")).unwrap_or_default();
                seen.push(format!("{} {} {key}", message.topic, row.kind.as_str()));
            }
        }
        assert_eq!(seen, ["t/a upsert Int(1)", "t/a delete Int(2)", "t/b insert Int(3)"]);
    }

    #[test]
    fn wrong_options_are_named() {
        let cases = [
            (json!({"topic": ""}), "topic: must not be empty"),
            (json!({"topic": "a/+"}), "topic: \"a/+\" holds a wildcard; rows are written to one topic"),
            (json!({"topic": "a/{{.b"}), "topic: 1:3: unclosed action: expected `}}`"),
            (
                json!({"topic": "a", "rowkindField": "op"}),
                "keyField: is needed together with rowkindField: the column with the row's key",
            ),
        ];
        for (options, expected) in cases {
            assert_eq!(sink(options).err().map(|error| error.to_string()).as_deref(), Some(expected));
        }
    }
}
