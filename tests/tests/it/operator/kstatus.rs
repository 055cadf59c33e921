//! What kstatus calls Current, and so Flux takes for done, the runtime itself says that it runs.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use sluice::pipeline::{EngineReport, RuleState};
use sluice_tests::cluster::kstatus;
use sluice_tests::{long, wait};

use super::{Site, rule, stream};

const N_RULES: usize = 4;
const POD: &str = "sluice-default-0";
/// For so long after the death of a pod its status may be that of before.
const STALE: Duration = Duration::from_secs(15);

/// Statements, the last two of which are never good.
const SQL: [&str; 5] =
    ["SELECT a FROM s", "SELECT a + 1 AS a FROM s", "SELECT b FROM s", "SELECT nothing FROM s", "SELECT a FRM s"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Edit(usize, usize),
    Suspend(usize),
    Recreate(usize),
    /// With or without the column `b`.
    Stream(bool),
    DeleteStream,
    Freeze(bool),
    KillPod,
    DeletePod,
    KillOperator,
}

fn next(random: &mut StdRng) -> Step {
    let rule_idx = random.random_range(0..N_RULES);
    match random.random_range(0..16) {
        0..=5 => Step::Edit(rule_idx, random.random_range(0..SQL.len())),
        6 => Step::Suspend(rule_idx),
        7 => Step::Recreate(rule_idx),
        8 | 9 => Step::Stream(random.random()),
        10 => Step::DeleteStream,
        11 => Step::Freeze(true),
        12 | 13 => Step::Freeze(false),
        14 => Step::KillOperator,
        _ if random.random() => Step::KillPod,
        _ => Step::DeletePod,
    }
}

fn has(report: Option<&EngineReport>, uid: &str, generation: i64) -> bool {
    report.into_iter().flat_map(|report| &report.rules).any(|rule| {
        let is_so = match rule.state {
            RuleState::Running => rule.connected,
            state => state == RuleState::Suspended,
        };
        is_so && rule.uid == uid && rule.generation == generation
    })
}

/// What has been seen.
struct Watch {
    rules: Api<DynamicObject>,
    /// Uid and generation of what the runtime said that it runs.
    ran: HashSet<(String, i64)>,
    n_current: usize,
    killed: Option<Instant>,
}

impl Watch {
    /// What the runtime says. It may not answer while a new bundle is being put in place.
    async fn report(&self, site: &Site) -> Option<EngineReport> {
        let start = Instant::now();
        loop {
            let report = site.node.report(site.cluster, POD).await;
            if report.is_some() || self.is_stale() || start.elapsed() > Duration::from_secs(5) {
                return report;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// It may still be said of a runtime that was killed that it runs.
    fn is_stale(&self) -> bool {
        self.killed.is_some_and(|at| at.elapsed() < STALE)
    }

    async fn look(&mut self, site: &Site, story: &[Step]) -> Vec<(Value, String)> {
        let found = self.rules.list(&ListParams::default()).await.unwrap().items;
        let objects: Vec<Value> = found.iter().map(|object| serde_json::to_value(object).unwrap()).collect();
        let verdicts = kstatus(&objects).unwrap();
        let report = self.report(site).await;
        for (object, _) in objects.iter().zip(&verdicts).filter(|(_, verdict)| verdict.status == "Current") {
            let (uid, generation) =
                (object["metadata"]["uid"].as_str().unwrap(), object["metadata"]["generation"].as_i64().unwrap());
            if has(report.as_ref(), uid, generation) {
                self.n_current += usize::from(self.ran.insert((uid.to_owned(), generation)));
                continue;
            }
            let is_known = self.ran.contains(&(uid.to_owned(), generation));
            assert!(
                is_known || self.is_stale(),
                "Current, but it does not run\n{object:#}\n{report:#?}\nafter {story:?}\n{}",
                site.operator.log()
            );
        }
        objects.into_iter().zip(verdicts.into_iter().map(|verdict| verdict.status)).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn current_is_what_the_runtime_says() {
    let mut site = Site::new(&[]).await;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("sluice.dev", "v1alpha1", "Rule"));
    let rules: Api<DynamicObject> = Api::namespaced_with(site.cluster.client().await.unwrap(), &site.namespace, &kind);
    let mut watch = Watch { rules, ran: HashSet::new(), n_current: 0, killed: None };
    let seed = long::seed();
    let mut random = StdRng::seed_from_u64(seed);
    let (start, duration) = (Instant::now(), long::duration(Duration::from_secs(20)));
    let mut state = [(0_usize, false); N_RULES];
    let mut columns = Some(true);
    let one = |rule_idx: usize, (sql_idx, is_suspended): (usize, bool)| {
        rule(&format!("r{rule_idx}"), SQL[sql_idx]) + &format!("  suspend: {is_suspended}\n")
    };
    let of = |has_b: bool| stream("s", if has_b { "a BIGINT, b BIGINT" } else { "a BIGINT" });
    site.apply(&(0..N_RULES).fold(of(true), |yaml, rule_idx| yaml + &one(rule_idx, state[rule_idx])));
    let mut story = Vec::new();
    while start.elapsed() < duration {
        let step = next(&mut random);
        story.push(step);
        match step {
            Step::Edit(rule_idx, sql_idx) => {
                state[rule_idx].0 = sql_idx;
                site.apply(&one(rule_idx, state[rule_idx]));
            }
            Step::Suspend(rule_idx) => {
                state[rule_idx].1 = !state[rule_idx].1;
                site.apply(&one(rule_idx, state[rule_idx]));
            }
            Step::Recreate(rule_idx) => {
                site.cluster.kubectl(&["delete", "-n", &site.namespace, &format!("rule/r{rule_idx}")]).unwrap();
                site.apply(&one(rule_idx, state[rule_idx]));
            }
            Step::Stream(has_b) => {
                columns = Some(has_b);
                site.apply(&of(has_b));
            }
            Step::DeleteStream => {
                columns = None;
                site.cluster.kubectl(&["delete", "-n", &site.namespace, "stream/s", "--ignore-not-found"]).unwrap();
            }
            Step::Freeze(freeze) => site.node.freeze(freeze),
            Step::KillPod | Step::DeletePod => {
                watch.killed = Some(Instant::now());
                match step {
                    Step::KillPod => site.node.kill(POD),
                    _ => {
                        _ = site.cluster.kubectl(&[
                            "delete",
                            "-n",
                            &site.namespace,
                            &format!("pod/{POD}"),
                            "--ignore-not-found",
                            "--wait=false",
                        ])
                    }
                }
            }
            Step::KillOperator => {
                site.operator.kill();
                site.operator.launch(site.cluster).await.unwrap();
            }
        }
        for _ in 0..random.random_range(1..4) {
            watch.look(&site, &story).await;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
        }
    }
    // In the end everything is as it was asked for, or said to be wrong.
    site.node.freeze(false);
    let has_b = columns.unwrap_or(true);
    site.apply(&of(has_b));
    wait::until_true("every rule to be settled", async || {
        let seen = watch.look(&site, &story).await;
        state.iter().enumerate().all(|(rule_idx, (sql_idx, _))| {
            let wanted = if *sql_idx < 2 || (*sql_idx == 2 && has_b) { "Current" } else { "Failed" };
            seen.iter().any(|(object, status)| object["metadata"]["name"] == format!("r{rule_idx}") && status == wanted)
        })
    })
    .await;
    long::report(&format!(
        "operator: seed {seed}, {} steps, kstatus and runtime agreed on {} generations",
        story.len(),
        watch.n_current
    ));
    assert!(watch.n_current > N_RULES, "{story:?}");
}
