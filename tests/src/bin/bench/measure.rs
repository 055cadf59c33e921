//! Measuring and showing.

use anyhow::{Context, Result};
use serde_json::json;
use sluice::pipeline::{Engine, Settings};
use sluice::{Definitions, Options, Registry, RuleDef, SinkDef, StreamDef};
use sluice_sql::plan::RuleOptions;
use sluice_sql::sql::ast::{Field, FieldType, Ident};

use crate::replay::{PROBE_SINK, REPLAY};

/// W1's statement.
pub const W1: &str = r#"SELECT deviceId, temperature, humidity FROM s1 WHERE temperature > 20 AND status = "ok""#;

/// Nanoseconds of CPU that this thread has used.
pub fn thread_cpu_ns() -> Result<u64> {
    let text =
        std::fs::read_to_string("/proc/thread-self/schedstat").context("needs Linux with scheduler statistics")?;
    text.split_whitespace().next().and_then(|field| field.parse().ok()).context("schedstat begins with a number")
}

/// The middle one.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Shows a result beside its limit.
pub fn verdict(what: &str, value: f64, is_good: bool, limit: &str) {
    println!("  {} {what}: {value:.2} (wanted: {limit})", if is_good { "✓" } else { "✗" });
}

/// A declared column.
pub fn field(name: &str, ty: FieldType) -> Field {
    Field { name: Ident { name: name.into(), span: sluice_sql::Span::default() }, ty, default: None }
}

/// The columns of the small payloads, as W1 declares them.
pub fn s1_fields() -> Vec<Field> {
    vec![
        field("deviceId", FieldType::String),
        field("ts", FieldType::Bigint),
        field("temperature", FieldType::Float),
        field("humidity", FieldType::Float),
        field("status", FieldType::String),
    ]
}

/// A stream of that connector.
pub fn stream(
    name: &str,
    connector: &str,
    datasource: &str,
    fields: Vec<Field>,
    options: serde_json::Value,
) -> StreamDef {
    StreamDef {
        name: name.to_owned(),
        connector: connector.to_owned(),
        datasource: datasource.to_owned(),
        format: "json".to_owned(),
        fields,
        timestamp: None,
        timestamp_format: None,
        strict: false,
        shared: false,
        delimiter: None,
        retain: None,
        options: Options::from(options),
        origin: Default::default(),
    }
}

/// A rule with one sink.
pub fn rule(sql: &str, sink: &str) -> RuleDef {
    RuleDef {
        name: "bench".to_owned(),
        sql: sql.to_owned(),
        sinks: vec![SinkDef { connector: sink.to_owned(), options: Options::from(json!({})) }],
        options: RuleOptions::default(),
        late_sink: None,
        error_sink: None,
        fail_on_error: false,
        delivery: Default::default(),
        buffer_batches: 16,
        backpressure: Default::default(),
        restart: Default::default(),
        schedule: None,
        suspend: false,
        held_with: None,
        origin: Default::default(),
    }
}

/// Everything that is built in, and the connectors of the benchmarks.
pub fn registry() -> Registry {
    Registry::builtin().with_source(REPLAY).with_sink(PROBE_SINK)
}

/// An engine that knows the connectors of the benchmarks.
pub fn engine() -> Engine {
    Engine::new(Settings::new(registry()))
}

/// Applies definitions that have to be right.
pub fn apply(engine: &Engine, definitions: &Definitions) -> Result<()> {
    let report = engine.apply(definitions);
    anyhow::ensure!(report.refused.is_empty(), "{:?}", report.refused);
    Ok(())
}

/// Nanoseconds of CPU per message for a replayed stream, from the source to the end of the sink, all on this thread.
pub fn replayed(definitions: &Definitions, n_messages: usize) -> Result<f64> {
    replayed_by(registry(), definitions, n_messages)
}

/// As [`replayed`], with what else a rule may call.
pub fn replayed_by(registry: Registry, definitions: &Definitions, n_messages: usize) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let engine = Engine::new(Settings::new(registry));
        let before = thread_cpu_ns()?;
        apply(&engine, definitions)?;
        engine.finished().await;
        let after = thread_cpu_ns()?;
        engine.stop(std::time::Duration::from_secs(5)).await;
        Ok((after - before) as f64 / n_messages as f64)
    })
}
