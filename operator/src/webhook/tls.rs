//! HTTPS for the webhook: each connection does its handshake by itself, so that a slow one holds no other up, and takes the
//! certificate that is current.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes that are done and wait to be served.
const READY: usize = 64;

/// The certificate that is shown; can be changed while serving.
#[derive(Clone)]
pub struct Identity(Arc<RwLock<Arc<ServerConfig>>>);

impl Identity {
    /// Shows this one.
    pub fn new(config: ServerConfig) -> Self {
        Identity(Arc::new(RwLock::new(Arc::new(config))))
    }

    /// Shows this one from now on.
    pub fn set(&self, config: ServerConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Accepts connections whose handshake is done.
pub struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    local: std::io::Result<SocketAddr>,
}

impl TlsListener {
    /// Accepts until `stop`.
    pub fn new(listener: TcpListener, identity: Identity, stop: CancellationToken) -> Self {
        let local = listener.local_addr();
        let (sender, ready) = mpsc::channel(READY);
        let tracker = TaskTracker::new();
        let handshakes = tracker.clone();
        tracker.spawn(stop.run_until_cancelled_owned(async move {
            loop {
                let (stream, address) = match listener.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!("webhook: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                let (acceptor, sender) = (identity.acceptor(), sender.clone());
                handshakes.spawn(async move {
                    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => _ = sender.send((stream, address)).await,
                        Ok(Err(error)) => tracing::debug!(%address, "webhook: no handshake: {error}"),
                        Err(_) => tracing::debug!(%address, "webhook: the handshake took too long"),
                    }
                });
            }
        }));
        TlsListener { ready, local }
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            // Stopped: the server is about to see it too.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        match &self.local {
            Ok(address) => Ok(*address),
            Err(error) => Err(error.kind().into()),
        }
    }
}
