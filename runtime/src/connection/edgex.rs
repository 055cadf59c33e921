//! EdgeX's message bus: which of our connectors it is, and EdgeX's words for their options.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::ConfigError;
use crate::options::{Options, Secret};

/// The kinds of bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Bus {
    /// An MQTT broker.
    #[default]
    #[serde(rename = "mqtt")]
    Mqtt,
    /// A NATS server.
    #[serde(rename = "nats-core")]
    NatsCore,
    /// A NATS server whose JetStream keeps what is published.
    #[serde(rename = "nats-jetstream")]
    NatsJetstream,
    /// Redis publish/subscribe, as EdgeX 2 and 3 have it.
    #[serde(rename = "redis")]
    Redis,
}

/// Where the bus is, in the words of EdgeX's `MessageBus` configuration.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgexOptions {
    /// The kind of bus: `mqtt`, `nats-core`, `nats-jetstream` or `redis`. A JetStream is listened to as any NATS server is: what
    /// was published before is not asked for.
    #[serde(default, rename = "type")]
    pub bus: Bus,
    /// How it is spoken to: `tcp`, `ssl`, `ws`, `wss` (MQTT), `nats`, `tls` (NATS), `redis`, `rediss`.
    #[serde(default)]
    pub protocol: Option<String>,
    /// The host; `host` wins.
    #[serde(default)]
    pub server: Option<String>,
    /// The host, `localhost` by default.
    #[serde(default)]
    pub host: Option<String>,
    /// The port; by default that of the kind of bus.
    #[serde(default)]
    pub port: Option<u16>,
    /// Further options, named as in EdgeX.
    #[serde(default)]
    pub optional: OptionalOptions,
}

/// `Optional` of EdgeX's `MessageBus` configuration.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OptionalOptions {
    /// The client's name.
    client_id: Option<String>,
    /// User name.
    username: Option<String>,
    /// Password.
    password: Option<Secret>,
    /// MQTT: quality of service.
    qos: Option<u8>,
    /// MQTT: seconds between two pings.
    keep_alive: Option<u32>,
    /// MQTT: the broker keeps the last message.
    retained: Option<bool>,
    /// PEM file with the client's certificate.
    cert_file: Option<PathBuf>,
    /// PEM file with its key.
    key_file: Option<PathBuf>,
    /// PEM file with the authorities that are trusted.
    ca_file: Option<PathBuf>,
    /// The certificate itself.
    #[serde(rename = "certPEMBlock")]
    cert_pem_block: Option<String>,
    /// The key itself.
    #[serde(rename = "keyPEMBlock")]
    key_pem_block: Option<Secret>,
    /// The authorities themselves.
    #[serde(rename = "caPEMBlock")]
    ca_pem_block: Option<String>,
    /// Takes any certificate that the server shows.
    skip_cert_verify: Option<bool>,
    /// NATS: `nats` (the event is the body, what an envelope says is in headers) or `json` (the body is the envelope).
    pub format: NatsFormat,
    /// NATS: sources of one group share the messages.
    queue_group: Option<String>,
    /// NATS: an NKey seed.
    nkey_seed: Option<Secret>,
    /// NATS: the text of a credentials file.
    credentials: Option<Secret>,
    /// Known for their names only: we connect, and connect again, by ourselves.
    auto_reconnect: Option<bool>,
    connect_timeout: Option<u32>,
    retry_on_failed_connect: Option<bool>,
    default_pub_retry_attempts: Option<u32>,
    auto_provision: Option<bool>,
    durable: Option<String>,
    deliver: Option<String>,
    subject: Option<String>,
    connection_payload: Option<String>,
    auth_mode: Option<String>,
    secret_name: Option<String>,
}

/// What a message is on NATS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NatsFormat {
    /// The event, with headers.
    #[default]
    Nats,
    /// The envelope.
    Json,
}

/// Which end of the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It is read.
    Source,
    /// It is written.
    Sink,
}

impl Bus {
    /// The port that is used by default.
    fn port(self) -> u16 {
        match self {
            Bus::Mqtt => 1883,
            Bus::NatsCore | Bus::NatsJetstream => 4222,
            Bus::Redis => 6379,
        }
    }

    /// A topic in EdgeX's words as this bus has it: `edgex/events/#`.
    pub fn topic(self, topic: &str) -> String {
        let replace = |letters: [(char, char); 3]| -> String {
            let other = |letter| letters.iter().find(|(from, _)| *from == letter).map_or(letter, |(_, to)| *to);
            topic.chars().map(other).collect()
        };
        match self {
            Bus::Mqtt => topic.to_owned(),
            Bus::NatsCore | Bus::NatsJetstream => replace([('/', '.'), ('+', '*'), ('#', '>')]),
            Bus::Redis => replace([('/', '.'), ('+', '*'), ('#', '*')]),
        }
    }

    /// The reverse, for where a message came from.
    pub fn edgex_topic(self, topic: &str) -> String {
        if self == Bus::Mqtt { topic.to_owned() } else { topic.replace('.', "/") }
    }
}

impl EdgexOptions {
    /// The options of the connector that the bus is. Paths that are in files, and secrets, are passed on.
    ///
    /// # Errors
    /// A protocol that the bus does not speak.
    pub fn inner(&self, side: Side) -> Result<Options, ConfigError> {
        let protocol = self.protocol.as_deref().unwrap_or("").to_lowercase();
        let known: &[&str] = match self.bus {
            Bus::Mqtt => &["", "tcp", "mqtt", "ssl", "tls", "mqtts", "ws", "wss"],
            Bus::NatsCore | Bus::NatsJetstream => &["", "tcp", "nats", "tls", "ssl"],
            Bus::Redis => &["", "tcp", "redis", "rediss"],
        };
        if !known.contains(&protocol.as_str()) {
            return Err(ConfigError::new("protocol", format!("expected one of {}", known[1..].join(", "))));
        }
        let protocol = match (self.bus, protocol.as_str()) {
            (Bus::Mqtt, "") => "tcp",
            (Bus::NatsCore | Bus::NatsJetstream, "") => "nats",
            (Bus::Redis, "" | "tcp") => "redis",
            (_, protocol) => protocol,
        };
        let host = self.host.as_deref().or(self.server.as_deref()).unwrap_or("localhost");
        let address = format!("{protocol}://{host}:{}", self.port.unwrap_or(self.bus.port()));
        let mut inner = Map::new();
        let mut set = |name: &str, value: Value| {
            if !value.is_null() {
                inner.insert(name.to_owned(), value);
            }
        };
        let secret = |secret: &Option<Secret>| secret.as_ref().map_or(Value::Null, |secret| secret.expose().into());
        let optional = &self.optional;
        set(if self.bus == Bus::Redis { "addr" } else { "server" }, address.into());
        set("username", json!(optional.username));
        set("password", secret(&optional.password));
        set("certificationPath", json!(optional.cert_file));
        set("privateKeyPath", json!(optional.key_file));
        set("rootCaPath", json!(optional.ca_file));
        set("certificationRaw", json!(optional.cert_pem_block));
        set("privateKeyRaw", secret(&optional.key_pem_block));
        set("rootCARaw", json!(optional.ca_pem_block));
        set("insecureSkipVerify", json!(optional.skip_cert_verify));
        // Where each message goes is said with it; a template keeps the connector from looking for a fixed place.
        let anywhere = || json!("{{.}}");
        match self.bus {
            Bus::Mqtt => {
                set("clientid", json!(optional.client_id));
                set("qos", json!(optional.qos));
                set("keepAlive", optional.keep_alive.map_or(Value::Null, |seconds| format!("{seconds}s").into()));
                if side == Side::Sink {
                    set("retained", json!(optional.retained));
                    set("topic", anywhere());
                }
            }
            Bus::NatsCore | Bus::NatsJetstream => {
                set("clientid", json!(optional.client_id));
                set("nkeySeed", secret(&optional.nkey_seed));
                set("credentials", secret(&optional.credentials));
                match side {
                    Side::Source => set("queueGroup", json!(optional.queue_group)),
                    Side::Sink => set("subject", anywhere()),
                }
            }
            Bus::Redis if side == Side::Sink => set("channel", anywhere()),
            Bus::Redis => {}
        }
        Ok(Options(inner))
    }
}

/// Errors of the connector, in EdgeX's words.
pub fn renamed(mut error: ConfigError) -> ConfigError {
    for problem in &mut error.problems {
        let name = match problem.path.as_str() {
            "server" | "addr" => "host",
            "datasource" => "topic",
            "username" => "optional.username",
            "password" => "optional.password",
            "clientid" => "optional.clientId",
            "qos" => "optional.qos",
            "keepAlive" => "optional.keepAlive",
            "queueGroup" => "optional.queueGroup",
            "nkeySeed" => "optional.nkeySeed",
            "credentials" => "optional.credentials",
            "certificationPath" => "optional.certFile",
            "privateKeyPath" => "optional.keyFile",
            "rootCaPath" => "optional.caFile",
            "certificationRaw" => "optional.certPEMBlock",
            "privateKeyRaw" => "optional.keyPEMBlock",
            "rootCARaw" => "optional.caPEMBlock",
            _ => continue,
        };
        name.clone_into(&mut problem.path);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics() {
        for (bus, topic, expected) in [
            (Bus::Mqtt, "edgex/events/+/#", "edgex/events/+/#"),
            (Bus::NatsCore, "edgex/events/+/#", "edgex.events.*.>"),
            (Bus::NatsJetstream, "edgex.events.>", "edgex.events.>"),
            (Bus::Redis, "edgex/events/#", "edgex.events.*"),
        ] {
            assert_eq!(bus.topic(topic), expected);
        }
        assert_eq!(Bus::Redis.edgex_topic("edgex.events.device"), "edgex/events/device");
    }

    #[test]
    fn options_of_the_bus() {
        for (options, side, expected) in [
            (json!({}), Side::Source, json!({"server": "tcp://localhost:1883"})),
            (
                json!({"type": "mqtt", "protocol": "ssl", "server": "a", "host": "b", "port": 8883, "optional": {
                    "ClientId": "c", "Username": "u", "Password": "p", "Qos": "1", "KeepAlive": "10", "Retained": "true",
                    "SkipCertVerify": "true", "AutoReconnect": "true"}}),
                Side::Sink,
                json!({"server": "ssl://b:8883", "username": "u", "password": "p", "insecureSkipVerify": true,
                    "clientid": "c", "qos": 1, "keepAlive": "10s", "retained": true, "topic": "{{.}}"}),
            ),
            (
                json!({"type": "nats-jetstream", "optional": {"QueueGroup": "g", "Durable": "d"}}),
                Side::Source,
                json!({"server": "nats://localhost:4222", "queueGroup": "g"}),
            ),
            (
                json!({"type": "redis", "protocol": "tcp", "optional": {"password": "p", "certPEMBlock": "x"}}),
                Side::Sink,
                json!({"addr": "redis://localhost:6379", "password": "p", "certificationRaw": "x", "channel": "{{.}}"}),
            ),
        ] {
            let options: EdgexOptions = Options::from(options).parse().unwrap();
            assert_eq!(Value::Object(options.inner(side).unwrap().0), expected);
        }
        let options: EdgexOptions = Options::from(json!({"protocol": "redis"})).parse().unwrap();
        let error = options.inner(Side::Source).unwrap_err().to_string();
        assert_eq!(error, "protocol: expected one of tcp, mqtt, ssl, tls, mqtts, ws, wss");
    }
}
