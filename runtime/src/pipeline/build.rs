//! A rule's definition to the parts of its tasks: plans, and checks every option on the way. No I/O, nothing starts here.

use std::collections::HashMap;
use std::sync::Arc;

use sluice_sql::Schema;
use sluice_sql::plan::{Catalog, RulePlan, plan_rule};
use sluice_sql::sql::SqlErrors;

use crate::connection::{ConnectorContext, Health};
use crate::definition::{Definitions, LookupTableDef, RuleDef, SinkDef, StreamDef};
use crate::error::ConfigError;
use crate::pipeline::decode::{SourceOptions, StreamDecoder};
use crate::pipeline::lookup::LookupDriver;
use crate::pipeline::metrics::{LookupMetrics, SinkMetrics};
use crate::pipeline::rejected;
use crate::pipeline::sink::{SinkDriver, SinkParts};
use crate::registry::Registry;
use crate::source::{Source, SourceArgs};

/// Why a rule can't run as it is written.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// The statement.
    #[error("{0}")]
    Sql(#[from] SqlErrors),
    /// Options of a stream, table or sink.
    #[error("{0}")]
    Config(PartErrors),
    /// It is to keep state, and there is no place for it.
    #[error("qos {0} keeps state: it needs a folder for it (--state-dir DIR)")]
    NoState(u8),
    /// Its state can't be kept.
    #[error("the state volume: {0}")]
    State(String),
}

/// Everything that is wrong with the options of a rule's parts.
#[derive(Debug, Default)]
pub struct PartErrors(pub Vec<PartError>);

/// What is wrong with one part.
#[derive(Debug)]
pub struct PartError {
    /// `stream demo`, `sink mqtt_0`
    pub part: String,
    /// What.
    pub error: ConfigError,
}

impl std::fmt::Display for PartErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (error_idx, PartError { part, error }) in self.0.iter().enumerate() {
            let separator = if error_idx > 0 { "\n" } else { "" };
            write!(f, "{separator}{part}: {error}")?;
        }
        Ok(())
    }
}

/// Definitions by name, and what the planner knows of them.
pub struct Named {
    /// For the planner.
    pub catalog: Catalog,
    /// Streams and scan tables.
    pub streams: HashMap<String, Arc<StreamDef>>,
    /// Lookup tables.
    pub tables: HashMap<String, Arc<LookupTableDef>>,
}

impl Named {
    /// Looks through all definitions.
    pub fn new(definitions: &Definitions) -> Self {
        Named {
            catalog: definitions.catalog(),
            streams: definitions.streams.iter().map(|def| (def.name.clone(), Arc::new(def.clone()))).collect(),
            tables: definitions.tables.iter().map(|def| (def.name.clone(), Arc::new(def.clone()))).collect(),
        }
    }
}

/// A lookup join, ready to be asked.
pub struct LookupPart {
    /// The table.
    pub def: Arc<LookupTableDef>,
    /// Asks.
    pub driver: Arc<LookupDriver>,
    /// Counts.
    pub metrics: Arc<LookupMetrics>,
}

/// A sink, ready to be started.
pub struct SinkPart {
    /// Writes.
    pub driver: SinkDriver,
    /// Counts.
    pub metrics: Arc<SinkMetrics>,
}

/// A rule that passed every check.
pub struct BuiltRule {
    /// What it does.
    pub plan: RulePlan,
    /// The stream of each input of the plan.
    pub streams: Vec<Arc<StreamDef>>,
    /// One per lookup of the plan.
    pub lookups: Vec<LookupPart>,
    /// One per sink of the rule.
    pub sinks: Vec<SinkPart>,
    /// The sink for late rows.
    pub late_sink: Option<SinkPart>,
    /// The sink for rows that fail.
    pub error_sink: Option<SinkPart>,
}

/// Plans a rule and makes its drivers. All errors in options are reported at once; those of the statement come first, as
/// without a plan there is nothing to make the drivers for.
///
/// # Errors
/// Whatever is wrong with the rule or with what it refers to.
pub fn build_rule(
    rule: &RuleDef,
    named: &Named,
    registry: &Registry,
    base: &ConnectorContext,
) -> Result<BuiltRule, RuleError> {
    let plan = plan_rule(&rule.sql, &named.catalog, &registry.functions, &rule.options)?;
    let mut errors = PartErrors::default();
    let mut fail = |part: String, error: ConfigError| errors.0.push(PartError { part, error });

    let mut streams = Vec::with_capacity(plan.inputs.len());
    for input in &plan.inputs {
        match named.streams.get(input.source.as_str()) {
            Some(def) => streams.push(Arc::clone(def)),
            None => fail(format!("stream {}", input.source), ConfigError::new("", "is not defined")),
        }
    }
    let mut lookups = Vec::with_capacity(plan.lookups.len());
    for lookup in &plan.lookups {
        let part = || format!("lookup table {}", lookup.table);
        let Some(def) = named.tables.get(lookup.table.as_str()) else {
            fail(part(), ConfigError::new("", "is not defined"));
            continue;
        };
        let metrics = Arc::new(LookupMetrics::new(&rule.name, &def.name, &def.connector, Arc::clone(&base.clock)));
        let ctx = context(base, format!("{}/{}", rule.name, def.name), &metrics.health);
        match LookupDriver::new(def, lookup, registry, ctx, Arc::clone(&metrics)) {
            Ok(driver) => lookups.push(LookupPart { def: Arc::clone(def), driver: Arc::new(driver), metrics }),
            Err(error) => fail(part(), error),
        }
    }
    let mut sink = |sink_idx: usize, def: &SinkDef, output: &Arc<Schema>| {
        let metrics = Arc::new(SinkMetrics::new(&rule.name, sink_idx, &def.connector, Arc::clone(&base.clock)));
        let ctx = context(base, format!("{}/{}", rule.name, metrics.sink), &metrics.health);
        let parts = SinkParts {
            rule: &rule.name,
            index: sink_idx,
            output,
            registry,
            ctx,
            metrics: Arc::clone(&metrics),
            backpressure: rule.backpressure,
        };
        match SinkDriver::new(def, parts) {
            Ok(driver) => Some(SinkPart { driver, metrics }),
            Err(error) => {
                fail(format!("sink {}", metrics.sink), error);
                None
            }
        }
    };
    let sinks: Vec<SinkPart> =
        rule.sinks.iter().enumerate().filter_map(|(idx, def)| sink(idx, def, &plan.output)).collect();
    // Their numbers follow those of the rule's own sinks.
    let (records, n_sinks) = (rejected::schema(), rule.sinks.len());
    let late_sink = rule.late_sink.as_ref().and_then(|def| sink(n_sinks, def, &records));
    let error_idx = n_sinks + usize::from(rule.late_sink.is_some());
    let error_sink = rule.error_sink.as_ref().and_then(|def| sink(error_idx, def, &records));
    if !errors.0.is_empty() {
        return Err(RuleError::Config(errors));
    }
    Ok(BuiltRule { plan, streams, lookups, sinks, late_sink, error_sink })
}

/// Makes a stream's source and decoder.
///
/// # Errors
/// Unknown connector or format, wrong options.
pub fn build_source(
    def: &StreamDef,
    schema: &Arc<Schema>,
    registry: &Registry,
) -> Result<(Box<dyn Source>, StreamDecoder), RuleError> {
    let fail = |error| RuleError::Config(PartErrors(vec![PartError { part: format!("stream {}", def.name), error }]));
    let source_type = registry.source(&def.connector).map_err(fail)?;
    let (_, own) = SourceOptions::split(&def.options).map_err(fail)?;
    let args = SourceArgs { stream: &def.name, datasource: &def.datasource, format: &def.format, options: &own };
    let source = (source_type.build)(&args).map_err(fail)?;
    let decoder = StreamDecoder::new(def, registry, Arc::clone(schema)).map_err(fail)?;
    Ok((source, decoder))
}

/// What a rule's promise does not cover.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// The stream that it is about.
    pub stream: Arc<StreamDef>,
    /// A sentence.
    pub text: String,
}

/// What a rule that is to lose nothing can't promise, because of the streams that it reads. No I/O.
pub fn limits(rule: &RuleDef, streams: &[Arc<StreamDef>], plan: &RulePlan, registry: &Registry) -> Vec<Limit> {
    if !rule.delivery.is_durable() {
        return Vec::new();
    }
    let mut limits = Vec::new();
    for (input, stream) in plan.inputs.iter().zip(streams) {
        let Ok((source, _)) = build_source(stream, &input.schema, registry) else { continue };
        let texts = source.limits(rule.delivery.qos).into_iter();
        limits.extend(
            texts.map(|text| Limit { stream: Arc::clone(stream), text: format!("stream {}: {text}", stream.name) }),
        );
    }
    limits
}

/// The engine's context with a name and a health of its own.
pub fn context(base: &ConnectorContext, name: String, health: &Health) -> ConnectorContext {
    ConnectorContext { name: name.into(), health: health.clone(), ..base.clone() }
}
