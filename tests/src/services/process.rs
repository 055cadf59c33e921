//! One server process: found, started, watched, killed, started again.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::wait::DEADLINE;

/// A port on the loopback address that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback address has a free port");
    listener.local_addr().expect("a bound listener has an address").port()
}

/// A name that no other test of this run uses: for topics, tables, databases.
pub fn unique(prefix: &str) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// A server process with its data folder. Dropping it kills the process and removes the folder.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    argv: Vec<String>,
    user: Option<&'static str>,
    child: Option<Child>,
    /// Data, configuration and log; open to the server's own user.
    pub folder: TempDir,
    /// Where it listens.
    pub port: u16,
}

impl Server {
    /// A server that is not started yet: a data folder and a free port.
    ///
    /// # Errors
    /// When no folder can be made.
    pub fn new(name: &'static str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix(&format!("sluice-{name}-")).tempdir()?;
        make_readable(folder.path())?;
        Ok(Server { name, argv: Vec::new(), user: None, child: None, folder, port: free_port() })
    }

    /// The server's user, for those that refuse to run as root. Takes over the data folder.
    ///
    /// # Errors
    /// When the folder can't be handed over.
    pub fn run_as(&mut self, user: &'static str) -> Result<()> {
        if is_root() {
            let status = Command::new("chown").arg("-R").arg(format!("{user}:")).arg(self.folder.path()).status()?;
            anyhow::ensure!(status.success(), "chown to {user} failed");
            self.user = Some(user);
        }
        Ok(())
    }

    /// Starts the server and waits until `ready` says so.
    ///
    /// # Errors
    /// When it can't be started, ends by itself (with its log), or is not ready in time.
    pub async fn start<F: Future<Output = bool>>(&mut self, argv: Vec<String>, ready: impl Fn() -> F) -> Result<()> {
        self.argv = argv;
        self.launch(ready).await
    }

    /// Starts it again with the same arguments, port and data.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn launch<F: Future<Output = bool>>(&mut self, ready: impl Fn() -> F) -> Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let mut command = guarded(self.user, &self.argv);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(self.folder.path());
        self.child = Some(spawn(command).with_context(|| format!("starting {}: is `setpriv` installed?", self.name))?);
        let start = Instant::now();
        while !ready().await {
            if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                bail!("{} ended with {status}:\n{}", self.name, self.log());
            }
            if start.elapsed() > DEADLINE {
                bail!("{} was not ready after {DEADLINE:?}:\n{}", self.name, self.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Kills it at once, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Asks it to end, as its operator would, and waits until it has written down what it holds.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn stop(&mut self) -> Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
        let start = Instant::now();
        while child.try_wait()?.is_none() {
            ensure!(start.elapsed() < DEADLINE, "{} does not stop", self.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.child = None;
        Ok(())
    }

    /// The process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// A path in the data folder, as text.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// True once something listens on the port.
pub async fn listens(port: u16) -> bool {
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
}

/// The program `name` from the search path or one of the folders where packages hide it.
///
/// # Errors
/// Says how to install it.
pub fn find(name: &str, hidden_in: &[&str]) -> Result<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = hidden_in.iter().map(PathBuf::from).chain(std::env::split_paths(&path));
    folders
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .map(|file| file.display().to_string())
        .with_context(|| format!("`{name}` is not installed: run `tests/run`, which installs what the tests need"))
}

/// The folder for tools that are built once and kept, outside the checkout.
pub fn cache() -> PathBuf {
    if let Some(folder) = std::env::var_os("SLUICE_TEST_CACHE") {
        return PathBuf::from(folder);
    }
    let home = std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
    std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from).join("sluice")
}

/// Runs a helper program to its end, as `user` if given.
///
/// # Errors
/// When it fails, with what it printed.
pub fn run(user: Option<&'static str>, argv: &[String], folder: &Path) -> Result<()> {
    let output = guarded(user.filter(|_| is_root()), argv).current_dir(folder).output()?;
    anyhow::ensure!(
        output.status.success(),
        "{} failed: {}{}",
        argv.first().map_or("", String::as_str),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0)
}

fn make_readable(folder: &Path) -> Result<()> {
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(())
}

/// The command, so wrapped that the kernel kills the server when the test process is gone, however it went.
fn guarded(user: Option<&str>, argv: &[String]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(user) = user {
        command.args(["--reuid", user, "--regid", user, "--clear-groups"]);
    }
    command.arg("--").args(argv);
    command
}

/// Starts a process from a thread that lives as long as the test process: the kernel's "parent died" means the thread that
/// started it, and test threads come and go.
fn spawn(command: Command) -> Result<Child> {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static ORDERS: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in receiver {
                reply.send(command.spawn()).ok();
            }
        });
        sender
    });
    let (reply, answer) = mpsc::channel();
    orders.send((command, reply)).ok().context("the thread that starts servers is gone")?;
    Ok(answer.recv()??)
}
