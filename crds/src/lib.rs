//! The resource types of `sluice.dev/v1alpha1`: [`Stream`], [`LookupTable`], [`Rule`], [`Runtime`].
//!
//! Plain data: no I/O, no SQL, no client. Doc comments of the fields are what `kubectl explain` shows; `cargo crdgen` writes
//! the definitions to `deploy/crds/`.

#![expect(clippy::duplicated_attributes, reason = "several printer columns are of one type")]

mod common;
mod duration;
mod lookup_table;
mod rule;
mod runtime;
mod stream;
mod yaml;

pub use common::{ConfigRef, Counters, FieldSpec, OptionMap, SecretKeyRef, SecretRef, TimestampSpec};
pub use duration::{Duration, DurationError};
pub use lookup_table::{CacheSpec, LookupTable, LookupTableSpec, LookupTableStatus, OnError, TableKind};
pub use rule::{
    Backpressure, CronRange, OptimizeControl, OptimizeRule, PlanOptimizeStrategy, PodBinding, RestartStrategy, Rule,
    RuleErrorPolicy, RuleOptions, RuleSpec, RuleState, RuleStatus, Sink, StarColumns, StatePolicy, WindowOption,
    WindowVersion,
};
pub use runtime::{HttpPush, PodStatus, Runtime, RuntimeSpec, RuntimeStatus, ServiceType, Storage, TlsSecret};
pub use stream::{Stream, StreamSpec, StreamStatus};
pub use yaml::yaml_files;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::CustomResourceExt;

/// API group of all kinds.
pub const GROUP: &str = "sluice.dev";
/// API version of all kinds.
pub const VERSION: &str = "v1alpha1";
/// The Secret with profile files that is used where nothing else is named.
pub const DEFAULT_SECRET: &str = "sluice-sources";
/// The Runtime that runs rules that name none.
pub const DEFAULT_RUNTIME: &str = "default";

/// The definitions of all kinds, in the order in which they are documented.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let mut definitions = vec![Stream::crd(), LookupTable::crd(), Rule::crd(), Runtime::crd()];
    definitions.iter_mut().for_each(not_seen_yet);
    definitions
}

/// An object that the operator has not seen yet says so: without any condition, tools would take it to be in order.
fn not_seen_yet(definition: &mut CustomResourceDefinition) {
    let versions = definition.spec.versions.iter_mut();
    let schemas = versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    for schema in schemas {
        let Some(status) = schema.properties.as_mut().and_then(|properties| properties.get_mut("status")) else {
            continue;
        };
        status.default = Some(JSON(serde_json::json!({
            "conditions": [{
                "type": "Ready",
                "status": "Unknown",
                "reason": "Pending",
                "message": "the operator has not seen it yet",
                "lastTransitionTime": "1970-01-01T00:00:00Z",
            }],
        })));
    }
}

#[cfg(test)]
mod tests;
