//! The chart's objects through the life of a release, by the real Helm against a real API server; nothing runs in them here.

use serde_json::{Value, json};
use sluice_tests::cluster::{Cluster, Level};

use super::repository;

const NAMESPACE: &str = "sluice-system";
const WEBHOOK: &str = "validatingwebhookconfiguration/sluice-sluice-system";

/// `helm VERB sluice charts/sluice`, serving `site-a`.
fn helm(cluster: &Cluster, verb: &str, set: &str) {
    let chart = repository("charts/sluice").display().to_string();
    let args = [verb, "sluice", &chart, "-n", NAMESPACE, "--create-namespace", "--set", "watchNamespaces={site-a}"];
    let args: Vec<&str> = args.into_iter().filter(|arg| verb == "install" || *arg != "--create-namespace").collect();
    cluster.helm(&[&args[..], &["--set", set]].concat()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrade_rollback_and_uninstall_lose_nothing_of_the_users() {
    let cluster = Cluster::start(Level::ControlPlane, &[]).await.unwrap();
    cluster.namespace("site-a").unwrap();
    helm(&cluster, "install", "operator.logLevel=info");
    let examples = repository("deploy/examples/mqtt-lookup-influx").display().to_string();
    cluster.kubectl(&["apply", "-n", "site-a", "-f", &examples]).unwrap();
    let users = || -> Vec<Value> {
        let objects = cluster.kubectl(&["get", "rules,streams,lookuptables", "-n", "site-a", "-o", "json"]).unwrap();
        let objects: Value = serde_json::from_str(&objects).unwrap();
        let items = objects["items"].as_array().unwrap().iter();
        items.map(|object| json!([object["kind"], object["metadata"]["uid"], object["spec"]])).collect()
    };
    let before = users();
    assert_eq!(before.len(), 3);

    // The operator puts its CA into the webhook: the chart must leave it there.
    let ca =
        json!([{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": base64_of_a_certificate(&cluster)}]);
    cluster
        .kubectl(&["patch", WEBHOOK, "--type=json", "--field-manager=sluice-operator", "-p", &ca.to_string()])
        .unwrap();
    let webhook = || -> (u64, bool) {
        let webhook = cluster.kubectl(&["get", WEBHOOK, "-o", "json"]).unwrap();
        let webhook: Value = serde_json::from_str(&webhook).unwrap();
        let webhook = &webhook["webhooks"][0];
        (webhook["timeoutSeconds"].as_u64().unwrap(), webhook["clientConfig"]["caBundle"].is_string())
    };
    helm(&cluster, "upgrade", "webhook.timeoutSeconds=7");
    assert_eq!(webhook(), (7, true), "after an upgrade");
    cluster.helm(&["rollback", "sluice", "1", "-n", NAMESPACE]).unwrap();
    assert_eq!(webhook(), (5, true), "after a rollback");
    assert_eq!(users(), before);

    cluster.helm(&["uninstall", "sluice", "-n", NAMESPACE]).unwrap();
    assert_eq!(users(), before, "after an uninstall");
    let left = cluster.kubectl(&["get", "deployments,services,roles,rolebindings,serviceaccounts", "-A", "-o", "name"]);
    assert!(!left.unwrap().contains("sluice"), "all else is gone");
    helm(&cluster, "install", "operator.logLevel=info");
    assert_eq!(users(), before, "taken up again");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_view_or_edit_a_namespace_may_do_so_with_our_kinds() {
    let cluster = Cluster::start(Level::ControlPlane, &[]).await.unwrap();
    // The plain manifests do what the chart does.
    for kustomization in ["overlays/cluster", "overlays/edge", "base"] {
        let folder = repository("deploy/kustomize").join(kustomization).display().to_string();
        cluster.kubectl(&["apply", "--server-side", "--force-conflicts", "-k", &folder]).unwrap();
    }
    for role in ["view", "edit"] {
        let binding = format!("{role}-for-test");
        cluster.kubectl(&["create", "rolebinding", &binding, "--clusterrole", role, "--user", role]).unwrap();
    }
    for (user, verb, expected) in [
        ("view", "list", true),
        ("view", "create", false),
        ("edit", "list", true),
        ("edit", "create", true),
        ("edit", "delete", true),
        ("nobody", "list", false),
    ] {
        let mut answer = false;
        // Aggregation and the authorizer's cache follow a moment later.
        for _ in 0..100 {
            answer = cluster.kubectl(&["auth", "can-i", verb, "rules.sluice.dev", "--as", user]).is_ok();
            if answer == expected {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(answer, expected, "{user}: {verb}");
    }
    assert!(
        cluster
            .kubectl(&["auth", "can-i", "update", "rules.sluice.dev", "--subresource=status", "--as", "edit"])
            .is_err()
    );
}

fn base64_of_a_certificate(cluster: &Cluster) -> String {
    let ca = cluster.kubectl(&[
        "config",
        "view",
        "--raw",
        "-o",
        "jsonpath={.clusters[0].cluster.certificate-authority-data}",
    ]);
    ca.unwrap()
}
