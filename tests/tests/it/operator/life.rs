//! Objects come, change and go.

use std::time::Duration;

use sluice_tests::wait;

use super::{Site, rule, stream};

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_runs_whatever_comes_first() {
    let site = Site::new(&[]).await;
    site.apply(&rule("r", "SELECT a FROM s"));
    site.until("rule/r", "ResolvedRefs=False/StreamNotFound").await;
    assert!(site.message("rule/r", "Ready").contains("there is no stream or table \"s\""));
    site.apply(&stream("s", "a BIGINT"));
    site.until("rule/r", "Ready=True/Running").await;
    let object = site.get("rule/r").unwrap();
    assert_eq!(object["status"]["pods"][0]["generation"], 1);
    assert_eq!(object["status"]["pods"][0]["state"], "Running");
    assert_eq!(object["status"]["runtime"], "default");
    assert_eq!(site.get("stream/s").unwrap()["status"]["usedBy"][0], "r");

    // An edit is a new generation, which the pod takes without a new start.
    let pod = site.get("pod/sluice-default-0").unwrap()["metadata"]["uid"].clone();
    site.apply(&rule("r", "SELECT a + 1 AS b FROM s"));
    site.until("rule/r", "Ready=True/Running").await;
    assert_eq!(site.get("rule/r").unwrap()["status"]["pods"][0]["generation"], 2);
    assert_eq!(site.get("pod/sluice-default-0").unwrap()["metadata"]["uid"], pod);

    // What is no longer needed goes.
    site.delete("rule/r");
    for what in [
        "statefulset/sluice-default",
        "secret/sluice-default-bundle",
        "service/sluice-default",
        "serviceaccount/sluice-default",
        "networkpolicy/sluice-default",
    ] {
        wait::until_true(what, async || site.get(what).is_none()).await;
    }
    site.apply(&rule("r", "SELECT a FROM s"));
    site.until("rule/r", "Ready=True/Running").await;
}

/// A kubelet may see Secrets late: it is told of a bundle until the pod has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_told_of_a_bundle_again_until_the_pod_has_it() {
    let site = Site::new(&[]).await;
    site.apply(&(stream("s", "a BIGINT") + &rule("r", "SELECT a FROM s")));
    site.until("rule/r", "Ready=True/Running").await;
    let annotation = || {
        let pod = site.get("pod/sluice-default-0").unwrap();
        pod["metadata"]["annotations"]["sluice.dev/bundle"].as_str().unwrap_or_default().to_owned()
    };
    let before = annotation();
    site.node.freeze(true);
    site.apply(&rule("r", "SELECT a + 1 AS b FROM s"));
    // The bundle, and how often the node was told.
    wait::until_true("the third time", async || annotation().ends_with(".3")).await;
    assert_ne!(annotation().split('.').next(), before.split('.').next());
    site.node.freeze(false);
    site.until("rule/r", "Ready=True/Running").await;
    let after = annotation();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(annotation(), after, "the pod has it, and nobody is told any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_edit_leaves_the_last_good_generation_running() {
    let mut site = Site::new(&[]).await;
    site.apply(&(stream("s", "a BIGINT") + &rule("r", "SELECT a FROM s") + &rule("other", "SELECT * FROM s")));
    site.until("rule/r", "Ready=True/Running").await;
    site.until("rule/other", "Ready=True/Running").await;
    site.apply(&rule("r", "SELECT b FROM s"));
    site.until("rule/r", "Ready=False/InvalidSql").await;
    site.until("rule/r", "Stalled=True/InvalidSql").await;
    let message = site.message("rule/r", "Accepted");
    assert!(message.contains("spec.sql: 1:8: there is no column \"b\"\n  SELECT b FROM s\n         ^"), "{message}");
    assert_eq!(site.message("rule/r", "Running"), "generation 1 runs on");
    // Neither a new operator nor a new pod forgets it.
    site.operator.kill();
    site.operator.launch(site.cluster).await.unwrap();
    site.delete("pod/sluice-default-0");
    let runs = || site.get("rule/r").unwrap()["status"]["pods"][0]["generation"] == 1;
    wait::until_true("the new pod to run generation 1", async || {
        runs()
            && site.message("rule/r", "Running") == "generation 1 runs on"
            && site.conditions("rule/other").contains("Ready=True/Running")
    })
    .await;
    site.apply(&rule("r", "SELECT a AS b FROM s"));
    site.until("rule/r", "Ready=True/Running").await;
    assert!(!site.conditions("rule/r").contains("Stalled"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_is_a_pod_of_its_own() {
    let site = Site::new(&[]).await;
    let runtime = "apiVersion: sluice.dev/v1alpha1\nkind: Runtime\nmetadata: {name: edge}\nspec: {resources: {limits: {memory: 128Mi}}}\n";
    let on_edge = rule("r", "SELECT a FROM s") + "  runtime: edge\n";
    site.apply(&(stream("s", "a BIGINT") + &on_edge));
    site.until("rule/r", "ResolvedRefs=False/RuntimeNotFound").await;
    site.apply(runtime);
    site.until("rule/r", "Ready=True/Running").await;
    site.until("runtime/edge", "Ready=True/Running").await;
    let set = site.get("statefulset/sluice-edge").unwrap();
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["resources"]["limits"]["memory"], "128Mi");
    assert_eq!(pod["automountServiceAccountToken"], false);
    // It moves: never on two pods at once.
    site.apply(&rule("r", "SELECT a FROM s"));
    site.until("rule/r", "Ready=True/Running").await;
    assert_eq!(site.get("rule/r").unwrap()["status"]["pods"][0]["pod"], "sluice-default-0");
    site.delete("runtime/edge");
    wait::until_true("its pod to go", async || site.get("statefulset/sluice-edge").is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_has_a_name_and_hands_it_on() {
    let site = Site::new(&[]).await;
    let named = |name: &str| stream(name, "a BIGINT").replace(&format!("STREAM {name}"), "STREAM s");
    site.apply(&(named("old") + &rule("r", "SELECT a FROM s")));
    site.until("rule/r", "Ready=True/Running").await;
    // The order of objects made within one second is that of their names.
    site.apply(&named("other"));
    site.until("stream/other", "Accepted=False/NameConflict").await;
    assert!(site.message("stream/other", "Accepted").contains("is taken by Stream/old"));
    site.until("rule/r", "Ready=True/Running").await;
    // The object is renamed by that: the new one is there, and the old one goes.
    site.delete("stream/old");
    site.until("stream/other", "Ready=True/Defined").await;
    site.until("rule/r", "Ready=True/Running").await;
    assert_eq!(site.get("stream/other").unwrap()["status"]["usedBy"][0], "r");
    // A rule that is made again is another one.
    let pod = |site: &Site| site.get("rule/r").unwrap()["status"]["pods"][0].clone();
    site.cluster.kubectl(&["delete", "-n", &site.namespace, "rule/r"]).unwrap();
    site.apply(&rule("r", "SELECT a + 1 AS b FROM s"));
    site.until("rule/r", "Ready=True/Running").await;
    assert_eq!(pod(&site)["generation"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_can_be_deleted() {
    let site = Site::new(&[]).await;
    site.apply(&(stream("s", "a BIGINT") + &rule("r", "SELECT a FROM s")));
    site.until("rule/r", "Ready=True/Running").await;
    site.cluster.kubectl(&["delete", "namespace", &site.namespace, "--timeout=60s"]).unwrap();
}
