//! Ways between this process and a cluster's own network, which it is not part of.
//!
//! A socket belongs to the network of the thread that made it, whichever thread uses it later. So each way is a thread with
//! its own small runtime: it accepts on one side and connects on the other.

use std::fs::File;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// The network of a cluster.
#[derive(Clone, Debug)]
pub struct Network {
    /// `/proc/PID/ns/net` of a process in it.
    file: PathBuf,
}

/// A way that is open as long as this lives.
#[derive(Debug)]
pub struct Way {
    /// The address that is listened on.
    pub listens: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Network {
    /// The network that a process is in.
    pub fn of(pid: u32) -> Self {
        Network { file: format!("/proc/{pid}/ns/net").into() }
    }

    /// The file that `nsenter --net=FILE` wants.
    pub fn file(&self) -> &std::path::Path {
        &self.file
    }

    /// A port on this side's loopback address that leads to an address inside.
    ///
    /// # Errors
    /// When the network can't be entered.
    pub fn forward(&self, inside: SocketAddr) -> Result<Way> {
        carry(StdListener::bind("127.0.0.1:0")?, Some(self.open()?), inside)
    }

    /// An address inside (port 0: a free one) that leads to an address on this side.
    ///
    /// # Errors
    /// When the network can't be entered, or the address is taken.
    pub fn expose(&self, inside: SocketAddr, outside: SocketAddr) -> Result<Way> {
        let network = self.open()?;
        let listener = thread::spawn(move || -> Result<StdListener> {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            StdListener::bind(inside).with_context(|| format!("listening on {inside} in the cluster"))
        })
        .join()
        .map_err(|_| anyhow!("the thread that listens in the cluster panicked"))??;
        carry(listener, None, outside)
    }

    fn open(&self) -> Result<File> {
        File::open(&self.file).with_context(|| format!("{}: the cluster is gone", self.file.display()))
    }
}

/// Carries each connection that comes to `listener` on to `to`, opened in `network`, if one is given.
#[expect(clippy::disallowed_methods, reason = "what is spawned ends with the runtime of the way's own thread")]
fn carry(listener: StdListener, network: Option<File>, to: SocketAddr) -> Result<Way> {
    listener.set_nonblocking(true)?;
    let listens = listener.local_addr()?;
    let (stop, mut stopped) = oneshot::channel();
    thread::spawn(move || -> Result<()> {
        if let Some(network) = network {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (mut from, _) = tokio::select! {
                    accepted = listener.accept() => accepted?,
                    _ = &mut stopped => return Ok(()),
                };
                tokio::task::spawn(async move {
                    // Nobody listens there: the caller sees its connection closed.
                    let Ok(mut to) = TcpStream::connect(to).await else { return };
                    copy_bidirectional(&mut from, &mut to).await.ok();
                });
            }
        })
    });
    Ok(Way { listens, _stop: stop })
}
