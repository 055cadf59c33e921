//! What runtime pods say of their rules: a task per pod asks, and waits at the pod for news.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluice::pipeline::EngineReport;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::queue::Queue;

/// How long a pod may wait with its answer if there is no news.
const WAIT: Duration = Duration::from_secs(30);
/// What an answer may take beyond that.
const SLACK: Duration = Duration::from_secs(5);
/// A pod that can't be reached for so long says nothing any more.
const LOST_AFTER: Duration = Duration::from_secs(10);
/// Pauses between tries, first and longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Largest report that is read.
const MAX_BYTES: usize = 32 << 20;

/// The pods that are asked, and what they said last.
#[derive(Clone)]
pub struct Reports {
    shared: Arc<Shared>,
}

struct Shared {
    client: reqwest::Client,
    tracker: TaskTracker,
    queue: Arc<Queue>,
    state: Mutex<HashMap<String, Asked>>,
}

/// One pod, by uid.
struct Asked {
    namespace: String,
    url: String,
    token: String,
    stop: CancellationToken,
    report: Option<Arc<EngineReport>>,
}

/// Who is to be asked.
#[derive(Clone, Debug)]
pub struct Address {
    /// The pod's uid.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Where it answers.
    pub url: String,
    /// The token that it wants.
    pub token: String,
}

impl Reports {
    /// Nobody is asked yet.
    ///
    /// # Errors
    /// The client can't be made.
    pub fn new(tracker: TaskTracker, queue: Arc<Queue>) -> reqwest::Result<Self> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(2))
            .timeout(WAIT + SLACK)
            .pool_max_idle_per_host(1)
            // Pods answer without TLS: no certificates of the system are wanted.
            .tls_certs_only([])
            .build()?;
        Ok(Reports { shared: Arc::new(Shared { client, tracker, queue, state: Mutex::default() }) })
    }

    /// Asks exactly these pods of a namespace from now on.
    pub fn ask(&self, namespace: &str, pods: &[Address]) {
        let mut state = self.shared.state();
        let is_wanted = |uid: &String, asked: &Asked| {
            asked.namespace != namespace
                || pods.iter().any(|pod| pod.uid == *uid && pod.url == asked.url && pod.token == asked.token)
        };
        state.retain(|uid, asked| {
            let is_wanted = is_wanted(uid, asked);
            if !is_wanted {
                asked.stop.cancel();
            }
            is_wanted
        });
        for pod in pods {
            if state.contains_key(&pod.uid) {
                continue;
            }
            let stop = CancellationToken::new();
            let asked = Asked {
                namespace: pod.namespace.clone(),
                url: pod.url.clone(),
                token: pod.token.clone(),
                stop: stop.clone(),
                report: None,
            };
            state.insert(pod.uid.clone(), asked);
            let (shared, pod) = (Arc::clone(&self.shared), pod.clone());
            self.shared.tracker.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = shared.follow(&pod) => {}
                }
            });
        }
    }

    /// What a pod said last.
    pub fn get(&self, uid: &str) -> Option<Arc<EngineReport>> {
        self.shared.state().get(uid)?.report.clone()
    }

    /// Asks nobody any more.
    pub fn stop(&self) {
        for (_, asked) in self.shared.state().drain() {
            asked.stop.cancel();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, HashMap<String, Asked>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn follow(&self, pod: &Address) {
        let mut after = String::new();
        let mut pause = PAUSES.0;
        let mut reached = Instant::now();
        loop {
            match self.fetch(pod, &after).await {
                Ok(report) => {
                    (pause, reached) = (PAUSES.0, Instant::now());
                    after = format!("{}.{}", report.instance, report.version);
                    self.note(pod, Some(report));
                }
                Err(error) => {
                    after.clear();
                    if reached.elapsed() > LOST_AFTER {
                        self.note(pod, None);
                    }
                    tracing::debug!(pod = pod.url, "no report: {error}");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    async fn fetch(&self, pod: &Address, after: &str) -> Result<EngineReport, String> {
        let url = format!("{}/report?after={after}&wait={}", pod.url, WAIT.as_secs());
        let request = self.client.get(url).bearer_auth(&pod.token).send();
        let mut answer = request.await.map_err(|error| error.without_url().to_string())?;
        if !answer.status().is_success() {
            return Err(answer.status().to_string());
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| error.without_url().to_string())? {
            if bytes.len() + chunk.len() > MAX_BYTES {
                return Err("the report is too large".to_owned());
            }
            bytes.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    }

    fn note(&self, pod: &Address, report: Option<EngineReport>) {
        let mut state = self.state();
        let Some(asked) = state.get_mut(&pod.uid) else { return };
        if asked.report.as_deref() == report.as_ref() {
            return;
        }
        asked.report = report.map(Arc::new);
        drop(state);
        self.queue.add(&pod.namespace, "report");
    }
}
