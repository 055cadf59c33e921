//! The operator as a process beside a control plane, and a stand-in for the nodes that are not there: it runs the `sluice` command on
//! each runtime pod's bundle, as a kubelet would run the container, so that what pods report comes from the real runtime.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use sluice::pipeline::EngineReport;
use tokio::task::JoinHandle;

use crate::cluster::Cluster;
use crate::services::{Server, free_port};
use crate::sluice::sibling;

/// How often the stand-in looks at pods and Secrets.
const LOOK: Duration = Duration::from_millis(100);
/// Port on which pods report.
const PORT: u16 = 8080;

/// A running operator.
#[derive(Debug)]
pub struct Operator {
    server: Server,
    /// Where its metrics and probes are, inside of the cluster's network.
    pub http: u16,
}

impl Operator {
    /// Starts an operator for one namespace, and waits until it is ready. It is an administrator, unless `kubeconfig` says otherwise.
    ///
    /// # Errors
    /// When it does not get ready, with its log.
    pub async fn start(cluster: &Cluster, namespace: &str, kubeconfig: Option<&Path>, more: &[&str]) -> Result<Self> {
        let mut server = Server::new("operator")?;
        let http = free_port();
        let kubeconfig = kubeconfig.map_or_else(|| cluster.kubeconfig_inside(), Path::to_owned);
        let mut argv = cluster.prefix();
        // The kubeconfig has the API server's CA; no others are there.
        argv.extend(["env".to_owned(), "SSL_CERT_FILE=/dev/null".to_owned(), "SSL_CERT_DIR=/nonexistent".to_owned()]);
        argv.push(format!("KUBECONFIG={}", kubeconfig.display()));
        argv.push(sibling("sluice-operator")?.display().to_string());
        let http_arg = format!("127.0.0.1:{http}");
        let watched = format!("--watch-namespaces={namespace}");
        let defaults = [
            watched.as_str(),
            "--runtime-image=localhost/sluice:test",
            "--http",
            &http_arg,
            "--log-format=text",
            "--log-level=info,sluice_operator=debug",
        ];
        argv.extend(defaults.into_iter().chain(more.iter().copied()).map(str::to_owned));
        server.start(argv, async || is_ready(cluster, http).await).await?;
        Ok(Operator { server, http })
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Errors
    /// When it does not.
    pub async fn stop(&mut self) -> Result<()> {
        let pid = self.server.pid().context("it runs")?;
        std::process::Command::new("kill").args(["-TERM", &pid.to_string()]).status()?;
        let gone = || std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
        crate::wait::until_true("the operator to stop", async || gone()).await;
        self.server.kill();
        Ok(())
    }

    /// Starts it again as it was.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn launch(&mut self, cluster: &Cluster) -> Result<()> {
        let http = self.http;
        self.server.launch(async || is_ready(cluster, http).await).await
    }

    /// What it printed.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// One of its pages.
    ///
    /// # Errors
    /// When it can't be had.
    pub async fn get(&self, cluster: &Cluster, path: &str) -> Result<String> {
        let way = cluster.forward(([127, 0, 0, 1], self.http).into())?;
        Ok(reqwest::get(format!("http://{}{path}", way.listens)).await?.text().await?)
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// When it is gone.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.pid().context("it runs")?))?;
        let line =
            status.lines().find(|line| line.starts_with("VmRSS:")).context("the kernel counts resident memory")?;
        let kib: u64 = line.split_whitespace().nth(1).context("a number follows")?.parse()?;
        Ok(kib * 1024)
    }

    /// The sum of its counters whose line begins with `name`.
    ///
    /// # Errors
    /// When the metrics can't be had.
    pub async fn counter(&self, cluster: &Cluster, name: &str) -> Result<u64> {
        let text = self.get(cluster, "/metrics").await?;
        let lines = text.lines().filter(|line| line.starts_with(name));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }
}

async fn is_ready(cluster: &Cluster, http: u16) -> bool {
    let Ok(way) = cluster.forward(([127, 0, 0, 1], http).into()) else { return false };
    reqwest::get(format!("http://{}/readyz", way.listens)).await.is_ok_and(|answer| answer.status().is_success())
}

/// Runs the runtime pods of a namespace until it is dropped.
#[derive(Debug)]
pub struct Node {
    task: JoinHandle<()>,
    pods: Arc<Mutex<HashMap<String, Running>>>,
    is_frozen: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Running {
    name: String,
    address: Ipv4Addr,
    server: Server,
    folder: PathBuf,
    versions: Vec<Option<String>>,
}

impl Node {
    /// Begins.
    ///
    /// # Errors
    /// When there is no client.
    pub async fn start(cluster: &'static Cluster, namespace: &str) -> Result<Self> {
        let client = cluster.client().await?;
        let pods: Arc<Mutex<HashMap<String, Running>>> = Arc::default();
        let is_frozen: Arc<AtomicBool> = Arc::default();
        let (known, namespace, frozen) = (Arc::clone(&pods), namespace.to_owned(), Arc::clone(&is_frozen));
        #[expect(clippy::disallowed_methods, reason = "ended when the handle is dropped")]
        let task = tokio::spawn(async move {
            loop {
                // The API server may be away.
                if let Err(error) = look(cluster, &client, &namespace, &known, &frozen).await {
                    eprintln!("node: {error:#}");
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        Ok(Node { task, pods, is_frozen })
    }

    /// Kills a pod's process; it is started again.
    pub fn kill(&self, pod: &str) {
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        for running in pods.values_mut().filter(|running| running.name == pod) {
            running.server.kill();
        }
    }

    /// While frozen, pods do not get what is written to their bundles, as if their kubelet were away.
    pub fn freeze(&self, is_frozen: bool) {
        self.is_frozen.store(is_frozen, Ordering::Relaxed);
    }

    /// What a pod's runtime says of its rules, asked for directly.
    pub async fn report(&self, cluster: &Cluster, pod: &str) -> Option<EngineReport> {
        let (address, token) = {
            let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
            let running = pods.values().find(|running| running.name == pod)?;
            (running.address, std::fs::read_to_string(running.folder.join("token")).ok()?)
        };
        let way = cluster.forward((address, PORT).into()).ok()?;
        let request = reqwest::Client::new().get(format!("http://{}/report", way.listens)).bearer_auth(token.trim());
        serde_json::from_slice(&request.send().await.ok()?.bytes().await.ok()?).ok()
    }

    /// Address and log of a pod.
    pub fn pod(&self, name: &str) -> Option<(Ipv4Addr, String)> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.values().find(|running| running.name == name).map(|running| (running.address, running.server.log()))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

async fn look(
    cluster: &Cluster,
    client: &kube::Client,
    namespace: &str,
    known: &Mutex<HashMap<String, Running>>,
    is_frozen: &AtomicBool,
) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let listed = pods.list(&ListParams::default().labels("app.kubernetes.io/name=sluice-runtime")).await?;
    let uids: Vec<String> = listed.items.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
    known.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| uids.contains(uid));
    for pod in &listed.items {
        let (Some(uid), Some(name)) = (pod.metadata.uid.clone(), pod.metadata.name.clone()) else { continue };
        if pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = lock().get(&uid).map(|running| (running.folder.clone(), running.versions.clone()));
        let (folder, mut versions) = match now {
            Some(now) => now,
            None => {
                let server = Server::new("sluice")?;
                let folder = server.folder.path().join("bundle");
                std::fs::create_dir_all(&folder)?;
                let new = Running { name: name.clone(), address: address(), server, folder, versions: Vec::new() };
                let folder = new.folder.clone();
                lock().insert(uid.clone(), new);
                (folder, Vec::new())
            }
        };
        let keeps = is_frozen.load(Ordering::Relaxed) && !versions.is_empty();
        let has_bundle = keeps || mount(client, namespace, pod, &folder, &mut versions).await?;
        // Whoever asks for a pod meanwhile finds it, but while it is started.
        let stopped = {
            let mut known = lock();
            let Some(running) = known.get_mut(&uid) else { continue };
            running.versions = versions;
            let is_stopped = has_bundle && !is_alive(&running.server);
            if is_stopped { known.remove(&uid) } else { None }
        };
        if let Some(mut running) = stopped {
            let mut argv = cluster.prefix();
            let folder = running.folder.display().to_string();
            let http = format!("{}:{PORT}", running.address);
            let token = format!("{folder}/token");
            argv.push(sibling("sluice")?.display().to_string());
            let args = ["run", "--bundle", &folder, "--http", &http, "--http-token-file", &token, "--grace", "2s"];
            argv.extend(args.map(str::to_owned));
            running.server.start(argv, async || true).await?;
            let now = jiff_now();
            let status = json!({ "status": {
                "phase": "Running",
                "podIP": running.address.to_string(),
                "podIPs": [{ "ip": running.address.to_string() }],
                "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": now }],
            } });
            pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
            lock().insert(uid, running);
        }
    }
    Ok(())
}

fn is_alive(server: &Server) -> bool {
    let Some(pid) = server.pid() else { return false };
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn jiff_now() -> String {
    let now = std::process::Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output();
    now.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// An address of the loopback network that no other pod has.
fn address() -> Ipv4Addr {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let n = COUNTER.fetch_add(1, Ordering::Relaxed) + 1;
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 77, 0, 0)) + n)
}

/// Puts the Secrets of the pod's bundle volume into its folder, all at once, as a kubelet does. False while a required one is not
/// there.
async fn mount(
    client: &kube::Client,
    namespace: &str,
    pod: &Pod,
    folder: &Path,
    mounted: &mut Vec<Option<String>>,
) -> Result<bool> {
    let spec: Value = serde_json::to_value(&pod.spec)?;
    let volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
    let bundle = volumes.iter().find(|volume| volume["name"] == "bundle").context("the pod has a bundle")?;
    let sources = bundle["projected"]["sources"].as_array().cloned().unwrap_or_default();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut files = Vec::new();
    let mut versions = Vec::new();
    for source in &sources {
        let secret = &source["secret"];
        let name = secret["name"].as_str().context("a source is a Secret")?;
        let Some(found) = secrets.get_opt(name).await? else {
            if secret["optional"] == json!(true) {
                // Later parts are there only if the earlier ones are.
                versions.push(None);
                break;
            }
            return Ok(false);
        };
        versions.push(found.metadata.resource_version.clone());
        let data = found.data.unwrap_or_default();
        for item in secret["items"].as_array().into_iter().flatten() {
            let (key, path) = (item["key"].as_str().unwrap_or_default(), item["path"].as_str().unwrap_or_default());
            if let Some(value) = data.get(key) {
                files.push((path.to_owned(), value.0.clone()));
            }
        }
    }
    if versions == *mounted {
        return Ok(true);
    }
    // A folder beside it that takes its place by a link, like a kubelet's `..data`.
    let data = folder.join(format!("..{}", versions.iter().flatten().cloned().collect::<Vec<_>>().join("-")));
    std::fs::create_dir_all(&data)?;
    for (path, value) in &files {
        std::fs::write(data.join(path), value)?;
    }
    let (link, next) = (folder.join("..data"), folder.join("..data_tmp"));
    std::fs::remove_file(&next).ok();
    std::os::unix::fs::symlink(&data, &next)?;
    std::fs::rename(&next, &link)?;
    for (path, _) in &files {
        let file = folder.join(path);
        if !file.is_symlink() {
            std::os::unix::fs::symlink(Path::new("..data").join(path), file)?;
        }
    }
    *mounted = versions;
    Ok(true)
}

/// The value of a Secret, in base64.
pub fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}
