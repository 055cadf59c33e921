//! The objects of a runtime. What they hold depends on the Runtime, the chart's settings and where connectors reach out to; never on
//! rules, so that a change of rules restarts nothing, and never on the operator's version.

use serde_json::{Map, Value, json};
use sluice_crds::{DEFAULT_RUNTIME, HttpPush, RuntimeSpec, ServiceType};

use super::egress::Egress;
use super::names::{MANAGED_BY, MANAGER, RUNTIME_LABEL, bundle_secret, object_name};
use super::{Settings, overlay};

/// The user that the process runs as.
const USER: i64 = 65532;
/// Where the bundle is mounted.
const BUNDLE_DIR: &str = "/etc/sluice/bundle";
/// Where checkpoints and queues are kept.
const STATE_DIR: &str = "/var/lib/sluice";
/// Where the certificate of the httppush server is mounted.
const TLS_DIR: &str = "/etc/sluice/httppush";
/// Where the authorities of its clients are mounted.
const CLIENT_CA_DIR: &str = "/etc/sluice/httppush-clients";
/// Port of the httppush server.
const HTTP_PUSH_PORT: i32 = 10081;
/// Which parts of the memory that the container may have are for rows in channels, and for what rules keep.
const MEMORY_SHARES: [(&str, f64); 2] = [("--buffer-memory", 0.25), ("--state-memory", 0.5)];

/// What a runtime consists of, but for its bundle.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Owns the rest, unless a Runtime object does.
    pub service_account: Value,
    /// For httppush and metrics.
    pub service: Value,
    /// Runs the pod.
    pub stateful_set: Value,
    /// Deny by default.
    pub network_policy: Option<Value>,
}

/// Labels of all that belongs to a runtime.
pub fn labels(runtime: &str) -> Value {
    json!({
        "app.kubernetes.io/name": "sluice-runtime",
        "app.kubernetes.io/instance": runtime,
        MANAGED_BY: MANAGER,
        RUNTIME_LABEL: runtime,
    })
}

/// The objects of a runtime. `uid` is that of its Runtime object, if it has one.
pub fn workload(
    namespace: &str,
    runtime: &str,
    spec: Option<&RuntimeSpec>,
    uid: Option<&str>,
    egress: &Egress,
    settings: &Settings,
) -> Workload {
    let empty = RuntimeSpec::default();
    let own = spec.unwrap_or(&empty);
    let name = object_name(runtime);
    let selector = json!({ "app.kubernetes.io/name": "sluice-runtime", RUNTIME_LABEL: runtime });
    let push = own.http_push.as_ref().or(settings.defaults.http_push.as_ref());
    let push_port = push.and_then(|push| push.port).unwrap_or(HTTP_PUSH_PORT);

    let mut service_account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": { "name": name, "namespace": namespace, "labels": labels(runtime) },
        "automountServiceAccountToken": false,
    });
    // The default runtime outlives its Runtime object: rules that name none run on.
    if let Some(uid) = uid.filter(|_| runtime != DEFAULT_RUNTIME) {
        let owner = json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "Runtime", "name": runtime, "uid": uid, "controller": true,
        });
        set(&mut service_account, "metadata", "ownerReferences", json!([owner]));
    }
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": namespace, "labels": labels(runtime) },
        "spec": {
            "type": match push.and_then(|push| push.service_type).unwrap_or_default() {
                ServiceType::ClusterIP => "ClusterIP",
                ServiceType::NodePort => "NodePort",
                ServiceType::LoadBalancer => "LoadBalancer",
            },
            "selector": selector,
            "ports": [
                { "name": "http", "port": settings.port, "targetPort": "http", "protocol": "TCP" },
                { "name": "httppush", "port": push_port, "targetPort": "httppush", "protocol": "TCP" },
            ],
        },
    });
    let template = template(runtime, own, push, push_port, settings);
    let mut stateful_set = json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": { "name": name, "namespace": namespace, "labels": labels(runtime) },
        "spec": {
            "replicas": 1,
            "serviceName": name,
            // A pod that does not get ready must not stand in the way of a newer template.
            "podManagementPolicy": "Parallel",
            "updateStrategy": { "type": "RollingUpdate" },
            "revisionHistoryLimit": 3,
            "selector": { "matchLabels": selector },
            "template": template,
        },
    });
    if let Some(storage) = own.storage.as_ref().or(settings.defaults.storage.as_ref()) {
        let mut claim = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": { "name": "state", "labels": labels(runtime) },
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": { "requests": { "storage": storage.size } },
            },
        });
        if let Some(class) = &storage.storage_class_name {
            set(&mut claim, "spec", "storageClassName", json!(class));
        }
        set(&mut stateful_set, "spec", "volumeClaimTemplates", json!([claim]));
    }
    let network_policy = settings.network_policies.then(|| {
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": { "name": name, "namespace": namespace, "labels": labels(runtime) },
            "spec": {
                "podSelector": { "matchLabels": selector },
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [
                    // Reports want a token; nodes may always probe.
                    { "from": [{ "namespaceSelector": {} }], "ports": [{ "port": settings.port, "protocol": "TCP" }] },
                    { "ports": [{ "port": push_port, "protocol": "TCP" }] },
                ],
                "egress": egress.rules(),
            },
        })
    });
    Workload { service_account, service, stateful_set, network_policy }
}

fn template(runtime: &str, own: &RuntimeSpec, push: Option<&HttpPush>, push_port: i32, settings: &Settings) -> Value {
    let defaults = &settings.defaults;
    let image = own.image.as_ref().or(defaults.image.as_ref()).unwrap_or(&settings.image);
    let resources = own.resources.as_ref().or(defaults.resources.as_ref());
    let resources = resources.map_or_else(
        || json!({ "requests": { "cpu": "50m", "memory": "64Mi" }, "limits": { "memory": "256Mi" } }),
        |resources| json!(resources),
    );
    let probe = |path: &str, period: i32, failures: i32| {
        json!({
            "httpGet": { "path": path, "port": "http", "scheme": "HTTP" },
            "periodSeconds": period,
            "timeoutSeconds": 2,
            "failureThreshold": failures,
        })
    };
    let args = [
        "run".to_owned(),
        "--bundle".to_owned(),
        BUNDLE_DIR.to_owned(),
        "--http".to_owned(),
        format!("0.0.0.0:{}", settings.port),
        "--http-token-file".to_owned(),
        format!("{BUNDLE_DIR}/token"),
        "--grace".to_owned(),
        "20s".to_owned(),
    ];
    // All that there may be, so that a bundle that grows restarts nothing.
    let bundle: Vec<Value> = (0..settings.bundle_secrets)
        .map(|part_idx| {
            let mut items = vec![json!({ "key": format!("part-{part_idx}"), "path": format!("part-{part_idx}") })];
            if part_idx == 0 {
                items.push(json!({ "key": "index.json", "path": "index.json" }));
                items.push(json!({ "key": "token", "path": "token" }));
            }
            let mut secret = json!({ "name": bundle_secret(runtime, part_idx), "items": items });
            if part_idx > 0
                && let Value::Object(secret) = &mut secret
            {
                secret.insert("optional".to_owned(), json!(true));
            }
            json!({ "secret": secret })
        })
        .collect();
    let mut volumes = vec![
        json!({ "name": "bundle", "projected": { "defaultMode": 0o440, "sources": bundle } }),
        json!({ "name": "tmp", "emptyDir": {} }),
    ];
    let mut mounts = vec![
        json!({ "name": "bundle", "mountPath": BUNDLE_DIR, "readOnly": true }),
        json!({ "name": "state", "mountPath": STATE_DIR }),
        json!({ "name": "tmp", "mountPath": "/tmp" }),
    ];
    if own.storage.is_none() && defaults.storage.is_none() {
        volumes.push(json!({ "name": "state", "emptyDir": {} }));
    }
    let mut env = vec![
        json!({ "name": "SLUICE_LOG_FORMAT", "value": "json" }),
        json!({ "name": "SLUICE_STATE_DIR", "value": STATE_DIR }),
        json!({ "name": "SLUICE_HTTPPUSH_PORT", "value": push_port.to_string() }),
    ];
    if let Some(tls) = push.and_then(|push| push.tls.as_ref()) {
        volumes
            .push(json!({ "name": "httppush-tls", "secret": { "secretName": tls.secret_name, "defaultMode": 0o440 } }));
        mounts.push(json!({ "name": "httppush-tls", "mountPath": TLS_DIR, "readOnly": true }));
        env.push(json!({ "name": "SLUICE_HTTPPUSH_CERT", "value": format!("{TLS_DIR}/tls.crt") }));
        env.push(json!({ "name": "SLUICE_HTTPPUSH_KEY", "value": format!("{TLS_DIR}/tls.key") }));
    }
    if let Some(ca) = push.and_then(|push| push.client_ca.as_ref()) {
        let items = json!([{ "key": ca.key, "path": "ca.crt" }]);
        let secret = json!({ "secretName": ca.name, "items": items, "defaultMode": 0o440 });
        volumes.push(json!({ "name": "httppush-clients", "secret": secret }));
        mounts.push(json!({ "name": "httppush-clients", "mountPath": CLIENT_CA_DIR, "readOnly": true }));
        env.push(json!({ "name": "SLUICE_HTTPPUSH_CLIENT_CA", "value": format!("{CLIENT_CA_DIR}/ca.crt") }));
    }
    for (name, value) in [
        ("SLUICE_HTTPPUSH_HOST", push.and_then(|push| push.address.clone())),
        ("SLUICE_HTTPPUSH_BODY_LIMIT", push.and_then(|push| push.body_limit.clone())),
        ("SLUICE_HTTPPUSH_CONCURRENCY", push.and_then(|push| Some(push.concurrency?.to_string()))),
    ] {
        env.extend(value.map(|value| json!({ "name": name, "value": value })));
    }
    let container = json!({
        "name": "sluice",
        "image": image,
        "imagePullPolicy": settings.pull_policy.as_str(),
        "command": ["/usr/bin/sluice"],
        "args": args,
        "env": env,
        "ports": [
            { "name": "http", "containerPort": settings.port, "protocol": "TCP" },
            { "name": "httppush", "containerPort": push_port, "protocol": "TCP" },
        ],
        "resources": resources,
        // Up to a minute until it answers at all; then it is alive while no rule is stuck, and ready once all have tried to connect.
        "startupProbe": probe("/healthz", 1, 60),
        "livenessProbe": probe("/healthz", 10, 3),
        "readinessProbe": probe("/readyz", 2, 3),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "readOnlyRootFilesystem": true,
        },
        "volumeMounts": mounts,
    });
    let mut spec = json!({
        "serviceAccountName": object_name(runtime),
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "containers": [container],
        "volumes": volumes,
    });
    let node_selector = if own.node_selector.is_empty() { &defaults.node_selector } else { &own.node_selector };
    let tolerations = if own.tolerations.is_empty() { &defaults.tolerations } else { &own.tolerations };
    if let Value::Object(spec) = &mut spec {
        if !node_selector.is_empty() {
            spec.insert("nodeSelector".to_owned(), json!(node_selector));
        }
        if !tolerations.is_empty() {
            spec.insert("tolerations".to_owned(), json!(tolerations));
        }
        if !settings.pull_secrets.is_empty() {
            let secrets = settings.pull_secrets.iter().map(|name| json!({ "name": name })).collect();
            spec.insert("imagePullSecrets".to_owned(), Value::Array(secrets));
        }
    }
    let mut template = json!({ "metadata": { "labels": labels(runtime) }, "spec": spec });
    for patch in [&defaults.pod_template, &own.pod_template].into_iter().flatten() {
        overlay(&mut template, &Value::Object(patch.0.clone()));
    }
    // The pod is found by these, whatever is laid over.
    overlay(&mut template, &json!({ "metadata": { "labels": labels(runtime) } }));
    limit_memory(&mut template);
    template
}

/// Tells the process how much memory rows may take in channels, and in what rules keep, so that they stop before the kernel ends
/// it. Without a limit of the container nothing is said, and what someone else has told it stays.
fn limit_memory(template: &mut Value) {
    let containers = template.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
    let own = containers.into_iter().flatten().find(|container| container.get("name") == Some(&json!("sluice")));
    let Some(own) = own else { return };
    let limit = match own.pointer("/resources/limits/memory") {
        Some(Value::String(text)) => quantity(text),
        Some(Value::Number(bytes)) => bytes.as_f64(),
        _ => None,
    };
    let Some(limit) = limit.filter(|limit| *limit >= 1.0) else { return };
    let Some(Value::Array(args)) = own.get_mut("args") else { return };
    for (option, share) in MEMORY_SHARES {
        if args.iter().filter_map(Value::as_str).any(|arg| arg.starts_with(option)) {
            continue;
        }
        args.push(json!(option));
        args.push(json!(format!("{}Ki", (limit * share / 1024.0).ceil())));
    }
}

/// A quantity as Kubernetes writes it.
fn quantity(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 12] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("m", 0.001),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("", 1.0),
    ];
    UNITS.iter().find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor))
}

fn set(object: &mut Value, part: &str, key: &str, value: Value) {
    if let Some(Value::Object(map)) = object.get_mut(part) {
        map.insert(key.to_owned(), value);
    } else if let Value::Object(object) = object {
        object.insert(part.to_owned(), Value::Object(Map::from_iter([(key.to_owned(), value)])));
    }
}
