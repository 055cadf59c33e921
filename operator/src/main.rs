//! The `sluice-operator` command: arguments, logs, exit code. Everything else is the library's.

use std::process::ExitCode;

use clap::Parser;
use sluice_operator::cli::{Arguments, LogFormat};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// Threads: deciding is quick, and each more costs memory.
const THREADS: usize = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let fail = |error: String| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    };
    // Every client below speaks TLS through this one provider.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return fail("another TLS provider is installed already".to_owned());
    }
    let filter: Targets = match arguments.log_level.parse() {
        Ok(filter) => filter,
        Err(error) => return fail(format!("--log-level {}: {error}", arguments.log_level)),
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = match arguments.log_format {
        LogFormat::Text => layer.with_target(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(sluice_operator::run::run(arguments)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(format!("{error:#}")),
    }
}
