//! Redis: one server or a cluster, with or without TLS. All users of a server share one connection and its pipeline.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::{ClusterClientBuilder, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    Pipeline, RedisConnectionInfo, RedisError, ServerErrorKind, TlsCertificates,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::Connections;
use super::tls::{TlsOptions, TlsVersion};
use crate::error::{ConfigError, ConnectorError, Fault, Retry};
use crate::options::Secret;

/// Options of a Redis connection; flatten them into a connector's config.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisOptions {
    /// `host:port`, `redis://host:port` or, with TLS, `rediss://host:port`. For a cluster one or more nodes, separated by commas.
    #[serde(alias = "address")]
    #[schemars(extend("x-alias" = "address"))]
    pub addr: Secret,
    /// User; the default user if it is not given.
    #[serde(default)]
    pub username: Option<String>,
    /// Password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// The server is a node of a cluster. A cluster has no databases but number 0.
    #[serde(default)]
    pub cluster: bool,
    /// TLS; any of these turns it on, as `rediss://` does.
    #[serde(flatten)]
    pub tls: TlsOptions,
}

/// A Redis server or cluster.
pub struct RedisClient {
    nodes: Vec<ConnectionInfo>,
    /// Addresses without credentials, for messages.
    endpoint: String,
    cluster: bool,
    has_tls: bool,
    tls: TlsOptions,
    timeout: Duration,
    /// The newest connection and its number, which counts from 1.
    current: Mutex<(u64, Option<RedisConnection>)>,
}

/// A connection. Clones share it.
#[derive(Clone)]
pub enum RedisConnection {
    /// To one server.
    Single(MultiplexedConnection),
    /// To all nodes of a cluster.
    Cluster(ClusterConnection),
}

impl RedisClient {
    /// Checks the options; no I/O. The client is shared by all who give the same ones. `timeout` limits each command.
    ///
    /// # Errors
    /// An address or database number that can't be read.
    pub fn shared(
        connections: &Connections,
        options: &RedisOptions,
        db: i64,
        timeout: Duration,
    ) -> Result<Arc<Self>, ConfigError> {
        let client = RedisClient::new(options, db, timeout)?;
        let RedisOptions { addr, username, password, cluster, tls } = options;
        let secret = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
        let key = format!(
            "{:?} {username:?} {:?} {cluster} {tls:?} {:?} {db} {timeout:?}",
            addr.expose(),
            secret(password),
            secret(&tls.private_key_raw)
        );
        Ok(connections.shared(&key, || client))
    }

    /// A client of one's own; no I/O.
    ///
    /// # Errors
    /// As for [`RedisClient::shared`].
    pub fn new(options: &RedisOptions, db: i64, timeout: Duration) -> Result<Self, ConfigError> {
        options.tls.check()?;
        if options.cluster && db != 0 {
            return Err(ConfigError::new("cluster", format!("a cluster has only database 0, not {db}")));
        }
        let mut problems = ConfigError::default();
        let mut nodes = Vec::new();
        for addr in options.addr.expose().split(',').map(str::trim) {
            match node(addr) {
                Some(node) => nodes.push(node),
                None => problems.push(
                    "addr",
                    "expected host:port, redis://host:port or rediss://host:port (several with commas for a cluster)",
                ),
            }
        }
        if !options.cluster && nodes.len() > 1 {
            problems.push("addr", "several addresses are for a cluster: set cluster: true, or give one");
        }
        if !problems.problems.is_empty() {
            return Err(problems);
        }
        let has_tls =
            options.tls.is_set() || nodes.iter().any(|node| matches!(node.addr(), ConnectionAddr::TcpTls { .. }));
        let endpoint = nodes.iter().map(|node| node.addr().to_string()).collect::<Vec<_>>().join(", ");
        for node in &mut nodes {
            let mut settings = settings(node, options);
            // A number in the address is taken if there is no other.
            if db != 0 {
                settings = settings.set_db(db);
            }
            let addr = match node.addr().clone() {
                ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } if has_tls => {
                    let insecure = options.tls.insecure_skip_verify;
                    ConnectionAddr::TcpTls { host, port, insecure, tls_params: None }
                }
                addr => addr,
            };
            *node = node.clone().set_addr(addr).set_redis_settings(settings);
        }
        Ok(RedisClient {
            nodes,
            endpoint: format!("Redis at {endpoint}"),
            cluster: options.cluster,
            has_tls,
            tls: options.tls.clone(),
            timeout,
            current: Mutex::default(),
        })
    }

    /// A connection that is newer than number `stale`: one that somebody else has made meanwhile, or a new one. Gives its number
    /// too.
    ///
    /// # Errors
    /// When the server can't be reached or does not let us in.
    pub async fn connect(&self, stale: u64) -> Result<(u64, RedisConnection), ConnectorError> {
        let mut current = self.current.lock().await;
        if let (number, Some(connection)) = &*current
            && *number > stale
        {
            return Ok((*number, connection.clone()));
        }
        current.1 = None;
        let connection = self.open().await?;
        current.0 += 1;
        current.1 = Some(connection.clone());
        Ok((current.0, connection))
    }

    async fn open(&self) -> Result<RedisConnection, ConnectorError> {
        let certificates = if self.has_tls { Some(self.certificates()?) } else { None };
        let opened =
            if self.cluster { self.open_cluster(certificates).await } else { self.open_single(certificates).await };
        opened.map_err(|error| {
            let mut error = self.error(&error);
            error.message = format!("could not connect: {}", error.message);
            error
        })
    }

    async fn open_single(&self, certificates: Option<TlsCertificates>) -> Result<RedisConnection, RedisError> {
        let Some(node) = self.nodes.first().cloned() else {
            return Err((ErrorKind::InvalidClientConfig, "no address").into());
        };
        let client = match certificates {
            Some(certificates) => Client::build_with_tls(node, certificates)?,
            None => Client::open(node)?,
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        Ok(RedisConnection::Single(client.get_multiplexed_async_connection_with_config(&config).await?))
    }

    async fn open_cluster(&self, certificates: Option<TlsCertificates>) -> Result<RedisConnection, RedisError> {
        let mut builder = ClusterClientBuilder::new(self.nodes.clone()).retries(1);
        if let Some(certificates) = certificates {
            builder = builder.certs(certificates);
        }
        let config = ClusterConfig::new().set_connection_timeout(self.timeout).set_response_timeout(self.timeout);
        Ok(RedisConnection::Cluster(builder.build()?.get_async_connection_with_config(config).await?))
    }

    /// What a connection of one's own needs: the name for messages, where to, and the TLS options.
    ///
    /// # Errors
    /// None in a client that was checked.
    pub(super) fn first_node(&self) -> Result<(String, ConnectionInfo, &TlsOptions), ConnectorError> {
        let node = self.nodes.first().cloned().ok_or_else(|| ConnectorError::user("there is no address"))?;
        Ok((self.endpoint.clone(), node, &self.tls))
    }

    fn certificates(&self) -> Result<TlsCertificates, ConnectorError> {
        if self.tls.tls_min_version != TlsVersion::default() {
            return Err(ConnectorError::user("tlsMinVersion is not available for Redis: 1.2 and 1.3 are accepted"));
        }
        let client_tls = self
            .tls
            .identity_pem()?
            .map(|identity| ClientTlsConfig { client_cert: identity.chain, client_key: identity.key });
        Ok(TlsCertificates { client_tls, root_cert: self.tls.root_ca_pem()? })
    }

    /// An error of the client or the server as ours, with the address.
    pub fn error(&self, error: &RedisError) -> ConnectorError {
        let is_ours = match error.kind() {
            ErrorKind::AuthenticationFailed
            | ErrorKind::InvalidClientConfig
            | ErrorKind::Parse
            | ErrorKind::UnexpectedReturnType
            | ErrorKind::Server(ServerErrorKind::NoPerm) => true,
            _ => matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "WRONGTYPE" | "NOPERM")),
        };
        let (fault, retry) = if is_ours { (Fault::User, Retry::Never) } else { (Fault::External, Retry::Backoff) };
        ConnectorError { fault, retry, message: format!("{}: {error}", self.endpoint) }
    }
}

fn node(addr: &str) -> Option<ConnectionInfo> {
    let url = if addr.contains("://") { addr.to_owned() } else { format!("redis://{addr}") };
    let has_host = url.split_once("://").is_some_and(|(_, rest)| !rest.is_empty() && !rest.starts_with([':', '/']));
    url.into_connection_info().ok().filter(|_| has_host)
}

fn settings(node: &ConnectionInfo, options: &RedisOptions) -> RedisConnectionInfo {
    let mut settings = node.redis_settings().clone();
    if let Some(username) = &options.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &options.password {
        settings = settings.set_password(password.expose());
    }
    settings
}

impl RedisConnection {
    /// Runs one command.
    ///
    /// # Errors
    /// When the server refuses it, or the way to it breaks.
    pub async fn run(&mut self, command: &Cmd) -> Result<redis::Value, RedisError> {
        match self {
            RedisConnection::Single(connection) => command.query_async(connection).await,
            RedisConnection::Cluster(connection) => command.query_async(connection).await,
        }
    }

    /// Runs commands together; each has its own outcome.
    ///
    /// # Errors
    /// When the way to the server breaks.
    pub async fn run_all(&mut self, commands: Vec<Cmd>) -> Result<Vec<Result<redis::Value, RedisError>>, RedisError> {
        match self {
            RedisConnection::Single(connection) => {
                let mut pipeline = Pipeline::with_capacity(commands.len());
                for command in commands {
                    pipeline.add_command(command);
                }
                pipeline.ignore_errors().query_async(connection).await
            }
            // A pipeline would have to stay within one slot.
            RedisConnection::Cluster(connection) => {
                let run = |command: Cmd| {
                    let mut connection = connection.clone();
                    async move { command.query_async(&mut connection).await }
                };
                let outcomes = futures::future::join_all(commands.into_iter().map(run)).await;
                let (mut found, mut lost) = (Vec::with_capacity(outcomes.len()), None);
                for outcome in outcomes {
                    match outcome {
                        Err(error) if error.is_io_error() || error.is_cluster_error() => lost = Some(error),
                        outcome => found.push(outcome),
                    }
                }
                lost.map_or(Ok(found), Err)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(json: serde_json::Value) -> RedisOptions {
        crate::options::Options::from(json).parse().unwrap()
    }

    #[test]
    fn addresses() {
        for (addr, expected) in [
            ("db:6380", "Redis at db:6380"),
            ("db", "Redis at db:6379"),
            ("redis://u:secretword@db:1", "Redis at db:1"),
            ("rediss://db", "Redis at db:6379"),
            ("[::1]:7", "Redis at ::1:7"),
        ] {
            let client = RedisClient::new(&options(serde_json::json!({"addr": addr})), 0, Duration::from_secs(1));
            assert_eq!(client.unwrap().endpoint, expected, "{addr}");
        }
        for addr in ["", ":6379", "db:port", "http://db", "a,b"] {
            let error = RedisClient::new(&options(serde_json::json!({"addr": addr})), 0, Duration::from_secs(1));
            assert_eq!(error.err().unwrap().problems[0].path, "addr", "{addr}");
        }
    }

    #[test]
    fn a_cluster_has_one_database() {
        let options = options(serde_json::json!({"addr": "a:1, b:2", "cluster": true}));
        assert!(RedisClient::new(&options, 0, Duration::from_secs(1)).is_ok());
        let error = RedisClient::new(&options, 3, Duration::from_secs(1)).err().unwrap();
        assert_eq!(error.to_string(), "cluster: a cluster has only database 0, not 3");
    }
}
