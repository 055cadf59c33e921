use std::fmt::Write;

use serde_json::{Value, json};
use sluice::Registry;
use sluice::bundle::unpack;
use sluice::pipeline::{BundleState, EngineReport, RuleReport, RuleState};

use super::*;

/// A namespace that is changed step by step, as a cluster is: bundles are written, and a pod per runtime takes them.
struct World {
    snapshot: Snapshot,
    registry: Registry,
    n_created: i64,
}

impl World {
    fn new() -> Self {
        let snapshot = Snapshot {
            namespace: "plant".into(),
            objects: BTreeMap::new(),
            secrets: BTreeMap::new(),
            bundles: BTreeMap::new(),
            pods: Vec::new(),
            workloads: BTreeMap::new(),
        };
        World { snapshot, registry: Registry::builtin(), n_created: 0 }
    }

    /// As `kubectl apply`: a new generation if the spec differs.
    fn apply(&mut self, kind: Kind, name: &str, spec: serde_json::Value) -> &mut Self {
        self.n_created += 1;
        let key = (kind, name.to_owned());
        let old = self.snapshot.objects.get(&key);
        let stored = Stored {
            kind,
            namespace: "plant".into(),
            name: name.into(),
            uid: old.map_or_else(|| format!("{name}-{}", self.n_created), |old| old.uid.clone()),
            generation: old.map_or(1, |old| old.generation + 1),
            created: old.map_or(self.n_created, |old| old.created),
            is_deleting: false,
            spec: sluice::bundle::Spec(spec.to_string().into()),
            status: "".into(),
        };
        self.snapshot.objects.insert(key, Arc::new(stored));
        self
    }

    fn delete(&mut self, kind: Kind, name: &str) -> &mut Self {
        self.snapshot.objects.remove(&(kind, name.to_owned()));
        self
    }

    fn stream(&mut self, name: &str, columns: &str) -> &mut Self {
        let sql = format!("CREATE STREAM {name} ({columns}) WITH (TYPE=\"memory\", DATASOURCE=\"{name}\")");
        self.apply(Kind::Stream, name, json!({ "sql": sql }))
    }

    fn rule(&mut self, name: &str, sql: &str) -> &mut Self {
        self.apply(Kind::Rule, name, json!({ "sql": sql, "sinks": [{ "nop": {} }] }))
    }

    fn secret(&mut self, name: &str, values: &[(&str, &str)]) -> &mut Self {
        use base64::Engine as _;
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), encode(value))).collect();
        self.snapshot.secrets.insert(name.to_owned(), SecretState::Values(values));
        self
    }

    /// Writes the bundles, and lets the pods take them.
    fn settle(&mut self) -> &mut Self {
        for _ in 0..3 {
            self.write_bundles();
            self.snapshot.pods = self.snapshot.bundles.iter().map(|(name, bundle)| pod(name, bundle)).collect();
        }
        self
    }

    fn write_bundles(&mut self) {
        let judgement = judge(&self.snapshot, &self.registry);
        let write = |(name, runtime): (&String, &RuntimeJudgement)| {
            let mut bundle = (*runtime.bundle).clone();
            bundle.waiting = waiting(&self.snapshot, name, &bundle);
            let packed = bundle.pack();
            (name.clone(), Arc::new(unpack(&packed.index, &packed.parts).unwrap()))
        };
        self.snapshot.bundles = judgement.runtimes.iter().map(write).collect();
    }

    fn status(&self, kind: Kind, name: &str) -> StatusPlan {
        let judgement = judge(&self.snapshot, &self.registry);
        let statuses = statuses(&self.snapshot, &judgement, &settings());
        statuses.into_iter().find(|plan| plan.key == (kind, name.to_owned())).unwrap()
    }

    /// `Accepted ResolvedRefs StreamNotFound ...`: the reasons, with a `!` before those of false conditions.
    fn reasons(&self, name: &str) -> String {
        let status = self.status(Kind::Rule, name).status;
        let conditions = status["conditions"].as_array().unwrap();
        let reason = |condition: &serde_json::Value| {
            let mark = if condition["status"] == "True" { "" } else { "!" };
            format!("{mark}{}", condition["reason"].as_str().unwrap())
        };
        conditions.iter().take(4).map(reason).collect::<Vec<_>>().join(" ")
    }

    /// Everything that people see.
    fn shown(&self) -> String {
        let judgement = judge(&self.snapshot, &self.registry);
        let mut text = String::new();
        for plan in statuses(&self.snapshot, &judgement, &settings()) {
            let _ = writeln!(text, "{}/{}", plan.key.0.as_str(), plan.key.1);
            for condition in plan.status["conditions"].as_array().unwrap() {
                let of = |field: &str| condition[field].as_str().unwrap().replace('\n', "\n      ");
                let _ = writeln!(text, "  {}={} {}: {}", of("type"), of("status"), of("reason"), of("message"));
            }
        }
        for (name, runtime) in &judgement.runtimes {
            let object = |object: &sluice::bundle::BundleObject| {
                format!("{}/{}@{}", object.kind, object.name, object.generation)
            };
            let objects: Vec<String> = runtime.bundle.objects.iter().map(object).collect();
            let _ = writeln!(text, "bundle of {name}: {}", objects.join(" "));
            for held in &runtime.bundle.held {
                let objects: Vec<String> = held.objects.iter().map(object).collect();
                let _ = writeln!(text, "  held {}: {}", held.rule, objects.join(" "));
            }
        }
        text
    }
}

fn settings() -> Settings {
    Settings {
        namespace: "sluice".into(),
        image: "sluice:1".into(),
        pull_policy: PullPolicy::IfNotPresent,
        pull_secrets: Vec::new(),
        defaults: RuntimeSpec::default(),
        network_policies: true,
        port: 8080,
        bundle_secrets: 8,
    }
}

/// A pod that runs a bundle.
fn pod(runtime: &str, bundle: &Bundle) -> PodState {
    let (definitions, _) = bundle.load();
    let mut rules: Vec<RuleReport> = definitions
        .rules
        .iter()
        .map(|rule| RuleReport {
            name: rule.name.clone(),
            uid: rule.origin.uid.clone(),
            generation: rule.origin.generation,
            wanted_generation: rule.origin.generation,
            state: if rule.suspend { RuleState::Suspended } else { RuleState::Running },
            connected: !rule.suspend,
            restarts: 0,
            message: None,
            rows_in: 7,
            rows_out: 5,
            errors: 0,
            late: 0,
            last_error: None,
        })
        .collect();
    rules.sort_by(|a, b| a.name.cmp(&b.name));
    let report = EngineReport { instance: "i".into(), version: 1, bundle: BundleState::default(), rules };
    PodState {
        name: format!("sluice-{runtime}-0"),
        runtime: runtime.into(),
        is_ready: true,
        is_deleting: false,
        restarts: 0,
        problem: None,
        report: Some(Arc::new(report)),
    }
}

const GOOD: &str = "Accepted ResolvedRefs Running Running";

#[test]
fn a_rule_starts_when_its_stream_appears() {
    let mut world = World::new();
    world.rule("r", "SELECT a FROM s").settle();
    assert_eq!(world.reasons("r"), "Accepted !StreamNotFound !NotRunnable !StreamNotFound");
    world.stream("s", "a BIGINT").settle();
    assert_eq!(world.reasons("r"), GOOD);
    let stream = world.status(Kind::Stream, "s").status;
    assert_eq!((&stream["usedBy"], &stream["rules"]), (&json!(["r"]), &json!(1)));
}

#[test]
fn a_table_that_only_a_function_reads_goes_along() {
    let mut world = World::new();
    world.stream("s", "k string").rule("r", "SELECT get_keyed_state(k, \"bigint\", 0) AS n FROM s").settle();
    assert_eq!(world.reasons("r"), "Accepted !StreamNotFound !NotRunnable !StreamNotFound");
    let spec = json!({"name": "keyed_state", "type": "memory", "datasource": "kept", "key": "key"});
    world.apply(Kind::LookupTable, "kept", spec).settle();
    assert_eq!(world.reasons("r"), GOOD);
    assert_eq!(world.status(Kind::LookupTable, "kept").status["usedBy"], json!(["r"]));
}

#[test]
fn a_bad_edit_leaves_the_last_good_generation_running() {
    let mut world = World::new();
    world.stream("s", "a BIGINT").rule("r", "SELECT a FROM s").rule("other", "SELECT * FROM s").settle();
    world.rule("r", "SELECT b FROM s").settle();
    assert_eq!(world.reasons("r"), "!InvalidSql ResolvedRefs !PreviousGeneration !InvalidSql");
    assert_eq!(world.reasons("other"), GOOD);
    insta::assert_snapshot!("bad_edit", world.shown());
    // As it was, but a third generation.
    world.rule("r", "SELECT a FROM s").settle();
    assert_eq!(
        (world.reasons("r").as_str(), world.status(Kind::Rule, "r").status["pods"][0]["generation"].as_i64()),
        (GOOD, Some(3))
    );
}

#[test]
fn a_rule_is_held_with_the_stream_that_it_was_good_with() {
    let mut world = World::new();
    world.stream("s", "a BIGINT").rule("r", "SELECT a FROM s").rule("other", "SELECT * FROM s").settle();
    world.stream("s", "b BIGINT").settle();
    assert_eq!(world.reasons("r"), "!InvalidSql ResolvedRefs Running !InvalidSql");
    assert_eq!(world.reasons("other"), GOOD);
    insta::assert_snapshot!("held", world.shown());
    // A stream that is no good is not taken at all.
    world.stream("s", "a BIGINT").settle();
    assert_eq!(world.reasons("r"), GOOD);
    world.stream("s", "a NUMBERISH").settle();
    assert_eq!(world.reasons("r"), GOOD);
    insta::assert_snapshot!("bad_stream", world.shown());
    // A stream that is gone shows on its rules, which run on.
    world.delete(Kind::Stream, "s").settle();
    assert_eq!(world.reasons("r"), "Accepted !StreamNotFound Running !StreamNotFound");
    assert_eq!(world.snapshot.bundles["default"].held.len(), 2);
}

#[test]
fn a_rule_that_was_made_again_has_no_past() {
    let mut world = World::new();
    world.stream("s", "a BIGINT").rule("r", "SELECT a FROM s").settle();
    world.delete(Kind::Rule, "r").rule("r", "SELECT nothing FROM s").settle();
    assert_eq!(world.reasons("r"), "!InvalidSql ResolvedRefs !NotRunnable !InvalidSql");
}

#[test]
fn secrets_are_waited_for_and_kept() {
    let mut world = World::new();
    let sink = json!([{ "mqtt": { "server": "tcp://b:1883", "topic": "t", "username": "u", "password": { "secretKeyRef": { "name": "m", "key": "p" } } } }]);
    world.stream("s", "a BIGINT").apply(Kind::Rule, "r", json!({ "sql": "SELECT a FROM s", "sinks": sink })).settle();
    assert_eq!(world.reasons("r"), "Accepted !SecretNotFound !NotRunnable !SecretNotFound");
    world.secret("m", &[("q", "x")]).settle();
    assert_eq!(world.reasons("r"), "Accepted !SecretNotFound !NotRunnable !SecretNotFound");
    world.secret("m", &[("p", "hunter2"), ("q", "x")]).settle();
    assert_eq!(world.reasons("r"), GOOD);
    let secrets = &world.snapshot.bundles["default"].secrets;
    assert_eq!(secrets.keys().collect::<Vec<_>>(), ["m"]);
    assert_eq!(secrets["m"].keys().collect::<Vec<_>>(), ["p"], "no more than is needed");
    let shown = world.shown();
    assert!(!shown.contains("hunter2") && !format!("{:?}", world.snapshot.bundles).contains(&secrets["m"]["p"]));
    // What it was is kept while it is away.
    world.snapshot.secrets.insert("m".into(), SecretState::Missing);
    world.settle();
    assert_eq!(world.reasons("r"), "Accepted !SecretNotFound Running !SecretNotFound");
    // The statement is judged whatever the Secret holds.
    let mut world = World::new();
    world.stream("s", "a BIGINT").apply(Kind::Rule, "r", json!({ "sql": "SELECT FROM s", "sinks": sink })).settle();
    assert_eq!(world.reasons("r"), "!InvalidSql !SecretNotFound !NotRunnable !InvalidSql");
}

#[test]
fn the_oldest_of_two_with_one_name_has_it() {
    let mut world = World::new();
    let named = |name: &str| json!({ "name": name, "type": "memory", "datasource": "t" });
    world
        .apply(Kind::Stream, "old", named("s"))
        .apply(Kind::Stream, "new", named("s"))
        .rule("r", "SELECT * FROM s")
        .settle();
    assert_eq!(world.reasons("r"), GOOD);
    let new = world.status(Kind::Stream, "new");
    assert_eq!((new.ready.reason, new.ready.is_true), (Reason::NameConflict, false));
    assert_eq!(new.ready.message, "the SQL name \"s\" is taken by Stream/old, which is older");
    // When the name is free, the other one gets it.
    world.delete(Kind::Stream, "old").settle();
    assert!(world.status(Kind::Stream, "new").ready.is_true);
    assert_eq!(world.reasons("r"), GOOD);
}

#[test]
fn one_bad_rule_stops_no_other_in_any_order() {
    for bad in [0, 100, 200] {
        let mut world = World::new();
        for n in 0..=200 {
            let sql = if n == bad { "SELECT a FRM s" } else { "SELECT a FROM s" };
            world.rule(&format!("r{n:03}"), sql);
        }
        world.stream("s", "a BIGINT").settle();
        let judgement = judge(&world.snapshot, &world.registry);
        let n_placed = judgement.rules.values().filter(|rule| rule.placement.is_some()).count();
        assert_eq!(n_placed, 200);
    }
}

#[test]
fn what_can_not_be_read_is_told_and_stops_nothing() {
    let mut world = World::new();
    world.stream("s", "a BIGINT").rule("good", "SELECT a FROM s");
    for (name, spec) in [
        ("nothing", json!(null)),
        ("text", json!("x")),
        ("numbers", json!({ "sql": 7, "sinks": 8 })),
        ("unknown", json!({ "sql": "SELECT a FROM s", "sinks": [{ "nop": {} }], "sinkss": 1 })),
    ] {
        world.apply(Kind::Rule, name, spec.clone()).apply(Kind::Stream, name, spec.clone()).apply(
            Kind::Runtime,
            name,
            spec,
        );
    }
    world.settle();
    assert_eq!(world.reasons("good"), GOOD);
    for name in ["nothing", "text", "numbers", "unknown"] {
        let reason = if name == "numbers" { "InvalidSql" } else { "InvalidSpec" };
        assert_eq!(world.reasons(name), format!("!{reason} ResolvedRefs !NotRunnable !{reason}"), "{name}");
    }
    insta::assert_snapshot!("unreadable", world.shown());
}

#[test]
fn a_rule_moves_once_the_other_pod_has_let_go() {
    let mut world = World::new();
    let on = |runtime: &str| json!({ "sql": "SELECT a FROM s", "sinks": [{ "nop": {} }], "runtime": runtime });
    world.stream("s", "a BIGINT").apply(Kind::Rule, "r", on("one")).settle();
    assert_eq!(world.reasons("r"), "Accepted !RuntimeNotFound !NotRunnable !RuntimeNotFound");
    world.apply(Kind::Runtime, "one", json!({})).apply(Kind::Runtime, "two", json!({})).settle();
    assert_eq!(world.reasons("r"), GOOD);
    world.apply(Kind::Rule, "r", on("two"));
    assert_eq!(world.reasons("r"), "Accepted ResolvedRefs !Moving !Moving");
    world.settle();
    assert_eq!(world.reasons("r"), GOOD);
    // A bad edit stays where the good one is.
    world.apply(Kind::Rule, "r", json!({ "sql": "SELECT", "sinks": [{ "nop": {} }], "runtime": "one" })).settle();
    assert_eq!(world.reasons("r"), "!InvalidSql ResolvedRefs !PreviousGeneration !InvalidSql");
    assert_eq!(world.status(Kind::Rule, "r").status["runtime"], "two");
}

#[test]
fn a_bad_edit_of_a_rule_on_the_move_leaves_it_moving() {
    let mut world = World::new();
    let on = |runtime: &str, sql: &str| json!({ "sql": sql, "sinks": [{ "nop": {} }], "runtime": runtime });
    world.apply(Kind::Runtime, "one", json!({})).apply(Kind::Runtime, "two", json!({})).stream("s", "a BIGINT");
    world.apply(Kind::Rule, "r", on("one", "SELECT a FROM s")).settle();
    assert_eq!(world.reasons("r"), GOOD);
    // The pods have not taken the new bundles yet when the next edit comes.
    world.apply(Kind::Rule, "r", on("two", "SELECT a + 1 AS a FROM s")).write_bundles();
    assert_eq!(world.snapshot.bundles["two"].waiting, ["r"]);
    assert!(world.snapshot.bundles["two"].load().0.rules.is_empty());
    world.apply(Kind::Rule, "r", on("two", "SELECT")).settle();
    assert_eq!(world.reasons("r"), "!InvalidSql ResolvedRefs !PreviousGeneration !InvalidSql");
    assert!(world.snapshot.bundles["two"].waiting.is_empty());
    assert_eq!(world.status(Kind::Rule, "r").status["runtime"], "two");
    let running = world.snapshot.bundles["two"].load().0.rules;
    assert_eq!(running.iter().map(|rule| rule.sql.as_str()).collect::<Vec<_>>(), ["SELECT a + 1 AS a FROM s"]);
}

#[test]
fn what_is_not_to_run_is_in_order() {
    let mut world = World::new();
    let spec = json!({ "sql": "SELECT a FROM s", "sinks": [{ "nop": {} }], "suspend": true });
    world.stream("s", "a BIGINT").apply(Kind::Rule, "r", spec).settle();
    let plan = world.status(Kind::Rule, "r");
    assert_eq!((plan.ready.is_true, plan.ready.reason), (true, Reason::Suspended));
}

#[test]
fn a_generation_runs_only_when_a_pod_says_so() {
    let mut world = World::new();
    world.stream("s", "a BIGINT").rule("r", "SELECT a FROM s").settle();
    let pods = world.snapshot.pods.clone();
    world.rule("r", "SELECT a + 1 AS b FROM s");
    assert_eq!(world.reasons("r"), "Accepted ResolvedRefs !Starting !Starting");
    type Change = fn(&mut PodState, &mut RuleReport);
    let cases: [(&str, Change); 7] = [
        ("!PodNotReady", |pod, _| pod.report = None),
        ("!NotConnected", |_, rule| rule.connected = false),
        ("!Failed", |_, rule| rule.state = RuleState::Failed),
        ("!Refused", |_, rule| (rule.state, rule.generation) = (RuleState::Refused, 0)),
        ("!Starting", |_, rule| rule.generation = 1),
        ("!Starting", |_, rule| rule.uid = "of another one".into()),
        ("Finished", |_, rule| rule.state = RuleState::Done),
    ];
    world.settle();
    for (ready, change) in cases {
        let mut world = World { snapshot: world.snapshot.clone(), registry: world.registry.clone(), n_created: 0 };
        let pod = world.snapshot.pods.iter_mut().find(|pod| pod.runtime == "default").unwrap();
        let mut report = (**pod.report.as_ref().unwrap()).clone();
        pod.report = None;
        change(pod, &mut report.rules[0]);
        if ready != "!PodNotReady" {
            pod.report = Some(Arc::new(report));
        }
        assert_eq!(world.reasons("r").split(' ').next_back(), Some(ready));
    }
    world.snapshot.pods = Vec::new();
    assert_eq!(world.reasons("r"), "Accepted ResolvedRefs !PodNotReady !PodNotReady");
    drop(pods);
}

#[test]
fn workloads() {
    let mut egress = Egress::default();
    egress.ports.insert((None, 1883));
    let plain = workload("plant", "default", None, None, &egress, &settings());
    insta::assert_snapshot!(
        "workload",
        serde_json::to_string_pretty(&json!([
            plain.service_account,
            plain.service,
            plain.stateful_set,
            plain.network_policy
        ]))
        .unwrap()
    );
    let spec: RuntimeSpec = serde_json::from_value(json!({
        "image": "other:2",
        "resources": { "limits": { "memory": "1Gi" } },
        "nodeSelector": { "site": "a" },
        "storage": { "size": "1Gi", "storageClassName": "fast" },
        "httpPush": {
            "address": "::", "port": 9000, "serviceType": "NodePort", "bodyLimit": "8Mi", "concurrency": 64,
            "tls": { "secretName": "cert" }, "clientCa": { "name": "cameras", "key": "authorities.pem" },
        },
        "podTemplate": { "metadata": { "annotations": { "a": "b" } }, "spec": { "priorityClassName": "high" } },
    }))
    .unwrap();
    let full = workload("plant", "edge", Some(&spec), Some("uid"), &egress, &settings());
    insta::assert_snapshot!(
        "workload_full",
        serde_json::to_string_pretty(&json!([full.service_account, full.service, full.stateful_set])).unwrap()
    );
    // Nothing of the template depends on rules.
    let other = workload("plant", "default", None, None, &Egress { is_open: true, ..Egress::default() }, &settings());
    assert_eq!(plain.stateful_set, other.stateful_set);
}

/// Models come from wherever a pod can mount something; what the operator mounts stays.
#[test]
fn a_runtime_mounts_models() {
    for source in [
        json!({ "persistentVolumeClaim": { "claimName": "models" } }),
        json!({ "configMap": { "name": "models" } }),
        json!({ "secret": { "secretName": "models" } }),
        json!({ "hostPath": { "path": "/models" } }),
    ] {
        let mut volume = source.clone();
        volume["name"] = "models".into();
        let spec: RuntimeSpec = serde_json::from_value(json!({
            "image": "sluice:1-inference",
            "podTemplate": { "spec": {
                "volumes": [volume],
                "containers": [{
                    "name": "sluice",
                    "volumeMounts": [{ "name": "models", "mountPath": "/models", "readOnly": true }],
                    "env": [{ "name": "SLUICE_MODELS_DIR", "value": "/models" }],
                }],
            } },
        }))
        .unwrap();
        let made = workload("plant", "edge", Some(&spec), Some("uid"), &Egress::default(), &settings());
        let pod = &made.stateful_set["spec"]["template"]["spec"];
        let has = |list: &Value, item: &Value| list.as_array().unwrap().contains(item);
        assert!(has(&pod["volumes"], &volume), "{}", pod["volumes"]);
        let container = &pod["containers"][0];
        assert_eq!(container["image"], "sluice:1-inference");
        assert!(has(&container["env"], &json!({ "name": "SLUICE_MODELS_DIR", "value": "/models" })));
        assert!(has(&container["env"], &json!({ "name": "SLUICE_STATE_DIR", "value": "/var/lib/sluice" })));
        let mounts: Vec<&Value> =
            container["volumeMounts"].as_array().unwrap().iter().map(|m| &m["mountPath"]).collect();
        assert!(
            ["/etc/sluice/bundle", "/var/lib/sluice", "/tmp", "/models"]
                .iter()
                .all(|path| mounts.contains(&&json!(path)))
        );
    }
}

/// A step of a story.
#[derive(Clone, Debug)]
enum Step {
    Stream(usize, usize),
    Rule(usize, usize, usize),
    DeleteStream(usize),
    DeleteRule(usize),
    Runtime(bool),
    Secret(usize),
    Settle,
    /// Bundles are written, but no pod takes them.
    Write,
    PodGone(usize),
    Disconnect(usize),
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    use proptest::prelude::*;
    let step = prop_oneof![
        3 => (0..2_usize, 0..4_usize).prop_map(|(name, form)| Step::Stream(name, form)),
        5 => (0..3_usize, 0..6_usize, 0..2_usize).prop_map(|(name, form, runtime)| Step::Rule(name, form, runtime)),
        1 => (0..2_usize).prop_map(Step::DeleteStream),
        1 => (0..3_usize).prop_map(Step::DeleteRule),
        1 => any::<bool>().prop_map(Step::Runtime),
        1 => (0..3_usize).prop_map(Step::Secret),
        4 => Just(Step::Settle),
        2 => Just(Step::Write),
        1 => (0..2_usize).prop_map(Step::PodGone),
        1 => (0..2_usize).prop_map(Step::Disconnect),
    ];
    proptest::collection::vec(step, 1..25)
}

fn take(world: &mut World, step: &Step) {
    let runtimes = ["default", "edge"];
    match *step {
        Step::Stream(name, form) => {
            let columns = ["a BIGINT", "b BIGINT", "a STRING, b FLOAT", "a NONSENSE"][form];
            world.stream(["s", "t"][name], columns);
        }
        Step::Rule(name, form, runtime) => {
            let sql = [
                "SELECT a FROM s",
                "SELECT b FROM s",
                "SELECT * FROM t",
                "SELECT FROM",
                "SELECT a FROM nothing",
                "SELECT a FROM t",
            ][form];
            let mut spec = json!({ "sql": sql, "sinks": [{ "nop": {} }], "runtime": runtimes[runtime] });
            if form == 5 {
                spec["sinks"] = json!([{ "memory": { "topic": { "secretKeyRef": { "name": "m", "key": "t" } } } }]);
            }
            world.apply(Kind::Rule, ["x", "y", "z"][name], spec);
        }
        Step::DeleteStream(name) => _ = world.delete(Kind::Stream, ["s", "t"][name]),
        Step::DeleteRule(name) => _ = world.delete(Kind::Rule, ["x", "y", "z"][name]),
        Step::Runtime(true) => _ = world.apply(Kind::Runtime, "edge", json!({})),
        Step::Runtime(false) => _ = world.delete(Kind::Runtime, "edge"),
        Step::Secret(form) => match form {
            0 => _ = world.snapshot.secrets.insert("m".into(), SecretState::Missing),
            1 => _ = world.secret("m", &[("t", "one")]),
            _ => _ = world.secret("m", &[("t", "two")]),
        },
        Step::Settle => _ = world.settle(),
        Step::Write => {
            for (name, runtime) in judge(&world.snapshot, &world.registry).runtimes {
                world.snapshot.bundles.insert(name, runtime.bundle);
            }
        }
        Step::PodGone(runtime) => world.snapshot.pods.retain(|pod| pod.runtime != runtimes[runtime]),
        Step::Disconnect(runtime) => {
            for pod in world.snapshot.pods.iter_mut().filter(|pod| pod.runtime == runtimes[runtime]) {
                let Some(report) = &pod.report else { continue };
                let mut report = (**report).clone();
                report.rules.iter_mut().for_each(|rule| rule.connected = false);
                pod.report = Some(Arc::new(report));
            }
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, cases: 64, ..Default::default() })]

    /// A rule is ready only if a pod says itself that it runs this generation, connected; and what ran once runs on until the rule
    /// is deleted.
    #[test]
    fn ready_is_what_a_pod_says(story in steps()) {
        let mut world = World::new();
        let mut ran: BTreeMap<String, String> = BTreeMap::new();
        for step in &story {
            take(&mut world, step);
            if matches!(step, Step::Runtime(false)) {
                ran.clear();
            }
            let judgement = judge(&world.snapshot, &world.registry);
            let objects = world.snapshot.objects.clone();
            ran.retain(|name, uid| objects.get(&(Kind::Rule, name.clone())).is_some_and(|rule| rule.uid == *uid));
            for plan in statuses(&world.snapshot, &judgement, &settings()).iter().filter(|plan| plan.key.0 == Kind::Rule) {
                let object = &objects[&plan.key];
                let says_so = world.snapshot.pods.iter().filter_map(|pod| pod.report.as_ref()).any(|report| {
                    let mut rules = report.rules.iter();
                    rules.any(|rule| {
                        (&rule.uid, rule.generation, rule.state, rule.connected)
                            == (&object.uid, object.generation, RuleState::Running, true)
                    })
                });
                proptest::prop_assert!(!plan.ready.is_true || says_so, "{} after {step:?}", plan.key.1);
                if plan.ready.is_true {
                    ran.insert(plan.key.1.clone(), plan.uid.clone());
                }
                let is_placed = judgement.rules[&plan.key.1].placement.is_some();
                let had = ran.contains_key(&plan.key.1);
                proptest::prop_assert!(is_placed || !had, "{} does not run any more after {step:?}", plan.key.1);
            }
        }
    }
}
