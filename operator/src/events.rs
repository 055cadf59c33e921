//! Events: what happened to an object, once each time that it happens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cluster::api::{Cluster, Native, shown};
use crate::planning::{MANAGER, Reason, StatusPlan};

/// The same is not said again within this time.
const REPEAT_AFTER: Duration = Duration::from_secs(600);
/// Longest note that the API server takes.
const MAX_NOTE: usize = 1_000;

/// Makes events.
#[derive(Clone)]
pub struct Events {
    cluster: Cluster,
    instance: String,
    /// When something was said last, by object and reason.
    said: Arc<Mutex<HashMap<(String, String), Instant>>>,
}

impl Events {
    /// `instance` names this process.
    pub fn new(cluster: Cluster, instance: &str) -> Self {
        Events { cluster, instance: instance.to_owned(), said: Arc::default() }
    }

    /// Says what an object has become, if that is something to say. An object's status remembers what was said last, so that a
    /// start of the operator repeats nothing.
    pub async fn transition(&self, plan: &StatusPlan, namespace: &str, before: Option<&str>) {
        let reason = plan.ready.reason;
        // What is on its way says itself when it arrives.
        let is_news = !matches!(
            reason,
            Reason::Starting
                | Reason::PodNotReady
                | Reason::Moving
                | Reason::RollingOut
                | Reason::NotRunnable
                | Reason::Defined
                | Reason::Accepted
                | Reason::ResolvedRefs
        );
        if !is_news || before == Some(reason.as_str()) {
            return;
        }
        let regarding = json!({
            "apiVersion": "sluice.dev/v1alpha1",
            "kind": plan.key.0.as_str(),
            "name": plan.key.1,
            "namespace": namespace,
            "uid": plan.uid,
        });
        let ty = if plan.ready.is_true { "Normal" } else { "Warning" };
        self.publish(regarding, ty, reason.as_str(), &plan.ready.message).await;
    }

    /// Says something of an object. An event that can't be made is no reason to stop.
    pub async fn publish(&self, regarding: Value, ty: &str, reason: &str, note: &str) {
        let text = |field: &str| regarding.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (namespace, name, uid) = (text("namespace"), text("name"), text("uid"));
        {
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            said.retain(|_, at| at.elapsed() < REPEAT_AFTER);
            if said.insert((uid, reason.to_owned()), Instant::now()).is_some() {
                return;
            }
        }
        let now = jiff::Timestamp::now();
        let note: String = note.chars().take(MAX_NOTE).collect();
        let event = json!({
            "metadata": {
                "name": format!("{name}.{:x}", now.as_nanosecond()),
                "namespace": namespace,
            },
            "eventTime": format!("{now:.6}"),
            "reportingController": MANAGER,
            "reportingInstance": self.instance,
            "action": "Reconcile",
            "reason": reason,
            "regarding": regarding,
            "note": note,
            "type": ty,
        });
        let resource = Native::Event.resource();
        let Ok(mut event) = serde_json::from_value::<DynamicObject>(event) else { return };
        event.types =
            Some(kube::core::TypeMeta { api_version: resource.api_version.clone(), kind: resource.kind.clone() });
        self.cluster.metrics.write("create", "events");
        if let Err(error) = self.cluster.api(&resource, &namespace).create(&PostParams::default(), &event).await {
            tracing::debug!(namespace, name, "event not made: {}", shown(&error));
        }
    }
}
