//! The verdict on definitions: one for the command line, the admission webhook, the operator and the pod.
//!
//! It plans every rule and makes every connector, without I/O, by the same calls as the engine; so what passes here starts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_crds::RuleOptions;
use sluice_sql::Schema;
use sluice_sql::function::Registry as Functions;
use sluice_sql::plan::{Catalog, LookupPlan, SourceDef, SourceKind};
use sluice_sql::sql::ast::{JoinKind, Select, SourceRef, Statement};
use sluice_sql::sql::{Span, SqlError, SqlErrors, parse_statement};
use sluice_sql::value::{Column, ColumnKind, Type};

use crate::connection::{Connections, ConnectorContext, Health, Tasks};
use crate::definition::{Definitions, LookupTableDef, Origin, RuleDef, StreamDef};
use crate::diagnostic::{Diagnostic, Severity};
use crate::error::{ConfigError, ConfigProblem};
use crate::manifest::Manifests;
use crate::pipeline::build::{Named, RuleError, build_rule, limits};
use crate::pipeline::decode::{SourceOptions, StreamDecoder};
use crate::pipeline::lookup::LookupDriver;
use crate::pipeline::metrics::{LookupMetrics, SinkMetrics};
use crate::pipeline::rejected;
use crate::pipeline::sink::{SinkDriver, SinkParts};
use crate::registry::Registry;
use crate::source::{Gives, SourceArgs};
use crate::time::SystemClock;

/// Everything that is wrong with files that were read: what reading found and what [`check`] finds, in the order of the text.
pub fn verdict(manifests: &Manifests, registry: &Registry) -> Vec<Diagnostic> {
    let mut diagnostics = manifests.diagnostics.clone();
    diagnostics.extend(check(&manifests.definitions, registry));
    let files: BTreeMap<String, usize> =
        manifests.files.iter().enumerate().map(|(file_idx, file)| (file.display().to_string(), file_idx)).collect();
    diagnostics.sort_by_key(|diagnostic| {
        let file = diagnostic.file.as_ref().and_then(|file| files.get(file)).copied();
        (file, diagnostic.line, diagnostic.column)
    });
    diagnostics
}

/// Everything that is wrong with the definitions. What is wrong in several rules for one reason is told once.
pub fn check(definitions: &Definitions, registry: &Registry) -> Vec<Diagnostic> {
    let mut checker = Checker::new(definitions, registry);
    checker.names(definitions);
    for stream in &definitions.streams {
        checker.stream(stream);
    }
    let mut joined = BTreeSet::new();
    for rule in &definitions.rules {
        checker.rule(rule, &mut joined);
    }
    for table in definitions.tables.iter().filter(|table| !joined.contains(&table.name)) {
        checker.table(table);
    }
    checker.found
}

/// Rule options that are understood and change nothing, with what is said of them. The one place where they are listed.
pub fn without_effect(options: &RuleOptions) -> Vec<(&'static str, &'static str)> {
    let asked = [
        (options.debug == Some(true), "debug", "has no effect here: what is logged is set for the whole process"),
        (
            options.concurrency.is_some_and(|n| n > 1),
            "concurrency",
            "has no effect here: a rule's rows stay in order, and its stages run side by side by themselves",
        ),
    ];
    asked.into_iter().filter(|(asked, ..)| *asked).map(|(_, name, message)| (name, message)).collect()
}

/// Checks definitions one by one, where each needs a verdict of its own: for the operator and its webhook.
pub struct Checker<'a> {
    named: Named,
    registry: &'a Registry,
    ctx: ConnectorContext,
    found: Vec<Diagnostic>,
}

/// What is known of a rule without running it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleVerdict {
    /// Streams and tables that it reads, as far as the statement can be read.
    pub reads: Vec<String>,
    /// Those of them that nothing defines, each shown where it stands.
    pub missing: Vec<Diagnostic>,
    /// What is wrong with it. Where something is missing, as if that had whatever columns are asked of it.
    pub found: Vec<Diagnostic>,
}

impl<'a> Checker<'a> {
    /// Rules are checked against these streams and tables.
    pub fn new(definitions: &Definitions, registry: &'a Registry) -> Self {
        Checker {
            named: Named::new(definitions),
            registry,
            ctx: ConnectorContext {
                name: "check".into(),
                connections: Connections::default(),
                clock: Arc::new(SystemClock),
                tasks: Tasks::default(),
                health: Health::default(),
            },
            found: Vec::new(),
        }
    }

    /// What is wrong with a stream, or scan table.
    pub fn stream_verdict(&mut self, stream: &StreamDef) -> Vec<Diagnostic> {
        self.stream(stream);
        std::mem::take(&mut self.found)
    }

    /// What is wrong with a lookup table.
    pub fn table_verdict(&mut self, table: &LookupTableDef) -> Vec<Diagnostic> {
        self.table(table);
        std::mem::take(&mut self.found)
    }

    /// What is wrong with a rule. What is wrong with the streams and tables that it reads counts as wrong with the rule too.
    pub fn rule_verdict(&mut self, rule: &RuleDef) -> RuleVerdict {
        let mut verdict = RuleVerdict::default();
        let select = match parse_statement(&rule.sql) {
            Ok(Statement::Select(select)) => Some(select),
            _ => None,
        };
        let mut unknown = Vec::new();
        if let Some(select) = &select {
            let functions = &self.registry.functions;
            verdict.reads = sources_of(select, functions).into_iter().map(|(name, ..)| name.to_string()).collect();
            verdict.reads.sort();
            verdict.reads.dedup();
            if verdict.reads.iter().any(|name| !self.named.catalog.sources.contains_key(name.as_str())) {
                let catalog = self.named.catalog.clone();
                unknown = assume_sources(select, functions, &mut self.named.catalog);
                self.rule_without(rule);
                self.named.catalog = catalog;
            }
        }
        if unknown.is_empty() {
            self.rule(rule, &mut BTreeSet::new());
        } else {
            let errors = SqlErrors { sql: rule.sql.clone(), errors: unknown };
            verdict.missing = rule.origin.sql_problems("spec.sql", &errors);
        }
        verdict.found = std::mem::take(&mut self.found);
        verdict
    }

    /// A rule that reads what nothing defines: its statement, and its sinks as far as their input is known.
    fn rule_without(&mut self, rule: &RuleDef) {
        match sluice_sql::plan::plan_rule(&rule.sql, &self.named.catalog, &self.registry.functions, &rule.options) {
            Ok(plan) => self.sinks(rule, &plan.output),
            Err(errors) => {
                for diagnostic in rule.origin.sql_problems("spec.sql", &errors) {
                    self.add(diagnostic);
                }
                self.sinks(rule, &Arc::new(Schema::default()));
            }
        }
    }

    fn add(&mut self, diagnostic: Diagnostic) {
        if !self.found.contains(&diagnostic) {
            self.found.push(diagnostic);
        }
    }

    fn options(&mut self, origin: &Origin, base: &str, error: &ConfigError) {
        for problem in &error.problems {
            self.add(origin.option_problem(base, problem));
        }
    }

    /// Streams and tables share one space of names.
    fn names(&mut self, definitions: &Definitions) {
        let mut first: BTreeMap<&str, &Origin> = BTreeMap::new();
        let streams = definitions.streams.iter().map(|stream| (stream.name.as_str(), &stream.origin));
        let tables = definitions.tables.iter().map(|table| (table.name.as_str(), &table.origin));
        for (name, origin) in streams.chain(tables) {
            match first.get(name) {
                None => _ = first.insert(name, origin),
                Some(twin) => {
                    let message = format!("the SQL name \"{name}\" is taken by {}", twin.resource);
                    self.add(origin.problem("spec.name", message));
                }
            }
        }
        let mut rules = BTreeSet::new();
        for rule in &definitions.rules {
            if !rules.insert(&rule.name) {
                self.add(rule.origin.problem("metadata.name", format!("there are two rules \"{}\"", rule.name)));
            }
        }
    }

    fn stream(&mut self, stream: &StreamDef) {
        let origin = &stream.origin;
        let source_type = match self.registry.source(&stream.connector) {
            Ok(source_type) => Arc::clone(source_type),
            Err(error) => return self.attribute(origin, "type", "TYPE", &error),
        };
        match SourceOptions::split(&stream.options) {
            Ok((_, own)) => {
                let args = SourceArgs {
                    stream: &stream.name,
                    datasource: &stream.datasource,
                    format: &stream.format,
                    options: &own,
                };
                if let Err(error) = (source_type.build)(&args) {
                    self.parts(origin, &error);
                    // Its own format reads the same options, and would say the same.
                    if matches!(source_type.gives, Gives::Own(_)) {
                        return;
                    }
                }
            }
            Err(error) => return self.options(origin, "spec.options", &error),
        }
        match source_type.gives {
            Gives::Rows => return,
            Gives::Own(_) => {}
            Gives::Payloads => {
                if let Err(error) = self.registry.format(&stream.format) {
                    return self.attribute(origin, "format", "FORMAT", &error);
                }
            }
        }
        if let Err(error) = StreamDecoder::new(stream, self.registry, Arc::new(Schema::default())) {
            self.parts(origin, &error);
        }
    }

    /// A table that no rule joins with: as if it were joined by its key.
    fn table(&mut self, table: &LookupTableDef) {
        let star = Column { name: table.name.as_str().into(), kind: ColumnKind::Star, ty: Type::default() };
        let plan = LookupPlan {
            table: table.name.as_str().into(),
            kind: JoinKind::Inner,
            key_columns: vec![table.key.as_deref().unwrap_or("id").into()],
            columns: Arc::new(Schema { columns: vec![star] }),
        };
        self.lookup(table, &plan);
    }

    fn lookup(&mut self, table: &LookupTableDef, plan: &LookupPlan) {
        if let Err(error) = self.registry.lookup(&table.connector) {
            return self.attribute(&table.origin, "type", "TYPE", &error);
        }
        let metrics = LookupMetrics::new("check", &table.name, &table.connector, Arc::clone(&self.ctx.clock));
        let driver = LookupDriver::new(table, plan, self.registry, self.ctx.clone(), Arc::new(metrics));
        if let Err(error) = driver {
            self.parts(&table.origin, &error);
        }
    }

    fn rule(&mut self, rule: &RuleDef, joined: &mut BTreeSet<String>) {
        if rule.sinks.is_empty() {
            self.add(rule.origin.problem("spec.sinks", "a rule needs at least one sink"));
        }
        // The engine's own verdict decides; taken apart below, so that each error is shown where it was made.
        let output = match build_rule(rule, &self.named, self.registry, &self.ctx) {
            Ok(built) => {
                for limit in limits(rule, &built.streams, &built.plan, self.registry) {
                    let warning = rule.origin.problem("spec.options.qos", limit.text);
                    self.add(warning.with_severity(Severity::Warning));
                }
                joined.extend(built.plan.lookups.iter().map(|lookup| lookup.table.to_string()));
                return;
            }
            Err(RuleError::Sql(errors)) => {
                for diagnostic in rule.origin.sql_problems("spec.sql", &errors) {
                    self.add(diagnostic);
                }
                Arc::new(Schema::default())
            }
            Err(RuleError::Config(_) | RuleError::NoState(_) | RuleError::State(_)) => self.lookups(rule, joined),
        };
        self.sinks(rule, &output);
    }

    /// The sinks of a rule: for its results, and for what is late or fails.
    fn sinks(&mut self, rule: &RuleDef, output: &Arc<Schema>) {
        let own = rule.sinks.iter().enumerate().map(|(idx, sink)| (format!("spec.sinks[{idx}]"), sink, output));
        let records = rejected::schema();
        let side = [("late", &rule.late_sink), ("error", &rule.error_sink)]
            .into_iter()
            .filter_map(|(name, sink)| sink.as_ref().map(|sink| (format!("spec.options.{name}Sink"), sink, &records)));
        for (sink_idx, (place, sink, output)) in own.chain(side).enumerate() {
            let base = format!("{place}.{}", sink.connector);
            if let Err(error) = self.registry.sink(&sink.connector) {
                let message = error.problems.first().map(|problem| problem.message.clone()).unwrap_or_default();
                self.add(rule.origin.key_problem(&base, message));
                continue;
            }
            let metrics = SinkMetrics::new(&rule.name, sink_idx, &sink.connector, Arc::clone(&self.ctx.clock));
            let parts = SinkParts {
                rule: &rule.name,
                index: sink_idx,
                output,
                registry: self.registry,
                ctx: self.ctx.clone(),
                metrics: Arc::new(metrics),
                backpressure: rule.backpressure,
            };
            if let Err(error) = SinkDriver::new(sink, parts) {
                self.options(&rule.origin, &base, &error);
            }
        }
    }

    /// Checks the tables that a rule joins with, and gives the rule's output.
    fn lookups(&mut self, rule: &RuleDef, joined: &mut BTreeSet<String>) -> Arc<Schema> {
        let functions = &self.registry.functions;
        let Ok(plan) = sluice_sql::plan::plan_rule(&rule.sql, &self.named.catalog, functions, &rule.options) else {
            return Arc::new(Schema::default());
        };
        for lookup in &plan.lookups {
            if let Some(table) = self.named.tables.get(lookup.table.as_str()).map(Arc::clone) {
                joined.insert(table.name.clone());
                self.lookup(&table, lookup);
            }
        }
        plan.output
    }

    /// Errors of a stream's or table's connector or format: about its options, or about what has a field of its own.
    fn parts(&mut self, origin: &Origin, error: &ConfigError) {
        for problem in &error.problems {
            let field = OWN_FIELDS.iter().find(|(name, _)| *name == problem.path);
            self.add(match field {
                Some((name, ddl)) => origin.attribute_problem(&format!("spec.{name}"), ddl, &problem.message),
                None => origin.option_problem("spec.options", problem),
            });
        }
    }

    fn attribute(&mut self, origin: &Origin, field: &str, ddl: &str, error: &ConfigError) {
        for ConfigProblem { message, .. } in &error.problems {
            self.add(origin.attribute_problem(&format!("spec.{field}"), ddl, message));
        }
    }
}

/// Adds what the statement reads and nobody has created: a stream, or in a join without a window a lookup table, as nothing
/// else can be joined there. Gives an error for each.
pub fn assume_sources(select: &Select, functions: &Functions, catalog: &mut Catalog) -> Vec<SqlError> {
    let mut unknown = Vec::new();
    for (name, span, kind) in sources_of(select, functions) {
        if catalog.sources.contains_key(name) {
            continue;
        }
        let known = catalog.sources.keys().map(|name| name.as_str());
        let error = SqlError::new(span, format!("there is no stream or table \"{name}\""));
        unknown.push(error.with_suggestion(name, known));
        catalog.sources.insert(name.into(), SourceDef { kind, ..SourceDef::default() });
    }
    unknown
}

/// The streams and tables that a statement reads, with their places, and what they are if nothing else is known.
fn sources_of<'a>(select: &'a Select, functions: &Functions) -> Vec<(&'a str, Span, SourceKind)> {
    let joined = if select.window.is_some() { SourceKind::Stream } else { SourceKind::LookupTable };
    let named = |source: &'a SourceRef, kind| (source.name.name.as_str(), source.name.span, kind);
    let mut sources = vec![named(&select.from, SourceKind::Stream)];
    sources.extend(select.joins.iter().map(|join| named(&join.source, joined)));
    let looked_up = sluice_sql::plan::looked_up(select, functions);
    sources.extend(looked_up.into_iter().map(|(table, span)| (table, span, SourceKind::LookupTable)));
    sources
}

/// What connectors and formats call by its own name, and has a field and an option of the statement, not a connector's option.
const OWN_FIELDS: &[(&str, &str)] = &[
    ("datasource", "DATASOURCE"),
    ("format", "FORMAT"),
    ("delimiter", "DELIMITER"),
    ("key", "KEY"),
    ("fields", "FIELDS"),
];
