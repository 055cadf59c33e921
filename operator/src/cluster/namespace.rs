//! One namespace: from what is there to what should be.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use sluice::Registry;
use sluice::bundle::{Bundle, Packed, unpack};
use sluice::manifest::Kind;
use sluice_crds::DEFAULT_RUNTIME;
use tokio::time::Instant;

use super::api::{Cluster, Native, is_not_found, shown};
use super::apply::{Applied, Outcome, bundle_secrets, not_applied};
use super::nudge::{Nudge, Nudges};
use super::pods::{Address, Reports};
use super::queue::Queue;
use super::secrets::{Secrets, values};
use super::store::{Child, Stores};
use crate::events::Events;
use crate::planning::{
    BUNDLE_ANNOTATION, Judgement, Key, MANAGED_BY, MANAGER, PodState, Problem, Reason, Settings, Snapshot, StatusPlan,
    WorkloadState, bundle_secret, judge, labels, merged_conditions, object_name, secret_needs, statuses, waiting,
    workload,
};

/// Status writes that are on their way at once.
const WRITES_AT_ONCE: usize = 8;
/// What is on its way is said to be so only if it takes longer than this: mostly it arrives before, which is one write instead of
/// several. Until then the status is that of an older generation, or of none, and shows it.
const PASSING: Duration = Duration::from_secs(2);
/// Parts of a bundle that are read at most.
const MAX_PARTS: usize = 64;

/// What all namespaces share.
pub struct Shared {
    /// The API server.
    pub cluster: Cluster,
    /// What watches have seen.
    pub stores: Arc<Stores>,
    /// What pods say.
    pub reports: Reports,
    /// What is to be looked at again.
    pub queue: Arc<Queue>,
    /// Connectors and functions, for the check.
    pub registry: Registry,
    /// What the operator was told.
    pub settings: Settings,
    /// How often Secrets are looked at.
    pub secret_interval: Duration,
    /// How often counters are written.
    pub counter_interval: Duration,
    /// Where events are made.
    pub events: Events,
}

/// What is remembered of a namespace between two looks at it. Losing it costs some reads and no writes.
#[derive(Default)]
pub struct Namespace {
    secrets: Secrets,
    /// By runtime.
    written: BTreeMap<String, Written>,
    judged: Option<(u64, Arc<Judgement>)>,
    applied: Applied,
    /// Why objects of a runtime could not be applied.
    problems: BTreeMap<String, Problem>,
    /// What is new in a runtime's pod since it was last replaced.
    rolls: BTreeMap<String, String>,
    /// Bundles that are too large, by runtime.
    too_large: BTreeMap<String, Arc<Bundle>>,
    counters: HashMap<(Kind, String), Instant>,
    /// Generations of rules that do not run yet, since when.
    waiting: HashMap<String, (String, i64, Instant)>,
    /// Rules whose status is not that of before, since when, and may soon be another one again.
    unsaid: HashMap<Key, Instant>,
    looked_at_bundles: Option<Instant>,
    nudges: Nudges,
}

/// A bundle as it was written.
struct Written {
    bundle: Arc<Bundle>,
    token: String,
    id: String,
    /// As the API server counts it; to see that someone else wrote, or removed it.
    version: Option<String>,
}

impl Namespace {
    /// Makes the namespace as it should be, as far as that is possible now. What fails is tried again.
    pub async fn reconcile(&mut self, shared: &Shared, namespace: &str) {
        let objects = shared.stores.objects(namespace);
        let accounts = shared.stores.service_accounts.of_namespace(namespace);
        if objects.is_empty() && accounts.is_empty() {
            shared.reports.ask(namespace, &[]);
            *self = Namespace::default();
            return;
        }
        let mut runtimes: BTreeSet<String> = accounts.values().map(|account| account.runtime.clone()).collect();
        runtimes.extend(objects.keys().filter(|(kind, _)| *kind == Kind::Runtime).map(|(_, name)| name.clone()));
        runtimes.insert(DEFAULT_RUNTIME.to_owned());
        if let Err(error) = self.load_bundles(shared, namespace, &runtimes).await {
            // Without them a bad edit would stop what runs.
            shared.cluster.metrics.failed("bundle");
            tracing::warn!(namespace, "bundles can't be read, nothing is changed: {error}");
            return shared.queue.add_later(namespace, Duration::from_secs(1), "retry");
        }
        let names: BTreeSet<String> = objects
            .values()
            .flat_map(|object| secret_needs(object.kind, &object.spec_value()))
            .map(|need| need.name)
            .collect();
        if let Some(due) = self.secrets.refresh(&shared.cluster, namespace, &names, shared.secret_interval).await {
            shared.queue.add_later(namespace, due + Duration::from_millis(10), "secrets");
        }

        let mut snapshot = self.snapshot(shared, namespace, objects);
        let judgement = self.judge(shared, &snapshot);
        self.runtimes(shared, &snapshot, &judgement).await;
        self.ask_pods(shared, namespace);
        for (runtime, problem) in &self.problems {
            snapshot.workloads.entry(runtime.clone()).or_default().problem = Some(problem.clone());
        }
        if !self.problems.is_empty() {
            shared.queue.add_later(namespace, Duration::from_secs(5), "retry");
        }
        self.write_statuses(shared, &snapshot, statuses(&snapshot, &judgement, &shared.settings)).await;
    }

    /// Reads the bundles that were written before this process was there, and sees whether someone else has touched them.
    async fn load_bundles(
        &mut self,
        shared: &Shared,
        namespace: &str,
        runtimes: &BTreeSet<String>,
    ) -> Result<(), String> {
        let api = shared.cluster.api(&Native::Secret.resource(), namespace);
        let is_due = self.looked_at_bundles.is_none_or(|at| at.elapsed() >= shared.secret_interval);
        for runtime in runtimes {
            let name = bundle_secret(runtime, 0);
            let known = self.written.get_mut(runtime);
            if known.is_some() && !is_due {
                continue;
            }
            let found = match api.get(&name).await {
                Ok(found) => Some(found),
                Err(error) if is_not_found(&error) => None,
                Err(error) => return Err(shown(&error)),
            };
            let version = found.as_ref().and_then(|found| found.metadata.resource_version.clone());
            if let Some(known) = known {
                if known.version != version {
                    known.version = None;
                }
                continue;
            }
            let Some(found) = found else { continue };
            let is_ours = found.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).map(String::as_str);
            if is_ours != Some(MANAGER) {
                continue;
            }
            let decode = |value: &String| {
                use base64::Engine as _;
                base64::engine::general_purpose::STANDARD.decode(value).ok()
            };
            let data = values(&found);
            let Some(token) = data.get("token").and_then(decode).and_then(|token| String::from_utf8(token).ok()) else {
                continue;
            };
            let index = data.get("index.json").and_then(decode).and_then(|index| serde_json::from_slice(&index).ok());
            let Some(index): Option<sluice::bundle::Index> = index else { continue };
            let mut parts: Vec<Vec<u8>> = data.get("part-0").and_then(decode).into_iter().collect();
            for part_idx in 1..index.parts.min(MAX_PARTS) {
                let part = api.get(&bundle_secret(runtime, part_idx)).await.map_err(|error| shown(&error))?;
                parts.extend(values(&part).get(&format!("part-{part_idx}")).and_then(decode));
            }
            match unpack(&index, &parts) {
                Ok(bundle) => {
                    let written = Written { bundle: Arc::new(bundle), token, id: index.id, version };
                    self.written.insert(runtime.clone(), written);
                }
                Err(error) => {
                    tracing::warn!(namespace, runtime, "its bundle can't be read, a new one is written: {error}");
                    let written = Written { bundle: Arc::default(), token, id: String::new(), version: None };
                    self.written.insert(runtime.clone(), written);
                }
            }
        }
        if is_due {
            self.looked_at_bundles = Some(Instant::now());
        }
        shared.queue.add_later(namespace, shared.secret_interval, "bundles");
        Ok(())
    }

    fn snapshot(
        &self,
        shared: &Shared,
        namespace: &str,
        objects: BTreeMap<crate::planning::Key, Arc<crate::object::Stored>>,
    ) -> Snapshot {
        let pods = shared.stores.pods.of_namespace(namespace);
        let pods = pods.values().filter(|pod| !pod.is_over).map(|pod| PodState {
            name: pod.name.clone(),
            runtime: pod.runtime.clone(),
            is_ready: pod.is_ready,
            is_deleting: pod.is_deleting,
            restarts: pod.restarts,
            problem: pod.problem.clone(),
            report: shared.reports.get(&pod.uid),
        });
        let sets = shared.stores.stateful_sets.of_namespace(namespace);
        let workloads = sets.values().map(|set| {
            let state = WorkloadState {
                is_rolled_out: set.is_rolled_out,
                rolls: self.rolls.get(&set.runtime).filter(|_| !set.is_rolled_out).cloned(),
                applied: set.applied.clone(),
                problem: None,
            };
            (set.runtime.clone(), state)
        });
        Snapshot {
            namespace: namespace.to_owned(),
            objects,
            secrets: self.secrets.states(),
            bundles: self
                .written
                .iter()
                .map(|(runtime, written)| (runtime.clone(), Arc::clone(&written.bundle)))
                .collect(),
            pods: pods.collect(),
            workloads: workloads.collect(),
        }
    }

    /// The verdict, made anew only if definitions or Secrets have changed.
    fn judge(&mut self, shared: &Shared, snapshot: &Snapshot) -> Arc<Judgement> {
        let mut hasher = DefaultHasher::new();
        self.secrets.version.hash(&mut hasher);
        for (key, object) in &snapshot.objects {
            (key, &object.uid, object.generation, object.is_deleting).hash(&mut hasher);
        }
        let hash = hasher.finish();
        if let Some((known, judgement)) = &self.judged
            && *known == hash
        {
            return Arc::clone(judgement);
        }
        let judgement = Arc::new(judge(snapshot, &shared.registry));
        self.judged = Some((hash, Arc::clone(&judgement)));
        judgement
    }

    /// Applies what belongs to runtimes, and removes runtimes that nothing needs any more.
    async fn runtimes(&mut self, shared: &Shared, snapshot: &Snapshot, judgement: &Judgement) {
        let namespace = snapshot.namespace.as_str();
        let accounts = shared.stores.service_accounts.of_namespace(namespace);
        let known = std::mem::take(&mut self.problems);
        // A roll of one runtime's pod at a time.
        let is_rolling = snapshot.workloads.values().any(|set| !set.is_rolled_out);
        let mut may_roll = !is_rolling;
        let pods = shared.stores.pods.of_namespace(namespace);
        self.nudges.retain(|uid| pods.values().any(|pod| pod.uid == uid));
        let mut wanted = BTreeSet::new();
        for (runtime, own) in &judgement.runtimes {
            let has_rules =
                own.bundle.objects.iter().any(|object| object.kind == "Rule") || !own.bundle.held.is_empty();
            if own.uid.is_none() && !has_rules {
                continue;
            }
            wanted.insert(runtime.clone());
            if let Err(problem) = self.runtime(shared, snapshot, runtime, own, &mut may_roll).await {
                shared.cluster.metrics.failed("apply");
                if known.get(runtime) != Some(&problem) {
                    tracing::warn!(namespace, runtime, "can't be applied: {}", problem.1);
                }
                self.problems.insert(runtime.clone(), problem);
            }
        }
        for account in accounts.values().filter(|account| !wanted.contains(&account.runtime) && !account.is_deleting) {
            self.written.remove(&account.runtime);
            shared.cluster.metrics.write("delete", "serviceaccounts");
            let api = shared.cluster.api(&Native::ServiceAccount.resource(), namespace);
            match api.delete(&account.name, &DeleteParams::background()).await {
                Ok(_) => tracing::info!(namespace, runtime = account.runtime, "runtime removed"),
                Err(error) if is_not_found(&error) => {}
                Err(error) => {
                    shared.cluster.metrics.failed("delete");
                    tracing::warn!(namespace, runtime = account.runtime, "can't be removed: {}", shown(&error));
                    shared.queue.add_later(namespace, Duration::from_secs(5), "retry");
                }
            }
        }
    }

    async fn runtime(
        &mut self,
        shared: &Shared,
        snapshot: &Snapshot,
        runtime: &str,
        own: &crate::planning::RuntimeJudgement,
        may_roll: &mut bool,
    ) -> Result<(), Problem> {
        let namespace = snapshot.namespace.as_str();
        let name = object_name(runtime);
        let find = |children: BTreeMap<String, Arc<Child>>| children.get(&name).map(|child| (**child).clone());
        let stores = &shared.stores;
        let desired =
            workload(namespace, runtime, own.spec.as_deref(), own.uid.as_deref(), &own.egress, &shared.settings);
        let account = find(stores.service_accounts.of_namespace(namespace));
        if account.as_ref().is_some_and(|account| account.is_deleting) {
            // It comes back once the old one is gone.
            shared.queue.add_later(namespace, Duration::from_millis(500), "retry");
            return Ok(());
        }
        let cluster = &shared.cluster;
        let outcome =
            self.applied.ensure(cluster, Native::ServiceAccount, desired.service_account, account.as_ref()).await?;
        let uid = match (outcome, account) {
            (Outcome::Written(uid), _) => uid,
            (Outcome::Unchanged, account) => account.map(|account| account.uid).unwrap_or_default(),
        };
        let owner = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "name": name, "uid": uid });
        self.bundle(shared, snapshot, runtime, own, &owner).await?;
        // A definition that is not good leaves the pod as it is.
        let set = find(stores.stateful_sets.of_namespace(namespace));
        if own.refused.is_some() && set.is_some() {
            return Ok(());
        }
        let with_owner = |mut object: Value| {
            if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
                metadata.insert("ownerReferences".to_owned(), json!([owner]));
            }
            object
        };
        if let Some(policy) = desired.network_policy {
            let found = find(stores.network_policies.of_namespace(namespace));
            self.applied.ensure(cluster, Native::NetworkPolicy, with_owner(policy), found.as_ref()).await?;
        }
        let found = find(stores.services.of_namespace(namespace));
        self.applied.ensure(cluster, Native::Service, with_owner(desired.service), found.as_ref()).await?;
        let stateful_set = with_owner(desired.stateful_set);
        if set.is_some() && !*may_roll && self.would_roll(&stateful_set, set.as_ref()) {
            shared.queue.add_later(namespace, Duration::from_secs(2), "retry");
            return Ok(());
        }
        let rolls = self.would_roll(&stateful_set, set.as_ref()).then(|| changes(&stateful_set, set.as_ref()));
        let outcome = self.applied.ensure(cluster, Native::StatefulSet, stateful_set, set.as_ref()).await?;
        if let (Outcome::Written(uid), Some(changes)) = (outcome, rolls) {
            *may_roll = false;
            self.rolls.insert(runtime.to_owned(), changes.clone());
            let target = json!({
                "apiVersion": "apps/v1", "kind": "StatefulSet", "name": name, "namespace": namespace, "uid": uid,
            });
            shared.events.publish(target, "Normal", "RollingOut", &format!("the pod is replaced: {changes}")).await;
        }
        Ok(())
    }

    fn would_roll(&self, wanted: &Value, found: Option<&Child>) -> bool {
        found.is_some_and(|found| {
            let text: Value = serde_json::from_str(&found.text).unwrap_or_default();
            let template = |value: &Value| value.pointer("/spec/template").cloned().unwrap_or_default();
            crate::planning::differs(&template(wanted), &template(&text))
        })
    }

    /// Writes a runtime's bundle if it has changed, and makes the pod's node look at it.
    async fn bundle(
        &mut self,
        shared: &Shared,
        snapshot: &Snapshot,
        runtime: &str,
        own: &crate::planning::RuntimeJudgement,
        owner: &Value,
    ) -> Result<(), Problem> {
        let namespace = snapshot.namespace.as_str();
        // A rule that another pod still runs waits.
        let waiting = waiting(snapshot, runtime, &own.bundle);
        let bundle = match waiting.is_empty() {
            true => Arc::clone(&own.bundle),
            false => Arc::new(Bundle { waiting, ..(*own.bundle).clone() }),
        };
        let known = self.written.get(runtime);
        if known.is_none_or(|known| *known.bundle != *bundle || known.version.is_none()) {
            let token = known.map_or_else(token, |known| known.token.clone());
            let too_large = || {
                let most = shared.settings.bundle_secrets;
                let message = format!(
                    "all rules of Runtime {runtime} together do not fit into {most} Secrets: move some to another"
                );
                (Reason::BundleTooLarge, message)
            };
            if self.too_large.get(runtime).is_some_and(|known| *known == bundle) {
                return Err(too_large());
            }
            let packed: Packed = bundle.pack();
            if packed.parts.len() > shared.settings.bundle_secrets {
                self.too_large.insert(runtime.to_owned(), bundle);
                return Err(too_large());
            }
            self.too_large.remove(runtime);
            let mut version = None;
            let is_first = known.is_none();
            for secret in bundle_secrets(namespace, runtime, &packed, &token, owner, &labels(runtime)) {
                let written = shared.cluster.apply(Native::Secret, &secret, !is_first).await;
                let written = written.map_err(|error| not_applied(&error))?;
                version = written.metadata.resource_version;
            }
            let id = packed.index.id;
            tracing::info!(namespace, runtime, bundle = id.get(..12), n_parts = packed.parts.len(), "bundle written");
            self.written.insert(runtime.to_owned(), Written { bundle, token, id, version });
        }
        let Some(written) = self.written.get(runtime) else { return Ok(()) };
        for pod in shared.stores.pods.of_namespace(namespace).values() {
            if pod.runtime != runtime || pod.is_deleting || pod.is_over {
                continue;
            }
            let report = shared.reports.get(&pod.uid);
            let reported = report.as_ref().map(|report| &report.bundle);
            let value = match self.nudges.next(pod, reported, &written.id, Instant::now()) {
                Nudge::Nothing => continue,
                Nudge::Later(pause) => {
                    shared.queue.add_later(namespace, pause, "nudge");
                    continue;
                }
                Nudge::Now(value) => value,
            };
            let patch = json!({ "metadata": { "annotations": { BUNDLE_ANNOTATION: value } } });
            shared.cluster.metrics.write("patch", "pods");
            let api = shared.cluster.api(&Native::Pod.resource(), namespace);
            match api.patch(&pod.name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(_) => {}
                Err(error) if is_not_found(&error) => {}
                Err(error) => {
                    self.nudges.forget(&pod.uid);
                    tracing::warn!(namespace, pod = pod.name, "its node was not told: {}", shown(&error));
                    shared.queue.add_later(namespace, Duration::from_secs(5), "retry");
                }
            }
        }
        Ok(())
    }

    fn ask_pods(&self, shared: &Shared, namespace: &str) {
        let pods = shared.stores.pods.of_namespace(namespace);
        let addresses: Vec<Address> = pods
            .values()
            .filter(|pod| !pod.is_over)
            .filter_map(|pod| {
                let token = self.written.get(&pod.runtime)?.token.clone();
                let address = pod.address.as_ref()?;
                let host = if address.contains(':') { format!("[{address}]") } else { address.clone() };
                Some(Address {
                    uid: pod.uid.clone(),
                    namespace: namespace.to_owned(),
                    url: format!("http://{host}:{}", shared.settings.port),
                    token,
                })
            })
            .collect();
        shared.reports.ask(namespace, &addresses);
    }

    async fn write_statuses(&mut self, shared: &Shared, snapshot: &Snapshot, plans: Vec<StatusPlan>) {
        let now = jiff::Timestamp::now();
        let stamp = jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string();
        let mut writes = Vec::new();
        let mut next_counters: Option<Duration> = None;
        self.counters.retain(|key, _| snapshot.objects.contains_key(key));
        self.unsaid.retain(|key, _| snapshot.objects.contains_key(key));
        self.waiting.retain(|rule, _| snapshot.objects.contains_key(&(Kind::Rule, rule.clone())));
        for plan in plans {
            let Some(object) = snapshot.objects.get(&plan.key) else { continue };
            let found = object.status_value();
            if plan.key.0 == Kind::Rule {
                self.watch_time(shared, &plan, object.generation);
            }
            let mut status = plan.status.clone();
            merged_conditions(&mut status, &found, &stamp);
            let is_new = is_changed(&status, &found);
            let counters_differ = plan.counters.as_object().is_some_and(|counters| {
                !counters.is_empty() && counters.iter().any(|(key, value)| found.get(key) != Some(value))
            });
            if !is_new && counters_differ {
                let last = self.counters.get(&plan.key).map(Instant::elapsed);
                if let Some(left) =
                    last.and_then(|last| shared.counter_interval.checked_sub(last)).filter(|left| !left.is_zero())
                {
                    next_counters = Some(next_counters.map_or(left, |next| next.min(left)));
                    continue;
                }
            }
            if !is_new && !counters_differ {
                self.unsaid.remove(&plan.key);
                continue;
            }
            if let Some(left) = self.may_pass(&plan) {
                shared.queue.add_later(&snapshot.namespace, left, "status");
                continue;
            }
            self.unsaid.remove(&plan.key);
            if let (Value::Object(status), Value::Object(counters)) = (&mut status, &plan.counters) {
                status.extend(counters.clone());
            }
            self.counters.insert(plan.key.clone(), Instant::now());
            let old_reason = reason(&found);
            writes.push((plan, status, old_reason));
        }
        if let Some(next) = next_counters {
            shared.queue.add_later(&snapshot.namespace, next, "counters");
        }
        let namespace = snapshot.namespace.as_str();
        let results = futures::stream::iter(writes.into_iter().map(|(plan, status, old_reason)| async move {
            let api_version = "sluice.dev/v1alpha1";
            let object = json!({
                "apiVersion": api_version,
                "kind": plan.key.0.as_str(),
                "metadata": { "name": plan.key.1, "namespace": namespace, "uid": plan.uid },
                "status": status,
            });
            match shared.cluster.apply_status(plan.key.0, &object).await {
                Ok(_) => {
                    shared.events.transition(&plan, namespace, old_reason.as_deref()).await;
                    true
                }
                // It was deleted, or is another one by now: the watch brings that.
                Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => true,
                Err(error) => {
                    shared.cluster.metrics.failed("status");
                    tracing::warn!(namespace, object = plan.key.1, "status can't be written: {}", shown(&error));
                    false
                }
            }
        }))
        .buffer_unordered(WRITES_AT_ONCE)
        .collect::<Vec<bool>>()
        .await;
        if results.contains(&false) {
            shared.queue.add_later(namespace, Duration::from_secs(1), "retry");
        }
    }

    /// How long it is still left unsaid what a rule that is on its way has come to.
    fn may_pass(&mut self, plan: &StatusPlan) -> Option<Duration> {
        if plan.key.0 != Kind::Rule || plan.ready.is_true || plan.ready.reason.is_final() {
            return None;
        }
        let since = self.unsaid.entry(plan.key.clone()).or_insert_with(Instant::now);
        PASSING.checked_sub(since.elapsed()).filter(|left| !left.is_zero())
    }

    /// Measures how long a generation takes until it runs.
    fn watch_time(&mut self, shared: &Shared, plan: &StatusPlan, generation: i64) {
        let rule = &plan.key.1;
        let known = self.waiting.get(rule).filter(|(uid, of, _)| *uid == plan.uid && *of == generation);
        match (known, plan.ready.is_true) {
            (Some((_, _, since)), true) => {
                shared.cluster.metrics.running_after(since.elapsed());
                self.waiting.remove(rule);
            }
            (None, false) => {
                self.waiting.insert(rule.clone(), (plan.uid.clone(), generation, Instant::now()));
            }
            _ => {}
        }
    }
}

/// True if the status has to be written: some field is another, or a condition is there that should not be.
fn is_changed(wanted: &Value, found: &Value) -> bool {
    let empty = serde_json::Map::new();
    let (wanted_map, found_map) = (wanted.as_object().unwrap_or(&empty), found.as_object().unwrap_or(&empty));
    let conditions = |map: &serde_json::Map<String, Value>| -> BTreeMap<String, Value> {
        let list = map.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
        let named =
            list.into_iter().filter_map(|condition| Some((condition.get("type")?.as_str()?.to_owned(), condition)));
        named.collect()
    };
    let (new, old) = (conditions(wanted_map), conditions(found_map));
    let ours = ["Reconciling", "Stalled"];
    let stale = old.keys().any(|ty| ours.contains(&ty.as_str()) && !new.contains_key(ty));
    let differs = new.iter().any(|(ty, condition)| old.get(ty) != Some(condition));
    let fields = wanted_map.iter().filter(|(key, _)| *key != "conditions");
    let counted = ["counters", "lastError", "lastErrorTime"];
    let is_own = |key: &String| key != "conditions" && !counted.contains(&key.as_str());
    let gone = found_map.keys().any(|key| is_own(key) && !wanted_map.contains_key(key));
    stale || differs || gone || fields.into_iter().any(|(key, value)| !is_same(value, found_map.get(key)))
}

/// Empty lists and absent ones are the same.
fn is_same(wanted: &Value, found: Option<&Value>) -> bool {
    match found {
        Some(found) => !crate::planning::differs(wanted, found) && !crate::planning::differs(found, wanted),
        None => wanted.as_array().is_some_and(Vec::is_empty),
    }
}

fn reason(status: &Value) -> Option<String> {
    let conditions = status.get("conditions")?.as_array()?;
    let ready = conditions.iter().find(|condition| condition.get("type").and_then(Value::as_str) == Some("Ready"))?;
    Some(ready.get("reason")?.as_str()?.to_owned())
}

/// What differs between two pod templates, as far as a person wants to know.
fn changes(wanted: &Value, found: Option<&Child>) -> String {
    let found: Value = found.and_then(|found| serde_json::from_str(&found.text).ok()).unwrap_or_default();
    let mut parts = Vec::new();
    let at = |value: &Value, path: &str| value.pointer(path).cloned().unwrap_or_default();
    for (name, path) in [
        ("image", "/spec/template/spec/containers/0/image"),
        ("resources", "/spec/template/spec/containers/0/resources"),
        ("arguments", "/spec/template/spec/containers/0/args"),
        ("environment", "/spec/template/spec/containers/0/env"),
        ("security", "/spec/template/spec/securityContext"),
        ("node selector", "/spec/template/spec/nodeSelector"),
        ("tolerations", "/spec/template/spec/tolerations"),
        ("volumes", "/spec/template/spec/volumes"),
    ] {
        let (new, old) = (at(wanted, path), at(&found, path));
        if crate::planning::differs(&new, &old) {
            parts.push(match (new.as_str(), old.as_str()) {
                (Some(new), Some(old)) => format!("{name} {old} to {new}"),
                _ => name.to_owned(),
            });
        }
    }
    if parts.is_empty() { "its template has changed".to_owned() } else { parts.join(", ") }
}

/// What the pod's pages want to be shown: 256 bits of chance.
fn token() -> String {
    use rand::RngExt;
    let bytes: [u8; 32] = rand::rng().random();
    hex::encode(bytes)
}
