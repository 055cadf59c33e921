//! `redis`: a row per string, rows per list, a row per hash.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Cmd, RedisError, Value as Reply, cmd};
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::operators::LookupKey;
use sluice_sql::{Object, Row, Value};
use smol_str::SmolStr;

use super::key_text::KeyTemplate;
use super::{Found, LookupArgs, LookupSource, LookupType};
use crate::connection::ConnectorContext;
use crate::connection::redis::{RedisClient, RedisConnection, RedisOptions};
use crate::error::{ConfigError, ConnectorError};
use crate::format::declared::Declared;
use crate::format::slots::{Slots, set};
use crate::format::{self, DecodeArgs, Decoder};

/// The lookup table `redis`.
pub(super) const REDIS: LookupType = LookupType {
    name: "redis",
    docs: "Values in Redis. DATASOURCE is the number of the database. The key is the text of the join's key value, or what \
           `keyTemplate` makes of it: Redis keys have no types, so the number 5 and the text \"5\" are one key here.",
    schema: crate::options::schema_of::<RedisLookupOptions>,
    build,
    open: None,
};

/// Options of a `redis` lookup table.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RedisLookupOptions {
    #[serde(flatten)]
    server: RedisOptions,
    /// What the values are.
    #[serde(default)]
    data_type: DataType,
    /// The Redis key, with the join's key columns in it: `site:{{.id}}`. Needed where the join has several key columns.
    #[serde(default)]
    key_template: Option<String>,
}

/// Kinds of value. `string` (default): one row in the table's format. `text`: a string as it is, in the column `value`. `list`: a
/// row per element. `hash`: one row, a column per field; its values are text, as is `value`, unless a type is declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum DataType {
    #[default]
    String,
    Text,
    List,
    Hash,
}

fn build(args: &LookupArgs<'_>) -> Result<Arc<dyn LookupSource>, ConfigError> {
    let options: RedisLookupOptions = args.table.options.parse()?;
    let db = match args.table.datasource.trim() {
        "" => 0,
        text => text.parse().ok().filter(|db| (0..65_536).contains(db)).ok_or_else(|| {
            let message = format!("DATASOURCE must be the number of the database, as 0, not \"{text}\"");
            ConfigError::new("", message)
        })?,
    };
    // Checks the address; the client itself is shared and made when it is needed.
    RedisClient::new(&options.server, db, args.table.timeout)?;
    let key = match (&options.key_template, args.key_columns) {
        (Some(template), columns) => KeyTemplate::parse("keyTemplate", template, columns)?,
        (None, [column]) => KeyTemplate::parse("keyTemplate", &format!("{{{{.{column}}}}}"), args.key_columns)?,
        (None, columns) => {
            let parts = columns.iter().map(|column| format!("{{{{.{column}}}}}")).collect::<Vec<_>>().join(":");
            let message = format!("the join has several key columns, so it must be given, as in `{parts}`");
            return Err(ConfigError::new("keyTemplate", message));
        }
    };
    let columns = || {
        let fields = args.table.fields.iter();
        let declared = fields.map(|field| (field.name.name.clone(), Declared::new(&field.ty))).collect();
        Columns { slots: args.slots(), declared }
    };
    let rows = match options.data_type {
        DataType::Hash => Rows::Hash(columns()),
        DataType::Text => Rows::Text(columns()),
        DataType::String | DataType::List => {
            Rows::Encoded { is_list: options.data_type == DataType::List, decoder: Mutex::new(make_decoder(args)?) }
        }
    };
    let timeout = args.table.timeout;
    Ok(Arc::new(RedisLookup {
        options: options.server,
        db,
        timeout,
        key,
        rows,
        link: Mutex::default(),
        client: OnceLock::new(),
    }))
}

fn make_decoder(args: &LookupArgs<'_>) -> Result<Box<dyn Decoder>, ConfigError> {
    let name = args.table.format;
    let known = format::BUILTIN.iter().find(|format| format.name == name).and_then(|format| format.decoder);
    let make = known.ok_or_else(|| ConfigError::new("", format!("FORMAT \"{name}\" can't be read; json can")))?;
    make(&DecodeArgs { schema: args.columns, fields: args.table.fields, delimiter: None })
}

struct RedisLookup {
    options: RedisOptions,
    db: i64,
    timeout: Duration,
    key: KeyTemplate,
    rows: Rows,
    client: OnceLock<Arc<RedisClient>>,
    /// The connection in use and its number.
    link: Mutex<(u64, Option<RedisConnection>)>,
}

enum Rows {
    /// Each text is one or more rows in the table's format.
    Encoded { is_list: bool, decoder: Mutex<Box<dyn Decoder>> },
    /// Field and value in turn.
    Hash(Columns),
    /// Each text is the value of one column.
    Text(Columns),
}

/// Makes rows of texts.
struct Columns {
    slots: Slots,
    declared: Vec<(SmolStr, Declared)>,
}

#[async_trait]
impl LookupSource for RedisLookup {
    async fn connect(&self, ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        let client = match self.client.get() {
            Some(client) => client,
            None => {
                let client = RedisClient::shared(&ctx.connections, &self.options, self.db, self.timeout)
                    .map_err(|error| ConnectorError::user(error.to_string()))?;
                self.client.get_or_init(|| client)
            }
        };
        let stale = self.link.lock().unwrap_or_else(PoisonError::into_inner).0;
        let (number, connection) = client.connect(stale).await?;
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = (number, Some(connection));
        Ok(())
    }

    async fn lookup(&self, keys: &[LookupKey]) -> Result<Vec<Found>, ConnectorError> {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner).1.clone();
        let (Some(client), Some(mut connection)) = (self.client.get(), link) else {
            return Err(ConnectorError::internal("asked before it was connected"));
        };
        let keys = keys.iter().map(|key| self.key.render(key, |text, out| out.push_str(text)));
        let fail = |error: RedisError| client.error(&error);
        match &self.rows {
            Rows::Encoded { is_list: false, decoder } => {
                let replies = strings(&mut connection, keys, fail).await?;
                let mut decoder = decoder.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(replies.into_iter().map(|reply| decode(&mut **decoder, reply)).collect())
            }
            Rows::Text(columns) => {
                let replies = strings(&mut connection, keys, fail).await?;
                let row = |reply| match reply {
                    Reply::Nil => Ok(Vec::new()),
                    reply => columns.row([(Some(SmolStr::new_static("value")), text(reply))]),
                };
                Ok(replies.into_iter().map(row).collect())
            }
            Rows::Encoded { is_list: true, decoder } => {
                let commands = keys.map(|key| command("LRANGE", &[&key, "0", "-1"])).collect();
                let replies = connection.run_all(commands).await.map_err(fail)?;
                let mut decoder = decoder.lock().unwrap_or_else(PoisonError::into_inner);
                let rows = |reply| match reply {
                    Ok(Reply::Array(elements)) => {
                        let rows = elements.into_iter().map(|element| decode(&mut **decoder, element));
                        rows.collect::<Result<Vec<_>, _>>().map(|rows| rows.into_iter().flatten().collect())
                    }
                    Ok(_) => Err(ConnectorError::user("the value is no list")),
                    Err(error) => Err(client.error(&error)),
                };
                Ok(replies.into_iter().map(rows).collect())
            }
            Rows::Hash(columns) => {
                let commands = keys.map(|key| command("HGETALL", &[&key])).collect();
                let replies = connection.run_all(commands).await.map_err(fail)?;
                let row = |reply| match reply {
                    Ok(reply) => hash_row(columns, reply),
                    Err(error) => Err(client.error(&error)),
                };
                Ok(replies.into_iter().map(row).collect())
            }
        }
    }
}

fn command(name: &str, args: &[&str]) -> Cmd {
    let mut command = cmd(name);
    command.arg(args);
    command
}

/// What `MGET` gives for the keys, in order.
async fn strings(
    connection: &mut RedisConnection,
    keys: impl Iterator<Item = String>,
    fail: impl Fn(RedisError) -> ConnectorError,
) -> Result<Vec<Reply>, ConnectorError> {
    let mut command = cmd("MGET");
    let mut n_keys = 0;
    for key in keys {
        command.arg(key);
        n_keys += 1;
    }
    let Reply::Array(replies) = connection.run(&command).await.map_err(fail)? else {
        return Err(ConnectorError::external("Redis answered MGET with something else than a list"));
    };
    if replies.len() != n_keys {
        return Err(ConnectorError::external("Redis answered MGET with a list of another length"));
    }
    Ok(replies)
}

/// A text in the table's format.
fn decode(decoder: &mut dyn Decoder, reply: Reply) -> Found {
    let text = match reply {
        Reply::Nil => return Ok(Vec::new()),
        Reply::BulkString(text) => Bytes::from(text),
        Reply::SimpleString(text) => Bytes::from(text),
        _ => return Err(ConnectorError::user("the value is no string")),
    };
    let mut rows = Vec::with_capacity(1);
    match decoder.decode(&text, 0, None, &mut rows) {
        Ok(()) => Ok(rows),
        Err(error) => Err(ConnectorError::user(format!("a value in Redis can't be read: {error}"))),
    }
}

/// A hash without fields is one that is not there.
fn hash_row(columns: &Columns, reply: Reply) -> Found {
    let pairs: Vec<(Reply, Reply)> = match reply {
        Reply::Map(pairs) => pairs,
        Reply::Array(items) => {
            let mut items = items.into_iter();
            std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect()
        }
        _ => return Err(ConnectorError::user("the value is no hash")),
    };
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    columns.row(pairs.into_iter().map(|(name, value)| (text(name), text(value))))
}

impl Columns {
    /// A row of names and texts, which are absent if they are no UTF-8.
    fn row(&self, pairs: impl IntoIterator<Item = (Option<SmolStr>, Option<SmolStr>)>) -> Found {
        let mut object = Object::with_capacity(1);
        for (name, value) in pairs {
            let (Some(name), Some(value)) = (name, value) else {
                return Err(ConnectorError::user("what is there is no UTF-8 text"));
            };
            let value = match self.declared.iter().find(|(column, _)| *column == name) {
                Some((_, ty)) => ty
                    .convert_text(value)
                    .map_err(|message| ConnectorError::user(format!("field {name}: {message}")))?,
                None if self.declared.is_empty() => Value::String(value),
                None => continue,
            };
            object.insert(name, value);
        }
        let mut row: Row = self.slots.empty(0, None);
        for slot in &self.slots.fields {
            if let Some(value) = object.get(&slot.name) {
                set(&mut row, slot.idx, value.clone());
            }
        }
        if let Some(star) = self.slots.star {
            set(&mut row, star, Value::Object(Arc::new(object)));
        }
        Ok(vec![row])
    }
}

fn text(reply: Reply) -> Option<SmolStr> {
    match reply {
        Reply::BulkString(text) => String::from_utf8(text).ok().map(SmolStr::from),
        Reply::SimpleString(text) => Some(text.into()),
        _ => None,
    }
}
