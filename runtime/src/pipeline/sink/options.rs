//! The options that every sink has.

use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::sql::nearest;

use crate::definition::SinkDef;
use crate::error::ConfigError;
use crate::format::compression::Compression;
use crate::options::{HumanDuration, Options};
use crate::sink::SinkType;

/// Options that every sink has, beside its own.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SinkOptions {
    /// One message per row instead of one per result. Without it a message always holds an array.
    pub send_single: bool,
    /// Leave out results without rows, and with `sendSingle` rows without columns.
    pub omit_if_empty: bool,
    /// A Go text template that makes the message; dot is the list of rows, or with `sendSingle` the row.
    pub data_template: Option<String>,
    /// Send the object, or list of objects, in this column instead of the row.
    #[serde(alias = "tableDataField")]
    #[schemars(extend("x-alias" = "tableDataField"))]
    pub data_field: Option<String>,
    /// The columns to send, in this order; those that a row lacks are `null`.
    pub fields: Option<Vec<String>>,
    /// The columns to leave out; not together with `fields`.
    pub exclude_fields: Option<Vec<String>>,
    /// Format of the messages.
    pub format: String,
    /// Text between two columns, for format `delimited`.
    pub delimiter: Option<String>,
    /// A first line with the columns' names, for format `delimited`.
    pub has_header: bool,
    /// Send so many results together, as one array.
    pub batch_size: usize,
    /// Send together what arrives within this span of time.
    pub linger_interval: HumanDuration,
    /// Compress each message.
    pub compression: Option<Compression>,
    /// Give up on a message or row after so many tries; without it, it is tried until it goes through.
    #[schemars(range(min = 1))]
    pub max_attempts: Option<u32>,
}

impl Default for SinkOptions {
    fn default() -> Self {
        SinkOptions {
            send_single: false,
            omit_if_empty: false,
            data_template: None,
            data_field: None,
            fields: None,
            exclude_fields: None,
            format: "json".to_owned(),
            delimiter: None,
            has_header: false,
            batch_size: 0,
            linger_interval: HumanDuration::default(),
            compression: None,
            max_attempts: None,
        }
    }
}

/// Parts a sink's options into those common to all sinks and its own. A common option that the sink's schema names too is the
/// sink's; a name that neither knows goes to the side that knows one like it, whose error then says so.
pub(super) fn split(def: &SinkDef, sink_type: &SinkType) -> (Options, Options) {
    let names = |schema: schemars::Schema| -> Vec<String> {
        let properties = schema.get("properties").and_then(serde_json::Value::as_object);
        properties.map(|map| map.keys().cloned().collect()).unwrap_or_default()
    };
    let mut common_names = names(schemars::schema_for!(SinkOptions));
    common_names.push("tableDataField".to_owned());
    let own_names = names((sink_type.schema)());
    let holds = |names: &[String], name: &str| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    let (mut common, mut own) = (Options::default(), Options::default());
    for (name, value) in &def.options.0 {
        let is_common = if holds(&own_names, name) {
            false
        } else if holds(&common_names, name) {
            true
        } else {
            let known = own_names.iter().chain(&common_names).map(String::as_str);
            nearest(name, known).is_some_and(|near| !holds(&own_names, near))
        };
        let side = if is_common { &mut common } else { &mut own };
        side.0.insert(name.clone(), value.clone());
    }
    (common, own)
}

impl SinkOptions {
    /// Reads the options common to all sinks.
    pub(super) fn read(options: &Options) -> Result<Self, ConfigError> {
        let options: SinkOptions = options.parse()?;
        if options.fields.is_some() && options.exclude_fields.is_some() {
            return Err(ConfigError::new("excludeFields", "can't be used together with `fields`; keep one of the two"));
        }
        Ok(options)
    }
}
