//! Starts watches and workers, and joins them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sluice::manifest::Kind;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::api::{Cluster, Native};
use super::namespace::{Namespace, Shared};
use super::queue::Queue;
use super::store::Stores;
use super::watches::{Scope, follow_children, follow_own};

/// Namespaces that are reconciled at once.
const WORKERS: usize = 4;
/// A reconciliation that takes longer is given up, and tried again.
const LIMIT: Duration = Duration::from_secs(120);
/// The loop is alive if it has turned within this time.
const ALIVE: Duration = Duration::from_secs(30);
/// How often it turns when there is nothing to do.
const TURN: Duration = Duration::from_secs(5);

/// Shows that the loop turns.
#[derive(Clone, Default)]
pub struct Pulse(Arc<PulseState>);

#[derive(Default)]
struct PulseState {
    beat: AtomicI64,
    start: Mutex<Option<Instant>>,
}

impl Pulse {
    fn beat(&self) {
        let mut start = self.0.start.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = start.get_or_insert_with(Instant::now).elapsed();
        self.0.beat.store(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// False if the loop was started and does not turn any more.
    pub fn is_alive(&self) -> bool {
        let start = self.0.start.lock().unwrap_or_else(PoisonError::into_inner);
        start.is_none_or(|start| {
            let beat = Duration::from_millis(self.0.beat.load(Ordering::Relaxed).unsigned_abs());
            start.elapsed().saturating_sub(beat) < ALIVE
        })
    }
}

/// Gives a namespace back.
struct Done(Arc<Shared>, String);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.queue.done(&self.1);
    }
}

/// Starts the watches, which run until `stop`.
pub fn watch(
    cluster: &Cluster,
    scopes: &[Scope],
    stores: &Arc<Stores>,
    queue: &Arc<Queue>,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) {
    for scope in scopes {
        for kind in [Kind::Stream, Kind::LookupTable, Kind::Rule, Kind::Runtime] {
            let watch = follow_own(cluster.clone(), scope.clone(), kind, Arc::clone(stores), Arc::clone(queue));
            tracker.spawn(stop.clone().run_until_cancelled_owned(watch));
        }
        for kind in [Native::ServiceAccount, Native::Service, Native::StatefulSet, Native::NetworkPolicy, Native::Pod] {
            let watch = follow_children(cluster.clone(), scope.clone(), kind, Arc::clone(stores), Arc::clone(queue));
            tracker.spawn(stop.clone().run_until_cancelled_owned(watch));
        }
    }
}

/// Reconciles what is due until `stop`. What is under way then is finished.
pub async fn run(shared: Arc<Shared>, pulse: Pulse, stop: CancellationToken) {
    let namespaces: Arc<Mutex<HashMap<String, Arc<AsyncMutex<Namespace>>>>> = Arc::default();
    let workers = TaskTracker::new();
    let slots = Arc::new(tokio::sync::Semaphore::new(WORKERS));
    // Nothing is decided before everything has been listed: what is not seen is not gone.
    while !shared.stores.are_complete() {
        pulse.beat();
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
    for namespace in shared.stores.namespaces() {
        shared.queue.add(&namespace, "start");
    }
    loop {
        pulse.beat();
        shared.cluster.metrics.queue_length(shared.queue.len());
        for (kind, store) in &shared.stores.own {
            shared.cluster.metrics.objects(kind.as_str(), store.len());
        }
        let slot = tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(TURN) => continue,
            slot = Arc::clone(&slots).acquire_owned() => slot,
        };
        let Ok(slot) = slot else { break };
        let work = tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(TURN) => continue,
            work = shared.queue.next() => work,
        };
        let state = {
            let mut namespaces = namespaces.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(namespaces.entry(work.namespace.clone()).or_default())
        };
        let shared = Arc::clone(&shared);
        workers.spawn(async move {
            let waited = work.since.elapsed();
            let start = Instant::now();
            // Also after a panic the namespace is handed out again.
            let _done = Done(Arc::clone(&shared), work.namespace.clone());
            let mut state = state.lock().await;
            let namespace = work.namespace.as_str();
            if tokio::time::timeout(LIMIT, state.reconcile(&shared, namespace)).await.is_err() {
                shared.cluster.metrics.failed("timeout");
                tracing::error!(namespace, "reconciliation took too long, it is tried again");
                shared.queue.add(namespace, "retry");
            }
            drop(state);
            for reason in work.reasons.keys() {
                shared.cluster.metrics.reconciled(reason, waited, start.elapsed());
            }
            tracing::debug!(namespace, reasons = ?work.reasons, took = ?start.elapsed(), "reconciled");
            drop(slot);
        });
    }
    workers.close();
    workers.wait().await;
}
