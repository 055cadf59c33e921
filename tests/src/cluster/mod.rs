//! A real Kubernetes for a test, ready in seconds and gone at once, without traces on the machine.
//!
//! Two levels. [`Level::ControlPlane`]: etcd, API server, controller manager; what is created there is stored and checked, but no pod
//! runs. [`Level::Pods`]: also a node with kubelet, containerd, service addresses and DNS. Every process lives in pid, mount and
//! network namespaces of the cluster's own (`init.sh` is process 1); when the handle is dropped, or the test process dies in
//! whatever way, the kernel ends all of it. Facts behind the flags are in comments where they stand.
//!
//! The test process is outside of the cluster's network: [`Cluster::client`] and the programs reach the API server through a
//! [`Way`]; a service of [`crate::services`] is shown to pods by [`Cluster::expose`]; a process that has to be inside (an
//! operator, whose webhook the API server calls) is started by [`Cluster::command`].

mod audit;
mod images;
mod keys;
mod network;
mod parts;
mod policy;
mod programs;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::services::{Server, find};
pub use audit::Request;
pub use images::{PAUSE_IMAGE, SLUICE_IMAGE, sluice as sluice_image};
use keys::Keys;
pub use network::{Network, Way};
pub use parts::{NODE, NODE_NAME, Part};
pub use programs::{Verdict, argo_health, helm_offline, kstatus, kubectl_offline, tool};

/// How much of a cluster there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// API objects, no pods.
    ControlPlane,
    /// Pods run.
    Pods,
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Administrator's kubeconfig for programs of this side.
    pub kubeconfig: PathBuf,
    /// Files of the programs that are run against it.
    home: TempDir,
    own: Option<Own>,
}

/// What there is of a cluster that was started here.
#[derive(Debug)]
struct Own {
    server: Server,
    keys: Keys,
    network: Network,
    /// Process 1 of its pid namespace, as this side sees it.
    init: u32,
    api: Way,
    cgroup: String,
}

impl Cluster {
    /// A control plane that the tests of this process share; each works in namespaces of its own and kills nothing.
    ///
    /// With the variable `SLUICE_TEST_EXISTING_CLUSTER` it is the one that `KUBECONFIG` leads to: tests that need its network or
    /// its keys fail there.
    pub async fn shared() -> &'static Cluster {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        SHARED
            .get_or_init(|| async {
                let existing = std::env::var_os("SLUICE_TEST_EXISTING_CLUSTER").and(std::env::var_os("KUBECONFIG"));
                match existing {
                    Some(kubeconfig) => Cluster::existing(kubeconfig.into()).expect("a kubeconfig can be used"),
                    None => Cluster::start(Level::ControlPlane, &[]).await.expect("a control plane starts"),
                }
            })
            .await
    }

    fn existing(kubeconfig: PathBuf) -> Result<Self> {
        rustls::crypto::ring::default_provider().install_default().ok();
        say(&format!("control plane: the cluster of {}", kubeconfig.display()));
        Ok(Cluster { kubeconfig, home: tempfile::tempdir()?, own: None })
    }

    /// A cluster of one's own. `images` are OCI layouts as tar files, for the node.
    ///
    /// # Errors
    /// When something that it needs is missing, with what to install; when a part does not start, with its log.
    pub async fn start(level: Level, images: &[PathBuf]) -> Result<Self> {
        rustls::crypto::ring::default_provider().install_default().ok();
        ensure!(
            std::fs::read_to_string("/proc/self/status")?.lines().any(|line| line.starts_with("Uid:\t0\t")),
            "a cluster needs root: it makes its own namespaces; run the tests as root, or leave the cluster out with \
             `tests/run --without cluster`"
        );
        let tools = programs::folder()?;
        find("unshare", &[])?;
        find("nsenter", &[])?;
        find("ip", &["/sbin", "/usr/sbin"])?;
        if level == Level::Pods {
            for program in ["containerd", "runc", "ctr", "nft"] {
                find(program, &["/usr/sbin"])?;
            }
            ensure!(
                Path::new("/usr/lib/cni/bridge").exists(),
                "the network plugins of containers are not installed: run `tests/run`, which installs what the tests need"
            );
        }
        remove_what_the_dead_left();

        let started = Instant::now();
        let mut server = Server::new("cluster")?;
        let state = server.folder.path().to_owned();
        let cgroup = format!("sluice-test-{}", state.file_name().and_then(|name| name.to_str()).unwrap_or("cluster"));
        std::fs::write(state.join("owner"), std::process::id().to_string())?;
        let keys = Keys::make(&state)?;
        parts::write(&state, &tools, level, &cgroup)?;
        let pause = if level == Level::Pods { Some(images::pause()?) } else { None };
        for image in images.iter().chain(&pause) {
            let name = image.file_name().context("an image is a file")?;
            std::os::unix::fs::symlink(image, state.join("images").join(name))?;
        }

        let number = if level == Level::Pods { "3" } else { "2" };
        let argv = ["unshare", "--pid", "--mount", "--net", "--fork", "--kill-child", "--mount-proc"]
            .into_iter()
            .chain(["--propagation", "private", "--", "bash", script("init.sh"), number])
            .map(str::to_owned)
            .chain([state.display().to_string()])
            .collect();
        let ready = state.join("ready");
        server.start(argv, async || ready.exists()).await?;
        let started_in = started.elapsed();

        let outer = server.pid().context("the cluster has just started")?;
        let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"))?;
        let init: u32 = children.split_whitespace().next().context("unshare has one child")?.parse()?;
        let network = Network::of(init);
        let api = network.forward(SocketAddr::from(([127, 0, 0, 1], 6443)))?;
        let kubeconfig = keys::write(&state, "admin.kubeconfig", &keys.admin(&format!("https://{}", api.listens)))?;
        let own = Own { server, keys, network, init, api, cgroup };
        let cluster = Cluster { kubeconfig, home: tempfile::tempdir()?, own: Some(own) };
        cluster.api_ready().await?;
        let version = cluster.client().await?.apiserver_version().await?.git_version;
        let what = if level == Level::Pods { "pods: a node of" } else { "control plane:" };
        say(&format!("{what} Kubernetes {version} and etcd, ready in {started_in:.1?}"));
        Ok(cluster)
    }

    /// A client with all rights.
    ///
    /// # Errors
    /// When the kubeconfig can't be read.
    pub async fn client(&self) -> Result<kube::Client> {
        client(&self.kubeconfig).await
    }

    /// The kubeconfig that a process inside the cluster's network uses to be an administrator.
    ///
    /// # Panics
    /// With an existing cluster.
    pub fn kubeconfig_inside(&self) -> PathBuf {
        self.state().join("admin.inside")
    }

    /// A kubeconfig, for a process inside, of the service account `namespace/name`, which has to exist: the rights of that
    /// account and no others.
    ///
    /// # Errors
    /// When the API server gives no token.
    pub fn kubeconfig_of(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let token = self.kubectl(&["create", "token", name, "-n", namespace, "--duration=24h"])?;
        let text = self.own().keys.bearer(&format!("https://{NODE}:6443"), token.trim());
        keys::write(self.state(), &format!("{namespace}.{name}.kubeconfig"), &text)
    }

    /// The same for a process on this side.
    ///
    /// # Errors
    /// When the API server gives no token.
    pub fn kubeconfig_outside_of(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let token = self.kubectl(&["create", "token", name, "-n", namespace, "--duration=24h"])?;
        let text = self.own().keys.bearer(&format!("https://{}", self.own().api.listens), token.trim());
        keys::write(self.state(), &format!("{namespace}.{name}.outside.kubeconfig"), &text)
    }

    /// A program that runs inside the cluster's network, with the files of this side. It ends with the test process if it is
    /// spawned by [`crate::services::Server`].
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.own().network.file().display())).arg("--").arg(program);
        command
    }

    /// The words that make a command run inside the cluster's network: for [`crate::services::Server::start`].
    pub fn prefix(&self) -> Vec<String> {
        vec!["nsenter".into(), format!("--net={}", self.own().network.file().display()), "--".into()]
    }

    /// Shows a server of this side to the cluster: at [`NODE`], on the given port or on a free one (0).
    ///
    /// # Errors
    /// When the port is taken there.
    pub fn expose(&self, port: u16, outside: u16) -> Result<Way> {
        let inside: SocketAddr = (NODE.parse::<std::net::IpAddr>()?, port).into();
        self.own().network.expose(inside, SocketAddr::from(([127, 0, 0, 1], outside)))
    }

    /// A port on this side's loopback address that leads to an address of the cluster: a pod, a Service, the node.
    ///
    /// # Errors
    /// When the cluster is gone.
    pub fn forward(&self, inside: SocketAddr) -> Result<Way> {
        self.own().network.forward(inside)
    }

    /// Kills a part at once (SIGKILL). Pods live on without kubelet and containerd.
    ///
    /// # Errors
    /// When the cluster is gone.
    pub fn kill(&self, part: Part) -> Result<()> {
        self.part("kill", part)
    }

    /// Starts a part that was killed, without waiting until it is ready: [`Cluster::api_ready`] waits.
    ///
    /// # Errors
    /// When the cluster is gone.
    pub fn start_part(&self, part: Part) -> Result<()> {
        self.part("start", part)
    }

    /// Waits until the API server says that it is ready.
    ///
    /// # Errors
    /// When it is not in time.
    pub async fn api_ready(&self) -> Result<()> {
        let start = Instant::now();
        loop {
            let asked =
                async { self.client().await?.request_text(http_get("/readyz")?).await.map_err(anyhow::Error::from) };
            match tokio::time::timeout(Duration::from_secs(5), asked).await {
                Ok(Ok(_)) => return Ok(()),
                _ if start.elapsed() > crate::wait::DEADLINE => {
                    bail!(
                        "the API server is not ready:\n{}",
                        self.own.as_ref().map_or_else(String::new, |_| self.log(Part::ApiServer))
                    )
                }
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Runs a script inside all of the cluster's namespaces, with bash.
    ///
    /// # Errors
    /// When it fails, with what it printed.
    pub fn inside(&self, script: &str) -> Result<String> {
        programs::output(self.enter().args(["bash", "-euc", script]), None)
    }

    /// What a part printed so far.
    pub fn log(&self, part: Part) -> String {
        std::fs::read_to_string(self.state().join("log").join(format!("{}.log", part.name()))).unwrap_or_default()
    }

    /// What service accounts (not the cluster's own) asked the API server so far.
    ///
    /// # Errors
    /// When the audit log can't be read.
    pub fn audit(&self) -> Result<Vec<Request>> {
        audit::read(&self.state().join("log/audit.log"))
    }

    /// The folder with keys, configuration and logs.
    ///
    /// # Panics
    /// With an existing cluster.
    pub fn state(&self) -> &Path {
        self.own().server.folder.path()
    }

    fn own(&self) -> &Own {
        self.own
            .as_ref()
            .expect("this test needs a cluster that it can look into: run it without SLUICE_TEST_EXISTING_CLUSTER")
    }

    fn part(&self, action: &str, part: Part) -> Result<()> {
        let mut command = self.enter();
        command.args(["bash", script("part.sh"), action]).arg(self.state()).arg(part.name());
        programs::output(&mut command, None)?;
        Ok(())
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.own().init.to_string(), "--net", "--mount", "--pid", "--wdns=/", "--"]);
        command
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.server.kill();
        // The kernel ends the rest a moment later; a group with a process in it can't be removed.
        for _ in 0..100 {
            if remove_cgroup(&self.cgroup) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A client by a kubeconfig.
///
/// # Errors
/// When the kubeconfig can't be read.
pub async fn client(kubeconfig: &Path) -> Result<kube::Client> {
    let config =
        kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

/// One line on standard error, which shows although the test passes.
fn say(line: &str) {
    use std::io::Write as _;
    writeln!(std::io::stderr(), "{line}").ok();
}

fn http_get(path: &str) -> Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}

fn script(name: &str) -> &'static str {
    match name {
        "init.sh" => concat!(env!("CARGO_MANIFEST_DIR"), "/src/cluster/init.sh"),
        _ => concat!(env!("CARGO_MANIFEST_DIR"), "/src/cluster/part.sh"),
    }
}

/// Control groups and folders of clusters whose test process died before it could tidy up.
fn remove_what_the_dead_left() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with("sluice-cluster-")) else { continue };
        let owner = std::fs::read_to_string(entry.path().join("owner")).unwrap_or_default();
        if !owner.is_empty() && !Path::new("/proc").join(&owner).exists() {
            remove_cgroup(&format!("sluice-test-{name}"));
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// The folders that a killed cluster leaves in each control group hierarchy. The kernel removes only empty ones, so nothing that
/// lives can be hit. False if some are left.
fn remove_cgroup(name: &str) -> bool {
    fn remove(folder: &Path) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            }
        }
        std::fs::remove_dir(folder).ok();
    }
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let folders: Vec<PathBuf> = hierarchies.chain([root.to_owned()]).map(|folder| folder.join(name)).collect();
    folders.iter().for_each(|folder| remove(folder));
    folders.iter().all(|folder| !folder.exists())
}
