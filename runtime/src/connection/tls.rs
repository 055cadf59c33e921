//! TLS options that all clients share, and the rustls configuration that they become.
//!
//! Nothing is read when options are checked; files are read at each connect, so a renewed certificate is picked up by the
//! next one.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{ConfigError, ConnectorError};
use crate::options::Secret;

/// TLS options; flatten them into a connector's config. Of a path and its raw form, the path wins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsOptions {
    /// Takes any certificate that the server shows.
    pub insecure_skip_verify: bool,
    /// PEM file with the client's certificate chain, for mutual TLS.
    pub certification_path: Option<PathBuf>,
    /// PEM file with the client's private key.
    pub private_key_path: Option<PathBuf>,
    /// PEM file with the authorities that are trusted instead of the system's.
    pub root_ca_path: Option<PathBuf>,
    /// The client's certificate chain: PEM, or base64 of it.
    pub certification_raw: Option<String>,
    /// The client's private key: PEM, or base64 of it.
    pub private_key_raw: Option<Secret>,
    /// Trusted authorities: PEM, or base64 of it.
    #[serde(rename = "rootCARaw", alias = "rootCaRaw")]
    pub root_ca_raw: Option<String>,
    /// Lowest TLS version: `tls1.2` or `tls1.3`.
    pub tls_min_version: TlsVersion,
    /// Only `never`: renegotiation is not supported.
    pub renegotiation_support: Renegotiation,
}

/// The client's side of mutual TLS, as PEM text.
pub struct IdentityPem {
    /// Certificates, the client's first.
    pub chain: Vec<u8>,
    /// Its private key. Never to be printed.
    pub key: Vec<u8>,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2
    #[default]
    #[serde(rename = "tls1.2")]
    Tls12,
    /// TLS 1.3
    #[serde(rename = "tls1.3")]
    Tls13,
}

/// Whether the server may renegotiate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Renegotiation {
    /// It may not.
    #[default]
    Never,
}

impl TlsOptions {
    /// True if anything was set that asks for a TLS configuration of one's own.
    pub fn is_set(&self) -> bool {
        *self != TlsOptions::default()
    }

    /// Checks what can be checked without reading a file.
    ///
    /// # Errors
    /// A certificate without its key or the reverse, and inline texts that are no PEM.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut problems = ConfigError::default();
        let has_cert = self.certification_path.is_some() || self.certification_raw.is_some();
        let has_key = self.private_key_path.is_some() || self.private_key_raw.is_some();
        if has_cert && !has_key {
            problems.push("privateKeyPath", "a client certificate needs its key: set privateKeyPath or privateKeyRaw");
        }
        if has_key && !has_cert {
            problems.push(
                "certificationPath",
                "a client key needs its certificate: set certificationPath or certificationRaw",
            );
        }
        if let Some(text) = &self.certification_raw
            && let Err(reason) = decode_pem(text).and_then(|pem| certificates(&pem))
        {
            problems.push("certificationRaw", reason);
        }
        if let Some(text) = &self.private_key_raw
            && let Err(reason) = decode_pem(text.expose()).and_then(|pem| private_key(&pem))
        {
            problems.push("privateKeyRaw", reason);
        }
        if let Some(text) = &self.root_ca_raw
            && let Err(reason) = decode_pem(text).and_then(|pem| certificates(&pem))
        {
            problems.push("rootCARaw", reason);
        }
        if problems.problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// PEM text of the client's certificate chain and of its key, for clients that build their own TLS.
    ///
    /// # Errors
    /// When a file can't be read, or only one of the two is there.
    pub fn identity_pem(&self) -> Result<Option<IdentityPem>, ConnectorError> {
        let key = self.private_key_raw.as_ref().map(Secret::expose);
        let cert = read_pem("certificationPath", &self.certification_path, self.certification_raw.as_deref())?;
        let key = read_pem("privateKeyPath", &self.private_key_path, key)?;
        match (cert, key) {
            (Some(chain), Some(key)) => Ok(Some(IdentityPem { chain, key })),
            (None, None) => Ok(None),
            _ => Err(ConnectorError::user("a client certificate and its key must be given together")),
        }
    }

    /// PEM text of the trusted authorities; `None` for the system's.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn root_ca_pem(&self) -> Result<Option<Vec<u8>>, ConnectorError> {
        read_pem("rootCaPath", &self.root_ca_path, self.root_ca_raw.as_deref())
    }

    /// The client configuration: rustls on ring.
    ///
    /// # Errors
    /// Files that can't be read or hold no PEM, keys that do not fit their certificate, no trusted authority at all.
    pub fn client_config(&self) -> Result<ClientConfig, ConnectorError> {
        let versions: &[&SupportedProtocolVersion] = match self.tls_min_version {
            TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::Tls13 => &[&rustls::version::TLS13],
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| ConnectorError::internal(format!("tls: {error}")))?;
        let builder = if self.insecure_skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        let Some(IdentityPem { chain, key }) = self.identity_pem()? else { return Ok(builder.with_no_client_auth()) };
        let cert =
            certificates(&chain).map_err(|reason| ConnectorError::user(format!("client certificate: {reason}")))?;
        let key = private_key(&key).map_err(|reason| ConnectorError::user(format!("client key: {reason}")))?;
        builder
            .with_client_auth_cert(cert, key)
            .map_err(|error| ConnectorError::user(format!("client certificate and key: {error}")))
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, ConnectorError> {
        let Some(pem) = self.root_ca_pem()? else { return native_roots() };
        let mut roots = RootCertStore::empty();
        let certificates =
            certificates(&pem).map_err(|reason| ConnectorError::user(format!("trusted authorities: {reason}")))?;
        for certificate in certificates {
            roots.add(certificate).map_err(|error| ConnectorError::user(format!("trusted authorities: {error}")))?;
        }
        Ok(Arc::new(roots))
    }
}

/// The system's authorities, read once: that takes tens of milliseconds.
fn native_roots() -> Result<Arc<RootCertStore>, ConnectorError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    if roots.is_empty() {
        return Err(ConnectorError::user("the system has no trusted certificate authorities: set rootCaPath"));
    }
    Ok(Arc::clone(roots))
}

fn read_pem(option: &str, path: &Option<PathBuf>, raw: Option<&str>) -> Result<Option<Vec<u8>>, ConnectorError> {
    if let Some(path) = path {
        let read = std::fs::read(path);
        return read
            .map(Some)
            .map_err(|error| ConnectorError::external(format!("can't read {option} {}: {error}", path.display())));
    }
    let decoded = raw.map(decode_pem).transpose();
    decoded.map_err(|reason| ConnectorError::user(format!("{}: {reason}", option.replace("Path", "Raw"))))
}

/// PEM text, given plainly or as base64.
fn decode_pem(text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim();
    if text.starts_with("-----BEGIN") {
        return Ok(text.as_bytes().to_vec());
    }
    let packed: String = text.split_ascii_whitespace().collect();
    base64::engine::general_purpose::STANDARD
        .decode(packed)
        .map_err(|_| "expected PEM text (-----BEGIN ...) or base64 of it".to_owned())
}

/// The certificates of a PEM text, at least one.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| format!("bad PEM: {error}"))?;
    if certificates.is_empty() { Err("no certificate in the PEM text".to_owned()) } else { Ok(certificates) }
}

/// The private key of a PEM text.
pub(super) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| "no private key in the PEM text".to_owned())
}

/// Accepts every certificate, but still has the server prove that it holds the certificate's key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
    use rustls::server::WebPkiClientVerifier;
    use rustls::{ClientConnection, ServerConfig, ServerConnection};

    use super::*;

    /// A CA, and a server and a client certificate that it signed.
    struct Pki {
        ca: String,
        server: (String, String),
        client: (String, String),
    }

    fn pki() -> Pki {
        let ca_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(params, ca_key);
        let leaf = |name: &str, usage| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.extended_key_usages = vec![usage];
            (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
        };
        let server = leaf("localhost", ExtendedKeyUsagePurpose::ServerAuth);
        let client = leaf("client", ExtendedKeyUsagePurpose::ClientAuth);
        Pki { ca: ca.pem(), server, client }
    }

    /// Shakes hands in memory.
    fn handshake(pki: &Pki, options: &TlsOptions, mutual: bool) -> Result<(), String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
        let builder = if mutual {
            let mut roots = RootCertStore::empty();
            roots.add(certificates(pki.ca.as_bytes()).unwrap().remove(0)).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let cert = certificates(pki.server.0.as_bytes()).unwrap();
        let config = builder.with_single_cert(cert, private_key(pki.server.1.as_bytes()).unwrap()).unwrap();
        let mut server = ServerConnection::new(Arc::new(config)).unwrap();
        let config = options.client_config().map_err(|error| error.to_string())?;
        let mut client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        for _ in 0..8 {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            server.read_tls(&mut Cursor::new(wire)).unwrap();
            server.process_new_packets().map_err(|error| format!("server: {error}"))?;
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            client.read_tls(&mut Cursor::new(wire)).unwrap();
            client.process_new_packets().map_err(|error| format!("client: {error}"))?;
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        Ok(())
    }

    #[test]
    fn handshakes() {
        let pki = pki();
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let none = TlsOptions::default();
        let ca_raw = TlsOptions { root_ca_raw: Some(pki.ca.clone()), ..none.clone() };
        let ca_base64 = TlsOptions { root_ca_raw: Some(base64(&pki.ca)), ..none.clone() };
        let ca_file = TlsOptions { root_ca_path: file("ca.pem", &pki.ca), ..none.clone() };
        let mutual = TlsOptions {
            certification_path: file("client.pem", &pki.client.0),
            private_key_raw: Some(Secret::new(base64(&pki.client.1))),
            tls_min_version: TlsVersion::Tls13,
            ..ca_raw.clone()
        };
        let insecure = TlsOptions { insecure_skip_verify: true, ..none };
        let other = TlsOptions { root_ca_raw: Some(super::tests::pki().ca), ..insecure.clone() };
        let other = TlsOptions { insecure_skip_verify: false, ..other };
        for (name, options, needs_client_cert, expected) in [
            ("authority inline", &ca_raw, false, "ok"),
            ("authority in base64", &ca_base64, false, "ok"),
            ("authority in a file", &ca_file, false, "ok"),
            ("any certificate", &insecure, false, "ok"),
            ("another authority", &other, false, "client: invalid peer certificate"),
            ("mutual", &mutual, true, "ok"),
            ("mutual, no client certificate", &ca_raw, true, "peer sent no certificates"),
        ] {
            let outcome = handshake(&pki, options, needs_client_cert).err().unwrap_or_else(|| "ok".to_owned());
            assert!(outcome.contains(expected), "{name}: {outcome}");
        }
    }

    #[test]
    fn options_that_do_not_fit() {
        let pki = pki();
        let none = TlsOptions::default();
        let cases = [
            (
                TlsOptions { certification_raw: Some(pki.client.0.clone()), ..none.clone() },
                "privateKeyPath: a client certificate needs its key",
            ),
            (
                TlsOptions { private_key_path: Some("k.pem".into()), ..none.clone() },
                "certificationPath: a client key needs its certificate",
            ),
            (TlsOptions { root_ca_raw: Some("§".into()), ..none.clone() }, "rootCARaw: expected PEM text"),
            (
                TlsOptions { root_ca_raw: Some(pki.client.1.clone()), ..none.clone() },
                "rootCARaw: no certificate in the PEM text",
            ),
        ];
        for (options, expected) in cases {
            let error = options.check().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        assert_eq!(none.check(), Ok(()));
        assert!(!none.is_set());
        let missing = TlsOptions { root_ca_path: Some("/nowhere/ca.pem".into()), ..none };
        let error = missing.client_config().unwrap_err().to_string();
        assert!(error.starts_with("can't read rootCaPath /nowhere/ca.pem"), "{error}");
    }
}
