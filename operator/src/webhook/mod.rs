//! The validating webhook: the verdict of `sluice check` before an object is stored. It changes nothing, and refuses only what is
//! wrong whatever else is there; what is not there yet is a warning.

mod admit;
mod certificate;
mod tls;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::store::Stores;
use crate::metrics::Metrics;
use crate::object::Stored;
use crate::planning::Key;

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

/// How long an object that was let in is known although no watch has brought it.
const RECENT: Duration = Duration::from_secs(3);

/// Streams and tables that were let in just now: a rule in the same file is judged by them before the watch brings them.
#[derive(Clone, Default)]
pub struct Recent(Arc<Mutex<Vec<LetIn>>>);

/// What was let in, and when.
struct LetIn {
    at: Instant,
    object: Arc<Stored>,
}

impl Recent {
    fn note(&self, object: Stored) {
        self.lock().push(LetIn { at: Instant::now(), object: Arc::new(object) });
    }

    /// Adds those of a namespace that `objects` has not, or has in an older form.
    fn add_to(&self, namespace: &str, objects: &mut BTreeMap<Key, Arc<Stored>>) {
        let mut recent = self.lock();
        recent.retain(|known| known.at.elapsed() < RECENT);
        for object in recent.iter().map(|known| &known.object).filter(|object| object.namespace == namespace) {
            let key = (object.kind, object.name.clone());
            let is_newer = |known: &Arc<Stored>| known.uid == object.uid && known.generation >= object.generation;
            if !objects.get(&key).is_some_and(is_newer) {
                objects.insert(key, Arc::clone(object));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<LetIn>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a verdict needs.
#[derive(Clone)]
pub struct Webhook {
    /// What is there already.
    pub stores: Arc<Stores>,
    /// What is about to be there.
    pub recent: Recent,
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
        let mut objects = self.stores.objects(&namespace);
        self.recent.add_to(&namespace, &mut objects);
        let verdict = admit(&object, objects, &self.registry);
        if !verdict.warnings.is_empty() {
            response.warnings = Some(verdict.warnings);
        }
        match verdict.refused {
            None => {
                self.metrics.admitted(kind.as_str(), "allowed");
                if matches!(kind, Kind::Stream | Kind::LookupTable) && !request.dry_run {
                    self.recent.note(object);
                }
            }
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
