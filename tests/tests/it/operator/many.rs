//! Many rules at once, more than fit, and nothing to do.

use std::fmt::Write;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use super::{Site, rule, stream};
use sluice_tests::long;

const N_RULES: usize = 500;
/// Wanted are 30 s on an idle machine, with a build as it is shipped.
const LONGEST: Duration = Duration::from_secs(150);
const WRITES: &str = "sluice_operator_api_writes_total";

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

fn apply_at_once(site: &Site, yaml: &str) {
    let args = ["apply", "--server-side", "-n", &site.namespace, "-f", "-"];
    site.cluster.kubectl_with(&args, Some(yaml)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_rules_run_and_then_nothing_is_written() {
    let site = Site::new(&[]).await;
    // Bad ones first, in the middle and last; the stream that all read comes late.
    let mut yaml = rule("bad-1", "SELECT a FRM s");
    for n in 0..N_RULES {
        match n {
            200 => yaml.push_str(&stream("s", "a BIGINT, b FLOAT, c STRING")),
            250 => yaml.push_str(&rule("bad-2", "SELECT nothing FROM s")),
            _ => {}
        }
        let _ =
            write!(yaml, "{}", rule(&format!("r{n}"), &format!("SELECT a, b * {n} AS scaled, c FROM s WHERE a > {n}")));
    }
    yaml.push_str(&rule("bad-3", "SELECT a FROM s GROUP"));
    let start = Instant::now();
    apply_at_once(&site, &yaml);
    let applied = start.elapsed();
    let mut n_ready = 0;
    while n_ready < N_RULES {
        assert!(start.elapsed() < LONGEST, "only {n_ready} rules run after {LONGEST:?}\n{}", site.operator.log());
        // To ask is work for this machine too.
        tokio::time::sleep(Duration::from_millis(300)).await;
        n_ready = ready(&site);
    }
    let took = start.elapsed();
    for bad in ["rule/bad-1", "rule/bad-2", "rule/bad-3"] {
        site.until(bad, "Stalled=True/InvalidSql").await;
    }
    let writes = site.operator.counter(site.cluster, WRITES).await.unwrap();
    let resident = site.operator.resident_bytes().unwrap();
    long::report(&format!(
        "operator: {N_RULES} rules ran {took:.1?} after kubectl began to apply them, which took {applied:.1?}; {writes} API writes; \
         the operator holds {} MiB",
        resident >> 20
    ));
    assert!(writes <= 4 * N_RULES as u64, "{writes} writes");
    // Nothing happens, and nothing is written.
    let idle = long::duration(Duration::from_secs(20));
    tokio::time::sleep(idle).await;
    let later = site.operator.counter(site.cluster, WRITES).await.unwrap();
    assert_eq!(later, writes, "{}", site.operator.log());
    long::report(&format!("operator: no API write in {idle:.0?} with {N_RULES} rules"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_and_what_runs_runs_on() {
    let site = Site::new(&["--bundle-secrets=2"]).await;
    site.apply(&(stream("s", "a BIGINT") + &rule("small", "SELECT a FROM s")));
    site.until("rule/small", "Ready=True/Running").await;
    // Noise, which compression makes smaller by a quarter at most.
    let mut random = StdRng::seed_from_u64(1);
    let mut noise = || STANDARD.encode((0..47_000).map(|_| random.random()).collect::<Vec<u8>>());
    let names: Vec<String> = (0..50).map(|n| format!("large-{n}")).collect();
    let large = names.iter().map(|name| rule(name, &format!("SELECT a, \"{}\" AS x FROM s", noise())));
    apply_at_once(&site, &large.collect::<String>());
    site.until("rule/large-49", "Stalled=True/BundleTooLarge").await;
    assert!(site.message("rule/large-49", "Ready").contains("do not fit into 2 Secrets"));
    site.until("rule/small", "Ready=True/Running").await;
    // With fewer of them all that are left run.
    let mut args = vec!["delete", "rules", "-n", &site.namespace, "--wait=false"];
    args.extend(names.iter().take(20).map(String::as_str));
    site.cluster.kubectl(&args).unwrap();
    site.until("rule/large-49", "Ready=True/Running").await;
    assert!(site.get("secret/sluice-default-bundle-1").is_some(), "spread over two Secrets");
}
