//! A certificate authority made for the run, with a server and a client certificate.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// PEM files in one folder.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificate of the authority.
    pub ca: PathBuf,
    /// Server certificate, for `localhost` and `127.0.0.1`.
    pub server_cert: PathBuf,
    /// Its key.
    pub server_key: PathBuf,
    /// Client certificate.
    pub client_cert: PathBuf,
    /// Its key.
    pub client_key: PathBuf,
}

impl TlsFiles {
    /// Makes an authority and both certificates in `folder`, readable by the servers' own users.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn make(folder: &Path) -> Result<Self> {
        let mut ca_params = CertificateParams::default();
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca_params.distinguished_name.push(DnType::CommonName, "sluice test authority");
        let ca_key = KeyPair::generate()?;
        let ca = ca_params.clone().self_signed(&ca_key)?;
        let issuer = Issuer::new(ca_params, ca_key);

        let sign = |name: &str, hosts: &[&str], usage: ExtendedKeyUsagePurpose| -> Result<(String, String)> {
            let mut params = CertificateParams::new(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>())?;
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages.push(usage);
            let key = KeyPair::generate()?;
            Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
        };
        let (server_cert, server_key) =
            sign("server", &["localhost", "127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth)?;
        let (client_cert, client_key) = sign("client", &[], ExtendedKeyUsagePurpose::ClientAuth)?;

        let write = |name: &str, text: &str| -> Result<PathBuf> {
            let path = folder.join(name);
            std::fs::write(&path, text)?;
            Ok(path)
        };
        Ok(TlsFiles {
            ca: write("ca.pem", &ca.pem())?,
            server_cert: write("server.pem", &server_cert)?,
            server_key: write("server.key", &server_key)?,
            client_cert: write("client.pem", &client_cert)?,
            client_key: write("client.key", &client_key)?,
        })
    }
}
