//! What the operator may do, compared with what it does; and what pods may reach.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sluice_tests::cluster::Request;
use sluice_tests::wait;

use super::site::{OPERATOR_NAMESPACE, Site, list, rule, stream};

/// `namespace: group/resource verb`; the group left out for the core, the namespace for what has none.
type Right = String;

fn right(namespace: &str, group: &str, resource: &str, verb: &str) -> Right {
    let group = if group.is_empty() { String::new() } else { format!("{group}/") };
    format!("{namespace}: {group}{resource} {verb}")
}

/// What roles of a kind give, for those whose name holds `named`.
fn granted(site: &Site, kind: &str, named: &str) -> BTreeSet<Right> {
    let roles = site.cluster.kubectl(&["get", kind, "-A", "-o", "json"]).unwrap();
    let roles: Value = serde_json::from_str(&roles).unwrap();
    let mut rights = BTreeSet::new();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
    };
    for role in roles["items"].as_array().unwrap() {
        if !role["metadata"]["name"].as_str().unwrap().contains(named) {
            continue;
        }
        let namespace = role["metadata"]["namespace"].as_str().unwrap_or_default();
        for rule in role["rules"].as_array().into_iter().flatten() {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        rights.insert(right(namespace, &group, &resource, &verb));
                    }
                }
            }
        }
    }
    rights
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_has_the_rights_that_it_uses_and_no_others() {
    let site = Site::bare().await;
    for namespace in ["site-a", "foreign"] {
        site.namespace(namespace);
    }
    // Certificates are renewed soon, which needs a right too.
    let life = "operator.env[0].name=SLUICE_WEBHOOK_CERTIFICATE_LIFE,operator.env[0].value=6s";
    site.install(&["--set", "watchNamespaces={site-a}", "--set", life]);
    let runtime =
        json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "Runtime", "metadata": {"name": "own"}, "spec": {}});
    let mut elsewhere = rule("elsewhere", "SELECT n FROM `in`", "elsewhere");
    elsewhere["spec"]["runtime"] = json!("own");
    let table = json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "LookupTable", "metadata": {"name": "kept"},
        "spec": {"type": "memory", "datasource": "kept", "key": "id"}});
    let objects = [stream("in", "in"), rule("here", "SELECT n FROM `in`", "here"), table, runtime, elsewhere];
    site.cluster.apply("site-a", &list(&objects)).unwrap();
    for name in ["here", "elsewhere"] {
        site.until_condition("site-a", name, "Ready", "True").await;
    }
    // Each thing that it makes is changed and taken away at least once.
    site.cluster.apply("site-a", &rule("here", "SELECT n + 1 AS n FROM `in`", "here").to_string()).unwrap();
    site.until_condition("site-a", "here", "Ready", "True").await;
    site.cluster.kubectl(&["delete", "rules,runtimes", "--all", "-n", "site-a"]).unwrap();
    wait::until_true("the end of all pods", async || site.pods("site-a").await.is_empty()).await;

    let account = format!("system:serviceaccount:{OPERATOR_NAMESPACE}:sluice-operator");
    let requests = wait::until("a renewed certificate in the audit log", async || {
        let mut requests = site.cluster.audit().unwrap();
        requests.retain(|request| request.user == account && !request.resource.starts_with('/'));
        let renews = |request: &Request| request.resource == "secrets" && request.verb == "update";
        requests.iter().any(renews).then_some(requests)
    })
    .await;
    let refused: Vec<_> = requests.iter().filter(|request| !request.allowed).collect();
    assert!(refused.is_empty(), "asked for without a right to it: {refused:?}");
    let used = requests.iter().map(|of| right(&of.namespace, &of.group, &of.resource, &of.verb));
    let used: BTreeSet<Right> = used.collect();
    let mut granted_all = granted(&site, "roles", "sluice");
    granted_all.extend(granted(&site, "clusterroles", "-webhook"));
    let mut unused: BTreeSet<&Right> = granted_all.difference(&used).collect();
    // Server-side apply asks for `create` beside `patch`, and shows as `patch`.
    unused.retain(|right| !(right.ends_with(" create") && used.contains(&right.replace(" create", " patch"))));
    assert!(unused.is_empty(), "granted, but not used: {unused:?}\nused: {used:?}");

    for (verb, resource, namespace) in [
        ("list", "secrets", "site-a"),
        ("watch", "secrets", "site-a"),
        ("get", "secrets", "foreign"),
        ("get", "secrets", "kube-system"),
        ("list", "rules.sluice.dev", "foreign"),
        ("create", "pods", "site-a"),
        ("delete", "rules.sluice.dev", "site-a"),
        ("patch", "rules.sluice.dev", "site-a"),
        ("create", "rolebindings.rbac.authorization.k8s.io", "site-a"),
    ] {
        let answer = site.cluster.kubectl(&["auth", "can-i", verb, resource, "-n", namespace, "--as", &account]);
        assert!(answer.is_err(), "the operator may {verb} {resource} in {namespace}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn network_policies_let_through_what_rules_need_and_nothing_else() {
    let site = Site::with_operator().await;
    site.namespace("walled");
    // One rule sends to the other by a Service, whose port is not that of the pod.
    let pushed = json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "Stream", "metadata": {"name": "pushed"},
        "spec": {"type": "httppush", "datasource": "/rows"}});
    let runtime =
        json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "Runtime", "metadata": {"name": "own"}, "spec": {}});
    let mut inner = rule("inner", "SELECT n FROM pushed", "inner");
    inner["spec"]["runtime"] = json!("own");
    let mut outer = rule("outer", "SELECT n FROM `in`", "");
    outer["spec"]["sinks"] = json!([{"rest": {"url": "http://front/rows", "method": "POST", "sendSingle": true}}]);
    let front = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "front"},
        "spec": {"selector": {"sluice.dev/runtime": "own"}, "ports": [{"port": 80, "targetPort": "httppush"}]}});
    let objects = [stream("in", "in"), rule("echo", "SELECT n FROM `in`", "out"), pushed, runtime, inner, outer, front];
    site.cluster.apply("walled", &list(&objects)).unwrap();
    for name in ["echo", "inner", "outer"] {
        site.until_condition("walled", name, "Ready", "True").await;
    }
    let script = site.cluster.enforce_network_policies().await.unwrap();
    assert!(script.contains("counter drop"), "a runtime has a policy:\n{script}");
    let client = site.mqtt();
    client.subscribe("out").await.unwrap();
    client.subscribe("inner").await.unwrap();
    client.publish("in", r#"{"n": 1}"#).await.unwrap();
    client.wait_rows(2).await;

    // The connection to the broker is made again through the wall: names and the broker's port are open.
    site.cluster.inside("pkill -9 -x sluice").unwrap();
    wait::until_true("a row after a restart", async || {
        client.publish("in", r#"{"n": 2}"#).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let received = client.received();
        let is_second = |body: &[u8]| serde_json::from_slice::<Value>(body).is_ok_and(|row| row == json!({"n": 2}));
        ["out", "inner"].iter().all(|topic| received.iter().any(|(of, body)| of == topic && is_second(body)))
    })
    .await;
    // The operator still reads its reports.
    site.cluster.apply("walled", &rule("more", "SELECT n FROM `in`", "more").to_string()).unwrap();
    site.until_condition("walled", "more", "Ready", "True").await;
    // What no rule asked for is shut, also for the pod itself: the API server, from its network.
    let reach = |address: &str| {
        let pid = "pid=$(pgrep -x sluice | head -n 1)";
        site.cluster.inside(&format!("{pid}; nsenter -t $pid --net -- timeout 2 bash -c 'exec 3<>/dev/tcp/{address}'"))
    };
    assert!(reach("192.0.2.10/1883").is_ok(), "the broker is open:\n{script}");
    assert!(reach("192.0.2.10/6443").is_err(), "the API server is shut:\n{script}");
}
