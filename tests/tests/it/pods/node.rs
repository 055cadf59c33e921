//! The node of a test cluster: restricted pods run on it, services of this side are reached from it, and nothing is left of it.

use std::path::Path;

use serde_json::json;
use sluice_tests::cluster::{Cluster, Level, NODE, PAUSE_IMAGE, Part};
use sluice_tests::services::Mosquitto;
use sluice_tests::wait;

#[tokio::test(flavor = "multi_thread")]
async fn restricted_pods_run_and_nothing_is_left() {
    let broker = Mosquitto::start().await.unwrap();
    let cluster = Cluster::start(Level::Pods, &[]).await.unwrap();
    cluster.namespace("edge").unwrap();
    cluster.kubectl(&["label", "namespace", "edge", "pod-security.kubernetes.io/enforce=restricted"]).unwrap();
    let pod = |name: &str, security: serde_json::Value| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "image": PAUSE_IMAGE, "imagePullPolicy": "Never", "securityContext": security}],
        }})
        .to_string()
    };
    let refusal = cluster.apply("edge", &pod("privileged", json!({"privileged": true}))).unwrap_err().to_string();
    assert!(refusal.contains("violates PodSecurity"), "{refusal}");
    let restricted = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    cluster.apply("edge", &pod("restricted", restricted)).unwrap();
    let ready = ["wait", "-n", "edge", "--for=condition=Ready", "pod/restricted", "--timeout=60s"];
    cluster.kubectl(&ready).unwrap();

    // A server of this side, seen from the pod's own network at the node's address.
    let way = cluster.expose(1883, broker.port()).unwrap();
    assert_eq!(way.listens.to_string(), format!("{NODE}:1883"));
    cluster
        .inside(
            "nsenter -t $(pgrep -x pause | tail -n 1) --net -- timeout 5 bash -c 'exec 3<>/dev/tcp/192.0.2.10/1883'",
        )
        .unwrap();

    // Pods outlive the kubelet; it takes them up again.
    cluster.kill(Part::Kubelet).unwrap();
    cluster.inside("pgrep -x pause").unwrap();
    cluster.start_part(Part::Kubelet).unwrap();
    cluster.kubectl(&ready).unwrap();

    let group = format!("sluice-test-{}", cluster.state().file_name().unwrap().display());
    let groups = || {
        std::fs::read_dir("/sys/fs/cgroup")
            .unwrap()
            .flatten()
            .filter(|hierarchy| hierarchy.path().join(&group).exists())
            .count()
    };
    assert!(groups() > 0 || Path::new("/sys/fs/cgroup").join(&group).exists());
    drop(cluster);
    wait::until_true("the end of all control groups", async || groups() == 0).await;
}
