//! The Rule kind.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::common::{self, Counters, OptionMap};
use crate::duration::Duration;

/// A SELECT over streams and tables, and the sinks that its rows go to. Runs in the runtime that it names.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, KubeSchema, Serialize, Deserialize)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "Rule",
    plural = "rules",
    shortname = "rule",
    category = "sluice",
    namespaced,
    status = "RuleStatus",
    derive = "PartialEq",
    doc = "A SELECT over streams and tables, and the sinks that its rows go to",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Runtime", type_ = "string", json_path = ".status.runtime"),
    printcolumn(name = "In", type_ = "integer", json_path = ".status.counters.in"),
    printcolumn(name = "Out", type_ = "integer", json_path = ".status.counters.out"),
    printcolumn(name = "Errors", type_ = "integer", json_path = ".status.counters.errors"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleSpec {
    /// The SELECT statement: SELECT * FROM demo INNER JOIN sites ON demo.id = sites.id.
    #[schemars(length(min = 1, max = 65536))]
    pub sql: String,
    /// Where the rows go: a list of entries with one key each, the sink's type, which holds the sink's options. Any option
    /// may be {secretKeyRef: {name, key}}.
    #[schemars(length(min = 1, max = 32))]
    pub sinks: Vec<Sink>,
    /// How the rule runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<RuleOptions>,
    /// The rule is kept, but does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// The Runtime that runs the rule; `default` if absent. Rules that share a stream, a connection or a memory topic
    /// belong on one runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 45), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub runtime: Option<String>,
}

/// One sink: `{mqtt: {server: "tcp://broker:1883", topic: out}}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sink {
    /// The sink's type.
    pub ty: String,
    /// Its options, and those that are common to all sinks.
    pub options: OptionMap,
}

impl Serialize for Sink {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Map::from_iter([(self.ty.clone(), Value::Object(self.options.0.clone()))]).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Sink {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut entries = Map::<String, Value>::deserialize(deserializer)?.into_iter();
        match (entries.next(), entries.next()) {
            (Some((ty, Value::Object(options))), None) => Ok(Sink { ty, options: OptionMap(options) }),
            (Some((ty, Value::Null)), None) => Ok(Sink { ty, options: OptionMap::default() }),
            (Some(_), None) => Err(serde::de::Error::custom("the options of a sink are a map")),
            _ => Err(serde::de::Error::custom(
                "an entry of sinks has one key, the sink's type; write a list entry for each sink",
            )),
        }
    }
}

impl JsonSchema for Sink {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Sink".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut options = OptionMap::json_schema(generator);
        // `- stdout:` is a sink without options.
        options.insert("nullable".to_owned(), true.into());
        json_schema!({
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": options,
        })
    }
}

/// How a rule runs.
#[derive(Clone, Debug, Default, PartialEq, KubeSchema, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.duration) || has(self.cron)")
        .message("duration is the run time of one activation: it needs cron")
        .reason(Reason::FieldValueInvalid)
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleOptions {
    /// Log this rule in detail. Taken for rules that have it; without effect, since logs are set for the whole process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debug: Option<bool>,
    /// Rows carry their own time: the TIMESTAMP column of their stream. Default false: a row's time is its arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_time: Option<bool>,
    /// Event time: how far the watermark trails the newest row. Default 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_tolerance: Option<Duration>,
    /// Event time: a stream that is silent for longer no longer holds the others back. Default: it does for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    /// The end of a finite input closes windows that are still open. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flush_at_end: Option<bool>,
    /// What happens to a row that fails in an expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<RuleErrorPolicy>,
    /// Where late rows go, besides being counted: a sink as in sinks. Each becomes {rule, reason, ts, row}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_sink: Option<Sink>,
    /// Where rows go that fail in an expression or have no usable timestamp, besides being counted: a sink as in sinks. Each
    /// becomes {rule, reason, ts, error, row}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_sink: Option<Sink>,
    /// Event time: a row whose time is further ahead of the clock has no usable timestamp, so that one wrong clock does not
    /// make all others late. Default: any time is believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_clock_drift: Option<Duration>,
    /// What * is on a stream without declared columns: all columns, or, as in eKuiper, those that are named before it.
    /// Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub star_columns: Option<StarColumns>,
    /// How the statement is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_optimize_strategy: Option<PlanOptimizeStrategy>,
    /// Errors go to the sinks as {"error": "..."}. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_error: Option<bool>,
    /// Selected columns that are missing or null are written as null. Default false: they are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_nil_field: Option<bool>,
    /// Metadata of the source goes to the sinks with each row. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_meta_to_sink: Option<bool>,
    /// Parallel workers for decoding and encoding. Taken for rules that have it; without effect, since the stages of a rule run
    /// side by side by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: Option<i32>,
    /// Batches that each channel of the rule holds before its producer has to wait. Default 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000000))]
    pub buffer_length: Option<i32>,
    /// What happens to rows when the rule or a sink is too slow for them. Default block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backpressure: Option<Backpressure>,
    /// Delivery: 0 at most once, 1 at least once, 2 exactly once in state and in sinks that can. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2))]
    pub qos: Option<i32>,
    /// Time between two checkpoints, for qos 1 and 2. Default 300s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_interval: Option<Duration>,
    /// What happens to the state of qos 1 and 2 when the statement changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_on_change: Option<StatePolicy>,
    /// What happens after the rule has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_strategy: Option<RestartStrategy>,
    /// When the rule runs: a cron expression with five fields; needs duration. Default: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub cron: Option<String>,
    /// With cron: how long the rule runs each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// Spans of time in which the rule may run. Default: any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub cron_datetime_range: Vec<CronRange>,
    /// The time zone of cron and cronDatetimeRange, as Europe/Berlin. Default UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
}

/// What happens to a row that fails in an expression: drop (it is counted), or fail (the rule fails). Default drop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleErrorPolicy {
    /// It is dropped and counted.
    #[default]
    Drop,
    /// The rule fails.
    Fail,
}

/// What * is on a stream without declared columns: all (its columns), or named (as in eKuiper: behind columns in the select
/// list, * and that of count(*) is only these, and columns that are named later are missing).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StarColumns {
    /// All columns.
    #[default]
    All,
    /// Those that are named before it.
    Named,
}

/// How a statement is planned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanOptimizeStrategy {
    /// Variants of windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_option: Option<WindowOption>,
    /// Taken for eKuiper's sake; windows always count as rows arrive where the result is the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_incremental_window: Option<bool>,
    /// Taken for eKuiper's sake, without effect on results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_alias_pushdown: Option<bool>,
    /// Names in the select list are columns, never the aliases of other items. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_alias_ref_cal: Option<bool>,
    /// Optimisations that are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimize_control: Option<OptimizeControl>,
}

/// Optimisations that are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OptimizeControl {
    /// predicatePushDown: WHERE runs behind windows and joins. The others change no results.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub disable_optimize_rules: Vec<OptimizeRule>,
}

/// An optimisation: columnPruner, predicatePushDown, pushAliasDecode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OptimizeRule {
    /// Columns that nobody reads are not decoded.
    ColumnPruner,
    /// Conditions run as early as they can.
    PredicatePushDown,
    /// Columns get their aliases while they are decoded.
    PushAliasDecode,
}

/// Variants of windows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WindowOption {
    /// v2: sliding windows without the instant at which they begin, sent as soon as their trigger is there. Sliding and state
    /// windows only. Default v1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_version: Option<WindowVersion>,
    /// Sliding windows with a delay are sent in two parts: up to the trigger, and from there on. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_send_sliding_window_twice: Option<bool>,
}

/// Version of the windows: v1 or v2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WindowVersion {
    /// The usual ones.
    #[default]
    V1,
    /// Sliding and state windows only.
    V2,
}

/// What happens to rows when a rule or a sink is too slow for them: block (whatever is before waits, up to the source),
/// dropOldest and dropNewest (rows are dropped and counted), or spill (they wait on disk, before each sink).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Backpressure {
    /// Whatever is before waits, up to the source.
    #[default]
    Block,
    /// Those that have waited longest are dropped.
    DropOldest,
    /// Those that come are dropped.
    DropNewest,
    /// They wait on disk, before each sink.
    Spill,
}

/// What happens to state when the statement has changed: keep what matches, reset all, or refuse to start. Default keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StatePolicy {
    /// Operators that are the same go on with what they had.
    #[default]
    Keep,
    /// All begin empty.
    Reset,
    /// The rule does not start.
    Refuse,
}

/// What happens after a rule has failed: it is started again after a pause that grows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestartStrategy {
    /// How often in a row it is started again before it is given up; 0 is not at all. Default 3, with onError: fail 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000000))]
    pub attempts: Option<i32>,
    /// The first pause. Default 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Duration>,
    /// By what each pause is longer than the one before. Default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1.0, max = 100.0))]
    pub multiplier: Option<f64>,
    /// The longest pause. Default 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_delay: Option<Duration>,
    /// A rule that has run so long is healthy: attempts are counted anew. Default 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_after: Option<Duration>,
    /// How much of a pause is random, so that rules do not start all at once. Default 0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub jitter_factor: Option<f64>,
}

/// A span of time in which a rule may run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CronRange {
    /// First moment, as 2026-01-31 08:00:00, in the rule's timeZone.
    #[schemars(length(min = 1, max = 64))]
    pub begin: String,
    /// End, as 2026-01-31 18:00:00, in the rule's timeZone.
    #[schemars(length(min = 1, max = 64))]
    pub end: String,
}

/// What is known of a rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RuleStatus {
    /// The generation that this status is about.
    pub observed_generation: Option<i64>,
    /// Accepted, ResolvedRefs, Running, Ready; Reconciling and Stalled while they are true.
    #[schemars(schema_with = "common::conditions")]
    pub conditions: Vec<Condition>,
    /// The Runtime that runs the rule.
    pub runtime: Option<String>,
    /// What each pod of the runtime says.
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["pod"]))]
    pub pods: Vec<PodBinding>,
    /// Rows counted, over all pods.
    pub counters: Option<Counters>,
    /// The newest error.
    #[schemars(length(max = 4096))]
    pub last_error: Option<String>,
    /// When it happened.
    pub last_error_time: Option<Time>,
}

/// What one pod says of a rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodBinding {
    /// Name of the pod.
    pub pod: String,
    /// The generation of the rule that it runs.
    #[serde(default)]
    pub generation: Option<i64>,
    /// How the rule is there.
    #[serde(default)]
    pub state: RuleState,
    /// Why it is not running, or what is wrong.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// How often it was started again after a failure.
    #[serde(default)]
    pub restarts: Option<i64>,
}

/// How a rule is in a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RuleState {
    /// Not started yet.
    #[default]
    Pending,
    /// Started, but a source or sink is not connected.
    Connecting,
    /// Running, with all sources and sinks connected.
    Running,
    /// All of its sources have ended.
    Finished,
    /// Not to run.
    Suspended,
    /// Waits for the time at which its schedule has it run.
    Scheduled,
    /// Stopped by an error, and about to start again.
    Restarting,
    /// Stopped by an error.
    Failed,
}
