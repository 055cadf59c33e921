//! Others write to what the operator made.

use super::{Site, rule, stream};
use sluice_tests::wait;

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_the_operator_come_back_and_those_of_others_stay() {
    let site = Site::new(&[]).await;
    site.apply(&(stream("s", "a BIGINT") + &rule("r", "SELECT a FROM s")));
    site.until("rule/r", "Ready=True/Running").await;
    let namespace = site.namespace.as_str();
    let patch = |what: &str, patch: &str| {
        site.cluster.kubectl(&["patch", "-n", namespace, what, "--type=merge", "-p", patch]).unwrap();
    };
    patch(
        "service/sluice-default",
        r#"{"metadata":{"labels":{"team":"blue"}},"spec":{"selector":{"sluice.dev/runtime":"other"}}}"#,
    );
    wait::until_true("the selector to come back", async || {
        site.get("service/sluice-default").unwrap()["spec"]["selector"]["sluice.dev/runtime"] == "default"
    })
    .await;
    assert_eq!(site.get("service/sluice-default").unwrap()["metadata"]["labels"]["team"], "blue");
    patch("statefulset/sluice-default", r#"{"spec":{"replicas":3}}"#);
    wait::until_true("one replica", async || site.get("statefulset/sluice-default").unwrap()["spec"]["replicas"] == 1)
        .await;
    // What was removed is made again.
    for what in ["networkpolicy/sluice-default", "service/sluice-default", "secret/sluice-default-bundle"] {
        let uid = site.get(what).unwrap()["metadata"]["uid"].clone();
        site.delete(what);
        wait::until_true(what, async || site.get(what).is_some_and(|found| found["metadata"]["uid"] != uid)).await;
    }
    site.until("rule/r", "Ready=True/Running").await;
    // Two who want different things do not write for ever.
    let metric = "sluice_operator_api_writes_total";
    let before = site.operator.counter(site.cluster, metric).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(site.operator.counter(site.cluster, metric).await.unwrap(), before, "{}", site.operator.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_someone_else_is_not_taken() {
    let site = Site::new(&[]).await;
    site.apply("apiVersion: v1\nkind: Service\nmetadata: {name: sluice-default}\nspec: {selector: {app: mine}, ports: [{name: http, port: 8080}]}\n");
    site.apply(&(stream("s", "a BIGINT") + &rule("r", "SELECT a FROM s")));
    site.until("rule/r", "Ready=False/ApplyFailed").await;
    assert_eq!(site.get("service/sluice-default").unwrap()["spec"]["selector"]["app"], "mine");
    site.delete("service/sluice-default");
    site.until("rule/r", "Ready=True/Running").await;
}
