//! `rest`: messages to an HTTP server, one request each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Message, Output, Sink, SinkArgs, SinkError, SinkType, Takes};
use crate::connection::ConnectorContext;
use crate::connection::http::{HttpClient, parse_url, send};
use crate::connection::tls::TlsOptions;
use crate::error::{ConfigError, ConnectorError};
use crate::format::compression::Compression;
use crate::options::HumanDuration;
use crate::time::Clock;

/// The sink `rest`.
pub(super) const REST: SinkType = SinkType {
    name: "rest",
    docs: "Sends each message to an HTTP server. Any status from 200 to 299 means that it was taken.",
    schema: crate::options::schema_of::<RestOptions>,
    takes: Takes::Messages,
    templates: &["url", "headers", "formData"],
    build,
};

/// Places of the rendered options in a message's props.
const URL: usize = 0;
const HEADERS: usize = 1;
const FORM_DATA: usize = 2;

/// Longest answer that is read, and shown with `debugResp`.
const MAX_ANSWER: usize = 64 << 10;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RestOptions {
    /// The URL; may be a template over the message's row or rows.
    url: String,
    /// The method.
    #[serde(default)]
    method: RestMethod,
    /// What kind of body is sent; by default none with `GET`, else `json` (or what the format makes).
    body_type: Option<BodyType>,
    /// Headers; their texts may be templates.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Further fields of the form, for body type `formdata`; their texts may be templates.
    #[serde(default)]
    form_data: BTreeMap<String, String>,
    /// The name of the form's part with the message, for body type `formdata`.
    #[serde(default = "default_file_field_name")]
    file_field_name: String,
    /// Longest time for one request.
    #[serde(default = "default_timeout")]
    timeout: HumanDuration,
    /// Only `code`: the status alone says whether a message was taken.
    #[serde(default, rename = "responseType")]
    _response_type: ResponseType,
    /// Log the answers.
    #[serde(default)]
    debug_resp: bool,
    #[serde(flatten)]
    tls: TlsOptions,
}

fn default_file_field_name() -> String {
    "file".to_owned()
}

fn default_timeout() -> HumanDuration {
    HumanDuration::from_secs(5)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum RestMethod {
    #[default]
    #[serde(alias = "get")]
    Get,
    #[serde(alias = "post")]
    Post,
    #[serde(alias = "put")]
    Put,
    #[serde(alias = "patch")]
    Patch,
    #[serde(alias = "delete")]
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum BodyType {
    None,
    Text,
    Json,
    Html,
    Xml,
    Javascript,
    Form,
    Binary,
    Formdata,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ResponseType {
    #[default]
    Code,
    Body,
}

impl BodyType {
    fn content_type(self) -> Option<&'static str> {
        match self {
            BodyType::None | BodyType::Formdata => None,
            BodyType::Text => Some("text/plain"),
            BodyType::Json => Some("application/json"),
            BodyType::Html => Some("text/html"),
            BodyType::Xml => Some("application/xml"),
            BodyType::Javascript => Some("application/javascript"),
            BodyType::Form => Some("application/x-www-form-urlencoded"),
            BodyType::Binary => Some("application/octet-stream"),
        }
    }
}

struct RestSink {
    rule: String,
    method: Method,
    body_type: BodyType,
    compression: Option<Compression>,
    file_field_name: String,
    timeout: Duration,
    debug_resp: bool,
    tls: TlsOptions,
    connected: Option<(HttpClient, Arc<dyn Clock>)>,
}

fn build(args: &SinkArgs<'_>) -> Result<Box<dyn Sink>, ConfigError> {
    let options: RestOptions = args.options.parse()?;
    options.tls.check()?;
    match options.url.split_once("{{") {
        None => drop(parse_url("url", &options.url)?),
        Some(("", _)) => {}
        Some((start, _)) if start.starts_with("http://") || start.starts_with("https://") => {}
        Some(_) => return Err(ConfigError::new("url", "must be an http or https URL")),
    }
    for name in options.headers.keys() {
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(ConfigError::new(format!("headers.{name}"), "is no name of an HTTP header"));
        }
    }
    let body_type = options.body_type.unwrap_or(match (options.method, args.format) {
        (RestMethod::Get, _) => BodyType::None,
        (_, "json") => BodyType::Json,
        (_, "urlencoded") => BodyType::Form,
        (_, "delimited") => BodyType::Text,
        _ => BodyType::Binary,
    });
    let needs = match body_type {
        BodyType::Json => Some("json"),
        BodyType::Form => Some("urlencoded"),
        _ => None,
    };
    if let Some(format) = needs.filter(|format| *format != args.format) {
        let message = format!("needs `format: {format}`, not `{}`", args.format);
        return Err(ConfigError::new("bodyType", message));
    }
    if !options.form_data.is_empty() && body_type != BodyType::Formdata {
        return Err(ConfigError::new("formData", "is only used with `bodyType: formdata`"));
    }
    Ok(Box::new(RestSink {
        rule: args.rule.to_owned(),
        method: match options.method {
            RestMethod::Get => Method::GET,
            RestMethod::Post => Method::POST,
            RestMethod::Put => Method::PUT,
            RestMethod::Patch => Method::PATCH,
            RestMethod::Delete => Method::DELETE,
        },
        body_type,
        compression: args.compression,
        file_field_name: options.file_field_name,
        timeout: options.timeout.0,
        debug_resp: options.debug_resp,
        tls: options.tls,
        connected: None,
    }))
}

impl RestSink {
    async fn send(&self, client: &HttpClient, clock: &dyn Clock, message: &Message) -> Result<(), ConnectorError> {
        let url = parse_url("url", message.props.text(URL)).map_err(|error| ConnectorError::user(error.to_string()))?;
        let mut headers = HeaderMap::new();
        if let Some(content_type) = self.body_type.content_type() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        let encoding = match self.compression {
            Some(Compression::Gzip) => Some("gzip"),
            Some(Compression::Zstd) => Some("zstd"),
            _ => None,
        };
        if let Some(encoding) = encoding.filter(|_| !matches!(self.body_type, BodyType::None | BodyType::Formdata)) {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        let body = match self.body_type {
            BodyType::None => None,
            BodyType::Formdata => {
                let (content_type, body) = self.form(message, clock.now());
                headers.insert(CONTENT_TYPE, content_type);
                Some(body)
            }
            _ => Some(message.body.clone()),
        };
        for (name, text) in message.props.entries(HEADERS) {
            let unfit = || ConnectorError::user(format!("header {name} has a value that no HTTP header can hold"));
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit())?;
            headers.insert(header, HeaderValue::from_str(text).map_err(|_| unfit())?);
        }
        let mut request = client.request(self.method.clone(), url).headers(headers).timeout(self.timeout);
        if let Some(body) = body {
            request = request.body(body);
        }
        let answer = send(request, MAX_ANSWER).await?;
        if self.debug_resp {
            let text = String::from_utf8_lossy(&answer.body);
            tracing::info!(rule = self.rule, status = answer.status.as_u16(), "{text}");
        }
        if answer.status.is_success() { Ok(()) } else { Err(answer.error("", clock.now())) }
    }

    /// A multipart form with the message as a file.
    fn form(&self, message: &Message, now: i64) -> (HeaderValue, Bytes) {
        let boundary = format!("sluice-{}", uuid::Uuid::new_v4().simple());
        let mut body = Vec::with_capacity(message.body.len() + 512);
        let quoted = |name: &str| name.replace('"', "%22").replace(['\r', '\n'], " ");
        for (name, text) in message.props.entries(FORM_DATA) {
            let name = quoted(name);
            let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(text.as_bytes());
            body.extend_from_slice(b"\r\n");
        }
        let name = quoted(&self.file_field_name);
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{now}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&message.body);
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        let content_type = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}"));
        (content_type.unwrap_or(HeaderValue::from_static("multipart/form-data")), body.into())
    }
}

#[async_trait]
impl Sink for RestSink {
    async fn connect(&mut self, ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        self.connected = Some((HttpClient::new(&self.tls, ctx)?, Arc::clone(&ctx.clock)));
        // Whether the server answers shows with the first message: its URL may depend on the row.
        Ok(())
    }

    async fn write(&mut self, output: Output<'_>) -> Result<(), SinkError> {
        let (Output::Messages(messages), Some((client, clock))) = (output, &self.connected) else {
            return Err(ConnectorError::internal("write before connect").into());
        };
        for (n_written, message) in messages.iter().enumerate() {
            if let Err(error) = self.send(client, clock.as_ref(), message).await {
                return Err(SinkError::Stopped { n_written, error });
            }
        }
        Ok(())
    }

    async fn close(&mut self) {
        self.connected = None;
    }
}

#[cfg(test)]
mod tests;
