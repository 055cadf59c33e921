//! The webhook, asked by the real API server.

use super::{Site, rule, stream};
use sluice_tests::cluster::Cluster;
use sluice_tests::operator::Operator;
use sluice_tests::services::{free_port, unique};
use sluice_tests::wait;

/// A configuration for one namespace that leads to a process on the loopback address beside the API server.
fn configuration(name: &str, namespace: &str, port: u16, policy: &str) -> String {
    format!(
        r#"apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{name: {name}}}
webhooks:
- name: check.sluice.dev
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: {policy}
  timeoutSeconds: 5
  clientConfig: {{url: "https://127.0.0.1:{port}/validate"}}
  namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}
  rules:
  - {{apiGroups: [sluice.dev], apiVersions: [v1alpha1], resources: ["*"], operations: [CREATE, UPDATE], scope: Namespaced}}
"#
    )
}

struct Guarded {
    site: Site,
    name: String,
    args: Vec<String>,
}

async fn guarded(policy: &str) -> Guarded {
    // The configuration has to be there first: the operator's readiness waits for it.
    let cluster: &'static Cluster = super::with_kinds().await;
    let namespace = unique("guarded").replace('_', "-");
    cluster.namespace(&namespace).unwrap();
    let (name, port) = (namespace.clone(), free_port());
    cluster.apply(&namespace, &configuration(&name, &namespace, port, policy)).unwrap();
    let args = vec![
        "--leader-elect=false".to_owned(),
        format!("--namespace={namespace}"),
        format!("--webhook-address=127.0.0.1:{port}"),
        "--webhook-names=127.0.0.1".to_owned(),
        format!("--webhook-configuration={name}"),
        "--webhook-certificate-life=30s".to_owned(),
        "--secret-interval=1s".to_owned(),
    ];
    let borrowed: Vec<&str> = args.iter().map(String::as_str).collect();
    let operator = Operator::start(cluster, &namespace, None, &borrowed).await.unwrap();
    let node = sluice_tests::operator::Node::start(cluster, &namespace).await.unwrap();
    Guarded { site: Site { cluster, namespace, operator, node }, name, args }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_rule_is_refused_with_its_caret() {
    let guarded = guarded("Fail").await;
    let site = &guarded.site;
    let refused = |yaml: &str| site.cluster.apply(&site.namespace, yaml).unwrap_err().to_string();
    site.apply(&stream("s", "a BIGINT"));
    let message = refused(&rule("r", "SELECT a, b FROM s"));
    assert!(
        message.contains("spec.sql: 1:11: there is no column \"b\"\n  SELECT a, b FROM s\n            ^"),
        "{message}"
    );
    let message = refused(&rule("r", "SELECT a FRM s"));
    assert!(message.contains("spec.sql: 1:"), "{message}");
    let message = refused(&rule("r", "SELECT a FROM s").replace("nop", "mqttt"));
    assert!(message.contains("did you mean \"mqtt\"?"), "{message}");
    let message = refused(&stream("t", "a NUMBERISH"));
    assert!(message.contains("NUMBERISH"), "{message}");
    // A stream of the same file counts, before any watch brings it.
    let message = refused(&(stream("u", "a BIGINT") + &rule("r", "SELECT b FROM u")));
    assert!(message.contains("there is no column \"b\""), "{message}");
    // What is not there yet is worth a warning; the object is stored.
    let early = rule("early", "SELECT x FROM later");
    let args = ["apply", "--warnings-as-errors", "-n", &site.namespace, "-f", "-"];
    let warning = site.cluster.kubectl_with(&args, Some(&early)).unwrap_err().to_string();
    assert!(
        warning.contains("Warning: 1:15: there is no stream or table \"later\" yet; the rule waits for it"),
        "{warning}"
    );
    site.until("rule/early", "ResolvedRefs=False/StreamNotFound").await;
    // Options with Secrets are not judged by what stands for the Secret.
    site.apply(
        &rule("secret", "SELECT a FROM s")
            .replace("nop: {}", "mqtt: {server: {secretKeyRef: {name: m, key: url}}, topic: t}"),
    );
    let message = refused(
        &rule("secret2", "SELECT a FROM s")
            .replace("nop: {}", "mqtt: {server: {secretKeyRef: {name: m, key: url}}, topic: t, qoss: 1}"),
    );
    assert!(message.contains("qoss"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_and_a_webhook_that_is_away_stops_nothing() {
    let mut guarded = guarded("Ignore").await;
    let site = &guarded.site;
    let ca = |site: &Site| {
        let args = [
            "get",
            "validatingwebhookconfiguration",
            &guarded.name,
            "-o",
            "jsonpath={.webhooks[0].clientConfig.caBundle}",
        ];
        site.cluster.kubectl(&args).unwrap()
    };
    assert!(!ca(site).is_empty());
    let certificate = |site: &Site| {
        site.get("secret/sluice-operator-webhook").unwrap()["data"]["tls.crt"].as_str().unwrap().to_owned()
    };
    let first = certificate(site);
    wait::until_true("a new certificate", async || certificate(site) != first).await;
    let bad = rule("r", "SELECT a FRM s");
    let refused = || site.cluster.apply(&site.namespace, &bad).unwrap_err().to_string();
    wait::until_true("the new one to be used", async || refused().contains("spec.sql: 1:")).await;
    // The webhook is away: the operator finds the same later.
    guarded.site.operator.kill();
    guarded.site.apply(&bad);
    guarded.site.operator.launch(guarded.site.cluster).await.unwrap();
    guarded.site.until("rule/r", "Accepted=False/InvalidSql").await;
    assert!(!guarded.args.is_empty());
    guarded.site.cluster.kubectl(&["delete", "validatingwebhookconfiguration", &guarded.name]).unwrap();
}
