//! Arguments. Each is an environment variable too, which is what the Helm chart sets.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use sluice::options::HumanDuration;

/// Runs Streams, LookupTables and Rules of a Kubernetes cluster in pods.
#[derive(Clone, Debug, Parser)]
#[command(name = "sluice-operator", version)]
pub struct Arguments {
    /// Namespaces that are served, separated by commas; none: all of the cluster
    #[arg(long, value_name = "NAMES", env = "SLUICE_WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// Namespace that the operator itself runs in: its Lease and its webhook's Secret are there
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// Name of this process in the Lease
    #[arg(long, value_name = "NAME", env = "POD_NAME", default_value = "sluice-operator")]
    pub identity: String,
    /// Image of the runtime pods, unless a Runtime names another
    #[arg(long, value_name = "IMAGE", env = "SLUICE_RUNTIME_IMAGE")]
    pub runtime_image: String,
    /// When the nodes pull it
    #[arg(
        long,
        value_name = "POLICY",
        env = "SLUICE_RUNTIME_IMAGE_PULL_POLICY",
        value_enum,
        default_value = "IfNotPresent"
    )]
    pub runtime_image_pull_policy: PullPolicy,
    /// Names of Secrets, in the runtimes' namespaces, that the image is pulled with; separated by commas
    #[arg(long, value_name = "NAMES", env = "SLUICE_RUNTIME_IMAGE_PULL_SECRETS", value_delimiter = ',')]
    pub runtime_image_pull_secrets: Vec<String>,
    /// A YAML file with the `spec` of a Runtime: what all runtimes have unless their object says otherwise
    #[arg(long, value_name = "FILE", env = "SLUICE_RUNTIME_DEFAULTS")]
    pub runtime_defaults: Option<PathBuf>,
    /// Make a NetworkPolicy for each runtime
    #[arg(long, value_name = "BOOL", env = "SLUICE_NETWORK_POLICIES", default_value_t = true, action = clap::ArgAction::Set)]
    pub network_policies: bool,
    /// Only the holder of a Lease acts, so that a second replica can stand by
    #[arg(long, value_name = "BOOL", env = "SLUICE_LEADER_ELECT", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Name of that Lease
    #[arg(long, value_name = "NAME", env = "SLUICE_LEASE_NAME", default_value = "sluice-operator")]
    pub lease_name: String,
    /// Where metrics and probes are served
    #[arg(long, value_name = "ADDR", env = "SLUICE_HTTP", default_value = "0.0.0.0:8080")]
    pub http: SocketAddr,
    /// Serve the validating webhook
    #[arg(long, value_name = "BOOL", env = "SLUICE_WEBHOOK", default_value_t = true, action = clap::ArgAction::Set)]
    pub webhook: bool,
    /// Where
    #[arg(long, value_name = "ADDR", env = "SLUICE_WEBHOOK_ADDRESS", default_value = "0.0.0.0:9443")]
    pub webhook_address: SocketAddr,
    /// Names and addresses that its certificate is for, separated by commas; usually SERVICE.NAMESPACE.svc
    #[arg(
        long,
        value_name = "NAMES",
        env = "SLUICE_WEBHOOK_NAMES",
        value_delimiter = ',',
        default_value = "sluice-operator-webhook.default.svc"
    )]
    pub webhook_names: Vec<String>,
    /// The ValidatingWebhookConfiguration that its CA is put into
    #[arg(long, value_name = "NAME", env = "SLUICE_WEBHOOK_CONFIGURATION", default_value = "sluice-operator")]
    pub webhook_configuration: String,
    /// The Secret, in the operator's namespace, that holds its CA and certificate
    #[arg(long, value_name = "NAME", env = "SLUICE_WEBHOOK_SECRET", default_value = "sluice-operator-webhook")]
    pub webhook_secret: String,
    /// How long a certificate of the webhook is good; it is renewed after two thirds of it
    #[arg(long, value_name = "TIME", env = "SLUICE_WEBHOOK_CERTIFICATE_LIFE", default_value = "2160h", value_parser = duration)]
    pub webhook_certificate_life: Duration,
    /// How often Secrets that are used are looked at
    #[arg(long, value_name = "TIME", env = "SLUICE_SECRET_INTERVAL", default_value = "10s", value_parser = duration)]
    pub secret_interval: Duration,
    /// How often counters of rules are written to their status, at most
    #[arg(long, value_name = "TIME", env = "SLUICE_COUNTER_INTERVAL", default_value = "60s", value_parser = duration)]
    pub counter_interval: Duration,
    /// Port on which runtime pods serve their status
    #[arg(long, value_name = "PORT", env = "SLUICE_RUNTIME_PORT", default_value_t = 8080)]
    pub runtime_port: u16,
    /// Secrets that the bundle of a runtime may be spread over, each of 1 MB; what does not fit is refused
    #[arg(long, value_name = "N", env = "SLUICE_BUNDLE_SECRETS", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub bundle_secrets: u8,
    /// How log lines look; they go to standard error
    #[arg(long, env = "SLUICE_LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,
    /// What is logged: `warn`, `info`, `debug`, or per module: `info,sluice_operator::webhook=debug`
    #[arg(long, value_name = "LEVEL", env = "SLUICE_LOG", default_value = "info")]
    pub log_level: String,
}

/// When a node pulls an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum PullPolicy {
    /// Before each start
    Always,
    /// When it is not there
    IfNotPresent,
    /// It must be there
    Never,
}

impl PullPolicy {
    /// The word in a pod.
    pub fn as_str(self) -> &'static str {
        match self {
            PullPolicy::Always => "Always",
            PullPolicy::IfNotPresent => "IfNotPresent",
            PullPolicy::Never => "Never",
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// An object per line
    Json,
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<HumanDuration>().map(|duration| duration.0).map_err(|error| error.to_string())
}
