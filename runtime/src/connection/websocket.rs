//! Web sockets that this process opens: options, handshake, and keeping them alive.

use std::collections::BTreeMap;
use std::time::Duration;

use async_tungstenite::WebSocketStream;
use async_tungstenite::tokio::{TokioAdapter, client_async_with_config};
use async_tungstenite::tungstenite::client::IntoClientRequest as _;
use async_tungstenite::tungstenite::handshake::client::Request;
use async_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use async_tungstenite::tungstenite::{Error, Message};
use rustls_pki_types::ServerName;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::http_server::Pattern;
use super::http_server::access::{Access, AccessOptions, SignatureOptions};
use super::http_server::hub::config;
use super::tls::TlsOptions;
use crate::error::{ConfigError, ConnectorError};
use crate::options::Secret;

/// Longest time to reach the other side.
const CONNECT: Duration = Duration::from_secs(10);
/// A ping goes out this often; a side from which nothing has come between two of them is gone.
pub const PING_EVERY: Duration = Duration::from_secs(30);
/// Longest message that is taken.
const MAX_BYTES: usize = 16 << 20;

/// Options of a web socket; flatten them into a connector's config.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SocketOptions {
    /// `host:port` of the other side. Without it, clients come to the HTTP server of this process.
    pub addr: Option<String>,
    /// The path: begins with `/`; in place of `DATASOURCE`.
    pub path: Option<String>,
    /// With `addr`: `ws` or `wss`.
    pub scheme: Scheme,
    /// With `addr`: headers of the handshake.
    pub request_header: Option<BTreeMap<String, HeaderTexts>>,
    /// Who is let in.
    #[serde(flatten)]
    pub access: AccessOptions,
    /// With `addr`.
    #[serde(flatten)]
    pub tls: TlsOptions,
}

/// Plain or secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain.
    #[default]
    Ws,
    /// Through TLS.
    Wss,
}

/// A header's text, or several.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum HeaderTexts {
    /// One.
    One(Secret),
    /// Several.
    Many(Vec<Secret>),
}

/// Which side a socket is on.
pub enum Side {
    /// Clients come to this path.
    Server {
        /// The path.
        pattern: Pattern,
        /// Who is let in.
        access: AccessOptions,
    },
    /// This process goes to another one.
    Client(Box<Client>),
}

/// Where to, and how.
pub struct Client {
    host: String,
    port: u16,
    scheme: Scheme,
    request: Request,
    tls: TlsOptions,
}

/// A byte stream.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// An open socket.
pub type Socket = WebSocketStream<TokioAdapter<Box<dyn Io>>>;

impl SocketOptions {
    /// Checks the options. `path` is what they may leave out.
    ///
    /// # Errors
    /// Whatever does not fit.
    pub fn side(&self, datasource: &str) -> Result<Side, ConfigError> {
        let path = self.path.as_deref().unwrap_or(datasource);
        let mut problems = ConfigError::default();
        let Some(addr) = self.addr.as_deref().filter(|addr| !addr.is_empty()) else {
            if self.tls.is_set() || self.request_header.is_some() || self.scheme == Scheme::Wss {
                problems.push(
                    "addr",
                    "scheme, requestHeader and TLS options are for sockets that this process opens: set addr",
                );
            }
            if let Err(error) = Access::new(&self.access, &SignatureOptions::default()) {
                problems.problems.extend(error.problems);
            }
            let pattern = Pattern::parse(path).map_err(|message| problems.push("path", message)).ok();
            return match pattern {
                Some(pattern) if problems.problems.is_empty() => {
                    Ok(Side::Server { pattern, access: self.access.clone() })
                }
                _ => Err(problems),
            };
        };
        if self.access != AccessOptions::default() {
            problems.push(
                "addr",
                "bearerTokens and basicUsers are for clients that come here: leave out addr, or use requestHeader",
            );
        }
        if !path.starts_with('/') {
            problems.push("path", format!("\"{path}\" is no path: it must begin with /"));
        }
        if let Err(error) = self.tls.check() {
            problems.problems.extend(error.problems);
        }
        if self.tls.is_set() && self.scheme == Scheme::Ws {
            problems.push("scheme", "TLS options are for `scheme: wss`");
        }
        let scheme = match self.scheme {
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
        };
        let url = url::Url::parse(&format!("{scheme}://{addr}{path}"));
        let place = url.as_ref().ok().and_then(|url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?)));
        let request = url.as_ref().ok().and_then(|url| url.as_str().into_client_request().ok());
        let (Some((host, port)), Some(mut request)) = (place, request) else {
            problems.push("addr", "expected host:port");
            return Err(problems);
        };
        for (name, texts) in self.request_header.iter().flatten() {
            let texts = match texts {
                HeaderTexts::One(text) => std::slice::from_ref(text),
                HeaderTexts::Many(texts) => texts,
            };
            for text in texts {
                let value = HeaderValue::from_str(text.expose()).ok();
                let header = HeaderName::from_bytes(name.as_bytes()).ok().zip(value);
                match header {
                    Some((name, mut value)) => {
                        value.set_sensitive(true);
                        request.headers_mut().append(name, value);
                    }
                    None => problems.push(format!("requestHeader.{name}"), "is no HTTP header"),
                }
            }
        }
        let client = Client { host, port, scheme: self.scheme, request, tls: self.tls.clone() };
        if problems.problems.is_empty() { Ok(Side::Client(Box::new(client))) } else { Err(problems) }
    }
}

impl Client {
    /// Opens the socket.
    ///
    /// # Errors
    /// The other side can't be reached, or does not take sockets there.
    pub async fn open(&self) -> Result<Socket, ConnectorError> {
        let open = tokio::time::timeout(CONNECT, self.handshake());
        open.await.unwrap_or_else(|_| Err(self.failed(&"it takes too long")))
    }

    async fn handshake(&self) -> Result<Socket, ConnectorError> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|error| self.failed(&error))?;
        tcp.set_nodelay(true).map_err(|error| self.failed(&error))?;
        let io: Box<dyn Io> = match self.scheme {
            Scheme::Ws => Box::new(tcp),
            Scheme::Wss => {
                let name = self.host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name = ServerName::try_from(name).map_err(|_| {
                    ConnectorError::user(format!("{}: not a name that a certificate can be for", self.host))
                })?;
                let connector = TlsConnector::from(std::sync::Arc::new(self.tls.client_config()?));
                Box::new(connector.connect(name, tcp).await.map_err(|error| self.failed(&error))?)
            }
        };
        let opened = client_async_with_config(self.request.clone(), io, Some(config(MAX_BYTES))).await;
        match opened {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(answer)) => {
                let message = format!("web socket of {}:{}: answered {}", self.host, self.port, answer.status());
                Err(ConnectorError::external(message))
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> ConnectorError {
        ConnectorError::external(format!("can't open a web socket to {}:{}: {error}", self.host, self.port))
    }
}

/// Why a socket is of no use any more.
pub fn broken(end: Option<Result<Message, Error>>) -> ConnectorError {
    ConnectorError::external(match end {
        Some(Err(error)) => format!("the web socket broke: {error}"),
        _ => "the web socket was closed by the other side".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::options::Options;

    #[test]
    fn options() {
        for (options, expected) in [
            (json!({}), "server"),
            (json!({"path": "/x/{id}", "bearerTokens": ["t"]}), "server"),
            (json!({"addr": "host:1"}), "client ws://host:1/source"),
            (json!({"addr": "host", "scheme": "wss", "path": "/a?b=1", "rootCaPath": "x"}), "client wss://host/a?b=1"),
            (
                json!({"addr": "[::1]:1", "requestHeader": {"Authorization": "Bearer t", "X-A": ["1", "2"]}}),
                "client ws://[::1]:1/source",
            ),
            (json!({"path": "x"}), "path: \"x\" is no path"),
            (json!({"scheme": "wss"}), "addr: scheme, requestHeader and TLS options are for"),
            (json!({"addr": "host:1", "bearerTokens": ["t"]}), "addr: bearerTokens and basicUsers are for"),
            (json!({"addr": "host:x"}), "addr: expected host:port"),
            (json!({"addr": "host:1", "rootCaPath": "x"}), "scheme: TLS options are for"),
            (json!({"addr": "host:1", "requestHeader": {"a b": "x"}}), "requestHeader.a b: is no HTTP header"),
            (json!({"addr": "host:1", "requestHeader": {"a": "x\n"}}), "requestHeader.a: is no HTTP header"),
        ] {
            let parsed: SocketOptions = Options::from(options.clone()).parse().unwrap();
            let outcome = match parsed.side("/source") {
                Ok(Side::Server { .. }) => "server".to_owned(),
                Ok(Side::Client(client)) => format!("client {}", client.request.uri()),
                Err(error) => error.to_string(),
            };
            assert!(outcome.starts_with(expected), "{options}: {outcome}");
        }
    }
}
