//! The `sluice` command: arguments, logs, signals, exit codes. Everything else is the library's.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Every client below speaks TLS through this one provider.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("error: another TLS provider is installed already");
        return cli::exit::USAGE.into();
    }
    let arguments = cli::Arguments::parse();
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let n_threads = arguments.threads.unwrap_or_else(|| n_cores.min(2)).max(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(n_threads).enable_all().build();
    let code = match runtime {
        Ok(runtime) => runtime.block_on(cli::main(arguments)),
        Err(error) => Err(error.into()),
    };
    match code {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            cli::exit::USAGE.into()
        }
    }
}
