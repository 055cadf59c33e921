//! The parts of a cluster: how each is called, and with which configuration.

use std::path::Path;

use anyhow::Result;

use super::Level;

/// The node's address, as the parts and the pods see it.
pub const NODE: &str = "192.0.2.10";
/// The node's name.
pub const NODE_NAME: &str = "node1";
/// The address of the Service `kubernetes`.
pub const SERVICE_OF_API: &str = "203.0.113.1";

/// One process of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The store.
    Etcd,
    /// The API server.
    ApiServer,
    /// Garbage collection, StatefulSets, service accounts and so on.
    ControllerManager,
    /// Places pods on the node.
    Scheduler,
    /// Runs pods.
    Kubelet,
    /// Service addresses.
    Proxy,
    /// The container runtime.
    Containerd,
    /// The cluster's names.
    CoreDns,
}

impl Part {
    /// The name of its files.
    pub fn name(self) -> &'static str {
        match self {
            Part::Etcd => "etcd",
            Part::ApiServer => "kube-apiserver",
            Part::ControllerManager => "kube-controller-manager",
            Part::Scheduler => "kube-scheduler",
            Part::Kubelet => "kubelet",
            Part::Proxy => "kube-proxy",
            Part::Containerd => "containerd",
            Part::CoreDns => "coredns",
        }
    }

    fn all(level: Level) -> &'static [Part] {
        match level {
            Level::ControlPlane => &[Part::Etcd, Part::ApiServer, Part::ControllerManager],
            Level::Pods => &[
                Part::Etcd,
                Part::ApiServer,
                Part::ControllerManager,
                Part::Scheduler,
                Part::Kubelet,
                Part::Proxy,
                Part::Containerd,
                Part::CoreDns,
            ],
        }
    }
}

/// Writes what `init.sh` reads: the arguments of each part and their configuration.
///
/// # Errors
/// When a file can't be written.
pub fn write(state: &Path, tools: &Path, level: Level, cgroup: &str) -> Result<()> {
    let write = |name: &str, text: String| std::fs::write(state.join(name), text);
    let s = state.display();
    std::fs::create_dir_all(state.join("parts"))?;
    std::fs::create_dir_all(state.join("log"))?;
    std::fs::create_dir_all(state.join("images"))?;
    for part in Part::all(level) {
        let mut argv = arguments(*part, state, level);
        if *part != Part::Containerd {
            argv[0] = tools.join(&argv[0]).display().to_string();
        }
        write(&format!("parts/{}", part.name()), argv.join("\n") + "\n")?;
    }
    std::os::unix::fs::symlink(tools, state.join("bin"))?;
    write("audit.yaml", AUDIT.into())?;
    write("cgroup", cgroup.into())?;
    write("cni.json", CNI.into())?;
    write("containerd.toml", CONTAINERD.into())?;
    write("coredns.yaml", COREDNS_ROLE.into())?;
    write(
        "Corefile",
        format!(
            ".:53 {{\n  bind {NODE}\n  ready 127.0.0.1:8181\n  errors\n  kubernetes cluster.local in-addr.arpa {{\n    kubeconfig {s}/coredns.kubeconfig\n  }}\n}}\n"
        ),
    )?;
    write("resolv.conf", String::new())?;
    write("kubelet.yaml", kubelet(state, cgroup))?;
    write(
        "kube-proxy.yaml",
        format!(
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\n\
             clientConnection: {{kubeconfig: {s}/kube-proxy.kubeconfig}}\nhostnameOverride: {NODE_NAME}\n\
             clusterCIDR: 198.51.100.0/24\noomScoreAdj: 0\nhealthzBindAddress: 127.0.0.1:10256\n\
             metricsBindAddress: 127.0.0.1:10249\n\
             conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}\n\
             # At the usual second, the Service of a Ready pod still refuses for that long.\n\
             nftables: {{minSyncPeriod: 100ms}}\n"
        ),
    )?;
    Ok(())
}

fn arguments(part: Part, state: &Path, level: Level) -> Vec<String> {
    let s = state.display();
    let etcd = "http://127.0.0.1:2379";
    let text = match part {
        Part::Etcd => format!(
            "etcd --data-dir=/run/k/etcd --unsafe-no-fsync --log-level=warn --listen-client-urls={etcd} \
             --advertise-client-urls={etcd} --listen-peer-urls=http://127.0.0.1:2380 \
             --initial-advertise-peer-urls=http://127.0.0.1:2380 --initial-cluster=default=http://127.0.0.1:2380"
        ),
        Part::ApiServer => format!(
            "kube-apiserver --etcd-servers={etcd} --bind-address=0.0.0.0 --secure-port=6443 --advertise-address={NODE} \
             --tls-cert-file={s}/apiserver.pem --tls-private-key-file={s}/apiserver.key --client-ca-file={s}/ca.pem \
             --service-account-key-file={s}/sa.pub --service-account-signing-key-file={s}/sa.key \
             --service-account-issuer=https://kubernetes.default.svc --api-audiences=https://kubernetes.default.svc \
             --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
             --service-cluster-ip-range=203.0.113.0/24 --endpoint-reconciler-type={} --enable-aggregator-routing=true \
             --requestheader-client-ca-file={s}/front-ca.pem --requestheader-allowed-names=front-proxy \
             --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
             --requestheader-extra-headers-prefix=X-Remote-Extra- \
             --proxy-client-cert-file={s}/front.pem --proxy-client-key-file={s}/front.key \
             --kubelet-certificate-authority={s}/ca.pem --kubelet-client-certificate={s}/kubelet-client.pem \
             --kubelet-client-key={s}/kubelet-client.key --kubelet-preferred-address-types=InternalIP \
             --audit-policy-file={s}/audit.yaml --audit-log-path={s}/log/audit.log",
            if level == Level::Pods { "lease" } else { "none" }
        ),
        Part::ControllerManager => format!(
            "kube-controller-manager {} --service-account-private-key-file={s}/sa.key --root-ca-file={s}/ca.pem \
             --leader-elect=false --use-service-account-credentials=true --secure-port=0 \
             --kube-api-qps=500 --kube-api-burst=1000 \
             --controllers=*,-cloud-node-lifecycle-controller,-node-route-controller,-service-lb-controller",
            kubeconfigs(part, state)
        ),
        Part::Scheduler => format!("kube-scheduler {} --leader-elect=false --secure-port=0", kubeconfigs(part, state)),
        Part::Kubelet => format!(
            "kubelet --config={s}/kubelet.yaml --kubeconfig={s}/kubelet.kubeconfig --root-dir=/run/k/kubelet \
             --cert-dir=/run/k/cert --hostname-override={NODE_NAME} --node-ip={NODE}"
        ),
        Part::Proxy => format!("kube-proxy --config={s}/kube-proxy.yaml"),
        Part::Containerd => format!("containerd --config {s}/containerd.toml"),
        Part::CoreDns => format!("coredns -conf {s}/Corefile"),
    };
    text.split_whitespace().map(str::to_owned).collect()
}

fn kubeconfigs(part: Part, state: &Path) -> String {
    let file = format!("{}/{}.kubeconfig", state.display(), part.name());
    format!("--kubeconfig={file} --authentication-kubeconfig={file} --authorization-kubeconfig={file}")
}

fn kubelet(state: &Path, cgroup: &str) -> String {
    let s = state.display();
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n\
         authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {s}/ca.pem}}}}\n\
         authorization: {{mode: Webhook}}\ntlsCertFile: {s}/kubelet.pem\ntlsPrivateKeyFile: {s}/kubelet.key\n\
         containerRuntimeEndpoint: unix:///run/k/containerd.sock\ncgroupDriver: cgroupfs\ncgroupRoot: /{cgroup}\n\
         clusterDNS: [{NODE}]\nclusterDomain: cluster.local\nresolvConf: {s}/resolv.conf\nfailSwapOn: false\n\
         oomScoreAdj: 0\nevictionHard: {{memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}}\n\
         imageGCHighThresholdPercent: 100\nimageGCLowThresholdPercent: 99\npodLogsDir: {s}/log/pods\n\
         volumePluginDir: /run/k/flex\nreadOnlyPort: 0\nmakeIPTablesUtilChains: false\nsyncFrequency: 10s\n"
    )
}

/// Only what service accounts ask for: enough to compare an operator's requests with its Role.
const AUDIT: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n\
    - level: None\n  userGroups: [\"system:serviceaccounts:kube-system\"]\n\
    - level: Metadata\n  userGroups: [\"system:serviceaccounts\"]\n- level: None\n";

const CNI: &str = r#"{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true,
 "hairpinMode": true, "ipam": {"type": "host-local", "dataDir": "/run/k/ipam", "ranges": [[{"subnet": "198.51.100.0/24"}]],
 "routes": [{"dst": "0.0.0.0/0"}]}}]}
"#;

const CONTAINERD: &str = r#"version = 2
root = "/run/k/containerd/root"
state = "/run/k/containerd/state"
[grpc]
  address = "/run/k/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "/run/k/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/run/k/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
"#;

const COREDNS_ROLE: &str = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: coredns}\nrules:\n\
    - {apiGroups: [\"\"], resources: [services, pods, namespaces, endpoints], verbs: [list, watch]}\n\
    - {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}\n---\n\
    apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: coredns}\n\
    roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: coredns}\n\
    subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: \"system:coredns\"}]\n";
