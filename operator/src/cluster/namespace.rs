//! One namespace: from what is there to what should be.

mod bundles;
mod statuses;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use kube::api::DeleteParams;
use serde_json::{Value, json};
use sluice::Registry;
use sluice::bundle::Bundle;
use sluice::manifest::Kind;
use sluice_crds::DEFAULT_RUNTIME;
use tokio::time::Instant;

use self::bundles::Written;
use super::api::{Cluster, Native, is_not_found, shown};
use super::apply::{Applied, Outcome};
use super::nudge::Nudges;
use super::pods::{Address, Reports};
use super::queue::Queue;
use super::secrets::Secrets;
use super::store::{Child, Stores};
use crate::events::Events;
use crate::planning::{
    Judgement, Key, PodState, Problem, Settings, Snapshot, WorkloadState, judge, object_name, secret_needs, statuses,
    workload,
};

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
