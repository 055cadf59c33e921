//! Lookup tables against real databases, through the driver that rules use.

mod redis;
mod rules;
mod sql;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sluice::connection::{ConnectorContext, HealthState};
use sluice::definition::{CacheSettings, OnLookupError, Origin};
use sluice::format::json_encoder::write_object;
use sluice::pipeline::lookup::LookupDriver;
use sluice::pipeline::metrics::LookupMetrics;
use sluice::time::SystemClock;
use sluice::{LookupTableDef, Options, Registry};
use sluice_sql::operators::{LookupAnswer, LookupKey};
use sluice_sql::plan::LookupPlan;
use sluice_sql::sql::ast::JoinKind;
use sluice_sql::{Column, ColumnKind, Schema, Type, Value};

/// A join with a table, as a rule has it.
struct Join {
    driver: Arc<LookupDriver>,
    metrics: Arc<LookupMetrics>,
}

/// The table, and what is wanted of it.
struct Wanted<'a> {
    connector: &'a str,
    datasource: &'a str,
    options: serde_json::Value,
    keys: &'a [&'a str],
    /// Names, or `*`.
    columns: &'a [&'a str],
    on_error: OnLookupError,
    timeout: Duration,
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Wanted {
            connector: "sql",
            datasource: "t",
            options: json!({}),
            keys: &["id"],
            columns: &["*"],
            on_error: OnLookupError::Drop,
            timeout: Duration::from_secs(5),
        }
    }
}

impl Join {
    fn new(wanted: Wanted<'_>) -> Self {
        let Wanted { connector, datasource, options, keys, columns, on_error, timeout } = wanted;
        let def = LookupTableDef {
            name: "t".to_owned(),
            connector: connector.to_owned(),
            datasource: datasource.to_owned(),
            format: "json".to_owned(),
            fields: Vec::new(),
            key: None,
            cache: CacheSettings::default(),
            on_error,
            timeout,
            options: Options::from(options),
            origin: Origin::default(),
        };
        let column = |name: &&str| match *name {
            "*" => Column { name: "t".into(), kind: ColumnKind::Star, ty: Type::Any },
            name => Column { name: name.into(), kind: ColumnKind::Field, ty: Type::Any },
        };
        let plan = LookupPlan {
            table: "t".into(),
            kind: JoinKind::Inner,
            key_columns: keys.iter().map(|key| (*key).into()).collect(),
            columns: Arc::new(Schema { columns: columns.iter().map(column).collect() }),
        };
        let clock = Arc::new(SystemClock);
        let metrics = Arc::new(LookupMetrics::new("rule", "t", connector, clock.clone()));
        let ctx = ConnectorContext {
            name: "rule/t".into(),
            connections: Default::default(),
            clock,
            tasks: Default::default(),
            health: metrics.health.clone(),
        };
        let driver = LookupDriver::new(&def, &plan, &Registry::builtin(), ctx, Arc::clone(&metrics)).unwrap();
        Join { driver: Arc::new(driver), metrics }
    }

    /// What is found, one line per key: rows as JSON (a lone star as the object itself), `drop` or `null`.
    async fn find(&self, keys: &[Vec<Value>]) -> Vec<String> {
        let keys: Vec<LookupKey> = keys.iter().map(|key| LookupKey(key.clone().into())).collect();
        let answers = self.driver.answer(&keys).await;
        assert_eq!(answers.len(), keys.len());
        let row = |row: &sluice_sql::Row| {
            let mut out = Vec::new();
            for (idx, value) in row.values.iter().enumerate() {
                if idx > 0 {
                    out.push(b' ');
                }
                match value.to_object() {
                    Some(object) => write_object(&object, &mut out),
                    None => sluice::format::json_encoder::write_value(value, &mut out),
                }
            }
            String::from_utf8(out).unwrap()
        };
        let answer = |answer: &LookupAnswer| match answer {
            LookupAnswer::Rows(rows) => rows.iter().map(row).collect::<Vec<_>>().join(" | "),
            LookupAnswer::Drop => "drop".to_owned(),
            LookupAnswer::Null => "null".to_owned(),
        };
        answers.iter().map(answer).collect()
    }

    async fn find_one(&self, key: Value) -> String {
        self.find(&[vec![key]]).await.remove(0)
    }

    fn health(&self) -> HealthState {
        self.metrics.health.state()
    }

    fn error(&self) -> String {
        self.health().last_error.unwrap_or_default()
    }
}

fn int(number: i64) -> Value {
    Value::Int(number)
}

fn text(text: &str) -> Value {
    Value::string(text)
}
