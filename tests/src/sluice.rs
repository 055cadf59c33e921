//! The `sluice` command as a process, the way a user runs it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::cluster::{Network, Way};
use crate::services::free_port;
use crate::wait;

/// A running `sluice run`, with everything that it printed.
#[derive(Debug)]
pub struct Sluice {
    child: Child,
    http: u16,
    stdout: Lines,
    stderr: Lines,
    /// To its server, if it is in another network.
    _way: Option<Way>,
}

/// Where it runs, if not simply here.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The network that it is in.
    pub network: Option<Network>,
    /// Variables of its environment, besides this process's.
    pub variables: Vec<(&'static str, String)>,
}

/// Of its server, in a network where all ports are free.
const HTTP_PORT: u16 = 9000;

#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    /// Collects the lines of a pipe until it closes.
    fn collect(&self, pipe: impl std::io::Read + Send + 'static) {
        let lines = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines() {
                let Ok(line) = line else { break };
                lines.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
    }

    fn get(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The command, built by the same `cargo test` or `cargo build`.
///
/// # Errors
/// When it is not built, and says how to.
pub fn binary() -> Result<PathBuf> {
    sibling("sluice")
}

/// A command of the workspace, built by the same `cargo test` or `cargo build`.
///
/// # Errors
/// When it is not built, and says how to.
pub fn sibling(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let profile =
        own.ancestors().find(|folder| folder.join("deps").is_dir()).context("tests run from a target folder")?;
    let binary = profile.join(name);
    ensure!(
        binary.is_file(),
        "{} is not built: run `cargo build --bin {name}`, or the tests of the whole workspace",
        binary.display()
    );
    Ok(binary)
}

impl Sluice {
    /// Runs `sluice run -f FILES --http ...` and more arguments.
    ///
    /// # Errors
    /// When the command can't be started.
    pub fn run(files: &Path, args: &[&str]) -> Result<Self> {
        Self::run_at(&Place::default(), files, args)
    }

    /// [`run`](Self::run) at another place.
    ///
    /// # Errors
    /// When the command can't be started.
    pub fn run_at(place: &Place, files: &Path, args: &[&str]) -> Result<Self> {
        // The pages of its server are asked for with a client that wants a TLS provider; another test may have been first.
        rustls::crypto::ring::default_provider().install_default().ok();
        let (mut command, port, way) = match &place.network {
            None => (Command::new(binary()?), free_port(), None),
            Some(network) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", network.file().display())).arg("--").arg(binary()?);
                (command, HTTP_PORT, Some(network.forward(([127, 0, 0, 1], HTTP_PORT).into())?))
            }
        };
        let mut child = command
            .args(["run", "-f"])
            .arg(files)
            .args(["--http", &format!("127.0.0.1:{port}")])
            .args(args)
            .envs(place.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (stdout, stderr) = (Lines::default(), Lines::default());
        stdout.collect(child.stdout.take().context("stdout is piped")?);
        stderr.collect(child.stderr.take().context("stderr is piped")?);
        let http = way.as_ref().map_or(port, |way| way.listens.port());
        Ok(Sluice { child, http, stdout, stderr, _way: way })
    }

    /// Runs it and waits until it says that it is ready: all sources and sinks are connected.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn run_ready(files: &Path, args: &[&str]) -> Result<Self> {
        let mut sluice = Self::run(files, args)?;
        sluice.ready().await;
        Ok(sluice)
    }

    /// Waits until it says that it is ready.
    ///
    /// # Panics
    /// When it ends first, or takes too long.
    pub async fn ready(&mut self) {
        let url = self.url("/readyz");
        let start = std::time::Instant::now();
        loop {
            if let Ok(answer) = reqwest::get(&url).await
                && answer.status().is_success()
            {
                return;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("sluice ended with {status}:\n{}", self.stderr().join("\n"));
            }
            assert!(start.elapsed() < wait::DEADLINE, "sluice is not ready:\n{}", self.stderr().join("\n"));
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// The address of a page of its HTTP server.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http)
    }

    /// A page of its HTTP server.
    ///
    /// # Errors
    /// When it can't be had.
    pub async fn get(&self, path: &str) -> Result<String> {
        Ok(reqwest::get(self.url(path)).await?.text().await?)
    }

    /// Lines printed to standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.get()
    }

    /// Lines printed to standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.get()
    }

    /// Asks it to stop (SIGTERM) without waiting.
    ///
    /// # Errors
    /// When the signal can't be sent.
    pub fn terminate(&self) -> Result<()> {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        ensure!(status.success(), "kill failed");
        Ok(())
    }

    /// Waits for its end and gives its exit status.
    ///
    /// # Panics
    /// When it takes too long.
    pub async fn ended(&mut self) -> ExitStatus {
        let start = std::time::Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status;
            }
            assert!(start.elapsed() < wait::DEADLINE, "sluice does not end:\n{}", self.stderr().join("\n"));
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Kills it at once (SIGKILL).
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Resident memory in bytes, as the kernel counts it.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line =
            status.lines().find(|line| line.starts_with("VmRSS:")).context("the kernel counts resident memory")?;
        let kib: u64 = line.split_whitespace().nth(1).context("a number follows")?.parse()?;
        Ok(kib * 1024)
    }
}

impl Drop for Sluice {
    fn drop(&mut self) {
        self.kill();
    }
}
