//! Rules in pods while things change around them: edits, rotated Secrets, a control plane that is gone.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kube::api::ListParams;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sluice_tests::cluster::Part;
use sluice_tests::{long, wait};

use super::site::{OPERATOR_NAMESPACE, Site, has_condition, list, rule, stream};

/// Numbered rows of each topic: complete and in order, nothing twice.
fn assert_numbered(rows: &[(String, Vec<u8>)], topic: &str, n: usize) {
    let numbers: Vec<u64> = rows
        .iter()
        .filter(|(of, _)| of == topic)
        .map(|(_, body)| serde_json::from_slice::<Value>(body).unwrap()["n"].as_u64().unwrap())
        .collect();
    let expected: Vec<u64> = (0..n as u64).collect();
    assert_eq!(numbers, expected, "rows of {topic}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_one_rule_of_a_hundred_loses_no_row_of_the_others() {
    let site = Site::shared().await;
    site.namespace("many");
    let mut objects = vec![stream("in", "many/in")];
    let one = |i: usize, sql: &str| rule(&format!("rule-{i}"), sql, &format!("many/out/{i}"));
    objects.extend((0..100).map(|i| one(i, "SELECT n FROM `in`")));
    let applied = Instant::now();
    site.cluster.apply("many", &list(&objects)).unwrap();
    for i in 0..100 {
        site.until_condition("many", &format!("rule-{i}"), "Running", "True").await;
    }
    let all_running = applied.elapsed();
    let pods = site.pods("many").await;

    let client = site.mqtt();
    client.subscribe("many/out/+").await.unwrap();
    let mut n = 0;
    let publish = async |n: &mut usize| {
        client.publish("many/in", format!(r#"{{"n": {n}}}"#)).await.unwrap();
        *n += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    for _ in 0..10 {
        publish(&mut n).await;
    }
    site.cluster.apply("many", &one(7, "SELECT n, n * 2 AS double FROM `in`").to_string()).unwrap();
    let rules = site.rules("many").await;
    wait::until_true("the edited rule", async || {
        publish(&mut n).await;
        let rule = rules.get("rule-7").await.unwrap();
        has_condition(&rule, "Running", "True")
    })
    .await;
    for _ in 0..10 {
        publish(&mut n).await;
    }
    client.wait_rows(99 * n).await;
    wait::until_true("every row of the others", async || {
        let rows = client.received();
        (0..100)
            .filter(|i| *i != 7)
            .all(|i| rows.iter().filter(|(topic, _)| *topic == format!("many/out/{i}")).count() >= n)
    })
    .await;
    let rows = client.received();
    for i in (0..100).filter(|i| *i != 7) {
        assert_numbered(&rows, &format!("many/out/{i}"), n);
    }
    let edited = rows.iter().rfind(|(topic, _)| topic == "many/out/7").unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&edited.1).unwrap(), json!({"n": n - 1, "double": 2 * (n - 1)}));
    assert_eq!(site.pods("many").await, pods, "an edit restarts no pod");
    long::report(&format!(
        "pods: 100 rules applied at once were running after {all_running:.1?}; edit of one: {n} rows each of 99 others, none lost"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn from_apply_to_running_takes_seconds_at_most() {
    let site = Site::shared().await;
    site.namespace("quick");
    // The first rule of a namespace makes its pod.
    site.cluster
        .apply("quick", &list(&[stream("in", "quick/in"), rule("first", "SELECT * FROM `in`", "quick/first")]))
        .unwrap();
    let with_pod = site.until_condition("quick", "first", "Running", "True").await;
    let mut times = Vec::new();
    for i in 0..30 {
        let object = rule(&format!("next-{i}"), "SELECT * FROM `in`", &format!("quick/{i}"));
        site.cluster.apply("quick", &object.to_string()).unwrap();
        times.push(site.until_condition("quick", &format!("next-{i}"), "Running", "True").await);
    }
    times.sort();
    let (middle, worst) = (times[times.len() / 2], times[times.len() - 1]);
    long::report(&format!(
        "pods: from apply to Running: with a new pod {with_pod:.1?}; next rules median {middle:.2?}, worst of 30 {worst:.2?}"
    ));
    // Wanted: 2 s on an idle machine. This one also runs the other tests.
    assert!(worst < Duration::from_secs(8), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_arrives_without_a_restart() {
    let site = Site::shared().await;
    site.namespace("rotated");
    let secret = |topic: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "where"}, "stringData": {"topic": topic}});
    let mut writes = rule("writes", "SELECT n FROM `in`", "");
    writes["spec"]["sinks"][0]["mqtt"]["topic"] = json!({"secretKeyRef": {"name": "where", "key": "topic"}});
    site.cluster.apply("rotated", &list(&[stream("in", "rotated/in"), writes])).unwrap();
    // The rule waits for its Secret and says so.
    site.until_condition("rotated", "writes", "ResolvedRefs", "False").await;
    site.cluster.apply("rotated", &secret("rotated/old-topic").to_string()).unwrap();
    site.until_condition("rotated", "writes", "Ready", "True").await;
    let pods = site.pods("rotated").await;

    let client = site.mqtt();
    client.subscribe("rotated/+").await.unwrap();
    client.publish("rotated/in", r#"{"n": 0}"#).await.unwrap();
    wait::until_true("a row under the old value", async || {
        client.received().iter().any(|(topic, _)| topic == "rotated/old-topic")
    })
    .await;
    site.cluster.apply("rotated", &secret("rotated/new-topic").to_string()).unwrap();
    let rotated = Instant::now();
    wait::until_true("a row under the new value", async || {
        client.publish("rotated/in", r#"{"n": 1}"#).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.received().iter().any(|(topic, _)| topic == "rotated/new-topic")
    })
    .await;
    long::report(&format!("pods: a rotated Secret was in force after {:.1?}", rotated.elapsed()));
    assert_eq!(site.pods("rotated").await, pods, "a rotated Secret restarts no pod");
    // The value is in the user's Secret and in the bundle, and nowhere else.
    for kind in ["rules", "streams", "runtimes", "configmaps", "events", "statefulsets", "pods"] {
        let text = site.cluster.kubectl(&["get", kind, "-n", "rotated", "-o", "yaml"]).unwrap();
        assert!(!text.contains("rotated/new-topic"), "the value of a Secret is in {kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_work_and_restart_while_the_control_plane_is_down() {
    let site = Site::with_operator().await;
    site.namespace("alone");
    site.cluster.apply("alone", &list(&[stream("in", "in"), rule("echo", "SELECT n FROM `in`", "out")])).unwrap();
    site.until_condition("alone", "echo", "Ready", "True").await;
    let client = site.mqtt();
    client.subscribe("out").await.unwrap();
    let row = async |n: usize| {
        wait::until_true("a row", async || {
            client.publish("in", format!(r#"{{"n": {n}}}"#)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            client.rows().contains(&json!({"n": n}))
        })
        .await;
    };
    row(0).await;
    for part in [Part::ControllerManager, Part::ApiServer, Part::Etcd] {
        site.cluster.kill(part).unwrap();
    }
    row(1).await;
    // The container dies too: the kubelet starts it again, and it finds its rules on its volume.
    site.cluster.inside("pkill -9 -x sluice").unwrap();
    row(2).await;
    for part in [Part::Etcd, Part::ApiServer, Part::ControllerManager] {
        site.cluster.start_part(part).unwrap();
    }
    site.cluster.api_ready().await.unwrap();
    // The operator is back at work by itself.
    site.cluster.apply("alone", &rule("later", "SELECT n FROM `in`", "later").to_string()).unwrap();
    let took = site.until_condition("alone", "later", "Ready", "True").await;
    long::report(&format!("pods: control plane killed and started: the next rule was Ready after {took:.1?}"));
}

/// What dies.
const FAULTS: [&str; 6] = ["operator", "apiserver", "etcd", "runtime", "pod", "controller manager"];

/// How long it takes until `n_rules` rules are Ready in one pod. And for how much of that Kubernetes was behind what is written:
/// its own watches pause for up to a minute after several outages of the API server within two minutes (client-go's backoff).
async fn converges(site: &Site, namespace: &str, n_rules: usize) -> (Duration, Duration) {
    let start = Instant::now();
    let mut behind = Duration::ZERO;
    let rules = site.rules(namespace).await;
    let mut looked = Instant::now();
    loop {
        let found = rules.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        let n_ready = found.iter().filter(|rule| has_condition(rule, "Ready", "True")).count();
        if n_ready == n_rules && site.pods(namespace).await.len() == 1 {
            return (start.elapsed(), behind);
        }
        let is_behind = !site.has_newest_bundle(namespace).await;
        let now = Instant::now();
        if is_behind {
            behind += now - looked;
        }
        looked = now;
        if start.elapsed() > Duration::from_secs(150) {
            panic!("{n_ready} of {n_rules} rules are Ready\n{}", site.what_is_wrong(namespace));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_parts_and_pods_converge_again() {
    let site = Site::with_operator().await;
    site.namespace("killed");
    let mut objects = vec![stream("in", "in")];
    objects.extend((0..10).map(|i| rule(&format!("rule-{i}"), "SELECT n FROM `in`", &format!("out/{i}"))));
    site.cluster.apply("killed", &list(&objects)).unwrap();
    for i in 0..10 {
        site.until_condition("killed", &format!("rule-{i}"), "Ready", "True").await;
    }
    let seed = long::seed();
    let mut random = StdRng::seed_from_u64(seed);
    let restart = |part: Part| {
        site.cluster.kill(part).unwrap();
        site.cluster.start_part(part).unwrap();
    };
    let kill_pods = |namespace: &str| {
        // The API server may be away, for the other fault.
        let now = ["--wait=false", "--grace-period=0", "--force"];
        site.cluster.kubectl(&[&["delete", "pods", "-n", namespace, "--all"][..], &now].concat()).ok();
    };
    let (start, duration) = (Instant::now(), long::duration(Duration::from_secs(30)));
    let (mut worst, mut faults) = ((Duration::ZERO, Duration::ZERO), Vec::new());
    while start.elapsed() < duration || faults.len() < FAULTS.len() {
        // Each once, then at random; sometimes another one at the same time.
        let first = faults.len() % FAULTS.len();
        let second = random.random_range(0..2 * FAULTS.len());
        let round: Vec<&str> =
            [first, second].into_iter().filter_map(|fault_idx| FAULTS.get(fault_idx).copied()).collect();
        for fault in &round {
            match *fault {
                // A container that dies again soon is held back by the kubelet: that is not what is tried here.
                "operator" => kill_pods(OPERATOR_NAMESPACE),
                "apiserver" => restart(Part::ApiServer),
                "etcd" => restart(Part::Etcd),
                "controller manager" => restart(Part::ControllerManager),
                "runtime" if faults.len() < FAULTS.len() => _ = site.cluster.inside("pkill -9 -x sluice").ok(),
                _ => kill_pods("killed"),
            }
        }
        site.cluster.api_ready().await.unwrap();
        // A change in the middle of it.
        let n = faults.len();
        let changed = rule("rule-0", &format!("SELECT n, {n} AS round FROM `in`"), "out/0");
        wait::until_true("the change to be taken", async || site.cluster.apply("killed", &changed.to_string()).is_ok())
            .await;
        let took = converges(&site, "killed", 10).await;
        worst = (worst.0.max(took.0), worst.1.max(took.0.saturating_sub(took.1)));
        faults.push(round.join(" and "));
        let (all, kubernetes) = took;
        assert!(all.saturating_sub(kubernetes) < Duration::from_secs(30), "{took:?} after {faults:?}");
        assert!(all < Duration::from_secs(120), "{took:?} after {faults:?}");
    }
    // It is not only said: rows come through all of them.
    let client = site.mqtt();
    client.subscribe("out/+").await.unwrap();
    wait::until_true("a row of each rule", async || {
        client.publish("in", r#"{"n": 1}"#).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let topics: BTreeSet<String> = client.received().into_iter().map(|(topic, _)| topic).collect();
        topics.len() == 10
    })
    .await;
    long::report(&format!(
        "pods: seed {seed}, {} times something was killed; all 10 rules were Ready again after {:.1?} at most, {:.1?} without \
         what Kubernetes took to see what it was told",
        faults.len(),
        worst.0,
        worst.1
    ));
}
