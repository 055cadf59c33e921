//! `influx2`: InfluxDB 2, and what else takes its `/api/v2/write`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::influx::{Gzip, default_timeout};
use super::points::{InfluxSink, PointOptions, Points};
use super::{Sink, SinkArgs, SinkType, Takes};
use crate::connection::http::parse_url;
use crate::connection::influx::{Credentials, InfluxTarget, below};
use crate::connection::tls::TlsOptions;
use crate::error::ConfigError;
use crate::options::{HumanDuration, Secret};

/// The sink `influx2`.
pub(super) const INFLUX2: SinkType = SinkType {
    name: "influx2",
    docs: "Writes rows as points to InfluxDB 2.",
    schema: crate::options::schema_of::<Influx2Options>,
    takes: Takes::Rows,
    templates: &[],
    build,
};

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Influx2Options {
    /// The server: `http://host:8086`.
    addr: String,
    /// The API token.
    #[serde(default)]
    token: Secret,
    /// The organisation.
    org: String,
    /// The bucket.
    bucket: String,
    /// The measurement; may be a template over the row.
    measurement: String,
    /// Taken for compatibility: rows are always written as line protocol, rightly escaped.
    #[serde(default, rename = "useLineProtocol")]
    _use_line_protocol: bool,
    /// Compress what is written.
    #[serde(default)]
    compression: Option<Gzip>,
    /// Longest time for one write.
    #[serde(default = "default_timeout")]
    timeout: HumanDuration,
    #[serde(flatten)]
    points: PointOptions,
    #[serde(flatten)]
    tls: TlsOptions,
}

fn build(args: &SinkArgs<'_>) -> Result<Box<dyn Sink>, ConfigError> {
    let options: Influx2Options = args.options.parse()?;
    options.tls.check()?;
    let base = parse_url("addr", &options.addr)?;
    let mut write = below(&base, "api/v2/write");
    write
        .query_pairs_mut()
        .append_pair("org", &options.org)
        .append_pair("bucket", &options.bucket)
        .append_pair("precision", options.points.precision().as_str());
    let credentials = if options.token.is_empty() { Credentials::None } else { Credentials::Token(options.token) };
    let target = InfluxTarget {
        base,
        write,
        credentials,
        gzip: options.compression.is_some(),
        timeout: options.timeout.0,
        tls: options.tls,
    };
    Ok(Box::new(InfluxSink::new(target, Points::new(&options.measurement, &options.points)?)))
}
