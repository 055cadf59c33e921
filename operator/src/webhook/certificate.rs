//! The webhook's own CA and certificate: made once, kept in a Secret that all replicas share, renewed in time, and made known to the
//! API server. A CA that is renewed is known beside the old one until the old one has ended.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::cluster::api::{is_not_found, shown};

/// A CA is good for so many lives of a certificate.
const CA_LIVES: u32 = 8;
/// Clocks may differ by this.
const SKEW: Duration = Duration::from_secs(300);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The API server.
    #[error("{}", shown(.0))]
    Cluster(#[from] Box<Error>),
    /// Making one.
    #[error("making a certificate: {0}")]
    Making(#[from] rcgen::Error),
    /// The Secret holds no certificate.
    #[error("the Secret holds no certificate that can be used: {0}")]
    Unusable(String),
}

impl From<Error> for CertificateError {
    fn from(error: Error) -> Self {
        CertificateError::Cluster(Box::new(error))
    }
}

/// Where certificates are kept, and for what.
#[derive(Clone)]
pub struct Certificates {
    /// Talks.
    pub client: Client,
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret.
    pub secret: String,
    /// The ValidatingWebhookConfiguration.
    pub configuration: String,
    /// Names and addresses of the webhook.
    pub names: Vec<String>,
    /// How long a certificate is good.
    pub life: Duration,
}

/// What the Secret holds.
struct Kept {
    /// CAs, the newest first.
    ca: String,
    ca_key: String,
    ca_ends: i64,
    certificate: String,
    key: String,
    ends: i64,
    names: String,
}

impl Certificates {
    /// Sees to it that there is a certificate, that it is renewed after two thirds of its life, and that the API server knows its CA.
    /// Gives what to serve with and when that ends, in seconds since the epoch.
    ///
    /// # Errors
    /// The API server, or a Secret that someone else has changed.
    pub async fn ensure(&self) -> Result<(ServerConfig, i64), CertificateError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let now = jiff::Timestamp::now().as_second();
        let kept = loop {
            let found = match api.get(&self.secret).await {
                Ok(found) => Some(found),
                Err(error) if is_not_found(&error) => None,
                Err(error) => return Err(error.into()),
            };
            let kept = found.as_ref().and_then(read);
            if let Some(kept) = kept.as_ref().filter(|kept| !self.is_due(kept, now)) {
                break self.server(kept).map(|config| (kept.ca.clone(), config, kept.ends))?;
            }
            let new = self.renew(kept, now)?;
            let secret = self.write(&new, found.as_ref());
            let written = match &found {
                Some(_) => api.replace(&self.secret, &PostParams::default(), &secret).await,
                None => api.create(&PostParams::default(), &secret).await,
            };
            match written {
                Ok(_) => tracing::info!(secret = self.secret, "certificate of the webhook made"),
                // Another replica was faster.
                Err(Error::Api(status)) if status.code == 409 => continue,
                Err(error) => return Err(error.into()),
            }
            let ca = text(&secret, "ca.crt").unwrap_or_default();
            break self.server(&new).map(|config| (ca, config, new.ends))?;
        };
        let (ca, config, ends) = kept;
        self.publish(&ca).await?;
        Ok((config, ends))
    }

    fn is_due(&self, kept: &Kept, now: i64) -> bool {
        kept.names != self.names.join(",") || kept.ends - now < seconds(self.life) / 3
    }

    fn renew(&self, kept: Option<Kept>, now: i64) -> Result<Kept, CertificateError> {
        let life = seconds(self.life);
        // The CA outlives what it signs.
        let usable = kept.filter(|kept| kept.ca_ends - now > 2 * life);
        let (ca, ca_key, ca_ends) = match usable {
            Some(kept) => (kept.ca, kept.ca_key, kept.ca_ends),
            None => {
                let ends = now + life * i64::from(CA_LIVES);
                let key = KeyPair::generate()?;
                let certificate = ca_params(now, ends)?.self_signed(&key)?;
                (certificate.pem(), key.serialize_pem(), ends)
            }
        };
        let issuer_key = KeyPair::from_pem(&ca_key)?;
        let issuer = Issuer::new(ca_params(now, ca_ends)?, issuer_key);
        let mut params = CertificateParams::new(self.names.clone())?;
        (params.not_before, params.not_after) = (date(now - seconds(SKEW)), date(now + life));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Kept {
            ca,
            ca_key,
            ca_ends,
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            ends: now + life,
            names: self.names.join(","),
        })
    }

    fn write(&self, kept: &Kept, found: Option<&Secret>) -> Secret {
        let entry = |key: &str, value: String| (key.to_owned(), ByteString(value.into_bytes()));
        // The CA before stays known until it has ended.
        let old = found.and_then(|found| text(found, "ca.crt")).filter(|old| !kept.ca.contains(old.trim()));
        let ca = match &old {
            Some(old) if !old.contains(kept.ca.trim()) => format!("{}{}", kept.ca, first_certificate(old)),
            _ => kept.ca.clone(),
        };
        let data = BTreeMap::from([
            entry("ca.crt", ca),
            entry("ca.key", kept.ca_key.clone()),
            entry("ca.ends", kept.ca_ends.to_string()),
            entry("tls.crt", kept.certificate.clone()),
            entry("tls.key", kept.key.clone()),
            entry("tls.ends", kept.ends.to_string()),
            entry("tls.names", kept.names.clone()),
        ]);
        let metadata = ObjectMeta {
            name: Some(self.secret.clone()),
            resource_version: found.and_then(|found| found.metadata.resource_version.clone()),
            labels: found.and_then(|found| found.metadata.labels.clone()),
            annotations: found.and_then(|found| found.metadata.annotations.clone()),
            ..ObjectMeta::default()
        };
        Secret { metadata, data: Some(data), type_: Some("Opaque".to_owned()), ..Secret::default() }
    }

    fn server(&self, kept: &Kept) -> Result<ServerConfig, CertificateError> {
        let unusable = |error: String| CertificateError::Unusable(error);
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(kept.certificate.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| unusable(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(kept.key.as_bytes()).map_err(|error| unusable(error.to_string()))?;
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        config.map_err(|error| unusable(error.to_string()))
    }

    /// Puts the CA into the webhook's configuration, unless it is there.
    async fn publish(&self, ca: &str) -> Result<(), CertificateError> {
        let api: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let configuration = api.get(&self.configuration).await?;
        let encoded = STANDARD.encode(ca);
        let mut patch: Vec<Value> = Vec::new();
        for (webhook_idx, webhook) in configuration.webhooks.iter().flatten().enumerate() {
            let known = webhook.client_config.ca_bundle.as_ref().map(|bundle| bundle.0.as_slice());
            if known != Some(ca.as_bytes()) {
                let path = format!("/webhooks/{webhook_idx}/clientConfig/caBundle");
                patch.push(json!({ "op": "add", "path": path, "value": encoded }));
            }
        }
        if patch.is_empty() {
            return Ok(());
        }
        if let Some(version) = configuration.metadata.resource_version {
            patch.insert(0, json!({ "op": "test", "path": "/metadata/resourceVersion", "value": version }));
        }
        let patch = serde_json::from_value(Value::Array(patch)).map_err(Error::SerdeError)?;
        let patch: Patch<()> = Patch::Json(patch);
        api.patch(&self.configuration, &PatchParams::default(), &patch).await?;
        tracing::info!(configuration = self.configuration, "CA of the webhook made known");
        Ok(())
    }
}

fn read(secret: &Secret) -> Option<Kept> {
    Some(Kept {
        ca: text(secret, "ca.crt")?,
        ca_key: text(secret, "ca.key")?,
        ca_ends: text(secret, "ca.ends")?.parse().ok()?,
        certificate: text(secret, "tls.crt")?,
        key: text(secret, "tls.key")?,
        ends: text(secret, "tls.ends")?.parse().ok()?,
        names: text(secret, "tls.names")?,
    })
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()
}

/// The newest of several.
fn first_certificate(pem: &str) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    pem.split_inclusive(END).next().map(|first| format!("{first}\n")).unwrap_or_default()
}

fn ca_params(now: i64, ends: i64) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "sluice-operator webhook CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (date(now - seconds(SKEW)), date(ends));
    Ok(params)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX / 16)
}

fn date(second: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(second).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}
