//! Made-up rows: a given list, or columns that are generated.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use indexmap::IndexMap;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::{Object, Value};
use tokio::time::{Interval, MissedTickBehavior};

use super::{Gives, Ingest, Items, Source, SourceArgs, SourceContext, SourceRow, SourceType};
use crate::error::{ConfigError, ConnectorError};
use crate::format::json::parse_value;
use crate::options::HumanDuration;

/// The `simulator` source.
pub const TYPE: SourceType = SourceType {
    name: "simulator",
    docs: "Made-up rows, one per `interval`: those of `data` in order, again and again with `loop`, or rows whose columns are \
           generated as `columns` says. Without `loop`, or after `limit` rows, the input ends. Needs no `DATASOURCE`.",
    schema: crate::options::schema_of::<SimulatorOptions>,
    gives: Gives::Rows,
    build,
};

/// Rows at a time when there is no interval to keep.
const MAX_ROWS: usize = 256;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct SimulatorOptions {
    /// The rows, in order.
    data: Vec<serde_json::Map<String, serde_json::Value>>,
    /// Columns that are generated, by name; instead of `data`.
    columns: IndexMap<String, Generator>,
    /// Begin again at the end of `data`.
    r#loop: bool,
    /// Time between two rows; 0 = as fast as they are taken.
    interval: HumanDuration,
    /// Rows after which the input ends; 0 = none.
    limit: u64,
    /// Same seed, same rows.
    seed: u64,
}

impl Default for SimulatorOptions {
    fn default() -> Self {
        SimulatorOptions {
            data: Vec::new(),
            columns: IndexMap::new(),
            r#loop: true,
            interval: HumanDuration::from_secs(1),
            limit: 0,
            seed: 0,
        }
    }
}

/// How a column is made up.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum Generator {
    /// A number from `min` to `max`, with so many decimals; none gives whole numbers.
    Range(Range),
    /// One of these, each as likely as the others.
    OneOf(Vec<serde_json::Value>),
    /// Counts up from here.
    Count(i64),
    /// The time, in milliseconds since the epoch, plus so many.
    Now(i64),
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Range {
    min: f64,
    max: f64,
    #[serde(default)]
    decimals: u8,
}

enum Rows {
    List { rows: Vec<Arc<Object>>, next_idx: usize, is_loop: bool },
    Generated { columns: Vec<(String, Column)>, rng: Box<StdRng> },
}

enum Column {
    Range(Range),
    OneOf(Vec<Value>),
    Count(i64),
    Now(i64),
}

struct SimulatorSource {
    rows: Rows,
    interval: Duration,
    /// Rows still to give.
    n_left: u64,
    ticks: Option<Interval>,
    context: Option<SourceContext>,
}

fn build(args: &SourceArgs<'_>) -> Result<Box<dyn Source>, ConfigError> {
    let options: SimulatorOptions = args.options.parse()?;
    let rows = match (options.data.is_empty(), options.columns.is_empty()) {
        (false, true) => Rows::List {
            rows: options.data.into_iter().map(row).collect::<Result<_, _>>()?,
            next_idx: 0,
            is_loop: options.r#loop,
        },
        (true, false) => Rows::Generated {
            columns: options.columns.into_iter().map(column).collect::<Result<_, _>>()?,
            rng: Box::new(StdRng::seed_from_u64(options.seed)),
        },
        (true, true) => return Err(ConfigError::new("data", "nothing to give: set data or columns")),
        (false, false) => return Err(ConfigError::new("columns", "set data or columns, not both")),
    };
    let n_left = if options.limit == 0 { u64::MAX } else { options.limit };
    Ok(Box::new(SimulatorSource { rows, interval: options.interval.0, n_left, ticks: None, context: None }))
}

fn row(members: serde_json::Map<String, serde_json::Value>) -> Result<Arc<Object>, ConfigError> {
    match value("data", &serde_json::Value::Object(members))? {
        Value::Object(object) => Ok(object),
        _ => Err(ConfigError::new("data", "a row must be an object")),
    }
}

/// Numbers keep their types: what has no fraction and no exponent is whole.
fn value(path: &str, value: &serde_json::Value) -> Result<Value, ConfigError> {
    parse_value(value.to_string().as_bytes()).map_err(|error| ConfigError::new(path, error.to_string()))
}

fn column((name, generator): (String, Generator)) -> Result<(String, Column), ConfigError> {
    let path = format!("columns.{name}");
    let column = match generator {
        Generator::Range(range) if range.min.is_finite() && range.max.is_finite() && range.min <= range.max => {
            Column::Range(range)
        }
        Generator::Range(_) => return Err(ConfigError::new(path, "min must not be greater than max")),
        Generator::OneOf(values) if values.is_empty() => {
            return Err(ConfigError::new(path, "oneOf needs at least one value"));
        }
        Generator::OneOf(values) => {
            Column::OneOf(values.iter().map(|one| value(&path, one)).collect::<Result<_, _>>()?)
        }
        Generator::Count(start) => Column::Count(start),
        Generator::Now(offset_ms) => Column::Now(offset_ms),
    };
    Ok((name, column))
}

impl Rows {
    fn next(&mut self, now: i64) -> Option<Arc<Object>> {
        match self {
            Rows::List { rows, next_idx, is_loop } => {
                if *next_idx == rows.len() && *is_loop {
                    *next_idx = 0;
                }
                let row = rows.get(*next_idx)?;
                *next_idx += 1;
                Some(Arc::clone(row))
            }
            Rows::Generated { columns, rng } => {
                let members = columns.iter_mut().map(|(name, column)| (name.as_str(), column.next(now, rng)));
                Some(Arc::new(members.collect()))
            }
        }
    }
}

impl Column {
    fn next(&mut self, now: i64, rng: &mut StdRng) -> Value {
        match self {
            Column::Range(Range { min, max, decimals }) => {
                let number = rng.random_range(*min..=*max);
                let scale = 10f64.powi(i32::from(*decimals));
                let rounded = (number * scale).round() / scale;
                if *decimals == 0 { Value::Int(rounded as i64) } else { Value::Float(rounded) }
            }
            Column::OneOf(values) => values.get(rng.random_range(0..values.len())).cloned().unwrap_or_default(),
            Column::Count(next) => {
                let number = *next;
                *next = next.wrapping_add(1);
                Value::Int(number)
            }
            Column::Now(offset_ms) => Value::Int(now.saturating_add(*offset_ms)),
        }
    }
}

#[async_trait]
impl Source for SimulatorSource {
    async fn connect(&mut self, ctx: &SourceContext) -> Result<(), ConnectorError> {
        if !self.interval.is_zero() && self.ticks.is_none() {
            let mut ticks = tokio::time::interval(self.interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            self.ticks = Some(ticks);
        }
        self.context = Some(ctx.clone());
        ctx.connector.health.up();
        Ok(())
    }

    fn limits(&self, _qos: u8) -> Vec<String> {
        vec!["the made-up rows begin anew at each start".to_owned()]
    }

    async fn next(&mut self) -> Result<Option<Ingest>, ConnectorError> {
        let Some(context) = &self.context else {
            return Err(ConnectorError::internal("simulator is read before it is connected"));
        };
        let n_wanted = match &mut self.ticks {
            Some(ticks) => {
                ticks.tick().await;
                1
            }
            None => {
                // Others have a right to this thread too.
                tokio::task::yield_now().await;
                MAX_ROWS
            }
        };
        let now = context.connector.clock.now();
        let mut rows = VecDeque::new();
        while rows.len() < n_wanted
            && self.n_left > 0
            && let Some(object) = self.rows.next(now)
        {
            self.n_left -= 1;
            rows.push_back(SourceRow { object, meta: None, ts: None });
        }
        Ok((!rows.is_empty()).then(|| Ingest { items: Items::Rows(rows.into()), ack: None }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{build_source, context, drain_as_json};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_list_once() {
        let mut source = build_source(
            &TYPE,
            "",
            "json",
            json!({"data": [{"a": 1, "b": 1.0}, {"b": "x"}], "loop": false, "interval": "10s"}),
        )
        .unwrap();
        let started = tokio::time::Instant::now();
        assert_eq!(drain_as_json(&mut *source, usize::MAX).await, [r#"{"a":1,"b":1}"#, r#"{"b":"x"}"#]);
        // The first row comes at once, and the end is noticed one interval after the last.
        assert_eq!(started.elapsed(), Duration::from_secs(20));
    }

    #[tokio::test]
    async fn a_list_again_and_again() {
        let mut source =
            build_source(&TYPE, "", "json", json!({"data": [{"a": 1}, {"a": 2}], "interval": 0, "limit": 5})).unwrap();
        assert_eq!(drain_as_json(&mut *source, usize::MAX).await.concat(), r#"{"a":1}{"a":2}{"a":1}{"a":2}{"a":1}"#);
    }

    #[tokio::test]
    async fn generated_columns() {
        let options = json!({
            "columns": {
                "id": {"oneOf": ["x", "y"]},
                "seq": {"count": 7},
                "t": {"range": {"min": 20, "max": 25, "decimals": 1}},
                "n": {"range": {"min": 3, "max": 3}},
                "ts": {"now": -5},
            },
            "interval": 0,
            "limit": 600,
            "seed": 3,
        });
        let context = context();
        let mut source = build_source(&TYPE, "", "json", options).unwrap();
        source.connect(&context).await.unwrap();
        let mut seq = 7;
        while let Some(Ingest { items: Items::Rows(rows), .. }) = source.next().await.unwrap() {
            for row in rows {
                let names: Vec<_> = row.object.iter().map(|(name, _)| name.as_str()).collect();
                assert_eq!(names, ["id", "seq", "t", "n", "ts"]);
                assert!(matches!(row.object.get("seq"), Some(Value::Int(number)) if *number == seq));
                assert!(matches!(row.object.get("t"), Some(Value::Float(t)) if (20.0..=25.0).contains(t)));
                assert!(matches!(row.object.get("n"), Some(Value::Int(3))));
                seq += 1;
            }
        }
        assert_eq!(seq, 607);
    }

    #[test]
    fn refused() {
        for (options, expected) in [
            (json!({}), "data: nothing to give: set data or columns"),
            (json!({"data": [{}], "columns": {"a": {"count": 0}}}), "columns: set data or columns, not both"),
            (json!({"columns": {"a": {"range": {"min": 2, "max": 1}}}}), "columns.a: min must not be greater than max"),
            (json!({"columns": {"a": {"oneOf": []}}}), "columns.a: oneOf needs at least one value"),
        ] {
            let error = build_source(&TYPE, "", "json", options).err().unwrap().to_string();
            assert_eq!(error, expected);
        }
    }
}
