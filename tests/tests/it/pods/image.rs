//! Our image by itself: static binaries on nothing, in a namespace that allows only restricted pods, with a model from a ConfigMap.

use serde_json::json;
use sluice_tests::cluster::{Cluster, Level, NODE, SLUICE_IMAGE, sluice_image};
use sluice_tests::mqtt::MqttClient;
use sluice_tests::services::Mosquitto;

/// A Service with this name and port that leads to a port of the node.
fn service_to_node(name: &str, port: u16, node_port: u16) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"ports": [{"port": port, "targetPort": node_port}]}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": [{"port": node_port}], "endpoints": [{"addresses": [NODE]}]},
    ]})
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_binary_finds_services_by_name_and_runs_as_anybody() {
    let (image, broker) = tokio::join!(sluice_image(), Mosquitto::start());
    let (image, broker) = (image.unwrap(), broker.unwrap());
    let cluster = Cluster::start(Level::Pods, &[image.to_owned()]).await.unwrap();
    let way = cluster.expose(1883, broker.port()).unwrap();
    cluster.namespace("edge").unwrap();
    cluster.kubectl(&["label", "namespace", "edge", "pod-security.kubernetes.io/enforce=restricted"]).unwrap();
    cluster.apply("edge", &service_to_node("mosquitto", 1883, way.listens.port())).unwrap();
    let manifests = r#"
apiVersion: sluice.dev/v1alpha1
kind: Stream
metadata: {name: in}
spec: {type: mqtt, datasource: in, options: {server: "tcp://mosquitto:1883", qos: 1}}
---
apiVersion: sluice.dev/v1alpha1
kind: Rule
metadata: {name: echo}
spec:
  sql: SELECT id, id * 2 AS double FROM `in`
  sinks:
  - mqtt: {server: "tcp://mosquitto.edge.svc.cluster.local:1883", topic: out, sendSingle: true}
---
apiVersion: sluice.dev/v1alpha1
kind: Rule
metadata: {name: model}
spec:
  sql: SELECT id, onnx("times123", array_create(id, id, id))[0] AS x FROM `in`
  sinks:
  - mqtt: {server: "tcp://mosquitto:1883", topic: model, sendSingle: true}
"#;
    cluster
        .kubectl_with(
            &["create", "configmap", "rules", "-n", "edge", "--from-file=rules.yaml=/dev/stdin"],
            Some(manifests),
        )
        .unwrap();
    // A small model fits into a ConfigMap.
    let model = concat!("--from-file=", env!("CARGO_MANIFEST_DIR"), "/golden/models/times123.onnx");
    cluster.kubectl(&["create", "configmap", "models", "-n", "edge", model]).unwrap();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "runtime"}, "spec": {
        "automountServiceAccountToken": false,
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "runtime", "image": SLUICE_IMAGE, "imagePullPolicy": "Never",
            "args": ["run", "-f", "/rules", "--http", "0.0.0.0:8080"],
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1},
            "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]}},
            "env": [{"name": "SLUICE_MODELS_DIR", "value": "/models"}],
            "volumeMounts": [{"name": "rules", "mountPath": "/rules"}, {"name": "models", "mountPath": "/models"}],
        }],
        "volumes": [
            {"name": "rules", "configMap": {"name": "rules"}},
            {"name": "models", "configMap": {"name": "models"}},
        ],
    }});
    cluster.apply("edge", &pod.to_string()).unwrap();
    let waited = cluster.kubectl(&["wait", "-n", "edge", "--for=condition=Ready", "pod/runtime", "--timeout=60s"]);
    if let Err(error) = waited {
        let said = cluster.kubectl(&["logs", "-n", "edge", "runtime"]);
        let events = cluster.kubectl(&["get", "events", "-n", "edge"]);
        panic!("{error}\n{said:?}\n{events:?}");
    }
    let client = MqttClient::connect(broker.port());
    client.subscribe("out").await.unwrap();
    client.subscribe("model").await.unwrap();
    client.publish("in", r#"{"id": 21}"#).await.unwrap();
    let mut rows = client.wait_rows(2).await;
    rows.sort_by_key(|row| row["x"].is_array());
    assert_eq!(rows, [json!({"id": 21, "double": 42}), json!({"id": 21, "x": [21, 42, 63]})]);
}
