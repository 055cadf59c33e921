//! Where the connectors of a runtime reach out to, as far as their options say.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};
use sluice::Options;

/// Connectors that reach out to nothing.
const LOCAL: &[&str] = &["memory", "file", "simulator", "log", "nop", "stdout", "httppush", "websocket"];
/// Ports that stand for a scheme.
const SCHEMES: &[(&str, u16)] = &[
    ("tcp", 1883),
    ("mqtt", 1883),
    ("ssl", 8883),
    ("tls", 8883),
    ("mqtts", 8883),
    ("ws", 80),
    ("wss", 443),
    ("http", 80),
    ("https", 443),
    ("redis", 6379),
    ("rediss", 6379),
    ("postgres", 5432),
    ("postgresql", 5432),
    ("mysql", 3306),
    ("mariadb", 3306),
    ("nats", 4222),
];
/// Options that hold an address without a scheme.
const ADDRESSES: &[&str] = &["addr", "address", "server", "servers", "host", "hosts", "url", "brokers", "endpoint"];

/// Ports that are reached out to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    /// Some connector does not say where it reaches out to: everything is open.
    pub is_open: bool,
    /// Address, where it is a number, and port.
    pub ports: BTreeSet<(Option<IpAddr>, u16)>,
    /// Namespaces of Services; `None` is the runtime's own. A policy is about the port of the pod behind, which the name of a Service
    /// does not tell, so pods there are open on all ports.
    pub namespaces: BTreeSet<Option<String>>,
}

/// What of options is an address.
pub fn egress(connector: &str, options: &Options) -> Egress {
    let mut egress = Egress::default();
    egress.add(connector, options);
    egress
}

impl Egress {
    /// Adds what a connector's options say.
    pub fn add(&mut self, connector: &str, options: &Options) {
        if LOCAL.contains(&connector) {
            return;
        }
        let before = self.ports.len();
        let mut known = false;
        for (key, value) in &options.0 {
            known |= self.value(key, value);
        }
        // A template decides about each row, or an option that is not known here holds the address.
        self.is_open |= !known && self.ports.len() == before;
    }

    fn value(&mut self, key: &str, value: &Value) -> bool {
        match value {
            Value::String(text) => self.text(key, text),
            Value::Array(list) => list.iter().fold(false, |known, value| self.value(key, value) | known),
            Value::Object(map) => map.iter().fold(false, |known, (key, value)| self.value(key, value) | known),
            _ => false,
        }
    }

    fn text(&mut self, key: &str, text: &str) -> bool {
        let is_address = ADDRESSES.iter().any(|name| name.eq_ignore_ascii_case(key));
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_lowercase()), rest),
            None if is_address => (None, text),
            None => return false,
        };
        let default = scheme.as_ref().and_then(|scheme| SCHEMES.iter().find(|(name, _)| name == scheme));
        if scheme.is_some() && default.is_none() {
            return false;
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let mut known = false;
        // One URL may list several hosts.
        for host in authority.rsplit('@').next().unwrap_or_default().split(',') {
            let (host, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                Some((host, rest)) => (host, rest.strip_prefix(':')),
                None => host.rsplit_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
            };
            let port = match port {
                Some(port) => port.parse().ok(),
                None => default.map(|(_, port)| *port),
            };
            let Some(port) = port.filter(|_| !host.is_empty() && !host.contains("{{")) else { continue };
            let address = host.parse().ok();
            if address.is_none() {
                self.namespaces.extend(namespace(host));
            }
            self.ports.insert((address, port));
            known = true;
        }
        known
    }

    /// Rules of a NetworkPolicy: names can be asked for, and what is reached out to is open.
    pub fn rules(&self) -> Value {
        if self.is_open {
            return json!([{}]);
        }
        let dns = json!({ "ports": [{ "port": 53, "protocol": "UDP" }, { "port": 53, "protocol": "TCP" }] });
        let rules = self.ports.iter().map(|(address, port)| {
            let ports = json!([{ "port": port, "protocol": "TCP" }]);
            match address {
                Some(address) => {
                    let bits = if address.is_ipv4() { 32 } else { 128 };
                    json!({ "ports": ports, "to": [{ "ipBlock": { "cidr": format!("{address}/{bits}") } }] })
                }
                None => json!({ "ports": ports }),
            }
        });
        let services = self.namespaces.iter().map(|namespace| match namespace {
            None => json!({ "to": [{ "podSelector": {} }] }),
            Some(name) => {
                let labels = json!({ "matchLabels": { "kubernetes.io/metadata.name": name } });
                json!({ "to": [{ "namespaceSelector": labels }] })
            }
        });
        Value::Array(std::iter::once(dns).chain(rules).chain(services).collect())
    }
}

/// The namespace of the Service that a host may be the name of: `NAME`, `NAME.NAMESPACE`, `NAME.NAMESPACE.svc...`, each also with the
/// name of a pod before it. `Some(None)` is the namespace that it is looked up from.
fn namespace(host: &str) -> Option<Option<String>> {
    let labels: Vec<&str> = host.trim_end_matches('.').split('.').collect();
    match labels.as_slice() {
        [_] => Some(None),
        [_, namespace] => Some(Some((*namespace).to_owned())),
        [_, namespace, "svc", ..] | [_, _, namespace, "svc", ..] => Some(Some((*namespace).to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_options() {
        for (connector, options, expected) in [
            ("mqtt", json!({ "server": "tcp://broker:1884", "topic": "a/b" }), "*:1884"),
            ("mqtt", json!({ "server": "ssl://broker", "password": "x" }), "*:8883"),
            ("redis", json!({ "addr": "127.0.0.1:6379" }), "127.0.0.1:6379"),
            ("redis", json!({ "addr": "[::1]:6379" }), "::1:6379"),
            ("sql", json!({ "url": "postgres://u:p@db/x?y=1" }), "*:5432"),
            ("sql", json!({ "url": "sqlite:///data/x.db" }), "open"),
            ("rest", json!({ "url": "https://host/{{.id}}" }), "*:443"),
            ("rest", json!({ "url": "http://{{.host}}/" }), "open"),
            ("memory", json!({}), ""),
            ("log", json!({ "server": "tcp://x:1" }), ""),
            ("nats", json!({ "url": "nats://a:1,b:2" }), "*:1 *:2"),
        ] {
            let Value::Object(map) = options.clone() else { unreachable!() };
            let found = egress(connector, &Options(map));
            let ports = found.ports.iter().map(|(address, port)| {
                address.map_or_else(|| format!("*:{port}"), |address| format!("{address}:{port}"))
            });
            let ports: Vec<String> = if found.is_open { vec!["open".to_owned()] } else { ports.collect() };
            assert_eq!(ports.join(" "), expected, "{connector} {options}");
        }
    }

    #[test]
    fn pods_behind_services_are_open() {
        for (host, expected) in [
            ("broker", Some(None)),
            ("broker.plant", Some(Some("plant"))),
            ("broker.plant.svc", Some(Some("plant"))),
            ("broker.plant.svc.cluster.local.", Some(Some("plant"))),
            ("db-0.db.plant.svc.cluster.local", Some(Some("plant"))),
            ("broker.example.com", None),
            ("a.b.broker.example.com", None),
        ] {
            assert_eq!(namespace(host), expected.map(|name| name.map(str::to_owned)), "{host}");
        }
    }
}
