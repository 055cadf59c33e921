//! Connections: accepted, secured, kept within their limits, and each request handed to what its path belongs to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::answer::{self, Answer, AnswerBody};
use super::push::{self, Limits, RequestMeta};
use super::routes::{Found, Route};
use super::tls::{self, ServerTls};
use super::{Handler, HttpServer, Hub, hub};
use crate::connection::Tasks;

/// A TLS handshake takes no longer than this.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A client that has not sent the whole head of a request, the first or the next one, is let go.
const HEADER: Duration = Duration::from_secs(75);
/// A connection without a request is looked at this often, and closed if there was none between two looks.
const LOOK: Duration = Duration::from_secs(75);
/// Something is timed at least this often, see [`accept`].
const TICK: Duration = Duration::from_secs(1);
/// Pings on HTTP/2, so that a client that is gone is noticed.
const PING: Duration = Duration::from_secs(30);
/// What open requests have when the engine stops.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// Pause after an accept that failed: all file descriptors are in use, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest head of a request.
const HEAD_BYTES: usize = 32 << 10;
/// Requests at a time on one HTTP/2 connection.
const STREAMS: u32 = 64;

/// Accepts connections until the engine stops.
///
/// Each answer that is waited for has a time limit. A timer that is due before all others wakes the thread that waits for
/// them, which takes a system call; with a tick that is due before, most timers need none.
pub(super) async fn accept(server: HttpServer, listener: TcpListener, tls: Option<Arc<ServerTls>>, tasks: Tasks) {
    if let Some(tls) = &tls {
        tasks.spawn(follow_files(Arc::clone(tls), tasks.clone()));
    }
    let work = async {
        loop {
            // Above the limit, connections wait in the kernel.
            let Ok(permit) = Arc::clone(&server.0.connections).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, remote)) => {
                    let connection =
                        Connection { server: server.clone(), tasks: tasks.clone(), remote, permit: Arc::new(permit) };
                    tasks.spawn(connection.run(stream, tls.as_ref().map(|tls| tls.config())));
                }
                Err(error) => {
                    tracing::warn!("the HTTP server can't accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    let ticks = async {
        loop {
            tokio::time::sleep(TICK).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = ticks => {}
        () = tasks.stopped() => {}
    }
}

/// Looks at the certificate's files again and again.
async fn follow_files(tls: Arc<ServerTls>, tasks: Tasks) {
    let mut newest = String::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(tls::LOOK_EVERY) => {}
            () = tasks.stopped() => return,
        }
        match tls.refresh() {
            Ok(false) => {}
            Ok(true) => {
                newest.clear();
                tracing::info!("the HTTP server uses its new certificate");
            }
            Err(error) if error.message != newest => {
                tracing::error!("the HTTP server keeps its certificate: {error}");
                newest = error.message;
            }
            Err(_) => {}
        }
    }
}

/// One connection.
struct Connection {
    server: HttpServer,
    tasks: Tasks,
    remote: SocketAddr,
    /// Held as long as the connection is, also by the web socket that it may become.
    permit: Arc<OwnedSemaphorePermit>,
}

/// What a connection is doing.
#[derive(Default)]
struct Activity {
    n_open: AtomicUsize,
    n_requests: AtomicU64,
}

/// A request that is being answered.
pub(super) struct Open(Arc<Activity>);

impl Open {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.n_open.fetch_add(1, Ordering::Relaxed);
        activity.n_requests.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(activity))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.n_open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<Arc<rustls::ServerConfig>>) {
        // Answers are small, and somebody waits for them.
        let _ = stream.set_nodelay(true);
        match tls {
            None => self.serve(stream).await,
            Some(config) => {
                let handshake = TlsAcceptor::from(config).accept(stream);
                match tokio::time::timeout(HANDSHAKE, handshake).await {
                    Ok(Ok(stream)) => self.serve(stream).await,
                    Ok(Err(error)) => tracing::debug!(remote = %self.remote, "TLS handshake: {error}"),
                    Err(_) => tracing::debug!(remote = %self.remote, "the TLS handshake takes too long"),
                }
            }
        }
    }

    async fn serve<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let activity = Arc::new(Activity::default());
        let tasks = self.tasks.clone();
        let remote: Arc<str> = self.remote.to_string().into();
        let watched = Arc::clone(&activity);
        let connection = Arc::new(self);
        let service = service_fn(move |request| {
            let (connection, remote) = (Arc::clone(&connection), Arc::clone(&remote));
            let open = Open::new(&activity);
            async move {
                let mut answer = connection.answer(request, &remote).await;
                connection.server.count(answer.status().as_u16());
                if let AnswerBody::Events(events) = answer.body_mut() {
                    // Such an answer goes on.
                    events.keep(open);
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let mut builder = auto::Builder::new(Executor(tasks.clone()));
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER).max_buf_size(HEAD_BYTES);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEAD_BYTES as u32);
        let mut serving = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let mut n_seen = 0;
        loop {
            tokio::select! {
                // Clients break off as they like: nothing to report.
                _ = serving.as_mut() => return,
                () = tasks.stopped() => {
                    serving.as_mut().graceful_shutdown();
                    let _ = tokio::time::timeout(CLOSE_GRACE, serving.as_mut()).await;
                    return;
                }
                () = tokio::time::sleep_until(Instant::now() + LOOK) => {
                    let n_requests = watched.n_requests.load(Ordering::Relaxed);
                    if n_requests == n_seen && watched.n_open.load(Ordering::Relaxed) == 0 {
                        // Also those that are still making up their mind which version to speak.
                        return;
                    }
                    n_seen = n_requests;
                }
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>, remote: &str) -> Answer {
        let shared = &*self.server.0;
        if shared.is_draining.load(Ordering::Relaxed) {
            return answer::draining();
        }
        let Ok(_request) = shared.requests.try_acquire() else {
            return answer::later(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many requests at a time; send it again in a moment",
            );
        };
        let found = shared.routes.read().unwrap_or_else(PoisonError::into_inner).find(request.uri().path());
        match found {
            None => answer::error(StatusCode::NOT_FOUND, "no running rule has a stream or sink on this path"),
            Some(Found::Gone) => {
                answer::later(StatusCode::SERVICE_UNAVAILABLE, "what was on this path has just gone; try again")
            }
            Some(Found::Routes { routes, hub, values }) => self.dispatch(request, &routes, hub, &values, remote).await,
        }
    }

    async fn dispatch(
        &self,
        request: Request<Incoming>,
        routes: &[Route],
        hub: Arc<Hub>,
        values: &[String],
        remote: &str,
    ) -> Answer {
        let shared = &*self.server.0;
        let mut pushes = Vec::new();
        let mut sockets = Vec::new();
        let mut events = None;
        for route in routes {
            match &route.handler {
                Handler::Push(push) if push.method == *request.method() => {
                    pushes.push((Arc::clone(push), Arc::clone(&route.names)));
                }
                Handler::Socket(socket) if request.method() == Method::GET => sockets.push(Arc::clone(socket)),
                Handler::Events(sink) if request.method() == Method::GET => events = Some(sink),
                _ => {}
            }
        }
        if !pushes.is_empty() {
            let limits = Limits { body: shared.settings.body_limit, budget: &shared.budget };
            return push::answer(&pushes, request, values, remote, &limits).await;
        }
        if let Some(events) = events
            && (sockets.is_empty() || !hub::is_upgrade(request.headers()))
        {
            return events.answer(&request);
        }
        if sockets.is_empty() {
            return answer::wrong_method(&allowed(routes));
        }
        let (answer, opens) = hub::handshake(&request, &sockets);
        if opens {
            let names = routes.first().map(|route| Arc::clone(&route.names)).unwrap_or_default();
            let meta = RequestMeta {
                method: request.method(),
                path: request.uri().path(),
                query: request.uri().query(),
                headers: request.headers(),
                names: &names,
                values,
                remote,
            };
            let meta = meta.object(&[]);
            let (permit, tasks) = (Arc::clone(&self.permit), self.tasks.clone());
            let max_bytes = shared.settings.body_limit;
            self.tasks.spawn(async move {
                let upgrade = hyper::upgrade::on(request);
                tokio::select! {
                    () = hub::serve(&hub, upgrade, meta, max_bytes) => {}
                    () = tasks.stopped() => {}
                }
                drop(permit);
            });
        }
        answer
    }
}

/// The methods of a path, for `Allow`.
fn allowed(routes: &[Route]) -> String {
    let mut methods: Vec<&str> = routes
        .iter()
        .map(|route| match &route.handler {
            Handler::Push(push) => push.method.as_str(),
            Handler::Socket(_) | Handler::Events(_) => "GET",
        })
        .collect();
    methods.sort_unstable();
    methods.dedup();
    methods.join(", ")
}

/// Spawns what HTTP/2 needs, so that the engine joins it.
#[derive(Clone)]
struct Executor(Tasks);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        self.0.spawn(async move {
            future.await;
        });
    }
}
