//! What the operator counts, as Prometheus text.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

type Labels = Vec<(&'static str, String)>;

/// All metrics. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Metrics(Arc<Shared>);

struct Shared {
    registry: Registry,
    reconciles: Family<Labels, Counter>,
    errors: Family<Labels, Counter>,
    duration: Histogram,
    waited: Histogram,
    queue: Gauge,
    objects: Family<Labels, Gauge>,
    writes: Family<Labels, Counter>,
    watch_errors: Family<Labels, Counter>,
    time_to_running: Histogram,
    admissions: Family<Labels, Counter>,
    leader: Gauge,
    certificate_expires: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = || Histogram::new([0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0]);
        let mut registry = Registry::with_prefix("sluice_operator");
        let shared = Shared {
            reconciles: Family::default(),
            errors: Family::default(),
            duration: seconds(),
            waited: seconds(),
            queue: Gauge::default(),
            objects: Family::default(),
            writes: Family::default(),
            watch_errors: Family::default(),
            time_to_running: seconds(),
            admissions: Family::default(),
            leader: Gauge::default(),
            certificate_expires: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register(
            "reconciles",
            "Reconciliations of a namespace, by what caused them",
            shared.reconciles.clone(),
        );
        registry.register("errors", "Reconciliations that failed in part, by what failed", shared.errors.clone());
        registry.register("reconcile_seconds", "Time that a reconciliation took", shared.duration.clone());
        registry.register("queue_seconds", "Time from a change until its reconciliation began", shared.waited.clone());
        registry.register("queue_length", "Namespaces that wait to be reconciled", shared.queue.clone());
        registry.register("objects", "Objects that are watched, by kind", shared.objects.clone());
        registry.register("api_writes", "Writes to the API server, by kind and way", shared.writes.clone());
        registry.register("watch_errors", "Watches that broke, by kind", shared.watch_errors.clone());
        registry.register(
            "time_to_running_seconds",
            "Time from first seeing a generation of a rule until a pod runs it",
            shared.time_to_running.clone(),
        );
        registry.register(
            "admissions",
            "Objects that the webhook judged, by kind and verdict",
            shared.admissions.clone(),
        );
        registry.register("leader", "1 while this process acts", shared.leader.clone());
        registry.register(
            "webhook_certificate_expires_timestamp_seconds",
            "When the certificate of the webhook ends",
            shared.certificate_expires.clone(),
        );
        Metrics(Arc::new(Shared { registry, ..shared }))
    }
}

impl Metrics {
    /// A namespace was reconciled.
    pub fn reconciled(&self, reason: &'static str, waited: Duration, took: Duration) {
        self.0.reconciles.get_or_create(&vec![("reason", reason.to_owned())]).inc();
        self.0.waited.observe(waited.as_secs_f64());
        self.0.duration.observe(took.as_secs_f64());
    }

    /// Part of a reconciliation failed.
    pub fn failed(&self, what: &str) {
        self.0.errors.get_or_create(&vec![("what", what.to_owned())]).inc();
    }

    /// The queue is so long.
    pub fn queue_length(&self, n_namespaces: usize) {
        self.0.queue.set(i64::try_from(n_namespaces).unwrap_or(i64::MAX));
    }

    /// So many objects of a kind are there.
    pub fn objects(&self, kind: &str, n_objects: usize) {
        let gauge = self.0.objects.get_or_create(&vec![("kind", kind.to_owned())]);
        gauge.set(i64::try_from(n_objects).unwrap_or(i64::MAX));
    }

    /// Something is written.
    pub fn write(&self, way: &'static str, kind: &str) {
        self.0.writes.get_or_create(&vec![("way", way.to_owned()), ("kind", kind.to_owned())]).inc();
    }

    /// A watch broke.
    pub fn watch_failed(&self, kind: &str) {
        self.0.watch_errors.get_or_create(&vec![("kind", kind.to_owned())]).inc();
    }

    /// A rule runs, so long after its generation was seen first.
    pub fn running_after(&self, time: Duration) {
        self.0.time_to_running.observe(time.as_secs_f64());
    }

    /// The webhook gave a verdict.
    pub fn admitted(&self, kind: &str, verdict: &'static str) {
        self.0.admissions.get_or_create(&vec![("kind", kind.to_owned()), ("verdict", verdict.to_owned())]).inc();
    }

    /// This process acts, or stands by.
    pub fn leads(&self, leads: bool) {
        self.0.leader.set(i64::from(leads));
    }

    /// The webhook's certificate ends then, in seconds since the epoch.
    pub fn certificate_expires(&self, at: i64) {
        self.0.certificate_expires.set(at as f64);
    }

    /// As Prometheus reads them.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // A String takes all that is written.
        let _ = encode(&mut text, &self.0.registry);
        text
    }
}
