//! `http`: rows that an HTTP server gives for a key.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::operators::LookupKey;
use sluice_sql::{Column, ColumnKind, Object, Schema, Type, Value};
use smol_str::SmolStr;
use url::form_urlencoded::byte_serialize;

use super::key_text::KeyTemplate;
use super::{Found, LookupArgs, LookupSource, LookupType};
use crate::connection::ConnectorContext;
use crate::connection::http::{HttpClient, parse_url};
use crate::connection::http_pull::{Pull, PullOptions};
use crate::error::{ConfigError, ConnectorError};
use crate::format::slots::Slots;
use crate::format::{self, DecodeArgs, Decoder};
use crate::time::Clock;

/// The lookup table `http`.
pub(super) const HTTP: LookupType = LookupType {
    name: "http",
    docs: "Rows that an HTTP server gives. DATASOURCE is appended to `url`. With the join's key columns in it \
           (`https://host/devices/{{.id}}`), the server is asked once per key, and all rows of the answer belong to the key; 204, 404 \
           and 410 mean that there are none. Without them, the server is asked for everything, and the rows whose columns equal the \
           key are taken. The answer is in the table's FORMAT.",
    schema: crate::options::schema_of::<HttpLookupOptions>,
    build,
    open: None,
};

/// As `TYPE="httppull"`, as older definitions have it.
pub(super) const HTTPPULL: LookupType = LookupType { name: "httppull", docs: "Another name of `http`.", ..HTTP };

/// Requests at a time for one batch of rows.
const MAX_REQUESTS: usize = 8;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct HttpLookupOptions {
    /// The URL; may hold key columns of the join: `{{.id}}`.
    url: String,
    #[serde(flatten)]
    pull: PullOptions,
}

struct HttpLookup {
    url: Place,
    pull: Pull,
    key_columns: Vec<SmolStr>,
    slots: Slots,
    /// Whole rows.
    decoder: Mutex<Box<dyn Decoder>>,
    client: OnceLock<(HttpClient, Arc<dyn Clock>)>,
}

enum Place {
    PerKey(KeyTemplate),
    Whole(String),
}

fn build(args: &LookupArgs<'_>) -> Result<Arc<dyn LookupSource>, ConfigError> {
    let options: HttpLookupOptions = args.table.options.parse()?;
    let pull = Pull::new(&options.pull)?;
    let url = format!("{}{}", options.url, args.table.datasource);
    let url = if url.contains("{{") {
        Place::PerKey(KeyTemplate::parse("url", &url, args.key_columns)?)
    } else {
        parse_url("url", &url)?;
        Place::Whole(url)
    };
    let name = args.table.format;
    let known = format::BUILTIN.iter().find(|format| format.name == name).and_then(|format| format.decoder);
    let make = known.ok_or_else(|| ConfigError::new("", format!("FORMAT \"{name}\" can't be read; json can")))?;
    let star = Column { name: args.table.table.into(), kind: ColumnKind::Star, ty: Type::default() };
    let schema = Arc::new(Schema { columns: vec![star] });
    let decoder = make(&DecodeArgs { schema: &schema, fields: args.table.fields, delimiter: None })?;
    Ok(Arc::new(HttpLookup {
        url,
        pull,
        key_columns: args.key_columns.to_vec(),
        slots: args.slots(),
        decoder: Mutex::new(decoder),
        client: OnceLock::new(),
    }))
}

#[async_trait]
impl LookupSource for HttpLookup {
    async fn connect(&self, ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        if self.client.get().is_none() {
            let client = HttpClient::new(self.pull.tls(), ctx)?;
            // Never called twice at a time.
            let _ = self.client.set((client, Arc::clone(&ctx.clock)));
        }
        Ok(())
    }

    async fn lookup(&self, keys: &[LookupKey]) -> Result<Vec<Found>, ConnectorError> {
        let Some((client, clock)) = self.client.get() else {
            return Err(ConnectorError::internal("asked before it was connected"));
        };
        match &self.url {
            Place::Whole(url) => {
                let url = parse_url("url", url).map_err(|error| ConnectorError::user(error.to_string()))?;
                let body = self.pull.send(client, url, clock.now()).await?;
                let objects = self.objects(body)?;
                Ok(keys.iter().map(|key| self.rows(objects.iter().filter(|object| self.fits(object, key)))).collect())
            }
            Place::PerKey(template) => {
                let requests: Vec<_> = keys
                    .iter()
                    .map(|key| async move {
                        let escape = |text: &str, out: &mut String| {
                            // In a path a plus is a plus.
                            out.extend(
                                byte_serialize(text.as_bytes()).map(|part| if part == "+" { "%20" } else { part }),
                            );
                        };
                        let url = parse_url("url", &template.render(key, escape));
                        let url = url.map_err(|error| ConnectorError::user(error.to_string()))?;
                        self.pull.send(client, url, clock.now()).await
                    })
                    .collect();
                let mut answers = futures::stream::iter(requests).buffered(MAX_REQUESTS);
                let mut found = Vec::with_capacity(keys.len());
                while let Some(answer) = answers.next().await {
                    // A server that can't be reached fails all keys; a bad answer only its own.
                    found.push(self.objects(answer?).and_then(|objects| self.rows(objects.iter())));
                }
                Ok(found)
            }
        }
    }
}

impl HttpLookup {
    /// The rows of an answer, whole.
    fn objects(&self, body: Option<Bytes>) -> Result<Vec<Arc<Object>>, ConnectorError> {
        let Some(body) = body else { return Ok(Vec::new()) };
        let mut rows = Vec::new();
        let mut decoder = self.decoder.lock().unwrap_or_else(PoisonError::into_inner);
        decoder
            .decode(&body, 0, None, &mut rows)
            .map_err(|error| ConnectorError::external(format!("the answer can't be read: {error}")))?;
        Ok(rows.iter().filter_map(|row| row.get(0).to_object()).collect())
    }

    fn fits(&self, object: &Object, key: &LookupKey) -> bool {
        let value = |name: &SmolStr| object.get(name).cloned().unwrap_or(Value::Null);
        LookupKey(self.key_columns.iter().map(value).collect()) == *key
    }

    fn rows<'a>(&self, objects: impl Iterator<Item = &'a Arc<Object>>) -> Found {
        let row = |object: &Arc<Object>| self.slots.row(Arc::clone(object), 0, None).map_err(ConnectorError::user);
        objects.map(row).collect()
    }
}

#[cfg(test)]
mod tests;
