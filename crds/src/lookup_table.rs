//! The LookupTable kind.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{self, ConfigRef, FieldSpec, OptionMap, TimestampSpec};
use crate::duration::Duration;

/// A table that rules join with: a database, Redis, or what another rule keeps in memory. A definition: it has no pod of its
/// own.
///
/// Either the SQL statement that creates it, or the structured form of the same thing.
#[derive(Clone, Debug, Default, PartialEq, CustomResource, KubeSchema, Serialize, Deserialize)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "LookupTable",
    plural = "lookuptables",
    shortname = "lut",
    category = "sluice",
    namespaced,
    status = "LookupTableStatus",
    derive = "PartialEq",
    doc = "A table that rules join with: a database, Redis, or what another rule keeps in memory",
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
        "!has(self.sql) || !(has(self.name) || has(self.kind) || has(self.datasource) || has(self.format) || \
         has(self.delimiter) || has(self.fields) || has(self.key) || has(self.timestamp) || has(self.strict) || \
         has(self.retainSize))"
    )
    .message("sql says all of this already: name, kind, datasource, format, delimiter, fields, key, timestamp, strict and \
              retainSize go with type, not with sql")
    .reason(Reason::FieldValueInvalid)
)]
#[x_kube(
    validation = Rule::new("!(has(self.kind) && self.kind == 'scan') || !(has(self.cache) || has(self.onError) || has(self.timeout))")
        .message("a scan table holds its rows itself: cache, onError and timeout are for kind lookup")
        .reason(Reason::FieldValueInvalid)
)]
#[x_kube(
    validation = Rule::new("(has(self.kind) && self.kind == 'scan') || !(has(self.retainSize) || has(self.timestamp) || has(self.strict))")
        .message("retainSize, timestamp and strict are for kind scan")
        .reason(Reason::FieldValueInvalid)
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LookupTableSpec {
    /// The CREATE TABLE statement: CREATE TABLE sites () WITH (DATASOURCE="sites", TYPE="sql", KIND="lookup").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32768))]
    pub sql: Option<String>,
    /// Name in SQL; the object's own name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[^`]+$"))]
    pub name: Option<String>,
    /// How the table is joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<TableKind>,
    /// Connector: sql, redis, memory, ... (a source connector for kind scan).
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub ty: Option<String>,
    /// What the connector calls its address: a table, a database number, a topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub datasource: Option<String>,
    /// Format of the values, for connectors whose values are bytes; json if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub format: Option<String>,
    /// What stands between two columns of the delimited format; a comma if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub delimiter: Option<String>,
    /// Declared columns. None: the table takes any column.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub fields: Vec<FieldSpec>,
    /// Primary key column, for connectors that need one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
    /// Kind scan: the column that holds the time of a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<TimestampSpec>,
    /// Kind scan: every declared column is checked and converted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
    /// Kind scan: how many rows are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000000))]
    pub retain_size: Option<i32>,
    /// The cache in front of the table; shared by all rules of a runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheSpec>,
    /// What happens to a row whose lookup failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
    /// Limit for one lookup. Default 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Options of the connector, laid over those of the profile and of EXTRA. Any value may be
    /// {secretKeyRef: {name, key}}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<OptionMap>,
    /// Where shared configuration of the connector comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ConfigRef>,
}

/// How a table is joined. lookup: asked by key for each row. scan: keeps its last rows and is joined as it stands. Default
/// lookup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// Asked by key for each row.
    #[default]
    Lookup,
    /// Keeps its last rows and is joined as it stands.
    Scan,
}

/// What happens to a row whose lookup failed: drop it, go on with null columns, or wait and retry. Default drop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// It is dropped and counted.
    #[default]
    Drop,
    /// It goes on without the table's columns.
    Null,
    /// It waits, and all behind it, until the table answers.
    Retry,
}

/// The cache in front of a lookup table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CacheSpec {
    /// Turns the cache on or off. Default: on where `cache` is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// How long an entry is good. Default: until it is pushed out by newer ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// Remember keys that have no row, too. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<bool>,
    /// Greatest number of entries. Default 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100000000))]
    pub max_entries: Option<i32>,
}

/// What is known of a lookup table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LookupTableStatus {
    /// The generation that this status is about.
    pub observed_generation: Option<i64>,
    /// Accepted, ResolvedRefs, Ready.
    #[schemars(schema_with = "common::conditions")]
    pub conditions: Vec<Condition>,
    /// Name in SQL.
    pub name: Option<String>,
    /// Connector.
    #[serde(rename = "type")]
    pub ty: Option<String>,
    /// Number of rules that join with the table.
    pub rules: Option<i64>,
    /// Names of the rules that join with the table; the first hundred.
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "set"))]
    pub used_by: Vec<String>,
}
