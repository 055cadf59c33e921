//! What is good, what runs, and in which form.
//!
//! Each object is judged by itself, by the calls that `sluice check` makes. An object that is not good is stood in for by its last good
//! form, if a bundle has one of the same uid. A rule that is not good with the streams and tables as they are runs on with those that
//! it was good with: it is *held*.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;
use sluice::Registry;
use sluice::bundle::{Bundle, BundleObject, FORMAT, HeldRule, SecretValues, Spec, secrets};
use sluice::check::Checker;
use sluice::definition::{Definitions, RuleDef};
use sluice::diagnostic::Diagnostic;
use sluice::manifest::{Kind, Manifests, Object, Secrets, load_objects};
use sluice_crds::{DEFAULT_RUNTIME, RuntimeSpec};

use super::refs::{SecretNeed, secret_needs};
use super::{Key, Reason, SecretState, Snapshot, egress, names};
use crate::object::Stored;

/// The verdict on a namespace.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// Streams and tables by kind and name.
    pub sources: BTreeMap<Key, SourceJudgement>,
    /// Rules by name.
    pub rules: BTreeMap<String, RuleJudgement>,
    /// Runtimes: those that have an object, and those that run something.
    pub runtimes: BTreeMap<String, RuntimeJudgement>,
}

/// Why something is not in order.
pub type Problem = (Reason, String);

/// The verdict on a stream or table.
#[derive(Clone, Debug, Default)]
pub struct SourceJudgement {
    /// Why the definition is not good.
    pub refused: Option<Problem>,
    /// What it refers to is not all there.
    pub unresolved: Option<Problem>,
    /// Name in SQL.
    pub sql_name: Option<String>,
    /// Connector.
    pub connector: Option<String>,
    /// Rules that read it.
    pub used_by: Vec<String>,
}

/// The verdict on a rule.
#[derive(Clone, Debug, Default)]
pub struct RuleJudgement {
    /// Why the definition is not good.
    pub refused: Option<Problem>,
    /// What it refers to is not all there.
    pub unresolved: Option<Problem>,
    /// The Runtime that it names.
    pub runtime: String,
    /// What of it is to run.
    pub placement: Option<Placement>,
}

/// What of a rule is to run, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The runtime. Another one than the rule names, if its newest definition is not good.
    pub runtime: String,
    /// The uid.
    pub uid: String,
    /// The generation.
    pub generation: i64,
}

/// The verdict on a runtime.
#[derive(Clone, Debug, Default)]
pub struct RuntimeJudgement {
    /// Why its definition is not good.
    pub refused: Option<Problem>,
    /// Its spec, if it has an object and that is good.
    pub spec: Option<Box<RuntimeSpec>>,
    /// Uid of its object.
    pub uid: Option<String>,
    /// What it is to run.
    pub bundle: Arc<Bundle>,
    /// Ports that its connectors reach out to, where that can be known.
    pub egress: egress::Egress,
    /// Rules that name it.
    pub n_rules: usize,
}

/// Judges a namespace.
pub fn judge(snapshot: &Snapshot, registry: &Registry) -> Judgement {
    Judge::new(snapshot, registry).judge()
}

/// A rule that can run.
struct Runnable {
    object: BundleObject,
    def: RuleDef,
    reads: Vec<String>,
}

struct Judge<'a> {
    snapshot: &'a Snapshot,
    registry: &'a Registry,
    /// As they are now, and as they were where they are no longer.
    values: SecretValues,
    secrets: Secrets,
    judgement: Judgement,
    /// The objects that stand in for their kinds and names.
    good: BTreeMap<Key, BundleObject>,
    /// By SQL name.
    by_name: BTreeMap<String, Key>,
    definitions: Definitions,
}

impl<'a> Judge<'a> {
    fn new(snapshot: &'a Snapshot, registry: &'a Registry) -> Self {
        let mut values = SecretValues::new();
        for (name, old) in snapshot.bundles.values().flat_map(|bundle| &bundle.secrets) {
            values.entry(name.clone()).or_default().extend(old.clone());
        }
        for (name, new) in snapshot.secret_values() {
            values.entry(name).or_default().extend(new);
        }
        let secrets = secrets([&values]);
        Judge {
            snapshot,
            registry,
            values,
            secrets,
            judgement: Judgement::default(),
            good: BTreeMap::new(),
            by_name: BTreeMap::new(),
            definitions: Definitions::default(),
        }
    }

    fn judge(mut self) -> Judgement {
        self.runtimes();
        self.sources();
        let (placed, held) = self.rules();
        self.bundles(placed, held);
        self.judgement
    }

    fn runtimes(&mut self) {
        let objects: Vec<&Arc<Stored>> =
            self.snapshot.of_kind(Kind::Runtime).filter(|object| !object.is_deleting).collect();
        let mut manifests =
            load_objects(objects.iter().filter_map(|object| object.bundle_object().object()), &self.secrets);
        for object in objects {
            let refused = problem(&manifests.diagnostics, &object.resource());
            let spec = manifests.runtimes.remove(&object.name).filter(|_| refused.is_none());
            if let Some(spec) = &spec {
                // All that a pod needs to know of it.
                let options =
                    spec.options.as_ref().map(|options| json!({ "options": options })).unwrap_or_else(|| json!({}));
                let own = BundleObject { spec: Spec(options.to_string().into()), ..object.bundle_object() };
                self.good.insert((Kind::Runtime, object.name.clone()), own);
            } else if let Some(old) = self.last_good(Kind::Runtime, &object.name, &object.uid) {
                self.good.insert((Kind::Runtime, object.name.clone()), old);
            }
            let runtime = RuntimeJudgement {
                refused,
                spec: spec.map(Box::new),
                uid: Some(object.uid.clone()),
                ..RuntimeJudgement::default()
            };
            self.judgement.runtimes.insert(object.name.clone(), runtime);
        }
    }

    /// The form of an object that a bundle has.
    fn last_good(&self, kind: Kind, name: &str, uid: &str) -> Option<BundleObject> {
        let bundles = self.snapshot.bundles.values();
        let objects =
            bundles.flat_map(|bundle| bundle.objects.iter().chain(bundle.held.iter().flat_map(|held| &held.objects)));
        let same = objects.filter(|object| object.kind == kind.as_str() && object.name == name && object.uid == uid);
        same.max_by_key(|object| object.generation).cloned()
    }

    fn sources(&mut self) {
        let mut objects: Vec<&Arc<Stored>> =
            self.snapshot.of_kind(Kind::Stream).chain(self.snapshot.of_kind(Kind::LookupTable)).collect();
        objects.retain(|object| !object.is_deleting);
        // The oldest of several with one SQL name has it.
        objects.sort_by(|a, b| (a.created, a.kind, &a.name).cmp(&(b.created, b.kind, &b.name)));
        let manifests =
            load_objects(objects.iter().filter_map(|object| object.bundle_object().object()), &self.secrets);
        let mut own = by_resource(&manifests);
        for object in objects {
            let key = (object.kind, object.name.clone());
            let resource = object.resource();
            let unresolved = self.unresolved_secret(object);
            let found = own.remove(&resource);
            let mut refused = problem(&manifests.diagnostics, &resource);
            let mut source = SourceJudgement { unresolved, ..SourceJudgement::default() };
            if let Some(found) = &found {
                source.sql_name = Some(found.name().to_owned());
                source.connector = Some(found.connector().to_owned());
                refused = refused.or_else(|| self.source_problem(found));
                if let Some(twin) = self.by_name.get(found.name()) {
                    let twin = format!("{}/{}", twin.0.as_str(), twin.1);
                    let message = format!("the SQL name \"{}\" is taken by {twin}, which is older", found.name());
                    refused = Some((Reason::NameConflict, message));
                }
            }
            // What could not be read for want of a Secret is not wrong.
            if refused.as_ref().is_some_and(|(reason, _)| *reason == Reason::SecretNotFound) {
                source.unresolved = source.unresolved.or(refused.take());
            }
            source.refused = refused;
            match found {
                Some(found) if source.refused.is_none() => self.take_source(key.clone(), object.bundle_object(), found),
                _ => {
                    if let Some(old) = self.last_good(object.kind, &object.name, &object.uid) {
                        let manifests = load_objects(old.object(), &self.secrets);
                        let found = by_resource(&manifests).remove(&resource);
                        if let Some(found) = found.filter(|found| !self.by_name.contains_key(found.name())) {
                            self.take_source(key.clone(), old, found);
                        }
                    }
                }
            }
            self.judgement.sources.insert(key, source);
        }
    }

    fn take_source(&mut self, key: Key, object: BundleObject, found: Source) {
        self.by_name.insert(found.name().to_owned(), key.clone());
        self.good.insert(key, object);
        match found {
            Source::Stream(stream) => self.definitions.streams.push(*stream),
            Source::Table(table) => self.definitions.tables.push(*table),
        }
    }

    fn source_problem(&self, source: &Source) -> Option<Problem> {
        let mut checker = Checker::new(&Definitions::default(), self.registry);
        let found = match source {
            Source::Stream(stream) => checker.stream_verdict(stream),
            Source::Table(table) => checker.table_verdict(table),
        };
        worst(found.iter().filter(|diagnostic| diagnostic.is_error()))
    }

    /// The first Secret that an object names and that is not there.
    fn unresolved_secret(&self, object: &Stored) -> Option<Problem> {
        let needs = secret_needs(object.kind, &object.spec_value());
        needs.iter().filter(|need| need.is_required()).find_map(|need| self.missing(need))
    }

    fn missing(&self, need: &SecretNeed) -> Option<Problem> {
        let SecretNeed { name, key, path } = need;
        let message = match (self.snapshot.secrets.get(name), key) {
            (Some(SecretState::Values(values)), Some(key)) if !values.contains_key(key) => {
                format!("{path}: Secret \"{name}\" has no key \"{key}\"")
            }
            (Some(SecretState::Values(_)), _) => return None,
            (Some(SecretState::Unreadable(error)), _) => format!("{path}: Secret \"{name}\" can't be read: {error}"),
            (Some(SecretState::Missing) | None, _) => format!("{path}: Secret \"{name}\" is not there"),
        };
        Some((Reason::SecretNotFound, message))
    }

    /// Judges all rules. Gives those that can run as they are, by runtime, and those that are held.
    fn rules(&mut self) -> (BTreeMap<String, Vec<Runnable>>, BTreeMap<String, Vec<HeldRule>>) {
        let runtimes: Vec<BundleObject> = self
            .good
            .iter()
            .filter(|((kind, _), _)| *kind == Kind::Runtime)
            .map(|(_, object)| object.clone())
            .collect();
        let snapshot = self.snapshot;
        let objects: Vec<&Arc<Stored>> = snapshot.of_kind(Kind::Rule).filter(|object| !object.is_deleting).collect();
        let all = runtimes
            .iter()
            .filter_map(BundleObject::object)
            .chain(objects.iter().filter_map(|o| o.bundle_object().object()));
        let Manifests { definitions, diagnostics, .. } = load_objects(all, &self.secrets);
        let mut defs: BTreeMap<String, RuleDef> =
            definitions.rules.into_iter().map(|rule| (rule.name.clone(), rule)).collect();
        let mut problems: BTreeMap<&str, Vec<&Diagnostic>> = BTreeMap::new();
        for diagnostic in diagnostics.iter().filter(|diagnostic| diagnostic.is_error()) {
            problems.entry(&diagnostic.resource).or_default().push(diagnostic);
        }
        let mut checker = Checker::new(&self.definitions, self.registry);
        let mut placed: BTreeMap<String, Vec<Runnable>> = BTreeMap::new();
        let mut held: BTreeMap<String, Vec<HeldRule>> = BTreeMap::new();
        for object in objects {
            let runtime = names::runtime_of(&object.spec_value());
            let mut rule = RuleJudgement {
                unresolved: self.unresolved_secret(object),
                runtime: runtime.clone(),
                ..RuleJudgement::default()
            };
            let own = problems.get(object.resource().as_str()).and_then(|found| worst(found.iter().copied()));
            let def = defs.remove(&object.name);
            let mut reads = Vec::new();
            match &def {
                Some(def) => {
                    let verdict = checker.rule_verdict(def);
                    reads = verdict.reads;
                    rule.refused = worst(verdict.found.iter());
                    rule.unresolved = self.unresolved_source(&reads, &verdict.missing).or(rule.unresolved.take());
                    // Problems of a stream show on the stream.
                }
                None => match own {
                    Some((Reason::SecretNotFound, message)) => {
                        rule.unresolved = rule.unresolved.take().or(Some((Reason::SecretNotFound, message)));
                        rule.refused = self.refused_anyhow(object, &runtimes, &mut checker);
                    }
                    own => rule.refused = own.or_else(|| Some((Reason::InvalidSpec, "spec can't be read".to_owned()))),
                },
            }
            let has_sources = reads.iter().all(|name| self.by_name.contains_key(name));
            rule.unresolved = self.unresolved_runtime(&runtime).or(rule.unresolved.take());
            let has_runtime = runtime == DEFAULT_RUNTIME || self.good.contains_key(&(Kind::Runtime, runtime.clone()));
            self.use_sources(&reads, &object.name);
            match def {
                Some(def) if rule.refused.is_none() && has_sources && has_runtime => {
                    rule.placement = Some(Placement {
                        runtime: runtime.clone(),
                        uid: object.uid.clone(),
                        generation: object.generation,
                    });
                    placed.entry(runtime).or_default().push(Runnable { object: object.bundle_object(), def, reads });
                }
                _ => self.place_last_good(object, &mut rule, &mut checker, &mut placed, &mut held),
            }
            self.judgement.rules.insert(object.name.clone(), rule);
        }
        (placed, held)
    }

    /// What is wrong with a rule for certain, whatever the Secrets hold that are not there.
    fn refused_anyhow(&self, object: &Stored, runtimes: &[BundleObject], checker: &mut Checker<'_>) -> Option<Problem> {
        let objects = runtimes.iter().filter_map(BundleObject::object).chain(object.bundle_object().object());
        let manifests = load_objects(objects, &self.secrets.clone().assumed());
        let def = manifests.definitions.rules.first()?;
        let found = checker.rule_verdict(def).found;
        worst(found.iter().filter(|diagnostic| diagnostic.path == "spec.sql"))
    }

    /// The form of a rule that a bundle has: with what is defined now, if it goes with that, else held.
    fn place_last_good(
        &self,
        object: &Stored,
        rule: &mut RuleJudgement,
        checker: &mut Checker<'_>,
        placed: &mut BTreeMap<String, Vec<Runnable>>,
        held: &mut BTreeMap<String, Vec<HeldRule>>,
    ) {
        let is_it = |old: &&BundleObject| old.kind == "Rule" && old.name == object.name && old.uid == object.uid;
        let found = self.snapshot.bundles.iter().filter_map(|(runtime, bundle)| {
            // A runtime that is deleted takes what it runs with it.
            if runtime != DEFAULT_RUNTIME && !self.good.contains_key(&(Kind::Runtime, runtime.clone())) {
                return None;
            }
            let in_main = bundle.objects.iter().find(is_it).map(|old| (old, None));
            let was_held = || {
                let of_rule = bundle.held.iter().filter(|held| held.rule == object.name);
                of_rule.filter_map(|held| Some((held.objects.iter().find(is_it)?, Some(held)))).next()
            };
            let (old, was_held) = in_main.or_else(was_held)?;
            Some((runtime, bundle, old, was_held))
        });
        // While it moves, two bundles may have it.
        let newest = found.max_by_key(|(_, _, old, _)| old.generation);
        let Some((runtime, bundle, old, was_held)) = newest else { return };
        rule.placement = Some(Placement { runtime: runtime.clone(), uid: old.uid.clone(), generation: old.generation });
        let own = self.good.get(&(Kind::Runtime, runtime.clone()));
        let manifests = load_objects(own.and_then(BundleObject::object).into_iter().chain(old.object()), &self.secrets);
        if let Some(def) = manifests.definitions.rules.into_iter().next() {
            let verdict = checker.rule_verdict(&def);
            let fits = verdict.missing.is_empty() && verdict.found.iter().all(|diagnostic| !diagnostic.is_error());
            if fits {
                let runnable = Runnable { object: old.clone(), def, reads: verdict.reads };
                return placed.entry(runtime.clone()).or_default().push(runnable);
            }
        }
        let kept = was_held.cloned().unwrap_or_else(|| self.hold(bundle, old));
        held.entry(runtime.clone()).or_default().push(kept);
    }

    /// A rule of a bundle with all that it refers to there.
    fn hold(&self, bundle: &Bundle, rule: &BundleObject) -> HeldRule {
        let (definitions, _) = bundle.load_all();
        let mut checker = Checker::new(&definitions, self.registry);
        let def = definitions.rules.iter().find(|def| def.name == rule.name);
        let reads = def.map(|def| checker.rule_verdict(def).reads).unwrap_or_default();
        let origins = definitions.streams.iter().map(|stream| (&stream.name, &stream.origin.resource));
        let origins = origins.chain(definitions.tables.iter().map(|table| (&table.name, &table.origin.resource)));
        let resources: BTreeSet<&String> =
            origins.filter(|(name, _)| reads.contains(name)).map(|(_, resource)| resource).collect();
        let is_needed = |object: &&BundleObject| {
            object.kind == "Runtime" || resources.contains(&format!("{}/{}", object.kind, object.name))
        };
        let mut objects: Vec<BundleObject> = bundle.objects.iter().filter(is_needed).cloned().collect();
        objects.push(rule.clone());
        HeldRule { rule: rule.name.clone(), objects, secrets: SecretValues::new() }
    }

    fn unresolved_source(&self, reads: &[String], missing: &[Diagnostic]) -> Option<Problem> {
        let is_there =
            |name: &String| self.judgement.sources.iter().find(|(_, source)| source.sql_name.as_ref() == Some(name));
        let not_good = reads.iter().filter(|name| !self.by_name.contains_key(*name)).find_map(|name| {
            let ((kind, object), source) = is_there(name)?;
            let why = source.refused.as_ref().or(source.unresolved.as_ref()).map(|(_, message)| message.as_str());
            let message = format!("{}/{object} is not good: {}", kind.as_str(), why.unwrap_or("see there"));
            Some((Reason::StreamNotReady, message))
        });
        not_good.or_else(|| {
            let messages: Vec<String> = missing.iter().map(ToString::to_string).map(|text| strip(&text)).collect();
            (!messages.is_empty()).then(|| (Reason::StreamNotFound, messages.join("\n")))
        })
    }

    fn unresolved_runtime(&self, runtime: &str) -> Option<Problem> {
        match self.judgement.runtimes.get(runtime) {
            Some(own) if own.refused.is_some() && !self.good.contains_key(&(Kind::Runtime, runtime.to_owned())) => {
                Some((Reason::RuntimeNotReady, format!("spec.runtime: Runtime/{runtime} is not good")))
            }
            None if runtime != DEFAULT_RUNTIME => {
                Some((Reason::RuntimeNotFound, format!("spec.runtime: there is no Runtime \"{runtime}\"")))
            }
            _ => None,
        }
    }

    fn use_sources(&mut self, reads: &[String], rule: &str) {
        for name in reads {
            let Some(key) = self.by_name.get(name) else { continue };
            if let Some(source) = self.judgement.sources.get_mut(key) {
                source.used_by.push(rule.to_owned());
            }
        }
    }

    fn bundles(&mut self, mut placed: BTreeMap<String, Vec<Runnable>>, mut held: BTreeMap<String, Vec<HeldRule>>) {
        for rule in self.judgement.rules.values() {
            if let Some(runtime) = self.judgement.runtimes.get_mut(&rule.runtime) {
                runtime.n_rules += 1;
            } else if rule.placement.as_ref().is_some_and(|placement| placement.runtime == rule.runtime) {
                let runtime = RuntimeJudgement { n_rules: 1, ..RuntimeJudgement::default() };
                self.judgement.runtimes.insert(rule.runtime.clone(), runtime);
            }
        }
        // A rule that is not good may run on where nothing else does.
        for runtime in placed.keys().chain(held.keys()) {
            self.judgement.runtimes.entry(runtime.clone()).or_default();
        }
        let names: Vec<String> = self.judgement.runtimes.keys().cloned().collect();
        for name in names {
            let placed = placed.remove(&name).unwrap_or_default();
            let held = held.remove(&name).unwrap_or_default();
            let bundle = self.bundle(&name, &placed, held);
            let egress = self.egress(&placed, &bundle);
            if let Some(runtime) = self.judgement.runtimes.get_mut(&name) {
                (runtime.bundle, runtime.egress) = (Arc::new(bundle), egress);
            }
        }
    }

    fn bundle(&self, runtime: &str, placed: &[Runnable], held: Vec<HeldRule>) -> Bundle {
        let mut objects: Vec<BundleObject> = Vec::new();
        objects.extend(self.good.get(&(Kind::Runtime, runtime.to_owned())).cloned());
        let reads: BTreeSet<&String> = placed.iter().flat_map(|rule| &rule.reads).collect();
        let keys: BTreeSet<&Key> = reads.into_iter().filter_map(|name| self.by_name.get(name)).collect();
        objects.extend(keys.into_iter().filter_map(|key| self.good.get(key)).cloned());
        objects.extend(placed.iter().map(|rule| rule.object.clone()));
        let mut secrets = SecretValues::new();
        for object in objects.iter().chain(held.iter().flat_map(|held| &held.objects)) {
            self.secrets_of(object, &mut secrets);
        }
        Bundle {
            format: FORMAT,
            namespace: self.snapshot.namespace.clone(),
            runtime: runtime.to_owned(),
            objects,
            held,
            waiting: Vec::new(),
            secrets,
        }
    }

    /// Adds the values that an object needs, no others.
    fn secrets_of(&self, object: &BundleObject, secrets: &mut SecretValues) {
        let Some(Object { kind, name, spec, .. }) = object.object() else { return };
        for need in secret_needs(kind, &spec) {
            let Some(values) = self.values.get(&need.name) else { continue };
            match &need.key {
                Some(key) => {
                    if let Some(value) = values.get(key) {
                        secrets.entry(need.name).or_default().insert(key.clone(), value.clone());
                    }
                }
                None => {
                    let connector =
                        self.judgement.sources.get(&(kind, name.clone())).and_then(|source| source.connector.as_ref());
                    let files =
                        values.iter().filter(|(file, _)| connector.is_none_or(|connector| is_file_of(file, connector)));
                    let files: Vec<_> = files.map(|(file, value)| (file.clone(), value.clone())).collect();
                    secrets.entry(need.name).or_default().extend(files);
                }
            }
        }
    }

    fn egress(&self, placed: &[Runnable], bundle: &Bundle) -> egress::Egress {
        let mut egress = egress::Egress::default();
        let reads: BTreeSet<&String> = placed.iter().flat_map(|rule| &rule.reads).collect();
        for rule in placed {
            rule.def.sinks.iter().for_each(|sink| egress.add(&sink.connector, &sink.options));
        }
        for stream in self.definitions.streams.iter().filter(|stream| reads.contains(&stream.name)) {
            egress.add(&stream.connector, &stream.options);
        }
        for table in self.definitions.tables.iter().filter(|table| reads.contains(&table.name)) {
            egress.add(&table.connector, &table.options);
        }
        for held in &bundle.held {
            let manifests = load_objects(held.objects.iter().filter_map(BundleObject::object), &self.secrets);
            let Definitions { streams, tables, rules, .. } = manifests.definitions;
            streams.iter().for_each(|stream| egress.add(&stream.connector, &stream.options));
            tables.iter().for_each(|table| egress.add(&table.connector, &table.options));
            let sinks = rules.iter().flat_map(|rule| &rule.sinks);
            sinks.for_each(|sink| egress.add(&sink.connector, &sink.options));
        }
        egress
    }
}

/// `mqtt.yaml`, `sources.mqtt.yaml`, `mqtt_source.yaml`
fn is_file_of(file: &str, connector: &str) -> bool {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let stem = stem.strip_prefix("sources.").unwrap_or(stem);
    stem.strip_suffix("_source").unwrap_or(stem) == connector
}

/// A stream or table that could be read.
enum Source {
    Stream(Box<sluice::StreamDef>),
    Table(Box<sluice::LookupTableDef>),
}

impl Source {
    fn name(&self) -> &str {
        match self {
            Source::Stream(stream) => &stream.name,
            Source::Table(table) => &table.name,
        }
    }

    fn connector(&self) -> &str {
        match self {
            Source::Stream(stream) => &stream.connector,
            Source::Table(table) => &table.connector,
        }
    }
}

fn by_resource(manifests: &Manifests) -> BTreeMap<String, Source> {
    let Definitions { streams, tables, .. } = &manifests.definitions;
    let streams =
        streams.iter().map(|stream| (stream.origin.resource.clone(), Source::Stream(Box::new(stream.clone()))));
    let tables = tables.iter().map(|table| (table.origin.resource.clone(), Source::Table(Box::new(table.clone()))));
    streams.chain(tables).collect()
}

fn problem(diagnostics: &[Diagnostic], resource: &str) -> Option<Problem> {
    worst(diagnostics.iter().filter(|diagnostic| diagnostic.is_error() && diagnostic.resource == resource))
}

/// All that is wrong as one problem. What is not there counts only if nothing else is wrong.
fn worst<'a>(found: impl Iterator<Item = &'a Diagnostic>) -> Option<Problem> {
    let is_reference = |path: &str| path.contains("secretKeyRef") || path == "spec.config.secretRef.name";
    let (missing, wrong): (Vec<&Diagnostic>, Vec<&Diagnostic>) =
        found.filter(|diagnostic| diagnostic.is_error()).partition(|diagnostic| is_reference(&diagnostic.path));
    let reason = match (wrong.first(), missing.first()) {
        (Some(first), _) if first.path == "spec.sql" => Reason::InvalidSql,
        (Some(_), _) => Reason::InvalidSpec,
        (None, Some(_)) => Reason::SecretNotFound,
        (None, None) => return None,
    };
    let shown = if wrong.is_empty() { missing } else { wrong };
    let messages: Vec<String> = shown.into_iter().map(|diagnostic| strip(&diagnostic.to_string())).collect();
    Some((reason, messages.join("\n")))
}

/// Without the name of the object that it is told on.
fn strip(text: &str) -> String {
    match text.split_once(": ") {
        Some((resource, rest)) if resource.contains('/') && !resource.contains(' ') => rest.to_owned(),
        _ => text.to_owned(),
    }
}
