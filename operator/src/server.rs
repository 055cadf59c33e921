//! Probes and metrics.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cluster::controller::Pulse;
use crate::cluster::store::Stores;
use crate::metrics::Metrics;
use crate::webhook::Gate;

/// Media type of metrics.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the pages are made of.
#[derive(Clone)]
pub struct Pages {
    /// Counts.
    pub metrics: Metrics,
    /// Shows that the loop turns.
    pub pulse: Pulse,
    /// Shows that everything has been listed.
    pub stores: Arc<Stores>,
    /// Shows that the webhook answers.
    pub gate: Gate,
}

/// Serves until `stop`.
///
/// # Errors
/// The listener fails.
pub async fn serve(listener: TcpListener, pages: Pages, stop: CancellationToken) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(pages);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn healthz(State(pages): State<Pages>) -> Response {
    if pages.pulse.is_alive() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "the loop does not turn any more\n").into_response()
}

async fn readyz(State(pages): State<Pages>) -> Response {
    let problem = match (pages.stores.are_complete(), pages.gate.is_open()) {
        (true, true) => return "ready\n".into_response(),
        (false, _) => "not everything has been listed yet\n",
        (true, false) => "the webhook is not known to the API server yet\n",
    };
    (StatusCode::SERVICE_UNAVAILABLE, problem).into_response()
}

async fn metrics(State(pages): State<Pages>) -> Response {
    ([(header::CONTENT_TYPE, OPENMETRICS)], pages.metrics.text()).into_response()
}
