//! What the runtime sees of the machine, so that faults there hit nobody else: a volume, a network, a clock.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::cluster::{Network, Way};

/// The library that shows a process another time than the machine's, of Debian's package `faketime`.
const FAKETIME: &str = "faketime/libfaketimeMT.so.1";

/// A small file system for the state, so that it can be filled.
pub struct Volume {
    /// Where it is mounted.
    pub dir: PathBuf,
}

impl Volume {
    /// # Errors
    /// When no file system can be mounted here.
    pub fn mount(dir: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&dir)?;
        run("mount", ["-t", "tmpfs", "-o", "size=48m", "tmpfs", &dir.display().to_string()])?;
        Ok(Volume { dir })
    }

    /// Fills it up, or makes room again.
    ///
    /// # Errors
    /// When the file that fills it can't be made.
    pub fn fill(&self, is_full: bool) -> Result<()> {
        let ballast = self.dir.join("ballast");
        if !is_full {
            std::fs::remove_file(ballast).ok();
            return Ok(());
        }
        let mut file = std::fs::File::create(ballast)?;
        let block = vec![1; 64 << 10];
        // Until there is no room for more.
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        Ok(())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        run("umount", ["-l", &self.dir.display().to_string()]).ok();
    }
}

/// A network namespace in which servers of this side are at the addresses that they have here.
pub struct OwnNetwork {
    /// Without it the namespace goes.
    holder: Child,
    network: Network,
    _ways: Vec<Way>,
}

impl OwnNetwork {
    /// # Errors
    /// When no namespace can be made here.
    pub fn with(ports: impl IntoIterator<Item = u16>) -> Result<Self> {
        // It ends with its input, and so with this process, however that ends.
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut is_up = [0];
        std::io::Read::read_exact(&mut holder.stdout.take().context("it is piped")?, &mut is_up)
            .context("a network namespace can't be made: it takes root")?;
        let network = Network::of(holder.id());
        let way = |port| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            network.expose(address, address)
        };
        let ways = ports.into_iter().map(way).collect::<Result<_>>()?;
        Ok(OwnNetwork { holder, network, _ways: ways })
    }

    /// The network, to run a command in it.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Nothing passes, and nobody is told; or things pass again.
    pub fn cut(&self, is_cut: bool) -> Result<()> {
        let file = format!("--net={}", self.network.file().display());
        run("nsenter", [file.as_str(), "ip", "link", "set", "lo", if is_cut { "down" } else { "up" }])
    }
}

impl Drop for OwnNetwork {
    fn drop(&mut self) {
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}

/// The wall clock of a process.
pub struct OwnClock {
    file: PathBuf,
    library: PathBuf,
}

impl OwnClock {
    /// `file` is for what it shows.
    ///
    /// # Errors
    /// When the library is not installed.
    pub fn new(file: PathBuf) -> Result<Self> {
        let folders = std::fs::read_dir("/usr/lib")?.filter_map(Result::ok);
        let library = folders.map(|folder| folder.path().join(FAKETIME)).find(|path| path.is_file());
        let library =
            library.context("libfaketime is not there: run `tests/run`, which installs what the tests need")?;
        let clock = OwnClock { file, library };
        clock.set(0)?;
        Ok(clock)
    }

    /// So many seconds before or behind the machine's.
    pub fn set(&self, ahead_s: i64) -> Result<()> {
        // Whole or not at all: it is read any time.
        let fresh = self.file.with_extension("new");
        std::fs::write(&fresh, format!("{ahead_s:+}\n"))?;
        Ok(std::fs::rename(fresh, &self.file)?)
    }

    /// Variables of the process. Time that only grows, and times of files, are the machine's.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".into()),
            ("DONT_FAKE_MONOTONIC", "1".into()),
            ("NO_FAKE_STAT", "1".into()),
        ]
    }
}

fn run<'a>(program: &str, args: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let output = Command::new(program).args(args).output().with_context(|| format!("{program} can't be run"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
