//! The Stream kind.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{self, ConfigRef, FieldSpec, OptionMap, TimestampSpec};

/// A stream of rows from outside, which rules read by its SQL name. A definition: it has no pod of its own.
///
/// Either the SQL statement that creates it, or the structured form of the same thing.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, KubeSchema, Serialize, Deserialize)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "Stream",
    plural = "streams",
    shortname = "sstr",
    category = "sluice",
    namespaced,
    status = "StreamStatus",
    derive = "PartialEq",
    doc = "A stream of rows from outside, which rules read by its SQL name",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Type", type_ = "string", json_path = ".status.type"),
    printcolumn(name = "Rules", type_ = "integer", json_path = ".status.rules"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("has(self.sql) != has(self.type)")
        .message("give either sql or the structured form (type, datasource, ...), one of the two")
        .reason(Reason::FieldValueInvalid)
)]
#[x_kube(
    validation = Rule::new(
        "!has(self.sql) || !(has(self.name) || has(self.datasource) || has(self.format) || has(self.delimiter) || \
         has(self.fields) || has(self.timestamp) || has(self.strict) || has(self.shared))"
    )
    .message("sql says all of this already: name, datasource, format, delimiter, fields, timestamp, strict and shared go \
              with type, not with sql")
    .reason(Reason::FieldValueInvalid)
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamSpec {
    /// The CREATE STREAM statement: CREATE STREAM demo () WITH (DATASOURCE="demo", FORMAT="json", TYPE="mqtt").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32768))]
    pub sql: Option<String>,
    /// Name in SQL; the object's own name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[^`]+$"))]
    pub name: Option<String>,
    /// Source connector: mqtt, file, memory, simulator, ...
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub ty: Option<String>,
    /// What the connector calls its address: a topic, a path, a file name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub datasource: Option<String>,
    /// Format of the payloads; json if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub format: Option<String>,
    /// What stands between two columns of the delimited format; a comma if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub delimiter: Option<String>,
    /// Declared columns. None: the stream takes any column.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub fields: Vec<FieldSpec>,
    /// The column that holds the time of a row, for rules with `eventTime: true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<TimestampSpec>,
    /// Every declared column is checked and converted; a row that does not fit is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
    /// One connection and one decoder for all rules of a runtime that read this stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<bool>,
    /// Options of the connector, laid over those of the profile and of EXTRA. Any value may be
    /// {secretKeyRef: {name, key}}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<OptionMap>,
    /// Where shared configuration of the connector comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ConfigRef>,
}

/// What is known of a stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StreamStatus {
    /// The generation that this status is about.
    pub observed_generation: Option<i64>,
    /// Accepted, ResolvedRefs, Ready.
    #[schemars(schema_with = "common::conditions")]
    pub conditions: Vec<Condition>,
    /// Name in SQL.
    pub name: Option<String>,
    /// Source connector.
    #[serde(rename = "type")]
    pub ty: Option<String>,
    /// Number of rules that read the stream.
    pub rules: Option<i64>,
    /// Names of the rules that read the stream; the first hundred.
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "set"))]
    pub used_by: Vec<String>,
}
