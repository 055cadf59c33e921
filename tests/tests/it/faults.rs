//! A short run of the fault harness; `cargo run --bin faults` is the long one.

use std::time::Duration;

use serde_json::Value;
use sluice_tests::faults::{Plan, Volume, run};
use sluice_tests::mqtt::MqttClient;
use sluice_tests::services::{Mosquitto, unique};
use sluice_tests::sluice::Sluice;
use sluice_tests::wait;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_row_is_lost_and_none_counts_twice() {
    let plan = Plan {
        seed: 11,
        duration: Duration::from_secs(25),
        pause: Duration::from_secs(2),
        outage: Duration::from_secs(4),
        rate: 100,
    };
    let outcome = run(&plan).await.unwrap();
    println!("{outcome}");
    assert!(outcome.is_good(), "{outcome}");
    assert!(outcome.faults.len() > 3, "{outcome}");
}

/// What waits to be written down when the connection is lost comes again, and then is there twice.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_again_while_the_disk_is_full_counts_once() {
    let mut broker = Mosquitto::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let volume = Volume::mount(folder.path().join("state")).unwrap();
    let (topic, server) = (unique("full"), broker.url());
    let rules = folder.path().join("rules");
    std::fs::create_dir(&rules).unwrap();
    let manifests = format!(
        "---\napiVersion: sluice.dev/v1alpha1\nkind: Stream\nmetadata: {{name: s}}\nspec: {{type: mqtt, datasource: {topic}, options: \
         {{server: \"{server}\", qos: 2, clientid: {topic}, enableClientSession: true}}}}\n\
         ---\napiVersion: sluice.dev/v1alpha1\nkind: Rule\nmetadata: {{name: r}}\nspec:\n  sql: SELECT n FROM s\n  options: \
         {{qos: 2}}\n  sinks:\n  - nop: {{}}\n"
    );
    std::fs::write(rules.join("rule.yaml"), manifests).unwrap();
    let state_dir = volume.dir.display().to_string();
    let sluice = Sluice::run_ready(&rules, &["--state-dir", &state_dir]).await.unwrap();
    let source = async || {
        let status: Value = serde_json::from_str(&sluice.get("/rules/r").await.unwrap()).unwrap();
        status["sources"][0].clone()
    };
    let publisher = MqttClient::connect(broker.port());
    let publish = async |n: u32| {
        publisher.publish(&topic, format!(r#"{{"n": {n}, "padding": "{}"}}"#, "x".repeat(500))).await.unwrap();
    };
    publish(0).await;
    wait::until_true("the subscription", async || source().await["rowsIn"] == 1).await;
    volume.fill(true).unwrap();
    for n in 1..=20 {
        publish(n).await;
    }
    publisher.acknowledged().await;
    let error = async || source().await["lastError"]["message"].as_str().unwrap_or_default().to_owned();
    wait::until_true("the disk to be full", async || error().await.contains("can't write the journal")).await;
    broker.stop().await.unwrap();
    broker.restart().await.unwrap();
    wait::until_true("the connection", async || source().await["reconnects"].as_u64() >= Some(1)).await;
    // The broker sends again what it has no word of.
    tokio::time::sleep(Duration::from_millis(500)).await;
    volume.fill(false).unwrap();
    publish(21).await;
    wait::until_true("the last row", async || source().await["rowsOut"].as_u64() >= Some(22)).await;
    assert_eq!(source().await["rowsOut"], 22, "{}", source().await);
    assert!(sluice.get("/metrics").await.unwrap().lines().any(|line| {
        line.starts_with("sluice_source_dropped_total") && line.contains("duplicate") && !line.ends_with(" 0")
    }));
}
