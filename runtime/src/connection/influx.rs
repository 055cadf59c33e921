//! Writes to InfluxDB and what its answers mean.
//!
//! Both versions store the good points of a write when some are of another type than before; version 2 stores none if a line
//! can't be parsed, version 1 stores the others then, too. Which points were refused is not said, only how many.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use sluice_sql::Timestamp;
use url::Url;

use super::ConnectorContext;
use super::http::{Answer, HttpClient, send};
use super::tls::TlsOptions;
use crate::error::{ConnectorError, Fault, Retry};
use crate::options::Secret;

/// Longest answer that is read.
const MAX_ANSWER: usize = 16 << 10;
/// Pause between tries when only somebody over there can help: a wrong token, a missing bucket.
const SLOW_RETRY: Duration = Duration::from_secs(10);

/// How the client shows who it is.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Nothing.
    None,
    /// Version 2.
    Token(Secret),
    /// Version 1.
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: Secret,
    },
}

/// Where and how to write.
#[derive(Clone, Debug)]
pub struct InfluxTarget {
    /// The server, for pings.
    pub base: Url,
    /// With all that belongs into the query.
    pub write: Url,
    /// Who writes.
    pub credentials: Credentials,
    /// Compress what is written.
    pub gzip: bool,
    /// Longest time for one write.
    pub timeout: Duration,
    /// TLS settings.
    pub tls: TlsOptions,
}

/// What became of a write.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// All points are stored.
    All,
    /// All but some; the server said why, but not which.
    Except {
        /// How many.
        n_refused: usize,
        /// Why.
        reason: String,
    },
}

/// A client of one InfluxDB.
pub struct InfluxClient {
    http: HttpClient,
    target: InfluxTarget,
}

impl InfluxClient {
    /// Makes the client, and asks the server whether it is there.
    ///
    /// # Errors
    /// It does not answer, or the TLS settings can't be used.
    pub async fn connect(target: &InfluxTarget, ctx: &ConnectorContext) -> Result<Self, ConnectorError> {
        let client = InfluxClient { http: HttpClient::new(&target.tls, ctx)?, target: target.clone() };
        let url = below(&target.base, "ping");
        let answer = send(client.http.request(Method::GET, url).timeout(target.timeout), MAX_ANSWER).await?;
        if answer.status.is_success() { Ok(client) } else { Err(failure(&answer, "ping", ctx.clock.now())) }
    }

    /// Writes lines.
    ///
    /// # Errors
    /// Nothing was stored; the error says whether a retry is worth it.
    pub async fn write(&self, lines: &[u8], now: Timestamp) -> Result<Written, ConnectorError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        let body = if self.target.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            let packed = encoder.write_all(lines).and_then(|()| encoder.finish());
            packed.map_err(|error| ConnectorError::internal(format!("gzip: {error}")))?
        } else {
            lines.to_vec()
        };
        let mut request = self.http.request(Method::POST, self.target.write.clone());
        match &self.target.credentials {
            Credentials::None => {}
            Credentials::Token(token) => {
                let mut value = HeaderValue::from_str(&format!("Token {}", token.expose()))
                    .map_err(|_| ConnectorError::user("token holds characters that no HTTP header can hold"))?;
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
            }
            Credentials::Basic { username, password } => {
                request = request.basic_auth(username, Some(password.expose()));
            }
        }
        let request = request.headers(headers).timeout(self.target.timeout).body(body);
        let answer = send(request, MAX_ANSWER).await?;
        if answer.status.is_success() {
            return Ok(Written::All);
        }
        let partial = matches!(answer.status, StatusCode::UNPROCESSABLE_ENTITY | StatusCode::BAD_REQUEST);
        let text = text_of(&answer);
        if partial && text.contains("partial write") {
            return Ok(Written::Except { n_refused: n_refused(&text), reason: shown(&text) });
        }
        Err(failure(&answer, "write", now))
    }
}

/// `base` with `path` below what it has already.
pub fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

fn failure(answer: &Answer, what: &str, now: Timestamp) -> ConnectorError {
    let mut error = answer.error(&shown(&text_of(answer)), now);
    error.message = format!("influxdb {what}: {}", error.message);
    // Credentials may be replaced and buckets made while we wait; the rows are not at fault.
    let is_access = matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND);
    if is_access || (what == "ping" && error.fault == Fault::User) {
        error.retry = Retry::After(SLOW_RETRY);
    }
    error
}

/// The message within the answer.
fn text_of(answer: &Answer) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
    let member = |name| json.as_ref().and_then(|json| json.get(name)).and_then(serde_json::Value::as_str);
    match member("message").or_else(|| member("error")) {
        Some(text) => text.to_owned(),
        // What a Go server says to a plain request on its TLS port.
        None if answer.body.starts_with(b"Client sent an HTTP request to an HTTPS server") => {
            "it speaks TLS on this port; write https:// in addr".to_owned()
        }
        None => String::new(),
    }
}

/// Points that a partial write left out: those that were dropped, and lines that could not be parsed, which are not counted
/// among them.
fn n_refused(text: &str) -> usize {
    let dropped = text.rsplit_once("dropped=").map(|(_, n)| n.trim_end_matches(|c: char| !c.is_ascii_digit()));
    let n_dropped: usize = dropped.and_then(|n| n.parse().ok()).unwrap_or(0);
    (n_dropped + text.matches("unable to parse '").count()).max(1)
}

/// The message without the lines that it quotes.
fn shown(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, quoted)) = rest.split_once("unable to parse '") {
        out.push_str(before);
        out.push_str("unable to parse a line");
        // The reason stands behind the quoted line, which may itself hold quotes: the last one before the end of this
        // message's line ends it.
        let (line, tail) = quoted.split_once('\n').unwrap_or((quoted, ""));
        if let Some((_, reason)) = line.rsplit_once("': ") {
            out.push_str(": ");
            out.push_str(reason);
        }
        if !tail.is_empty() {
            out.push_str("; ");
        }
        rest = tail;
    }
    out.push_str(rest);
    match out.char_indices().nth(300) {
        Some((end, _)) => format!("{}...", out.get(..end).unwrap_or_default()),
        None => out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_shown_without_the_lines_that_they_quote() {
        let cases = [
            (
                "unable to parse 'm secret=\"it's\"': missing field value",
                1,
                "unable to parse a line: missing field value",
            ),
            (
                "partial write: unable to parse 'a': missing fields\nunable to parse 'b': bad timestamp",
                2,
                "partial write: unable to parse a line: missing fields; unable to parse a line: bad timestamp",
            ),
            (
                "partial write: field type conflict: input field \"v\" on measurement \"m\" is type string, already exists as type float dropped=3",
                3,
                "partial write: field type conflict: input field \"v\" on measurement \"m\" is type string, already exists as type float dropped=3",
            ),
        ];
        for (text, n, expected) in cases {
            assert_eq!(n_refused(text), n, "{text}");
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn paths_are_joined() {
        for (base, expected) in [
            ("http://h:8086", "http://h:8086/api/v2/write"),
            ("http://h:8086/", "http://h:8086/api/v2/write"),
            ("http://h/influx/", "http://h/influx/api/v2/write"),
        ] {
            assert_eq!(below(&Url::parse(base).unwrap(), "api/v2/write").as_str(), expected);
        }
    }
}
