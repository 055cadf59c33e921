//! Commands of `sluice` and their arguments.

mod bundle;
mod check;
mod client;
mod log;
mod run;
mod watch;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use sluice::connection::http_server::{ServerSettings, TlsFiles};
use sluice::options::{ByteSize, HumanDuration};
use sluice::state::SyncPolicy;
use sluice::state::journal::Limits;

/// What the process says when it ends.
pub mod exit {
    /// Everything went well.
    pub const OK: u8 = 0;
    /// A rule failed or was refused; `check` found errors.
    pub const RULES: u8 = 1;
    /// The command line is wrong, or a file, address or server can't be read or reached.
    pub const USAGE: u8 = 2;
    /// It was stopped before everything was written.
    pub const CUT_SHORT: u8 = 3;
}

const EXIT_CODES: &str = "\
Exit codes:
  0  everything went well
  1  a rule failed or was refused, or `check` found errors
  2  the command line is wrong, or a file, address or server can't be read or reached
  3  stopped before everything was written: the grace period was over, or a second signal came";

/// The version, with the flavour if it is not the plain one.
const VERSION: &str = if cfg!(feature = "inference") {
    concat!(env!("CARGO_PKG_VERSION"), " (inference)")
} else {
    env!("CARGO_PKG_VERSION")
};

/// Streaming SQL for the edge.
#[derive(Debug, Parser)]
#[command(name = "sluice", version = VERSION, after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Threads that rules run on [default: 2, or 1 on one core]
    #[arg(long, global = true, env = "SLUICE_THREADS")]
    pub threads: Option<usize>,
    /// How log lines look; they go to standard error
    #[arg(long, global = true, env = "SLUICE_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// What is logged: `warn`, `info`, `debug`, or per module: `info,sluice::source=debug`
    #[arg(long, global = true, env = "SLUICE_LOG", default_value = "info")]
    log_level: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// An object per line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the rules of some files until stopped, or until their sources have ended
    #[command(after_help = EXIT_CODES)]
    Run(Box<RunArguments>),
    /// Check files without running them
    #[command(after_help = EXIT_CODES)]
    Check(CheckArguments),
    /// Show a rule's plan, and what was pushed down
    #[command(after_help = EXIT_CODES)]
    Explain(ExplainArguments),
    /// Show what the rules of a running process do
    #[command(after_help = EXIT_CODES)]
    Status(StatusArguments),
    /// Show a rule's results as they come, a JSON object per line
    #[command(after_help = EXIT_CODES)]
    Tail(TailArguments),
}

/// Where definitions come from.
#[derive(Clone, Debug, Args)]
struct FileArguments {
    /// A file, or a folder with YAML and JSON files; may be given several times
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    files: Vec<PathBuf>,
    /// A variable: `${KEY}` in the files, `props("KEY")` in SQL; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// A folder of profile files (`mqtt.yaml`, `sql.yaml`, ...); stands for the Secret `sluice-sources`
    #[arg(long, value_name = "DIR")]
    config_dir: Option<PathBuf>,
    /// The folder of ONNX models, `NAME.onnx` each (flavour `inference` only)
    #[arg(long, value_name = "DIR", env = "SLUICE_MODELS_DIR")]
    models_dir: Option<PathBuf>,
    /// Pixels of a picture, at most; a larger one is refused before it is decoded (flavour `inference` only)
    #[arg(long, value_name = "N", env = "SLUICE_MAX_PIXELS", default_value_t = sluice::inference::MAX_PIXELS)]
    max_pixels: u64,
}

impl FileArguments {
    /// Connectors, formats and functions.
    fn registry(&self) -> sluice::Registry {
        let settings = sluice::inference::Settings { models_dir: self.models_dir.clone(), max_pixels: self.max_pixels };
        sluice::Registry::builtin().with_inference(&settings)
    }
}

#[derive(Debug, Args)]
struct RunArguments {
    #[command(flatten)]
    files: FileArguments,
    /// The folder of a mounted bundle, as the operator makes it: runs what is in it, and follows its changes
    #[arg(long, value_name = "DIR", conflicts_with_all = ["files", "config_dir", "watch"])]
    bundle: Option<PathBuf>,
    /// Apply changes of the files while running; a broken edit leaves what runs as it is
    #[arg(long)]
    watch: bool,
    /// Serve health, readiness, metrics, rule status and live results on this address
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// A file with the token that the HTTP server wants (`Authorization: Bearer`), but for health and readiness
    #[arg(long, value_name = "FILE", requires = "http")]
    http_token_file: Option<PathBuf>,
    /// A folder for what must survive a crash: checkpoints and journals of rules with `qos` 1 and 2, queues of sinks
    #[arg(long, value_name = "DIR", env = "SLUICE_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// When what is written there is made safe against a loss of power: `always`, before it is acknowledged, or at most so
    /// much later, which spares flash memory
    #[arg(long, value_name = "always|TIME", default_value = "always", value_parser = sync_policy)]
    state_sync: SyncPolicy,
    /// Bytes that the journal of a stream may take before its source has to wait, at least 1048576
    #[arg(long, value_name = "BYTES", default_value = "1073741824", value_parser = clap::value_parser!(u64).range(Limits::MIN_BYTES..))]
    journal_bytes: u64,
    /// How old what the journal keeps for rules that do not run may be
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = duration)]
    journal_age: Duration,
    /// How long a stop may take to write what is on its way
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    grace: Duration,
    /// How much memory rows may take in the channels of all rules together
    #[arg(long, value_name = "SIZE", default_value = "256Mi", value_parser = size)]
    buffer_memory: u64,
    /// How much memory windows, groups and functions of all rules may keep together
    #[arg(long, value_name = "SIZE", default_value = "512Mi", value_parser = size)]
    state_memory: u64,
    #[command(flatten)]
    push: PushArguments,
}

/// The HTTP server that `httppush`, `websocket` and `sse` share; it listens once one of them is there.
#[derive(Debug, Args)]
struct PushArguments {
    /// The address that httppush streams receive on
    #[arg(long, value_name = "ADDR", env = "SLUICE_HTTPPUSH_HOST", default_value = "0.0.0.0")]
    httppush_host: IpAddr,
    /// The port that httppush streams receive on
    #[arg(long, value_name = "PORT", env = "SLUICE_HTTPPUSH_PORT", default_value_t = 10081)]
    httppush_port: u16,
    /// PEM file with the certificate chain of that server, which makes it HTTPS; read again when it changes
    #[arg(long, value_name = "FILE", env = "SLUICE_HTTPPUSH_CERT", requires = "httppush_key")]
    httppush_cert: Option<PathBuf>,
    /// PEM file with the key of that certificate
    #[arg(long, value_name = "FILE", env = "SLUICE_HTTPPUSH_KEY", requires = "httppush_cert")]
    httppush_key: Option<PathBuf>,
    /// PEM file with authorities: only clients with a certificate of theirs are let in
    #[arg(long, value_name = "FILE", env = "SLUICE_HTTPPUSH_CLIENT_CA", requires = "httppush_cert")]
    httppush_client_ca: Option<PathBuf>,
    /// Longest body of a request, packed or unpacked
    #[arg(long, value_name = "SIZE", env = "SLUICE_HTTPPUSH_BODY_LIMIT", default_value = "1Mi")]
    httppush_body_limit: ByteSize,
    /// Connections, and requests, at a time
    #[arg(long, value_name = "N", env = "SLUICE_HTTPPUSH_CONCURRENCY", default_value_t = 1024)]
    httppush_concurrency: u32,
}

impl PushArguments {
    fn settings(&self) -> ServerSettings {
        let files = self.httppush_cert.clone().zip(self.httppush_key.clone());
        let client_ca = self.httppush_client_ca.clone();
        ServerSettings {
            address: (self.httppush_host, self.httppush_port).into(),
            tls: files.map(|(certificate, key)| TlsFiles { certificate, key, client_ca }),
            body_limit: self.httppush_body_limit.bytes(),
            concurrency: usize::try_from(self.httppush_concurrency).unwrap_or(usize::MAX),
        }
    }
}

#[derive(Debug, Args)]
struct CheckArguments {
    #[command(flatten)]
    files: FileArguments,
    /// Check statements (`CREATE ...; SELECT ...;`) from this file, `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    sql: Option<PathBuf>,
    /// Count warnings as errors
    #[arg(long)]
    strict: bool,
    /// How the findings are shown
    #[arg(long, value_enum, default_value = "text")]
    output: OutputFormat,
}

#[derive(Debug, Args)]
struct ExplainArguments {
    #[command(flatten)]
    files: FileArguments,
    /// The rule's name
    rule: String,
}

/// A running process.
#[derive(Debug, Args)]
struct ServerArguments {
    /// Where `sluice run --http` listens
    #[arg(long, value_name = "URL", env = "SLUICE_SERVER", default_value = "http://127.0.0.1:8080")]
    server: String,
    /// A file with the token that the server wants
    #[arg(long, value_name = "FILE", env = "SLUICE_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct StatusArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// Show only this rule
    rule: Option<String>,
    /// Only ask whether it is ready; the exit code says so. Also for an operator
    #[arg(long, conflicts_with = "rule")]
    ready: bool,
    /// How the status is shown
    #[arg(long, value_enum, default_value = "text")]
    output: OutputFormat,
}

#[derive(Debug, Args)]
struct TailArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// The rule's name
    rule: String,
}

/// How something is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

fn size(text: &str) -> Result<u64, String> {
    text.parse::<ByteSize>().map(|size| size.0).map_err(|error| error.to_string())
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<HumanDuration>().map(|duration| duration.0).map_err(|error| error.to_string())
}

fn sync_policy(text: &str) -> Result<SyncPolicy, String> {
    match text {
        "always" => Ok(SyncPolicy::Always),
        interval => {
            duration(interval).map(SyncPolicy::Interval).map_err(|error| format!("`always` or a time: {error}"))
        }
    }
}

/// Does what the arguments say; gives the exit code.
///
/// # Errors
/// The command could not be done at all: [`exit::USAGE`].
pub async fn main(arguments: Arguments) -> anyhow::Result<u8> {
    let log = log::Log::start(arguments.log_format, &arguments.log_level)?;
    match arguments.command {
        Command::Run(arguments) => run::run(&arguments, log).await,
        Command::Check(arguments) => check::check(&arguments),
        Command::Explain(arguments) => check::explain(&arguments),
        Command::Status(arguments) => client::status(&arguments).await,
        Command::Tail(arguments) => client::tail(&arguments).await,
    }
}
