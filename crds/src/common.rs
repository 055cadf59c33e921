//! Value types that several kinds share.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Options of a connector, as its reference page lists them. Any value may be `{secretKeyRef: {name, key}}`.
///
/// An open map: the connector's own typed config checks it, in the admission webhook, in `sluice check` and before it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OptionMap(pub Map<String, Value>);

impl JsonSchema for OptionMap {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "OptionMap".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "maxProperties": 128, "x-kubernetes-preserve-unknown-fields": true })
    }
}

/// One key of a Secret in the object's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A Secret in the object's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Where a connector's shared configuration comes from: files such as `mqtt.yaml` or `sql.yaml` in a Secret, each with named
/// groups of options (profiles).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigRef {
    /// The Secret that holds the files. Without it, the Secret `sluice-sources` is used if it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// The group of the file that is laid over its `default` group. Same as CONF_KEY in SQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub profile: Option<String>,
}

/// One declared column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FieldSpec {
    /// Column name.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[^`]+$"))]
    pub name: String,
    /// Type as in SQL: bigint, float, string, bytea, datetime, boolean, array(TYPE), struct(NAME TYPE, ...).
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 4096))]
    pub ty: String,
    /// Value of the column where a row has none; needs `strict`. A literal as in SQL: 0, 1.5, "text", true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub default: Option<String>,
}

/// The column that holds the time of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TimestampSpec {
    /// Column name. Rules with `eventTime: true` take the time of a row from it.
    #[schemars(length(min = 1, max = 253))]
    pub field: String,
    /// Format of a text column, such as yyyy-MM-dd HH:mm:ss. Numbers are milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub format: Option<String>,
}

/// Rows counted since the rule was started. Written seldom, and only on change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Counters {
    /// Rows that came in.
    #[serde(rename = "in")]
    pub rows_in: i64,
    /// Rows that went out.
    #[serde(rename = "out")]
    pub rows_out: i64,
    /// Rows or messages that failed.
    pub errors: i64,
    /// Rows that came after their window had closed.
    pub late: i64,
}

/// The schema of `status.conditions`: a list keyed by type, so that two writers do not disturb each other.
pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
    json_schema!({
        "type": "array",
        "items": generator.subschema_for::<Condition>(),
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}
