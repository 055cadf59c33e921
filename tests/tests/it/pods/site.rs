//! A cluster with the chart installed and a broker beside it, as a user has them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use serde_json::{Value, json};
use sluice_tests::cluster::{Cluster, Level, NODE, SLUICE_IMAGE, Way, sluice_image};
use sluice_tests::mqtt::MqttClient;
use sluice_tests::services::Mosquitto;
use sluice_tests::wait;
use tokio::sync::OnceCell;

use crate::control_plane::repository;

/// What the chart is told so that it takes the image of this working tree.
pub const OUR_IMAGE: &str = "image.registry=localhost,image.repository=sluice,image.tag=test,image.pullPolicy=Never";
/// Where the operator is.
pub const OPERATOR_NAMESPACE: &str = "sluice-system";

/// A cluster, the operator in it, a broker that pods know as `mosquitto:1883`.
pub struct Site {
    pub cluster: Cluster,
    pub broker: Mosquitto,
    way: Way,
}

impl Site {
    /// A cluster with a broker, and nothing installed.
    pub async fn bare() -> Site {
        let (image, broker) = tokio::join!(sluice_image(), Mosquitto::start());
        let broker = broker.unwrap();
        let cluster = Cluster::start(Level::Pods, &[image.unwrap().to_owned()]).await.unwrap();
        let way = cluster.expose(1883, broker.port()).unwrap();
        Site { cluster, broker, way }
    }

    /// The same with the chart installed, serving all namespaces.
    pub async fn with_operator() -> Site {
        let site = Site::bare().await;
        site.install(&["--set", "scope=Cluster"]);
        site
    }

    /// One like that for all tests that kill nothing and work in namespaces of their own.
    pub async fn shared() -> &'static Site {
        static SHARED: OnceCell<Site> = OnceCell::const_new();
        SHARED.get_or_init(Site::with_operator).await
    }

    /// `helm install`, as the README says, with our image and these arguments; waits until all is ready.
    pub fn install(&self, args: &[&str]) {
        let chart = repository("charts/sluice").display().to_string();
        let fixed = [
            "install",
            "sluice",
            &chart,
            "-n",
            OPERATOR_NAMESPACE,
            "--create-namespace",
            "--wait",
            "--timeout=60s",
            "--set",
            OUR_IMAGE,
        ];
        let args: Vec<&str> = fixed.into_iter().chain(args.iter().copied()).collect();
        if let Err(error) = self.cluster.helm(&args) {
            panic!("{error}\n{}", self.what_is_wrong(OPERATOR_NAMESPACE));
        }
    }

    /// A namespace that allows only restricted pods, in which `mosquitto` is the broker.
    pub fn namespace(&self, name: &str) {
        self.cluster.namespace(name).unwrap();
        self.cluster.kubectl(&["label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted"]).unwrap();
        self.cluster.apply(name, &service_to_node("mosquitto", 1883, self.way.listens.port())).unwrap();
    }

    /// A client of the broker.
    pub fn mqtt(&self) -> MqttClient {
        MqttClient::connect(self.broker.port())
    }

    /// Rules of a namespace.
    pub async fn rules(&self, namespace: &str) -> Api<DynamicObject> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("sluice.dev", "v1alpha1", "Rule"));
        Api::namespaced_with(self.cluster.client().await.unwrap(), namespace, &kind)
    }

    /// Waits until a rule has this condition for its newest generation, and gives how long that took.
    pub async fn until_condition(&self, namespace: &str, rule: &str, kind: &str, status: &str) -> Duration {
        let started = Instant::now();
        let rules = self.rules(namespace).await;
        loop {
            // The API server may be away: that is what some tests are about.
            let found = rules.get(rule).await.ok();
            if found.as_ref().is_some_and(|rule| has_condition(rule, kind, status)) {
                return started.elapsed();
            }
            if started.elapsed() > wait::DEADLINE {
                let status = found.map(|rule| rule.data["status"].to_string());
                panic!("{rule} is not {kind}={status:?}\n{}", self.what_is_wrong(namespace));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runtime pods of a namespace by name, with the pid-independent things that tell whether one was replaced or restarted.
    pub async fn pods(&self, namespace: &str) -> BTreeMap<String, (String, i32)> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client().await.unwrap(), namespace);
        let pods = pods.list(&ListParams::default()).await.unwrap();
        pods.items
            .into_iter()
            .map(|pod| {
                let restarts = pod
                    .status
                    .and_then(|status| status.container_statuses)
                    .map_or(0, |containers| containers.iter().map(|container| container.restart_count).sum());
                (pod.metadata.name.unwrap_or_default(), (pod.metadata.uid.unwrap_or_default(), restarts))
            })
            .collect()
    }

    /// Has the kubelet given the default runtime's pod the bundle that is written? False also while Kubernetes has not made the pod.
    pub async fn has_newest_bundle(&self, namespace: &str) -> bool {
        let secrets: Api<Secret> = Api::namespaced(self.cluster.client().await.unwrap(), namespace);
        let written = secrets.get("sluice-default-bundle").await.ok().and_then(|secret| secret.data);
        let Some(written) = written.and_then(|mut data| data.remove("index.json")) else { return true };
        let pods = self.pods(namespace).await;
        let Some((uid, _)) = pods.get("sluice-default-0") else { return false };
        let folder = format!("/run/k/kubelet/pods/{uid}/volumes/kubernetes.io~projected/bundle");
        let mounted = self.cluster.inside(&format!("cat {folder}/index.json"));
        mounted.is_ok_and(|mounted| mounted.trim().as_bytes() == written.0.trim_ascii())
    }

    /// Everything that helps to see why something does not happen.
    pub fn what_is_wrong(&self, namespace: &str) -> String {
        let mut report = String::new();
        for args in [
            &["get", "all,rules,streams,runtimes", "-n", namespace, "-o", "wide"][..],
            &[
                "get",
                "rules,streams,runtimes",
                "-n",
                namespace,
                "-o",
                "jsonpath={range .items[*]}{.metadata.name}: {.status}{\"\\n\"}{end}",
            ],
            &["get", "events", "-n", namespace],
            &["describe", "pods", "-n", namespace],
            &["logs", "-n", OPERATOR_NAMESPACE, "-l", "app.kubernetes.io/component=operator", "--tail=40"],
            &["logs", "-n", namespace, "statefulset/sluice-default", "--tail=40"],
        ] {
            let said = self.cluster.kubectl(args).unwrap_or_else(|error| error.to_string());
            report.push_str(&format!("--- kubectl {}\n{said}\n", args.join(" ")));
        }
        report
    }
}

/// Has the rule this condition, for the generation that it has?
pub fn has_condition(rule: &DynamicObject, kind: &str, status: &str) -> bool {
    let conditions = rule.data["status"]["conditions"].as_array().into_iter().flatten();
    conditions.filter(|condition| condition["type"] == kind).any(|condition| {
        condition["status"] == status && condition["observedGeneration"].as_i64() == rule.metadata.generation
    })
}

/// A Stream that reads a topic of the broker.
pub fn stream(name: &str, topic: &str) -> Value {
    json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "Stream", "metadata": {"name": name},
        "spec": {"type": "mqtt", "datasource": topic, "options": {"server": "tcp://mosquitto:1883", "qos": 1}}})
}

/// A Rule that writes to a topic of the broker.
pub fn rule(name: &str, sql: &str, topic: &str) -> Value {
    json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "Rule", "metadata": {"name": name},
        "spec": {"sql": sql, "sinks": [{"mqtt": {"server": "tcp://mosquitto:1883", "topic": topic, "qos": 1, "sendSingle": true}}]}})
}

/// Several objects as one text for `kubectl apply`.
pub fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// A Service with this name and port that leads to a port of the node.
pub fn service_to_node(name: &str, port: u16, node_port: u16) -> String {
    list(&[
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"ports": [{"port": port, "targetPort": node_port}]}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": [{"port": node_port}], "endpoints": [{"addresses": [NODE]}]}),
    ])
}

/// The image's name has the parts that the chart is told.
#[test]
fn the_chart_is_told_our_image() {
    assert_eq!(SLUICE_IMAGE, "localhost/sluice:test");
}
