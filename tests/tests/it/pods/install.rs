//! The chart through its life: installed, tested, upgraded, rolled back, uninstalled, installed again.

use serde_json::Value;
use sluice_tests::wait;

use super::site::{OPERATOR_NAMESPACE, OUR_IMAGE, Site, list, rule, stream};
use crate::control_plane::repository;

/// From nothing to a row on MQTT, by the commands that the documentation names.
#[tokio::test(flavor = "multi_thread")]
async fn from_helm_install_to_a_row_and_through_the_life_of_a_release() {
    let site = Site::bare().await;
    site.namespace("site-a");
    site.install(&["--set", "watchNamespaces={site-a}"]);
    let objects = list(&[stream("in", "in"), rule("double", "SELECT id, id * 2 AS double FROM `in`", "out")]);
    site.cluster.apply("site-a", &objects).unwrap();
    site.until_condition("site-a", "double", "Ready", "True").await;
    let client = site.mqtt();
    client.subscribe("out").await.unwrap();
    client.publish("in", r#"{"id": 1}"#).await.unwrap();
    assert_eq!(client.wait_rows(1).await, [serde_json::json!({"id": 1, "double": 2})]);

    site.cluster.helm(&["test", "sluice", "-n", OPERATOR_NAMESPACE]).unwrap();

    // An upgrade that changes nothing of the runtimes restarts none.
    let before = site.pods("site-a").await;
    assert_eq!(before.len(), 1, "{before:?}");
    let chart = repository("charts/sluice").display().to_string();
    let upgrade = |set: &str| {
        site.cluster
            .helm(&[
                "upgrade",
                "sluice",
                &chart,
                "-n",
                OPERATOR_NAMESPACE,
                "--wait",
                "--set",
                OUR_IMAGE,
                "--set",
                "watchNamespaces={site-a}",
                "--set",
                set,
            ])
            .unwrap()
    };
    upgrade("operator.logLevel=debug");
    site.cluster.helm(&["rollback", "sluice", "1", "-n", OPERATOR_NAMESPACE, "--wait"]).unwrap();
    client.publish("in", r#"{"id": 2}"#).await.unwrap();
    client.wait_rows(2).await;
    assert_eq!(site.pods("site-a").await, before);

    // What users made outlives the release, and rules run on without an operator.
    site.cluster.helm(&["uninstall", "sluice", "-n", OPERATOR_NAMESPACE, "--wait"]).unwrap();
    let kept = site.cluster.kubectl(&["get", "rules,streams", "-n", "site-a", "-o", "json"]).unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept["items"].as_array().map(Vec::len), Some(2), "{kept}");
    client.publish("in", r#"{"id": 3}"#).await.unwrap();
    client.wait_rows(3).await;
    assert_eq!(site.pods("site-a").await, before);
    wait::until_true("nothing of the release to be left", async || {
        let left = ["get", "all,roles,rolebindings", "-n", OPERATOR_NAMESPACE, "-o", "name"];
        site.cluster.kubectl(&left).unwrap().trim().is_empty()
    })
    .await;

    // Installed again, it takes up what is there.
    site.install(&["--set", "watchNamespaces={site-a}"]);
    let late = rule("late", "SELECT id FROM `in`", "late");
    site.cluster.apply("site-a", &late.to_string()).unwrap();
    site.until_condition("site-a", "late", "Ready", "True").await;
    assert_eq!(site.pods("site-a").await, before);
}
