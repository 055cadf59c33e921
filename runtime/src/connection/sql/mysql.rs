//! MySQL and MariaDB.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sluice_sql::Value;
use sqlx::mysql::types::MySqlTime;
use sqlx::mysql::{MySql, MySqlArguments, MySqlConnectOptions, MySqlRow, MySqlSslMode, MySqlTypeInfo};
use sqlx::types::chrono::{NaiveDate, NaiveDateTime};
use sqlx::{
    Arguments, Column, ConnectOptions, Executor, MySqlConnection, Row, SqlStr, Statement, Type, TypeInfo, ValueRef,
};

use super::{Param, SqlColumn, SqlConnection, SqlRows, float32, instant, number};
use crate::connection::tls::{TlsOptions, TlsVersion};
use crate::error::ConnectorError;
use crate::format::json;

/// The options with our TLS block laid over what the URL says.
pub(super) fn with_tls(options: &MySqlConnectOptions, tls: &TlsOptions) -> Result<MySqlConnectOptions, ConnectorError> {
    let mut options = options.clone();
    if !tls.is_set() {
        return Ok(options);
    }
    if tls.tls_min_version != TlsVersion::default() {
        return Err(ConnectorError::user("tlsMinVersion is not available for MySQL: 1.2 and 1.3 are accepted"));
    }
    options =
        options.ssl_mode(if tls.insecure_skip_verify { MySqlSslMode::Required } else { MySqlSslMode::VerifyIdentity });
    if let Some(pem) = tls.root_ca_pem()? {
        options = options.ssl_ca_from_pem(pem);
    }
    if let Some(identity) = tls.identity_pem()? {
        options = options.ssl_client_cert_from_pem(identity.chain).ssl_client_key_from_pem(identity.key);
    }
    Ok(options)
}

pub(super) async fn connect(
    options: &MySqlConnectOptions,
    timeout: Duration,
) -> Result<Box<dyn SqlConnection>, sqlx::Error> {
    let mut connection = options.clone().disable_statement_logging().connect().await?;
    // MariaDB has the one variable, in seconds, MySQL the other, in milliseconds; some kin have neither.
    let mariadb = format!("SET SESSION max_statement_time = {}", timeout.as_secs_f64()).into();
    let mysql = format!("SET SESSION max_execution_time = {}", timeout.as_millis().max(1)).into();
    for sql in [mariadb, mysql] {
        match connection.execute(sqlx::query(super::statement(&sql))).await {
            Ok(_) => break,
            Err(sqlx::Error::Database(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Box::new(connection))
}

#[async_trait]
impl SqlConnection for MySqlConnection {
    async fn describe(&mut self, sql: SqlStr) -> Result<Vec<SqlColumn>, sqlx::Error> {
        let statement = self.prepare(sql).await?;
        let column = |column: &sqlx::mysql::MySqlColumn| SqlColumn {
            name: column.name().into(),
            ty: type_name(column.type_info()).to_owned(),
        };
        Ok(statement.columns().iter().map(column).collect())
    }

    async fn fetch(&mut self, sql: SqlStr, params: Vec<Param>) -> Result<SqlRows, sqlx::Error> {
        let mut arguments = MySqlArguments::default();
        for param in params {
            let added = match param {
                Param::Int(number) => arguments.add(number),
                Param::Uint(number) => arguments.add(number),
                Param::Float(number) => arguments.add(number),
                Param::Bool(flag) => arguments.add(flag),
                Param::Text(text) => arguments.add(text.as_str().to_owned()),
                Param::Bytes(bytes) => arguments.add(bytes.to_vec()),
                _ => Err("MySQL has no lists".into()),
            };
            added.map_err(sqlx::Error::Encode)?;
        }
        let rows = self.fetch_all(sqlx::query_with(sql, arguments)).await?;
        let names = rows.first().map(|row| row.columns().iter().map(|column| column.name().into()).collect());
        let values = |row: &MySqlRow| (0..row.len()).map(|idx| value(row, idx)).collect::<Result<Vec<_>, _>>();
        let rows = rows.iter().map(values).collect::<Result<_, _>>()?;
        Ok(SqlRows { names: names.unwrap_or_default(), rows })
    }
}

/// The type's name. Text whose collation compares bytes (`utf8mb4_bin`, which is MariaDB's JSON too) is called binary by the
/// client, but it is text.
fn type_name(ty: &MySqlTypeInfo) -> &str {
    match ty.name() {
        "BINARY" | "VARBINARY" | "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB"
            if <str as Type<MySql>>::compatible(ty) =>
        {
            "TEXT"
        }
        name => name,
    }
}

fn value(row: &MySqlRow, idx: usize) -> Result<Value, sqlx::Error> {
    if row.try_get_raw(idx)?.is_null() {
        return Ok(Value::Null);
    }
    Ok(match type_name(row.column(idx).type_info()) {
        "TINYINT UNSIGNED" | "SMALLINT UNSIGNED" | "INT UNSIGNED" | "MEDIUMINT UNSIGNED" | "BIGINT UNSIGNED"
        | "YEAR" | "BIT" => Value::from_u64(row.try_get_unchecked(idx)?),
        // TINYINT(1), which is what BOOLEAN means there: a number all the same, other ones than 0 and 1 fit too.
        "BOOLEAN" | "TINYINT" | "SMALLINT" | "INT" | "MEDIUMINT" | "BIGINT" => Value::Int(row.try_get_unchecked(idx)?),
        "FLOAT" => float32(row.try_get_unchecked(idx)?),
        "DOUBLE" => Value::Float(row.try_get_unchecked(idx)?),
        "DECIMAL" => number(row.try_get_unchecked::<&str, _>(idx)?),
        // The date `0000-00-00` says that there is none.
        "DATE" => row.try_get::<NaiveDate, _>(idx).map_or(Value::Null, |date| Value::string(date.to_string())),
        "DATETIME" | "TIMESTAMP" => {
            row.try_get_unchecked::<NaiveDateTime, _>(idx).map_or(Value::Null, |time| instant(time.and_utc()))
        }
        "TIME" => Value::string(row.try_get::<MySqlTime, _>(idx)?.to_string()),
        "JSON" => {
            let text = row.try_get_unchecked::<&str, _>(idx)?;
            json::parse_value(text.as_bytes()).map_err(|error| sqlx::Error::Decode(error.into()))?
        }
        "BINARY" | "VARBINARY" | "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB" | "GEOMETRY" => {
            Value::bytes(Bytes::from(row.try_get_unchecked::<Vec<u8>, _>(idx)?))
        }
        _ => Value::string(row.try_get_unchecked::<&str, _>(idx)?),
    })
}
