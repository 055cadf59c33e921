//! Names and labels of what the operator makes.

/// The field manager of all that is applied, and the reporter of events.
pub const MANAGER: &str = "sluice-operator";
/// Label of all that the operator made.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label that names the runtime.
pub const RUNTIME_LABEL: &str = "sluice.dev/runtime";
/// Annotation of an applied object: the hash of what was applied.
pub const APPLIED: &str = "sluice.dev/applied";
/// Annotation of a pod: the bundle that it should have, and how often its node was told so. A change makes the kubelet look at the
/// pod's volumes at once.
pub const BUNDLE_ANNOTATION: &str = "sluice.dev/bundle";

/// The name of a runtime's objects.
pub fn object_name(runtime: &str) -> String {
    format!("sluice-{runtime}")
}

/// The Secret with a part of a runtime's bundle; the first holds the index and the token too.
pub fn bundle_secret(runtime: &str, part_idx: usize) -> String {
    match part_idx {
        0 => format!("sluice-{runtime}-bundle"),
        _ => format!("sluice-{runtime}-bundle-{part_idx}"),
    }
}

/// The runtime that a rule's `spec` names.
pub fn runtime_of(spec: &serde_json::Value) -> String {
    spec.get("runtime").and_then(serde_json::Value::as_str).unwrap_or(sluice_crds::DEFAULT_RUNTIME).to_owned()
}
