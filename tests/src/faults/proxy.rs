//! A TCP proxy between the runtime and a server, to cut the two apart without either noticing.

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Passes connections on to a port, unless it is cut: then bytes go nowhere, and nobody is told.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub port: u16,
    is_cut: watch::Sender<bool>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Proxy {
    /// A proxy before `target`.
    ///
    /// # Errors
    /// When it can't listen.
    pub async fn start(target: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (is_cut, cut) = watch::channel(false);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (stopped, of_connections) = (stop.clone(), tasks.clone());
        tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stopped.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((near, _)) = accepted else { continue };
                let (cut, stopped) = (cut.clone(), stopped.clone());
                of_connections.spawn(async move {
                    tokio::select! {
                        () = stopped.cancelled() => {}
                        () = connection(near, target, cut) => {}
                    }
                });
            }
        });
        Ok(Proxy { port, is_cut, stop, tasks })
    }

    /// Cuts the two sides apart, or joins them again.
    pub fn cut(&self, is_cut: bool) {
        self.is_cut.send_replace(is_cut);
    }

    /// Ends all connections.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn connection(near: TcpStream, target: u16, cut: watch::Receiver<bool>) {
    let mut waits = cut.clone();
    if waits.wait_for(|is_cut| !is_cut).await.is_err() {
        return;
    }
    let Ok(far) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::select! {
        () = copy(near_read, far_write, cut.clone()) => {}
        () = copy(far_read, near_write, cut) => {}
    }
}

async fn copy(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    mut cut: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n_bytes = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(n_bytes) => n_bytes,
        };
        if cut.wait_for(|is_cut| !is_cut).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..n_bytes]).await.is_err() {
            return;
        }
    }
}
