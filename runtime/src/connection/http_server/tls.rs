//! The server's certificate: read from files, and read again when they change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::connection::tls::{certificates, private_key};
use crate::error::ConnectorError;

/// Pause between two looks at the files.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The files of a server's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM file with the server's certificate chain.
    pub certificate: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
    /// PEM file with the authorities whose clients are let in; without it, clients need no certificate.
    pub client_ca: Option<PathBuf>,
}

/// What the files hold.
#[derive(PartialEq, Eq)]
struct Pems {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// TLS that follows its files.
pub(super) struct ServerTls {
    files: TlsFiles,
    state: Mutex<State>,
}

struct State {
    config: Arc<ServerConfig>,
    /// What the files held when they were read last, good or bad.
    pems: Pems,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// Files that can't be read or do not fit each other.
    pub fn load(files: TlsFiles) -> Result<Self, ConnectorError> {
        let pems = Pems::read(&files)?;
        let config = Arc::new(pems.config().map_err(ConnectorError::external)?);
        Ok(ServerTls { files, state: Mutex::new(State { config, pems }) })
    }

    /// What new connections are to use.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.state.lock().unwrap_or_else(PoisonError::into_inner).config)
    }

    /// Reads the files again; true if new ones are in use.
    ///
    /// # Errors
    /// The new ones do not do, said once; the old ones stay in use.
    pub fn refresh(&self) -> Result<bool, ConnectorError> {
        let pems = Pems::read(&self.files)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if pems == state.pems {
            return Ok(false);
        }
        let config = pems.config();
        state.pems = pems;
        state.config = Arc::new(config.map_err(ConnectorError::external)?);
        Ok(true)
    }
}

impl Pems {
    fn read(files: &TlsFiles) -> Result<Self, ConnectorError> {
        let read = |what: &str, path: &Path| {
            std::fs::read(path).map_err(|error| {
                ConnectorError::external(format!("can't read the server's {what} {}: {error}", path.display()))
            })
        };
        Ok(Pems {
            certificate: read("certificate", &files.certificate)?,
            key: read("key", &files.key)?,
            client_ca: files.client_ca.as_deref().map(|path| read("client authorities", path)).transpose()?,
        })
    }

    fn config(&self) -> Result<ServerConfig, String> {
        let chain = certificates(&self.certificate).map_err(|reason| format!("the server's certificate: {reason}"))?;
        let key = private_key(&self.key).map_err(|reason| format!("the server's key: {reason}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("tls: {error}"))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(pem).map_err(|reason| format!("client authorities: {reason}"))? {
                    roots.add(certificate).map_err(|error| format!("client authorities: {error}"))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| format!("client authorities: {error}"))?)
            }
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| format!("the server's certificate and key: {error}"))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}
