//! Documents to definitions: both forms of streams and tables become one, options get their profile and their secrets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sluice_crds::{
    CacheSpec, LookupTableSpec, OnError, OptionMap, RuleErrorPolicy, RuleSpec, RuntimeSpec, Sink, StatePolicy,
    StreamSpec, TableKind, WindowVersion,
};
use sluice_sql::plan::{RuleOptions, StarColumns};
use sluice_sql::sql::Span;

use super::document::{Document, Kind};
use super::load::Manifests;
use super::place::Place;
use super::profile::{self, ProfileError, Request};
use super::secret::Secrets;
use super::source::{self, SourceText};
use super::yaml::Data;
use crate::check;
use crate::definition::{
    Backpressure, CacheSettings, DEFAULT_BUFFER_BATCHES, DEFAULT_CHECKPOINT_INTERVAL, DEFAULT_LOOKUP_TIMEOUT, Delivery,
    LookupTableDef, OnLookupError, OnStateChange, Origin, RuleDef, SinkDef, StreamDef,
};
use crate::diagnostic::{Diagnostic, Severity};
use crate::error::{ConfigError, ConfigProblem};
use crate::options::{HumanDuration, Options, read};
use crate::pipeline::restart::RestartPolicy;
use crate::pipeline::schedule::{Schedule, ScheduleText};

/// Adds the definitions of all documents.
pub(super) fn resolve(documents: Vec<Document>, secrets: &Secrets, manifests: &mut Manifests) {
    let documents: Vec<Arc<Document>> = documents.into_iter().map(Arc::new).collect();
    // Their defaults are needed by the rules.
    for document in documents.iter().filter(|document| document.kind == Kind::Runtime) {
        if let Some(spec) = spec::<RuntimeSpec>(document, &mut manifests.diagnostics) {
            warn_of_options(document, spec.options.as_ref(), &mut manifests.diagnostics);
            manifests.runtimes.insert(document.name.clone(), spec);
        }
    }
    for document in &documents {
        let mut resolver = Resolver { document, secrets, problems: Vec::new() };
        match document.kind {
            Kind::Stream => manifests.definitions.streams.extend(resolver.stream()),
            Kind::LookupTable => match resolver.table() {
                Some(Table::Lookup(table)) => manifests.definitions.tables.push(*table),
                Some(Table::Scan(stream)) => manifests.definitions.streams.push(*stream),
                None => {}
            },
            Kind::Rule => manifests.definitions.rules.extend(resolver.rule(&manifests.runtimes)),
            Kind::Runtime | Kind::Secret => {}
        }
        manifests.diagnostics.append(&mut resolver.problems);
    }
}

/// What a document of kind LookupTable gives.
enum Table {
    Lookup(Box<LookupTableDef>),
    Scan(Box<StreamDef>),
}

struct Resolver<'a> {
    document: &'a Arc<Document>,
    secrets: &'a Secrets,
    problems: Vec<Diagnostic>,
}

impl Resolver<'_> {
    fn stream(&mut self) -> Option<StreamDef> {
        let spec: StreamSpec = spec(self.document, &mut self.problems)?;
        let text = source::stream(self.document, &spec, &mut self.problems)?;
        self.stream_of(text, spec.options, spec.config.as_ref())
    }

    fn table(&mut self) -> Option<Table> {
        let spec: LookupTableSpec = spec(self.document, &mut self.problems)?;
        self.warn_of_null_policy();
        let text = source::table(self.document, &spec, &mut self.problems)?;
        if text.kind == TableKind::Scan {
            return self
                .stream_of(text, spec.options, spec.config.as_ref())
                .map(|stream| Table::Scan(Box::new(stream)));
        }
        let (mut options, origin) = self.options(&text, spec.options, spec.config.as_ref(), true);
        let profile = options.split_off::<LookupProfile>();
        let cache = match profile.parse::<LookupProfile>() {
            Ok(profile) => cache(profile.lookup.unwrap_or_default(), spec.cache),
            Err(error) => {
                self.config_error(&origin, "spec.options", &error);
                CacheSettings::default()
            }
        };
        let def = LookupTableDef {
            name: text.name,
            connector: text.connector,
            datasource: text.datasource,
            format: text.format,
            fields: text.fields,
            key: text.key,
            cache,
            on_error: match spec.on_error.unwrap_or_default() {
                OnError::Drop => OnLookupError::Drop,
                OnError::Null => OnLookupError::Null,
                OnError::Retry => OnLookupError::Retry,
            },
            timeout: spec.timeout.map_or(DEFAULT_LOOKUP_TIMEOUT, Duration::from),
            options,
            origin,
        };
        self.clean().then(|| Table::Lookup(Box::new(def)))
    }

    /// A bare `null` is YAML's word for "not given", and the API server drops it; here it was surely meant as the policy.
    fn warn_of_null_policy(&mut self) {
        let policy = self.document.node.get("spec").and_then(|spec| spec.get("onError"));
        if policy.is_some_and(|policy| policy.data == Data::Null) {
            let message =
                "a bare null means \"not given\", so the policy is drop; write \"null\" in quotes to let rows pass";
            let warning = self.document.problem("spec.onError", message).with_severity(Severity::Warning);
            self.problems.push(warning);
        }
    }

    fn stream_of(
        &mut self,
        text: SourceText,
        options: Option<OptionMap>,
        config: Option<&sluice_crds::ConfigRef>,
    ) -> Option<StreamDef> {
        let (options, origin) = self.options(&text, options, config, false);
        let def = StreamDef {
            name: text.name,
            connector: text.connector,
            datasource: text.datasource,
            format: text.format,
            fields: text.fields,
            timestamp: text.timestamp,
            timestamp_format: text.timestamp_format,
            strict: text.strict,
            shared: text.shared,
            delimiter: text.delimiter,
            retain: text.retain,
            options,
            origin,
        };
        self.clean().then_some(def)
    }

    fn rule(&mut self, runtimes: &BTreeMap<String, RuntimeSpec>) -> Option<RuleDef> {
        let spec: RuleSpec = spec(self.document, &mut self.problems)?;
        let origin = self.origin(BTreeMap::new(), BTreeMap::new());
        let mut sinks = Vec::with_capacity(spec.sinks.len());
        for (sink_idx, sink) in spec.sinks.into_iter().enumerate() {
            let mut options = Value::Object(sink.options.0);
            let mut problems = Vec::new();
            self.secrets.fill(&mut options, "", &mut problems);
            self.config_error(&origin, &format!("spec.sinks[{sink_idx}].{}", sink.ty), &ConfigError { problems });
            sinks.push(SinkDef { connector: sink.ty, options: Options::from(options) });
        }
        let runtime = spec.runtime.as_deref().unwrap_or(sluice_crds::DEFAULT_RUNTIME);
        let own = spec.options.unwrap_or_default();
        warn_of_options(self.document, Some(&own), &mut self.problems);
        let defaults = runtimes.get(runtime).and_then(|runtime| runtime.options.clone()).unwrap_or_default();
        let late_sink =
            own.late_sink.clone().or(defaults.late_sink.clone()).map(|sink| self.side_sink(sink, &origin, "lateSink"));
        let error_sink = own
            .error_sink
            .clone()
            .or(defaults.error_sink.clone())
            .map(|sink| self.side_sink(sink, &origin, "errorSink"));
        let strategy = own.plan_optimize_strategy.clone().or(defaults.plan_optimize_strategy).unwrap_or_default();
        let window = strategy.window_option.unwrap_or_default();
        let left_out = strategy.optimize_control.unwrap_or_default().disable_optimize_rules;
        let millis = |duration: sluice_crds::Duration| i64::try_from(duration.0.as_millis()).unwrap_or(i64::MAX);
        let standard = RuleOptions::default();
        let options = RuleOptions {
            event_time: own.event_time.or(defaults.event_time).unwrap_or(standard.event_time),
            late_tolerance_ms: own
                .late_tolerance
                .or(defaults.late_tolerance)
                .map_or(standard.late_tolerance_ms, millis),
            idle_timeout_ms: own.idle_timeout.or(defaults.idle_timeout).map(millis).or(standard.idle_timeout_ms),
            send_error: own.send_error.or(defaults.send_error).unwrap_or(standard.send_error),
            send_nil: own.send_nil_field.or(defaults.send_nil_field).unwrap_or(standard.send_nil),
            flush_at_end: own.flush_at_end.or(defaults.flush_at_end).unwrap_or(standard.flush_at_end),
            max_ahead_ms: own.max_clock_drift.or(defaults.max_clock_drift).map(millis).or(standard.max_ahead_ms),
            send_meta: own.send_meta_to_sink.or(defaults.send_meta_to_sink).unwrap_or(standard.send_meta),
            keep_rejected: late_sink.is_some() || error_sink.is_some(),
            sliding_v2: window.window_version == Some(WindowVersion::V2),
            sliding_twice: window.enable_send_sliding_window_twice.unwrap_or(standard.sliding_twice),
            star_columns: match own.star_columns.or(defaults.star_columns).unwrap_or_default() {
                sluice_crds::StarColumns::All => StarColumns::All,
                sluice_crds::StarColumns::Named => StarColumns::Named,
            },
            alias_references: !strategy.disable_alias_ref_cal.unwrap_or(false),
            push_down: !left_out.contains(&sluice_crds::OptimizeRule::PredicatePushDown),
        };
        let schedule = self.schedule(&own, &origin);
        let fails = own.on_error.or(defaults.on_error) == Some(RuleErrorPolicy::Fail);
        let buffer = own.buffer_length.or(defaults.buffer_length).and_then(|length| usize::try_from(length).ok());
        let def = RuleDef {
            name: self.document.name.clone(),
            sql: spec.sql,
            sinks,
            options,
            late_sink,
            error_sink,
            fail_on_error: fails,
            buffer_batches: buffer.unwrap_or(DEFAULT_BUFFER_BATCHES),
            backpressure: match own.backpressure.or(defaults.backpressure).unwrap_or_default() {
                sluice_crds::Backpressure::Block => Backpressure::Block,
                sluice_crds::Backpressure::DropOldest => Backpressure::DropOldest,
                sluice_crds::Backpressure::DropNewest => Backpressure::DropNewest,
                sluice_crds::Backpressure::Spill => Backpressure::Spill,
            },
            restart: restart(own.restart_strategy.as_ref(), defaults.restart_strategy.as_ref(), fails),
            schedule,
            delivery: Delivery {
                qos: own.qos.or(defaults.qos).and_then(|qos| u8::try_from(qos).ok()).unwrap_or(0),
                checkpoint_interval: own
                    .checkpoint_interval
                    .or(defaults.checkpoint_interval)
                    .map_or(DEFAULT_CHECKPOINT_INTERVAL, Duration::from),
                on_change: match own.state_on_change.or(defaults.state_on_change).unwrap_or_default() {
                    StatePolicy::Keep => OnStateChange::Keep,
                    StatePolicy::Reset => OnStateChange::Reset,
                    StatePolicy::Refuse => OnStateChange::Refuse,
                },
            },
            suspend: spec.suspend.unwrap_or(false),
            held_with: None,
            origin,
        };
        self.clean().then_some(def)
    }

    /// A sink for rows that are left out.
    fn side_sink(&mut self, sink: Sink, origin: &Origin, name: &str) -> SinkDef {
        let mut options = Value::Object(sink.options.0);
        let mut problems = Vec::new();
        self.secrets.fill(&mut options, "", &mut problems);
        self.config_error(origin, &format!("spec.options.{name}.{}", sink.ty), &ConfigError { problems });
        SinkDef { connector: sink.ty, options: Options::from(options) }
    }

    /// A schedule is the rule's own: a runtime has no default for it.
    fn schedule(&mut self, options: &sluice_crds::RuleOptions, origin: &Origin) -> Option<Schedule> {
        let ranges = options.cron_datetime_range.iter();
        let text = ScheduleText {
            cron: options.cron.clone(),
            duration: options.duration.map(Duration::from),
            ranges: ranges.map(|range| (range.begin.clone(), range.end.clone())).collect(),
            time_zone: options.time_zone.clone(),
        };
        Schedule::new(text).unwrap_or_else(|error| {
            self.config_error(origin, "spec.options", &error);
            None
        })
    }

    /// The profile, EXTRA and the options of the document, each laid over the one before, with secrets filled in.
    fn options(
        &mut self,
        text: &SourceText,
        options: Option<OptionMap>,
        config: Option<&sluice_crds::ConfigRef>,
        lookup: bool,
    ) -> (Options, Origin) {
        let in_spec = config.and_then(|config| config.profile.as_deref());
        if let (Some(_), Some(_)) = (in_spec, &text.profile) {
            let message = "the statement names a profile with CONF_KEY already; keep one of the two";
            self.problems.push(self.document.problem("spec.config.profile", message));
        }
        let request = Request {
            connector: &text.connector,
            secret: config.and_then(|config| config.secret_ref.as_ref()).map(|secret| secret.name.as_str()),
            profile: in_spec.or(text.profile.as_deref()),
            lookup,
        };
        let (mut merged, mut provenance) = match profile::find(self.secrets, &request) {
            Ok(found) => found,
            Err(error) => {
                let origin = self.origin(text.ddl.clone(), BTreeMap::new());
                self.problems.push(match error {
                    ProfileError::Secret(message) => self.document.problem("spec.config.secretRef.name", message),
                    ProfileError::Profile(message) if in_spec.is_some() => {
                        self.document.problem("spec.config.profile", message)
                    }
                    ProfileError::Profile(message) => origin.attribute_problem("spec.config", "CONF_KEY", message),
                });
                (Map::new(), BTreeMap::new())
            }
        };
        for (key, value) in text.extra.iter().chain(options.iter().flat_map(|options| &options.0)) {
            provenance.remove(&key.to_lowercase());
            profile::overlay(&mut merged, key, value.clone());
        }
        let origin = self.origin(text.ddl.clone(), provenance);
        let mut problems = Vec::new();
        let mut merged = Value::Object(merged);
        self.secrets.fill(&mut merged, "", &mut problems);
        self.config_error(&origin, "spec.options", &ConfigError { problems });
        (Options::from(merged), origin)
    }

    fn config_error(&mut self, origin: &Origin, base: &str, error: &ConfigError) {
        self.problems.extend(error.problems.iter().map(|problem| origin.option_problem(base, problem)));
    }

    fn origin(&self, ddl: BTreeMap<String, Span>, profile: BTreeMap<String, String>) -> Origin {
        Origin {
            file: self.document.file.path.clone(),
            line: self.document.node.span.line,
            resource: self.document.resource(),
            generation: self.document.generation,
            uid: self.document.uid.clone(),
            place: Some(Arc::new(Place { document: Arc::clone(self.document), ddl, profile })),
        }
    }

    /// Nothing found so far stops the definition.
    fn clean(&self) -> bool {
        !self.problems.iter().any(Diagnostic::is_error)
    }
}

/// The rule's restart strategy, field by field laid over the runtime's. A rule that is to fail with a row is not started again
/// unless it says so.
fn restart(
    own: Option<&sluice_crds::RestartStrategy>,
    defaults: Option<&sluice_crds::RestartStrategy>,
    fails_on_error: bool,
) -> RestartPolicy {
    fn field<T>(
        own: Option<&sluice_crds::RestartStrategy>,
        defaults: Option<&sluice_crds::RestartStrategy>,
        get: fn(&sluice_crds::RestartStrategy) -> Option<T>,
        standard: T,
    ) -> T {
        own.and_then(get).or_else(|| defaults.and_then(get)).unwrap_or(standard)
    }
    let mut standard = RestartPolicy::default();
    if fails_on_error {
        standard.attempts = 0;
    }
    RestartPolicy {
        attempts: field(own, defaults, |it| it.attempts.and_then(|n| u32::try_from(n).ok()), standard.attempts),
        delay: field(own, defaults, |it| it.delay.map(Duration::from), standard.delay),
        multiplier: field(own, defaults, |it| it.multiplier, standard.multiplier),
        max_delay: field(own, defaults, |it| it.max_delay.map(Duration::from), standard.max_delay),
        jitter_factor: field(own, defaults, |it| it.jitter_factor, standard.jitter_factor),
        healthy_after: field(own, defaults, |it| it.healthy_after.map(Duration::from), standard.healthy_after),
    }
}

/// Says of each option that changes nothing that it does not.
fn warn_of_options(document: &Document, options: Option<&sluice_crds::RuleOptions>, problems: &mut Vec<Diagnostic>) {
    for (path, message) in options.map(check::without_effect).unwrap_or_default() {
        let problem = document.problem(&format!("spec.options.{path}"), message);
        problems.push(problem.with_severity(Severity::Warning));
    }
}

/// The group `lookup` of a profile.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct LookupProfile {
    lookup: Option<ProfileCache>,
}

/// Settings of the cache in front of the table.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ProfileCache {
    cache: bool,
    cache_ttl: HumanDuration,
    cache_missing_key: bool,
}

/// The document's settings, laid over those of the profile.
fn cache(profile: ProfileCache, spec: Option<CacheSpec>) -> CacheSettings {
    let standard = CacheSettings::default();
    let ttl = Some(profile.cache_ttl.0).filter(|ttl| !ttl.is_zero());
    match spec {
        None => CacheSettings { enabled: profile.cache, ttl, missing: profile.cache_missing_key, ..standard },
        Some(spec) => CacheSettings {
            enabled: spec.enabled.unwrap_or(true),
            ttl: spec.ttl.map(Duration::from).or(ttl),
            missing: spec.missing.unwrap_or(profile.cache_missing_key),
            max_entries: spec.max_entries.and_then(|n| usize::try_from(n).ok()).unwrap_or(standard.max_entries),
        },
    }
}

/// Reads `spec`, as strictly as the API server.
fn spec<T: DeserializeOwned + JsonSchema>(document: &Document, problems: &mut Vec<Diagnostic>) -> Option<T> {
    let Some(node) = document.node.get("spec") else {
        problems.push(document.problem("spec", "required, but not given"));
        return None;
    };
    let Value::Object(map) = node.to_json() else {
        problems.push(document.problem("spec", "expected a map"));
        return None;
    };
    match read::fields(&map) {
        Ok(spec) => Some(spec),
        Err(error) => {
            problems.extend(error.problems.iter().map(|ConfigProblem { path, message }| {
                let path = if path.is_empty() { "spec".to_owned() } else { format!("spec.{path}") };
                document.problem(&path, message)
            }));
            None
        }
    }
}
