//! Clients that sources, lookup tables and sinks share: options, TLS, auth, once.

pub mod edgex;
pub mod http;
pub mod http_pull;
pub mod http_server;
pub mod influx;
pub mod memory;
pub mod mqtt;
pub mod nats;
pub mod redis;
pub mod redis_subscriber;
pub mod socket;
pub mod sql;
pub mod tls;
pub mod topic;
pub mod websocket;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::http_server::{HttpServer, ServerSettings};
use crate::pipeline::metrics::Counter;
use crate::time::Clock;

/// What every connector is given when it connects.
#[derive(Clone)]
pub struct ConnectorContext {
    /// `rule/sink` or stream or table, for log lines and client ids.
    pub name: Arc<str>,
    /// Clients that are shared within the process.
    pub connections: Connections,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Spawns what a client needs running beside it; every such task is joined when the engine stops.
    pub tasks: Tasks,
    /// What the connector reports of itself.
    pub health: Health,
}

/// Spawns tasks that the engine joins when it stops.
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Runs `task` beside the caller. It should end soon after [`Tasks::stopped`].
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // Boxed: the code around a task is there once, and not once more for each kind of task.
        let task: BoxFuture<'static, ()> = Box::pin(task);
        self.tracker.spawn(task);
    }

    /// Completes when the engine stops.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Stops and joins all tasks.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Shared clients, by type and key. Held weakly: a client goes when its last user lets go. And the one server.
#[derive(Clone, Default)]
pub struct Connections {
    clients: Arc<Mutex<HashMap<(TypeId, String), WeakClient>>>,
    server: HttpServer,
    unclaimed: Arc<Counter>,
}

type WeakClient = Weak<dyn Any + Send + Sync>;

impl Connections {
    /// No clients yet, and a server that is made like this.
    pub fn new(server: ServerSettings) -> Self {
        Connections { server: HttpServer::new(server), ..Connections::default() }
    }

    /// Messages that brokers had kept for this process, and that no stream was there for.
    pub fn unclaimed(&self) -> &Arc<Counter> {
        &self.unclaimed
    }

    /// The HTTP server of the process.
    pub fn server(&self) -> &HttpServer {
        &self.server
    }

    /// The client of type `T` under `key`, made with `make` if nobody holds one. The key must hold everything that makes two
    /// clients differ (but is never shown: it may hold credentials).
    pub fn shared<T: Any + Send + Sync>(&self, key: &str, make: impl FnOnce() -> T) -> Arc<T> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|_, client| client.strong_count() > 0);
        let entry = (TypeId::of::<T>(), key.to_owned());
        if let Some(client) = clients.get(&entry).and_then(Weak::upgrade).and_then(|client| client.downcast::<T>().ok())
        {
            return client;
        }
        let client = Arc::new(make());
        let weak: WeakClient = Arc::downgrade(&(Arc::clone(&client) as Arc<dyn Any + Send + Sync>));
        clients.insert(entry, weak);
        client
    }
}

/// How a connector is, for status and metrics. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Health(Arc<SharedHealth>);

#[derive(Default)]
struct SharedHealth {
    state: Mutex<HealthState>,
    listener: Option<HealthListener>,
    /// Called whenever `connected` is another than before.
    watcher: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Told of each loss.
    losses: Notify,
}

/// Hears of each connection that is lost, and of each that is there again.
pub type HealthListener = Box<dyn Fn(HealthChange<'_>) + Send + Sync>;

/// What a [`HealthListener`] hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthChange<'a> {
    /// It was connected, or unknown, and is not any more, because of this.
    Lost(&'a str),
    /// It was lost, and is connected again.
    Recovered,
}

/// What a connector last reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthState {
    /// Connected, as far as the connector knows; `None` before its first word.
    pub connected: Option<bool>,
    /// Times that a connection was made again after it was lost.
    pub n_reconnects: u64,
    /// Times that an operation was tried again.
    pub n_retries: u64,
    /// The newest error.
    pub last_error: Option<String>,
    /// The connector says by itself when it is connected: see [`Health::connecting`].
    pub reports_itself: bool,
}

impl Health {
    /// Tells `listener` of changes.
    pub fn with_listener(listener: impl Fn(HealthChange<'_>) + Send + Sync + 'static) -> Self {
        Health(Arc::new(SharedHealth {
            state: Mutex::default(),
            listener: Some(Box::new(listener)),
            ..SharedHealth::default()
        }))
    }

    /// For a connector whose client connects beside it: `connect` calls this before it returns, and `up` or `down` follow when
    /// it is known. Without it, a `connect` that returns `Ok` counts as connected.
    pub fn connecting(&self) {
        self.with(|state| state.reports_itself = true);
    }

    /// The connection stands.
    pub fn up(&self) {
        let before = self.with(|state| {
            let before = state.connected.replace(true);
            state.n_reconnects += u64::from(before == Some(false));
            before
        });
        let was_lost = before == Some(false);
        if before != Some(true) {
            self.changed();
        }
        if let (true, Some(listener)) = (was_lost, &self.0.listener) {
            listener(HealthChange::Recovered);
        }
    }

    /// The connection is gone, or could not be made.
    pub fn down(&self, error: &str) {
        let is_new = self.with(|state| {
            let is_new = state.connected != Some(false);
            state.connected = Some(false);
            state.last_error = Some(error.to_owned());
            is_new
        });
        if let (true, Some(listener)) = (is_new, &self.0.listener) {
            listener(HealthChange::Lost(error));
        }
        if is_new {
            self.0.losses.notify_waiters();
            self.changed();
        }
    }

    /// Completes when the connection is gone.
    pub async fn lost(&self) {
        loop {
            let loss = self.0.losses.notified();
            if self.state().connected == Some(false) {
                return;
            }
            loss.await;
        }
    }

    /// Calls `watcher` whenever it is connected or is not any more. The first one stays.
    pub fn watch(&self, watcher: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.watcher.set(Box::new(watcher));
    }

    fn changed(&self) {
        if let Some(watcher) = self.0.watcher.get() {
            watcher();
        }
    }

    /// An operation is tried again.
    pub fn retry(&self, error: &str) {
        self.with(|state| {
            state.n_retries += 1;
            state.last_error = Some(error.to_owned());
        });
    }

    /// What was reported so far.
    pub fn state(&self) -> HealthState {
        self.with(|state| state.clone())
    }

    fn with<T>(&self, change: impl FnOnce(&mut HealthState) -> T) -> T {
        change(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.state().fmt(f)
    }
}
