//! What outlives a pod: state on a claim, and why the pod was replaced.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_tests::cluster::NODE_NAME;
use sluice_tests::mqtt::MqttClient;
use sluice_tests::wait;

use super::site::{Site, list, rule, stream};

const NAMESPACE: &str = "lasting";

/// A volume that is a folder of the node.
fn volume(folder: &str) -> Value {
    let here = json!({"nodeSelectorTerms": [{"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]},
    ]}]});
    json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": NAMESPACE}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": NAMESPACE,
        "local": {"path": folder}, "nodeAffinity": {"required": here},
    }})
}

fn runtime(memory: &str) -> Value {
    json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "Runtime", "metadata": {"name": NAMESPACE}, "spec": {
        "storage": {"size": "1Gi", "storageClassName": NAMESPACE},
        "resources": {"limits": {"memory": memory}},
    }})
}

/// Sends a row until it comes out, and gives how many the rule has counted by then.
async fn counted(client: &MqttClient, row: u32) -> u64 {
    client.publish("lasting/in", format!(r#"{{"n": {row}}}"#)).await.unwrap();
    let mut count = None;
    wait::until_true("the row", async || {
        let rows = client.received();
        let rows = rows.iter().filter_map(|(_, body)| serde_json::from_slice::<Value>(body).ok());
        count = rows.filter(|found| found["n"] == row).find_map(|found| found["c"].as_u64());
        count.is_some()
    })
    .await;
    count.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn state_on_a_claim_outlives_the_pod_and_a_roll_says_why() {
    let site = Site::shared().await;
    site.namespace(NAMESPACE);
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    site.cluster.apply(NAMESPACE, &volume(&folder.path().display().to_string()).to_string()).unwrap();
    let mut counts = rule("counts", "SELECT n, acc_count(n) AS c FROM `in`", "lasting/out");
    counts["spec"]["runtime"] = json!(NAMESPACE);
    counts["spec"]["options"] = json!({"qos": 1});
    // The broker keeps for the stream what comes while there is no pod.
    let mut input = stream("in", "lasting/in");
    input["spec"]["options"]["enableClientSession"] = json!(true);
    input["spec"]["options"]["clientid"] = json!("lasting");
    site.cluster.apply(NAMESPACE, &list(&[runtime("128Mi"), input, counts])).unwrap();
    site.until_condition(NAMESPACE, "counts", "Ready", "True").await;
    let client = site.mqtt();
    client.subscribe("lasting/out").await.unwrap();
    let first = counted(&client, 0).await;
    assert_eq!((first, counted(&client, 1).await), (1, 2));

    // The pod goes, and its memory with it.
    let before = site.pods(NAMESPACE).await;
    site.cluster.kubectl(&["delete", "pod", "-n", NAMESPACE, "--all", "--wait=true"]).unwrap();
    assert_eq!(counted(&client, 2).await, 3, "the count goes on");
    assert_ne!(site.pods(NAMESPACE).await, before);

    // Another limit makes another pod: the Runtime says why while it lasts, and an event for good.
    site.until_condition(NAMESPACE, "counts", "Ready", "True").await;
    let before = site.pods(NAMESPACE).await;
    site.cluster.apply(NAMESPACE, &runtime("160Mi").to_string()).unwrap();
    let message = "jsonpath={.status.conditions[?(@.type==\"Running\")].reason}: {.status.conditions[?(@.type==\"Running\")].message}";
    wait::until_true("the reason", async || {
        let said = site.cluster.kubectl(&["get", "runtime", NAMESPACE, "-n", NAMESPACE, "-o", message]).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        said.starts_with("RollingOut: its pod is being replaced: resources")
    })
    .await;
    let events = [
        "get",
        "events",
        "-n",
        NAMESPACE,
        "--field-selector=reason=RollingOut",
        "-o",
        "jsonpath={range .items[*]}{.message};{end}",
    ];
    let said = || site.cluster.kubectl(&events).unwrap();
    wait::until_true("the event", async || said().starts_with("the pod is replaced: resources")).await;
    wait::until_true("the new pod", async || {
        let after = site.pods(NAMESPACE).await;
        after.len() == 1 && after != before
    })
    .await;
    assert_eq!(counted(&client, 3).await, 4);
    site.until_condition(NAMESPACE, "counts", "Ready", "True").await;
    assert_eq!(said().matches(';').count(), 1, "{}", said());
}
