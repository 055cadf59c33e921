//! What the objects' status says: conditions in the sense of kstatus, bindings, counters. Without times: those are the writer's.

use serde_json::{Value, json};
use sluice::bundle::Bundle;
use sluice::manifest::Kind;
use sluice::pipeline::{RuleReport, RuleState};
use sluice_crds as crds;

use super::judge::{Judgement, Placement, Problem, RuleJudgement, RuntimeJudgement, SourceJudgement};
use super::{Key, PodState, Reason, Settings, Snapshot, without_nulls};
use crate::object::Stored;

/// Names of rules that a stream's status lists.
const MAX_USED_BY: usize = 100;
/// Longest message.
const MAX_MESSAGE: usize = 4_000;

/// A condition, without its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `Ready`, ...
    pub ty: &'static str,
    /// True or false.
    pub is_true: bool,
    /// Why.
    pub reason: Reason,
    /// The same for people.
    pub message: String,
}

/// The status that an object should have.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusPlan {
    /// The object.
    pub key: Key,
    /// Its uid.
    pub uid: String,
    /// What is written as soon as it differs.
    pub status: Value,
    /// What is written seldom.
    pub counters: Value,
    /// The summary.
    pub ready: Condition,
}

/// The status of every object.
pub fn statuses(snapshot: &Snapshot, judgement: &Judgement, settings: &Settings) -> Vec<StatusPlan> {
    let mut plans = Vec::with_capacity(snapshot.objects.len());
    for object in snapshot.objects.values().filter(|object| !object.is_deleting) {
        let key = (object.kind, object.name.clone());
        let plan = match object.kind {
            Kind::Stream | Kind::LookupTable => judgement.sources.get(&key).map(|source| source_status(object, source)),
            Kind::Rule => judgement.rules.get(&object.name).map(|rule| rule_status(object, rule, snapshot)),
            Kind::Runtime => judgement
                .runtimes
                .get(&object.name)
                .map(|own| runtime_status(object, own, snapshot, judgement, settings)),
            Kind::Secret => None,
        };
        plans.extend(plan);
    }
    plans
}

fn condition(ty: &'static str, problem: Option<&Problem>, good: Reason, message: &str) -> Condition {
    match problem {
        Some((reason, message)) => Condition { ty, is_true: false, reason: *reason, message: cut(message) },
        None => Condition { ty, is_true: true, reason: good, message: message.to_owned() },
    }
}

fn cut(message: &str) -> String {
    match message.char_indices().nth(MAX_MESSAGE) {
        Some((at, _)) => format!("{}...", message.get(..at).unwrap_or_default()),
        None => message.to_owned(),
    }
}

/// The summary of the conditions before it, and what follows from it for those who wait.
fn summary(mut conditions: Vec<Condition>, settled: Option<Condition>) -> (Vec<Condition>, Condition) {
    let first_false = conditions.iter().find(|condition| !condition.is_true).cloned();
    let ready = settled.or(first_false).or_else(|| conditions.last().cloned());
    let ready = ready.map(|condition| Condition { ty: "Ready", ..condition });
    let Some(ready) = ready else {
        let nothing = Condition { ty: "Ready", is_true: false, reason: Reason::Starting, message: String::new() };
        return (conditions, nothing);
    };
    conditions.push(ready.clone());
    if !ready.is_true {
        let ty = if ready.reason.is_final() { "Stalled" } else { "Reconciling" };
        conditions.push(Condition { ty, is_true: true, ..ready.clone() });
    }
    (conditions, ready)
}

fn conditions_value(object: &Stored, conditions: &[Condition]) -> Value {
    let value = |condition: &Condition| {
        json!({
            "type": condition.ty,
            "status": if condition.is_true { "True" } else { "False" },
            "reason": condition.reason.as_str(),
            "message": condition.message,
            "observedGeneration": object.generation,
        })
    };
    conditions.iter().map(value).collect()
}

fn plan(object: &Stored, conditions: Vec<Condition>, ready: Condition, rest: Value, counters: Value) -> StatusPlan {
    let mut status = without_nulls(rest);
    if let Value::Object(status) = &mut status {
        status.insert("observedGeneration".to_owned(), json!(object.generation));
        status.insert("conditions".to_owned(), conditions_value(object, &conditions));
    }
    let key = (object.kind, object.name.clone());
    StatusPlan { key, uid: object.uid.clone(), status, counters: without_nulls(counters), ready }
}

fn source_status(object: &Stored, source: &SourceJudgement) -> StatusPlan {
    let accepted = condition("Accepted", source.refused.as_ref(), Reason::Accepted, "the definition is good");
    let resolved =
        condition("ResolvedRefs", source.unresolved.as_ref(), Reason::ResolvedRefs, "all that it refers to is there");
    let is_good = accepted.is_true && resolved.is_true;
    let defined =
        Condition { ty: "Ready", is_true: true, reason: Reason::Defined, message: "rules can read it".to_owned() };
    let (conditions, ready) = summary(vec![accepted, resolved], is_good.then_some(defined));
    let used_by: Vec<&String> = source.used_by.iter().take(MAX_USED_BY).collect();
    let rest = json!({
        "name": source.sql_name,
        "type": source.connector,
        "rules": source.used_by.len(),
        "usedBy": used_by,
    });
    plan(object, conditions, ready, rest, json!({}))
}

fn rule_status(object: &Stored, rule: &RuleJudgement, snapshot: &Snapshot) -> StatusPlan {
    let accepted =
        condition("Accepted", rule.refused.as_ref(), Reason::Accepted, "the statement and all options are good");
    let resolved =
        condition("ResolvedRefs", rule.unresolved.as_ref(), Reason::ResolvedRefs, "all that it refers to is there");
    let running = running(object, rule, snapshot);
    let is_good = accepted.is_true && resolved.is_true;
    // To have ended, or not to run, is what was asked for.
    let settled = (is_good && matches!(running.reason, Reason::Finished | Reason::Scheduled | Reason::Suspended))
        .then(|| Condition { is_true: true, ..running.clone() });
    let (conditions, ready) = summary(vec![accepted, resolved, running], settled);

    let runtime = rule.placement.as_ref().map_or(&rule.runtime, |placement| &placement.runtime);
    let reports = pods_with(snapshot, &object.name, &object.uid);
    let pods: Vec<crds::PodBinding> = reports
        .iter()
        .map(|(pod, report)| crds::PodBinding {
            pod: pod.name.clone(),
            generation: Some(report.generation),
            state: state(report),
            message: report.message.as_deref().map(cut),
            restarts: i64::try_from(report.restarts).ok().filter(|n| *n > 0),
        })
        .collect();
    let sum = |count: fn(&RuleReport) -> u64| -> i64 {
        let total: u64 = reports.iter().map(|(_, report)| count(report)).sum();
        i64::try_from(total).unwrap_or(i64::MAX)
    };
    let counters = (!reports.is_empty()).then(|| crds::Counters {
        rows_in: sum(|report| report.rows_in),
        rows_out: sum(|report| report.rows_out),
        errors: sum(|report| report.errors),
        late: sum(|report| report.late),
    });
    let newest = reports.iter().filter_map(|(_, report)| report.last_error.as_ref()).max_by_key(|error| error.at);
    let at = newest.and_then(|error| jiff::Timestamp::from_second(error.at.div_euclid(1000)).ok());
    let counters = json!({
        "counters": counters,
        "lastError": newest.map(|error| cut(&error.message)),
        "lastErrorTime": at.map(|at| at.to_string()),
    });
    let rest = json!({ "runtime": runtime, "pods": pods });
    plan(object, conditions, ready, rest, counters)
}

/// The pods that say something of a rule.
fn pods_with<'a>(snapshot: &'a Snapshot, rule: &str, uid: &str) -> Vec<(&'a PodState, &'a RuleReport)> {
    let of_pod = |pod: &'a PodState| {
        let report = pod.report.as_ref()?;
        let rule_idx = report.rules.binary_search_by(|report| report.name.as_str().cmp(rule)).ok()?;
        let report = report.rules.get(rule_idx)?;
        (report.uid == uid).then_some((pod, report))
    };
    snapshot.pods.iter().filter_map(of_pod).collect()
}

fn state(report: &RuleReport) -> crds::RuleState {
    match report.state {
        RuleState::Running if report.connected => crds::RuleState::Running,
        RuleState::Running => crds::RuleState::Connecting,
        RuleState::Done => crds::RuleState::Finished,
        RuleState::Scheduled => crds::RuleState::Scheduled,
        RuleState::Restarting => crds::RuleState::Restarting,
        RuleState::Failed | RuleState::Refused => crds::RuleState::Failed,
        RuleState::Suspended => crds::RuleState::Suspended,
        RuleState::Stopped => crds::RuleState::Pending,
    }
}

fn running(object: &Stored, rule: &RuleJudgement, snapshot: &Snapshot) -> Condition {
    let not =
        |reason: Reason, message: String| Condition { ty: "Running", is_true: false, reason, message: cut(&message) };
    let Some(placement) = &rule.placement else {
        return not(Reason::NotRunnable, "nothing of it runs".to_owned());
    };
    let Placement { runtime, uid, generation } = placement;
    let reports = pods_with(snapshot, &object.name, uid);
    if *generation != object.generation {
        let now = reports.iter().find(|(pod, report)| pod.runtime == *runtime && report.generation == *generation);
        let how = match now.map(|(_, report)| state(report)) {
            Some(crds::RuleState::Running) => "runs on",
            Some(crds::RuleState::Connecting) => "runs on, but is not connected",
            _ => "is to run on",
        };
        return not(Reason::PreviousGeneration, format!("generation {generation} {how}"));
    }
    if let Some(other) = moving_from(snapshot, &object.name, uid, runtime) {
        return not(Reason::Moving, format!("pod {other} still runs it"));
    }
    let problem = snapshot.workloads.get(runtime).and_then(|workload| workload.problem.as_ref());
    // What the pod does not have, it will not get.
    let withheld = problem.filter(|(reason, _)| *reason == Reason::BundleTooLarge);
    let mut pods = snapshot.pods.iter().filter(|pod| pod.runtime == *runtime);
    let Some(pod) = pods.clone().find(|pod| !pod.is_deleting).or_else(|| pods.next()) else {
        let no_pod = || (Reason::PodNotReady, format!("Runtime {runtime} has no pod yet"));
        let (reason, message) = problem.cloned().unwrap_or_else(no_pod);
        return not(reason, message);
    };
    if pod.report.is_none() {
        let why = pod.problem.as_deref().unwrap_or("it does not answer yet");
        return not(Reason::PodNotReady, format!("pod {}: {why}", pod.name));
    }
    let Some((_, report)) = reports.iter().find(|(of, _)| of.name == pod.name) else {
        if let Some((reason, message)) = withheld {
            return not(*reason, message.clone());
        }
        let problem = pod.report.as_ref().and_then(|report| report.bundle.problem.as_ref());
        let problem = problem.map(|problem| format!(": {problem}")).unwrap_or_default();
        return not(Reason::Starting, format!("pod {} has not taken it yet{problem}", pod.name));
    };
    let message = || report.message.clone().unwrap_or_default();
    if report.generation != *generation {
        if let Some((reason, message)) = withheld {
            return not(*reason, message.clone());
        }
        return match report.state {
            RuleState::Refused => not(Reason::Refused, format!("pod {}: {}", pod.name, message())),
            _ if report.wanted_generation == *generation && report.message.is_some() => {
                not(Reason::Refused, format!("pod {}: {}", pod.name, message()))
            }
            _ => not(Reason::Starting, format!("pod {} has not taken it yet", pod.name)),
        };
    }
    match report.state {
        RuleState::Running if report.connected => Condition {
            ty: "Running",
            is_true: true,
            reason: Reason::Running,
            message: format!("pod {} runs it, and is connected", pod.name),
        },
        RuleState::Running => not(Reason::NotConnected, message()),
        RuleState::Done => not(Reason::Finished, "its sources have ended, and all is written".to_owned()),
        RuleState::Suspended => not(Reason::Suspended, "suspend is true".to_owned()),
        RuleState::Scheduled => not(Reason::Scheduled, "its schedule has it wait".to_owned()),
        RuleState::Restarting => not(Reason::Restarting, message()),
        RuleState::Failed => not(Reason::Failed, message()),
        RuleState::Refused => not(Reason::Refused, message()),
        RuleState::Stopped => not(Reason::Starting, format!("pod {} is stopping", pod.name)),
    }
}

/// The rules of a runtime's bundle that the pods of other runtimes still run.
pub(crate) fn waiting(snapshot: &Snapshot, runtime: &str, bundle: &Bundle) -> Vec<String> {
    let rules = bundle.objects.iter().filter(|object| object.kind == "Rule");
    let moving = rules.filter(|rule| moving_from(snapshot, &rule.name, &rule.uid, runtime).is_some());
    moving.map(|rule| rule.name.clone()).collect()
}

/// The pod of another runtime that still runs a rule.
fn moving_from<'a>(snapshot: &'a Snapshot, rule: &str, uid: &str, runtime: &str) -> Option<&'a str> {
    let reports = pods_with(snapshot, rule, uid);
    let others = reports.into_iter().filter(|(pod, _)| pod.runtime != runtime);
    let running = others.filter(|(_, report)| report.state == RuleState::Running).map(|(pod, _)| pod.name.as_str());
    running.min()
}

fn runtime_status(
    object: &Stored,
    own: &RuntimeJudgement,
    snapshot: &Snapshot,
    judgement: &Judgement,
    settings: &Settings,
) -> StatusPlan {
    let accepted = condition("Accepted", own.refused.as_ref(), Reason::Accepted, "the definition is good");
    let resolved = condition("ResolvedRefs", None, Reason::ResolvedRefs, "all that it refers to is there");
    let workload = snapshot.workloads.get(&object.name).cloned().unwrap_or_default();
    let pods: Vec<&PodState> = snapshot.pods.iter().filter(|pod| pod.runtime == object.name).collect();
    let ready_pod = pods.iter().find(|pod| pod.is_ready && !pod.is_deleting && pod.report.is_some());
    let not = |reason: Reason, message: String| Condition { ty: "Running", is_true: false, reason, message };
    let pod_problem = pods.iter().find_map(|pod| pod.problem.clone());
    let running = match (&workload.problem, ready_pod) {
        (Some((reason, message)), _) => not(*reason, message.clone()),
        (None, _) if let Some(changes) = &workload.rolls => {
            let problem = pod_problem.map(|problem| format!("; {problem}")).unwrap_or_default();
            not(Reason::RollingOut, format!("its pod is being replaced: {changes}{problem}"))
        }
        (None, Some(_)) if !workload.is_rolled_out => not(Reason::RollingOut, "its pod is being replaced".to_owned()),
        (None, Some(pod)) => Condition {
            ty: "Running",
            is_true: true,
            reason: Reason::Running,
            message: format!("pod {} is ready", pod.name),
        },
        (None, None) => not(Reason::PodNotReady, pod_problem.unwrap_or_else(|| "no pod is ready yet".to_owned())),
    };
    let (conditions, ready) = summary(vec![accepted, resolved, running], None);
    let n_running = judgement.rules.iter().filter(|(name, rule)| {
        let placement = rule.placement.as_ref().filter(|placement| placement.runtime == object.name);
        placement.is_some_and(|placement| {
            let reports = pods_with(snapshot, name, &placement.uid);
            reports.iter().any(|(pod, report)| pod.runtime == object.name && report.state == RuleState::Running)
        })
    });
    let image = own.spec.as_ref().and_then(|spec| spec.image.clone());
    let image = image.or_else(|| settings.defaults.image.clone()).unwrap_or_else(|| settings.image.clone());
    let pods: Vec<crds::PodStatus> = pods
        .into_iter()
        .map(|pod| {
            let bundle = pod.report.as_ref().and_then(|report| report.bundle.id.as_ref());
            crds::PodStatus {
                name: pod.name.clone(),
                ready: pod.is_ready,
                bundle: bundle.map(|id| id.chars().take(12).collect()),
            }
        })
        .collect();
    let rest = json!({ "image": image, "rules": own.n_rules, "running": n_running.count(), "pods": pods });
    plan(object, conditions, ready, rest, json!({}))
}
