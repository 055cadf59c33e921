//! The cluster itself: its parts come back after they were killed, its audit log tells who asked what, and nothing is left of it.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams};
use sluice_tests::cluster::{Cluster, Level, Part, client};
use sluice_tests::wait;

#[tokio::test(flavor = "multi_thread")]
async fn parts_come_back_and_nothing_is_left() {
    let cluster = Cluster::start(Level::ControlPlane, &[]).await.unwrap();
    the_audit_log_tells_what_an_account_asked(&cluster).await;
    cluster.kubectl(&["create", "configmap", "kept", "--from-literal=a=1"]).unwrap();
    for part in [Part::ApiServer, Part::Etcd] {
        cluster.kill(part).unwrap();
        assert!(cluster.kubectl(&["get", "configmap", "kept", "--request-timeout=1s"]).is_err(), "{part:?} is dead");
        cluster.start_part(part).unwrap();
        cluster.api_ready().await.unwrap();
        let maps: Api<ConfigMap> = Api::namespaced(cluster.client().await.unwrap(), "default");
        wait::until_true("the stored object", async || maps.get("kept").await.is_ok()).await;
    }
    let state = cluster.state().to_owned();
    drop(cluster);
    assert!(!state.exists());
    wait::until_true("the end of all its processes", async || {
        let mut processes = std::fs::read_dir("/proc").unwrap().flatten();
        !processes.any(|process| {
            let argv = std::fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
            argv.contains(&state.display().to_string())
        })
    })
    .await;
}

/// What an account asked is in the audit log, with the verdict.
async fn the_audit_log_tells_what_an_account_asked(cluster: &Cluster) {
    cluster.namespace("audited").unwrap();
    cluster.kubectl(&["create", "serviceaccount", "reader", "-n", "audited"]).unwrap();
    cluster.kubectl(&["create", "role", "reader", "-n", "audited", "--verb=list", "--resource=configmaps"]).unwrap();
    cluster
        .kubectl(&[
            "create",
            "rolebinding",
            "reader",
            "-n",
            "audited",
            "--role=reader",
            "--serviceaccount=audited:reader",
        ])
        .unwrap();
    let kubeconfig = cluster.kubeconfig_outside_of("audited", "reader").unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client(&kubeconfig).await.unwrap(), "audited");
    wait::until_true("the right to list", async || maps.list(&ListParams::default()).await.is_ok()).await;
    assert!(maps.get("some").await.is_err());
    let mine = wait::until("both requests in the log", async || {
        let mut requests = cluster.audit().unwrap();
        requests.retain(|request| request.user == "system:serviceaccount:audited:reader");
        requests.iter().any(|request| request.verb == "get").then_some(requests)
    })
    .await;
    let list = mine.iter().find(|request| request.verb == "list" && request.allowed).unwrap();
    assert_eq!((list.resource.as_str(), list.namespace.as_str(), list.code), ("configmaps", "audited", 200));
    let get = mine.iter().find(|request| request.verb == "get").unwrap();
    assert_eq!((get.name.as_str(), get.allowed, get.code), ("some", false, 403));
}
