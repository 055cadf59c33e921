//! Many rules at once, and nothing to do.

use std::fmt::Write;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Site, rule, stream};
use sluice_tests::wait;

const N_RULES: usize = 500;

fn ready(site: &Site) -> usize {
    let Some(list) = site.get("rules") else { return 0 };
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let is_ready = |object: &&Value| {
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| {
            condition["type"] == "Ready"
                && condition["status"] == "True"
                && condition["observedGeneration"] == object["metadata"]["generation"]
        })
    };
    items.iter().filter(is_ready).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_rules_run_and_then_nothing_is_written() {
    let site = Site::new(&[]).await;
    let mut yaml = stream("s", "a BIGINT, b FLOAT, c STRING");
    for n in 0..N_RULES {
        let _ = write!(yaml, "{}", rule(&format!("r{n}"), &format!("SELECT a, b * {n} AS scaled, c FROM s WHERE a > {n}")));
    }
    yaml.push_str(&rule("bad", "SELECT a FRM s"));
    site.apply(&yaml);
    let start = Instant::now();
    wait::until_true("all rules to run", async || ready(&site) == N_RULES).await;
    let took = start.elapsed();
    let metric = "sluice_operator_api_writes_total";
    let writes = site.operator.counter(site.cluster, metric).await.unwrap();
    let rss = site.operator.resident_bytes().unwrap();
    println!(
        "{N_RULES} rules ran {took:.1?} after kubectl had applied the last; {writes} API writes; the operator holds {} MiB",
        rss >> 20
    );
    site.until("rule/bad", "Ready=False/InvalidSql").await;
    assert!(writes <= 4 * N_RULES as u64, "{writes} writes");

    // Nothing happens, and nothing is written.
    let writes = site.operator.counter(site.cluster, metric).await.unwrap();
    tokio::time::sleep(Duration::from_secs(15)).await;
    let later = site.operator.counter(site.cluster, metric).await.unwrap();
    assert_eq!(later, writes, "{}", site.operator.log());
}
