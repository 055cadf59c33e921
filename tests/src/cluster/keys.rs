//! Keys, certificates and kubeconfigs of a cluster, made anew for each.

use std::path::{Path, PathBuf};

use anyhow::Result;
use base64::Engine as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::parts::{NODE, NODE_NAME, SERVICE_OF_API};

/// Signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Authority { issuer: Issuer::new(params, key), pem })
    }

    /// Certificate and key for a name and, if given, a group, as server for these hosts and as client.
    fn issue(&self, name: &str, group: Option<&str>, hosts: &[&str]) -> Result<(String, String)> {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }
}

/// What the harness itself needs of the keys; the rest is in files.
#[derive(Debug)]
pub struct Keys {
    ca: String,
    admin: (String, String),
}

impl Keys {
    /// Makes all keys and writes them, and the kubeconfigs of the parts, into `folder`.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn make(folder: &Path) -> Result<Self> {
        let ca = Authority::new("sluice test cluster")?;
        let front = Authority::new("sluice test front proxy")?;
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text);
        write("ca.pem", &ca.pem)?;
        write("front-ca.pem", &front.pem)?;

        let service = "kubernetes.default.svc";
        let hosts = [
            "kubernetes",
            "kubernetes.default",
            service,
            "kubernetes.default.svc.cluster.local",
            "localhost",
            "127.0.0.1",
            NODE,
            SERVICE_OF_API,
        ];
        let pairs = [
            ("apiserver", ca.issue("kube-apiserver", None, &hosts)?),
            ("kubelet-client", ca.issue("apiserver-kubelet", Some("system:masters"), &[])?),
            ("front", front.issue("front-proxy", None, &[])?),
        ];
        for (file, (cert, key)) in &pairs {
            write(&format!("{file}.pem"), cert)?;
            write(&format!("{file}.key"), key)?;
        }
        let accounts = KeyPair::generate()?;
        write("sa.key", &accounts.serialize_pem())?;
        write("sa.pub", &accounts.public_key_pem())?;

        let inside = format!("https://{NODE}:6443");
        for user in ["kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns"] {
            let pair = ca.issue(&format!("system:{user}"), None, &[])?;
            write(&format!("{user}.kubeconfig"), &kubeconfig(&inside, &ca.pem, &pair))?;
        }
        let kubelet = ca.issue(&format!("system:node:{NODE_NAME}"), Some("system:nodes"), &[NODE_NAME, NODE])?;
        write("kubelet.kubeconfig", &kubeconfig(&inside, &ca.pem, &kubelet))?;
        write("kubelet.pem", &kubelet.0)?;
        write("kubelet.key", &kubelet.1)?;

        let admin = ca.issue("admin", Some("system:masters"), &[])?;
        write("admin.inside", &kubeconfig(&inside, &ca.pem, &admin))?;
        Ok(Keys { ca: ca.pem, admin })
    }

    /// A kubeconfig of an administrator for the API server at `url`.
    pub fn admin(&self, url: &str) -> String {
        kubeconfig(url, &self.ca, &self.admin)
    }

    /// A kubeconfig for the bearer of a token.
    pub fn bearer(&self, url: &str, token: &str) -> String {
        format!("{}users:\n- name: user\n  user:\n    token: {token}\n", cluster(url, &self.ca))
    }
}

fn kubeconfig(url: &str, ca: &str, (cert, key): &(String, String)) -> String {
    format!(
        "{}users:\n- name: user\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
        cluster(url, ca),
        encode(cert),
        encode(key)
    )
}

fn cluster(url: &str, ca: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters:\n- name: test\n  cluster:\n    server: {url}\n    certificate-authority-data: {}\n\
         contexts:\n- name: test\n  context: {{cluster: test, user: user, namespace: default}}\n",
        encode(ca)
    )
}

fn encode(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Writes a kubeconfig beside the keys.
///
/// # Errors
/// When it can't be written.
pub fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}
