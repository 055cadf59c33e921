//! The HTTP server of a process, shared by all streams and sinks that others come to: `httppush`, `websocket`, `sse`.
//!
//! It begins to listen when the first of them wants it, and stays until the engine stops. `routes` finds what a path belongs
//! to, [`push`] and [`ticket`] carry a body to its sources and the outcome back, [`hub`] and [`events`] hold the clients that
//! stay connected, `accept` keeps connections within their limits.

mod accept;
pub mod access;
mod answer;
mod body;
pub mod events;
mod fanout;
pub mod hub;
pub mod push;
mod routes;
pub mod ticket;
mod tls;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};

pub(crate) use body::unpack_answer;
pub use routes::Pattern;
pub use tls::TlsFiles;

use self::body::Budget;
use self::events::Events;
use self::hub::{Hub, SocketRoute};
use self::push::PushRoute;
use self::routes::Routes;
use self::tls::ServerTls;
use crate::connection::ConnectorContext;
use crate::error::ConnectorError;

/// Memory for the bodies of all requests, if one body alone may not be longer.
const BODY_MEMORY: usize = 64 << 20;

/// What the server is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Where it listens.
    pub address: SocketAddr,
    /// For HTTPS.
    pub tls: Option<TlsFiles>,
    /// Longest body, packed or unpacked, in bytes.
    pub body_limit: usize,
    /// Connections, and requests, at a time.
    pub concurrency: usize,
}

impl Default for ServerSettings {
    fn default() -> Self {
        ServerSettings {
            address: (Ipv4Addr::UNSPECIFIED, 10081).into(),
            tls: None,
            body_limit: 1 << 20,
            concurrency: 1024,
        }
    }
}

/// The server. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct HttpServer(Arc<Shared>);

struct Shared {
    settings: ServerSettings,
    routes: RwLock<Routes>,
    next_id: AtomicU64,
    is_draining: AtomicBool,
    /// Where it listens, once it does.
    address: Mutex<Option<SocketAddr>>,
    answers: [AtomicU64; STATUSES.len()],
    budget: Budget,
    requests: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

/// Every status that is answered with.
const STATUSES: [u16; 16] = [101, 200, 400, 401, 403, 404, 405, 408, 413, 415, 422, 426, 429, 500, 503, 504];

/// How often requests were answered with a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpCount {
    /// The status.
    pub status: u16,
    /// How often.
    pub n_answers: u64,
}

/// What answers on a path.
#[derive(Clone)]
pub enum Handler {
    /// A source that is pushed to.
    Push(Arc<PushRoute>),
    /// Web sockets.
    Socket(Arc<SocketRoute>),
    /// Server-sent events.
    Events(Arc<Events>),
}

impl Handler {
    /// True if one owner may not have both on one path.
    fn is_same_kind(&self, other: &Handler) -> bool {
        match (self, other) {
            (Handler::Push(a), Handler::Push(b)) => a.method == b.method,
            (Handler::Socket(_), Handler::Socket(_)) | (Handler::Events(_), Handler::Events(_)) => true,
            _ => false,
        }
    }
}

/// A place on the server, given up when it is dropped.
pub struct Registration {
    server: HttpServer,
    pattern: Pattern,
    id: u64,
    hub: Arc<Hub>,
}

impl Registration {
    /// The web sockets of the path.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.server.0.routes.write().unwrap_or_else(PoisonError::into_inner).remove(&self.pattern, self.id);
    }
}

impl Default for HttpServer {
    fn default() -> Self {
        HttpServer::new(ServerSettings::default())
    }
}

impl HttpServer {
    /// A server that does not listen yet.
    pub fn new(settings: ServerSettings) -> Self {
        let concurrency = settings.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        HttpServer(Arc::new(Shared {
            routes: RwLock::default(),
            next_id: AtomicU64::new(1),
            is_draining: AtomicBool::new(false),
            address: Mutex::new(None),
            answers: Default::default(),
            // A packed body is there twice while it is unpacked.
            budget: Budget::new(BODY_MEMORY.max(settings.body_limit.saturating_mul(2))),
            requests: Arc::new(Semaphore::new(concurrency)),
            connections: Arc::new(Semaphore::new(concurrency)),
            settings,
        }))
    }

    /// Longest body or message, in bytes.
    pub fn body_limit(&self) -> usize {
        self.0.settings.body_limit
    }

    /// Begins to listen unless it does already; gives the address.
    ///
    /// # Errors
    /// The address is taken, or the files of its certificate don't do. Worth another try.
    pub async fn listen(&self, ctx: &ConnectorContext) -> Result<SocketAddr, ConnectorError> {
        let Shared { settings, address, .. } = &*self.0;
        let mut address = address.lock().await;
        if let Some(address) = *address {
            return Ok(address);
        }
        let tls = settings.tls.clone().map(ServerTls::load).transpose()?.map(Arc::new);
        let failed =
            |error| ConnectorError::external(format!("the HTTP server can't listen on {}: {error}", settings.address));
        let listener = TcpListener::bind(settings.address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        tracing::info!(address = %bound, tls = tls.is_some(), "HTTP server for streams and sinks listens");
        ctx.tasks.spawn(accept::accept(self.clone(), listener, tls, ctx.tasks.clone()));
        *address = Some(bound);
        Ok(bound)
    }

    /// Puts a stream or sink, the owner, on a path, in place of what the owner had there.
    pub fn register(&self, pattern: &Pattern, owner: &Arc<str>, handler: Handler) -> Registration {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let mut routes = self.0.routes.write().unwrap_or_else(PoisonError::into_inner);
        let hub = routes.insert(pattern, id, Arc::clone(owner), handler);
        Registration { server: self.clone(), pattern: pattern.clone(), id, hub }
    }

    /// What was answered so far; statuses that never were are left out.
    pub fn counts(&self) -> Vec<HttpCount> {
        let counts = STATUSES.iter().zip(&self.0.answers);
        let counts = counts.map(|(status, n)| HttpCount { status: *status, n_answers: n.load(Ordering::Relaxed) });
        counts.filter(|count| count.n_answers > 0).collect()
    }

    fn count(&self, status: u16) {
        let place = STATUSES.iter().position(|known| *known == status);
        if let Some(count) = place.and_then(|place| self.0.answers.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes no requests any more; the engine is about to stop.
    pub fn drain(&self) {
        self.0.is_draining.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
