//! Databases: SQLite, PostgreSQL, MySQL and MariaDB, chosen by the scheme of the URL.
//!
//! A [`SqlClient`] holds a few connections and lends them out. They are not tested before each use, as a pool would do at the
//! price of a round trip: a connection that fails is thrown away together with all idle ones, and the caller tries again.

mod mysql;
mod postgres;
mod sqlite;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_sql::Value;
use smol_str::SmolStr;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::Connections;
use super::tls::TlsOptions;
use crate::error::{ConfigError, ConnectorError, Fault, Retry};
use crate::options::Secret;

/// Options of a database connection; flatten them into a connector's config.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SqlOptions {
    /// `sqlite:FILE`, `postgres://USER:PASSWORD@HOST:PORT/DATABASE` or `mysql://...` (also for MariaDB). Special characters in
    /// user and password are percent-encoded.
    #[serde(alias = "url")]
    #[schemars(extend("x-alias" = "url"))]
    pub dburl: Secret,
    /// Greatest number of connections that are open at a time.
    #[serde(default = "default_max_connections")]
    pub max_connections: usize,
    /// TLS, beyond what the URL says (`sslmode`, `ssl-mode`).
    #[serde(flatten)]
    pub tls: TlsOptions,
}

fn default_max_connections() -> usize {
    4
}

/// Kinds of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqlDialect {
    /// SQLite
    Sqlite,
    /// PostgreSQL
    Postgres,
    /// MySQL and MariaDB
    MySql,
}

impl SqlDialect {
    /// A name as an identifier that means exactly this name.
    pub fn quote(self, name: &str) -> String {
        match self {
            SqlDialect::MySql => format!("`{}`", name.replace('`', "``")),
            SqlDialect::Sqlite | SqlDialect::Postgres => format!("\"{}\"", name.replace('"', "\"\"")),
        }
    }

    /// How a column is written in a select list so that its values can be read. True if they come as the text of a JSON value.
    pub fn select(self, column: &SqlColumn) -> (String, bool) {
        let quoted = self.quote(&column.name);
        match self {
            SqlDialect::Postgres => postgres::select(&quoted, &column.ty),
            SqlDialect::Sqlite | SqlDialect::MySql => (quoted, false),
        }
    }

    /// A table's name, which may be qualified with a schema or database (`site.machines`).
    pub fn quote_path(self, path: &str) -> String {
        path.split('.').map(|part| self.quote(part)).collect::<Vec<_>>().join(".")
    }
}

impl fmt::Display for SqlDialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SqlDialect::Sqlite => "SQLite",
            SqlDialect::Postgres => "PostgreSQL",
            SqlDialect::MySql => "MySQL",
        })
    }
}

/// A value for a placeholder. Lists are for PostgreSQL, which takes all keys of a batch as one.
#[derive(Clone, Debug, PartialEq)]
pub enum Param {
    /// A number.
    Int(i64),
    /// A number above those.
    Uint(u64),
    /// A number.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// Text.
    Text(SmolStr),
    /// Bytes.
    Bytes(Bytes),
    /// `bigint[]`
    Ints(Vec<i64>),
    /// `double precision[]`
    Floats(Vec<f64>),
    /// `boolean[]`
    Bools(Vec<bool>),
    /// `text[]`
    Texts(Vec<String>),
    /// `bytea[]`
    BytesList(Vec<Vec<u8>>),
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlColumn {
    /// Its name.
    pub name: SmolStr,
    /// The database's name for its type: `INT4`, `VARCHAR`, `BIGINT UNSIGNED`.
    pub ty: String,
}

/// What a query gives.
#[derive(Clone, Debug, Default)]
pub struct SqlRows {
    /// The columns' names; empty if there is no row.
    pub names: Vec<SmolStr>,
    /// The rows' values.
    pub rows: Vec<Vec<Value>>,
}

/// One connection to one database.
#[async_trait]
trait SqlConnection: Send {
    /// The columns of a statement, without running it.
    async fn describe(&mut self, sql: SqlStr) -> Result<Vec<SqlColumn>, sqlx::Error>;

    /// Runs a statement and reads all of its rows.
    async fn fetch(&mut self, sql: SqlStr, params: Vec<Param>) -> Result<SqlRows, sqlx::Error>;
}

/// The one way by which text becomes a statement. Whoever calls it has put nothing but quoted identifiers, numbered or named
/// placeholders and the user's own SQL from the configuration into it; values of rows always travel beside it.
fn statement(sql: &Arc<str>) -> SqlStr {
    AssertSqlSafe(Arc::clone(sql)).into_sql_str()
}

enum Database {
    Sqlite(Box<SqliteConnectOptions>),
    Postgres(Box<PgConnectOptions>),
    MySql(Box<MySqlConnectOptions>),
}

/// A database that is talked to over a few connections.
pub struct SqlClient {
    database: Database,
    tls: TlsOptions,
    /// Kind and address, without user and password.
    endpoint: String,
    /// What must not show up in an error's text.
    secrets: Vec<String>,
    timeout: Duration,
    idle: Mutex<Vec<Box<dyn SqlConnection>>>,
    permits: Semaphore,
}

impl SqlClient {
    /// Checks the options; no I/O. The client is shared by all who give the same ones. `timeout` limits each statement.
    ///
    /// # Errors
    /// A URL that can't be read, or one of a database that is not known.
    pub fn shared(
        connections: &Connections,
        options: &SqlOptions,
        timeout: Duration,
    ) -> Result<Arc<Self>, ConfigError> {
        let client = SqlClient::new(options, timeout)?;
        let tls = &options.tls;
        let key = format!(
            "{} {} {tls:?} {} {timeout:?}",
            options.dburl.expose(),
            options.max_connections,
            tls.private_key_raw.as_ref().map_or("", Secret::expose),
        );
        Ok(connections.shared(&key, || client))
    }

    /// A client of one's own; no I/O.
    ///
    /// # Errors
    /// As for [`SqlClient::shared`].
    pub fn new(options: &SqlOptions, timeout: Duration) -> Result<Self, ConfigError> {
        options.tls.check()?;
        if options.max_connections == 0 {
            return Err(ConfigError::new("maxConnections", "must be at least 1"));
        }
        let url = options.dburl.expose();
        let (dialect, url) = read_scheme(url)?;
        // The parsers' own errors may quote parts of the URL.
        let broken = || {
            let form = match dialect {
                SqlDialect::Sqlite => "sqlite:FILE, sqlite:FILE?mode=ro",
                SqlDialect::Postgres => "postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=require",
                SqlDialect::MySql => "mysql://USER:PASSWORD@HOST:PORT/DATABASE?ssl-mode=REQUIRED",
            };
            let hint = "; special characters in user and password are percent-encoded";
            ConfigError::new("dburl", format!("is not a URL of a {dialect} database, expected {form}{hint}"))
        };
        let (database, endpoint) = match dialect {
            SqlDialect::Sqlite => {
                let parsed: SqliteConnectOptions = url.parse().map_err(|_| broken())?;
                let endpoint = parsed.get_filename().display().to_string();
                (Database::Sqlite(Box::new(parsed.busy_timeout(timeout))), endpoint)
            }
            SqlDialect::Postgres => {
                let parsed: PgConnectOptions = url.parse().map_err(|_| broken())?;
                let endpoint = format!("{}:{}", parsed.get_host(), parsed.get_port());
                (Database::Postgres(Box::new(parsed.application_name("sluice"))), endpoint)
            }
            SqlDialect::MySql => {
                let parsed: MySqlConnectOptions = url.parse().map_err(|_| broken())?;
                let endpoint = format!("{}:{}", parsed.get_host(), parsed.get_port());
                (Database::MySql(Box::new(parsed)), endpoint)
            }
        };
        let mut secrets = vec![options.dburl.expose().to_owned(), url.clone()];
        if dialect != SqlDialect::Sqlite
            && let Ok(url) = url::Url::parse(&url)
            && let Some(password) = url.password()
        {
            secrets.push(password.to_owned());
            secrets.extend(percent_decode(password));
        }
        secrets.retain(|secret| !secret.is_empty());
        Ok(SqlClient {
            database,
            tls: options.tls.clone(),
            endpoint: format!("{dialect} at {endpoint}"),
            secrets,
            timeout,
            idle: Mutex::default(),
            permits: Semaphore::new(options.max_connections),
        })
    }

    /// Which kind of database this is.
    pub fn dialect(&self) -> SqlDialect {
        match self.database {
            Database::Sqlite(_) => SqlDialect::Sqlite,
            Database::Postgres(_) => SqlDialect::Postgres,
            Database::MySql(_) => SqlDialect::MySql,
        }
    }

    /// Throws idle connections away: one has failed, and the others have probably died with it.
    pub fn forget_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// A connection, idle or new. Waits while all are lent out.
    ///
    /// # Errors
    /// When the database can't be reached or does not let us in.
    pub async fn take(&self) -> Result<LentConnection<'_>, ConnectorError> {
        let permit = self.permits.acquire().await.map_err(|_| ConnectorError::internal("the client is closed"))?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(LentConnection { client: self, connection, _permit: permit })
    }

    async fn connect(&self) -> Result<Box<dyn SqlConnection>, ConnectorError> {
        let connected: Result<Box<dyn SqlConnection>, sqlx::Error> = match &self.database {
            Database::Sqlite(options) => sqlite::connect(options).await,
            Database::Postgres(options) => {
                let options = postgres::with_tls(options, &self.tls)?;
                postgres::connect(&options, self.timeout).await
            }
            Database::MySql(options) => {
                let options = mysql::with_tls(options, &self.tls)?;
                mysql::connect(&options, self.timeout).await
            }
        };
        connected.map_err(|error| {
            let mut error = self.error(&error);
            error.message = format!("could not connect: {}", error.message);
            error
        })
    }

    /// An error of the database as ours, with its address and without secrets.
    fn error(&self, error: &sqlx::Error) -> ConnectorError {
        let (fault, retry, text) = match error {
            sqlx::Error::Database(error) => {
                let code = error.code().unwrap_or_default();
                let (fault, retry) = judge(self.dialect(), &code);
                let code = if code.is_empty() { String::new() } else { format!(" ({code})") };
                (fault, retry, format!("{}{code}", error.message()))
            }
            sqlx::Error::Tls(cause) => (Fault::User, Retry::Backoff, format!("TLS: {cause}")),
            sqlx::Error::Configuration(cause) => (Fault::User, Retry::Never, cause.to_string()),
            sqlx::Error::Io(cause) => (Fault::External, Retry::Backoff, cause.to_string()),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => {
                (Fault::User, Retry::Never, error.to_string())
            }
            other => (Fault::External, Retry::Backoff, other.to_string()),
        };
        let mut message = format!("{}: {text}", self.endpoint);
        for secret in &self.secrets {
            message = message.replace(secret.as_str(), "***");
        }
        ConnectorError { fault, retry, message }
    }
}

/// Whose fault a database's error is, by its code: `SQLSTATE`, or SQLite's result code.
fn judge(dialect: SqlDialect, code: &str) -> (Fault, Retry) {
    let is_ours = match dialect {
        // Wrong statement, wrong types, not a database. All else (locked, can't open, I/O) may pass.
        SqlDialect::Sqlite => matches!(code, "1" | "20" | "25" | "26"),
        // Bad data, no access, no such database, no such table or column. A server without room (`53`), that shuts down
        // (`57P`), or ran out of time (`57014`) is not our fault.
        SqlDialect::Postgres | SqlDialect::MySql => {
            ["22", "28", "3D", "3F", "42"].iter().any(|class| code.starts_with(class))
        }
    };
    if is_ours { (Fault::User, Retry::Never) } else { (Fault::External, Retry::Backoff) }
}

/// The kind of database, and the URL with the scheme that its client knows.
fn read_scheme(url: &str) -> Result<(SqlDialect, String), ConfigError> {
    let unknown = |what: String| {
        let known = "known are sqlite, postgres (postgresql, pg) and mysql (mariadb)";
        ConfigError::new("dburl", format!("{what}; {known}"))
    };
    let Some((scheme, rest)) = url.split_once(':') else {
        return Err(unknown("expected a URL that begins with the kind of database".to_owned()));
    };
    match scheme.to_ascii_lowercase().as_str() {
        "sqlite" | "sqlite3" => Ok((SqlDialect::Sqlite, format!("sqlite:{rest}"))),
        "postgres" | "postgresql" | "pg" => Ok((SqlDialect::Postgres, format!("postgres:{rest}"))),
        "mysql" | "mariadb" | "maria" => Ok((SqlDialect::MySql, format!("mysql:{rest}"))),
        other if other.len() <= 20 && other.chars().all(|letter| letter.is_ascii_alphanumeric()) => {
            Err(unknown(format!("databases of kind \"{other}\" are not supported")))
        }
        _ => Err(unknown("expected a URL that begins with the kind of database".to_owned())),
    }
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// A connection that is in use. It goes back when [`LentConnection::keep`] is called; dropped without, as after a failure or
/// in the middle of a statement, it is closed.
pub struct LentConnection<'a> {
    client: &'a SqlClient,
    connection: Box<dyn SqlConnection>,
    _permit: SemaphorePermit<'a>,
}

impl LentConnection<'_> {
    /// The columns of a table.
    ///
    /// # Errors
    /// When there is no such table.
    pub async fn columns(&mut self, table: &str) -> Result<Vec<SqlColumn>, ConnectorError> {
        let sql = format!("SELECT * FROM {}", self.client.dialect().quote_path(table)).into();
        self.connection.describe(statement(&sql)).await.map_err(|error| self.client.error(&error))
    }

    /// Runs a statement and reads all of its rows.
    ///
    /// # Errors
    /// When the database refuses it, or the way to it breaks.
    pub async fn fetch(&mut self, sql: &Arc<str>, params: Vec<Param>) -> Result<SqlRows, ConnectorError> {
        self.connection.fetch(statement(sql), params).await.map_err(|error| self.client.error(&error))
    }

    /// Gives the connection back for the next one.
    pub fn keep(self) {
        let mut idle = self.client.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(self.connection);
    }
}

/// Decimal digits as a number: whole ones without a point are integers.
fn number(text: &str) -> Value {
    if let Ok(int) = text.parse::<i64>() {
        return Value::Int(int);
    }
    match (text.parse::<u64>(), text.parse::<f64>()) {
        (Ok(uint), _) => Value::from_u64(uint),
        (_, Ok(float)) => Value::Float(float),
        _ => Value::string(text),
    }
}

/// A 32-bit float as the number that its shortest decimal form says: 0.1, not 0.10000000149.
fn float32(float: f32) -> Value {
    Value::Float(float.to_string().parse().unwrap_or_else(|_| f64::from(float)))
}

/// An instant, shown in UTC.
fn instant(time: sqlx::types::chrono::DateTime<sqlx::types::chrono::Utc>) -> Value {
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap_or_default();
    match jiff::Timestamp::new(time.timestamp(), nanos) {
        Ok(timestamp) => Value::Datetime(Arc::new(timestamp.to_zoned(TimeZone::UTC))),
        // Years beyond 9999.
        Err(_) => Value::string(time.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(dburl: &str) -> SqlOptions {
        SqlOptions { dburl: Secret::new(dburl), max_connections: 1, tls: TlsOptions::default() }
    }

    #[test]
    fn databases_by_scheme() {
        for (url, expected) in [
            ("sqlite:a/b.db", "SQLite at a/b.db"),
            ("sqlite3://b.db?mode=ro", "SQLite at b.db"),
            ("postgres://u:p@db:5433/x", "PostgreSQL at db:5433"),
            ("postgresql://u:p@db/x", "PostgreSQL at db:5432"),
            ("pg://u:p@db/x?sslmode=disable", "PostgreSQL at db:5432"),
            ("mysql://u:p@db/x", "MySQL at db:3306"),
            ("mariadb://u:p@db:3307/x", "MySQL at db:3307"),
        ] {
            let client = SqlClient::new(&options(url), Duration::from_secs(1)).unwrap();
            assert_eq!(client.endpoint, expected, "{url}");
        }
    }

    #[test]
    fn wrong_urls_are_explained_and_never_shown() {
        let errors: Vec<String> = [
            "",
            "sluicepassword",
            "oracle://u:sluicepassword@db/x",
            "u:sluicepassword@db",
            "postgres://u:sluicepassword@[::bad/x",
            "mysql://u:sluicepassword@db:port/x",
            "sqlite:a.db?mode=sluicepassword",
        ]
        .map(|url| SqlClient::new(&options(url), Duration::from_secs(1)).err().unwrap().to_string())
        .into();
        assert!(!errors.join("").contains("sluicepassword"));
        insta::assert_snapshot!(errors.join("\n"), @r#"
        dburl: expected a URL that begins with the kind of database; known are sqlite, postgres (postgresql, pg) and mysql (mariadb)
        dburl: expected a URL that begins with the kind of database; known are sqlite, postgres (postgresql, pg) and mysql (mariadb)
        dburl: databases of kind "oracle" are not supported; known are sqlite, postgres (postgresql, pg) and mysql (mariadb)
        dburl: databases of kind "u" are not supported; known are sqlite, postgres (postgresql, pg) and mysql (mariadb)
        dburl: is not a URL of a PostgreSQL database, expected postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=require; special characters in user and password are percent-encoded
        dburl: is not a URL of a MySQL database, expected mysql://USER:PASSWORD@HOST:PORT/DATABASE?ssl-mode=REQUIRED; special characters in user and password are percent-encoded
        dburl: is not a URL of a SQLite database, expected sqlite:FILE, sqlite:FILE?mode=ro; special characters in user and password are percent-encoded
        "#);
    }

    #[test]
    fn secrets_are_taken_out_of_errors() {
        let client = SqlClient::new(&options("postgres://u:p%40ss@db/x"), Duration::from_secs(1)).unwrap();
        let error = sqlx::Error::Protocol("cannot use p@ss or p%40ss of postgres://u:p%40ss@db/x".to_owned());
        let message = client.error(&error).message;
        assert!(!message.contains("ss@") && !message.contains("p%40ss") && message.contains("***"), "{message}");
    }

    #[test]
    fn identifiers_mean_what_they_say() {
        for (dialect, path, expected) in [
            (SqlDialect::Postgres, "public.sites", "\"public\".\"sites\""),
            (SqlDialect::Sqlite, "a\"; DROP TABLE x; --", "\"a\"\"; DROP TABLE x; --\""),
            (SqlDialect::MySql, "a`b", "`a``b`"),
        ] {
            assert_eq!(dialect.quote_path(path), expected);
        }
    }

    #[test]
    fn numbers_of_the_database() {
        for (text, expected) in [
            ("5", "Int(5)"),
            ("-7", "Int(-7)"),
            ("18446744073709551615", "Uint(18446744073709551615)"),
            ("5.50", "Float(5.5)"),
            ("NaN", "Float(NaN)"),
        ] {
            assert_eq!(format!("{:?}", number(text)), expected);
        }
        assert_eq!(format!("{:?}", float32(0.1)), "Float(0.1)");
    }
}
