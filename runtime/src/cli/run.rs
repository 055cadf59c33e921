//! `run`: applies definitions, waits for signals and changes, stops in order.

use std::time::Duration;

use anyhow::{Context, bail};
use sluice::Registry;
use sluice::check::verdict;
use sluice::diagnostic::Diagnostic;
use sluice::manifest::{self, Manifests};
use sluice::pipeline::{ApplyReport, Engine, RuleState, Settings};
use sluice::server::{TokenFile, serve};
use sluice::state::{StateVolume, SyncPolicy};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::log::Log;
use super::watch::Watch;
use super::{FileArguments, RunArguments, exit};

/// What open requests have to end in.
const SERVER_GRACE: Duration = Duration::from_secs(1);

/// Runs until stopped, or until all rules have ended.
pub async fn run(arguments: &RunArguments, log: Log) -> anyhow::Result<u8> {
    let mut signals = Signals::new()?;
    let mut watch = arguments.watch.then(|| Watch::new(watched(&arguments.files)));
    let manifests = load(&arguments.files)?;
    let registry = Registry::builtin();
    log.findings(&verdict(&manifests, &registry));
    if manifests.diagnostics.iter().any(Diagnostic::is_error) {
        return Ok(exit::USAGE);
    }
    if manifests.definitions.rules.is_empty() && watch.is_none() {
        bail!("there is no Rule in these files");
    }

    let state = match &arguments.state_dir {
        Some(dir) => Some(StateVolume::open(dir, SyncPolicy::Always).context("the state folder can't be used")?),
        None => None,
    };
    let settings = Settings {
        buffer_bytes: Some(arguments.buffer_memory),
        state,
        server: arguments.push.settings(),
        ..settings(registry, &arguments.files)
    };
    let engine = Engine::new(settings);
    let (servers, stop_servers) = (TaskTracker::new(), CancellationToken::new());
    if let Some(address) = arguments.http {
        let listener = TcpListener::bind(address).await.with_context(|| format!("can't listen on {address}"))?;
        let token = match &arguments.http_token_file {
            Some(path) => Some(TokenFile::new(path).with_context(|| format!("no token in {}", path.display()))?),
            None => None,
        };
        tracing::info!(address = %listener.local_addr()?, "HTTP server listens");
        let server = serve(listener, engine.clone(), token, stop_servers.clone());
        servers.spawn(async move {
            if let Err(error) = server.await {
                tracing::error!("HTTP server failed: {error}");
            }
        });
    }
    log_report(&engine.apply(&manifests.definitions));

    loop {
        tokio::select! {
            () = signals.next() => {
                tracing::info!(grace = ?arguments.grace, "stopping; a second signal stops at once");
                break;
            }
            () = engine.finished(), if watch.is_none() => break,
            () = changed(&mut watch) => reload(&engine, &arguments.files, log),
        }
    }

    let n_failed = {
        let is_bad = |state: RuleState| matches!(state, RuleState::Failed | RuleState::Refused | RuleState::Restarting);
        engine.status().rules.iter().filter(|rule| is_bad(rule.state)).count()
    };
    let stop = engine.stop(arguments.grace);
    tokio::pin!(stop);
    let is_drained = tokio::select! {
        is_drained = &mut stop => is_drained,
        () = signals.next() => {
            engine.cut_short();
            stop.await
        }
    };
    stop_servers.cancel();
    servers.close();
    // An open request does not hold the process up.
    let _ = tokio::time::timeout(SERVER_GRACE, servers.wait()).await;
    if !is_drained {
        tracing::warn!("stopped before everything was written");
    }
    Ok(match (n_failed, is_drained) {
        (0, true) => exit::OK,
        (0, false) => exit::CUT_SHORT,
        _ => exit::RULES,
    })
}

async fn changed(watch: &mut Option<Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// Applies the files as they are now, unless they can't be read.
fn reload(engine: &Engine, files: &FileArguments, log: Log) {
    let manifests = match load(files) {
        Ok(manifests) => manifests,
        Err(error) => return tracing::error!("the change was not applied: {error:#}"),
    };
    log.findings(&verdict(&manifests, engine.registry()));
    if manifests.diagnostics.iter().any(Diagnostic::is_error) {
        tracing::error!("the change was not applied; everything runs on as before");
        return;
    }
    log_report(&engine.apply(&manifests.definitions));
}

fn log_report(report: &ApplyReport) {
    for refusal in &report.refused {
        let (rule, keeps_running) = (refusal.rule.as_str(), refusal.keeps_running);
        let message = refusal.message.lines().next().unwrap_or_default();
        tracing::error!(rule, keeps_running, "rule refused: {message}");
    }
    let n = |list: &[String]| list.len();
    tracing::info!(
        started = n(&report.started),
        replaced = n(&report.replaced),
        unchanged = n(&report.unchanged),
        suspended = n(&report.suspended),
        scheduled = n(&report.scheduled),
        removed = n(&report.removed),
        refused = report.refused.len(),
        "definitions applied"
    );
}

/// Reads the files that the arguments name.
pub fn load(files: &FileArguments) -> anyhow::Result<Manifests> {
    if files.files.is_empty() {
        bail!("no files: say which with -f");
    }
    let settings =
        manifest::Settings { variables: files.set.iter().cloned().collect(), config_dir: files.config_dir.clone() };
    Ok(manifest::load(&files.files, &settings))
}

fn watched(files: &FileArguments) -> Vec<std::path::PathBuf> {
    files.files.iter().chain(&files.config_dir).cloned().collect()
}

fn settings(registry: Registry, files: &FileArguments) -> Settings {
    let variables: std::collections::HashMap<String, String> = files.set.iter().cloned().collect();
    let mut settings = Settings::new(registry);
    settings.props = std::sync::Arc::new(move |name| variables.get(name).map(Into::into));
    settings
}

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Completes with the next one.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
