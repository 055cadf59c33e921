//! `influx`: InfluxDB 1.

use schemars::JsonSchema;
use serde::Deserialize;

use super::points::{InfluxSink, PointOptions, Points};
use super::{Sink, SinkArgs, SinkType, Takes};
use crate::connection::http::parse_url;
use crate::connection::influx::{Credentials, InfluxTarget, below};
use crate::connection::tls::TlsOptions;
use crate::error::ConfigError;
use crate::format::line_protocol::Precision;
use crate::options::{HumanDuration, Secret};

/// The sink `influx`.
pub(super) const INFLUX: SinkType = SinkType {
    name: "influx",
    docs: "Writes rows as points to InfluxDB 1.",
    schema: crate::options::schema_of::<InfluxOptions>,
    takes: Takes::Rows,
    templates: &[],
    build,
};

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct InfluxOptions {
    /// The server: `http://host:8086`.
    addr: String,
    /// User name, if the server wants one.
    #[serde(default)]
    username: String,
    /// Its password.
    #[serde(default)]
    password: Secret,
    /// The database.
    database: String,
    /// The retention policy; the database's default one without it.
    #[serde(default)]
    retention_policy: String,
    /// The measurement; may be a template over the row.
    measurement: String,
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

/// The compression that InfluxDB takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Gzip {
    /// gzip
    Gzip,
}

pub(super) fn default_timeout() -> HumanDuration {
    HumanDuration::from_secs(10)
}

fn build(args: &SinkArgs<'_>) -> Result<Box<dyn Sink>, ConfigError> {
    let options: InfluxOptions = args.options.parse()?;
    options.tls.check()?;
    let base = parse_url("addr", &options.addr)?;
    let mut write = below(&base, "write");
    // Version 1 has names of its own for the two finest units.
    let precision = match options.points.precision() {
        Precision::Ns => "n",
        Precision::Us => "u",
        other => other.as_str(),
    };
    write.query_pairs_mut().append_pair("db", &options.database).append_pair("precision", precision);
    if !options.retention_policy.is_empty() {
        write.query_pairs_mut().append_pair("rp", &options.retention_policy);
    }
    let credentials = if options.username.is_empty() {
        Credentials::None
    } else {
        Credentials::Basic { username: options.username, password: options.password }
    };
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
