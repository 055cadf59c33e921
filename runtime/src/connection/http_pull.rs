//! Requests for rows: what the `httppull` source and the `http` lookup table share.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::{Timestamp, Value};
use url::Url;

use super::http::{HttpClient, send};
use super::http_server::unpack_answer;
use super::tls::TlsOptions;
use crate::error::{ConfigError, ConnectorError};
use crate::format::json::parse_value;
use crate::options::{HumanDuration, Secret};

/// Longest answer, packed or unpacked.
const MAX_ANSWER: usize = 16 << 20;

/// Options of requests; flatten them into a connector's config.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PullOptions {
    /// The method.
    #[serde(default)]
    pub method: PullMethod,
    /// What is sent along.
    pub body: Option<Secret>,
    /// What kind of body that is: says the `Content-Type`.
    pub body_type: Option<PullBody>,
    /// Headers.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Longest time for one request.
    #[serde(default = "default_timeout")]
    pub timeout: HumanDuration,
    /// What says that a request went well: `code`, any status from 200 to 299; `body`, also a `code` of 200 to 299 in the
    /// answer.
    #[serde(default)]
    pub response_type: ResponseType,
    /// TLS.
    #[serde(flatten)]
    pub tls: TlsOptions,
}

fn default_timeout() -> HumanDuration {
    HumanDuration::from_secs(5)
}

/// A method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum PullMethod {
    /// GET
    #[default]
    #[serde(alias = "get")]
    Get,
    /// POST
    #[serde(alias = "post")]
    Post,
    /// PUT
    #[serde(alias = "put")]
    Put,
    /// DELETE
    #[serde(alias = "delete")]
    Delete,
}

/// A kind of body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PullBody {
    /// None.
    None,
    /// Text.
    Text,
    /// JSON.
    Json,
    /// HTML.
    Html,
    /// XML.
    Xml,
    /// JavaScript.
    Javascript,
    /// Form data.
    Form,
}

/// What says that a request went well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResponseType {
    /// The status.
    #[default]
    Code,
    /// A `code` in the body too.
    Body,
}

/// A request that can be sent again and again.
pub struct Pull {
    method: Method,
    headers: HeaderMap,
    body: Option<Bytes>,
    timeout: Duration,
    response_type: ResponseType,
    tls: TlsOptions,
}

impl Pull {
    /// Checks the options.
    ///
    /// # Errors
    /// Whatever does not fit.
    pub fn new(options: &PullOptions) -> Result<Self, ConfigError> {
        let mut problems = ConfigError::default();
        if let Err(error) = options.tls.check() {
            problems.problems.extend(error.problems);
        }
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"));
        let has_body = options.body.is_some() && options.body_type != Some(PullBody::None);
        if has_body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(options.body_type)));
        }
        for (name, value) in &options.headers {
            let header = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value.expose()).ok());
            match header {
                Some((name, mut value)) => {
                    value.set_sensitive(true);
                    headers.insert(name, value);
                }
                None => problems.push(format!("headers.{name}"), "is no HTTP header"),
            }
        }
        let pull = Pull {
            method: match options.method {
                PullMethod::Get => Method::GET,
                PullMethod::Post => Method::POST,
                PullMethod::Put => Method::PUT,
                PullMethod::Delete => Method::DELETE,
            },
            headers,
            body: options
                .body
                .as_ref()
                .filter(|_| has_body)
                .map(|body| Bytes::copy_from_slice(body.expose().as_bytes())),
            timeout: options.timeout.0,
            response_type: options.response_type,
            tls: options.tls.clone(),
        };
        if problems.problems.is_empty() { Ok(pull) } else { Err(problems) }
    }

    /// Its TLS settings.
    pub fn tls(&self) -> &TlsOptions {
        &self.tls
    }

    /// Sends it and gives the answer's body; `None` if there is nothing there (404, 410, 204).
    ///
    /// # Errors
    /// The server can't be reached, or does not answer as it should.
    pub async fn send(&self, client: &HttpClient, url: Url, now: Timestamp) -> Result<Option<Bytes>, ConnectorError> {
        let mut request = client.request(self.method.clone(), url).timeout(self.timeout).headers(self.headers.clone());
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        let answer = send(request, MAX_ANSWER + 1).await?;
        if matches!(answer.status.as_u16(), 204 | 404 | 410) {
            return Ok(None);
        }
        if !answer.status.is_success() {
            return Err(answer.error("", now));
        }
        let body = unpack_answer(&answer.headers, answer.body, MAX_ANSWER).map_err(ConnectorError::external)?;
        if self.response_type == ResponseType::Body {
            check_code(&body)?;
        }
        Ok(Some(body))
    }
}

fn content_type(body_type: Option<PullBody>) -> &'static str {
    match body_type {
        None | Some(PullBody::Json) => "application/json",
        Some(PullBody::None | PullBody::Text) => "text/plain",
        Some(PullBody::Html) => "text/html",
        Some(PullBody::Xml) => "application/xml",
        Some(PullBody::Javascript) => "application/javascript",
        Some(PullBody::Form) => "application/x-www-form-urlencoded",
    }
}

/// The answer, and each of its objects if it is a list, says by itself that all went well.
fn check_code(body: &[u8]) -> Result<(), ConnectorError> {
    let answer = parse_value(body)
        .map_err(|error| ConnectorError::external(format!("the answer is no JSON, and has no code: {error}")))?;
    let single = [answer];
    let objects: &[Value] = match &single {
        [Value::Array(objects)] => objects,
        single => single,
    };
    for object in objects {
        let code = object.to_object().and_then(|object| object.get("code").cloned());
        match code {
            Some(Value::Int(200..=299)) => {}
            Some(Value::Int(code)) => {
                return Err(ConnectorError::external(format!("server answered with code {code}")));
            }
            _ => return Err(ConnectorError::external("the answer has no code, as `responseType: body` wants")),
        }
    }
    Ok(())
}
