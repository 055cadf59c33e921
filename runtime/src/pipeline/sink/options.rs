//! The options that every sink has.

use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::sql::nearest;

use crate::definition::SinkDef;
use crate::error::ConfigError;
use crate::format::compression::Compression;
use crate::options::{ByteSize, HumanDuration, Options};
use crate::sink::SinkType;

use super::aside::DeadLetter;

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
    /// Results wait in a queue while the far side does not take them, in memory first and then on the state volume
    /// (`--state-dir`), and go on from there after a restart.
    pub enable_cache: bool,
    /// Messages, or batches of rows, that a queue holds in memory before it goes to disk.
    #[schemars(range(min = 1))]
    pub memory_cache_threshold: usize,
    /// Messages, or batches of rows, that a queue holds on disk. What happens when it is full says the rule's `backpressure`.
    #[schemars(range(min = 1))]
    pub max_disk_cache: usize,
    /// Bytes that a queue holds on disk.
    pub max_disk_size: ByteSize,
    /// What has waited for longer is not sent any more, but counted; 0 = no limit.
    pub max_cache_age: HumanDuration,
    /// Known for its name only: a queue is written as results come.
    pub buffer_page_size: Option<usize>,
    /// The pause between two tries; by default pauses grow from 100 ms to 30 s.
    pub resend_interval: HumanDuration,
    /// Throw away what waits in the queue when the rule stops.
    pub clean_cache_at_stop: bool,
    /// Where messages and rows go that can't be encoded or are refused for good, with the reason: a sink of its own, as in
    /// `{mqtt: {...}}`, or `{file: {path: dead.ndjson}}`. Each has the columns `at`, `rule`, `sink`, `reason`, `rows`, and
    /// `payload` (or `payloadBase64`) or `row`.
    pub(super) dead_letter: Option<DeadLetter>,
    /// Where results go while the far side does not answer, after `maxAttempts` tries (3): a sink of its own, as in
    /// `{mqtt: {...}}`. It gets the messages as they are. Results of the two are in no common order.
    pub(super) alternate: Option<DeadLetter>,
    /// Results that failed go to a second sink of the same options, with a queue of its own, and the others go on: short for an
    /// `alternate`.
    pub resend_alter_queue: bool,
    /// With `resendAlterQueue`: the `topic` of the second sink.
    pub resend_destination: Option<String>,
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
            enable_cache: false,
            memory_cache_threshold: 1024,
            max_disk_cache: 1_024_000,
            max_disk_size: ByteSize(256 << 20),
            max_cache_age: HumanDuration::default(),
            buffer_page_size: None,
            resend_interval: HumanDuration::default(),
            clean_cache_at_stop: false,
            dead_letter: None,
            alternate: None,
            resend_alter_queue: false,
            resend_destination: None,
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
    let mut common_names = names(crate::options::schema_of::<SinkOptions>());
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
    /// The alternate sink, if there is to be one.
    pub(super) fn alternate(&self, def: &SinkDef) -> Option<Result<SinkDef, ConfigError>> {
        match (&self.alternate, self.resend_alter_queue) {
            (Some(other), false) => Some(other.sink().map_err(|error| error.below("alternate"))),
            (Some(_), true) => Some(Err(ConfigError::new(
                "resendAlterQueue",
                "can't be used together with `alternate`; keep one of the two",
            ))),
            (None, true) => {
                let mut options = def.options.clone();
                let own = ["resendAlterQueue", "resendDestination", "deadLetter", "maxAttempts"];
                options.0.retain(|name, _| !own.iter().any(|own| own.eq_ignore_ascii_case(name)));
                options.0.insert("enableCache".to_owned(), true.into());
                if let Some(topic) = &self.resend_destination {
                    options.0.retain(|name, _| !name.eq_ignore_ascii_case("topic"));
                    options.0.insert("topic".to_owned(), topic.as_str().into());
                }
                Some(Ok(SinkDef { connector: def.connector.clone(), options }))
            }
            (None, false) => None,
        }
    }

    /// Reads the options common to all sinks.
    pub(super) fn read(options: &Options) -> Result<Self, ConfigError> {
        let options: SinkOptions = options.parse()?;
        if options.fields.is_some() && options.exclude_fields.is_some() {
            return Err(ConfigError::new("excludeFields", "can't be used together with `fields`; keep one of the two"));
        }
        Ok(options)
    }
}
