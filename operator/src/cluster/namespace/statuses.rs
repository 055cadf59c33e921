//! What objects are told of themselves, written when it has changed.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use sluice::manifest::Kind;
use tokio::time::Instant;

use super::{Namespace, Shared};
use crate::cluster::api::shown;
use crate::planning::{Snapshot, StatusPlan, merged_conditions};

/// Status writes that are on their way at once.
const WRITES_AT_ONCE: usize = 8;
/// What is on its way is said to be so only if it takes longer than this: mostly it arrives before, which is one write instead of
/// several. Until then the status is that of an older generation, or of none, and shows it.
const PASSING: Duration = Duration::from_secs(2);

impl Namespace {
    pub(super) async fn write_statuses(&mut self, shared: &Shared, snapshot: &Snapshot, plans: Vec<StatusPlan>) {
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
