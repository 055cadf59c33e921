//! The process: starts everything, stops it in order.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use kube::Client;
use sluice::Registry;
use sluice::manifest;
use sluice_crds::RuntimeSpec;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::Arguments;
use crate::cluster::api::Cluster;
use crate::cluster::controller::{self, Pulse};
use crate::cluster::lease::Election;
use crate::cluster::namespace::Shared;
use crate::cluster::pods::Reports;
use crate::cluster::queue::Queue;
use crate::cluster::store::Stores;
use crate::cluster::watches::Scope;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::planning::Settings;
use crate::server::{Pages, serve};
use crate::webhook::{self, Certificates, Gate, Identity, Recent, Webhook};

/// What a stop may take.
const GRACE: Duration = Duration::from_secs(10);
/// How often the webhook's certificate is looked at.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(60);
/// How soon after a failure.
const CERTIFICATE_RETRY: Duration = Duration::from_secs(2);

/// Runs until it is told to stop.
///
/// # Errors
/// It can't begin: an argument is wrong, an address can't be listened on, or there is no cluster.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let settings = settings(&arguments)?;
    let metrics = Metrics::default();
    let client = Client::try_default().await.context("no cluster: neither a service account nor a kubeconfig")?;
    let cluster = Cluster { client: client.clone(), metrics: metrics.clone() };
    let scopes = scopes(&arguments);
    let stores = Arc::new(Stores::new(scopes.len()));
    let queue = Arc::new(Queue::default());
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let (pulse, gate) = (Pulse::default(), Gate::default());
    // Which flavour a runtime's image has, its pod knows.
    let registry = Registry::of_any_flavour();

    controller::watch(&cluster, &scopes, &stores, &queue, &tracker, &stop);
    let pages =
        Pages { metrics: metrics.clone(), pulse: pulse.clone(), stores: Arc::clone(&stores), gate: gate.clone() };
    let listener = listen(arguments.http).await?;
    tracing::info!(address = %listener.local_addr()?, "metrics and probes are served");
    spawn(&tracker, "HTTP server", serve(listener, pages, stop.clone()));
    if arguments.webhook {
        let listener = listen(arguments.webhook_address).await?;
        let webhook = Webhook {
            stores: Arc::clone(&stores),
            recent: Recent::default(),
            registry: registry.clone(),
            metrics: metrics.clone(),
        };
        let certificates = Certificates {
            client: client.clone(),
            namespace: arguments.namespace.clone(),
            secret: arguments.webhook_secret.clone(),
            configuration: arguments.webhook_configuration.clone(),
            names: arguments.webhook_names.clone(),
            life: arguments.webhook_certificate_life,
        };
        let serving = admit(listener, webhook, certificates, gate, metrics.clone(), tracker.clone(), stop.clone());
        tracker.spawn(stop.clone().run_until_cancelled_owned(serving));
    } else {
        gate.open();
    }

    let reports = Reports::new(tracker.clone(), Arc::clone(&queue))?;
    let shared = Arc::new(Shared {
        events: Events::new(cluster.clone(), &arguments.identity),
        cluster,
        stores,
        reports: reports.clone(),
        queue,
        registry,
        settings,
        secret_interval: arguments.secret_interval,
        counter_interval: arguments.counter_interval,
    });
    let mut election = arguments
        .leader_elect
        .then(|| Election::new(client, &arguments.namespace, &arguments.lease_name, &arguments.identity));
    let lead = async {
        loop {
            if let Some(election) = &mut election {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = election.acquire() => {}
                }
            }
            metrics.leads(true);
            tracing::info!("acting");
            let acting = stop.child_token();
            let work = controller::run(Arc::clone(&shared), pulse.clone(), acting.clone());
            tokio::pin!(work);
            let lost = async {
                match &mut election {
                    Some(election) => election.lost().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut work => {}
                () = lost => {
                    acting.cancel();
                    work.await;
                }
            }
            reports.stop();
            metrics.leads(false);
            if stop.is_cancelled() {
                break;
            }
        }
        // The next one need not wait.
        if let Some(election) = &election {
            election.release().await;
        }
    };
    tokio::pin!(lead);
    let is_over = tokio::select! {
        () = signals.next() => false,
        () = &mut lead => true,
    };
    tracing::info!("stopping");
    stop.cancel();
    tracker.close();
    let rest = async {
        if !is_over {
            lead.await;
        }
        tracker.wait().await;
    };
    if tokio::time::timeout(GRACE, rest).await.is_err() {
        tracing::warn!("some tasks did not stop in time");
    }
    Ok(())
}

/// Serves the webhook once there is a certificate, and keeps that fresh.
async fn admit(
    listener: TcpListener,
    webhook: Webhook,
    certificates: Certificates,
    gate: Gate,
    metrics: Metrics,
    tracker: TaskTracker,
    stop: CancellationToken,
) {
    let mut waiting = Some((listener, webhook));
    let mut shown: Option<Identity> = None;
    loop {
        let pause = match certificates.ensure().await {
            Ok((config, ends)) => {
                metrics.certificate_expires(ends);
                match (&shown, waiting.take()) {
                    (Some(identity), _) => identity.set(config),
                    (None, Some((listener, webhook))) => {
                        let identity = Identity::new(config);
                        shown = Some(identity.clone());
                        spawn(&tracker, "webhook", webhook::serve(listener, identity, webhook, stop.clone()));
                    }
                    (None, None) => return,
                }
                gate.open();
                CERTIFICATE_INTERVAL.min(certificates.life / 10)
            }
            Err(error) => {
                metrics.failed("certificate");
                tracing::warn!("webhook: {error}");
                CERTIFICATE_RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}

fn spawn(
    tracker: &TaskTracker,
    what: &'static str,
    server: impl Future<Output = std::io::Result<()>> + Send + 'static,
) {
    tracker.spawn(async move {
        if let Err(error) = server.await {
            tracing::error!("{what} failed: {error}");
        }
    });
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("can't listen on {address}"))
}

fn scopes(arguments: &Arguments) -> Vec<Scope> {
    let mut names: Vec<&String> = arguments.watch_namespaces.iter().filter(|name| !name.is_empty()).collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return vec![Scope { namespace: None }];
    }
    names.into_iter().map(|name| Scope { namespace: Some(name.clone()) }).collect()
}

fn settings(arguments: &Arguments) -> anyhow::Result<Settings> {
    let defaults = match &arguments.runtime_defaults {
        Some(path) => runtime_defaults(path)?,
        None => RuntimeSpec::default(),
    };
    Ok(Settings {
        namespace: arguments.namespace.clone(),
        image: arguments.runtime_image.clone(),
        pull_policy: arguments.runtime_image_pull_policy,
        pull_secrets: arguments.runtime_image_pull_secrets.iter().filter(|name| !name.is_empty()).cloned().collect(),
        defaults,
        network_policies: arguments.network_policies,
        port: arguments.runtime_port,
        bundle_secrets: usize::from(arguments.bundle_secrets),
    })
}

/// The `spec` of a Runtime from a file, read as strictly as one in a cluster.
fn runtime_defaults(path: &Path) -> anyhow::Result<RuntimeSpec> {
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    let indented: String = text.lines().map(|line| format!("  {line}\n")).collect();
    let empty = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    if empty || text.trim() == "{}" {
        return Ok(RuntimeSpec::default());
    }
    let document =
        format!("apiVersion: sluice.dev/v1alpha1\nkind: Runtime\nmetadata: {{name: default}}\nspec:\n{indented}");
    let mut manifests = manifest::load_text(&path.display().to_string(), &document, &manifest::Settings::default());
    if let Some(problem) = manifests.diagnostics.iter().find(|problem| problem.is_error()) {
        bail!("{}: {}: {}", path.display(), problem.path, problem.message);
    }
    manifests.runtimes.remove("default").with_context(|| format!("{}: it holds no settings", path.display()))
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

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
