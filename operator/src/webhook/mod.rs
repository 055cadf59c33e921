//! The validating webhook: the verdict of `sluice check` before an object is stored. It changes nothing, and refuses only what is
//! wrong whatever else is there; what is not there yet is a warning.

mod admit;
mod certificate;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::response::Json;
use axum::routing::post;
use axum::{Router, extract::DefaultBodyLimit};
use kube::api::DynamicObject;
use kube::core::Status;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use sluice::Registry;
use sluice::manifest::Kind;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cluster::store::Stores;
use crate::metrics::Metrics;
use crate::object::Stored;

pub use admit::{Verdict, admit};
pub use certificate::{CertificateError, Certificates};
pub use tls::{Identity, TlsListener};

/// Largest review that is read: two objects of the API server's largest size.
const MAX_BYTES: usize = 8 << 20;

/// Open once the API server knows the webhook's CA, or if there is no webhook.
#[derive(Clone, Default)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    /// Opens it.
    pub fn open(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Is it open?
    pub fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a verdict needs.
#[derive(Clone)]
pub struct Webhook {
    /// What is there already.
    pub stores: Arc<Stores>,
    /// Connectors and functions.
    pub registry: Registry,
    /// Counts.
    pub metrics: Metrics,
}

/// Serves until `stop`.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    identity: Identity,
    webhook: Webhook,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router =
        Router::new().route("/validate", post(validate)).layer(DefaultBodyLimit::max(MAX_BYTES)).with_state(webhook);
    let listener = TlsListener::new(listener, identity, stop.clone());
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn validate(
    State(webhook): State<Webhook>,
    Json(review): Json<AdmissionReview<DynamicObject>>,
) -> Json<AdmissionReview<DynamicObject>> {
    let request: AdmissionRequest<DynamicObject> = match review.try_into() {
        Ok(request) => request,
        Err(error) => return Json(AdmissionResponse::invalid(error).into_review()),
    };
    Json(webhook.answer(&request).into_review())
}

impl Webhook {
    fn answer(&self, request: &AdmissionRequest<DynamicObject>) -> AdmissionResponse {
        let mut response = AdmissionResponse::from(request);
        let kind = Kind::ours(&request.kind.kind);
        let (Some(kind), Some(object)) = (kind, request.object.clone()) else { return response };
        if request.operation == Operation::Delete || request.operation == Operation::Connect {
            return response;
        }
        let namespace = request.namespace.clone().unwrap_or_default();
        let Some(object) = to_store(kind, &namespace, object) else { return response };
        let old = request.old_object.clone().and_then(|old| to_store(kind, &namespace, old));
        // A change of labels or status is nobody's business here.
        if object.is_deleting || old.is_some_and(|old| old.spec == object.spec) {
            return response;
        }
        let verdict = admit(&object, self.stores.objects(&namespace), &self.registry);
        if !verdict.warnings.is_empty() {
            response.warnings = Some(verdict.warnings);
        }
        match verdict.refused {
            None => self.metrics.admitted(kind.as_str(), "allowed"),
            Some(message) => {
                self.metrics.admitted(kind.as_str(), "refused");
                response = response.deny(message);
                response.result = Status { code: 422, reason: "Invalid".to_owned(), ..response.result };
            }
        }
        response
    }
}

/// An object that is about to be stored may lack what the API server gives it.
fn to_store(kind: Kind, namespace: &str, mut object: DynamicObject) -> Option<Stored> {
    let metadata = &mut object.metadata;
    metadata.namespace.get_or_insert_with(|| namespace.to_owned());
    metadata.uid.get_or_insert_with(|| "new".to_owned());
    metadata.name.get_or_insert_with(|| "new".to_owned());
    Stored::new(kind, object)
}
