//! Health, readiness, metrics and rule status over HTTP. No engine state of its own.
//!
//! | path | answers |
//! |---|---|
//! | `/healthz` | 200 while the tasks get their turn and no operator is stuck in one step for half a minute, else 503 |
//! | `/readyz` | 200 once every source and sink of the running rules is connected or has reported why not, else 503 |
//! | `/metrics` | Prometheus (OpenMetrics) text |
//! | `/report?after=VERSION&wait=SECONDS` | what the operator copies into status, once it differs from that version or the time is over |
//! | `/rules`, `/rules/{name}` | state, generation, counters and newest error of rules and their connectors, as JSON |
//! | `/rules/{name}/tail` | the rule's results from now on, a JSON object per line; a reader that is too slow misses some, counted in the rule's status |
//!
//! With a token file, all but the two probes want `Authorization: Bearer TOKEN`.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as UrlPath, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use bytes::Bytes;
use futures::stream;
use sluice_sql::Batch;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::format::{EncodeArgs, Encoder};
use crate::pipeline::{Engine, Tail};

/// Media type of `/metrics`.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where a bearer token is read from: at every request, so that it can be rotated.
#[derive(Clone, Debug)]
pub struct TokenFile(PathBuf);

impl TokenFile {
    /// Checks that there is a token in the file.
    ///
    /// # Errors
    /// The file can't be read, or is empty.
    pub fn new(path: &Path) -> std::io::Result<Self> {
        if std::fs::read_to_string(path)?.trim().is_empty() {
            return Err(std::io::Error::other("the file is empty"));
        }
        Ok(TokenFile(path.to_owned()))
    }

    /// Without a look at the file: until there is a token in it, nothing is allowed.
    pub fn later(path: &Path) -> Self {
        TokenFile(path.to_owned())
    }

    async fn allows(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer "));
        let (Some(given), Ok(token)) = (given, tokio::fs::read_to_string(&self.0).await) else { return false };
        let token = token.trim();
        !token.is_empty() && is_same(given.as_bytes(), token.as_bytes())
    }
}

/// Compares in a time that does not depend on where two texts of one length differ.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[derive(Clone)]
struct Pages {
    engine: Engine,
    stop: CancellationToken,
}

/// Serves until `stop` is cancelled and open requests are answered.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    engine: Engine,
    token: Option<TokenFile>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = router(engine, token, stop.clone());
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn router(engine: Engine, token: Option<TokenFile>, stop: CancellationToken) -> Router {
    let mut guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/report", get(report))
        .route("/rules", get(rules))
        .route("/rules/{name}", get(rule))
        .route("/rules/{name}/tail", get(tail));
    if let Some(token) = token {
        guarded = guarded.route_layer(middleware::from_fn_with_state(token, want_token));
    }
    let probes = Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz));
    probes.merge(guarded).with_state(Pages { engine, stop })
}

async fn want_token(State(token): State<TokenFile>, headers: HeaderMap, request: Request, next: Next) -> Response {
    if token.allows(&headers).await {
        next.run(request).await
    } else {
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
        (StatusCode::UNAUTHORIZED, challenge, error("a bearer token is wanted")).into_response()
    }
}

fn error(message: impl Into<String>) -> Json<serde_json::Value> {
    Json(serde_json::json!({ "error": message.into() }))
}

async fn healthz(State(pages): State<Pages>) -> Response {
    let stuck = pages.engine.stuck_rules();
    if stuck.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("stuck in one step: {}\n", stuck.join(", "))).into_response()
}

async fn readyz(State(pages): State<Pages>) -> Response {
    if pages.engine.is_ready() && !pages.stop.is_cancelled() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not all sources and sinks have tried to connect\n").into_response()
}

async fn metrics(State(pages): State<Pages>) -> Response {
    match pages.engine.samples().encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn rules(State(pages): State<Pages>) -> Response {
    Json(pages.engine.status()).into_response()
}

/// What a report is waited for with.
#[derive(Debug, serde::Deserialize)]
struct ReportQuery {
    /// `INSTANCE.VERSION` of the report that is known.
    #[serde(default)]
    after: String,
    /// How long to wait for a newer one, in seconds.
    #[serde(default)]
    wait: u64,
}

/// Longest wait for a report.
const MAX_WAIT: Duration = Duration::from_secs(300);
/// Changes that come at once are told at once.
const SETTLED: Duration = Duration::from_millis(30);

async fn report(State(pages): State<Pages>, Query(query): Query<ReportQuery>) -> Response {
    let mut changes = pages.engine.changes();
    let now = pages.engine.report();
    if query.after != format!("{}.{}", now.instance, now.version) {
        return Json(now).into_response();
    }
    drop(now);
    let wait = Duration::from_secs(query.wait).min(MAX_WAIT);
    // The receiver may have been made after the change that the report had.
    let changed = async { changes.wait_for(|version| !query.after.ends_with(&format!(".{version}"))).await.is_ok() };
    tokio::select! {
        _ = changed => {
            tokio::time::sleep(SETTLED).await;
        }
        () = tokio::time::sleep(wait) => {}
        () = pages.stop.cancelled() => {}
    }
    Json(pages.engine.report()).into_response()
}

async fn rule(State(pages): State<Pages>, UrlPath(name): UrlPath<String>) -> Response {
    match pages.engine.rule_status(&name) {
        Some(status) => Json(status).into_response(),
        None => (StatusCode::NOT_FOUND, error(format!("there is no rule \"{name}\""))).into_response(),
    }
}

async fn tail(State(pages): State<Pages>, UrlPath(name): UrlPath<String>) -> Response {
    let Some(tail) = pages.engine.tail(&name) else {
        return (StatusCode::NOT_FOUND, error(format!("no rule \"{name}\" is running"))).into_response();
    };
    let encode_args = EncodeArgs { fields: None, delimiter: None, header: false };
    let encoder = pages.engine.registry().format("json").ok().and_then(|format| format.encoder);
    let encoder = match encoder.map(|make| make(&encode_args)) {
        Some(Ok(encoder)) => encoder,
        Some(Err(problem)) => return (StatusCode::INTERNAL_SERVER_ERROR, error(problem.to_string())).into_response(),
        None => {
            return (StatusCode::NOT_IMPLEMENTED, error("rows can't be shown without the json format")).into_response();
        }
    };
    let lines = Lines { results: tail.subscribe(), tail, encoder, stop: pages.stop };
    let body = Body::from_stream(stream::unfold(lines, |mut lines| async move {
        let text = lines.next().await?;
        Some((Ok::<Bytes, Infallible>(text), lines))
    }));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// A rule's results as lines of JSON.
struct Lines {
    results: broadcast::Receiver<Arc<Batch>>,
    tail: Arc<Tail>,
    encoder: Box<dyn Encoder>,
    stop: CancellationToken,
}

impl Lines {
    /// The next lines, at least one; `None` when the rule or the server ends.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let result = tokio::select! {
                () = self.stop.cancelled() => return None,
                () = self.tail.closed() => return None,
                result = self.results.recv() => result,
            };
            match result {
                Ok(batch) => {
                    let text = self.encode(&batch);
                    if !text.is_empty() {
                        return Some(text.into());
                    }
                }
                Err(RecvError::Lagged(n_batches)) => self.tail.missed.add(n_batches),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn encode(&mut self, batch: &Batch) -> Vec<u8> {
        let mut text = Vec::new();
        for row_idx in 0..batch.rows.len() {
            let start = text.len();
            if self.encoder.encode(batch, row_idx..row_idx + 1, true, &mut text).is_err() {
                // The rule's own sinks report what can't be encoded; here the row is left out.
                text.truncate(start);
                continue;
            }
            text.push(b'\n');
        }
        text
    }
}

#[cfg(test)]
mod tests;
