//! Lookup tables: one connector per file. No caching, retries or timeouts here: those are `pipeline`'s.

use std::sync::Arc;

use async_trait::async_trait;
use sluice_sql::operators::LookupKey;
use sluice_sql::sql::ast::Field;
use sluice_sql::{Row, Schema};
use smol_str::SmolStr;

use crate::connection::ConnectorContext;
use crate::error::{ConfigError, ConnectorError};
use crate::options::Options;

/// The lookup tables that are built in. A new one is a new file and a line here.
pub const BUILTIN: &[LookupType] = &[];

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
}

/// What a lookup is made from: the table, and what one join wants of it.
pub struct LookupArgs<'a> {
    /// The table's SQL name, for messages.
    pub table: &'a str,
    /// `DATASOURCE`
    pub datasource: &'a str,
    /// `KEY`
    pub key: Option<&'a str>,
    /// Declared columns; none = schemaless.
    pub fields: &'a [Field],
    /// Connector options.
    pub options: &'a Options,
    /// The columns that the keys' values belong to, in order.
    pub key_columns: &'a [SmolStr],
    /// What each returned row holds: fields by name, or one star slot with the whole row as an object.
    pub columns: &'a Arc<Schema>,
}

/// A connector that finds rows by key. Bring your own: implement this, list it with
/// [`Registry::with_lookup`](crate::Registry::with_lookup).
#[async_trait]
pub trait LookupSource: Send + Sync {
    /// Called before the first lookup, and again after a failed one that is worth a retry.
    async fn connect(&self, _ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        Ok(())
    }

    /// The rows for each key: same length and order as `keys`. No match is an empty list, not an error. Keys are distinct and
    /// hold no nulls. Called concurrently.
    async fn lookup(&self, keys: &[LookupKey]) -> Result<Vec<Vec<Row>>, ConnectorError>;

    /// Lets go of the far side.
    async fn close(&self) {}
}
