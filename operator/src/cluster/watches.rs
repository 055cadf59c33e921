//! Watches into stores. One per kind, or per kind and namespace where the operator serves only some.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{Config, Event, watcher};
use serde_json::Value;
use sluice::manifest::Kind;

use super::api::{Cluster, Native, own_resource};
use super::queue::Queue;
use super::store::{Child, Pod, Store, Stores};
use crate::object::Stored;
use crate::planning::{APPLIED, BUNDLE_ANNOTATION, MANAGED_BY, MANAGER, RUNTIME_LABEL};

/// Objects of a list that come in one answer: bounds what is in memory at once.
const PAGE: u32 = 100;

/// The first pause of a watch that has broken, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(400), Duration::from_secs(5));

/// Growing pauses of a watch that breaks again and again. They begin anew with what comes through. The library's own ones grow to
/// half a minute and begin anew after two quiet minutes: a control plane in trouble several times in a row would not be heard for
/// as long.
struct Pauses(Duration);

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let longer = (self.0 * 2).min(PAUSES.1);
        Some(std::mem::replace(&mut self.0, longer))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.0 = PAUSES.0;
    }
}

/// What is watched.
#[derive(Clone, Debug)]
pub struct Scope {
    /// One namespace; `None`: all.
    pub namespace: Option<String>,
}

/// Watches a kind of ours.
pub async fn follow_own(cluster: Cluster, scope: Scope, kind: Kind, stores: Arc<Stores>, queue: Arc<Queue>) {
    let Some(store) = stores.own.get(&kind) else { return };
    let read = |object| Stored::new(kind, object);
    follow(&cluster, &scope, &own_resource(kind), Config::default(), store, read, &queue).await;
}

/// Watches a kind that the operator makes.
pub async fn follow_children(cluster: Cluster, scope: Scope, kind: Native, stores: Arc<Stores>, queue: Arc<Queue>) {
    let store = match kind {
        Native::ServiceAccount => &stores.service_accounts,
        Native::Service => &stores.services,
        Native::StatefulSet => &stores.stateful_sets,
        Native::NetworkPolicy => &stores.network_policies,
        Native::Pod => {
            let config = Config::default().labels(&labels());
            return follow(&cluster, &scope, &kind.resource(), config, &stores.pods, read_pod, &queue).await;
        }
        Native::Secret | Native::Event => return,
    };
    let config = Config::default().labels(&labels());
    follow(&cluster, &scope, &kind.resource(), config, store, read_child, &queue).await;
}

fn labels() -> String {
    format!("{MANAGED_BY}={MANAGER}")
}

/// Keeps a store in step, for ever. A watch that breaks is taken up again with growing pauses.
async fn follow<T: PartialEq>(
    cluster: &Cluster,
    scope: &Scope,
    resource: &ApiResource,
    config: Config,
    store: &Store<T>,
    read: impl Fn(DynamicObject) -> Option<T>,
    queue: &Queue,
) {
    let api: Api<DynamicObject> = match &scope.namespace {
        Some(namespace) => cluster.api(resource, namespace),
        None => Api::all_with(cluster.client.clone(), resource),
    };
    let mut events = pin!(watcher(api, config.page_size(PAGE)).backoff(Pauses(PAUSES.0)));
    let mut listed = HashSet::new();
    let mut is_complete = false;
    let kind = resource.plural.as_str();
    let put = |object: DynamicObject| {
        let place = (object.metadata.namespace.clone()?, object.metadata.name.clone()?);
        if store.put(&place.0, &place.1, read(object)?) {
            queue.add(&place.0, "watch");
        }
        Some(place)
    };
    loop {
        match events.try_next().await {
            Ok(Some(Event::Init)) => listed.clear(),
            Ok(Some(Event::InitApply(object))) => listed.extend(put(object)),
            Ok(Some(Event::InitDone)) => {
                for namespace in store.retain(scope.namespace.as_deref(), &listed) {
                    queue.add(&namespace, "watch");
                }
                listed.clear();
                if !is_complete {
                    is_complete = true;
                    store.completed();
                    queue.wake();
                }
            }
            Ok(Some(Event::Apply(object))) => _ = put(object),
            Ok(Some(Event::Delete(object))) => {
                let (namespace, name) = (object.metadata.namespace, object.metadata.name);
                if let (Some(namespace), Some(name)) = (namespace, name)
                    && store.remove(&namespace, &name)
                {
                    queue.add(&namespace, "watch");
                }
            }
            Ok(None) => return,
            Err(error) => {
                cluster.metrics.watch_failed(kind);
                tracing::warn!(kind, namespace = scope.namespace, "watch broke, it is taken up again: {error}");
            }
        }
    }
}

fn read_child(object: DynamicObject) -> Option<Child> {
    let DynamicObject { metadata, mut data, .. } = object;
    let number = |data: &Value, path: &str| data.pointer(path).and_then(Value::as_i64).unwrap_or_default();
    let text = |data: &Value, path: &str| data.pointer(path).and_then(Value::as_str).map(str::to_owned);
    let wanted = data.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    let is_rolled_out = number(&data, "/status/observedGeneration") >= metadata.generation.unwrap_or_default()
        && number(&data, "/status/updatedReplicas") == wanted
        && text(&data, "/status/currentRevision") == text(&data, "/status/updateRevision");
    if let Value::Object(data) = &mut data {
        data.remove("status");
    }
    let labels = metadata.labels.clone().unwrap_or_default();
    let annotations = metadata.annotations.clone().unwrap_or_default();
    let (name, is_deleting) = (metadata.name.clone()?, metadata.deletion_timestamp.is_some());
    let mut whole = data;
    if let Value::Object(whole) = &mut whole {
        let mut own = serde_json::Map::new();
        own.insert("labels".to_owned(), serde_json::json!(labels));
        own.insert("ownerReferences".to_owned(), serde_json::json!(metadata.owner_references.unwrap_or_default()));
        whole.insert("metadata".to_owned(), Value::Object(own));
    }
    Some(Child {
        runtime: labels.get(RUNTIME_LABEL)?.clone(),
        name,
        uid: metadata.uid.clone()?,
        applied: annotations.get(APPLIED).cloned().unwrap_or_default(),
        text: whole.to_string().into(),
        is_rolled_out,
        is_deleting,
    })
}

fn read_pod(object: DynamicObject) -> Option<Pod> {
    let DynamicObject { metadata, data, .. } = object;
    let text = |path: &str| data.pointer(path).and_then(Value::as_str);
    let conditions = data.pointer("/status/conditions").and_then(Value::as_array);
    let condition = |ty: &str| {
        let mut all = conditions.into_iter().flatten();
        all.find(|condition| condition.get("type").and_then(Value::as_str) == Some(ty))
    };
    let is_true =
        |ty: &str| condition(ty).and_then(|condition| condition.get("status")).and_then(Value::as_str) == Some("True");
    let container = data.pointer("/status/containerStatuses/0");
    let in_container = |path: &str| container.and_then(|container| container.pointer(path));
    let waiting =
        in_container("/state/waiting/reason").and_then(Value::as_str).filter(|reason| *reason != "ContainerCreating");
    let why = in_container("/state/waiting/message").and_then(Value::as_str);
    let ended = in_container("/lastState/terminated/reason").and_then(Value::as_str);
    let unscheduled = condition("PodScheduled").filter(|_| !is_true("PodScheduled"));
    let unscheduled = unscheduled.and_then(|condition| condition.get("message")).and_then(Value::as_str);
    let problem = match (waiting, unscheduled) {
        (Some(reason), _) => {
            let ended = ended.map(|reason| format!(", it last ended with {reason}")).unwrap_or_default();
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            Some(format!("{reason}{why}{ended}"))
        }
        (None, Some(message)) => Some(message.to_owned()),
        (None, None) => None,
    };
    Some(Pod {
        runtime: metadata.labels.as_ref()?.get(RUNTIME_LABEL)?.clone(),
        name: metadata.name?,
        uid: metadata.uid?,
        address: text("/status/podIP").filter(|address| !address.is_empty()).map(str::to_owned),
        is_ready: is_true("Ready"),
        is_deleting: metadata.deletion_timestamp.is_some(),
        is_over: matches!(text("/status/phase"), Some("Succeeded" | "Failed")),
        restarts: in_container("/restartCount").and_then(Value::as_i64).unwrap_or_default(),
        problem,
        bundle: metadata.annotations.as_ref().and_then(|annotations| annotations.get(BUNDLE_ANNOTATION)).cloned(),
    })
}
