//! The operator against a real API server. No node is there: [`Node`] runs the `sluice` command on the bundles of runtime pods.

mod admission;
mod faults;
mod kstatus;
mod life;
mod managers;
mod many;
mod secrets;

use serde_json::Value;
use sluice_tests::cluster::Cluster;
use sluice_tests::operator::{Node, Operator};
use sluice_tests::services::unique;
use sluice_tests::wait;

use crate::control_plane::with_kinds;

/// A namespace with an operator of its own.
struct Site {
    cluster: &'static Cluster,
    namespace: String,
    operator: Operator,
    node: Node,
}

impl Site {
    /// On the control plane that all tests share.
    async fn new(more: &[&str]) -> Site {
        Site::on(with_kinds().await, more).await
    }

    async fn on(cluster: &'static Cluster, more: &[&str]) -> Site {
        let namespace = unique("site").replace('_', "-");
        cluster.namespace(&namespace).unwrap();
        // Each operator stands alone, unless a test is about more of them.
        let alone = if more.contains(&"--leader-elect=true") { &[][..] } else { &["--leader-elect=false"] };
        let quick = ["--webhook=false", "--secret-interval=1s", "--counter-interval=5s"];
        let args: Vec<&str> = quick.iter().chain(alone).chain(more).copied().collect();
        let operator = Operator::start(cluster, &namespace, None, &args).await.unwrap();
        let node = Node::start(cluster, &namespace).await.unwrap();
        Site { cluster, namespace, operator, node }
    }

    fn apply(&self, yaml: &str) {
        self.cluster.apply(&self.namespace, yaml).unwrap();
    }

    fn delete(&self, what: &str) {
        self.cluster.kubectl(&["delete", "-n", &self.namespace, what, "--wait=false"]).unwrap();
    }

    fn get(&self, what: &str) -> Option<Value> {
        let text = self.cluster.kubectl(&["get", "-n", &self.namespace, what, "-o", "json"]).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// All conditions as `Type=Status/Reason`, if they are about the newest generation.
    fn conditions(&self, what: &str) -> String {
        let Some(object) = self.get(what) else { return "not there".to_owned() };
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let of = |condition: &Value, field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        let shown = conditions.iter().map(|condition| {
            let stale = condition["observedGeneration"] != object["metadata"]["generation"];
            let mark = if stale { "(old)" } else { "" };
            format!("{}={}/{}{mark}", of(condition, "type"), of(condition, "status"), of(condition, "reason"))
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    /// Waits until a condition is as it should be: `Ready=True/Running`.
    async fn until(&self, what: &str, condition: &str) {
        let start = std::time::Instant::now();
        loop {
            let now = self.conditions(what);
            if now.split(' ').any(|word| word == condition) {
                return;
            }
            if start.elapsed() > wait::DEADLINE {
                let pod = self.node.pod("sluice-default-0").map(|(_, log)| log).unwrap_or_default();
                panic!("{what} is not {condition}, but {now}\noperator:\n{}\npod:\n{pod}", self.operator.log());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    fn message(&self, what: &str, ty: &str) -> String {
        let object = self.get(what).unwrap_or_default();
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.iter().find(|condition| condition["type"] == ty);
        found.and_then(|condition| condition["message"].as_str()).unwrap_or_default().to_owned()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Not waited for: the control plane goes soon enough.
        self.cluster.kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]).ok();
    }
}

/// A stream of made-up rows.
fn stream(name: &str, columns: &str) -> String {
    format!(
        "---\napiVersion: sluice.dev/v1alpha1\nkind: Stream\nmetadata: {{name: {name}}}\nspec:\n  sql: CREATE STREAM {name} \
         ({columns}) WITH (TYPE=\"memory\", DATASOURCE=\"{name}\")\n"
    )
}

/// A rule whose rows go nowhere.
fn rule(name: &str, sql: &str) -> String {
    format!(
        "---\napiVersion: sluice.dev/v1alpha1\nkind: Rule\nmetadata: {{name: {name}}}\nspec:\n  sql: {sql}\n  sinks:\n  - nop: {{}}\n"
    )
}
