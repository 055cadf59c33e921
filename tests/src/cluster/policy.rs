//! Network policies as rules of the kernel's packet filter: there is no enforcer among the packages, so a test translates what is in
//! the cluster at one moment.
//!
//! What is needed here and no more: selectors by labels, by namespace, address blocks; ports by number or by the name of a
//! container's port. A policy that uses something else is an error, not a gap.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{Api, ListParams};

use super::Cluster;

/// What the policies are about.
struct Snapshot {
    namespaces: Vec<Namespace>,
    pods: Vec<Pod>,
}

impl Cluster {
    /// Puts the network policies that are there now into force, for the pods that are there now. Gives the script, for messages.
    ///
    /// # Errors
    /// When a policy uses something that is not translated.
    pub async fn enforce_network_policies(&self) -> Result<String> {
        let client = self.client().await?;
        let all = ListParams::default();
        let policies: Vec<NetworkPolicy> = Api::all(client.clone()).list(&all).await?.items;
        let snapshot = Snapshot {
            namespaces: Api::all(client.clone()).list(&all).await?.items,
            pods: Api::all(client).list(&all).await?.items,
        };
        let script = translate(&policies, &snapshot)?;
        self.inside(&format!("nft -f - <<'END'\n{script}END\n"))?;
        Ok(script)
    }
}

/// After address translation, so that a Service's address has become that of a pod or of the node.
fn translate(policies: &[NetworkPolicy], snapshot: &Snapshot) -> Result<String> {
    let mut chains = String::new();
    let mut jumps = String::new();
    for pod in &snapshot.pods {
        let Some(address) = address(pod) else { continue };
        for (direction, own) in [("Ingress", "daddr"), ("Egress", "saddr")] {
            let mut allowed = Vec::new();
            let mut selected = false;
            for policy in policies.iter().filter(|policy| policy.metadata.namespace == pod.metadata.namespace) {
                let spec = policy.spec.as_ref().context("a policy has a spec")?;
                let types = spec.policy_types.as_deref().unwrap_or_default();
                if !types.iter().any(|kind| kind == direction)
                    || !matches(spec.pod_selector.as_ref(), pod.metadata.labels.as_ref())?
                {
                    continue;
                }
                selected = true;
                if direction == "Ingress" {
                    for rule in spec.ingress.iter().flatten() {
                        allowed.extend(matches_of(
                            "saddr",
                            rule.from.as_deref(),
                            rule.ports.as_deref(),
                            policy,
                            pod,
                            snapshot,
                        )?);
                    }
                } else {
                    for rule in spec.egress.iter().flatten() {
                        allowed.extend(matches_of(
                            "daddr",
                            rule.to.as_deref(),
                            rule.ports.as_deref(),
                            policy,
                            pod,
                            snapshot,
                        )?);
                    }
                }
            }
            if !selected {
                continue;
            }
            let chain = format!("{direction}_{}", address.replace('.', "_")).to_lowercase();
            writeln!(jumps, "    ip {own} {address} jump {chain}")?;
            writeln!(chains, "  chain {chain} {{")?;
            for rule in allowed {
                writeln!(chains, "    {rule}return")?;
            }
            writeln!(chains, "    counter drop\n  }}")?;
        }
    }
    // What the node itself sends (the probes of the kubelet) does not pass here.
    Ok(format!(
        "table ip policies\ndelete table ip policies\ntable ip policies {{\n{chains}  chain filter {{\n    \
         type filter hook prerouting priority -90; policy accept;\n    ct state established,related accept\n{jumps}  }}\n}}\n"
    ))
}

/// The packets that one rule of a policy lets through, as the start of a line each.
fn matches_of(
    side: &str,
    peers: Option<&[NetworkPolicyPeer]>,
    ports: Option<&[NetworkPolicyPort]>,
    policy: &NetworkPolicy,
    pod: &Pod,
    snapshot: &Snapshot,
) -> Result<Vec<String>> {
    let addresses = match peers {
        None | Some([]) => vec![String::new()],
        Some(peers) => {
            let mut addresses = Vec::new();
            for peer in peers {
                addresses.extend(peer_addresses(side, peer, policy, snapshot)?);
            }
            addresses
        }
    };
    let ports = match ports {
        None | Some([]) => vec![String::new()],
        Some(ports) => ports.iter().map(|port| port_match(port, pod)).collect::<Result<_>>()?,
    };
    Ok(addresses.iter().flat_map(|address| ports.iter().map(move |port| format!("{address}{port}"))).collect())
}

fn peer_addresses(
    side: &str,
    peer: &NetworkPolicyPeer,
    policy: &NetworkPolicy,
    snapshot: &Snapshot,
) -> Result<Vec<String>> {
    if let Some(block) = &peer.ip_block {
        let mut text = format!("ip {side} {} ", block.cidr);
        if let Some(except) = block.except.as_deref().filter(|except| !except.is_empty()) {
            write!(text, "ip {side} != {{ {} }} ", except.join(", "))?;
        }
        return Ok(vec![text]);
    }
    let mut addresses = Vec::new();
    for pod in &snapshot.pods {
        let namespace = match &peer.namespace_selector {
            None => pod.metadata.namespace == policy.metadata.namespace,
            Some(selector) => {
                let labels = snapshot
                    .namespaces
                    .iter()
                    .find(|namespace| namespace.metadata.name == pod.metadata.namespace)
                    .and_then(|namespace| namespace.metadata.labels.as_ref());
                matches(Some(selector), labels)?
            }
        };
        if namespace && matches(peer.pod_selector.as_ref(), pod.metadata.labels.as_ref())? {
            addresses.extend(address(pod).map(|address| format!("ip {side} {address} ")));
        }
    }
    Ok(addresses)
}

fn port_match(port: &NetworkPolicyPort, pod: &Pod) -> Result<String> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP").to_lowercase();
    let number = match &port.port {
        None => return Ok(format!("meta l4proto {protocol} ")),
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            containers
                .flat_map(|container| container.ports.iter().flatten())
                .find(|port| port.name.as_ref() == Some(name))
                .with_context(|| format!("no port {name} in the pod"))?
                .container_port
        }
    };
    match port.end_port {
        Some(end) => Ok(format!("{protocol} dport {number}-{end} ")),
        None => Ok(format!("{protocol} dport {number} ")),
    }
}

fn matches(selector: Option<&LabelSelector>, labels: Option<&BTreeMap<String, String>>) -> Result<bool> {
    let Some(selector) = selector else { return Ok(true) };
    let label = |name: &String| labels.and_then(|labels| labels.get(name));
    let all = selector.match_labels.iter().flatten().all(|(name, value)| label(name) == Some(value));
    let mut each = true;
    for requirement in selector.match_expressions.iter().flatten() {
        let values = requirement.values.as_deref().unwrap_or_default();
        let found = label(&requirement.key);
        each &= match requirement.operator.as_str() {
            "In" => found.is_some_and(|value| values.contains(value)),
            "NotIn" => found.is_none_or(|value| !values.contains(value)),
            "Exists" => found.is_some(),
            "DoesNotExist" => found.is_none(),
            other => bail!("a selector with {other}"),
        };
    }
    Ok(all && each)
}

/// The address of a pod that has a network of its own and has not ended.
fn address(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let ended = status.phase.as_deref().is_some_and(|phase| phase == "Succeeded" || phase == "Failed");
    status.pod_ip.clone().filter(|_| !ended)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn allows_what_the_policy_says_and_drops_the_rest() {
        let policy = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "a"},
            "spec": {
                "podSelector": {"matchLabels": {"app": "runtime"}},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"who": "operator"}}}], "ports": [{"port": "status"}]}],
                "egress": [
                    {"ports": [{"port": 53, "protocol": "UDP"}]},
                    {"to": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.9/32"]}}], "ports": [{"port": 1883}]},
                ],
            },
        }))
        .unwrap();
        let pod = |name: &str, namespace: &str, address: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "ports": [{"name": "status", "containerPort": 8080}]}]},
                "status": {"podIP": address, "phase": "Running"},
            }))
            .unwrap()
        };
        let namespace = |name: &str| -> Namespace {
            serde_json::from_value(
                json!({"metadata": {"name": name, "labels": {"who": if name == "b" {"operator"} else {"user"}}}}),
            )
            .unwrap()
        };
        let snapshot = Snapshot {
            namespaces: vec![namespace("a"), namespace("b")],
            pods: vec![
                pod("runtime", "a", "198.51.100.2"),
                pod("operator", "b", "198.51.100.3"),
                pod("other", "a", "198.51.100.4"),
            ],
        };
        insta::assert_snapshot!(translate(&[policy], &snapshot).unwrap(), @r"
        table ip policies
        delete table ip policies
        table ip policies {
          chain ingress_198_51_100_2 {
            ip saddr 198.51.100.3 tcp dport 8080 return
            counter drop
          }
          chain egress_198_51_100_2 {
            udp dport 53 return
            ip daddr 192.0.2.0/24 ip daddr != { 192.0.2.9/32 } tcp dport 1883 return
            counter drop
          }
          chain filter {
            type filter hook prerouting priority -90; policy accept;
            ct state established,related accept
            ip daddr 198.51.100.2 jump ingress_198_51_100_2
            ip saddr 198.51.100.2 jump egress_198_51_100_2
          }
        }
        ");
    }
}
