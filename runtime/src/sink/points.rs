//! Rows to points, and the sink that writes them: what `influx` and `influx2` share.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::value::ColumnKind;
use sluice_sql::{Batch, Row, Schema, Timestamp, Type, Value};
use smol_str::SmolStr;

use super::{Output, Sink, SinkError};
use crate::connection::ConnectorContext;
use crate::connection::influx::{InfluxClient, InfluxTarget, Written};
use crate::error::{ConfigError, ConnectorError};
use crate::format::line_protocol::{FieldType, LineWriter, Precision};
use crate::template::{Surroundings, TextOption};
use crate::time::Clock;

/// What becomes tag, field and time of a point.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PointOptions {
    /// Tags: names and their texts, which may be templates over the row. Empty ones are left out.
    tags: BTreeMap<String, String>,
    /// The columns to write as fields; all without it.
    fields: Option<Vec<String>>,
    /// Unit of the timestamps.
    precision: Precision,
    /// The column that holds the time, as a number in units of `precision` or as a datetime. Without it, the row's own time.
    ts_field_name: String,
    /// Types of fields that must not follow their values: whole JSON numbers are written as floats unless the column is
    /// declared as `bigint` or pinned here.
    field_types: BTreeMap<String, FieldType>,
}

impl PointOptions {
    /// Unit of the timestamps.
    pub(super) fn precision(&self) -> Precision {
        self.precision
    }
}

/// A template's text for a column that the row lacks.
const NO_VALUE: &str = "<no value>";

/// Writes rows as lines.
pub(super) struct Points {
    measurement: TextOption,
    tags: Vec<(String, TextOption)>,
    fields: Option<Vec<SmolStr>>,
    precision: Precision,
    timestamp: Option<SmolStr>,
    pins: BTreeMap<String, FieldType>,
    /// Some template reads the row.
    reads_row: bool,
}

/// Lines and what could not become one.
#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    /// Rows without a line.
    left_out: Vec<usize>,
    /// Why the last of them was left out.
    reason: String,
}

impl Points {
    pub(super) fn new(measurement: &str, options: &PointOptions) -> Result<Self, ConfigError> {
        let measurement = TextOption::new("measurement", measurement)?;
        if measurement.fixed().is_some_and(str::is_empty) {
            return Err(ConfigError::new("measurement", "must not be empty"));
        }
        let mut tags = Vec::new();
        for (name, text) in &options.tags {
            tags.push((name.clone(), TextOption::new(format!("tags.{name}"), text)?));
        }
        let reads_row = measurement.fixed().is_none() || tags.iter().any(|(_, tag)| tag.fixed().is_none());
        Ok(Points {
            measurement,
            tags,
            fields: options.fields.as_ref().map(|names| names.iter().map(Into::into).collect()),
            precision: options.precision,
            timestamp: (!options.ts_field_name.is_empty()).then(|| options.ts_field_name.as_str().into()),
            pins: options.field_types.clone(),
            reads_row,
        })
    }

    fn lines(&self, batches: &[Arc<Batch>], now: Timestamp) -> Lines {
        let mut surroundings = Surroundings::at(now);
        let mut lines = Lines::default();
        let mut row_idx = 0;
        for batch in batches {
            for row in &batch.rows {
                if let Err(reason) = self.line(&batch.schema, row, &mut surroundings, &mut lines.text) {
                    lines.left_out.push(row_idx);
                    lines.reason = reason;
                }
                row_idx += 1;
            }
        }
        lines
    }

    fn line(
        &self,
        schema: &Schema,
        row: &Row,
        surroundings: &mut Surroundings,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let is_plain = schema.columns.iter().all(|column| column.kind != ColumnKind::Star);
        let object = (self.reads_row || !is_plain).then(|| Arc::new(schema.to_object(row)));
        let dot = object.as_ref().map_or(Value::Null, |object| Value::Object(Arc::clone(object)));
        let timestamp = self.timestamp(schema, row)?;
        let measurement = self.measurement.render(&dot, surroundings)?;
        if measurement.is_empty() {
            return Err("the measurement is empty".to_owned());
        }
        let mut tags = Vec::with_capacity(self.tags.len());
        for (name, text) in &self.tags {
            tags.push((name, text.render(&dot, surroundings)?));
        }
        let mut line = LineWriter::start(&measurement, out);
        for (name, text) in &tags {
            if text != NO_VALUE {
                line.tag(name, text);
            }
        }
        let mut unfit = None;
        let mut field = |name: &str, value: &Value, ty: &Type| {
            if self.fields.as_ref().is_none_or(|names| names.iter().any(|wanted| wanted == name))
                && !line.field(name, value, FieldType::of_whole(ty), self.pins.get(name).copied())
            {
                unfit = Some(name.to_owned());
            }
        };
        match &object {
            Some(object) => {
                for (name, value) in object.iter() {
                    let ty = schema.field(name).and_then(|slot| schema.columns.get(slot)).map_or(&Type::Any, |c| &c.ty);
                    field(name, value, ty);
                }
            }
            None => {
                for (slot, column) in schema.columns.iter().enumerate().filter(|(_, c)| c.kind == ColumnKind::Field) {
                    field(&column.name, row.get(slot), &column.ty);
                }
            }
        }
        if let Some(name) = unfit {
            line.cancel();
            return Err(format!("the value of `{name}` does not fit its type in fieldTypes"));
        }
        if line.end(timestamp) { Ok(()) } else { Err("the row has no field that can be written".to_owned()) }
    }

    fn timestamp(&self, schema: &Schema, row: &Row) -> Result<i64, String> {
        let out_of_range = || "the time is out of range".to_owned();
        let Some(name) = &self.timestamp else {
            return self.precision.from_ms(row.ts).ok_or_else(out_of_range);
        };
        let value = match schema.field(name) {
            Some(slot) => Some(row.get(slot).clone()),
            None => schema.to_object(row).get(name).cloned(),
        };
        match value {
            Some(Value::Int(int)) => Ok(int),
            Some(Value::Float(float)) if float.abs() < 9.2e18 => Ok(float as i64),
            Some(Value::Datetime(zoned)) => self.precision.from_instant(zoned.timestamp()).ok_or_else(out_of_range),
            Some(Value::Null | Value::Missing) | None => Err(format!("the row has no time in `{name}`")),
            Some(other) => Err(format!("`{name}` is of type {}, not a time", other.kind_name())),
        }
    }
}

/// Writes points to an InfluxDB of either version.
pub(super) struct InfluxSink {
    target: InfluxTarget,
    points: Points,
    client: Option<(InfluxClient, Arc<dyn Clock>)>,
}

impl InfluxSink {
    pub(super) fn new(target: InfluxTarget, points: Points) -> Self {
        InfluxSink { target, points, client: None }
    }
}

#[async_trait]
impl Sink for InfluxSink {
    async fn connect(&mut self, ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        let client = InfluxClient::connect(&self.target, ctx).await?;
        self.client = Some((client, Arc::clone(&ctx.clock)));
        // Says nothing of the credentials, which only a write checks; that error comes with the first row.
        Ok(())
    }

    async fn write(&mut self, output: Output<'_>) -> Result<(), SinkError> {
        let (Output::Rows(batches), Some((client, clock))) = (output, &self.client) else {
            return Err(ConnectorError::internal("write before connect").into());
        };
        let now = clock.now();
        let Lines { text, left_out, mut reason } = self.points.lines(batches, now);
        let mut n_others = 0;
        if !text.is_empty() {
            match client.write(&text, now).await? {
                Written::All => {}
                Written::Except { n_refused, reason: said } => {
                    n_others = n_refused;
                    reason = said;
                }
            }
        }
        if left_out.is_empty() && n_others == 0 {
            return Ok(());
        }
        Err(SinkError::Refused { items: left_out, n_others, reason })
    }

    async fn close(&mut self) {
        self.client = None;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sluice_sql::value::Column;

    use super::*;
    use crate::format::json::parse_object;

    fn lines(
        options: serde_json::Value,
        columns: &[(&str, ColumnKind, Type)],
        rows: Vec<Vec<Value>>,
    ) -> (String, Vec<usize>, String) {
        let options: PointOptions = serde_json::from_value(options).unwrap();
        let points = Points::new("m {{.room}}", &options).unwrap();
        let columns = columns
            .iter()
            .map(|(name, kind, ty)| Column { name: (*name).into(), kind: *kind, ty: ty.clone() })
            .collect();
        let rows = rows.into_iter().map(|values| Row { ts: 1500, values }).collect();
        let batch = Batch::per_row(Arc::new(Schema { columns }), rows);
        let lines = points.lines(&[Arc::new(batch)], 0);
        (String::from_utf8(lines.text).unwrap(), lines.left_out, lines.reason)
    }

    fn object(json: &str) -> Value {
        Value::Object(Arc::new(parse_object(json.as_bytes()).unwrap()))
    }

    #[test]
    fn rows_become_points() {
        use ColumnKind::{Field, Meta, Star};
        let columns = [
            ("room", Field, Type::String),
            ("n", Field, Type::Int),
            ("t", Field, Type::Number),
            ("at", Field, Type::Any),
            ("x", Meta, Type::Any),
        ];
        let row = |n: i64, at: Value| vec![Value::string("a b"), Value::Int(n), Value::Int(20), at, Value::Int(0)];
        let tagged = json!({"tags": {"room": "{{.room}}", "none": "{{.gone}}", "fixed": "f"}, "fields": ["n", "t"]});
        let cases = [
            ("all columns", json!({}), vec![row(1, Value::Null)], "m\\ a\\ b room=\"a b\",n=1i,t=20 1500\n", vec![]),
            (
                "tags and fields",
                tagged,
                vec![row(1, Value::Null)],
                "m\\ a\\ b,fixed=f,room=a\\ b n=1i,t=20 1500\n",
                vec![],
            ),
            (
                "seconds",
                json!({"fields": ["n"], "precision": "s"}),
                vec![row(1, Value::Null)],
                "m\\ a\\ b n=1i 1\n",
                vec![],
            ),
            (
                "time column",
                json!({"fields": ["n"], "tsFieldName": "at"}),
                vec![row(1, Value::Int(77)), row(2, Value::Float(78.9))],
                "m\\ a\\ b n=1i 77\nm\\ a\\ b n=2i 78\n",
                vec![],
            ),
            (
                "no time",
                json!({"fields": ["n"], "tsFieldName": "at"}),
                vec![row(1, Value::Null), row(2, Value::Int(78)), row(3, Value::string("x"))],
                "m\\ a\\ b n=2i 78\n",
                vec![0, 2],
            ),
            (
                "no field",
                json!({"fields": ["at"]}),
                vec![row(1, Value::Null), row(2, Value::Int(5))],
                "m\\ a\\ b at=5 1500\n",
                vec![0],
            ),
            (
                "pins",
                json!({"fields": ["t"], "fieldTypes": {"t": "int"}}),
                vec![row(1, Value::Null)],
                "m\\ a\\ b t=20i 1500\n",
                vec![],
            ),
            ("unfit pin", json!({"fieldTypes": {"room": "float"}}), vec![row(1, Value::Null)], "", vec![0]),
        ];
        for (name, options, rows, expected, left_out) in cases {
            let (text, skipped, _) = lines(options, &columns, rows);
            assert_eq!((text.as_str(), skipped), (expected, left_out), "{name}");
        }
        let star = [("s", Star, Type::Any)];
        let (text, ..) = lines(
            json!({"tsFieldName": "ts"}),
            &star,
            vec![vec![object(r#"{"room":"k","v":1,"w":null,"o":{"p":1.5},"ts":9}"#)]],
        );
        assert_eq!(text, "m\\ k room=\"k\",v=1,o=\"{\\\"p\\\":1.5}\",ts=9 9\n");
    }
}
