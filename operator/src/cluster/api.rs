//! The kinds that the operator touches, and its one client.

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Client, Error};
use serde_json::Value;
use sluice::manifest::Kind;
use sluice_crds::{GROUP, VERSION};

use crate::metrics::Metrics;
use crate::planning::MANAGER;

/// A kind of Kubernetes' own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Native {
    /// `v1`
    ServiceAccount,
    /// `v1`
    Service,
    /// `v1`
    Secret,
    /// `v1`
    Pod,
    /// `apps/v1`
    StatefulSet,
    /// `networking.k8s.io/v1`
    NetworkPolicy,
    /// `events.k8s.io/v1`
    Event,
}

impl Native {
    /// Where it is served.
    pub fn resource(self) -> ApiResource {
        let (group, kind, plural) = match self {
            Native::ServiceAccount => ("", "ServiceAccount", "serviceaccounts"),
            Native::Service => ("", "Service", "services"),
            Native::Secret => ("", "Secret", "secrets"),
            Native::Pod => ("", "Pod", "pods"),
            Native::StatefulSet => ("apps", "StatefulSet", "statefulsets"),
            Native::NetworkPolicy => ("networking.k8s.io", "NetworkPolicy", "networkpolicies"),
            Native::Event => ("events.k8s.io", "Event", "events"),
        };
        resource(group, "v1", kind, plural)
    }
}

/// Where a kind of ours is served.
pub fn own_resource(kind: Kind) -> ApiResource {
    let plural = match kind {
        Kind::Stream => "streams",
        Kind::LookupTable => "lookuptables",
        Kind::Rule => "rules",
        Kind::Runtime => "runtimes",
        Kind::Secret => "secrets",
    };
    resource(GROUP, VERSION, kind.as_str(), plural)
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// The API server, with every write counted.
#[derive(Clone)]
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// Counts.
    pub metrics: Metrics,
}

impl Cluster {
    /// The objects of a kind in a namespace.
    pub fn api(&self, resource: &ApiResource, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, resource)
    }

    /// Applies an object as ours. With `force`, fields that others have set become ours.
    ///
    /// # Errors
    /// The API server does not take it.
    pub async fn apply(&self, kind: Native, object: &Value, force: bool) -> Result<DynamicObject, Error> {
        let (namespace, name) = place(object);
        let mut params = PatchParams::apply(MANAGER);
        params.force = force;
        self.metrics.write("apply", kind.resource().plural.as_str());
        self.api(&kind.resource(), namespace).patch(name, &params, &Patch::Apply(object)).await
    }

    /// Applies the status of an object of ours.
    ///
    /// # Errors
    /// The API server does not take it.
    pub async fn apply_status(&self, kind: Kind, object: &Value) -> Result<DynamicObject, Error> {
        let (namespace, name) = place(object);
        let resource = own_resource(kind);
        self.metrics.write("status", &resource.plural);
        let params = PatchParams::apply(MANAGER).force();
        self.api(&resource, namespace).patch_status(name, &params, &Patch::Apply(object)).await
    }
}

fn place(object: &Value) -> (&str, &str) {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    (text("/metadata/namespace"), text("/metadata/name"))
}

/// What an error of the API server says, in a line.
pub fn shown(error: &Error) -> String {
    match error {
        Error::Api(status) => status.message.clone(),
        error => error.to_string(),
    }
}

/// True if the object is not there.
pub fn is_not_found(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 404)
}
