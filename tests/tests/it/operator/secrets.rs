//! Secrets that are not there yet, that change, and that go.

use sluice::bundle::{Index, unpack};

use super::{Site, stream};
use sluice_tests::operator::encoded;
use sluice_tests::wait;

const RULE: &str = "---
apiVersion: sluice.dev/v1alpha1
kind: Rule
metadata: {name: r}
spec:
  sql: SELECT a FROM s
  sinks:
  - memory: {topic: {secretKeyRef: {name: topics, key: out}}}
";

/// The bundle as the pod gets it.
fn bundle(site: &Site) -> Option<sluice::bundle::Bundle> {
    use base64::Engine as _;
    let secret = site.get("secret/sluice-default-bundle")?;
    let decode = |key: &str| base64::engine::general_purpose::STANDARD.decode(secret["data"][key].as_str()?).ok();
    let index: Index = serde_json::from_slice(&decode("index.json")?).ok()?;
    unpack(&index, &[decode("part-0")?]).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_reach_the_pod_and_nothing_else() {
    let site = Site::new(&[]).await;
    site.apply(&(stream("s", "a BIGINT") + RULE));
    site.until("rule/r", "ResolvedRefs=False/SecretNotFound").await;
    assert!(site.message("rule/r", "Ready").contains("Secret \"topics\" is not there"));
    site.cluster
        .kubectl(&["create", "secret", "generic", "topics", "-n", &site.namespace, "--from-literal=in=x"])
        .unwrap();
    wait::until_true("the key to be missed", async || site.message("rule/r", "Ready").contains("has no key \"out\""))
        .await;
    let set = |value: &str| {
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: topics}}\nstringData: {{out: {value}}}\n")
    };
    site.apply(&set("first-secret-topic"));
    site.until("rule/r", "Ready=True/Running").await;
    assert_eq!(bundle(&site).unwrap().secrets["topics"]["out"], encoded("first-secret-topic"));

    // Another value reaches the pod, which goes on.
    let pod = site.get("pod/sluice-default-0").unwrap()["metadata"]["uid"].clone();
    site.apply(&set("second-secret-topic"));
    wait::until_true("the pod to take the new value", async || {
        let wanted =
            bundle(&site).is_some_and(|bundle| bundle.secrets["topics"]["out"] == encoded("second-secret-topic"));
        wanted && site.node.pod("sluice-default-0").is_some_and(|(_, log)| log.contains("replaced=1"))
    })
    .await;
    site.until("rule/r", "Ready=True/Running").await;
    assert_eq!(site.get("pod/sluice-default-0").unwrap()["metadata"]["uid"], pod);

    // A Secret that is gone shows; what runs runs on.
    site.delete("secret/topics");
    site.until("rule/r", "ResolvedRefs=False/SecretNotFound").await;
    site.until("rule/r", "Running=True/Running").await;

    let pod_log = site.node.pod("sluice-default-0").map(|(_, log)| log).unwrap();
    let events = site.cluster.kubectl(&["get", "events", "-n", &site.namespace, "-o", "yaml"]).unwrap();
    let objects =
        site.cluster.kubectl(&["get", "rules,streams,pods,statefulsets", "-n", &site.namespace, "-o", "yaml"]).unwrap();
    let metrics = site.operator.get(site.cluster, "/metrics").await.unwrap();
    for text in [site.operator.log(), pod_log, events, objects, metrics] {
        assert!(!text.contains("secret-topic") && !text.contains(&encoded("first-secret-topic")), "{text}");
    }
}
