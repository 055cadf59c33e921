//! PostgreSQL. Types that this file does not read have to be cast to text in the statement, as `select` does.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sluice_sql::Value;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgRow, PgSslMode};
use sqlx::types::chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use sqlx::{Arguments, Column, ConnectOptions, Executor, PgConnection, Row, SqlStr, Statement, TypeInfo, ValueRef};

use super::{Param, SqlColumn, SqlConnection, SqlRows, float32, instant, number};
use crate::connection::tls::{TlsOptions, TlsVersion};
use crate::error::ConnectorError;
use crate::format::json;

/// The options with our TLS block laid over what the URL says.
pub(super) fn with_tls(options: &PgConnectOptions, tls: &TlsOptions) -> Result<PgConnectOptions, ConnectorError> {
    let mut options = options.clone();
    if !tls.is_set() {
        return Ok(options);
    }
    if tls.tls_min_version != TlsVersion::default() {
        return Err(ConnectorError::user("tlsMinVersion is not available for PostgreSQL: 1.2 and 1.3 are accepted"));
    }
    options = options.ssl_mode(if tls.insecure_skip_verify { PgSslMode::Require } else { PgSslMode::VerifyFull });
    if let Some(pem) = tls.root_ca_pem()? {
        options = options.ssl_root_cert_from_pem(pem);
    }
    if let Some(identity) = tls.identity_pem()? {
        options = options.ssl_client_cert_from_pem(identity.chain).ssl_client_key_from_pem(identity.key);
    }
    Ok(options)
}

pub(super) async fn connect(
    options: &PgConnectOptions,
    timeout: Duration,
) -> Result<Box<dyn SqlConnection>, sqlx::Error> {
    let mut connection = options.clone().disable_statement_logging().connect().await?;
    // Not as a start-up option, which connection poolers refuse.
    let sql = format!("SET statement_timeout = {}", timeout.as_millis().max(1)).into();
    connection.execute(sqlx::query(super::statement(&sql))).await?;
    Ok(Box::new(connection))
}

#[async_trait]
impl SqlConnection for PgConnection {
    async fn describe(&mut self, sql: SqlStr) -> Result<Vec<SqlColumn>, sqlx::Error> {
        let statement = self.prepare(sql).await?;
        let column = |column: &sqlx::postgres::PgColumn| SqlColumn {
            name: column.name().into(),
            ty: column.type_info().name().to_owned(),
        };
        Ok(statement.columns().iter().map(column).collect())
    }

    async fn fetch(&mut self, sql: SqlStr, params: Vec<Param>) -> Result<SqlRows, sqlx::Error> {
        let mut arguments = PgArguments::default();
        for param in params {
            let added = match param {
                Param::Int(number) => arguments.add(number),
                Param::Uint(number) => arguments.add(number.to_string()),
                Param::Float(number) => arguments.add(number),
                Param::Bool(flag) => arguments.add(flag),
                Param::Text(text) => arguments.add(text.as_str().to_owned()),
                Param::Bytes(bytes) => arguments.add(bytes.to_vec()),
                Param::Ints(list) => arguments.add(list),
                Param::Floats(list) => arguments.add(list),
                Param::Bools(list) => arguments.add(list),
                Param::Texts(list) => arguments.add(list),
                Param::BytesList(list) => arguments.add(list),
            };
            added.map_err(sqlx::Error::Encode)?;
        }
        let rows = self.fetch_all(sqlx::query_with(sql, arguments)).await?;
        let names = rows.first().map(|row| row.columns().iter().map(|column| column.name().into()).collect());
        let values = |row: &PgRow| (0..row.len()).map(|idx| value(row, idx)).collect::<Result<Vec<_>, _>>();
        let rows = rows.iter().map(values).collect::<Result<_, _>>()?;
        Ok(SqlRows { names: names.unwrap_or_default(), rows })
    }
}

fn value(row: &PgRow, idx: usize) -> Result<Value, sqlx::Error> {
    let raw = row.try_get_raw(idx)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    Ok(match row.column(idx).type_info().name() {
        "INT8" => Value::Int(row.try_get(idx)?),
        "INT4" => Value::Int(row.try_get::<i32, _>(idx)?.into()),
        "INT2" => Value::Int(row.try_get::<i16, _>(idx)?.into()),
        "OID" => Value::Int(row.try_get::<sqlx::postgres::types::Oid, _>(idx)?.0.into()),
        "FLOAT8" => Value::Float(row.try_get(idx)?),
        "FLOAT4" => float32(row.try_get(idx)?),
        "BOOL" => Value::Bool(row.try_get(idx)?),
        "TEXT" | "VARCHAR" | "NAME" => Value::string(row.try_get::<&str, _>(idx)?),
        // Padded with blanks that mean nothing.
        "CHAR" => Value::string(row.try_get::<&str, _>(idx)?.trim_end_matches(' ')),
        "BYTEA" => Value::bytes(Bytes::copy_from_slice(row.try_get::<&[u8], _>(idx)?)),
        "TIMESTAMPTZ" => instant(row.try_get::<DateTime<Utc>, _>(idx)?),
        "TIMESTAMP" => instant(row.try_get::<NaiveDateTime, _>(idx)?.and_utc()),
        "DATE" => Value::string(row.try_get::<NaiveDate, _>(idx)?.to_string()),
        "TIME" => Value::string(row.try_get::<NaiveTime, _>(idx)?.to_string()),
        "JSON" | "JSONB" => {
            let text: &sqlx::types::JsonRawValue = row.try_get(idx)?;
            json::parse_value(text.get().as_bytes()).map_err(|error| sqlx::Error::Decode(error.into()))?
        }
        "NUMERIC" => {
            let text = decimal(raw.as_bytes().map_err(sqlx::Error::Decode)?);
            number(&text.ok_or_else(|| sqlx::Error::Decode("a NUMERIC that can't be read".into()))?)
        }
        "UUID" => {
            let bytes = raw.as_bytes().map_err(sqlx::Error::Decode)?;
            let uuid = uuid::Uuid::from_slice(bytes).map_err(|error| sqlx::Error::Decode(error.into()))?;
            Value::string(uuid.to_string())
        }
        other => {
            let text = format!("type {other} needs a cast to text in the statement");
            return Err(sqlx::Error::Decode(text.into()));
        }
    })
}

/// The text of a number in PostgreSQL's binary form: the count of digits, the weight of the first, sign, scale, and then the
/// digits to the base of 10,000.
fn decimal(bytes: &[u8]) -> Option<String> {
    let mut halves = bytes.chunks_exact(2).map(|half| half.try_into().map(i16::from_be_bytes));
    let mut next = || halves.next()?.ok();
    let (n_digits, weight, sign, scale) = (next()?, next()?, next()? as u16, next()?);
    let mut text = match sign {
        0x0000 => String::new(),
        0x4000 => "-".to_owned(),
        0xC000 => return Some("NaN".to_owned()),
        0xD000 => return Some("inf".to_owned()),
        0xF000 => return Some("-inf".to_owned()),
        _ => return None,
    };
    let digits: Vec<i16> = (0..n_digits).map(|_| next()).collect::<Option<_>>()?;
    let digit = |place: i32| usize::try_from(place).ok().and_then(|place| digits.get(place)).copied().unwrap_or(0);
    let weight = i32::from(weight);
    text.push_str(&if weight < 0 { 0 } else { digit(0) }.to_string());
    for place in 1..=weight {
        text.push_str(&format!("{:04}", digit(place)));
    }
    let fraction: String =
        (weight + 1..=weight + 1 + i32::from(scale) / 4).map(|place| format!("{:04}", digit(place))).collect();
    let fraction = fraction.get(..usize::try_from(scale).ok()?)?;
    if !fraction.is_empty() {
        text.push('.');
        text.push_str(fraction);
    }
    Some(text)
}

/// How a column of this type is written in a select list so that it can be read, and whether it then is JSON text.
pub(super) fn select(quoted: &str, ty: &str) -> (String, bool) {
    match ty {
        "INT8" | "INT4" | "INT2" | "OID" | "FLOAT8" | "FLOAT4" | "NUMERIC" | "BOOL" | "TEXT" | "VARCHAR" | "NAME"
        | "CHAR" | "BYTEA" | "TIMESTAMPTZ" | "TIMESTAMP" | "DATE" | "TIME" | "JSON" | "JSONB" | "UUID" => {
            (quoted.to_owned(), false)
        }
        // A cast alone would add the mask to a lone address.
        "INET" => (format!("abbrev({quoted})"), false),
        list if list.ends_with("[]") => (format!("to_json({quoted})::text"), true),
        _ => (format!("{quoted}::text"), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_binary() {
        let binary = |weight: i16, sign: u16, scale: i16, digits: &[i16]| {
            let head = [digits.len() as i16, weight, sign as i16, scale];
            head.iter().chain(digits).flat_map(|half| half.to_be_bytes()).collect::<Vec<u8>>()
        };
        for (bytes, expected) in [
            (binary(0, 0, 0, &[]), "0"),
            (binary(0, 0, 2, &[]), "0.00"),
            (binary(0, 0, 0, &[5]), "5"),
            (binary(0, 0x4000, 1, &[5, 5000]), "-5.5"),
            (binary(1, 0, 2, &[1]), "10000.00"),
            (binary(1, 0, 5, &[12, 3456, 789]), "123456.07890"),
            (binary(-1, 0, 4, &[12]), "0.0012"),
            (binary(-2, 0, 8, &[12]), "0.00000012"),
            (binary(0, 0xC000, 0, &[]), "NaN"),
        ] {
            assert_eq!(decimal(&bytes).as_deref(), Some(expected));
        }
        assert_eq!(decimal(&[0, 1]), None);
        assert_eq!(decimal(&binary(0, 0, 0, &[5])[..8]), None);
    }
}
