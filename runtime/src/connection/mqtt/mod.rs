//! The MQTT client that sources and sinks share: 3.1, 3.1.1 and 5, over TCP, TLS and websockets.
//!
//! ```text
//! MqttSource ── Subscription ◄── Inbox ◄──┐
//! MqttSource ── Subscription ◄── Inbox ◄──┤ client task ── link ── socket
//! MqttSink ──── publish ─────────────────►┘ (reconnects)   (one connection)
//! ```
//!
//! Everybody in the process who has the same options shares one client, and with it one connection. The client reconnects by
//! itself, for ever, and subscribes again each time.
//!
//! **At the socket.** What has arrived is read and handed over together, one list per stream. Above some 2,000 messages per
//! second the client waits up to a millisecond before it reads again, so that a broker which writes message by message does not
//! cost a wake-up for each; below that rate it reads at once.
//!
//! **Backpressure.** A stream's inbox is bounded. When one is full, the client stops reading the socket, so that TCP holds the
//! broker back, but goes on writing acknowledgements and pings. All streams of the connection wait then, as they do when the
//! broker's window is full of messages that one stream has not acknowledged; a stream that is to be independent of the
//! others needs a `clientid` of its own. One exception keeps a rule that reads from and writes to one
//! broker from waiting for itself: while publishes wait to be acknowledged by the broker, reading goes on into the full
//! inboxes, up to a second, larger limit. A publish that is not acknowledged within 30 seconds has the connection made anew.
//!
//! **Acknowledgements.** QoS 1 and 2 messages are acknowledged when every stream that got them says so, in batches, and never on
//! another connection than they came by. With `enableClientSession` the broker keeps what was not acknowledged.
//!
//! **Overlapping filters.** Two streams with the same filter share one subscription and each get every message. Filters that
//! overlap without being the same make brokers differ: some send a message once, some once per subscription. Version 5 says
//! with each copy which subscription it is for. Under 3.1.1 nothing tells copies apart, so there a stream whose filters overlap
//! another's gets a connection of its own; only with a fixed `clientid` that can't be, and a broker that sends copies then
//! has each stream get each copy.

mod client;
mod inbox;
mod link;
mod packet;
mod session;
mod transport;

pub use client::{MqttClient, PublishError, Publisher, Subscription};
pub use inbox::{Delivery, Message};
pub use packet::{Properties, Publish, Version};

use std::hash::{Hash, Hasher};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use url::Url;

use super::tls::TlsOptions;
use super::topic::TopicFilter;
use crate::error::ConfigError;
use crate::options::{HumanDuration, Secret};

/// How to reach a broker: the options that MQTT sources and sinks have in common.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MqttOptions {
    /// The broker: `tcp://host:1883`, `ssl://host:8883`, `ws://host/path`, `wss://host/path`.
    pub server: String,
    /// `3.1`, `3.1.1` or `5`.
    #[serde(default)]
    pub protocol_version: ProtocolVersion,
    /// The client's name. By default one that nobody else has; two clients of one name throw each other out.
    #[serde(default, rename = "clientid", alias = "clientId")]
    pub client_id: Option<String>,
    /// User name.
    #[serde(default)]
    pub username: Option<String>,
    /// Password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// The broker keeps subscriptions and unacknowledged messages while the client is away. Needs a `clientid`. What it has kept
    /// for a topic that no stream reads any more is let go after five seconds and counted (`sluice_messages_unclaimed_total`).
    #[serde(default)]
    pub enable_client_session: bool,
    /// How long it keeps them, in seconds (version 5).
    #[serde(default = "default_session_expiry")]
    pub session_expiry_interval_seconds: u32,
    /// Known for its name only: the client keeps no files.
    #[serde(default)]
    pub client_state_path: Option<String>,
    /// A ping goes out this often.
    #[serde(default = "default_keep_alive")]
    pub keep_alive: HumanDuration,
    /// TLS.
    #[serde(flatten)]
    pub tls: TlsOptions,
}

fn default_session_expiry() -> u32 {
    60
}

fn default_keep_alive() -> HumanDuration {
    HumanDuration::from_secs(30)
}

/// A [`Version`] as it is written in options, where a number may stand for its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProtocolVersion(pub Version);

impl<'de> Deserialize<'de> for ProtocolVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        match text.as_str() {
            "3.1" | "3" => Ok(ProtocolVersion(Version::V31)),
            "3.1.1" | "4" => Ok(ProtocolVersion(Version::V311)),
            "5" | "5.0" => Ok(ProtocolVersion(Version::V5)),
            _ => Err(de::Error::custom("expected 3.1, 3.1.1 or 5")),
        }
    }
}

impl JsonSchema for ProtocolVersion {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ProtocolVersion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"] })
    }
}

/// How the broker is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scheme {
    Tcp,
    Tls,
    Ws,
    Wss,
}

/// Checked options: everything that makes two clients differ.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    scheme: Scheme,
    host: String,
    port: u16,
    /// For websockets.
    path: String,
    version: Version,
    client_id: Option<String>,
    username: Option<String>,
    password: Option<Secret>,
    clean: bool,
    session_expiry: u32,
    keep_alive_secs: u16,
    tls: TlsOptions,
}

impl MqttOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// All that do not fit.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        let mut error = self.tls.check().err().unwrap_or_default();
        let server = match parse_server(&self.server) {
            Ok(server) => server,
            Err(message) => {
                error.push("server", message);
                (Scheme::Tcp, String::new(), 0, String::new())
            }
        };
        let (scheme, host, port, path) = server;
        if self.tls.is_set() && matches!(scheme, Scheme::Tcp | Scheme::Ws) {
            error.push("server", "TLS options are given, so the server must be ssl://... or wss://...");
        }
        if self.enable_client_session && self.client_id.is_none() {
            error.push("clientid", "enableClientSession needs a clientid, by which the broker knows the session again");
        }
        if self.password.is_some() && self.username.is_none() {
            error.push("username", "a password needs a user name");
        }
        for (name, text) in [("clientid", &self.client_id), ("username", &self.username)] {
            if text.as_ref().is_some_and(|text| text.len() > usize::from(u16::MAX)) {
                error.push(name, "longer than 65535 bytes");
            }
        }
        if self.keep_alive.0.as_secs() == 0 {
            error.push("keepAlive", "must be at least a second");
        }
        if !error.problems.is_empty() {
            return Err(error);
        }
        Ok(Settings {
            scheme,
            host,
            port,
            path,
            version: self.protocol_version.0,
            client_id: self.client_id.clone(),
            username: self.username.clone(),
            password: self.password.clone(),
            clean: !self.enable_client_session,
            session_expiry: if self.enable_client_session { self.session_expiry_interval_seconds } else { 0 },
            keep_alive_secs: u16::try_from(self.keep_alive.0.as_secs()).unwrap_or(u16::MAX),
            tls: self.tls.clone(),
        })
    }
}

impl Settings {
    /// True if the broker keeps what comes while the client is away.
    pub fn is_kept(&self) -> bool {
        !self.clean && self.client_id.is_some()
    }

    /// For messages: the broker without credentials.
    fn broker(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Tcp => "tcp",
            Scheme::Tls => "ssl",
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
        };
        format!("{scheme}://{}:{}", self.host, self.port)
    }

    /// Tells clients apart. Secrets go in by their hash only.
    fn key(&self, shard: usize) -> String {
        let mut hasher = std::hash::DefaultHasher::new();
        self.hash(&mut hasher);
        format!("{} {:016x} {shard}", self.broker(), hasher.finish())
    }
}

fn parse_server(server: &str) -> Result<(Scheme, String, u16, String), String> {
    let with_scheme = if server.contains("://") { server.to_owned() } else { format!("tcp://{server}") };
    let url = Url::parse(&with_scheme).map_err(|error| format!("expected tcp://host:port, {error}"))?;
    let (scheme, default_port) = match url.scheme() {
        "tcp" | "mqtt" => (Scheme::Tcp, 1883),
        "ssl" | "tls" | "mqtts" => (Scheme::Tls, 8883),
        "ws" => (Scheme::Ws, 80),
        "wss" => (Scheme::Wss, 443),
        other => return Err(format!("unknown scheme {other}://: expected tcp, ssl, ws or wss")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("credentials do not belong in the address: set username and password".to_owned());
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or("expected tcp://host:port, there is no host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let path = if url.path().is_empty() { "/".to_owned() } else { url.path().to_owned() };
    Ok((scheme, host, url.port().unwrap_or(default_port), path))
}

/// A filter as it is subscribed to, and what it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// As the broker gets it: with `$share/group/`, if there is one.
    text: String,
    /// What it matches.
    topics: TopicFilter,
}

impl Filter {
    /// Parses a filter, which may be a shared one: `$share/group/filter`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let topics = match text.strip_prefix("$share/") {
            None => text,
            Some(shared) => match shared.split_once('/') {
                Some((group, topics)) if !group.is_empty() && !group.contains(['+', '#']) => topics,
                _ => return Err(format!("expected $share/group/filter, found \"{text}\"")),
            },
        };
        Ok(Filter { text: text.to_owned(), topics: TopicFilter::parse(topics)? })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::options::Options;

    fn settings(options: serde_json::Value) -> Result<Settings, String> {
        let options: MqttOptions = Options::from(options).parse().map_err(|error| error.to_string())?;
        options.settings().map_err(|error| error.to_string())
    }

    #[test]
    fn servers() {
        for (server, expected) in [
            ("tcp://b:1884", "tcp://b:1884 /"),
            ("b", "tcp://b:1883 /"),
            ("b:77", "tcp://b:77 /"),
            ("mqtt://[::1]", "tcp://::1:1883 /"),
            ("ssl://b", "ssl://b:8883 /"),
            ("tls://b:1", "ssl://b:1 /"),
            ("wss://b/mqtt", "wss://b:443 /mqtt"),
            ("ws://b:8080", "ws://b:8080 /"),
            ("http://b", "server: unknown scheme http://: expected tcp, ssl, ws or wss"),
            ("tcp://u:p@b", "server: credentials do not belong in the address: set username and password"),
            ("tcp://", "server: expected tcp://host:port, there is no host"),
        ] {
            let outcome = settings(json!({"server": server}))
                .map_or_else(|error| error, |settings| format!("{} {}", settings.broker(), settings.path));
            assert_eq!(outcome, expected, "{server}");
        }
    }

    #[test]
    fn options() {
        for (version, expected) in [
            (json!("3.1.1"), Version::V311),
            (json!(4), Version::V311),
            (json!(3.1), Version::V31),
            (json!("5"), Version::V5),
            (json!(5), Version::V5),
        ] {
            let settings = settings(json!({"server": "b", "protocolVersion": version})).unwrap();
            assert_eq!(settings.version, expected, "{version}");
        }
        for (options, expected) in [
            (json!({}), "server: "),
            (json!({"server": "b", "protocolVersion": "6"}), "protocolVersion: expected 3.1, 3.1.1 or 5"),
            (json!({"server": "b", "password": "p"}), "username: a password needs a user name"),
            (json!({"server": "b", "enableClientSession": true}), "clientid: enableClientSession needs a clientid"),
            (json!({"server": "b", "insecureSkipVerify": true}), "server: TLS options are given"),
            (
                json!({"server": "ssl://b", "certificationPath": "c.pem"}),
                "privateKeyPath: a client certificate needs its key",
            ),
        ] {
            let error = settings(options).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn keys_tell_clients_apart_and_hide_secrets() {
        let key =
            |password: &str| settings(json!({"server": "b", "username": "u", "password": password})).unwrap().key(0);
        assert_eq!(key("one"), key("one"));
        assert_ne!(key("one"), key("two"));
        assert!(!key("hunter2").contains("hunter2"));
    }

    #[test]
    fn filters() {
        let shared = Filter::parse("$share/g/a/+").unwrap();
        assert_eq!((shared.text.as_str(), shared.topics.as_str()), ("$share/g/a/+", "a/+"));
        for text in ["$share/g", "$share//a", "$share/+/a", "a/#/b"] {
            assert!(Filter::parse(text).is_err(), "{text}");
        }
    }
}
