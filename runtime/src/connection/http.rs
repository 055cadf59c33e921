//! HTTP: one pool of connections for all who need no TLS settings of their own, and what answers mean.

use std::error::Error as _;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use sluice_sql::Timestamp;
use url::Url;

use super::ConnectorContext;
use super::tls::TlsOptions;
use crate::error::{ConfigError, ConnectorError, Retry};

/// Longest time to reach a server, whatever the timeout of the whole request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Redirects that are followed.
const MAX_REDIRECTS: usize = 5;

/// A client and its connections. Cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    client: Client,
    /// Keeps the shared client alive for others.
    _shared: Option<Arc<Result<Client, ConnectorError>>>,
}

impl HttpClient {
    /// A client with these TLS settings. Files with keys are read now, so connecting again picks up renewed ones.
    ///
    /// # Errors
    /// Keys and certificates that can't be used.
    pub fn new(tls: &TlsOptions, ctx: &ConnectorContext) -> Result<Self, ConnectorError> {
        if tls.is_set() {
            return Ok(HttpClient { client: make(tls)?, _shared: None });
        }
        let shared = ctx.connections.shared("http", || make(tls));
        match &*shared {
            Ok(client) => Ok(HttpClient { client: client.clone(), _shared: Some(Arc::clone(&shared)) }),
            Err(error) => Err(error.clone()),
        }
    }

    /// Starts a request.
    pub fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.client.request(method, url)
    }
}

fn make(tls: &TlsOptions) -> Result<Client, ConnectorError> {
    // A redirect that turns a POST into a GET would lose the body and still look like success.
    let policy = Policy::custom(|attempt| {
        let keeps_method = matches!(attempt.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        if keeps_method && attempt.previous().len() <= MAX_REDIRECTS { attempt.follow() } else { attempt.stop() }
    });
    Client::builder()
        .tls_backend_preconfigured(tls.client_config()?)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(policy)
        .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| ConnectorError::internal(format!("http client: {}", describe(&error))))
}

/// A server's answer.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// The body, or its first bytes if it is longer than was asked for.
    pub body: Bytes,
}

/// Sends a request and reads the answer, at most `max_body` bytes of it.
///
/// # Errors
/// The server could not be reached or did not answer in time: worth a retry. A request that can't be sent at all is the user's.
pub async fn send(request: RequestBuilder, max_body: usize) -> Result<Answer, ConnectorError> {
    let failed = |error: reqwest::Error| {
        let message = format!("http request: {}", describe(&error));
        if error.is_builder() { ConnectorError::user(message) } else { ConnectorError::external(message) }
    };
    let mut response = request.send().await.map_err(failed)?;
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        body.extend_from_slice(chunk.get(..chunk.len().min(max_body - body.len())).unwrap_or_default());
        if body.len() >= max_body {
            break;
        }
    }
    Ok(Answer { status, headers, body: body.freeze() })
}

impl Answer {
    /// What an answer other than success means: 408, 425, 429 and all 5xx are worth a retry, the others not. `detail` says more,
    /// and is empty if nothing is known that may be shown.
    pub fn error(&self, detail: &str, now: Timestamp) -> ConnectorError {
        let status = self.status;
        let mut message = format!("server answered {status}");
        if !detail.is_empty() {
            message = format!("{message}: {detail}");
        }
        let passes =
            matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
        if passes || status.is_server_error() {
            let retry = retry_after(&self.headers, now).map_or(Retry::Backoff, Retry::After);
            ConnectorError::external(message).with_retry(retry)
        } else {
            ConnectorError::user(message)
        }
    }
}

/// `Retry-After`: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    // HTTP says GMT, mail's dates say +0000.
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::from_millis(u64::try_from(date.as_millisecond().saturating_sub(now)).unwrap_or(0)))
}

/// The error with its causes and without its URL, which may hold credentials.
fn describe(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() {
        "timed out".to_owned()
    } else if error.is_connect() {
        "can't connect".to_owned()
    } else if error.is_body() || error.is_decode() {
        "the answer broke off".to_owned()
    } else {
        "failed".to_owned()
    };
    // Only the innermost cause says something new; those around it repeat each other.
    let mut cause = error.source();
    let mut innermost = None;
    while let Some(error) = cause {
        if let Some(advice) = super::tls::advice(error) {
            return format!("{text}: {advice}");
        }
        innermost = Some(error);
        cause = error.source();
    }
    if let Some(innermost) = innermost {
        write!(text, ": {innermost}").expect("writing to memory does not fail");
    }
    text
}

/// Checks an option that holds an `http` or `https` URL.
///
/// # Errors
/// Text that is no URL, and other schemes.
pub fn parse_url(path: &str, text: &str) -> Result<Url, ConfigError> {
    let url = Url::parse(text)
        .map_err(|error| ConfigError::new(path, format!("is no URL ({error}); write it like http://host:8080/path")))?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(url)
    } else {
        Err(ConfigError::new(path, "must be an http or https URL with a host"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Fault;

    #[test]
    fn answers_are_worth_a_retry_or_not() {
        let now = 784_887_150_000;
        let cases = [
            (503, None, Fault::External, Retry::Backoff),
            (500, Some("7"), Fault::External, Retry::After(Duration::from_secs(7))),
            (429, Some("Tue, 15 Nov 1994 08:12:31 GMT"), Fault::External, Retry::After(Duration::from_secs(1))),
            (429, Some("Tue, 15 Nov 1994 08:12:00 GMT"), Fault::External, Retry::After(Duration::ZERO)),
            (429, Some("soon"), Fault::External, Retry::Backoff),
            (408, None, Fault::External, Retry::Backoff),
            (425, None, Fault::External, Retry::Backoff),
            (400, Some("7"), Fault::User, Retry::Never),
            (404, None, Fault::User, Retry::Never),
            (302, None, Fault::User, Retry::Never),
        ];
        for (status, header, fault, retry) in cases {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert(RETRY_AFTER, header.parse().unwrap());
            }
            let answer = Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::new() };
            let error = answer.error("", now);
            assert_eq!((error.fault, error.retry), (fault, retry), "{status} {header:?}");
        }
    }

    #[test]
    fn urls_are_checked() {
        assert!(parse_url("url", "https://a:8/b?c").is_ok());
        for text in ["", "a/b", "ftp://a", "http://"] {
            assert!(parse_url("url", text).is_err(), "{text}");
        }
    }
}
