//! `sql`: rows of a table, or of a query, in SQLite, PostgreSQL, MySQL or MariaDB.
//!
//! All keys of a batch go into one statement, always as bound parameters. Keys are sent as the type of their column, and what
//! comes back is compared with them here, exactly: text by its characters, numbers by their value. So a case-insensitive
//! collation or a blank-padded column gives no more matches than any other table would, and the number 5 never finds the text
//! `"5"`.

mod keys;
mod query;
mod table;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::try_join_all;
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::Object;
use sluice_sql::operators::LookupKey;

use self::query::NamedQuery;
use self::table::TableQuery;
use super::{Found, LookupArgs, LookupSource, LookupType};
use crate::connection::ConnectorContext;
use crate::connection::sql::{SqlClient, SqlOptions};
use crate::error::{ConfigError, ConnectorError, Retry};
use crate::format::slots::Slots;

/// The lookup table `sql`.
pub(super) const SQL: LookupType = LookupType {
    name: "sql",
    docs: "Rows of a table in SQLite, PostgreSQL, MySQL or MariaDB. DATASOURCE is the table's name, which may be qualified \
           (`schema.table`); with the option `query` it is only a name.",
    schema: crate::options::schema_of::<SqlLookupOptions>,
    build,
    open: None,
};

/// Options of a `sql` lookup table.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SqlLookupOptions {
    #[serde(flatten)]
    database: SqlOptions,
    /// A query of your own instead of the table's columns. Each key column of the join stands in it once or more as a named
    /// parameter: `SELECT * FROM sites WHERE id = :id AND valid`. It runs once per key.
    #[serde(default)]
    query: Option<String>,
    /// Was a text template without quoting; use `query`.
    #[serde(default)]
    template_sql_query_cfg: Option<serde_json::Map<String, serde_json::Value>>,
    /// For sources that poll; a lookup table is asked per key.
    #[serde(default)]
    #[expect(dead_code, reason = "profiles are shared with sources; it means nothing here")]
    internal_sql_query_cfg: Option<serde_json::Map<String, serde_json::Value>>,
    /// For sources that poll; a lookup table is asked per key.
    #[serde(default)]
    #[expect(dead_code, reason = "profiles are shared with sources; it means nothing here")]
    interval: Option<crate::options::HumanDuration>,
}

fn build(args: &LookupArgs<'_>) -> Result<Arc<dyn LookupSource>, ConfigError> {
    let options: SqlLookupOptions = args.table.options.parse()?;
    if options.template_sql_query_cfg.is_some() {
        return Err(ConfigError::new(
            "templateSqlQueryCfg",
            "values spliced into SQL text are not supported; use the option `query` with named parameters, as in \
             `SELECT * FROM sites WHERE id = :id`",
        ));
    }
    // Checks the URL; the client itself is shared and made when it is needed.
    let client = SqlClient::new(&options.database, args.table.timeout)?;
    let ask = match &options.query {
        Some(query) => Ask::Query(NamedQuery::parse(query, client.dialect(), args.key_columns)?),
        None if args.table.datasource.is_empty() => {
            return Err(ConfigError::new("", "DATASOURCE must name the table in the database"));
        }
        None => Ask::Table(TableQuery::new(args)),
    };
    Ok(Arc::new(SqlLookup {
        options: options.database,
        timeout: args.table.timeout,
        client: OnceLock::new(),
        slots: args.slots(),
        ask,
    }))
}

struct SqlLookup {
    options: SqlOptions,
    timeout: Duration,
    client: OnceLock<Arc<SqlClient>>,
    slots: Slots,
    ask: Ask,
}

enum Ask {
    Table(TableQuery),
    Query(NamedQuery),
}

impl SqlLookup {
    /// One key's rows by the user's own query.
    async fn run(&self, client: &SqlClient, query: &NamedQuery, key: &LookupKey) -> Result<Found, ConnectorError> {
        let mut connection = client.take().await?;
        let rows = match connection.fetch(&query.sql, query.params(key)).await {
            Ok(rows) => rows,
            // The query does not like this key; the connection is as good as before.
            Err(error) if error.retry == Retry::Never => {
                connection.keep();
                return Ok(Err(error));
            }
            Err(error) => return Err(error),
        };
        connection.keep();
        let row = |values: Vec<_>| {
            let object = Object::from_iter(rows.names.iter().cloned().zip(values));
            self.slots.row(Arc::new(object), 0, None).map_err(ConnectorError::user)
        };
        Ok(rows.rows.into_iter().map(row).collect())
    }
}

#[async_trait]
impl LookupSource for SqlLookup {
    async fn connect(&self, ctx: &ConnectorContext) -> Result<(), ConnectorError> {
        let client = match self.client.get() {
            Some(client) => client,
            None => {
                let client = SqlClient::shared(&ctx.connections, &self.options, self.timeout)
                    .map_err(|error| ConnectorError::user(error.to_string()))?;
                self.client.get_or_init(|| client)
            }
        };
        client.forget_idle();
        let mut connection = client.take().await?;
        if let Ask::Table(table) = &self.ask {
            table.describe(client.dialect(), &mut connection, &self.slots).await?;
        }
        connection.keep();
        Ok(())
    }

    async fn lookup(&self, keys: &[LookupKey]) -> Result<Vec<Found>, ConnectorError> {
        let Some(client) = self.client.get() else {
            return Err(ConnectorError::internal("asked before it was connected"));
        };
        match &self.ask {
            Ask::Table(table) => table.lookup(client, &self.slots, keys).await,
            Ask::Query(query) => try_join_all(keys.iter().map(|key| self.run(client, query, key))).await,
        }
    }
}

#[cfg(test)]
mod tests;
