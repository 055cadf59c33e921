//! Bundles: read after a start, written when they have changed, and said to the nodes of their pods.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use sluice::bundle::{Bundle, Packed, unpack};
use tokio::time::Instant;

use super::{Namespace, Shared};
use crate::cluster::api::{Native, is_not_found, shown};
use crate::cluster::apply::{bundle_secrets, not_applied};
use crate::cluster::nudge::Nudge;
use crate::cluster::secrets::values;
use crate::planning::{
    BUNDLE_ANNOTATION, MANAGED_BY, MANAGER, Problem, Reason, RuntimeJudgement, Snapshot, bundle_secret, labels, waiting,
};

/// Parts of a bundle that are read at most.
const MAX_PARTS: usize = 64;

/// A bundle as it was written.
pub(super) struct Written {
    pub(super) bundle: Arc<Bundle>,
    pub(super) token: String,
    pub(super) id: String,
    /// As the API server counts it; to see that someone else wrote, or removed it.
    pub(super) version: Option<String>,
}

impl Namespace {
    /// Reads the bundles that were written before this process was there, and sees whether someone else has touched them.
    pub(super) async fn load_bundles(
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

    /// Writes a runtime's bundle if it has changed, and makes the pod's node look at it.
    pub(super) async fn bundle(
        &mut self,
        shared: &Shared,
        snapshot: &Snapshot,
        runtime: &str,
        own: &RuntimeJudgement,
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
}

/// What the pod's pages want to be shown: 256 bits of chance.
fn token() -> String {
    use rand::RngExt;
    let bytes: [u8; 32] = rand::rng().random();
    hex::encode(bytes)
}
