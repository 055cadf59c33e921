//! Lookup tables: one connector per file. No caching, retries or timeouts here: those are `pipeline`'s.

mod http;
pub mod key_text;
pub mod memory;
pub mod redis;
pub mod sql;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sluice_sql::operators::LookupKey;
use sluice_sql::sql::ast::Field;
use sluice_sql::{Row, Schema};
use smol_str::SmolStr;

use crate::connection::ConnectorContext;
use crate::definition::LookupTableDef;
use crate::error::{ConfigError, ConnectorError};
use crate::format::slots::Slots;
use crate::options::Options;

/// The lookup tables that are built in. A new one is a new file and a line here.
pub const BUILTIN: &[LookupType] = &[http::HTTP, http::HTTPPULL, memory::MEMORY, redis::REDIS, sql::SQL];

/// A kind of lookup table.
#[derive(Clone)]
pub struct LookupType {
    /// `TYPE` of a table with `KIND="lookup"`.
    pub name: &'static str,
    /// One paragraph for the reference page.
    pub docs: &'static str,
    /// JSON schema of its options.
    pub schema: fn() -> schemars::Schema,
    /// Checks the options and makes the table's connector for one join; no I/O.
    pub build: fn(&LookupArgs<'_>) -> Result<Arc<dyn LookupSource>, ConfigError>,
    /// For tables that fill themselves as soon as they are defined, rule or not: begins that, until the handle is dropped.
    /// `None` for tables whose rows are elsewhere.
    pub open: Option<OpenTable>,
}

/// Checks a table's options and begins to fill it.
pub type OpenTable = fn(&TableArgs<'_>, &ConnectorContext) -> Result<TableHandle, ConfigError>;

/// What a table is made from.
#[derive(Clone, Copy)]
pub struct TableArgs<'a> {
    /// The table's SQL name, for messages.
    pub table: &'a str,
    /// `DATASOURCE`
    pub datasource: &'a str,
    /// `FORMAT`, for connectors whose values are bytes.
    pub format: &'a str,
    /// `KEY`
    pub key: Option<&'a str>,
    /// Declared columns; none = schemaless.
    pub fields: &'a [Field],
    /// How long one lookup may take, connecting included. The caller keeps to it; the connector may tell the far side.
    pub timeout: Duration,
    /// Connector options.
    pub options: &'a Options,
}

impl<'a> TableArgs<'a> {
    /// The arguments that a definition gives.
    pub fn new(def: &'a LookupTableDef) -> Self {
        TableArgs {
            table: &def.name,
            datasource: &def.datasource,
            format: &def.format,
            key: def.key.as_deref(),
            fields: &def.fields,
            timeout: def.timeout,
            options: &def.options,
        }
    }
}

/// What a lookup is made from: the table, and what one join wants of it.
pub struct LookupArgs<'a> {
    /// The table.
    pub table: TableArgs<'a>,
    /// The columns that the keys' values belong to, in order.
    pub key_columns: &'a [SmolStr],
    /// What each returned row holds: fields by name, or one star slot with the whole row as an object.
    pub columns: &'a Arc<Schema>,
}

impl LookupArgs<'_> {
    /// Turns objects into the rows that this join wants, with the table's declared types.
    pub fn slots(&self) -> Slots {
        Slots::new(self.columns, self.table.fields)
    }
}

/// A table that fills itself, and goes on while somebody holds it.
pub trait OpenedTable: Send + Sync {
    /// What it has counted.
    fn counts(&self) -> TableCounts;
}

/// What an open table has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCounts {
    /// Rows in it now.
    pub rows: u64,
    /// Rows that came.
    pub rows_in: u64,
    /// Rows without a key, which were dropped.
    pub no_key: u64,
    /// Rows that had to go because the table was full.
    pub evicted: u64,
}

/// Keeps an open table going; dropping it lets go.
pub type TableHandle = Arc<dyn OpenedTable>;

/// What was found for one key: the matching rows, none for a miss. An error is about this key alone (its row can't be read),
/// and must not keep the other keys from their rows.
pub type Found = Result<Vec<Row>, ConnectorError>;

/// A connector that finds rows by key. Bring your own: implement this, list it with
/// [`Registry::with_lookup`](crate::Registry::with_lookup).
#[async_trait]
pub trait LookupSource: Send + Sync {
    /// Called before the first lookup, and again after one that failed. Never called twice at a time.
    async fn connect(&self, _ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        Ok(())
    }

    /// What is found for each key: same length and order as `keys`. No match is an empty list, not an error. Keys are distinct
    /// and hold no nulls. Called concurrently; may be dropped half-way, when it takes too long.
    ///
    /// # Errors
    /// When the table as a whole could not be asked.
    async fn lookup(&self, keys: &[LookupKey]) -> Result<Vec<Found>, ConnectorError>;

    /// Lets go of the far side. Called once, after the last lookup.
    async fn close(&self) {}
}
