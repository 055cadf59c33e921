//! `run`: applies definitions, waits for signals and changes, stops in order.

use std::time::Duration;

use anyhow::{Context, bail};
use sluice::Registry;
use sluice::check::verdict;
use sluice::diagnostic::Diagnostic;
use sluice::manifest::{self, Manifests};
use sluice::pipeline::{ApplyReport, Engine, RuleState, Settings};
use sluice::server::{TokenFile, serve};
use sluice::state::StateStore;
use sluice::state::journal::Limits;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bundle::BundleFolder;
use super::log::Log;
use super::watch::Watch;
use super::{FileArguments, RunArguments, exit};

/// What open requests have to end in.
const SERVER_GRACE: Duration = Duration::from_secs(1);

/// Runs until stopped, or until all rules have ended.
pub async fn run(arguments: &RunArguments, log: Log) -> anyhow::Result<u8> {
    let mut signals = Signals::new()?;
    let registry = arguments.files.registry();
    let mut origin = match &arguments.bundle {
        Some(folder) => Origin::Bundle(BundleFolder::new(folder.clone())),
        None => Origin::Files(arguments.watch.then(|| Watch::new(watched(&arguments.files)))),
    };
    let manifests = match origin {
        Origin::Bundle(_) => Manifests::default(),
        Origin::Files(_) => load(&arguments.files)?,
    };
    log.findings(&verdict(&manifests, &registry));
    if manifests.diagnostics.iter().any(Diagnostic::is_error) {
        return Ok(exit::USAGE);
    }
    if manifests.definitions.rules.is_empty() && matches!(origin, Origin::Files(None)) {
        bail!("there is no Rule in these files");
    }

    let mut settings = settings(registry, &arguments.files);
    settings.server = arguments.push.settings();
    settings.buffer_bytes = Some(arguments.buffer_memory);
    settings.state_bytes = Some(arguments.state_memory);
    if let Some(dir) = &arguments.state_dir {
        let max_age_ms = i64::try_from(arguments.journal_age.as_millis()).unwrap_or(i64::MAX);
        let limits = Limits::new(arguments.journal_bytes, max_age_ms);
        let store = StateStore::open(dir, arguments.state_sync, limits);
        settings.state = Some(store.context("the state folder can't be used")?);
    }
    let engine = Engine::new(settings);
    let (servers, stop_servers) = (TaskTracker::new(), CancellationToken::new());
    if let Some(address) = arguments.http {
        let listener = TcpListener::bind(address).await.with_context(|| format!("can't listen on {address}"))?;
        let token = match &arguments.http_token_file {
            // A mounted token may come later.
            Some(path) if arguments.bundle.is_some() => Some(TokenFile::later(path)),
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
    match &mut origin {
        Origin::Files(_) => log_report(&engine.apply(&manifests.definitions)),
        Origin::Bundle(folder) => folder.apply(&engine, log),
    }

    loop {
        tokio::select! {
            () = signals.next() => {
                tracing::info!(grace = ?arguments.grace, "stopping; a second signal stops at once");
                break;
            }
            () = engine.finished(), if matches!(origin, Origin::Files(None)) => break,
            () = origin.changed() => match &mut origin {
                Origin::Files(_) => reload(&engine, &arguments.files, log),
                Origin::Bundle(folder) => folder.apply(&engine, log),
            },
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

/// Where definitions come from.
enum Origin {
    /// Files, watched or not.
    Files(Option<Watch>),
    /// A mounted bundle.
    Bundle(BundleFolder),
}

impl Origin {
    /// Completes when there is something to apply.
    async fn changed(&mut self) {
        match self {
            Origin::Files(Some(watch)) => watch.changed().await,
            Origin::Files(None) => std::future::pending().await,
            Origin::Bundle(folder) => folder.changed().await,
        }
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

pub fn log_report(report: &ApplyReport) {
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
