//! Parts of the control plane die, and come back.

use super::{Site, rule, stream};
use crate::control_plane::{repository, with_kinds};
use sluice_tests::cluster::{Cluster, Level, Part};
use sluice_tests::services::unique;
use sluice_tests::wait;

/// A control plane of this test's own.
async fn own() -> &'static Cluster {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(Level::ControlPlane, &[]).await.unwrap()));
    let folder = repository("deploy/crds");
    cluster.kubectl(&["apply", "--server-side", "-f", &folder.display().to_string()]).unwrap();
    wait::until_true("our kinds", async || cluster.kubectl(&["get", "rules", "-A"]).is_ok()).await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_parts_die() {
    let mut site = Site::on(own().await, &[]).await;
    site.apply(&(stream("s", "a BIGINT") + &rule("r0", "SELECT a FROM s")));
    site.until("rule/r0", "Ready=True/Running").await;
    for (n, part) in [(1, "operator"), (2, "apiserver"), (3, "etcd"), (4, "pod")] {
        match part {
            "operator" => {
                site.operator.kill();
                site.operator.launch(site.cluster).await.unwrap();
            }
            "pod" => site.node.kill("sluice-default-0"),
            _ => {
                let part = if part == "etcd" { Part::Etcd } else { Part::ApiServer };
                site.cluster.kill(part).unwrap();
                site.cluster.start_part(part).unwrap();
                site.cluster.api_ready().await.unwrap();
            }
        }
        site.apply(&rule(&format!("r{n}"), "SELECT a FROM s"));
        for known in 0..=n {
            site.until(&format!("rule/r{known}"), "Ready=True/Running").await;
        }
        let pods = site.get("pods").unwrap();
        assert_eq!(pods["items"].as_array().unwrap().len(), 1, "after the death of {part}");
    }
    // It takes memory as long as the process of the tests lives.
    for part in [Part::ApiServer, Part::ControllerManager, Part::Etcd] {
        site.cluster.kill(part).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_operators_acts_and_the_other_takes_over() {
    let cluster = with_kinds().await;
    let namespace = unique("elects").replace('_', "-");
    cluster.namespace(&namespace).unwrap();
    let at = format!("--namespace={namespace}");
    let lease = ["--leader-elect=true", &at];
    let mut site = Site::on(cluster, &[&lease[..], &["--identity=one"]].concat()).await;
    site.apply(&(stream("s", "a BIGINT") + &rule("r", "SELECT a FROM s")));
    site.until("rule/r", "Ready=True/Running").await;
    let args = [&["--webhook=false", "--secret-interval=1s"][..], &lease[..], &["--identity=two"]].concat();
    let two = sluice_tests::operator::Operator::start(cluster, &site.namespace, None, &args).await.unwrap();
    assert_eq!(two.counter(cluster, "sluice_operator_api_writes_total").await.unwrap(), 0);
    let holder = || {
        cluster
            .kubectl(&["get", "lease", "sluice-operator", "-n", &namespace, "-o", "jsonpath={.spec.holderIdentity}"])
            .unwrap()
    };
    assert_eq!(holder(), "one");
    // It lets go when it ends: the other one need not wait for the Lease to run out.
    site.operator.stop().await.unwrap();
    let start = std::time::Instant::now();
    wait::until_true("the other to act", async || holder() == "two").await;
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
    site.apply(&rule("r", "SELECT a + 1 AS b FROM s"));
    site.until("rule/r", "Ready=True/Running").await;
}
