//! NATS, spoken by ourselves: its protocol is lines of text.
//!
//! A source reads its socket itself, and only when the rules have room: so a slow rule holds the server back, and what does not fit
//! there is the server's to drop (it cuts off a client that is too slow; we connect again and say so). A sink hands its messages
//! to a task that also answers the server's pings; a message counts as written when the server has answered a ping behind it.

mod auth;
mod link;
mod protocol;
mod publisher;

use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

pub use auth::Login;
pub use link::{Link, Message};
pub use protocol::check_subject;
pub use publisher::{Publish, Publisher};

use super::tls::TlsOptions;
use crate::error::ConfigError;
use crate::options::Secret;

/// How to reach a server: the options that sources and sinks have in common.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NatsOptions {
    /// The server: `nats://host:4222`, or `tls://host:4222`; several of a cluster with commas between them.
    pub server: String,
    /// The client's name, which the server shows in its list.
    #[serde(default, rename = "clientid", alias = "clientId")]
    pub client_id: Option<String>,
    /// User name.
    #[serde(default)]
    pub username: Option<String>,
    /// Password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Token, instead of user name and password.
    #[serde(default)]
    pub token: Option<Secret>,
    /// NKey seed (`SU...`), instead of user name and password.
    #[serde(default)]
    pub nkey_seed: Option<Secret>,
    /// The text of a credentials file (JWT and NKey seed), instead of user name and password.
    #[serde(default)]
    pub credentials: Option<Secret>,
    /// TLS; any of these turns it on, as `tls://` does.
    #[serde(flatten)]
    pub tls: TlsOptions,
}

/// Checked options.
#[derive(Clone, Debug)]
pub struct Settings {
    servers: Vec<(String, u16)>,
    /// TLS is wanted whatever the server says.
    has_tls: bool,
    client_id: Option<String>,
    login: Login,
    tls: TlsOptions,
}

impl NatsOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// All that do not fit.
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        let mut error = self.tls.check().err().unwrap_or_default();
        let mut servers = Vec::new();
        let mut has_tls = self.tls.is_set();
        for server in self.server.split(',').map(str::trim) {
            match parse_server(server) {
                Ok((host, port, tls)) => {
                    has_tls |= tls;
                    servers.push((host, port));
                }
                Err(message) => error.push("server", message),
            }
        }
        if self.password.is_some() && self.username.is_none() {
            error.push("username", "a password needs a user name");
        }
        let given =
            [self.username.is_some(), self.token.is_some(), self.nkey_seed.is_some(), self.credentials.is_some()];
        if given.iter().filter(|is_given| **is_given).count() > 1 {
            error.push("username", "give one of username, token, nkeySeed and credentials");
        }
        let login = Login::new(self).unwrap_or_else(|(option, message)| {
            error.push(option, message);
            Login::None
        });
        if !error.problems.is_empty() {
            return Err(error);
        }
        Ok(Settings { servers, has_tls, client_id: self.client_id.clone(), login, tls: self.tls.clone() })
    }
}

impl Settings {
    /// For messages: the servers, without credentials.
    fn address(&self) -> String {
        let servers: Vec<String> = self.servers.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        format!("NATS at {}", servers.join(", "))
    }
}

fn parse_server(server: &str) -> Result<(String, u16, bool), String> {
    let with_scheme = if server.contains("://") { server.to_owned() } else { format!("nats://{server}") };
    let url = Url::parse(&with_scheme).map_err(|error| format!("expected nats://host:port, {error}"))?;
    let has_tls = match url.scheme() {
        "nats" | "tcp" => false,
        "tls" | "ssl" => true,
        other => return Err(format!("unknown scheme {other}://: expected nats or tls")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("credentials do not belong in the address: set username and password".to_owned());
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or("expected nats://host:port, there is no host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok((host, url.port().unwrap_or(4222), has_tls))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::options::Options;

    #[test]
    fn options() {
        for (options, expected) in [
            (json!({"server": "b"}), "NATS at b:4222 false"),
            (json!({"server": "nats://b:1, tls://c"}), "NATS at b:1, c:4222 true"),
            (json!({"server": "b", "insecureSkipVerify": true}), "NATS at b:4222 true"),
            (json!({"server": "b", "token": "t"}), "NATS at b:4222 false"),
            (json!({}), "server: "),
            (json!({"server": "http://b"}), "server: unknown scheme http://: expected nats or tls"),
            (json!({"server": "nats://u:p@b"}), "server: credentials do not belong in the address"),
            (json!({"server": "b", "password": "p"}), "username: a password needs a user name"),
            (json!({"server": "b", "username": "u", "token": "t"}), "username: give one of"),
            (json!({"server": "b", "nkeySeed": "SUx"}), "nkeySeed: "),
            (json!({"server": "b", "credentials": "x"}), "credentials: "),
        ] {
            let settings = Options::from(options.clone()).parse::<NatsOptions>().and_then(|options| options.settings());
            let outcome = settings.map_or_else(
                |error| error.to_string(),
                |settings| format!("{} {}", settings.address(), settings.has_tls),
            );
            assert!(outcome.starts_with(expected), "{options}: {outcome}");
        }
    }
}
