//! What should be, from what is: pure functions over a snapshot of one namespace. No client, no clock, no randomness.
//!
//! ```text
//! Snapshot ──judge──> Judgement: verdict on each object, bundle of each runtime
//!                        │
//!                        ├─workload──> ServiceAccount, Service, StatefulSet, NetworkPolicy
//!                        └─status────> conditions, counters
//! ```
//!
//! Start reading at [`judge`]: it decides what runs. A definition that is not good leaves the one before it running, which it finds in
//! the bundle that was written last.

mod egress;
mod judge;
mod merge;
mod names;
mod overlay;
mod reason;
mod refs;
mod status;
mod workload;

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice::bundle::{Bundle, SecretValues};
use sluice::manifest::Kind;
use sluice::pipeline::EngineReport;
use sluice_crds::RuntimeSpec;

use crate::cli::PullPolicy;
use crate::object::Stored;

pub use egress::{Egress, egress};
pub use judge::{Judgement, Placement, Problem, RuleJudgement, RuntimeJudgement, SourceJudgement, judge};
pub use merge::{differs, merged_conditions, without_nulls};
pub use names::{
    APPLIED, BUNDLE_ANNOTATION, MANAGED_BY, MANAGER, RUNTIME_LABEL, bundle_secret, object_name, runtime_of,
};
pub use overlay::overlay;
pub use reason::Reason;
pub use refs::{SecretNeed, secret_needs};
pub(crate) use status::waiting;
pub use status::{Condition, StatusPlan, statuses};
pub use workload::{Workload, labels, workload};

/// Kind and name.
pub type Key = (Kind, String);

/// What the operator was told when it was started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespace of the operator.
    pub namespace: String,
    /// Image of the pods.
    pub image: String,
    /// When it is pulled.
    pub pull_policy: PullPolicy,
    /// With which Secrets.
    pub pull_secrets: Vec<String>,
    /// What all runtimes have unless their object says otherwise.
    pub defaults: RuntimeSpec,
    /// Make a NetworkPolicy for each runtime.
    pub network_policies: bool,
    /// Port of probes, metrics and reports.
    pub port: u16,
    /// Secrets that a bundle may be spread over.
    pub bundle_secrets: usize,
}

/// What is known of a Secret.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretState {
    /// Its values by key, in base64.
    Values(BTreeMap<String, String>),
    /// It is not there.
    Missing,
    /// It could not be read.
    Unreadable(String),
}

/// What is known of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodState {
    /// Its name.
    pub name: String,
    /// Its runtime.
    pub runtime: String,
    /// Kubernetes calls it ready.
    pub is_ready: bool,
    /// It is going.
    pub is_deleting: bool,
    /// How often its container was started again.
    pub restarts: i64,
    /// Why it does not start, as Kubernetes says.
    pub problem: Option<String>,
    /// What it says of its rules.
    pub report: Option<Arc<EngineReport>>,
}

/// What is known of a StatefulSet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadState {
    /// It runs the template that it has.
    pub is_rolled_out: bool,
    /// While its pod is being replaced: what the new one has of its own, if that is known.
    pub rolls: Option<String>,
    /// Hash of what was applied.
    pub applied: String,
    /// Why it, or something that belongs to it, could not be applied.
    pub problem: Option<Problem>,
}

/// One namespace.
#[derive(Clone)]
pub struct Snapshot {
    /// Its name.
    pub namespace: String,
    /// Our objects.
    pub objects: BTreeMap<Key, Arc<Stored>>,
    /// Secrets that the objects name.
    pub secrets: BTreeMap<String, SecretState>,
    /// Bundles as they were written last, by runtime.
    pub bundles: BTreeMap<String, Arc<Bundle>>,
    /// Pods of runtimes.
    pub pods: Vec<PodState>,
    /// StatefulSets by runtime.
    pub workloads: BTreeMap<String, WorkloadState>,
}

impl Snapshot {
    /// The objects of a kind, in order of name.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Arc<Stored>> {
        self.objects.iter().filter(move |((of, _), _)| *of == kind).map(|(_, object)| object)
    }

    /// The values of Secrets that are there.
    pub fn secret_values(&self) -> SecretValues {
        let values = self.secrets.iter().filter_map(|(name, state)| match state {
            SecretState::Values(values) => Some((name.clone(), values.clone())),
            SecretState::Missing | SecretState::Unreadable(_) => None,
        });
        values.collect()
    }
}

#[cfg(test)]
mod tests;
