//! A pushed body on its way to the sources of its path, and the answer to who pushed it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderMap, HeaderName};
use hyper::{Method, Request, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::{Object, Value};
use smol_str::SmolStr;
use tokio::sync::mpsc;
use tokio::time::Instant;
use url::form_urlencoded;

use super::access::{Access, Admission};
use super::answer::{self, Answer};
use super::body::{self, BodyError, Budget, Share};
use super::ticket::{AckRule, Outcome, Pushed, Ticket};

/// What the `Content-Type` of a request is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ContentTypeRule {
    /// Nothing: bodies are in the stream's format.
    #[default]
    Ignore,
    /// It must be one of the stream's format, if it is there.
    Check,
    /// It says which format the body has; without it, it is the stream's.
    Override,
}

/// A source that is pushed to.
pub struct PushRoute {
    /// The method.
    pub method: Method,
    /// Who is let in.
    pub access: Access,
    /// The stream's format.
    pub format: String,
    /// What `Content-Type` is for.
    pub content_type: ContentTypeRule,
    /// Longest body, if it is shorter than the server's.
    pub body_limit: Option<usize>,
    /// Headers that `meta()` shows.
    pub meta_headers: Vec<HeaderName>,
    /// True while some rule reads `meta()`.
    pub wants_meta: Arc<AtomicBool>,
    /// When a client is told that its rows have been taken.
    pub ack: AckRule,
    /// How long a client is kept waiting.
    pub timeout: Duration,
    /// To the source.
    pub queue: mpsc::Sender<Ticket>,
}

/// What is known of a request beside its body.
pub(super) struct RequestMeta<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
    pub names: &'a [SmolStr],
    pub values: &'a [String],
    pub remote: &'a str,
}

impl RequestMeta<'_> {
    /// What `meta()` reads.
    pub fn object(&self, meta_headers: &[HeaderName]) -> Object {
        let text = |text: &str| Value::string(text);
        let params = self.names.iter().zip(self.values).map(|(name, value)| (name.clone(), text(value)));
        let mut query = Object::default();
        for (name, value) in form_urlencoded::parse(self.query.unwrap_or_default().as_bytes()) {
            query.insert(&*name, Value::string(value));
        }
        let header = |name: &HeaderName| {
            let value = self.headers.get(name)?;
            Some((SmolStr::new(name.as_str()), Value::string(String::from_utf8_lossy(value.as_bytes()))))
        };
        let object = |members: Object| Value::Object(Arc::new(members));
        let mut meta = Object::with_capacity(6);
        meta.insert("method", text(self.method.as_str()));
        meta.insert("path", text(self.path));
        meta.insert("params", object(params.collect()));
        meta.insert("query", object(query));
        meta.insert("headers", object(meta_headers.iter().filter_map(header).collect()));
        meta.insert("remoteAddress", text(self.remote));
        meta
    }
}

/// A format by its media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MediaType {
    /// It says nothing.
    Absent,
    /// This format.
    Of(&'static str),
    /// No format that is known.
    Unknown,
}

fn media_type(headers: &HeaderMap) -> MediaType {
    let Some(value) = headers.get(CONTENT_TYPE) else { return MediaType::Absent };
    let name = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match name.as_str() {
        "" => MediaType::Absent,
        "application/json" | "text/json" => MediaType::Of("json"),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => {
            MediaType::Of("ndjson")
        }
        "application/cbor" => MediaType::Of("cbor"),
        "text/csv" => MediaType::Of("delimited"),
        "application/x-www-form-urlencoded" => MediaType::Of("urlencoded"),
        "application/octet-stream" => MediaType::Of("binary"),
        name if name.ends_with("+json") => MediaType::Of("json"),
        name if name.ends_with("+cbor") => MediaType::Of("cbor"),
        name if name.starts_with("image/") => MediaType::Of("binary"),
        _ => MediaType::Unknown,
    }
}

impl PushRoute {
    /// The format of a body if it is not the stream's; an error text if it is none that is taken.
    fn format_of(&self, headers: &HeaderMap) -> Result<Option<&'static str>, String> {
        if self.content_type == ContentTypeRule::Ignore {
            return Ok(None);
        }
        match (self.content_type, media_type(headers)) {
            (_, MediaType::Absent) => Ok(None),
            (_, MediaType::Of(format)) if format == self.format => Ok(None),
            // "Bytes" is what clients say that do not know.
            (ContentTypeRule::Override, MediaType::Of("binary")) => Ok(None),
            (ContentTypeRule::Override, MediaType::Of(format)) => Ok(Some(format)),
            (ContentTypeRule::Override, MediaType::Unknown) => {
                Err("the Content-Type is none of JSON, NDJSON, CBOR, CSV and form data".to_owned())
            }
            (_, _) => Err(format!("this path takes {}", self.format)),
        }
    }
}

/// Limits of the server.
pub(super) struct Limits<'a> {
    pub body: usize,
    pub budget: &'a Budget,
}

/// Takes a request in and waits for what becomes of it. `names` has the names of the path's variables for each route.
pub(super) async fn answer(
    routes: &[(Arc<PushRoute>, Arc<[SmolStr]>)],
    request: Request<Incoming>,
    values: &[String],
    remote: &str,
    limits: &Limits<'_>,
) -> Answer {
    let (head, mut body) = request.into_parts();
    let mut share = Share::default();
    match receive(routes, &head, &mut body, limits, &mut share).await {
        Ok((bytes, formats)) => {
            let mut tickets = Vec::with_capacity(routes.len());
            for ((route, names), format) in routes.iter().zip(formats) {
                let meta = route.wants_meta.load(Ordering::Relaxed).then(|| {
                    let meta = RequestMeta {
                        method: &head.method,
                        path: head.uri.path(),
                        query: head.uri.query(),
                        headers: &head.headers,
                        names,
                        values,
                        remote,
                    };
                    Arc::new(meta.object(&route.meta_headers))
                });
                tickets.push(Pushed { bytes: bytes.clone(), meta, format });
            }
            drop(bytes);
            deliver(routes, tickets).await
        }
        Err(answer) => {
            // A client that asked first does not send what is not wanted.
            if !head.headers.contains_key(EXPECT) {
                body::drain(&mut body).await;
            }
            *answer
        }
    }
}

/// Checks the request and reads its body; gives it and its format for each route.
async fn receive(
    routes: &[(Arc<PushRoute>, Arc<[SmolStr]>)],
    head: &hyper::http::request::Parts,
    incoming: &mut Incoming,
    limits: &Limits<'_>,
    share: &mut Share,
) -> Result<(Bytes, Vec<Option<&'static str>>), Box<Answer>> {
    let headers = &head.headers;
    let unsupported = |message: &str| answer::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
    let mut claims = Vec::new();
    for (route, _) in routes {
        match route.access.check(headers) {
            Ok(Admission::Granted) => {}
            Ok(Admission::Signed(claim)) => claims.push((route, claim)),
            Err(denied) => return Err(answer::denied(&denied).into()),
        }
    }
    let formats: Result<Vec<_>, _> = routes.iter().map(|(route, _)| route.format_of(headers)).collect();
    let formats = formats.map_err(|message| unsupported(&message))?;
    let Some(encodings) = body::encodings(headers) else {
        return Err(unsupported("the Content-Encoding is none of gzip, zstd and deflate").into());
    };
    let limit = routes.iter().filter_map(|(route, _)| route.body_limit).fold(limits.body, usize::min);
    let failed = |error| body_error(error, limit);
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(failed(BodyError::TooLarge).into());
    }
    let bytes = body::read(incoming, limit, limits.budget, share).await.map_err(failed)?;
    for (route, claim) in claims {
        route.access.check_body(&claim, &bytes).map_err(|denied| answer::denied(&denied))?;
    }
    let bytes = body::unpack(&encodings, bytes, limit, limits.budget, share).map_err(failed)?;
    Ok((bytes, formats))
}

fn body_error(error: BodyError, limit: usize) -> Answer {
    match error {
        BodyError::TooLarge => answer::error(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("the body has more than {limit} bytes; send it in parts"),
        ),
        BodyError::UnpacksTooLarge => answer::error(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("the body unpacks to more than {limit} bytes; send it in parts"),
        ),
        BodyError::TooSlow => answer::error(StatusCode::REQUEST_TIMEOUT, "the body takes too long"),
        BodyError::NoMemory => {
            answer::later(StatusCode::SERVICE_UNAVAILABLE, "too many bodies at a time; send it again in a moment")
        }
        BodyError::Broken => answer::error(StatusCode::BAD_REQUEST, "the body broke off"),
        BodyError::NotEncoded(encoding) => {
            answer::error(StatusCode::BAD_REQUEST, &format!("the body is not {}", encoding.as_str()))
        }
    }
}

/// Puts the message into each route's queue, all or none, and waits for what becomes of it.
async fn deliver(routes: &[(Arc<PushRoute>, Arc<[SmolStr]>)], messages: Vec<Pushed>) -> Answer {
    let full = || answer::later(StatusCode::TOO_MANY_REQUESTS, "the rules are behind; send it again later");
    let gone =
        || answer::later(StatusCode::SERVICE_UNAVAILABLE, "the stream is being replaced or stopped; send it again");
    let timeout = routes.iter().map(|(route, _)| route.timeout).min().unwrap_or_default();
    let deadline = Instant::now() + timeout;
    let mut permits = Vec::with_capacity(routes.len());
    for (route, _) in routes {
        let permit = match route.queue.try_reserve() {
            Ok(permit) => permit,
            Err(mpsc::error::TrySendError::Closed(())) => return gone(),
            Err(mpsc::error::TrySendError::Full(())) => {
                match tokio::time::timeout_at(deadline, route.queue.reserve()).await {
                    Ok(Ok(permit)) => permit,
                    Ok(Err(_)) => return gone(),
                    Err(_) => return full(),
                }
            }
        };
        permits.push(permit);
    }
    let mut waiting = Vec::with_capacity(routes.len());
    for ((permit, message), (route, _)) in permits.into_iter().zip(messages).zip(routes) {
        let (ticket, pending) = Ticket::new(message, route.ack);
        permit.send(ticket);
        waiting.push(pending);
    }
    let mut n_rows = 0;
    let mut refusal = None;
    let mut untaken = None;
    for (idx, pending) in waiting.iter().enumerate() {
        let outcome = match tokio::time::timeout_at(deadline, pending.outcome()).await {
            Ok(outcome) => outcome,
            Err(_) => {
                // If nobody has taken it anywhere, it has not happened.
                let n_abandoned = waiting.iter().filter(|pending| pending.abandon()).count();
                if idx == 0 && n_abandoned == waiting.len() {
                    return full();
                }
                if routes.iter().any(|(route, _)| route.ack == AckRule::Processed) {
                    return answer::later(
                        StatusCode::GATEWAY_TIMEOUT,
                        "the rows are with the rules, but not processed in time; they go on, and may be there twice if they \
                         are sent again",
                    );
                }
                return answer::later(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the rules are behind, and have taken it without saying so; it may be there twice if it is sent again",
                );
            }
        };
        match outcome {
            Outcome::Accepted { n_rows: n } => n_rows = n,
            Outcome::Refused(reason) => refusal = Some(reason),
            Outcome::Returned => return gone(),
            Outcome::Untaken(by) => untaken = Some(by),
            Outcome::Lost => {
                return answer::later(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "stopped before it was confirmed; it may be there twice if it is sent again",
                );
            }
        }
    }
    match (refusal, untaken) {
        (None, None) => answer::accepted(n_rows),
        (Some(reason), _) => answer::error(StatusCode::BAD_REQUEST, &reason),
        (None, Some(by)) => answer::error(StatusCode::UNPROCESSABLE_ENTITY, &by),
    }
}

#[cfg(test)]
mod tests {
    use super::super::access::{AccessOptions, SignatureOptions};
    use super::*;

    fn route(content_type: ContentTypeRule, format: &str) -> PushRoute {
        PushRoute {
            method: Method::POST,
            access: Access::new(&AccessOptions::default(), &SignatureOptions::default()).unwrap(),
            format: format.to_owned(),
            content_type,
            body_limit: None,
            meta_headers: Vec::new(),
            wants_meta: Arc::default(),
            ack: AckRule::Accepted,
            timeout: Duration::from_secs(1),
            queue: mpsc::channel(1).0,
        }
    }

    #[test]
    fn formats_by_content_type() {
        use ContentTypeRule::{Check, Ignore, Override};
        for (rule, format, content_type, expected) in [
            (Ignore, "json", "application/x-www-form-urlencoded", "stream's"),
            (Check, "json", "application/json; charset=utf-8", "stream's"),
            (Check, "json", "application/vnd.acme+json", "stream's"),
            (Check, "json", "", "stream's"),
            (Check, "json", "text/csv", "this path takes json"),
            (Check, "json", "x", "this path takes json"),
            (Override, "json", "Application/X-NDJSON", "ndjson"),
            (Override, "json", "application/cbor", "cbor"),
            (Override, "json", "text/csv;header=absent", "delimited"),
            (Override, "json", "application/x-www-form-urlencoded", "urlencoded"),
            (Override, "json", "application/octet-stream", "stream's"),
            (Override, "delimited", "text/csv", "stream's"),
            (Override, "json", "text/html", "the Content-Type is none of JSON, NDJSON, CBOR, CSV and form data"),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
            let outcome = match route(rule, format).format_of(&headers) {
                Ok(format) => format.unwrap_or("stream's").to_owned(),
                Err(message) => message,
            };
            assert_eq!(outcome, expected, "{rule:?} {content_type}");
        }
    }

    #[test]
    fn what_meta_reads() {
        let headers = HeaderMap::from_iter([(HeaderName::from_static("x-device"), "7".parse().unwrap())]);
        let meta = RequestMeta {
            method: &Method::PUT,
            path: "/api/north",
            query: Some("a=1&b=x%20y&a=2"),
            headers: &headers,
            names: &["site".into()],
            values: &["north".to_owned()],
            remote: "127.0.0.1:5",
        };
        let mut text = Vec::new();
        let chosen = [HeaderName::from_static("x-device"), HeaderName::from_static("x-other")];
        crate::format::json_encoder::write_object(&meta.object(&chosen), &mut text);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            r#"{"method":"PUT","path":"/api/north","params":{"site":"north"},"query":{"a":"2","b":"x y"},"headers":{"x-device":"7"},"remoteAddress":"127.0.0.1:5"}"#
        );
    }
}
