//! The Runtime kind.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{self, OptionMap, SecretKeyRef};
use crate::rule::RuleOptions;

/// A pod that runs rules. Optional: rules that name no runtime share one pod per namespace, `default`, made with the Helm
/// chart's settings. An object called `default` changes that pod.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, KubeSchema, Serialize, Deserialize)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "Runtime",
    plural = "runtimes",
    shortname = "srt",
    category = "sluice",
    namespaced,
    status = "RuntimeStatus",
    derive = "PartialEq",
    doc = "A pod that runs rules",
    validation = Rule::new("size(self.metadata.name) <= 45")
        .message("the name of a Runtime has at most 45 characters: names of its pods and volumes are made from it"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Rules", type_ = "integer", json_path = ".status.rules"),
    printcolumn(name = "Running", type_ = "integer", json_path = ".status.running"),
    printcolumn(name = "Image", type_ = "string", priority = "1", json_path = ".status.image"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuntimeSpec {
    /// Container image. Default: the Helm chart's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// CPU and memory of the pod. Default: the Helm chart's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels that the pod's node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 64))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that the pod tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,
    /// Laid over the pod template, as a strategic merge patch; for all that has no field of its own here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<OptionMap>,
    /// A volume claim for checkpoints, journals and queues. Default: an emptyDir, which survives a crash of the container,
    /// but not of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// The server that httppush streams receive on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_push: Option<HttpPush>,
    /// Defaults for the options of the rules that run here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<RuleOptions>,
}

/// A volume claim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Storage {
    /// Size: 1Gi.
    pub size: Quantity,
    /// Storage class. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

/// The server that httppush streams receive on.
#[derive(Clone, Debug, Default, PartialEq, KubeSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!has(self.clientCa) || has(self.tls)")
    .message("certificates of clients are only seen by a server with one of its own: set tls too"))]
pub struct HttpPush {
    /// Address of the pod that it listens on. Default 0.0.0.0; `::` where the pods have IPv6 addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 45), regex(pattern = "^[0-9A-Fa-f:.]+$"))]
    pub address: Option<String>,
    /// Port. Default 10081.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// Certificate and key. Default: plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSecret>,
    /// Certificates of authorities, as PEM: only clients with a certificate of these are let in. Needs tls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<SecretKeyRef>,
    /// Longest body, packed or unpacked: 8Mi, 500k, "4096". Default 1Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = "^[1-9][0-9]*(k|M|G|Ki|Mi|Gi)?$"))]
    pub body_limit: Option<String>,
    /// Connections, and requests, at a time. Default 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub concurrency: Option<i32>,
    /// How the Service is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_type: Option<ServiceType>,
}

/// A Secret of type kubernetes.io/tls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsSecret {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

/// How the Service is reached. Default ClusterIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// From inside the cluster.
    #[default]
    ClusterIP,
    /// On a port of every node.
    NodePort,
    /// Through a load balancer.
    LoadBalancer,
}

/// What is known of a runtime.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RuntimeStatus {
    /// The generation that this status is about.
    pub observed_generation: Option<i64>,
    /// Accepted, ResolvedRefs, Running, Ready; Reconciling and Stalled while they are true.
    #[schemars(schema_with = "common::conditions")]
    pub conditions: Vec<Condition>,
    /// Image that the pods run.
    pub image: Option<String>,
    /// Rules that name this runtime.
    pub rules: Option<i64>,
    /// Those of them that are running.
    pub running: Option<i64>,
    /// The runtime's pods.
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub pods: Vec<PodStatus>,
}

/// One pod of a runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// Name of the pod.
    pub name: String,
    /// Is it ready?
    #[serde(default)]
    pub ready: bool,
    /// The bundle that it runs.
    #[serde(default)]
    pub bundle: Option<String>,
}
