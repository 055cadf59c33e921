//! SQLite: values have types, columns only leanings.

use async_trait::async_trait;
use bytes::Bytes;
use sluice_sql::Value;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteRow};
use sqlx::{Arguments, Column, ConnectOptions, Executor, Row, SqlStr, SqliteConnection, Statement, TypeInfo, ValueRef};

use super::{Param, SqlColumn, SqlConnection, SqlRows};

pub(super) async fn connect(options: &SqliteConnectOptions) -> Result<Box<dyn SqlConnection>, sqlx::Error> {
    Ok(Box::new(options.clone().disable_statement_logging().connect().await?))
}

#[async_trait]
impl SqlConnection for SqliteConnection {
    async fn describe(&mut self, sql: SqlStr) -> Result<Vec<SqlColumn>, sqlx::Error> {
        let statement = self.prepare(sql).await?;
        let column = |column: &sqlx::sqlite::SqliteColumn| SqlColumn {
            name: column.name().into(),
            ty: column.type_info().name().to_owned(),
        };
        Ok(statement.columns().iter().map(column).collect())
    }

    async fn fetch(&mut self, sql: SqlStr, params: Vec<Param>) -> Result<SqlRows, sqlx::Error> {
        let mut arguments = SqliteArguments::default();
        for param in params {
            let added = match param {
                Param::Int(number) => arguments.add(number),
                // SQLite has no such number: as a float it is compared by value.
                Param::Uint(number) => arguments.add(number as f64),
                Param::Float(number) => arguments.add(number),
                Param::Bool(flag) => arguments.add(flag),
                Param::Text(text) => arguments.add(text.as_str().to_owned()),
                Param::Bytes(bytes) => arguments.add(bytes.to_vec()),
                _ => Err("SQLite has no lists".into()),
            };
            added.map_err(sqlx::Error::Encode)?;
        }
        let rows = self.fetch_all(sqlx::query_with(sql, arguments)).await?;
        let names = rows.first().map(|row| row.columns().iter().map(|column| column.name().into()).collect());
        let values = |row: &SqliteRow| (0..row.len()).map(|idx| value(row, idx)).collect::<Result<Vec<_>, _>>();
        let rows = rows.iter().map(values).collect::<Result<_, _>>()?;
        Ok(SqlRows { names: names.unwrap_or_default(), rows })
    }
}

fn value(row: &SqliteRow, idx: usize) -> Result<Value, sqlx::Error> {
    let raw = row.try_get_raw(idx)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let ty = raw.type_info().name().to_owned();
    Ok(match ty.as_str() {
        "INTEGER" | "INT4" | "BOOLEAN" => {
            let number: i64 = row.try_get_unchecked(idx)?;
            match (row.column(idx).type_info().name(), number) {
                ("BOOLEAN", 0 | 1) => Value::Bool(number == 1),
                _ => Value::Int(number),
            }
        }
        "REAL" | "NUMERIC" => Value::Float(row.try_get_unchecked(idx)?),
        "BLOB" => Value::bytes(Bytes::from(row.try_get_unchecked::<Vec<u8>, _>(idx)?)),
        _ => Value::string(row.try_get_unchecked::<&str, _>(idx)?),
    })
}
